//! The desync mitigation modes: what each lets through, what becomes of both connections then, and what is written
//! down. Which class a request has, `http1/desync` is tested for.

use std::time::Duration;

use albedo::model::{AccessLog, AccessLogFormat, AccessLogSink, DesyncMitigationMode};
use bytes::Bytes;
use http_body::Frame;
use serde_json::Value;

use crate::scene::{Authority, Content, config, group, http2, https, read, request, start, until};
use crate::support::{LoadBalancer, Target, eventually, ok};

use DesyncMitigationMode::{Defensive, Monitor, Strictest};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// 400, and the connection ends.
    Refused,
    /// Answered by the target, and both connections go on.
    Served,
    /// Answered by the target, and both connections end.
    ServedLast,
    /// Answered by the target, whose connection goes on, while that of the client ends.
    ServedLastOfClient,
}
use Outcome::{Refused, Served, ServedLast, ServedLastOfClient};

async fn balancer(mode: DesyncMitigationMode, target: &Target) -> LoadBalancer {
    LoadBalancer::adjusted(&[target.address()], |config| {
        config.load_balancer.desync_mitigation_mode = mode;
    })
    .await
}

/// Sends a request on connections of its own; gives what became of it, and what the target saw.
async fn outcome(mode: DesyncMitigationMode, request: &str) -> (Outcome, String) {
    let target = Target::start().await;
    let balancer = balancer(mode, &target).await;
    let mut client = balancer.client().await;
    client.send(request).await;
    // Told apart by who has something to say first.
    let (mut served, seen) = tokio::select! {
        seen = target.serve() => seen,
        response = client.response() => {
            assert_eq!(response.status(), 400, "{request:?}");
            assert_eq!(client.rest().await, "");
            assert!(target.is_left_alone().await);
            return (Refused, String::new());
        }
    };
    served.send(ok("hello")).await;
    let response = client.response().await;
    assert_eq!(response.text(), "hello");
    let seen = format!(
        "{}\r\n\r\n{}",
        seen.head,
        String::from_utf8_lossy(&seen.raw_body)
    );
    let closes = response.header("Connection") == Some("close");
    if closes {
        assert_eq!(client.rest().await, "");
    }
    // A second client shows whether the target's connection was kept.
    let mut second = balancer.client().await;
    second.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let kept = tokio::select! {
        request = served.next() => request.is_some(),
        _ = target.serve() => false,
    };
    let outcome = match (closes, kept) {
        (false, true) => Served,
        (true, false) => ServedLast,
        (true, true) => ServedLastOfClient,
        (false, false) => panic!("the target's connection alone ended"),
    };
    (outcome, seen)
}

#[tokio::test]
async fn each_mode_lets_through_what_alb_says() {
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for (request, in_monitor, in_defensive, in_strictest) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Served, Served, Served),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            Served,
            Served,
            Served,
        ),
        // GetHeadZeroContentLength, Acceptable.
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            Served,
            Served,
            Refused,
        ),
        // UndefinedContentLengthSemantics, Ambiguous.
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            Served,
            ServedLast,
            Refused,
        ),
        // UndefinedTransferEncodingSemantics, Ambiguous.
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            Served,
            ServedLast,
            Refused,
        ),
        // DuplicateContentLength, Ambiguous.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            Served,
            ServedLast,
            Refused,
        ),
        // BothTeClPresent, Ambiguous. RFC 9112 §6.1 ends the client's connection whatever the mode.
        (chunked, ServedLastOfClient, ServedLast, Refused),
        // SuspiciousHeader, Ambiguous.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent--Length: 5\r\n\r\n",
            Served,
            ServedLast,
            Refused,
        ),
        // MultipleContentLength by a suspicious header, Severe; what our reader frames is let through in monitor.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent--Length: 6\r\nContent-Length: 5\r\n\r\nhello",
            Served,
            Refused,
            Refused,
        ),
        // MultipleContentLength, Severe, and nobody knows where it ends.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nContent-Length: 5\r\n\r\nhello",
            Refused,
            Refused,
            Refused,
        ),
        // Stricter than ALB: SpaceInUri, NonCrLfLineTermination, Acceptable.
        (
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            Refused,
            Refused,
            Refused,
        ),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", Refused, Refused, Refused),
    ] {
        for (mode, expected) in [
            (Monitor, in_monitor),
            (Defensive, in_defensive),
            (Strictest, in_strictest),
        ] {
            let (outcome, _) = outcome(mode, request).await;
            assert_eq!(outcome, expected, "{mode}: {request:?}");
        }
    }
}

#[tokio::test]
async fn what_is_let_through_says_its_end_once() {
    for mode in [Monitor, Defensive] {
        for (request, framing, body) in [
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 05\r\n\r\nhello",
                "Content-Length: 5",
                "hello",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                "Transfer-Encoding: chunked",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                "Transfer-Encoding: chunked",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer--Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
                "Content-Length: 5",
                "hello",
            ),
        ] {
            let (_, seen) = outcome(mode, request).await;
            let (head, seen_body) = seen.split_once("\r\n\r\n").unwrap();
            let said: Vec<&str> = head
                .lines()
                .filter(|line| {
                    let name = line.to_ascii_lowercase();
                    name.starts_with("content-") || name.starts_with("transfer-")
                })
                .collect();
            assert_eq!(
                (said, seen_body),
                (vec![framing], body),
                "{mode}: {request:?}"
            );
        }
    }
}

#[tokio::test]
async fn nothing_behind_a_doubtful_request_is_served() {
    let target = Target::start().await;
    let balancer = balancer(Defensive, &target).await;
    let mut client = balancer.client().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let (mut served, request) = target.serve().await;
    assert_eq!(request.text(), "hello");
    served.send(ok("x")).await;
    assert_eq!(client.response().await.header("Connection"), Some("close"));
    assert_eq!(client.rest().await, "");
    assert_eq!(served.rest().await, "");
    assert!(target.is_left_alone().await);
}

#[tokio::test]
async fn class_and_reason_are_written_down_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let target = Target::start().await;
    let balancer = LoadBalancer::adjusted(&[target.address()], |config| {
        config.load_balancer.desync_mitigation_mode = Strictest;
        let (sink, format) = (AccessLogSink::File(file.clone()), AccessLogFormat::Json);
        config.load_balancer.access_log = Some(AccessLog { sink, format });
    })
    .await;
    for (request, status) in [
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            400,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 0\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n",
            400,
        ),
        ("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        // Behind the empty line that is forgiven.
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
    ] {
        let mut client = balancer.client().await;
        client.send(request).await;
        assert_eq!(client.response().await.status(), status, "{request:?}");
        assert_eq!(client.rest().await, "");
    }
    let lines = eventually("six records", || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        (text.lines().count() == 6).then_some(text)
    })
    .await;
    let told: Vec<(Value, Value)> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|record| {
            let field = |name: &str| record[name].clone();
            (field("classification"), field("classification_reason"))
        })
        .collect();
    let expected = [
        ("Acceptable".into(), "GetHeadZeroContentLength".into()),
        ("Ambiguous".into(), "SuspiciousHeader".into()),
        ("Acceptable".into(), "NonCompliantHeader".into()),
        ("Severe".into(), "BadTransferEncoding".into()),
        (Value::Null, Value::Null),
        ("Acceptable".into(), "NonCompliantHeader".into()),
    ];
    assert_eq!(told, expected);
    for (class, count) in [("Acceptable", "3"), ("Ambiguous", "1"), ("Severe", "1")] {
        let label = format!("class=\"{class}\"");
        let counted = balancer
            .metric("albedo_noncompliant_requests_total", &label)
            .await;
        assert_eq!(counted, count, "{class}");
    }
}

#[tokio::test]
async fn what_comes_over_http_2_is_judged_as_it_goes_on() {
    for (mode, status, closes) in [
        (Monitor, 200, false),
        (Defensive, 200, true),
        (Strictest, 400, true),
    ] {
        let target = crate::http2::echo().await;
        let authority = Authority::new();
        let certificate = authority.sign(&["web.example"]);
        let mut config = config(
            [https("web", &[&certificate])],
            [group("web", &[target.address])],
        );
        config.target_groups[0].health_check.interval = Duration::from_secs(60);
        config.load_balancer.desync_mitigation_mode = mode;
        let running = start(config).await;
        let client = http2(running.listeners()[0], &authority).await;
        // A body in pieces goes on in chunks, and a GET has none: UndefinedTransferEncodingSemantics.
        let (pieces, content) = Content::pieces();
        pieces
            .send(Frame::data(Bytes::from_static(b"hello")))
            .await
            .unwrap();
        drop(pieces);
        let answer = client.send_request(request("GET", "/", content)).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), status, "{mode}");
        let _ = read(answer.into_body()).await;
        if closes {
            until("the target is left", || target.open() == 0).await;
        }
        // The client's connection says where its streams end, and goes on.
        assert_eq!(client.get("/next").await.0, 200, "{mode}");
        assert_eq!(target.open(), 1, "{mode}");
    }
}
