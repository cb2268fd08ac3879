//! S: where a message ends, and what is hidden behind it.

use albedo::model::{Action, FixedResponse};

use crate::http2::{DATA, END_HEADERS, END_STREAM, HEADERS, literals, minimal};
use crate::scene::{Conversation, Target, until};
use crate::support::{LoadBalancer, ok};

use super::Fort;

const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: web.example\r\n\r\n";

/// A POST with these lines, a chunked end, and a request hidden behind it.
fn post(lines: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: web.example\r\n{lines}\r\n\r\n0\r\n\r\n{HIDDEN}")
}

#[tokio::test]
async fn s1_lengths_that_are_not_one_number() {
    let fort = Fort::new().await;
    for length in [
        "Content-Length:",
        "Content-Length: 5, 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length: 99999999999999999999",
        "Content-Length: 5\r\nContent-Length:",
    ] {
        fort.refuses(400, post(length)).await;
    }
    // Two that agree go on as one.
    for seen in fort
        .passes("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello")
        .await
    {
        assert_eq!(seen.matches("Content-Length").count(), 1, "{seen}");
        assert!(seen.ends_with("\r\n\r\nhello"), "{seen}");
    }
}

#[tokio::test]
async fn s2_a_length_beside_chunks() {
    for lines in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
    ] {
        let fort = Fort::new().await;
        for mut client in fort.doors().await {
            client.say(post(lines)).await;
            let heard = client.end().await;
            assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
            assert!(heard.contains("\r\nConnection: close\r\n"), "{heard}");
            // The target's own words are in the body.
            assert!(heard.contains("Transfer-Encoding: chunked"), "{heard}");
            assert!(!heard.contains("Content-Length: 3"), "{heard}");
            assert!(!heard.contains("/hidden"), "{heard}");
            assert!(!fort.target.last_request().contains("/hidden"));
        }
    }
}

#[tokio::test]
async fn s3_odd_transfer_codings() {
    let fort = Fort::new().await;
    for coding in [
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\x0b",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
    ] {
        fort.refuses(400, post(coding)).await;
    }
    let head = format!(
        "HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
    );
    fort.refuses(400, head).await;
    for (name, value) in [("transfer-encoding", "chunked"), ("te", "chunked")] {
        let mut frames = fort.frames().await;
        frames.head(1, END_STREAM, &[(name, value)]).await;
        frames.refused(1).await;
    }
    assert_eq!(fort.target.requests(), 0);
}

#[tokio::test]
async fn s4_chunks_in_http_1_0() {
    let fort = Fort::new().await;
    for lines in ["", "Connection: keep-alive\r\n"] {
        let request = format!(
            "POST / HTTP/1.0\r\nHost: a\r\n{lines}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
        );
        fort.refuses(400, request).await;
    }
}

#[tokio::test]
async fn s5_sizes_of_chunks() {
    for body in [
        "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
    ] {
        let (say, mut said) = tokio::sync::mpsc::unbounded_channel();
        let target = Target::playing(move |_, mut client: Conversation| {
            let say = say.clone();
            async move {
                say.send(client.end().await).unwrap();
                None
            }
        })
        .await;
        let fort = Fort::with(target, |_| {}).await;
        for mut client in fort.doors().await {
            client
                .say(format!(
                    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}{HIDDEN}"
                ))
                .await;
            let heard = client.end().await;
            assert!(heard.starts_with("HTTP/1.1 400 "), "{body:?}: {heard}");
            assert_eq!(heard.matches("HTTP/1.1 ").count(), 1, "{body:?}: {heard}");
        }
        until("the target is left", || fort.target.open() == 0).await;
        while let Ok(seen) = said.try_recv() {
            assert!(!seen.ends_with("0\r\n\r\n"), "{body:?}: {seen}");
        }
    }
}

#[tokio::test]
async fn s6_what_stands_beside_chunks() {
    let target = crate::support::Target::start().await;
    let balancer = LoadBalancer::before(&[target.address()]).await;
    let mut client = balancer.client().await;
    client
        .send(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;e=f\r\nx\r\n0\r\n\
             X-Forwarded-For: 10.0.0.1\r\nX-Amzn-Mtls-Clientcert: me\r\nAuthorization: me\r\n\r\n",
        )
        .await;
    let (mut served, seen) = target.serve().await;
    assert_eq!(seen.raw_body, b"1\r\nx\r\n0\r\n\r\n");
    assert_eq!(seen.all("X-Forwarded-For"), ["127.0.0.1"]);
    served.send(ok("x")).await;
    assert_eq!(client.response().await.status(), 200);
    // One byte, and thousands beside it.
    for chunks in [
        format!("1;{}\r\nx\r\n", "e".repeat(17 * 1024)),
        format!("1;{}\r\nx\r\n", "e".repeat(8000)).repeat(100),
    ] {
        let mut client = balancer.client().await;
        client
            .send(format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
            ))
            .await;
        assert_eq!(client.response().await.status(), 400);
    }
}

#[tokio::test]
async fn s7_names_that_are_none() {
    let fort = Fort::new().await;
    for line in [
        ": x",
        "name : x",
        "na\0me: x",
        "name: x\0",
        "name: x\r\n Content-Length: 5",
        " Content-Length: 5",
        "Content-Length\r\n: 5",
    ] {
        fort.refuses(400, post(line)).await;
    }
    // CVE-2021-40346: a name longer than a byte can count is a name like any other.
    let name = format!("Content-Length{}", "0".repeat(256));
    let request =
        format!("POST / HTTP/1.1\r\nHost: a\r\n{name}: 1\r\nContent-Length: 5\r\n\r\nhello");
    for seen in fort.passes(&request).await {
        assert!(seen.contains(&format!("\r\n{name}: 1\r\n")), "{seen}");
        assert!(seen.ends_with("\r\n\r\nhello"), "{seen}");
    }
}

#[tokio::test]
async fn s8_lines_that_end_otherwise() {
    let fort = Fort::new().await;
    for request in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\rHost: a\r\r\n\r\n",
        "GET / HTTP/1.1\n\rHost: a\n\r\n\r",
        "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    ] {
        fort.refuses(400, request).await;
    }
}

#[tokio::test]
async fn s9_targets_of_two_minds() {
    let fort = Fort::new().await;
    for line in [
        "GET /a#b HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET a HTTP/1.1",
        "GET http://user@a/ HTTP/1.1",
        "GET ftp://a/ HTTP/1.1",
        "GET @a HTTP/1.1",
    ] {
        fort.refuses(400, format!("{line}\r\nHost: a\r\n\r\n"))
            .await;
    }
    // RFC 9112 §3.2.2: the URL wins, and its host alone goes on.
    for seen in fort
        .passes("GET HTTP://one.example/a HTTP/1.1\r\nHost: other.example\r\n\r\n")
        .await
    {
        assert!(seen.starts_with("GET /a HTTP/1.1\r\n"), "{seen}");
        assert_eq!(seen.matches("Host: one.example").count(), 1, "{seen}");
        assert!(!seen.contains("other.example"), "{seen}");
    }
    // What is no path separator here goes on as it is.
    for seen in fort.passes("GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n").await {
        assert!(seen.starts_with("GET /a\\b HTTP/1.1\r\n"), "{seen}");
    }
    let before = fort.target.requests();
    for (scheme, path) in [
        ("https", "a"),
        ("https", "https://evil.example/"),
        ("https", "/a b"),
        ("https://evil.example/?", "/"),
    ] {
        let mut frames = fort.frames().await;
        let block = literals([
            (":method", "GET"),
            (":scheme", scheme),
            (":path", path),
            (":authority", "web.example"),
        ]);
        frames
            .send(HEADERS, END_STREAM | END_HEADERS, 1, &block)
            .await;
        frames.refused(1).await;
    }
    assert_eq!(fort.target.requests(), before);
    // The library cuts a fragment off, for rules and targets alike.
    let mut frames = fort.frames().await;
    let block = minimal("GET", "/a#b");
    frames
        .send(HEADERS, END_STREAM | END_HEADERS, 1, &block)
        .await;
    frames.until(HEADERS, 1).await;
    assert!(fort.target.last_request().starts_with("GET /a HTTP/1.1"));
}

#[tokio::test]
async fn s10_a_body_that_nobody_reads() {
    let rule = "{ priority: 1, conditions: [ { path_pattern: [ /fixed ] } ], actions: [ { fixed_response: { status_code: 401, message_body: no } } ] }";
    let target = crate::support::Target::start().await;
    let balancer = LoadBalancer::with_rules(&[target.address()], rule, |_| {}).await;
    for method in ["GET", "POST", "DELETE"] {
        // Short: read away. Long, or longer than it says: the connection ends.
        for (length, closes) in [(HIDDEN.len(), method == "GET"), (100_000, true)] {
            let mut client = balancer.client().await;
            client
                .send(format!(
                    "{method} /fixed HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"
                ))
                .await;
            let response = client.response().await;
            assert_eq!(response.status(), 401);
            let connection = if closes { "close" } else { "keep-alive" };
            assert_eq!(response.header("Connection"), Some(connection), "{method}");
            client.half_close().await;
            assert_eq!(client.rest().await, "");
            assert!(target.is_left_alone().await);
        }
    }
}

#[tokio::test]
async fn s10_a_body_that_nobody_reads_whichever_way_it_comes() {
    let fort = Fort::with(super::echo().await, |config| {
        for listener in &mut config.listeners {
            let answer = FixedResponse {
                status_code: 401,
                content_type: None,
                message_body: Some("no".into()),
            };
            listener.default_actions = Action::FixedResponse(answer).into();
        }
    })
    .await;
    for (lines, ends) in [
        (
            format!("Content-Length: {}\r\n\r\n{HIDDEN}", HIDDEN.len()),
            false,
        ),
        (format!("Content-Length: 100000\r\n\r\n{HIDDEN}"), true),
        (
            format!("Transfer-Encoding: chunked\r\n\r\nfffff\r\n{HIDDEN}"),
            true,
        ),
        (
            format!("Expect: 100-continue\r\nContent-Length: 5\r\n\r\n{HIDDEN}"),
            true,
        ),
    ] {
        for mut client in fort.doors().await {
            let request = format!("POST / HTTP/1.1\r\nHost: web.example\r\n{lines}");
            let (head, _) = client.ask(&request).await;
            assert!(head.starts_with("HTTP/1.1 401 "), "{lines:?}: {head}");
            if ends {
                assert_eq!(client.end().await, "", "{lines:?}");
            } else {
                let (head, _) = client.ask(super::FINE).await;
                assert!(head.starts_with("HTTP/1.1 401 "), "{lines:?}: {head}");
            }
        }
    }
    // A stream has an end of its own.
    let client = fort.http2().await;
    let posted = crate::scene::Content::whole("x".repeat(200_000));
    let posted = crate::scene::request("POST", "/", posted);
    if let Ok(response) = client.send_request(posted).await {
        assert_eq!(response.status(), 401);
    }
    assert_eq!(client.get("/next").await.0, 401);
    assert_eq!(fort.target.requests(), 0);
}

#[tokio::test]
async fn s11_expectations() {
    let fort = Fort::new().await;
    for expect in ["100-continuez", "100-continue, x", "x", ""] {
        fort.refuses(400, post(&format!("Expect: {expect}\r\nContent-Length: 5")))
            .await;
    }
    // A target that answers before the body has come gets no other request on that connection.
    for status in ["200 OK", "417 Expectation Failed"] {
        let target = crate::support::Target::start().await;
        let balancer = LoadBalancer::before(&[target.address()]).await;
        let mut client = balancer.client().await;
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            .await;
        let mut served = target.accept().await;
        let head = served.head().await;
        assert!(!head.contains("Expect"), "{head}");
        served
            .send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
            .await;
        assert_eq!(client.response().await.status(), 100);
        let expected: u16 = status[..3].parse().unwrap();
        assert_eq!(client.response().await.status(), expected);
        let mut other = balancer.client().await;
        other.send(HIDDEN).await;
        let (mut fresh, _) = target.serve().await;
        fresh.send(ok("fresh")).await;
        assert_eq!(other.response().await.text(), "fresh");
    }
}

/// A target that gives each request this answer, byte for byte, and stays or goes.
async fn saying(answer: String, stays: bool) -> Target {
    Target::playing(move |_, mut client: Conversation| {
        let answer = answer.clone();
        async move {
            client.write(answer.as_bytes()).await.ok()?;
            stays.then_some(client)
        }
    })
    .await
}

#[tokio::test]
async fn s12_nobody_gets_anothers_answer_whichever_way_it_comes() {
    let evil = ok("evil");
    for (answer, status) in [
        (format!("{}{evil}", ok("hi")), 200),
        (format!("HTTP/1.1 204 No Content\r\n\r\n{evil}"), 204),
        (
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{evil}"),
            200,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx".to_owned(),
            502,
        ),
    ] {
        let fort = Fort::with(saying(answer.clone(), true).await, |_| {}).await;
        let client = fort.http2().await;
        for _ in 0..3 {
            for mut client in fort.doors().await {
                client.say(super::FINE).await;
                let head = client.head().await.unwrap();
                let line = format!("HTTP/1.1 {status} ");
                assert!(head.starts_with(&line), "{answer:?}: {head}");
            }
            let (seen, body) = client.get("/fine").await;
            assert_eq!(seen, status, "{answer:?}");
            assert!(!body.contains("evil"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn s12_interim_answers_without_end() {
    let target = Target::playing(async |_, mut client: Conversation| {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(100);
        while client.write(hints.as_bytes()).await.is_ok() {}
        None
    })
    .await;
    let fort = Fort::with(target, |_| {}).await;
    for mut client in fort.doors().await {
        let (head, _) = client.ask(super::FINE).await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    }
    assert_eq!(fort.http2().await.get("/fine").await.0, 502);
    until("the target is left", || fort.target.open() == 0).await;
}

#[tokio::test]
async fn s12_lengths_that_lie() {
    // Less than it promised: whoever reads it sees that it is not whole.
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
    ] {
        let fort = Fort::with(saying(answer.to_owned(), false).await, |_| {}).await;
        for mut client in fort.doors().await {
            client.say(super::FINE).await;
            let heard = client.end().await;
            assert!(heard.starts_with("HTTP/1.1 200 "), "{answer:?}: {heard}");
            assert!(!heard.contains("\r\n0\r\n\r\n"), "{answer:?}: {heard}");
            assert_eq!(heard.matches("HTTP/1.1 ").count(), 1, "{heard}");
        }
        let client = fort.http2().await;
        let asked = crate::scene::request("GET", "/fine", crate::scene::Content::none());
        // The reset may overtake the head.
        if let Ok(response) = client.send_request(asked).await {
            let body = crate::scene::read(response.into_body()).await;
            assert!(body.is_err(), "{answer:?}");
        }
    }
    // More than it promised: what is more is nobody's.
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi, and more";
    let fort = Fort::with(saying(answer.to_owned(), false).await, |_| {}).await;
    for mut client in fort.doors().await {
        assert_eq!(client.ask(super::FINE).await.1, "hi");
    }
    assert_eq!(
        fort.http2().await.get("/fine").await,
        (200, "hi".to_owned())
    );
}

#[tokio::test]
async fn s12_targets_that_say_too_much() {
    let target = crate::support::Target::start().await;
    let balancer = LoadBalancer::before(&[target.address()]).await;
    let evil = ok("evil");
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(40);
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(33 * 1024));
    for (answer, status) in [
        (format!("{}{evil}", ok("hi")), 200),
        (format!("HTTP/1.1 204 No Content\r\n\r\n{evil}"), 204),
        (
            format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n{evil}"),
            304,
        ),
        (
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{evil}"),
            200,
        ),
        (format!("{interim}{evil}"), 502),
        (large, 502),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx".to_owned(),
            502,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx"
                .to_owned(),
            502,
        ),
    ] {
        let mut client = balancer.client().await;
        client.send(super::FINE).await;
        let (mut served, _) = target.serve().await;
        served.send(&answer).await;
        assert_eq!(client.response().await.status(), status, "{answer:.80}");
        // Whoever comes next is served by another connection.
        let mut other = balancer.client().await;
        other.send(super::FINE).await;
        let (mut fresh, _) = target.serve().await;
        fresh
            .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ngood")
            .await;
        assert_eq!(other.response().await.text(), "good", "{answer:.80}");
        assert_eq!(served.rest().await, "", "{answer:.80}");
    }
}

#[tokio::test]
async fn s13_what_http_2_may_not_say() {
    let fort = Fort::new().await;
    for (name, value) in [
        ("x-value", "a\r\nb: c"),
        ("x-value", "a\nb: c"),
        ("x-value", "a\0b"),
        ("x name", "a"),
        ("x:name", "a"),
        ("X-Name", "a"),
        ("", "a"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        (":path", "/twice"),
        (":authority", "evil.example"),
        ("host", "evil.example"),
    ] {
        let mut frames = fort.frames().await;
        frames.head(1, END_STREAM, &[(name, value)]).await;
        frames.refused(1).await;
    }
    assert_eq!(fort.target.requests(), 0);
    for length in ["4", "6", "5, 5", "x"] {
        let mut frames = fort.frames().await;
        frames.head(1, 0, &[("content-length", length)]).await;
        // It may have been refused already.
        let _ = frames.try_send(DATA, END_STREAM, 1, b"hello").await;
        frames.refused(1).await;
    }
    until("no target is left waiting", || fort.target.open() == 0).await;
    // Two lengths are one too many, whether they agree or not.
    let mut frames = fort.frames().await;
    let mut block = minimal("POST", "/");
    block.extend(literals([("content-length", "5"), ("content-length", "6")]));
    frames.send(HEADERS, END_HEADERS, 1, &block).await;
    let _ = frames.try_send(DATA, END_STREAM, 1, b"hello").await;
    frames.refused(1).await;
    fort.serves().await;
}

#[tokio::test]
async fn s15_a_target_that_answers_before_its_handshake() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let target = tokio::spawn(async move {
        loop {
            let (mut tcp, _) = socket.accept().await.unwrap();
            tcp.write_all(ok("evil").as_bytes()).await.unwrap();
            let _ = tcp.read(&mut [0; 1024]).await;
        }
    });
    let mut web = crate::scene::group("web", &[address]);
    web.protocol = albedo::model::Protocol::Https;
    let running =
        crate::scene::start(crate::scene::config([crate::scene::http("web")], [web])).await;
    let mut client = Conversation::to(running.listeners()[0]).await;
    let (head, body) = client.ask(super::FINE).await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(!body.contains("evil"), "{body}");
    target.abort();
}
