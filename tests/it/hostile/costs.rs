//! D: what attacks cost. Each is repeated beside a client that is served all the while; what the workers spend on it is
//! compared with what they spend on that client, in one process and one run.

use std::cell::Cell;
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::lifecycle::{alone, resident_bytes};
use crate::scene::{Conversation, Target, group, soon, target_status, until};

use super::{FINE, Fort, echo};

/// How many attacks there are at least, and how many honest visits they are compared with.
const TIMES: u32 = 100;

/// Connections that one client may have where no more shall come in; many more than honest visits take that have not
/// been seen to go.
const HOUSE: usize = 64;

/// How often somebody else is served meanwhile at least.
const VISITS_MIN: u32 = 20;

/// Nanoseconds that the workers of this process have had a CPU.
fn spent() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let of_task = |task: std::io::Result<fs::DirEntry>| {
        let path = task.ok()?.path();
        let name = fs::read_to_string(path.join("comm")).ok()?;
        let times = fs::read_to_string(path.join("schedstat")).ok()?;
        let on_cpu = times.split(' ').next()?.parse::<u64>().ok()?;
        name.starts_with("worker-").then_some(on_cpu)
    };
    tasks.filter_map(of_task).sum()
}

/// The same of this whole process; takes no descriptor.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.try_into().unwrap()
}

/// One who comes, asks, is answered and goes.
async fn visit(fort: &Fort) {
    let mut client = fort.clear().await;
    let (head, _) = client.ask(FINE).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}

/// Attacks a hundred times and more while another client comes as often as it can, which must be some times: gives how
/// much an attack cost, as a multiple of an honest visit.
async fn cost(fort: &Fort, attack: impl AsyncFn()) -> f64 {
    let before = spent();
    for _ in 0..TIMES {
        Box::pin(visit(fort)).await;
    }
    let honest = (spent() - before) as f64 / f64::from(TIMES);
    let (before, visits, attacks) = (spent(), Cell::new(0), Cell::new(0));
    let visiting = async {
        loop {
            Box::pin(visit(fort)).await;
            visits.set(visits.get() + 1);
        }
    };
    let attacking = async {
        while attacks.get() < TIMES || visits.get() < VISITS_MIN {
            Box::pin(attack()).await;
            attacks.set(attacks.get() + 1);
        }
    };
    let both = async {
        tokio::select! {
            () = visiting => {}
            () = attacking => {}
        }
    };
    // Boxed: the stack of a test is small, and futures of one that is not optimised are large.
    soon("attacks beside visits", Box::pin(both)).await;
    let all = (spent() - before) as f64;
    (all / honest - f64::from(visits.get())).max(0.0) / f64::from(attacks.get())
}

/// Bytes for each of some connections that say this and wait.
async fn held(fort: &Fort, door: usize, said: &[u8]) -> usize {
    const CONNECTIONS: usize = 200;
    let address = fort.running.listeners()[door];
    let mut crowd = Vec::new();
    for _ in 0..8 {
        visit(fort).await;
    }
    let before = resident_bytes();
    for _ in 0..CONNECTIONS {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(said).await.unwrap();
        crowd.push(tcp);
    }
    let connections = || fort.running.status().listeners[door].connections;
    until("all are in", || connections() >= CONNECTIONS).await;
    visit(fort).await;
    resident_bytes().saturating_sub(before) / CONNECTIONS
}

#[test]
fn d1_a_slow_head_costs_little() {
    alone("hostile::costs::d1_a_slow_head_costs_little", async {
        let fort = Fort::new().await;
        // Twenty reads where an honest client takes one.
        let slow = async || {
            let mut client = fort.clear().await;
            for byte in b"GET / HTTP/1.1\r\nX: y" {
                client.write(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let times = cost(&fort, slow).await;
        assert!(times < 10.0, "{times} times an honest visit");
    });
}

#[test]
fn d1_a_head_that_is_held_takes_what_it_may() {
    alone(
        "hostile::costs::d1_a_head_that_is_held_takes_what_it_may",
        async {
            let fort = Fort::new().await;
            let bytes = held(&fort, 0, b"G").await;
            assert!(bytes < 16 * 1024, "{bytes} bytes a connection");
            // As large as a head may be: it is held, and as much again while it grows.
            let lines = format!("X: {}\r\n", "x".repeat(1000)).repeat(62);
            let head = format!("GET / HTTP/1.1\r\n{lines}");
            let bytes = held(&fort, 0, head.as_bytes()).await;
            assert!(bytes < 192 * 1024, "{bytes} bytes a connection");
        },
    );
}

#[test]
fn d2_who_goes_on_after_a_refusal_costs_little() {
    alone(
        "hostile::costs::d2_who_goes_on_after_a_refusal_costs_little",
        async {
            let fort = Fort::new().await;
            let chunks = "5\r\nhello\r\n".repeat(26_000);
            let refused = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n";
            let going_on = async || {
                let mut client = fort.clear().await;
                client.write(refused.as_bytes()).await.unwrap();
                // The end may come in the middle.
                let _ = client.write(chunks.as_bytes()).await;
            };
            let times = cost(&fort, going_on).await;
            assert!(times < 20.0, "{times} times an honest visit");
        },
    );
}

#[test]
fn d4_half_a_hello_costs_less_than_a_request() {
    alone(
        "hostile::costs::d4_half_a_hello_costs_less_than_a_request",
        async {
            let fort = Fort::new().await;
            let address = fort.running.listeners()[1];
            let half = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
            let halfway = async || {
                let mut tcp = TcpStream::connect(address).await.unwrap();
                tcp.write_all(half).await.unwrap();
            };
            let times = cost(&fort, halfway).await;
            assert!(times < 3.0, "{times} times an honest visit");
            let bytes = held(&fort, 1, half).await;
            assert!(bytes < 48 * 1024, "{bytes} bytes a connection");
        },
    );
}

#[test]
fn d7_who_is_turned_away_costs_less_than_who_comes_in() {
    alone(
        "hostile::costs::d7_who_is_turned_away_costs_less_than_who_comes_in",
        async {
            let fort = Fort::with(echo().await, |config| {
                config.limits.connections_per_client = std::num::NonZeroU32::new(HOUSE as u32);
            })
            .await;
            let address = fort.running.listeners()[0];
            // Honest visits come from another address.
            let crowded = async || {
                let tcp = TcpSocket::new_v4().unwrap();
                tcp.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
                tcp.connect(address).await.unwrap()
            };
            let mut house = Vec::new();
            for _ in 0..HOUSE {
                house.push(crowded().await);
            }
            let connections = || fort.running.status().listeners[0].connections;
            until("they are in", || connections() == HOUSE).await;
            let full = async || {
                let mut crowd = Vec::new();
                for _ in 0..4 {
                    crowd.push(crowded().await);
                }
                for mut tcp in crowd {
                    // Closed, or reset.
                    assert!(!matches!(tcp.read(&mut [0]).await, Ok(1..)), "let in");
                }
            };
            let times = cost(&fort, full).await;
            assert!(times < 12.0, "{times} times an honest visit for four");
        },
    );
}

#[test]
fn d7_without_descriptors_nothing_spins_and_all_comes_back() {
    alone(
        "hostile::costs::d7_without_descriptors_nothing_spins_and_all_comes_back",
        async {
            let fort = Fort::with(echo().await, |config| {
                config.limits.header_timeout = Duration::from_secs(1);
            })
            .await;
            let albedo::model::AdminAddress::Tcp(admin) = *fort.running.admin() else {
                panic!("not on TCP")
            };
            until("its health is known", || {
                target_status(&fort.running, "web", 0).state == "healthy"
            })
            .await;
            let mut inside = fort.clear().await;
            inside.ask(FINE).await;
            // Clients that have their descriptors; nobody else gets one.
            let sockets = [(); 9].map(|()| TcpSocket::new_v4().unwrap());
            let last = sockets.iter().map(AsRawFd::as_raw_fd).max().unwrap();
            let before = getrlimit(Resource::Nofile);
            let none = Rlimit {
                current: Some(last as u64 + 1),
                ..before
            };
            setrlimit(Resource::Nofile, none).unwrap();
            let [door, others @ ..] = sockets;
            let mut outside = Vec::new();
            for other in others {
                let tcp = other.connect(fort.running.listeners()[0]).await.unwrap();
                let mut client = Conversation::over(tcp);
                client.say(FINE).await;
                outside.push(client);
            }
            let mut door = Conversation::over(door.connect(admin).await.unwrap());
            let health = format!("GET /healthz HTTP/1.1\r\nHost: {admin}\r\n\r\n");
            let (head, _) = door.ask(&health).await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            // Whoever is in is served, up to the second that a slow head has.
            let began = cpu_time();
            inside.ask(FINE).await;
            inside.say("GET /").await;
            let head = soon("408", inside.head()).await.unwrap();
            assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
            // Some, where somebody else's descriptor became free; a request needs another toward the target.
            let served = fort.target.requests() - 2;
            assert!(served < 8, "there were descriptors");
            let spent = cpu_time() - began;
            assert!(spent < Duration::from_millis(300), "{spent:?} of a second");

            setrlimit(Resource::Nofile, before).unwrap();
            for client in &mut outside {
                let head = soon("an answer", client.head()).await.unwrap();
                assert!(head.starts_with("HTTP/1.1 "), "{head}");
            }
            fort.serves().await;
        },
    );
}

#[test]
fn d9_a_group_goes_with_all_its_idle_connections() {
    const MANY: usize = 1500;
    alone(
        "hostile::costs::d9_a_group_goes_with_all_its_idle_connections",
        async {
            // Answers when all have asked, so that each has a connection of its own.
            let gate = std::sync::Arc::new(tokio::sync::Barrier::new(MANY));
            let part = move |_, mut client: Conversation| {
                let gate = std::sync::Arc::clone(&gate);
                async move {
                    gate.wait().await;
                    client.answer("many").await;
                    Some(client)
                }
            };
            // A worker keeps 512 for each.
            let many = [
                Target::playing(part.clone()).await,
                Target::playing(part.clone()).await,
                Target::playing(part).await,
            ];
            let addresses = many.each_ref().map(|target| target.address);
            let fort = Fort::with(echo().await, |config| {
                config.target_groups.push(group("many", &addresses));
                config.listeners.push(crate::scene::http("many"));
            })
            .await;
            let door = fort.running.listeners()[2];
            let mut crowd = Vec::new();
            for _ in 0..MANY {
                let mut client = Conversation::to(door).await;
                client.say(FINE).await;
                crowd.push(client);
            }
            for client in &mut crowd {
                soon("an answer", client.head()).await.unwrap();
            }
            drop(crowd);
            let open = || many.iter().map(Target::open).sum::<usize>();
            assert!(open() > MANY / 2, "{}", open());
            // The group is taken out, and its connections have an end when they have been idle for long.
            let certificate = fort.authority.sign(&["web.example"]);
            let mut without = crate::scene::config(
                [
                    crate::scene::http("web"),
                    crate::scene::https("web", &[&certificate]),
                ],
                [group("web", &[fort.target.address])],
            );
            without.load_balancer.idle_timeout = Duration::from_secs(1);
            fort.running.apply(without).await.unwrap();
            let mut served = 0;
            soon("all are closed", async {
                while open() > 0 {
                    visit(&fort).await;
                    served += 1;
                }
            })
            .await;
            assert!(served > 0);
            fort.serves().await;
        },
    );
}
