//! Upgrades: what is asked for, what is agreed, and bytes both ways after that, as they came.

use std::path::Path;
use std::time::{Duration, Instant};

use albedo::model::{AccessLog, AccessLogFormat, AccessLogSink};

use crate::support::{Client, LoadBalancer, Message, Served, Target, eventually, ok};

const ASK: &str = "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

async fn one_target() -> (Target, LoadBalancer) {
    let target = Target::start().await;
    let balancer = LoadBalancer::before(&[target.address()]).await;
    (target, balancer)
}

/// A tunnel, seen from both ends.
async fn tunnel(target: &Target, balancer: &LoadBalancer) -> (Client, Served) {
    let mut client = balancer.client().await;
    client.send(ASK).await;
    let mut served = target.accept().await;
    served.head().await;
    served.send(AGREE).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    (client, served)
}

/// One request and its answer, on connections of their own.
async fn once(
    target: &Target,
    balancer: &LoadBalancer,
    request: &str,
    answer: &str,
) -> (Message, Message) {
    let mut client = balancer.client().await;
    client.send(request).await;
    let (mut served, seen) = target.serve().await;
    served.send(answer).await;
    drop(served);
    (seen, client.response().await)
}

#[tokio::test]
async fn an_upgrade_is_asked_for_and_agreed_to_by_name() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(ASK).await;
    let mut served = target.accept().await;
    let asked = served.head().await;
    for line in [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "X-Forwarded-Proto: http",
    ] {
        assert!(asked.contains(line), "{line} is not in {asked}");
    }
    served.send(AGREE).await;
    let agreed = client.head().await;
    for line in [
        "HTTP/1.1 101 Switching Protocols",
        "Connection: upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ] {
        assert!(agreed.contains(line), "{line} is not in {agreed}");
    }
    assert!(
        !agreed.to_ascii_lowercase().contains("keep-alive"),
        "{agreed}"
    );
}

#[tokio::test]
async fn bytes_go_both_ways_as_they_came() {
    let (target, balancer) = one_target().await;
    let (mut client, mut served) = tunnel(&target, &balancer).await;
    let anything: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    for _ in 0..3 {
        let (taken, ()) = tokio::join!(served.take(anything.len()), client.send(&anything));
        assert!(taken == anything, "the target sees what the client sent");
        let (taken, ()) = tokio::join!(client.take(anything.len()), served.send(&anything));
        assert!(taken == anything, "the client sees what the target sent");
    }
}

#[tokio::test]
async fn what_a_client_says_early_waits_for_the_101() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(format!("{ASK}early")).await;
    let mut served = target.accept().await;
    served.head().await;
    client.send(" bird").await;
    assert!(served.is_quiet().await);
    served.send(format!("{AGREE}greeting")).await;
    assert_eq!(served.take(10).await, b"early bird");
    client.head().await;
    assert_eq!(client.take(8).await, b"greeting");
}

#[tokio::test]
async fn a_refusal_is_an_answer_like_any_other() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(ASK).await;
    let mut served = target.accept().await;
    served.head().await;
    served
        .send("HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 8\r\nContent-Length: 3\r\n\r\nno!")
        .await;
    let refusal = client.response().await;
    assert_eq!((refusal.status(), refusal.text()), (426, "no!"));
    client.send(GET).await;
    served.request().await;
    served.send(ok("the same connection")).await;
    assert_eq!(client.response().await.text(), "the same connection");
}

#[tokio::test]
async fn each_side_ends_when_it_has_said_all() {
    let (target, balancer) = one_target().await;
    let (mut client, mut served) = tunnel(&target, &balancer).await;
    client.send("last words").await;
    client.half_close().await;
    assert_eq!(served.rest().await, "last words");
    served.send("an answer to them").await;
    assert_eq!(client.take(17).await, b"an answer to them");
    drop(served);
    assert_eq!(client.rest().await, "");

    let (mut client, mut served) = tunnel(&target, &balancer).await;
    served.send("bye").await;
    drop(served);
    assert_eq!(client.rest().await, "bye");

    let (client, mut served) = tunnel(&target, &balancer).await;
    client.reset();
    assert_eq!(served.rest().await, "");
}

#[tokio::test]
async fn a_tunnel_ends_with_its_connections() {
    let (target, balancer) = one_target().await;
    let (mut client, served) = tunnel(&target, &balancer).await;
    drop(served);
    assert_eq!(client.rest().await, "");
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    served.send(ok("a fresh connection")).await;
    assert_eq!(client.response().await.text(), "a fresh connection");
}

#[tokio::test]
async fn a_tunnel_counts_as_a_request_in_progress() {
    let (target, balancer) = one_target().await;
    let (client, served) = tunnel(&target, &balancer).await;
    let counts = |wanted: u32| {
        let status = balancer.status();
        let now = status.target_groups[0].targets[0].outstanding_requests;
        (now == wanted).then_some(())
    };
    eventually("the tunnel to count", || counts(1)).await;
    drop((client, served));
    eventually("the tunnel to count no more", || counts(0)).await;
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_no_answer() {
    let (target, balancer) = one_target().await;
    for (ask, answer) in [
        (GET, AGREE),
        (
            ASK,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n",
        ),
        (ASK, "HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    ] {
        let (_, response) = once(&target, &balancer, ask, answer).await;
        assert_eq!(response.status(), 502, "{answer}");
    }
}

#[tokio::test]
async fn what_cannot_be_had_is_not_asked_for() {
    let (target, balancer) = one_target().await;
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Content-Length: 2\r\n\r\nhi",
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let (seen, response) = once(&target, &balancer, request, &ok("plain")).await;
        assert_eq!(response.status(), 200);
        assert_eq!(seen.header("Upgrade"), None, "{request}");
        let connection = seen.header("Connection").unwrap_or_default();
        assert!(
            !connection.to_ascii_lowercase().contains("upgrade"),
            "{request}"
        );
    }
}

#[tokio::test]
async fn a_tunnel_lives_as_long_as_either_side_speaks() {
    let idle = Duration::from_millis(600);
    let target = Target::start().await;
    let balancer = LoadBalancer::adjusted(&[target.address()], |config| {
        config.load_balancer.idle_timeout = idle;
    })
    .await;
    let (mut client, mut served) = tunnel(&target, &balancer).await;
    let began = Instant::now();
    while began.elapsed() < idle * 3 {
        served.send("tick").await;
        assert_eq!(client.take(4).await, b"tick");
        tokio::time::sleep(idle / 6).await;
    }
    let quiet_since = Instant::now();
    assert_eq!(client.rest().await, "");
    assert_eq!(served.rest().await, "");
    // The clock of a worker is up to a tick old.
    assert!(quiet_since.elapsed() + Duration::from_millis(300) >= idle);
}

#[tokio::test]
async fn a_tunnel_is_recorded_when_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let target = Target::start().await;
    let balancer = LoadBalancer::adjusted(&[target.address()], |config| {
        config.load_balancer.access_log = Some(AccessLog {
            sink: AccessLogSink::File(path.clone()),
            format: AccessLogFormat::Alb,
        });
    })
    .await;
    let (mut client, mut served) = tunnel(&target, &balancer).await;
    client.send("12345").await;
    served.take(5).await;
    drop((client, served));
    let line = eventually("a record", || line_of(&path)).await;
    let fields: Vec<&str> = line.split(' ').collect();
    assert_eq!((fields[0], fields[8], fields[9]), ("ws", "101", "101"));
    assert_eq!(fields[10], (ASK.len() + 5).to_string());
    assert!(line.contains("\"GET http://a:"), "{line}");
}

fn line_of(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().next().map(str::to_owned)
}
