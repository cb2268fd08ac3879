//! F: headers that claim to be somebody else's.

use std::time::Duration;

use albedo::model::{AccessLog, AccessLogFormat, AccessLogSink, ProxyProtocol};

use crate::scene::{Conversation, until};

use super::{Fort, echo};

fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .filter(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: web.example\r\n{lines}\r\n\r\n")
}

#[tokio::test]
async fn f1_connection_takes_nothing_of_ours_away() {
    let fort = Fort::new().await;
    for nominated in [
        "X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Port, X-Amzn-Trace-Id, Host",
        "x-forwarded-for, x-forwarded-proto,x-forwarded-port , x-amzn-trace-id, host, close",
    ] {
        for mut client in fort.doors().await {
            let request = get(&format!(
                "Connection: {nominated}\r\nX-Forwarded-For: 10.0.0.1"
            ));
            let (_, seen) = client.ask(&request).await;
            for name in [
                "X-Forwarded-Proto",
                "X-Forwarded-Port",
                "X-Amzn-Trace-Id",
                "Host",
            ] {
                assert_eq!(values(&seen, name).len(), 1, "{name}: {seen}");
            }
            let forwarded = values(&seen, "X-Forwarded-For");
            assert!(
                forwarded.len() == 1 && forwarded[0].ends_with("127.0.0.1"),
                "{seen}"
            );
        }
    }
}

#[tokio::test]
async fn f2_names_that_a_target_may_take_for_ours() {
    let fort = Fort::new().await;
    let request = get(
        "X_Forwarded_For: 10.0.0.1\r\nX-Forwarded_Proto: https\r\nX_Amzn_Trace_Id: x\r\nContent_Length: 5",
    );
    // The last of them is ambiguous, so both connections end behind it.
    for mut client in fort.doors().await {
        let (head, seen) = client.ask(&request).await;
        assert!(head.contains("Connection: close"), "{head}");
        assert!(!seen.contains('_'), "{seen}");
    }
    let mut frames = fort.frames().await;
    frames
        .head(
            1,
            crate::http2::END_STREAM,
            &[("x_forwarded_for", "10.0.0.1")],
        )
        .await;
    frames.until(crate::http2::HEADERS, 1).await;
    assert!(!fort.target.last_request().contains("10.0.0.1"));
}

#[tokio::test]
async fn f3_what_a_stranger_says_of_the_way_here() {
    let fort = Fort::new().await;
    let request = get(
        "X-Forwarded-Proto: gopher\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Proto: x\r\nX-Forwarded-Port: 2",
    );
    let schemes = ["http", "https"];
    for (seen, scheme) in fort.passes(&request).await.iter().zip(schemes) {
        assert_eq!(values(seen, "X-Forwarded-Proto"), [scheme], "{seen}");
        let ports = values(seen, "X-Forwarded-Port");
        let is_ours = |port: &str| {
            let listeners = fort.running.listeners();
            listeners.iter().any(|one| one.port().to_string() == port)
        };
        assert!(ports.len() == 1 && is_ours(ports[0]), "{seen}");
    }
}

#[tokio::test]
async fn f4_identities_that_only_we_may_tell() {
    let fort = Fort::new().await;
    let lines = [
        "X-Amzn-Mtls-Clientcert: me",
        "x-amzn-mtls-clientcert-subject: me",
        "X-Amzn-Oidc-Identity: me",
        "X_Amzn_Oidc_Data: me",
        "X-Amzn-Tls-Version: me",
    ];
    for seen in fort.passes(&get(&lines.join("\r\n"))).await {
        assert!(!seen.contains(": me"), "{seen}");
    }
    let mut frames = fort.frames().await;
    let headers = [
        ("x-amzn-mtls-clientcert", "me"),
        ("x-amzn-oidc-identity", "me"),
    ];
    frames.head(1, crate::http2::END_STREAM, &headers).await;
    frames.until(crate::http2::HEADERS, 1).await;
    assert!(!fort.target.last_request().contains(": me"));
}

#[tokio::test]
async fn f5_a_proxy_header_of_somebody_who_is_not_trusted() {
    let headers: [&[u8]; 3] = [
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x01\x0a\0\0\x02\0\x01\0\x02",
        b"PROXY UNKNOWN\r\n",
    ];
    // Where only others are trusted, their own address among what the header names: not a word.
    let others = Fort::with(echo().await, |config| {
        for listener in &mut config.listeners {
            let trusted = vec!["10.0.0.0/8".parse().unwrap(), "::/0".parse().unwrap()];
            listener.proxy_protocol = Some(ProxyProtocol { trusted });
        }
    })
    .await;
    // Where nobody is: bytes that are no request, and no handshake.
    let nobody = Fort::new().await;
    for header in headers {
        for door in others.running.listeners() {
            let mut client = Conversation::to(door).await;
            client.say([header, get("").as_bytes()].concat()).await;
            assert_eq!(client.end().await, "", "{}", header.escape_ascii());
        }
        for door in nobody.running.listeners() {
            let mut client = Conversation::to(door).await;
            client.say([header, get("").as_bytes()].concat()).await;
            let heard = client.end().await;
            assert!(heard.starts_with("HTTP/1.1 400 "), "{heard}");
        }
    }
    for fort in [&others, &nobody] {
        assert_eq!(fort.target.requests(), 0);
    }
    nobody.serves().await;
}

#[tokio::test]
async fn f5_proxy_headers_that_lie_about_themselves() {
    let fort = Fort::with(echo().await, |config| {
        let trusted = vec!["127.0.0.1/32".parse().unwrap()];
        config.listeners[0].proxy_protocol = Some(ProxyProtocol { trusted });
        config.limits.handshake_timeout = Duration::from_millis(500);
    })
    .await;
    let header = |command: u8, family: u8, length: u16, rest: &[u8]| {
        let [high, low] = length.to_be_bytes();
        let fixed = [command, family, high, low];
        [b"\r\n\r\n\0\r\nQUIT\n", &fixed[..], rest].concat()
    };
    let addresses = [10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2];
    // Without an address of their own: the proxy's stays, whatever follows.
    for (command, family, length) in [
        (0x20, 0, 0),
        (0x20, 0x11, 12),
        (0x21, 0, 12),
        (0x21, 0x31, 216),
    ] {
        let rest = vec![10; length];
        let mut client = fort.clear().await;
        client
            .say(header(command, family, length as u16, &rest))
            .await;
        let seen = client.get("/").await;
        assert_eq!(values(&seen, "X-Forwarded-For"), ["127.0.0.1"], "{seen}");
    }
    // A TLV that is longer than the header it stands in.
    let mut client = fort.clear().await;
    let rest = [&addresses[..], &[4, 0xff, 0xff]].concat();
    client.say(header(0x21, 0x11, 15, &rest)).await;
    let seen = client.get("/").await;
    assert_eq!(values(&seen, "X-Forwarded-For"), ["10.0.0.1"], "{seen}");
    // Shorter than its addresses, 64 KiB, an unknown version, and one that stops in each of its parts.
    let whole = header(0x21, 0x11, 12, &addresses);
    for bytes in [
        &header(0x21, 0x11, 11, &addresses)[..],
        &header(0x21, 0x11, u16::MAX, &[0; 70_000]),
        &header(0x31, 0x11, 12, &addresses),
        &whole[..11],
        &whole[..15],
        &whole[..27],
    ] {
        let mut client = fort.clear().await;
        client.say(bytes).await;
        assert_eq!(client.end().await, "");
    }
}

#[tokio::test]
async fn f6_a_line_of_the_log_is_one_request() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let fort = Fort::with(echo().await, |config| {
        let (sink, format) = (AccessLogSink::File(file.clone()), AccessLogFormat::Alb);
        config.load_balancer.access_log = Some(AccessLog { sink, format });
    })
    .await;
    let agent = "User-Agent: a\" \"-\" \\\x1b[31m\u{2028}\t\u{85}x";
    let request =
        format!("GET /\"x\"?\\\u{7f4}\u{1b5} HTTP/1.1\r\nHost: web.example\r\n{agent}\r\n\r\n");
    fort.passes(&request.replace('\x1b', "")).await;
    fort.refuses(400, &request).await;
    // HTTP/1.0 has no Host to tell.
    fort.passes("GET / HTTP/1.0\r\n\r\n").await;
    let text = || std::fs::read_to_string(&file).unwrap_or_default();
    until("six lines are there", || text().lines().count() >= 6).await;
    let text = text();
    assert_eq!(text.lines().count(), 6);
    for line in text.lines() {
        assert!(
            line.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
            "{line}"
        );
        assert_eq!(line.matches('"').count() % 2, 0, "{line}");
        assert!(line.starts_with("http"), "{line}");
    }
}

#[tokio::test]
async fn f7_credentials_go_to_the_target_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let fort = Fort::with(echo().await, |config| {
        config.target_groups[0].health_check.interval = std::time::Duration::from_millis(20);
        let (sink, format) = (AccessLogSink::File(file.clone()), AccessLogFormat::Json);
        config.load_balancer.access_log = Some(AccessLog { sink, format });
    })
    .await;
    let lines = "Authorization: Basic hidden\r\nCookie: session=hidden";
    for seen in fort.passes(&get(lines)).await {
        assert!(seen.contains("Authorization: Basic hidden") && seen.contains("session=hidden"));
    }
    let asked = fort.target.probes();
    until("the target is asked for its health", || {
        fort.target.probes() > asked + 1
    })
    .await;
    let probes = fort.target.seen.probes.lock().unwrap().join("\n");
    assert!(!probes.contains("hidden"), "{probes}");
    let log = || std::fs::read_to_string(&file).unwrap_or_default();
    until("both are written down", || log().lines().count() >= 2).await;
    assert!(!log().contains("hidden"));
}
