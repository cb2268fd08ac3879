//! What happens when somebody falls silent, or takes long, or goes away. Times are far below those of a real
//! configuration, and nothing here depends on how late a reaction comes.

use std::path::Path;
use std::time::{Duration, Instant};

use albedo::model::{AccessLog, AccessLogFormat, AccessLogSink, Config};

use crate::support::{LoadBalancer, Served, Target, eventually, ok};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Short enough to wait for, long enough that a slow machine is not taken for a silent peer.
const IDLE: Duration = Duration::from_millis(600);

fn impatient(config: &mut Config) {
    config.load_balancer.idle_timeout = IDLE;
    config.limits.header_timeout = IDLE;
}

async fn one_target() -> (Target, LoadBalancer) {
    let target = Target::start().await;
    let balancer = LoadBalancer::adjusted(&[target.address()], impatient).await;
    (target, balancer)
}

#[tokio::test]
async fn a_head_that_does_not_go_on_gets_408() {
    let (target, balancer) = one_target().await;
    for beginning in ["G", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mut client = balancer.client().await;
        let began = Instant::now();
        client.send(beginning).await;
        let response = client.response().await;
        assert_eq!(
            (response.status(), response.header("Connection")),
            (408, Some("close"))
        );
        assert_eq!(client.rest().await, "");
        assert!(began.elapsed() >= IDLE && target.is_left_alone().await);
    }
}

#[tokio::test]
async fn a_body_that_does_not_go_on_gets_408_and_its_target_connection_ends() {
    let (target, balancer) = one_target().await;
    for body in [
        "Content-Length: 10\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let mut client = balancer.client().await;
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\n{body}"))
            .await;
        let mut served = target.accept().await;
        served.head().await;
        let response = client.response().await;
        assert_eq!(
            (response.status(), response.header("Connection")),
            (408, Some("close"))
        );
        let seen = served.rest().await;
        assert!(
            seen.contains("hello") && !seen.contains("0\\r\\n\\r\\n"),
            "{seen}"
        );
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let (target, balancer) = one_target().await;
    let mut fresh = balancer.client().await;
    assert_eq!(fresh.rest().await, "");
    let mut used = balancer.client().await;
    used.send(GET).await;
    let (mut served, _) = target.serve().await;
    served.send(ok("hello")).await;
    used.response().await;
    assert_eq!(used.rest().await, "");
}

#[tokio::test]
async fn an_empty_line_behind_a_body_begins_no_request() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\r\n")
        .await;
    let (mut served, _) = target.serve().await;
    served.send(ok("hello")).await;
    assert_eq!(client.response().await.status(), 200);
    assert_eq!(client.rest().await, "", "not a word, 408 least of all");
}

#[tokio::test]
async fn an_empty_line_in_two_parts_begins_no_request() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    served.send(ok("hello")).await;
    assert_eq!(client.response().await.status(), 200);
    client.send("\r").await;
    tokio::time::sleep(IDLE / 4).await;
    client.send("\n").await;
    assert_eq!(client.rest().await, "", "not a word, 408 least of all");
}

#[tokio::test]
async fn an_empty_line_does_not_keep_a_connection_open() {
    let target = Target::start().await;
    let change = |config: &mut Config| config.load_balancer.idle_timeout = 2 * IDLE;
    let balancer = LoadBalancer::adjusted(&[target.address()], change).await;
    let mut client = balancer.client().await;
    tokio::time::sleep(IDLE).await;
    let sent = Instant::now();
    client.send("\r\n").await;
    assert_eq!(client.rest().await, "");
    assert!(sent.elapsed() < 2 * IDLE, "{:?}", sent.elapsed());
}

#[tokio::test]
async fn a_second_empty_line_is_no_request() {
    let (_target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send("\r\n").await;
    tokio::time::sleep(IDLE / 4).await;
    client.send("\r\n").await;
    assert_eq!(client.response().await.status(), 400);
}

#[tokio::test]
async fn a_target_that_stays_silent_becomes_504_and_the_client_may_go_on() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    for request in [
        GET,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let began = Instant::now();
        client.send(request).await;
        let (mut served, _) = target.serve().await;
        let response = client.response().await;
        assert!(began.elapsed() >= IDLE);
        assert_eq!(
            (response.status(), response.header("Connection")),
            (504, Some("keep-alive"))
        );
        assert_eq!(served.rest().await, "");
        assert!(target.is_left_alone().await, "silence is not tried again");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_go_on_is_cut_off() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    served
        .send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        .await;
    client.head().await;
    assert_eq!(client.rest().await, "hello");
    assert_eq!(served.rest().await, "");
}

/// How long somebody slow waits between two bytes; six of them take longer than the idle timeout.
async fn pause() {
    tokio::time::sleep(IDLE / 4).await;
}

#[tokio::test]
async fn a_slow_upload_lives_as_long_as_bytes_come() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n")
        .await;
    let mut served = target.accept().await;
    served.head().await;
    for byte in b"slowly".chunks(1) {
        pause().await;
        client.send(byte).await;
    }
    assert_eq!(served.take(6).await, b"slowly");
    served.send(ok("got it")).await;
    assert_eq!(client.response().await.text(), "got it");
}

#[tokio::test]
async fn a_slow_head_lives_as_long_as_its_own_time() {
    let target = Target::start().await;
    let balancer = LoadBalancer::adjusted(&[target.address()], |config| {
        config.load_balancer.idle_timeout = IDLE;
        config.limits.header_timeout = Duration::from_secs(60);
    })
    .await;
    let mut client = balancer.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ").await;
    for byte in b"slowly".chunks(1) {
        pause().await;
        client.send(byte).await;
    }
    pause().await;
    // Longer than an idle timeout between two bytes, too.
    tokio::time::sleep(IDLE * 3 / 2).await;
    client.send("\r\n\r\n").await;
    let (mut served, request) = target.serve().await;
    assert_eq!(request.header("X"), Some("slowly"));
    served.send(ok("hello")).await;
    assert_eq!(client.response().await.text(), "hello");
}

#[tokio::test]
async fn a_client_may_end_its_side_behind_a_slow_upload() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n")
        .await;
    for byte in b"slowly".chunks(1) {
        pause().await;
        client.send(byte).await;
    }
    client.half_close().await;
    let (mut served, request) = target.serve().await;
    assert_eq!(request.text(), "slowly");
    served.send(ok("got it")).await;
    assert_eq!(client.response().await.text(), "got it");
}

#[tokio::test]
async fn a_slow_download_lives_as_long_as_bytes_come() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    served
        .send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        .await;
    for byte in b"slowly".chunks(1) {
        pause().await;
        served.send(byte).await;
    }
    assert_eq!(client.response().await.text(), "slowly");
}

#[tokio::test]
async fn an_upload_keeps_alive_an_exchange_whose_answer_began() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n")
        .await;
    let mut served = target.accept().await;
    served.head().await;
    served
        .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        .await;
    client.head().await;
    for byte in b"slowly".chunks(1) {
        pause().await;
        client.send(byte).await;
    }
    assert_eq!(served.take(6).await, b"slowly");
    served.send("done").await;
    assert_eq!(client.take(4).await, b"done");
}

#[tokio::test]
async fn an_idle_connection_to_a_target_is_closed() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    served.send(ok("hello")).await;
    client.response().await;
    assert_eq!(served.rest().await, "");
}

#[tokio::test]
async fn a_connection_that_lived_its_time_is_answered_once_more_and_closed() {
    let target = Target::start().await;
    let balancer = LoadBalancer::adjusted(&[target.address()], |config| {
        config.load_balancer.client_keep_alive = Duration::ZERO;
    })
    .await;
    let mut client = balancer.client().await;
    client.send(GET.repeat(2)).await;
    let (mut served, _) = target.serve().await;
    served.send(ok("last")).await;
    let response = client.response().await;
    assert_eq!(
        (response.text(), response.header("Connection")),
        ("last", Some("close"))
    );
    assert_eq!(client.rest().await, "");
    assert!(served.is_quiet().await);
}

/// A load balancer that logs to this file.
async fn logging(target: &Target, file: &Path) -> LoadBalancer {
    let sink = AccessLogSink::File(file.to_owned());
    let log = AccessLog {
        sink,
        format: AccessLogFormat::Json,
    };
    LoadBalancer::adjusted(&[target.address()], |config| {
        config.load_balancer.access_log = Some(log)
    })
    .await
}

/// The first line of a log, once it is there.
async fn first_line(file: &Path) -> serde_json::Value {
    let line = eventually("a line in the access log", || {
        let text = std::fs::read_to_string(file).ok()?;
        text.split_once('\n').map(|(line, _)| line.to_owned())
    });
    serde_json::from_str(&line.await).unwrap()
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_waits_is_460_in_the_log_and_its_target_connection_ends() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let target = Target::start().await;
    let balancer = logging(&target, &log).await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    client.reset();
    assert_eq!(served.rest().await, "");
    let record = first_line(&log).await;
    assert_eq!(record["elb_status_code"], 460);
    assert_eq!(record["target_status_code"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_client_that_goes_away_amid_its_answer_ends_its_target_connection() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    served
        .send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nhello")
        .await;
    client.head().await;
    client.reset();
    assert_flood_ends(&mut served, &balancer).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_cut_off() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    served
        .send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nhello")
        .await;
    assert_flood_ends(&mut served, &balancer).await;
    assert!(client.rest().await.len() < 100_000_000);
}

/// Sends more of an answer until the load balancer wants no more of it.
async fn assert_flood_ends(served: &mut Served, balancer: &LoadBalancer) {
    let more = vec![b'x'; 64 * 1024];
    let flood = async {
        loop {
            served.send(&more).await;
        }
    };
    let gone = eventually("the end of the request", || {
        let busy = balancer.status().target_groups[0].targets[0].outstanding_requests;
        (busy == 0).then_some(())
    });
    tokio::select! { () = flood => {}, () = gone => {} }
}
