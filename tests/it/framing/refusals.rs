//! Requests that are refused: the client gets a status and its connection ends, and no target hears of it.

use crate::support::{LoadBalancer, Target};

/// Sends each text on a connection of its own; it must be refused with this status, and leave the target alone.
async fn refused(status: u16, requests: impl IntoIterator<Item = impl AsRef<[u8]>>) {
    let target = Target::start().await;
    let balancer = LoadBalancer::before(&[target.address()]).await;
    for request in requests {
        let shown = request.as_ref().escape_ascii().to_string();
        let shown = &shown[..shown.len().min(300)];
        let mut client = balancer.client().await;
        client.send(&request).await;
        let response = client.response().await;
        assert_eq!(response.status(), status, "{shown}");
        assert_eq!(response.header("Connection"), Some("close"), "{shown}");
        assert_eq!(client.rest().await, "", "{shown}");
        assert!(target.is_left_alone().await, "{shown}");
    }
}

/// POST requests with these header lines and a body that one of them might mean; a second request is hidden in it.
fn with_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = String> {
    lines.into_iter().map(|lines| {
        format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n")
    })
}

#[tokio::test]
async fn lengths_that_are_not_one_number_are_refused() {
    let lengths = [
        "Content-Length:",
        "Content-Length: 5, 5",
        "Content-Length: 5, 6",
        "Content-Length: 5,",
        "Content-Length: 5 5",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5.0",
        "Content-Length: 99999999999999999999",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\ncontent-length:",
    ];
    refused(400, with_lines(lengths)).await;
}

#[tokio::test]
async fn a_length_and_a_coding_that_ends_nothing_are_refused() {
    let both = [
        "Transfer-Encoding: identity\r\nContent-Length: 5",
        "Content-Length: 5, 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6\r\nTransfer-Encoding: chunked",
    ];
    refused(400, with_lines(both)).await;
    let old = "POST / HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let head = "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    refused(400, [old, head]).await;
}

#[tokio::test]
async fn odd_transfer_codings_are_refused() {
    let codings = [
        "Transfer-Encoding:",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked\x0b",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\r\n : chunked",
    ];
    refused(400, with_lines(codings)).await;
    let head = "HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let old =
        "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    refused(400, [head, old]).await;
}

#[tokio::test]
async fn codings_that_are_known_and_not_served_get_501() {
    let codings = [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: deflate",
    ];
    refused(501, with_lines(codings)).await;
}

#[tokio::test]
async fn header_lines_outside_the_grammar_are_refused() {
    let lines = [
        ": x",
        "name : x",
        "name\t: x",
        "na me: x",
        " name: x",
        "name",
        "n\0me: x",
        "name: x\0",
        "name: x\x7f",
        "name: x\r\n folded",
        "name: x\r\n\tfolded",
        "n\u{e9}me: x",
        "(name): x",
    ];
    refused(400, with_lines(lines)).await;
}

#[tokio::test]
async fn lines_that_do_not_end_in_crlf_are_refused() {
    let requests = [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\n\rHost: a\n\r\n\r",
        "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    refused(400, requests).await;
}

#[tokio::test]
async fn request_lines_outside_the_grammar_are_refused() {
    let lines = [
        " GET / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/\tHTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.10",
        "GET / HTTP/11",
        "GET /",
        "GET",
        "G(T / HTTP/1.1",
        "GET /a\x01 HTTP/1.1",
        "GET /a\x7f HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET a HTTP/1.1",
        "GET * HTTP/1.1",
        "GET http:/a HTTP/1.1",
        "GET http:///a HTTP/1.1",
        "GET http://user@a/ HTTP/1.1",
        "GET ftp://a/ HTTP/1.1",
        "GET a:80 HTTP/1.1",
    ];
    refused(400, lines.map(|line| format!("{line}\r\nHost: a\r\n\r\n"))).await;
}

#[tokio::test]
async fn requests_without_exactly_one_good_host_are_refused() {
    let hosts = [
        "X: y",
        "Host:",
        "Host: a\r\nHost: a",
        "Host: a\r\nHost: b",
        "Host: a b",
        "Host: a/b",
        "Host: user@a",
        "Host: a:http",
        "Host: a:80:90",
        "Host: a, b",
        "Host: [::1",
        "Host: a?b",
    ];
    refused(
        400,
        hosts.map(|host| format!("GET / HTTP/1.1\r\n{host}\r\n\r\n")),
    )
    .await;
}

#[tokio::test]
async fn unknown_expectations_are_refused() {
    let lines = [
        "Expect: 100-continuez\r\nContent-Length: 5",
        "Expect: 100-continue, x\r\nContent-Length: 5",
        "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5",
        "Expect:\r\nContent-Length: 5",
    ];
    refused(400, with_lines(lines)).await;
}

#[tokio::test]
async fn other_versions_of_http_are_refused() {
    let requests = [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        "GET / HTTP/0.9\r\nHost: a\r\n\r\n",
    ];
    refused(505, requests).await;
}

#[tokio::test]
async fn heads_past_the_limits_are_refused() {
    let long = |count: usize| "a".repeat(count);
    let line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(16 * 1024));
    let unfinished_line = format!("GET /{}", long(17 * 1024));
    refused(414, [line, unfinished_line]).await;
    let header = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        long(16 * 1024)
    );
    let unfinished_header = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", long(17 * 1024));
    let lines = format!("X: {}\r\n", long(1000)).repeat(66);
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let many = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: y\r\n".repeat(300)
    );
    refused(413, [header, unfinished_header, head, many]).await;
}

#[tokio::test]
async fn methods_that_are_not_for_load_balancers_are_refused() {
    let requests = [
        "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    refused(405, requests).await;
}

#[tokio::test]
async fn requests_before_a_refused_one_are_answered() {
    let target = Target::start().await;
    let balancer = LoadBalancer::before(&[target.address()]).await;
    let mut client = balancer.client().await;
    client
        .send("GET /good HTTP/1.1\r\nHost: a\r\n\r\nGET /bad#x HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let (mut served, request) = target.serve().await;
    assert_eq!(request.line(), "GET /good HTTP/1.1");
    served.send(crate::support::ok("good")).await;
    assert_eq!(client.response().await.text(), "good");
    assert_eq!(client.response().await.status(), 400);
    assert_eq!(client.rest().await, "");
    assert!(served.is_quiet().await);
}
