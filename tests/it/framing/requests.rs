//! Requests on their way to a target.

use crate::support::{Framed, LoadBalancer, Target, ok, pass};

const GET: &str = "GET / HTTP/1.1\r\nHost: a:1\r\n\r\n";

/// A request with a chunked body of these bytes.
fn chunked(body: &str) -> String {
    format!("POST /c HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

async fn one_target() -> (Target, LoadBalancer) {
    let target = Target::start().await;
    let balancer = LoadBalancer::before(&[target.address()]).await;
    (target, balancer)
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_go_one_by_one() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.send(["/1", "/2", "/3"].map(request).concat()).await;
    let mut served = target.accept().await;
    for path in ["/1", "/2", "/3"] {
        let request = served.request().await;
        assert_eq!(request.line(), format!("GET {path} HTTP/1.1"));
        assert!(served.is_quiet().await, "{path}");
        served.send(ok(path)).await;
        assert_eq!(client.response().await.text(), path);
    }
    assert!(target.is_left_alone().await);
}

#[tokio::test]
async fn a_pipelined_request_may_follow_a_body_in_one_packet() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    let with_length = "POST /l HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\n\r\nhello";
    client
        .send([with_length, &chunked("5\r\nhello\r\n0\r\n\r\n"), GET].concat())
        .await;
    let mut served = target.accept().await;
    for (line, body) in [("POST /l", "hello"), ("POST /c", "hello"), ("GET /", "")] {
        let request = served.request().await;
        assert_eq!(
            (request.line(), request.text()),
            (&*format!("{line} HTTP/1.1"), body)
        );
        served.send(ok(line)).await;
        assert_eq!(client.response().await.text(), line);
    }
}

#[tokio::test]
async fn a_connection_serves_many_requests_with_all_sorts_of_bodies() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    served.send(ok("")).await;
    assert_eq!(client.response().await.text(), "");
    let long = "x".repeat(300_000);
    let with_length =
        format!("PUT /l HTTP/1.1\r\nHost: a:1\r\nContent-Length: 300000\r\n\r\n{long}");
    let empty = "POST / HTTP/1.1\r\nHost: a:1\r\nContent-Length: 0\r\n\r\n";
    let chunks = chunked("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n");
    for _ in 0..10 {
        for (request, body) in [
            (&*with_length, &*long),
            (empty, ""),
            (&chunks, "hello world"),
            (GET, ""),
        ] {
            let (seen, response) = pass(&mut client, request, &mut served, ok(body)).await;
            assert!(seen.text() == body && response.text() == body);
        }
    }
    assert!(target.is_left_alone().await);
}

#[tokio::test]
async fn chunk_extensions_and_trailers_end_here() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client
        .send(chunked(
            "5;a=b;c=\"d\"\r\nhello\r\n00;x\r\nX-Forwarded-For: 6.6.6.6\r\nX: y\r\n\r\n",
        ))
        .await;
    let (mut served, request) = target.serve().await;
    assert_eq!(request.raw_body, b"5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(request.header("X-Forwarded-For"), Some("127.0.0.1"));
    served.send(ok("fine")).await;
    assert_eq!(client.response().await.text(), "fine");
    assert!(served.is_quiet().await);
}

#[tokio::test]
async fn chunks_outside_the_grammar_are_refused_and_the_target_never_sees_their_end() {
    let bodies = [
        "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\n\r\n",
        "5\r\nhello\r\n0\r\nX y\r\n\r\n",
        "5\r\nhello\r\n0\r\n: y\r\n\r\n",
        "5\r\nhello\r\n0\r\n X: y\r\n\r\n",
        "5\r\nhello\r\n0\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n",
        &format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000)),
        &format!("5\r\nhello\r\n0\r\nX: {}\r\n\r\n", "x".repeat(20_000)),
    ];
    let (target, balancer) = one_target().await;
    for body in bodies {
        let mut client = balancer.client().await;
        client.send(chunked(body)).await;
        let response = client.response().await;
        assert_eq!(
            (response.status(), response.header("Connection")),
            (400, Some("close")),
            "{body:?}"
        );
        assert_eq!(client.rest().await, "", "{body:?}");
        let seen = target.accept().await.rest().await;
        assert!(!seen.ends_with("0\\r\\n\\r\\n"), "{body:?}: {seen}");
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_is_closed_unless_it_asks_otherwise() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client
        .send("GET /1 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        .await;
    let (mut served, request) = target.serve().await;
    assert_eq!(request.line(), "GET /1 HTTP/1.1");
    assert_eq!(request.header("Connection"), None);
    served.send(ok("one")).await;
    let response = client.response().await;
    assert_eq!(
        (response.text(), response.header("Connection")),
        ("one", Some("keep-alive"))
    );
    let (request, response) = pass(
        &mut client,
        "GET /2 HTTP/1.0\r\n\r\n",
        &mut served,
        ok("two"),
    )
    .await;
    assert_eq!(
        request.header("Host"),
        Some(&*format!("albedo:{}", balancer.port()))
    );
    assert_eq!(
        (response.text(), response.header("Connection")),
        ("two", Some("close"))
    );
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_client_that_says_close_is_answered_and_closed() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (mut served, _) = target.serve().await;
    served.send(ok("bye")).await;
    let response = client.response().await;
    assert_eq!(
        (response.text(), response.header("Connection")),
        ("bye", Some("close"))
    );
    assert_eq!(client.rest().await, "");
    assert!(served.is_quiet().await && target.is_left_alone().await);
}

#[tokio::test]
async fn a_body_that_nobody_wants_is_not_asked_for() {
    let rule = "{ priority: 1, conditions: [ { path_pattern: [ /fixed ] } ], actions: [ { fixed_response: { status_code: 401 } } ] }";
    let balancer = LoadBalancer::with_rules(&[], rule, |_| {}).await;
    // A rule that answers itself, a group without targets, a method that nobody may use.
    for (line, status) in [("POST /fixed", 401), ("POST /", 503), ("TRACE /", 405)] {
        let mut client = balancer.client().await;
        client
            .send(format!(
                "{line} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
            ))
            .await;
        let response = client.response().await;
        assert_eq!(response.status(), status, "{line}");
        // Nobody knows whether the body or another request comes next.
        assert_eq!(response.header("Connection"), Some("close"), "{line}");
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.half_close().await;
        assert_eq!(client.rest().await, "", "{line}");
    }
}

#[tokio::test]
async fn a_client_that_expects_100_is_told_to_go_on_and_the_target_hears_nothing_of_it() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue");
    client.send("hello").await;
    let (mut served, request) = target.serve().await;
    assert_eq!((request.text(), request.header("Expect")), ("hello", None));
    served.send(ok("thanks")).await;
    assert_eq!(client.response().await.text(), "thanks");
}

#[tokio::test]
async fn a_client_that_has_sent_all_it_wants_may_end_its_side() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(GET.repeat(3)).await;
    client.half_close().await;
    let mut served = target.accept().await;
    for body in ["one", "two", "three"] {
        served.request().await;
        served.send(ok(body)).await;
        assert_eq!(client.response().await.text(), body);
    }
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_body_that_ends_early_is_refused_and_its_target_connection_closed() {
    let (target, balancer) = one_target().await;
    let length = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello".to_owned();
    for request in [length, chunked("5\r\nhello\r\n"), chunked("a\r\nhello")] {
        let mut client = balancer.client().await;
        client.send(&request).await;
        let mut served = target.accept().await;
        served.head().await;
        client.half_close().await;
        assert_eq!(client.response().await.status(), 400, "{request:?}");
        assert_eq!(client.rest().await, "");
        let seen = served.rest().await;
        assert!(
            seen.ends_with("hello") || seen.ends_with("hello\\r\\n"),
            "{seen}"
        );
    }
}

#[tokio::test]
async fn what_follows_a_body_is_a_request_of_its_own() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello world")
        .await;
    let (mut served, request) = target.serve().await;
    assert_eq!(request.raw_body, b"hello");
    served.send(ok("five")).await;
    assert_eq!(client.response().await.text(), "five");
    client.send("\r\n\r\n").await;
    assert_eq!(client.response().await.status(), 400);
    assert!(served.is_quiet().await);
}

#[tokio::test]
async fn a_body_that_no_target_wants_is_read_away() {
    let rule = "{ priority: 1, conditions: [ { path_pattern: [ /fixed ] } ], actions: [ { fixed_response: { status_code: 200, message_body: fixed } } ] }";
    let target = Target::start().await;
    let balancer = LoadBalancer::with_rules(&[target.address()], rule, |_| {}).await;
    let mut client = balancer.client().await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    for method in ["DELETE", "POST"] {
        let length = hidden.len();
        client
            .send(format!(
                "{method} /fixed HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{hidden}"
            ))
            .await;
        let response = client.response().await;
        assert_eq!(
            (response.text(), response.header("Connection")),
            ("fixed", Some("keep-alive"))
        );
    }
    client.send(GET).await;
    let (mut served, request) = target.serve().await;
    assert_eq!(request.line(), "GET / HTTP/1.1");
    served.send(ok("next")).await;
    assert_eq!(client.response().await.text(), "next");
}

#[tokio::test]
async fn a_long_body_that_no_target_wants_ends_the_connection() {
    let rule = "{ priority: 1, conditions: [ { path_pattern: [ /fixed ] } ], actions: [ { fixed_response: { status_code: 200, message_body: fixed } } ] }";
    let target = Target::start().await;
    let balancer = LoadBalancer::with_rules(&[target.address()], rule, |_| {}).await;
    for framing in [
        "Content-Length: 65537\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let mut client = balancer.client().await;
        client
            .send(format!("POST /fixed HTTP/1.1\r\nHost: a\r\n{framing}{GET}"))
            .await;
        let response = client.response().await;
        assert_eq!(
            (response.text(), response.header("Connection")),
            ("fixed", Some("close"))
        );
        client.half_close().await;
        assert_eq!(client.rest().await, "");
    }
    assert!(target.is_left_alone().await);
}

#[tokio::test]
async fn an_early_answer_without_a_body_lets_the_connection_go_on_behind_the_upload() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
        .await;
    let mut served = target.accept().await;
    served.head().await;
    served
        .send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(
        (response.status(), response.header("Connection")),
        (417, Some("keep-alive"))
    );
    client.send(format!("world{GET}")).await;
    let (mut fresh, request) = target.serve().await;
    assert_eq!(request.line(), "GET / HTTP/1.1");
    fresh.send(ok("next")).await;
    assert_eq!(client.response().await.text(), "next");
    assert_eq!(served.rest().await, "hello");
}

#[tokio::test]
async fn an_upload_goes_on_while_an_early_answer_comes() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
        .await;
    let mut served = target.accept().await;
    served.head().await;
    assert_eq!(served.take(5).await, b"hello");
    served
        .send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        .await;
    client.head().await;
    assert_eq!(client.take(5).await, b"first");
    client.send("world").await;
    assert_eq!(served.take(5).await, b"world");
    served.send("-last").await;
    assert_eq!(client.take(5).await, b"-last");
}

#[tokio::test]
async fn one_empty_line_before_a_request_is_forgiven() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(format!("\r\n{GET}")).await;
    let (mut served, request) = target.serve().await;
    assert_eq!(request.line(), "GET / HTTP/1.1");
    served.send(ok("fine")).await;
    assert_eq!(client.response().await.text(), "fine");
}

#[tokio::test]
async fn a_url_in_the_request_line_wins_over_the_host_header() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client
        .send("GET hTTp://b.example:1/p?q HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let (mut served, request) = target.serve().await;
    assert_eq!(
        (request.line(), request.header("Host")),
        ("GET /p?q HTTP/1.1", Some("b.example:1"))
    );
    served.send(ok("fine")).await;
    assert_eq!(client.next(Framed::ByHead).await.unwrap().text(), "fine");
}

#[tokio::test]
async fn paths_reach_the_target_as_they_were_sent() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    served.send(ok("")).await;
    client.response().await;
    for path in [
        "/a/../b",
        "//x",
        "/%2e%2E/%2f",
        "/a\\b",
        "/%00",
        "/?a=b?c",
        "/a;b=c",
        "/'\"<>{}|^`",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let (seen, _) = pass(&mut client, request, &mut served, ok("")).await;
        assert_eq!(seen.line(), format!("GET {path} HTTP/1.1"));
    }
}

#[tokio::test]
async fn an_empty_line_after_a_body_begins_nothing() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    let posted = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\r\n";
    client.send(posted).await;
    let (mut served, _) = target.serve().await;
    served.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.response().await.status(), 204);
    client.half_close().await;
    assert_eq!(client.rest().await, "", "it leaves as any idle client does");
}
