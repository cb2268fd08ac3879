//! Responses on their way to a client. A target is trusted no more than a client.

use crate::support::{End, LoadBalancer, Message, Target, ok};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

async fn one_target() -> (Target, LoadBalancer) {
    let target = Target::start().await;
    let balancer = LoadBalancer::before(&[target.address()]).await;
    (target, balancer)
}

/// What a client gets, to the last byte, when it sends `request` and the target answers `answer` and closes.
async fn seen_by_client(request: &str, answer: &str) -> String {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(request).await;
    let (mut served, _) = target.serve().await;
    served.send(answer).await;
    drop(served);
    client.rest().await
}

async fn assert_seen(request: &str, cases: &[(&str, &str)]) {
    for (answer, expected) in cases {
        let answer = answer.replace("D:", "Date: today\r\n");
        let expected = expected
            .replace("D:", "Date: today\r\n")
            .escape_ascii_text();
        assert_eq!(
            seen_by_client(request, &answer).await,
            expected,
            "{answer:?}"
        );
    }
}

trait EscapeText {
    fn escape_ascii_text(&self) -> String;
}

impl EscapeText for String {
    fn escape_ascii_text(&self) -> String {
        self.as_bytes().escape_ascii().to_string()
    }
}

#[tokio::test]
async fn a_client_of_http_1_1_sees_the_end_of_every_answer() {
    let cases = [
        (
            "HTTP/1.1 200 OK\r\nD:Content-Length: 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nD:Content-Length: 2\r\nConnection: close\r\n\r\nhi",
        ),
        (
            "HTTP/1.1 200 OK\r\nD:Content-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nD:Content-Length: 0\r\nConnection: close\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nD:Transfer-Encoding: chunked\r\n\r\n2;x\r\nhi\r\n1\r\n!\r\n0\r\nX: y\r\n\r\n",
            "HTTP/1.1 200 OK\r\nD:Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nD:\r\nhi",
            "HTTP/1.1 200 OK\r\nD:Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ),
        (
            "HTTP/1.0 200 OK\r\nD:\r\n",
            "HTTP/1.1 200 OK\r\nD:Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
        ),
        (
            "HTTP/1.1 404 Nothing Here\r\nD:Connection: close\r\nContent-Length: 2\r\n\r\nno",
            "HTTP/1.1 404 Not Found\r\nD:Content-Length: 2\r\nConnection: close\r\n\r\nno",
        ),
    ];
    assert_seen(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        &cases,
    )
    .await;
}

#[tokio::test]
async fn a_client_of_http_1_0_sees_the_end_of_every_answer() {
    let cases = [
        (
            "HTTP/1.1 200 OK\r\nD:Content-Length: 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nD:Content-Length: 2\r\nConnection: close\r\n\r\nhi",
        ),
        (
            "HTTP/1.1 200 OK\r\nD:Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nD:Connection: close\r\n\r\nhi!",
        ),
        (
            "HTTP/1.1 200 OK\r\nD:\r\nhi",
            "HTTP/1.1 200 OK\r\nD:Connection: close\r\n\r\nhi",
        ),
    ];
    assert_seen("GET / HTTP/1.0\r\n\r\n", &cases).await;
    let chunked = "HTTP/1.1 200 OK\r\nD:Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let until_close = "HTTP/1.1 200 OK\r\nD:Connection: close\r\n\r\nhi";
    assert_seen(
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        &[(chunked, until_close)],
    )
    .await;
}

#[tokio::test]
async fn a_client_of_http_1_0_is_not_told_that_a_broken_answer_is_whole() {
    let (target, balancer) = one_target().await;
    for (rest, end) in [("0\r\n\r\n", End::Closed), ("", End::Reset)] {
        let mut client = balancer.client().await;
        client.send("GET / HTTP/1.0\r\n\r\n").await;
        let (mut served, _) = target.serve().await;
        served
            .send(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n{rest}"
            ))
            .await;
        client.head().await;
        assert_eq!(client.take(2).await, b"hi");
        drop(served);
        assert_eq!(client.end().await, end);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_seen_to_break_off() {
    let cases = [
        (
            "HTTP/1.1 200 OK\r\nD:Content-Length: 10\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nD:Content-Length: 10\r\nConnection: keep-alive\r\n\r\nhello",
        ),
        (
            "HTTP/1.1 200 OK\r\nD:Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "HTTP/1.1 200 OK\r\nD:Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n5\r\nhello\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nD:Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n",
            "HTTP/1.1 200 OK\r\nD:Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n5\r\nhello\r\n",
        ),
    ];
    assert_seen(GET, &cases).await;
}

#[tokio::test]
async fn an_answer_without_length_that_ends_in_a_reset_is_not_whole() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    served.send("HTTP/1.1 200 OK\r\n\r\nhello").await;
    client.head().await;
    assert_eq!(client.take(10).await, b"5\r\nhello\r\n");
    served.reset();
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn answers_that_have_no_body_end_with_their_head() {
    let (target, balancer) = one_target().await;
    let cases = [
        ("HEAD", "200 OK\r\nContent-Length: 5", Some("5"), 200),
        ("HEAD", "200 OK\r\nTransfer-Encoding: chunked", None, 200),
        ("HEAD", "200 OK", None, 200),
        ("GET", "204 No Content", None, 204),
        (
            "GET",
            "304 Not Modified\r\nContent-Length: 5",
            Some("5"),
            304,
        ),
        ("GET", "304 Not Modified", None, 304),
    ];
    for (method, head, length, status) in cases {
        let mut client = balancer.client().await;
        client
            .send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n{GET}"))
            .await;
        let (mut served, _) = target.serve().await;
        served.send(format!("HTTP/1.1 {head}\r\n\r\n")).await;
        let response = client.response_to_head().await;
        assert_eq!(
            (response.status(), response.header("Content-Length")),
            (status, length),
            "{head}"
        );
        assert_eq!(response.header("Transfer-Encoding"), None, "{head}");
        assert_eq!(
            served.request().await.line(),
            "GET / HTTP/1.1",
            "{head}: not on the same connection"
        );
        served
            .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nnext")
            .await;
        assert_eq!(client.response().await.text(), "next", "{head}");
    }
}

#[tokio::test]
async fn bytes_beyond_an_answer_are_never_given_to_the_next_client() {
    let (target, balancer) = one_target().await;
    let evil = ok("evil");
    let answers = [
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi{evil}"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n{evil}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{evil}"),
        format!("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n{evil}"),
        format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n{evil}"),
    ];
    for answer in answers {
        let mut client = balancer.client().await;
        client.send(GET).await;
        let (mut served, _) = target.serve().await;
        served.send(&answer).await;
        assert!(client.response().await.status() < 400, "{answer:?}");
        client.send(GET).await;
        let (mut fresh, _) = target.serve().await;
        fresh
            .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ngood")
            .await;
        assert_eq!(client.response().await.text(), "good", "{answer:?}");
        assert_eq!(served.rest().await, "");
    }
}

#[tokio::test]
async fn a_connection_that_its_target_wants_closed_is_not_used_again() {
    let (target, balancer) = one_target().await;
    let heads = [
        "HTTP/1.1 200 OK\r\nConnection: close",
        "HTTP/1.1 200 OK\r\nConnection: x, Close",
        "HTTP/1.0 200 OK",
    ];
    let mut client = balancer.client().await;
    for head in heads {
        client.send(GET).await;
        let (mut served, _) = target.serve().await;
        served
            .send(format!("{head}\r\nContent-Length: 2\r\n\r\nhi"))
            .await;
        let response = client.response().await;
        assert_eq!(
            (response.text(), response.header("Connection")),
            ("hi", Some("keep-alive")),
            "{head}"
        );
        assert_eq!(served.rest().await, "", "{head}");
    }
}

#[tokio::test]
async fn interim_answers_end_here() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    served.send(format!("{interim}{}", ok("final"))).await;
    let response = client.response().await;
    assert_eq!((response.status(), response.text()), (200, "final"));
    assert_eq!(response.header("Link"), None);
}

/// The answer that a client gets to a GET when a target's answer is this.
async fn answered(bytes: &[u8]) -> Message {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    served.send(bytes).await;
    let response = client.response().await;
    assert_eq!(
        served.rest().await,
        "",
        "the connection to the target is closed"
    );
    response
}

#[tokio::test]
async fn answers_that_are_not_http_become_502() {
    let answers = [
        "garbage\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
        "HTTP/1.1 200 OK\r\nname : x\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nname: x\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nname: \0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        &"HTTP/1.1 100 Continue\r\n\r\n".repeat(17),
        &format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(32 * 1024)),
        &format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(33 * 1024)),
        &format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(300)),
    ];
    for answer in answers {
        let response = answered(answer.as_bytes()).await;
        assert_eq!(response.status(), 502, "{answer:?}");
        assert_eq!(
            response.header("Connection"),
            Some("keep-alive"),
            "{answer:?}"
        );
        assert_eq!(response.body.len(), 122, "{answer:?}");
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_read() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    for byte in GET.as_bytes().chunks(1) {
        client.send(byte).await;
    }
    let (mut served, _) = target.serve().await;
    for byte in ok("hello").as_bytes().chunks(1) {
        served.send(byte).await;
    }
    assert_eq!(client.response().await.text(), "hello");
}

#[tokio::test]
async fn long_answers_arrive_whole_however_they_are_framed() {
    let (target, balancer) = one_target().await;
    let body = "0123456789abcdef".repeat(64 * 1024);
    let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let answers = [
        ok(&body),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"),
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}"),
    ];
    for answer in answers {
        let mut client = balancer.client().await;
        client.send(GET).await;
        let mut served = target.accept().await;
        served.request().await;
        let (response, ()) = tokio::join!(client.response(), async {
            served.send(&answer).await;
            drop(served);
        });
        assert!(response.text() == body);
    }
}
