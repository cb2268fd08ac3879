//! Another process takes over: real binaries, real signals, clients that would notice.

use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::process::{BINARY, Process, config_text, is_alive, verb};
use crate::scene::{
    Authority, Content, Conversation, Http2, Target, connect, header, http2, read, soon, until,
};

const HTTP: &str = "port: 0, address: 127.0.0.1, protocol: HTTP";
const HTTPS: &str = "port: 0, address: 127.0.0.1, protocol: HTTPS, \
                     certificates: [ { certificate: web.pem, key: web.key } ]";
const GET: &str = "GET / HTTP/1.1\r\nHost: web.example\r\n\r\n";

/// A process with one HTTP listener, once its targets are healthy.
async fn start(targets: &[&Target]) -> (Process, SocketAddr) {
    let process = Process::start(&config(targets), |_, _| {});
    let address = process.listeners(1).await[0];
    healthy(&process, targets.len()).await;
    (process, address)
}

/// The same with one HTTPS listener.
async fn start_secure(authority: &Authority, targets: &[&Target]) -> (Process, SocketAddr) {
    let (certificate, key) = authority.sign(&["web.example"]).pem();
    let config = config(targets).replace(HTTP, HTTPS);
    let process = Process::start(&config, |_, folder| {
        std::fs::write(folder.join("web.pem"), certificate).unwrap();
        std::fs::write(folder.join("web.key"), key).unwrap();
    });
    let address = process.listeners(1).await[0];
    healthy(&process, targets.len()).await;
    (process, address)
}

/// Waits until so many connections are accepted.
async fn connections(process: &Process, count: usize) {
    soon("all are accepted", async {
        while process.status().await.listeners[0].connections < count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

fn config(targets: &[&Target]) -> String {
    let targets: Vec<_> = targets.iter().map(|target| target.address).collect();
    config_text(&[HTTP], &targets)
}

pub(crate) async fn healthy(process: &Process, count: usize) {
    soon("every target is healthy", async {
        while states(process).await != vec!["healthy"; count] {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

async fn states(process: &Process) -> Vec<String> {
    let groups = process.status().await.target_groups.into_iter();
    let targets = groups.flat_map(|group| group.targets);
    targets.map(|target| target.state).collect()
}

/// Clients that ask without a pause, each in its own way. One that sees anything but its answer fails the test.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<(JoinHandle<()>, Arc<AtomicUsize>)>,
}

/// When a client opens another connection.
#[derive(Clone, Copy)]
enum Reconnects {
    WhenTold,
    ForEachRequest,
}

impl Load {
    fn begin() -> Self {
        Self {
            stop: Arc::default(),
            clients: Vec::new(),
        }
    }

    fn add<C>(
        &mut self,
        reconnects: Reconnects,
        pause: Duration,
        open: impl Fn() -> C + Send + 'static,
    ) where
        C: Future<Output = Conversation> + Send + 'static,
    {
        let answers = Arc::new(AtomicUsize::new(0));
        let (count, stop) = (Arc::clone(&answers), Arc::clone(&self.stop));
        let client = tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let mut connection = open().await;
                loop {
                    let (head, body) = connection.ask(GET).await;
                    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                    assert_eq!(body, "web");
                    count.fetch_add(1, Ordering::Relaxed);
                    let told = header(&head, "connection") == Some("close");
                    if told || matches!(reconnects, Reconnects::ForEachRequest) {
                        break;
                    }
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        });
        self.clients.push((client, answers));
    }

    /// One that speaks HTTP/2, a connection until it is told to go.
    fn add_http2<C>(&mut self, open: impl Fn() -> C + Send + 'static)
    where
        C: Future<Output = Http2> + Send + 'static,
    {
        let answers = Arc::new(AtomicUsize::new(0));
        let (count, stop) = (Arc::clone(&answers), Arc::clone(&self.stop));
        let client = tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let connection = open().await;
                while !stop.load(Ordering::Relaxed) {
                    match connection.send("GET", "/", Content::none()).await {
                        Ok(response) => {
                            assert_eq!(response.status(), 200);
                            assert_eq!(read(response.into_body()).await.unwrap(), b"web");
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        // Told to go before this was sent.
                        Err(error) if error.is_canceled() || is_farewell(&error) => break,
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
        });
        self.clients.push((client, answers));
    }

    /// Waits until every client has had so many more answers.
    async fn goes_on(&self, more: usize) {
        let now = |answers: &AtomicUsize| answers.load(Ordering::Relaxed);
        let goals: Vec<_> = self
            .clients
            .iter()
            .map(|(_, answers)| now(answers) + more)
            .collect();
        until("every client is served or has failed", || {
            let mut clients = self.clients.iter().zip(&goals);
            clients.all(|((client, answers), goal)| client.is_finished() || now(answers) >= *goal)
        })
        .await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for (client, _) in self.clients {
            client.await.unwrap();
        }
    }
}

/// GOAWAY without an error: what it names no stream of was not looked at (RFC 9113 §6.8), so any client sends it again.
fn is_farewell(error: &hyper::Error) -> bool {
    let text = format!("{error:?}");
    text.contains("GoAway") && text.contains("NO_ERROR")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_do_not_notice_upgrades() {
    let targets = [Target::named("web").await, Target::named("web").await];
    let authority = Authority::new();
    let (certificate, key) = authority.sign(&["web.example"]).pem();
    let addresses = targets.each_ref().map(|target| target.address);
    let config = config_text(&[HTTP, HTTPS], &addresses);
    let process = Process::start(&config, |_, folder| {
        std::fs::write(folder.join("web.pem"), certificate).unwrap();
        std::fs::write(folder.join("web.key"), key).unwrap();
    });
    let [plain, secure] = process.listeners(2).await[..] else {
        panic!("two listeners")
    };
    healthy(&process, 2).await;
    let tls = Arc::new(authority.client(&[]));
    let mut load = Load::begin();
    for reconnects in [Reconnects::WhenTold, Reconnects::ForEachRequest] {
        for milliseconds in [0, 0, 1, 7] {
            let pause = Duration::from_millis(milliseconds);
            load.add(reconnects, pause, move || Conversation::to(plain));
            let tls = Arc::clone(&tls);
            load.add(reconnects, pause, move || {
                let tls = Arc::clone(&tls);
                async move { Conversation::over(connect(secure, &tls, "web.example").await.unwrap()) }
            });
        }
    }
    let authority = Arc::new(authority);
    for _ in 0..2 {
        let authority = Arc::clone(&authority);
        load.add_http2(move || {
            let authority = Arc::clone(&authority);
            async move { http2(secure, &authority).await }
        });
    }
    load.goes_on(20).await;

    let mut old = vec![process.id()];
    // Sockets are shared out among more workers, and among fewer.
    for workers in [3, 1, 2] {
        process.write(&config.replace("workers: 2", &format!("workers: {workers}")));
        old.push(process.upgrade().await);
        assert_eq!(states(&process).await, ["healthy"; 2]);
        load.goes_on(20).await;
    }

    load.end().await;
    let newest = old.pop().unwrap();
    until("the old ones have ended", || {
        !old.iter().any(|pid| is_alive(*pid))
    })
    .await;
    assert!(is_alive(newest));
    // Reloads of the file may have been counted too.
    assert!(process.status().await.generation >= 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_resume_with_the_next_process_and_at_their_own_door() {
    let target = Target::named("web").await;
    let authority = Authority::new();
    let config = config_text(&[HTTPS, HTTPS], &[target.address]);
    let process = Process::start(&config, |_, folder| {
        authority.sign(&["web.example"]).write(folder, "web");
    });
    let [one, other] = process.listeners(2).await[..] else {
        panic!("two listeners")
    };
    healthy(&process, 1).await;
    let clients = [&rustls::version::TLS12, &rustls::version::TLS13]
        .map(|version| Arc::new(authority.client_of(&[version])));
    let kind = async |client, door| {
        let tls = connect(door, client, "web.example").await.unwrap();
        let kind = tls.get_ref().1.handshake_kind().unwrap();
        // In TLS 1.3 a ticket comes after the handshake, so something must be read.
        Conversation::over(tls).get("/").await;
        kind
    };
    for client in &clients {
        assert_eq!(kind(client, one).await, HandshakeKind::Full);
    }
    for _ in 0..2 {
        process.upgrade().await;
        for client in &clients {
            assert_eq!(kind(client, one).await, HandshakeKind::Resumed);
        }
    }
    for client in &clients {
        assert_eq!(kind(client, other).await, HandshakeKind::Full);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_of_targets_is_not_forgotten() {
    let (good, bad) = (Target::named("good").await, Target::named("bad").await);
    bad.set_status(503);
    let targets = [good.address, bad.address];
    // The second probe of a process comes long after this test.
    let config = config_text(&[HTTP], &targets)
        .replace("interval: 200ms", "interval: 300s")
        .replace("unhealthy_threshold: 2", "unhealthy_threshold: 3");
    let process = Process::start(&config, |_, _| {});
    let address = process.listeners(1).await[0];
    until("both were probed", || {
        good.probes() == 1 && bad.probes() == 1
    })
    .await;
    healthy_first(&process).await;
    good.set_status(503);

    process.upgrade().await;
    assert_eq!(states(&process).await[0], "healthy");
    assert_eq!(Conversation::to(address).await.get("/").await, "good");

    // Three failures in a row make a target unhealthy, and no process sees more than one.
    let mut processes = 2;
    while states(&process).await != ["unhealthy"; 2] {
        assert!(processes < 8, "failures are forgotten");
        until("both were probed again", || {
            good.probes() == processes && bad.probes() == processes
        })
        .await;
        process.upgrade().await;
        processes += 1;
    }
}

async fn healthy_first(process: &Process) {
    soon("the first target is healthy", async {
        while states(process).await[0] != "healthy" {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_began_before_an_upgrade_ends_whole() {
    let (go_on, gate) = tokio::sync::watch::channel(false);
    let target = Target::playing(move |head, mut client: Conversation| {
        let mut gate = gate.clone();
        async move {
            if head.starts_with("GET /slow") {
                client
                    .say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!")
                    .await;
                gate.wait_for(|open| *open).await.unwrap();
                client.say("five.").await;
            } else {
                client.answer("web").await;
            }
            Some(client)
        }
    })
    .await;
    let (mut process, address) = start(&[&target]).await;
    let mut slow = Conversation::to(address).await;
    slow.say("GET /slow HTTP/1.1\r\nHost: web.example\r\n\r\n")
        .await;
    let head = soon("a head", slow.head()).await.unwrap();
    assert_eq!(header(&head, "content-length"), Some("10"));
    let mut idle = Conversation::to(address).await;
    assert_eq!(idle.get("/").await, "web");
    let mut silent = Conversation::to(address).await;
    connections(&process, 3).await;
    let old = process.id();

    process.upgrade().await;

    // Told by the old process, which still has them.
    for client in [&mut idle, &mut silent] {
        let (head, _) = client.ask(GET).await;
        assert_eq!(header(&head, "connection"), Some("close"));
        assert_eq!(client.end().await, "");
    }
    let (head, _) = Conversation::to(address).await.ask(GET).await;
    assert_eq!(header(&head, "connection"), Some("keep-alive"));

    // The old one has let go of what it handed over.
    process.signal(Signal::TERM);
    until("the new one has ended", || !is_alive(process.id())).await;
    let admin = process.admin().await.parse::<SocketAddr>().unwrap();
    for address in [address, admin] {
        assert!(TcpStream::connect(address).await.is_err());
    }

    assert!(is_alive(old));
    go_on.send_replace(true);
    assert_eq!(soon("the rest", slow.body(10)).await, b"five!five.");
    drop(slow);
    assert_eq!(process.end().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_just_come_is_answered() {
    let target = Target::named("web").await;
    let authority = Authority::new();
    let (process, address) = start_secure(&authority, &[&target]).await;
    let http2 = http2(address, &authority).await;
    let silent = TcpStream::connect(address).await.unwrap();
    connections(&process, 2).await;

    process.upgrade().await;

    // Both are the old process's, which greets and answers them.
    let tls = TlsConnector::from(Arc::new(authority.client(&[])));
    let name = ServerName::try_from("web.example").unwrap();
    let greeted = soon("a handshake", tls.connect(name, silent)).await;
    let (head, body) = Conversation::over(greeted.unwrap()).ask(GET).await;
    assert_eq!(
        (header(&head, "connection"), &*body),
        (Some("close"), "web")
    );
    assert_eq!(http2.get("/").await, (200, "web".to_owned()));
    soon("told to go", http2.connection).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_stay_with_their_targets() {
    sessions_outlive_upgrades("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_no_file_has_are_handed_over() {
    let nowhere = "load_balancer: { cookie_keys: { path: nowhere/cookie.keys } }\n";
    let process = sessions_outlive_upgrades(nowhere).await;
    assert!(!process.folder.path().join("nowhere").exists());
}

/// Sessions of two targets, through two upgrades.
async fn sessions_outlive_upgrades(load_balancer: &str) -> Process {
    let targets = [Target::named("one").await, Target::named("other").await];
    let addresses = targets.each_ref().map(|target| target.address);
    let config = config_text(&[HTTP], &addresses).replace(
        "    protocol: HTTP\n",
        "    protocol: HTTP\n    stickiness: { type: lb_cookie, duration: 1d }\n",
    );
    let config = format!("{load_balancer}{config}");
    let process = Process::start(&config, |_, _| {});
    let address = process.listeners(1).await[0];
    healthy(&process, 2).await;
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let (head, name) = Conversation::to(address).await.ask(GET).await;
        let cookie = header(&head, "set-cookie").unwrap();
        let cookie = cookie.split(';').next().unwrap();
        sessions.push((cookie.to_owned(), name));
    }

    for _ in 0..2 {
        process.upgrade().await;
        for (cookie, name) in sessions.iter().cycle().take(8) {
            let request =
                format!("GET / HTTP/1.1\r\nHost: web.example\r\nCookie: {cookie}\r\n\r\n");
            let (_, answered) = Conversation::to(address).await.ask(&request).await;
            assert_eq!(answered, *name);
        }
    }
    process
}

/// Puts a shell script where a binary is.
pub(crate) fn put(script: &str, path: &Path) {
    let new = path.with_extension("new");
    std::fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_that_fails_changes_nothing() {
    let target = Target::named("web").await;
    let installed = tempfile::tempdir().unwrap();
    let binary = installed.path().join("albedo");
    symlink(BINARY, &binary).unwrap();
    let file = installed.path().join("admin.sock");
    let admin = format!("unix:{}", file.display());
    let config = config(&[&target]).replace("127.0.0.1:0", &admin);
    let process = Process::start_as(&binary, &config, |_, _| {});
    let address = process.listeners(1).await[0];
    healthy(&process, 1).await;
    let mut client = Conversation::to(address).await;
    assert_eq!(client.get("/").await, "web");
    let (first, before) = (process.id(), process.status().await);
    let upgrade = || verb(["upgrade", "--admin", &admin]);

    put("exit 7", &binary);
    let (exit, text) = upgrade().await;
    assert_eq!(exit, Some(1));
    assert!(text.contains("exit status: 7"), "{text}");

    // It neither fails nor gets ready: a second upgrade is refused meanwhile, and it ends with its parent's patience.
    let pid = installed.path().join("pid");
    put(
        &format!("echo $$ > {}; exec sleep 1000", pid.display()),
        &binary,
    );
    process.signal(Signal::USR2);
    until("it has been started", || pid.exists()).await;
    let (exit, text) = upgrade().await;
    assert_eq!(
        (exit, text.as_str()),
        (Some(1), "albedo: an upgrade is under way already\n")
    );
    let pid = soon("its number", async {
        loop {
            match std::fs::read_to_string(&pid).unwrap().trim().parse() {
                Ok(pid) => return pid,
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    })
    .await;
    crate::process::send(pid, Signal::KILL);
    process.logged(0, "signal: 9").await;

    // A configuration that it does not take.
    std::fs::remove_file(&binary).unwrap();
    symlink(BINARY, &binary).unwrap();
    process.write(&config.replace("protocol: HTTP", "protocol: GOPHER"));
    let (exit, text) = upgrade().await;
    assert_eq!(exit, Some(1));
    assert!(text.contains("GOPHER"), "{text}");

    // One of which it learns late that it cannot be used: the admin address is in its hands by then.
    let log = "load_balancer: { access_log: { path: /nowhere/access.log } }\n";
    process.write(&format!("{log}{config}"));
    let (exit, text) = upgrade().await;
    assert_eq!(exit, Some(1));
    assert!(text.contains("access_log"), "{text}");
    assert!(file.exists(), "the old process still answers there");

    process.write(&config);
    let after = process.status().await;
    assert_eq!(
        (after.generation, &after.target_groups),
        (before.generation, &before.target_groups)
    );
    assert_eq!(process.id(), first);
    assert_eq!(client.get("/").await, "web");
    assert_eq!(Conversation::to(address).await.get("/").await, "web");

    // And then it goes well.
    let from = process.log().len();
    assert_eq!(upgrade().await.0, Some(0));
    let second = process.replaced(from).await;
    assert_eq!(Conversation::to(address).await.get("/").await, "web");
    assert!(file.exists(), "the admin address is the new process's now");
    process.signal(Signal::TERM);
    until("it has ended", || !is_alive(second)).await;
    assert!(!file.exists(), "and goes with it");
}
