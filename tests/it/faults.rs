//! Targets that fail, each in another way: what the client gets, whether another target is asked, what the log says.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::access_log::{json_log, records};
use crate::scene::{self, Conversation, config, group, http, start, target_status, until};
use crate::support::{LoadBalancer, Refusing, Served, Target, ok};

/// Short enough to wait for, long enough that a slow machine is not taken for a silent target.
const IDLE: Duration = Duration::from_millis(600);

/// What a target does with a request that it has read.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Nothing.
    Silent,
    /// It resets the connection.
    Resets,
    /// It closes the connection.
    Closes,
    /// It ends its side and listens on.
    HalfCloses,
    /// It sends this and resets.
    SendsAndResets(&'static str),
    /// It sends this and closes.
    SendsAndCloses(&'static str),
    /// It sends this and no more.
    Sends(&'static str),
    /// It sends this byte by byte.
    Drips(&'static str),
}

/// What comes of it.
struct Outcome {
    fault: Fault,
    /// What the client gets: a status, and the body as far as it comes.
    status: u16,
    body: Body,
    /// Targets that are asked, where both have the fault.
    gets: usize,
    posts: usize,
    /// Why albedo answers for itself.
    reason: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// A page of albedo's.
    Page,
    /// The target's, whole.
    Whole(&'static str),
    /// The target's, up to where it breaks off.
    Broken(&'static str),
}

const INTERIM: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
    HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
    HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
    HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
    HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
    HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";

const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
const HALF_CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";

impl Outcome {
    /// An answer of albedo's own; only the target that failed is asked.
    fn refused(fault: Fault, status: u16, reason: &'static str) -> Self {
        Self {
            fault,
            status,
            body: Body::Page,
            gets: 1,
            posts: 1,
            reason: Some(reason),
        }
    }

    /// The target's answer, as far as it comes.
    fn answered(fault: Fault, body: Body) -> Self {
        Self {
            fault,
            status: 200,
            body,
            gets: 1,
            posts: 1,
            reason: None,
        }
    }

    /// A GET of which nobody has said a word is asked again, of another target.
    fn and_repeats_a_get(self) -> Self {
        Self { gets: 2, ..self }
    }
}

fn table() -> Vec<Outcome> {
    use Fault::{Closes, Drips, HalfCloses, Resets, Sends, SendsAndCloses, SendsAndResets, Silent};
    let refused = Outcome::refused;
    let answered = Outcome::answered;
    vec![
        refused(Silent, 504, "target_timeout"),
        refused(Resets, 502, "target_reset").and_repeats_a_get(),
        refused(Closes, 502, "target_closed").and_repeats_a_get(),
        refused(HalfCloses, 502, "target_closed").and_repeats_a_get(),
        refused(
            SendsAndResets("HTTP/1.1 200 OK\r\nCont"),
            502,
            "target_reset",
        ),
        refused(
            SendsAndCloses("HTTP/1.1 200 OK\r\nCont"),
            502,
            "target_closed",
        ),
        refused(Sends("HTTP/1.1 200 OK\r\nCont"), 504, "target_timeout"),
        refused(
            Sends("\u{16}\u{3}\u{1}nonsense\r\n\r\n"),
            502,
            "target_malformed_response",
        ),
        refused(Sends(INTERIM), 502, "target_malformed_response"),
        refused(
            Sends("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi"),
            502,
            "target_malformed_response",
        ),
        answered(SendsAndResets(HALF), Body::Broken("hello")),
        answered(SendsAndCloses(HALF), Body::Broken("hello")),
        answered(Sends(HALF), Body::Broken("hello")),
        answered(
            SendsAndCloses(HALF_CHUNKED),
            Body::Broken("5\\r\\nhello\\r\\n"),
        ),
        answered(
            Sends("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\nevil"),
            Body::Whole("hi"),
        ),
        answered(
            Drips("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nslowly"),
            Body::Whole("slowly"),
        ),
    ]
}

/// A target that has a fault, and counts the requests that it was sent.
struct Faulty {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Faulty {
    async fn start(fault: Fault) -> Self {
        let target = Target::start().await;
        let (address, asked) = (target.address(), Arc::<AtomicUsize>::default());
        let count = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            // They stay open for as long as the test lasts.
            let mut held = Vec::new();
            loop {
                let (served, _) = target.serve().await;
                count.fetch_add(1, Ordering::Relaxed);
                held.extend(fault.play(served).await);
            }
        });
        Self {
            address,
            asked,
            serving,
        }
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Fault {
    /// Gives the connection back where it stays open.
    async fn play(self, mut served: Served) -> Option<Served> {
        match self {
            Self::Silent => Some(served),
            Self::Resets => {
                served.reset();
                None
            }
            Self::Closes => None,
            Self::HalfCloses => {
                served.half_close().await;
                Some(served)
            }
            Self::SendsAndResets(bytes) => {
                served.send(bytes).await;
                // A reset overtakes what was not read yet.
                tokio::time::sleep(IDLE / 6).await;
                served.reset();
                None
            }
            Self::SendsAndCloses(bytes) => {
                served.send(bytes).await;
                None
            }
            Self::Sends(bytes) => {
                served.send(bytes).await;
                Some(served)
            }
            Self::Drips(bytes) => {
                for byte in bytes.as_bytes().chunks(1) {
                    served.send(byte).await;
                    tokio::time::sleep(IDLE / 60).await;
                }
                Some(served)
            }
        }
    }
}

/// A load balancer with a log before these targets, all of which are eligible.
async fn before(targets: &[SocketAddr], log: &Path) -> LoadBalancer {
    LoadBalancer::adjusted(targets, |config| {
        config.load_balancer.idle_timeout = IDLE;
        config.load_balancer.access_log = Some(json_log(log));
    })
    .await
}

async fn assert_outcome(outcome: &Outcome, method: &str, asked: usize) {
    let what = format!("{method}, {:?}", outcome.fault);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let targets = [
        Faulty::start(outcome.fault).await,
        Faulty::start(outcome.fault).await,
    ];
    let balancer = before(&targets.each_ref().map(|target| target.address), &log).await;
    let mut client = balancer.client().await;
    client
        .send(format!(
            "{method} /{method} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
        ))
        .await;
    match outcome.body {
        Body::Page => {
            let response = client.response().await;
            assert_eq!(response.status(), outcome.status, "{what}");
            assert_eq!(response.header("Server"), Some("awselb/2.0"), "{what}");
        }
        Body::Whole(body) => {
            let response = client.response().await;
            assert_eq!(
                (response.status(), response.text()),
                (outcome.status, body),
                "{what}"
            );
        }
        Body::Broken(body) => {
            assert!(client.head().await.contains(" 200 "), "{what}");
            assert_eq!(client.rest().await, body, "{what}");
        }
    }
    let seen: usize = targets
        .iter()
        .map(|target| target.asked.load(Ordering::Relaxed))
        .sum();
    assert_eq!(seen, asked, "{what}");
    let record = &records(&log, 1).await[0];
    assert_eq!(
        record["elb_status_code"],
        json!(outcome.status),
        "{what}: {record}"
    );
    assert_eq!(
        record["elb_reason"],
        json!(outcome.reason),
        "{what}: {record}"
    );
    let by_target = if outcome.body == Body::Page {
        Value::Null
    } else {
        json!(200)
    };
    assert_eq!(record["target_status_code"], by_target, "{what}: {record}");
}

#[tokio::test]
async fn every_fault_gives_its_answer_and_its_reason_and_no_post_is_repeated() {
    for outcome in table() {
        assert_outcome(&outcome, "POST", outcome.posts).await;
    }
}

#[tokio::test]
async fn a_get_is_repeated_only_where_nobody_has_said_a_word() {
    for outcome in table() {
        // With a body that is gone it is repeated no more than a POST.
        assert_outcome(&outcome, "GET", outcome.posts).await;
        let targets = [
            Faulty::start(outcome.fault).await,
            Faulty::start(outcome.fault).await,
        ];
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let balancer = before(&targets.each_ref().map(|target| target.address), &log).await;
        let mut client = balancer.client().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let record = &records(&log, 1).await[0];
        let seen: usize = targets
            .iter()
            .map(|target| target.asked.load(Ordering::Relaxed))
            .sum();
        assert_eq!(seen, outcome.gets, "{:?}", outcome.fault);
        assert_eq!(
            record["elb_reason"],
            json!(outcome.reason),
            "{:?}",
            outcome.fault
        );
    }
}

#[tokio::test]
async fn targets_that_all_refuse_are_named_in_the_log() {
    let refusing = [Refusing::start(), Refusing::start()];
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let balancer = before(&refusing.each_ref().map(Refusing::address), &log).await;
    let mut client = balancer.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.status(), 502);
    let record = &records(&log, 1).await[0];
    assert_eq!(record["elb_reason"], "target_refused");
}

#[tokio::test]
async fn a_target_that_does_not_accept_is_a_silent_one() {
    // The kernel takes connections in its place, as it does for a process that was stopped.
    let target = Target::start().await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let balancer = before(&[target.address()], &log).await;
    let mut client = balancer.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    assert_eq!(client.response().await.status(), 504);
    // When it goes on it finds one request, whose sender has gone.
    let (mut served, request) = target.serve().await;
    assert_eq!(request.text(), "hi");
    served.send(ok("late")).await;
    served.rest().await;
    assert!(target.is_left_alone().await);
    assert_eq!(records(&log, 1).await[0]["elb_reason"], "target_timeout");
}

#[tokio::test]
async fn a_service_that_took_over_an_address_is_not_taken_for_the_target() {
    let stays = scene::Target::named("stays").await;
    let goes = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = goes.local_addr().unwrap();
    let serving = tokio::spawn(answer_everything(goes, 200, "goes"));
    let running = start(config(
        [http("web")],
        [group("web", &[stays.address, address])],
    ))
    .await;
    scene::all_healthy(&running).await;
    // What had the address is gone, and another has it at once.
    serving.abort();
    until("the address is free", || serving.is_finished()).await;
    let another = tokio::net::TcpListener::bind(address).await.unwrap();
    tokio::spawn(answer_everything(another, 404, "another"));
    until("checks have told", || {
        target_status(&running, "web", 1).state == "unhealthy"
    })
    .await;
    let status = target_status(&running, "web", 1);
    assert_eq!(status.reason, Some("Target.ResponseCodeMismatch".into()));
    let mut client = Conversation::to(running.listeners()[0]).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await, "stays");
    }
}

/// Says this status to checks, and its name to whoever asks.
async fn answer_everything(socket: tokio::net::TcpListener, status: u16, name: &'static str) {
    let mut serving = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = socket.accept().await.unwrap();
        serving.spawn(async move {
            let mut client = Conversation::over(stream);
            while let Some(head) = client.head().await {
                if head.contains("ELB-HealthChecker") {
                    client
                        .say(format!(
                            "HTTP/1.1 {status} Probed\r\nContent-Length: 0\r\n\r\n"
                        ))
                        .await;
                } else {
                    client.answer(name).await;
                }
            }
        });
    }
}
