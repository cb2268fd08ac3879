//! U: connections that stop being HTTP, and those that only seem to.

use crate::support::{LoadBalancer, Target, ok};

use super::{FINE, Fort};

const ASK: &str = "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

async fn one_target() -> (Target, LoadBalancer) {
    let target = Target::start().await;
    let balancer = LoadBalancer::before(&[target.address()]).await;
    (target, balancer)
}

#[tokio::test]
async fn u1_bytes_before_the_101() {
    let (target, balancer) = one_target().await;
    // Answered otherwise, what came with it is a request like any other.
    let mut client = balancer.client().await;
    client.send(format!("{ASK}{FINE}")).await;
    let mut served = target.accept().await;
    served.head().await;
    assert!(served.is_quiet().await);
    served.send(ok("no")).await;
    assert_eq!(client.response().await.text(), "no");
    let request = match served.next().await {
        Some(request) => {
            served.send(ok("fine")).await;
            request
        }
        None => {
            let (mut fresh, request) = target.serve().await;
            fresh.send(ok("fine")).await;
            request
        }
    };
    assert_eq!(request.line(), "GET /fine HTTP/1.1");
    assert_eq!(client.response().await.text(), "fine");
    // With a body there is nothing to agree to.
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    let with_body = ASK.replace("Host: a", "Host: a\r\nContent-Length: 5");
    client.send(format!("{with_body}hello")).await;
    let (mut served, request) = target.serve().await;
    assert_eq!(request.header("Upgrade"), None);
    assert_eq!(request.text(), "hello");
    served.send(AGREE).await;
    assert_eq!(client.response().await.status(), 502);
}

#[tokio::test]
async fn u2_a_200_that_says_upgrade() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(ASK).await;
    let mut served = target.accept().await;
    served.head().await;
    served
        .send("HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nevil")
        .await;
    let response = client.response().await;
    assert_eq!((response.status(), response.text()), (200, "ok"));
    assert_eq!(response.header("Upgrade"), None);
    client.send(FINE).await;
    let (mut fresh, _) = target.serve().await;
    fresh.send(ok("fine")).await;
    assert_eq!(client.response().await.text(), "fine");
}

#[tokio::test]
async fn u3_a_tunnel_never_serves_another() {
    let (target, balancer) = one_target().await;
    let mut client = balancer.client().await;
    client.send(ASK).await;
    let mut served = target.accept().await;
    served.head().await;
    served.send(AGREE).await;
    client.head().await;
    drop(client);
    assert_eq!(served.rest().await, "");
    let mut other = balancer.client().await;
    other.send(FINE).await;
    let (mut fresh, _) = target.serve().await;
    fresh.send(ok("fine")).await;
    assert_eq!(other.response().await.text(), "fine");
}

#[tokio::test]
async fn u4_h2c_is_not_spoken_to_targets() {
    let fort = Fort::new().await;
    for seen in fort
        .passes(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        )
        .await
    {
        let seen = seen.to_ascii_lowercase();
        assert!(
            !seen.contains("h2c") && !seen.contains("http2-settings"),
            "{seen}"
        );
        assert!(!seen.contains("upgrade"), "{seen}");
    }
    // With prior knowledge, on a port for HTTP/1.
    fort.refuses(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
}

#[tokio::test]
async fn u5_connect_and_what_comes_with_it() {
    let fort = Fort::new().await;
    for target in ["a:80", "/", "http://a/"] {
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n{FINE}");
        fort.refuses(405, request).await;
    }
}

#[tokio::test]
async fn u6_headers_of_a_websocket() {
    let (target, balancer) = one_target().await;
    // What the target must judge, it sees.
    let mut client = balancer.client().await;
    client
        .send(ASK.replace("Host: a", "Host: a\r\nOrigin: https://evil.example"))
        .await;
    let mut served = target.accept().await;
    let head = served.head().await;
    assert!(head.contains("\r\nOrigin: https://evil.example"), "{head}");
    served
        .send("HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status(), 403);
    // What is no request for one is none for the target either.
    for (from, to) in [
        ("Connection: Upgrade\r\n", ""),
        ("GET /socket", "POST /socket"),
        ("Upgrade: websocket\r\n", "Upgrade: websocket, h2c\r\n"),
    ] {
        let mut client = balancer.client().await;
        client.send(ASK.replace(from, to)).await;
        let (mut served, seen) = target.serve().await;
        assert_eq!(seen.header("Upgrade"), None, "{to:?}");
        served
            .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .await;
        assert_eq!(client.response().await.status(), 200, "{to:?}");
    }
}

#[tokio::test]
async fn u7_protocols_over_http_2() {
    let fort = Fort::new().await;
    // RFC 8441: the one protocol that is known is `websocket`.
    for protocol in ["connect-udp", "h2c", ""] {
        let mut frames = fort.frames().await;
        let mut block = crate::http2::minimal("CONNECT", "/");
        block.extend(crate::http2::literal(":protocol", protocol));
        frames
            .send(crate::http2::HEADERS, crate::http2::END_HEADERS, 1, &block)
            .await;
        let refused = async {
            while let Some(frame) = frames.next().await {
                match frame.kind {
                    crate::http2::RST_STREAM | crate::http2::GOAWAY => return,
                    // Any answer but 200, which stands in the static table.
                    crate::http2::HEADERS => return assert_ne!(frame.payload[0], 0x88),
                    _ => {}
                }
            }
        };
        refused.await;
    }
    assert_eq!(fort.target.requests(), 0);
}
