//! Start, change and end of a load balancer.

use std::fs;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use albedo::app::{self, Error, Running};
use albedo::model::{AdminAddress, Config, Generation, Pem};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::scene::{
    Authority, Conversation, Target, all_healthy, config, connect, group, header, http, https,
    soon, start, target_status, until, workers,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: web.example\r\n\r\n";

/// Begins its answer, and ends it when told to.
pub(crate) async fn slow() -> (Target, Arc<Notify>) {
    let go_on = Arc::new(Notify::new());
    let gate = Arc::clone(&go_on);
    let target = Target::playing(move |_, mut client: Conversation| {
        let gate = Arc::clone(&gate);
        async move {
            client
                .say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!")
                .await;
            gate.notified().await;
            client.say("five.").await;
            Some(client)
        }
    })
    .await;
    (target, go_on)
}

/// Runs a test in a process of its own, where nobody else opens and closes, and says whether this is it.
pub(crate) fn alone(test: &str, body: impl Future<Output = ()>) {
    const ALONE: &str = "ALBEDO_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(body);
    }
    let itself = std::env::current_exe().unwrap();
    let outcome = Command::new(itself)
        .args([test, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&outcome.stdout),
        String::from_utf8_lossy(&outcome.stderr),
    );
    assert!(outcome.status.success(), "{out}{err}");
    assert!(out.contains("1 passed"), "no such test: {test}");
}

/// Threads of load balancers in this process.
fn threads() -> Vec<String> {
    let ours = |name: &String| name.starts_with("worker-") || name == "control";
    all_threads().filter(ours).collect()
}

pub(crate) fn all_threads() -> impl Iterator<Item = String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned())
}

/// What every open descriptor of this process is.
pub(crate) fn descriptors() -> Vec<String> {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let links = open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    let mut links: Vec<_> = links.map(|link| link.display().to_string()).collect();
    // The listing itself.
    links.retain(|link| !link.contains("/fd"));
    links.sort();
    links
}

pub(crate) fn resident_bytes() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn after_the_end_no_thread_and_no_descriptor_is_left() {
    alone(
        "lifecycle::after_the_end_no_thread_and_no_descriptor_is_left",
        async {
            let authority = Authority::new();
            let certificate = authority.sign(&["web.example"]);
            let target = Target::named("web").await;
            let doors = [http("web"), https("web", &[&certificate])];
            let mut two = config(doors, [group("web", &[target.address])]);
            two.workers = workers(2);
            assert_eq!(threads(), [""; 0]);
            let before = descriptors();

            for gentle in [true, false] {
                let running = start(two.clone()).await;
                all_healthy(&running).await;
                assert_eq!(threads().len(), 3);
                let listeners = running.listeners();
                let mut plain = Conversation::to(listeners[0]).await;
                assert_eq!(plain.get("/").await, "web");
                let client = Arc::new(authority.client(&[]));
                let tls = connect(listeners[1], &client, "web.example").await.unwrap();
                let mut tls = Conversation::over(tls);
                assert_eq!(tls.get("/").await, "web");
                if gentle {
                    running.shutdown().await;
                } else {
                    running.stop().await;
                }
                assert_eq!(threads(), [""; 0]);
                drop((plain, tls));
                until("no connection to the target is left", || target.open() == 0).await;
                until("no descriptor is left", || descriptors() == before).await;
            }

            // Nor after a start that fails on its last port.
            let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let mut blocked = two.clone();
            blocked.listeners[1].port = taken.local_addr().unwrap().port();
            assert!(app::start(blocked).await.is_err());
            drop(taken);
            until("no thread is left", || threads().is_empty()).await;
            until("no descriptor is left", || descriptors() == before).await;

            // Nor when it is just dropped.
            drop(start(two).await);
            until("no thread is left", || threads().is_empty()).await;
            until("no descriptor is left", || descriptors() == before).await;
        },
    );
}

#[test]
fn two_thousand_large_bodies_leave_memory_as_it_was() {
    alone(
        "lifecycle::two_thousand_large_bodies_leave_memory_as_it_was",
        async {
            const SIZE: usize = 1 << 20;
            const GROWTH_MAX: usize = 8 << 20;
            let target = Target::playing(async |_, mut client: Conversation| {
                let (mut left, piece) = (SIZE, vec![b'a'; 64 << 10]);
                client
                    .say(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"))
                    .await;
                while left > 0 {
                    client.say(&piece).await;
                    left -= piece.len();
                }
                Some(client)
            })
            .await;
            let running = start(config([http("web")], [group("web", &[target.address])])).await;
            let address = running.listeners()[0];
            let fetch = async |count: usize| {
                let mut client = Conversation::to(address).await;
                for _ in 0..count {
                    client.say(GET).await;
                    client.head().await.unwrap();
                    let mut left = SIZE;
                    while left > 0 {
                        left -= client.skim().await;
                    }
                }
            };

            tokio::join!(fetch(50), fetch(50), fetch(50), fetch(50));
            let before = resident_bytes();
            tokio::join!(fetch(450), fetch(450), fetch(450), fetch(450));
            let growth = resident_bytes().saturating_sub(before);

            assert!(growth < GROWTH_MAX, "{growth} bytes more");
        },
    );
}

#[tokio::test]
async fn several_live_in_one_process_and_share_nothing() {
    let (one, other) = (Target::named("one").await, Target::named("other").await);
    let first = start(config([http("web")], [group("web", &[one.address])])).await;
    let second = start(config([http("web")], [group("web", &[other.address])])).await;
    let mut of_first = Conversation::to(first.listeners()[0]).await;
    let mut of_second = Conversation::to(second.listeners()[0]).await;

    assert_eq!(of_first.get("/").await, "one");
    assert_eq!(of_second.get("/").await, "other");
    first.shutdown().await;

    assert_eq!(of_first.end().await, "");
    assert_eq!(of_second.get("/").await, "other");
}

#[tokio::test]
async fn the_end_finishes_what_is_in_flight_and_takes_nothing_new() {
    let (target, go_on) = slow().await;
    let running = start(config([http("web")], [group("web", &[target.address])])).await;
    let address = running.listeners()[0];
    let mut idle = Conversation::to(address).await;
    let mut fresh = Conversation::to(address).await;
    go_on.notify_one();
    assert_eq!(idle.get("/").await, "five!five.");
    let mut busy = Conversation::to(address).await;
    busy.say(GET).await;
    let head = busy.head().await.unwrap();
    assert_eq!(header(&head, "connection"), Some("keep-alive"));
    // Its head is not whole yet: it will be answered, and told to go.
    let mut halfway = Conversation::to(address).await;
    halfway.say(&GET[..10]).await;
    until("all four are connected", || {
        running.status().listeners[0].connections == 4
    })
    .await;
    let began = Instant::now();

    let shutdown = tokio::spawn(running.shutdown());

    assert_eq!(idle.end().await, "");
    assert_eq!(fresh.end().await, "");
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "idle ones wait for nothing"
    );
    until_refused(address).await;
    assert!(!shutdown.is_finished());
    halfway.say(&GET[10..]).await;
    let head = soon("an answer", halfway.head()).await.unwrap();
    assert_eq!(header(&head, "connection"), Some("close"));
    go_on.notify_one();
    go_on.notify_one();
    assert_eq!(soon("the rest", busy.body(10)).await, b"five!five.");
    go_on.notify_one();
    assert_eq!(soon("the rest", halfway.body(10)).await, b"five!five.");
    assert_eq!(busy.end().await, "");
    assert_eq!(halfway.end().await, "");
    soon("the load balancer is down", shutdown).await.unwrap();
}

#[tokio::test]
async fn the_end_is_announced_before_it_begins() {
    let target = Target::named("web").await;
    let mut wanted = config([http("web")], [group("web", &[target.address])]);
    // Long enough to see that it serves on; the test waits for its end.
    wanted.shutdown.delay = Duration::from_secs(2);
    let running = start(wanted).await;
    let (address, door) = (running.listeners()[0], running.admin().clone());
    let AdminAddress::Tcp(door) = door else {
        panic!("not on TCP")
    };
    let ready = async || {
        let mut admin = Conversation::to(door).await;
        let head = admin
            .ask("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .0;
        head.starts_with("HTTP/1.1 200")
    };
    assert!(ready().await);
    let mut idle = Conversation::to(address).await;
    assert_eq!(idle.get("/").await, "web");
    let began = Instant::now();

    let shutdown = tokio::spawn(running.shutdown());

    soon("it is said", async { while ready().await {} }).await;
    let mut fresh = Conversation::to(address).await;
    let head = fresh.ask(GET).await.0;
    assert_eq!(header(&head, "connection"), Some("keep-alive"));
    assert_eq!(idle.get("/").await, "web");
    assert!(began.elapsed() < Duration::from_secs(2), "too slow to tell");
    assert_eq!(idle.end().await, "");
    assert_eq!(fresh.end().await, "");
    assert!(began.elapsed() >= Duration::from_secs(2));
    until_refused(address).await;
    soon("the load balancer is down", shutdown).await.unwrap();
}

#[tokio::test]
async fn nothing_is_changed_once_the_end_has_begun() {
    let (target, go_on) = slow().await;
    let running = start(config([http("web")], [group("web", &[target.address])])).await;
    let (address, door) = (running.listeners()[0], running.admin().clone());
    let AdminAddress::Tcp(door) = door else {
        panic!("not on TCP")
    };
    let mut client = Conversation::to(address).await;
    client.say(GET).await;
    client.head().await.unwrap();
    let shutdown = tokio::spawn(running.shutdown());
    until_refused(address).await;

    let mut admin = Conversation::to(door).await;
    let request = "POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (head, body) = admin.ask(request).await;

    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(body.contains("stopping"), "{body}");
    go_on.notify_one();
    soon("the load balancer is down", shutdown).await.unwrap();
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() {
    let (target, _never) = slow().await;
    let mut wanted = config([http("web")], [group("web", &[target.address])]);
    wanted.shutdown.timeout = Duration::from_millis(200);
    let running = start(wanted).await;
    let mut client = Conversation::to(running.listeners()[0]).await;
    client.say(GET).await;
    client.head().await.unwrap();

    soon("the load balancer is down", running.shutdown()).await;

    // Cut off in the middle, and told so by the missing half.
    assert_eq!(client.end().await, "five!");
}

#[tokio::test]
async fn a_client_that_said_nothing_holds_up_no_end() {
    let authority = Authority::new();
    let certificate = authority.sign(&["web.example"]);
    let doors = [http("web"), https("web", &[&certificate])];
    let running = start(config(doors, [group("web", &[])])).await;
    let mut silent = Vec::new();
    for address in running.listeners() {
        silent.push(Conversation::to(address).await);
    }
    until("both are connected", || {
        let listeners = running.status().listeners;
        listeners.iter().all(|listener| listener.connections == 1)
    })
    .await;
    let began = Instant::now();

    running.shutdown().await;

    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    for client in &mut silent {
        assert_eq!(client.end().await, "");
    }
}

async fn until_refused(address: SocketAddr) {
    soon("new connections are refused", async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_configuration_serves_at_once_on_the_connections_of_the_old() {
    let (one, other) = (Target::named("one").await, Target::named("other").await);
    let groups = [
        group("one", &[one.address]),
        group("other", &[other.address]),
    ];
    let mut wanted = config([http("one"), http("other")], groups);
    wanted.workers = workers(2);
    let running = start(wanted.clone()).await;
    let ports = running.listeners();
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = Conversation::to(ports[0]).await;
        assert_eq!(client.get("/").await, "one");
        clients.push(client);
    }

    wanted.listeners[0].default_actions = wanted.listeners[1].default_actions.clone();
    let generation = running.apply(wanted).await.unwrap();

    assert_eq!(generation, Generation(2));
    assert_eq!(running.status().generation, 2);
    assert_eq!(running.listeners(), ports, "the sockets are the same");
    for client in &mut clients {
        assert_eq!(client.get("/").await, "other");
    }
    // `one` is in no rule any more.
    assert_eq!(target_status(&running, "one", 0).state, "unused");
}

/// What a refused change must leave alone.
fn picture(running: &Running) -> (u64, Vec<SocketAddr>, usize) {
    let status = running.status();
    (
        status.generation,
        running.listeners(),
        status.target_groups.len(),
    )
}

#[tokio::test]
async fn a_configuration_that_cannot_be_had_changes_nothing() {
    let authority = Authority::new();
    let certificate = authority.sign(&["web.example"]);
    let target = Target::named("web").await;
    let good = config([http("web")], [group("web", &[target.address])]);
    let running = start(good.clone()).await;
    all_healthy(&running).await;
    let before = picture(&running);
    let mut client = Conversation::to(running.listeners()[0]).await;
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let changed = |change: fn(&mut Config)| {
        let mut config = good.clone();
        config.listeners.insert(0, https("spare", &[&certificate]));
        config.target_groups.push(group("spare", &[]));
        change(&mut config);
        config
    };
    let no_certificate = changed(|config| {
        config.listeners[0].certificates[0].certificate = Pem::File("/nowhere/at/all.pem".into());
    });
    let mut port_taken = changed(|_| {});
    let mut last = http("web");
    last.port = elsewhere.local_addr().unwrap().port();
    port_taken.listeners.push(last);

    let refused = running.apply(no_certificate).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(_)), "{refused:?}");
    assert!(refused.to_string().contains("listeners[0]"), "{refused}");
    let refused = running.apply(port_taken).await.unwrap_err();
    assert!(matches!(refused, Error::Bind(_)), "{refused:?}");

    assert_eq!(picture(&running), before);
    assert_eq!(client.get("/").await, "web");
    assert_eq!(target_status(&running, "web", 0).state, "healthy");
    // What was bound on the way is free again, and the next good one is taken.
    assert_eq!(running.apply(good).await.unwrap(), Generation(2));
    assert_eq!(client.get("/").await, "web");
}

#[tokio::test]
async fn a_removed_listener_finishes_and_the_others_do_not_notice() {
    let (target, go_on) = slow().await;
    let mut wanted = config(
        [http("web"), http("web")],
        [group("web", &[target.address])],
    );
    let running = start(wanted.clone()).await;
    let [stays, goes] = running.listeners()[..] else {
        panic!("two listeners")
    };
    let mut staying = Conversation::to(stays).await;
    let mut idle = Conversation::to(goes).await;
    let mut busy = Conversation::to(goes).await;
    busy.say(GET).await;
    busy.head().await.unwrap();
    until("all are connected", || {
        let status = running.status();
        status.listeners[1].connections == 2 && status.listeners[0].connections == 1
    })
    .await;

    wanted.listeners.pop();
    running.apply(wanted.clone()).await.unwrap();

    assert_eq!(idle.end().await, "");
    until_refused(goes).await;
    assert_eq!(running.listeners(), [stays]);
    go_on.notify_one();
    assert_eq!(soon("the rest", busy.body(10)).await, b"five!five.");
    assert_eq!(busy.end().await, "");
    go_on.notify_one();
    assert_eq!(staying.get("/").await, "five!five.");

    // And its port can be had again at once.
    let mut back = http("web");
    back.port = goes.port();
    wanted.listeners.push(back);
    running.apply(wanted).await.unwrap();
    go_on.notify_one();
    assert_eq!(Conversation::to(goes).await.get("/").await, "five!five.");
}

#[tokio::test]
async fn targets_keep_health_and_requests_when_their_group_changes() {
    let (target, go_on) = slow().await;
    let mut wanted = config([http("web")], [group("web", &[target.address])]);
    let running = start(wanted.clone()).await;
    all_healthy(&running).await;
    let mut client = Conversation::to(running.listeners()[0]).await;
    client.say(GET).await;
    client.head().await.unwrap();
    assert_eq!(target_status(&running, "web", 0).outstanding_requests, 1);

    // From now on nobody is probed in the time of this test, so what is known was known before.
    wanted.target_groups[0].health_check.interval = Duration::from_secs(300);
    wanted.target_groups[0]
        .targets
        .push("127.0.0.1:1".parse().unwrap());
    running.apply(wanted).await.unwrap();

    let status = target_status(&running, "web", 0);
    assert_eq!(
        (status.state.as_str(), status.outstanding_requests),
        ("healthy", 1)
    );
    let new = target_status(&running, "web", 1);
    assert_ne!(new.state, "healthy");
    go_on.notify_one();
    assert_eq!(soon("the rest", client.body(10)).await, b"five!five.");
    until("nothing is outstanding", || {
        target_status(&running, "web", 0).outstanding_requests == 0
    })
    .await;
}

#[tokio::test]
async fn a_removed_target_finishes_its_requests_and_gets_no_more() {
    let (goes, go_on) = slow().await;
    let stays = Target::named("stays").await;
    let mut wanted = config([http("web")], [group("web", &[goes.address])]);
    let running = start(wanted.clone()).await;
    let mut client = Conversation::to(running.listeners()[0]).await;
    client.say(GET).await;
    client.head().await.unwrap();

    wanted.target_groups[0] = group("web", &[stays.address]);
    running.apply(wanted).await.unwrap();

    go_on.notify_one();
    assert_eq!(soon("the rest", client.body(10)).await, b"five!five.");
    for _ in 0..3 {
        assert_eq!(client.get("/").await, "stays");
    }
    assert_eq!(goes.requests(), 1);
}

#[tokio::test]
async fn a_port_in_use_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut wanted = config([http("web")], [group("web", &[])]);
    wanted.listeners[0].port = taken.local_addr().unwrap().port();
    let refused = app::start(wanted).await.unwrap_err();
    assert!(matches!(refused, Error::Bind(_)), "{refused:?}");
}

#[tokio::test]
async fn a_port_of_another_albedo_is_refused() {
    let target = Target::named("first").await;
    let first = start(config([http("web")], [group("web", &[target.address])])).await;
    let mut wanted = config([http("web")], [group("web", &[])]);
    wanted.listeners[0].port = first.listeners()[0].port();
    for address in [
        Some(Ipv4Addr::LOCALHOST.into()),
        Some(Ipv4Addr::UNSPECIFIED.into()),
        None,
    ] {
        wanted.listeners[0].address = address;
        let refused = app::start(wanted.clone()).await.unwrap_err();
        assert!(matches!(refused, Error::Bind(_)), "{refused:?}");
    }
    let mut client = Conversation::to(first.listeners()[0]).await;
    assert_eq!(client.get("/").await, "first");

    // When the first has gone its port is free at once.
    wanted.listeners[0].address = Some(Ipv4Addr::LOCALHOST.into());
    first.shutdown().await;
    start(wanted).await;
}

#[tokio::test]
async fn a_listener_moves_to_another_address_on_its_port() {
    let target = Target::named("web").await;
    let mut wanted = config([http("web")], [group("web", &[target.address])]);
    // The system gives connections ports from 32768 on; one of those would keep every address from being bound.
    let (running, port) = loop {
        wanted.listeners[0].port = fastrand::u16(20_000..32_768);
        match app::start(wanted.clone()).await {
            Ok(running) => break (running, wanted.listeners[0].port),
            Err(Error::Bind { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    };
    wanted.listeners[0].address = Some(Ipv4Addr::UNSPECIFIED.into());
    running.apply(wanted).await.unwrap();

    let address = (Ipv4Addr::new(127, 0, 0, 2), port).into();
    assert_eq!(Conversation::to(address).await.get("/").await, "web");
}
