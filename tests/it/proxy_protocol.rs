//! The PROXY protocol: whose connection another load balancer brings, and how targets are told.

use std::sync::Arc;
use std::time::Duration;

use albedo::model::{Config, Limits, ProxyProtocol, ProxyProtocolVersion};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::http2::{Scene, echo};
use crate::scene::{Authority, Conversation, soon};
use crate::support::{Client, End, LoadBalancer, Target, ok};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A header of version 1 for this client.
fn line(client: &str) -> String {
    format!("PROXY TCP4 {client} 203.0.113.80 51515 443\r\n")
}

/// A header of version 2: command, family and what follows the length.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = [0, rest.len() as u8];
    [
        b"\r\n\r\n\0\r\nQUIT\n",
        &[command, family][..],
        &length,
        rest,
    ]
    .concat()
}

/// Has the listener trust these to say whose connection it is.
fn trusting(networks: &str) -> impl FnOnce(&mut Config) {
    let trusted = networks.split(' ').map(|network| network.parse().unwrap());
    let proxy_protocol = Some(ProxyProtocol {
        trusted: trusted.collect(),
    });
    |config| config.listeners[0].proxy_protocol = proxy_protocol
}

async fn proxied() -> (Target, LoadBalancer) {
    let target = Target::start().await;
    let trusting = trusting("127.0.0.0/8 ::1/128");
    let balancer = LoadBalancer::adjusted(&[target.address()], trusting).await;
    (target, balancer)
}

/// The X-Forwarded-For that a target sees of the next request; it answers.
async fn forwarded_for(target: &Target, client: &mut Client) -> String {
    let (mut served, request) = target.serve().await;
    served.send(ok("hello")).await;
    assert_eq!(client.response().await.text(), "hello");
    request.header("X-Forwarded-For").unwrap().to_owned()
}

async fn errors(balancer: &LoadBalancer) -> String {
    let name = "albedo_client_proxy_protocol_errors_total";
    balancer.metric(name, "listener").await
}

#[tokio::test]
async fn a_header_says_who_the_client_is() {
    let addresses = [192, 0, 2, 7, 203, 0, 113, 80, 0xc9, 0x3b, 1, 0xbb];
    let with_more = [&addresses[..], &[4, 0, 3, 1, 2, 3]].concat();
    let mut mapped = [0; 36];
    mapped[10..16].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 7]);
    for (header, client) in [
        (line("192.0.2.7").into_bytes(), "192.0.2.7"),
        (
            b"PROXY TCP6 2001:db8::7 2001:db8::80 51515 443\r\n".to_vec(),
            "2001:db8::7",
        ),
        (binary(0x21, 0x11, &addresses), "192.0.2.7"),
        (binary(0x21, 0x11, &with_more), "192.0.2.7"),
        (binary(0x21, 0x21, &mapped), "192.0.2.7"),
    ] {
        let (target, balancer) = proxied().await;
        // In one piece with a request, and byte by byte.
        let mut whole = balancer.client().await;
        whole.send([&header, GET.as_bytes()].concat()).await;
        assert_eq!(forwarded_for(&target, &mut whole).await, client);
        let mut slow = balancer.client().await;
        for byte in header.chunks(1) {
            slow.send(byte).await;
            tokio::task::yield_now().await;
        }
        slow.send(GET).await;
        assert_eq!(forwarded_for(&target, &mut slow).await, client);
        assert_eq!(errors(&balancer).await, "0");
    }
}

#[tokio::test]
async fn a_proxy_that_speaks_for_itself_keeps_its_address() {
    let (target, balancer) = proxied().await;
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 192.0.2.7 192.0.2.8 1 2\r\n".to_vec(),
        binary(0x20, 0x00, &[]),
        binary(0x20, 0x11, &[192, 0, 2, 7, 192, 0, 2, 8, 0, 1, 0, 2]),
    ] {
        let mut client = balancer.client().await;
        client.send([&header, GET.as_bytes()].concat()).await;
        assert_eq!(forwarded_for(&target, &mut client).await, "127.0.0.1");
    }
}

#[tokio::test]
async fn rules_redirects_and_limits_go_by_the_client_of_the_header() {
    let target = Target::start().await;
    let rules = "{ priority: 1, conditions: [ { source_ip: [ 192.0.2.0/24 ] } ], \
         actions: [ { redirect: { path: \"/moved\", status_code: HTTP_302 } } ] }, \
         { priority: 2, conditions: [ { source_ip: [ 127.0.0.0/8 ] } ], \
         actions: [ { fixed_response: { status_code: 403 } } ] }";
    let balancer = LoadBalancer::with_rules(&[target.address()], rules, |config| {
        trusting("127.0.0.1/32")(config);
        config.limits = Limits {
            connections_per_client: std::num::NonZeroU32::new(1),
            ..Limits::default()
        };
    })
    .await;
    let enter = async |address: &str| {
        let mut client = balancer.client().await;
        client.send(line(address) + GET).await;
        client
    };
    let mut first = enter("192.0.2.7").await;
    let response = first.response().await;
    let location = response.header("Location");
    assert_eq!(
        location,
        Some("http://a:443/moved"),
        "where it connected to"
    );
    // One of the same proxy, and one of the same client.
    let mut other = enter("192.0.2.8").await;
    assert_eq!(other.response().await.status(), 302);
    assert_eq!(enter("192.0.2.7").await.rest().await, "");
    let limited = balancer.metric("albedo_limited_total", "\"connections_per_client\"");
    assert_eq!(limited.await, "1");
    // Who has gone makes room.
    drop(first);
    crate::support::eventually("the first to be gone", || {
        (balancer.status().listeners[0].connections == 1).then_some(())
    })
    .await;
    assert_eq!(enter("192.0.2.7").await.response().await.status(), 302);
}

#[tokio::test]
async fn what_is_no_header_ends_the_connection_unanswered() {
    let (target, balancer) = proxied().await;
    for (count, beginning) in [
        GET,
        "PROXY TCP4 192.0.2.7 203.0.113.80 +1 443\r\n",
        "PROXY TCP4 192.0.2.7\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\n",
        "\u{16}\u{3}\u{1}",
    ]
    .iter()
    .enumerate()
    {
        let mut client = balancer.client().await;
        client.send(beginning).await;
        assert_eq!(client.rest().await, "", "{beginning:?}");
        assert_eq!(errors(&balancer).await, (count + 1).to_string());
    }
    // One that only looks whether somebody listens has done nothing wrong; one that ends in its header has.
    let mut client = balancer.client().await;
    client.half_close().await;
    assert_eq!(client.rest().await, "");
    assert_eq!(errors(&balancer).await, "5");
    let mut client = balancer.client().await;
    client.send("PROXY TCP4 192").await;
    client.half_close().await;
    assert_eq!(client.rest().await, "");
    assert_eq!(errors(&balancer).await, "6");
    assert!(target.is_left_alone().await);
}

#[tokio::test]
async fn a_header_has_the_time_of_a_handshake() {
    let target = Target::start().await;
    let balancer = LoadBalancer::adjusted(&[target.address()], |config| {
        trusting("127.0.0.1/32")(config);
        config.limits.handshake_timeout = Duration::from_millis(300);
    })
    .await;
    for beginning in ["", "PROXY TCP4 192.0.2.7 ", "\r\n\r\n\0\r\nQUIT\n"] {
        let mut client = balancer.client().await;
        client.send(beginning).await;
        assert_eq!(client.rest().await, "");
    }
    let limited = balancer.metric("albedo_limited_total", "\"handshake_timeout\"");
    assert_eq!(limited.await, "3");
    assert_eq!(errors(&balancer).await, "0");
}

#[tokio::test]
async fn a_listener_may_begin_and_cease_to_expect_headers() {
    let (target, mut balancer) = proxied().await;
    let mut before = balancer.client().await;
    before.send(line("192.0.2.7") + GET).await;
    assert_eq!(forwarded_for(&target, &mut before).await, "192.0.2.7");
    balancer
        .apply(|config| config.listeners[0].proxy_protocol = None)
        .await;
    // Who was met stays who it is, on a connection of the target's that is kept.
    before.send(GET).await;
    let mut plain = balancer.client().await;
    plain.send(line("192.0.2.7") + GET).await;
    assert_eq!(plain.response().await.status(), 400);
}

/// A TLS client whose connection begins with a header, in one piece with its hello.
async fn behind_a_header(scene: &Scene, alpn: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut tcp = TcpStream::connect(scene.running.listeners()[0])
        .await
        .unwrap();
    tcp.write_all(line("192.0.2.7").as_bytes()).await.unwrap();
    let connector = TlsConnector::from(Arc::new(scene.authority.client(&[alpn])));
    let name = ServerName::try_from("web.example").unwrap();
    soon("a handshake", connector.connect(name, tcp))
        .await
        .unwrap()
}

#[tokio::test]
async fn tls_begins_behind_the_header() {
    let target = echo().await;
    let scene = Scene::with(&target, trusting("127.0.0.1/32")).await;
    let mut client = Conversation::over(behind_a_header(&scene, "http/1.1").await);
    client.get("/").await;
    let by_two = |request: String| request.contains("X-Forwarded-For: 192.0.2.7\r\n");
    assert!(by_two(target.last_request()));
    let tls = behind_a_header(&scene, "h2").await;
    let io = hyper_util::rt::TokioIo::new(tls);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = crate::scene::request("GET", "/two", crate::scene::Content::none());
    let response = soon("an answer", sender.send_request(request)).await;
    assert_eq!(response.unwrap().status(), 200);
    let seen = target.last_request();
    assert!(seen.starts_with("GET /two ") && by_two(seen));
}

fn telling(version: ProxyProtocolVersion) -> impl FnOnce(&mut Config) {
    move |config| config.target_groups[0].proxy_protocol = Some(version)
}

#[tokio::test]
async fn a_target_is_told_whose_connection_it_is_and_each_has_its_own() {
    let target = Target::start().await;
    let balancer = LoadBalancer::adjusted(&[target.address()], |config| {
        trusting("127.0.0.1/32")(config);
        telling(ProxyProtocolVersion::V1)(config);
    })
    .await;
    for address in ["192.0.2.7", "192.0.2.8", "192.0.2.7"] {
        let mut client = balancer.client().await;
        client.send(line(address)).await;
        for _ in 0..2 {
            client.send(GET).await;
            let mut served = target.accept().await;
            let header = served.take(line(address).len()).await;
            assert_eq!(String::from_utf8(header).unwrap(), line(address));
            let request = served.request().await;
            assert_eq!(request.line(), "GET / HTTP/1.1");
            assert_eq!(request.header("Connection"), Some("close"));
            served.send(ok("hello")).await;
            assert_eq!(client.response().await.text(), "hello");
            assert_eq!(served.end().await, End::Reset, "its port is free again");
        }
    }
}

#[tokio::test]
async fn a_target_that_speaks_tls_is_told_before_that() {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = target.local_addr().unwrap();
    let balancer = LoadBalancer::adjusted(&[address], |config| {
        telling(ProxyProtocolVersion::V2)(config);
        config.target_groups[0].protocol = albedo::model::Protocol::Https;
    })
    .await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut tcp, _) = soon("a connection", target.accept()).await.unwrap();
    let mut header = [0; 28];
    soon("a header", tcp.read_exact(&mut header)).await.unwrap();
    assert_eq!(&header[..16], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
    assert_eq!(&header[16..24], &[127, 0, 0, 1, 127, 0, 0, 1]);
    assert_eq!(&header[26..], &balancer.port().to_be_bytes());
    let certified = Authority::new().sign(&["web.example"]);
    let handshake = TlsAcceptor::from(certified.server()).accept(tcp);
    let mut served = Conversation::over(soon("a handshake", handshake).await.unwrap());
    assert!(served.head().await.unwrap().starts_with("GET / "));
    served.answer("hello").await;
    assert_eq!(client.response().await.text(), "hello");
}

#[tokio::test]
async fn a_health_check_speaks_for_itself() {
    for (version, expected) in [
        (ProxyProtocolVersion::V1, &b"PROXY UNKNOWN\r\nGET "[..]),
        (
            ProxyProtocolVersion::V2,
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET ",
        ),
    ] {
        let target = Target::start().await;
        let _balancer = LoadBalancer::adjusted(&[target.address()], |config| {
            telling(version)(config);
            config.target_groups[0].health_check.port = Default::default();
            config.target_groups[0].health_check.interval = Duration::from_millis(100);
            config.target_groups[0].health_check.timeout = Duration::from_secs(60);
        })
        .await;
        let mut served = target.accept().await;
        assert_eq!(served.take(expected.len()).await, expected);
    }
}

#[tokio::test]
async fn targets_that_are_to_be_told_get_new_connections_at_a_change() {
    let target = Target::start().await;
    let mut balancer = LoadBalancer::before(&[target.address()]).await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut kept, _) = target.serve().await;
    kept.send(ok("hello")).await;
    client.response().await;
    balancer.apply(telling(ProxyProtocolVersion::V1)).await;
    client.send(GET).await;
    let mut served = target.accept().await;
    assert_eq!(served.take(11).await, b"PROXY TCP4 ");
}
