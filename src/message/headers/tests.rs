//! What targets and clients get to see, header by header.

use proptest::prelude::*;

use super::*;
use crate::message::TlsFacts;

const NOW: u32 = 0x6789_1233;
const RANDOM: [u64; 2] = [0xabcd_ef01_2345_6789, 0x1234_5678];
const ROOT: &str = "Root=1-67891233-abcdef012345678912345678";

fn policy() -> Forwarding {
    Forwarding {
        preserve_host_header: false,
        drop_invalid_header_fields: false,
        xff_header_processing: model::XffHeaderProcessing::Append,
        xff_client_port: false,
        x_amzn_tls_version_and_cipher_suite: false,
        fallback_host: b"datarobot"[..].into(),
        host_port: None,
        x_forwarded_port: b"80"[..].into(),
    }
}

fn on_8080() -> Forwarding {
    Forwarding {
        host_port: Some(b":8080"[..].into()),
        x_forwarded_port: b"8080"[..].into(),
        ..policy()
    }
}

fn client() -> Client {
    Client {
        peer: "198.51.100.7:4321".parse().unwrap(),
        local: "192.0.2.1:80".parse().unwrap(),
        tls: None,
    }
}

fn tls_client() -> Client {
    Client {
        tls: Some(TlsFacts {
            version: "TLSv1.2",
            cipher: "ECDHE-RSA-AES128-GCM-SHA256",
            server_name: None,
        }),
        ..client()
    }
}

fn send(request: &mut Request, policy: &Forwarding) -> Result<InvalidNames, Error> {
    toward_target(request, &client(), policy, NOW, RANDOM)
}

/// What a target sees of these headers, sorted, without what every request gets.
fn seen(headers: &[(&str, &str)], policy: &Forwarding) -> Vec<String> {
    let mut request = Request::for_test("/", "a.com", headers);
    send(&mut request, policy).unwrap();
    let always = [
        "host",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-amzn-trace-id",
    ];
    let mut seen: Vec<_> = lines(&request.headers)
        .into_iter()
        .filter(|line| {
            !always
                .iter()
                .any(|name| line.starts_with(&format!("{name}: ")))
        })
        .collect();
    seen.sort();
    seen
}

fn lines(headers: &Headers) -> Vec<String> {
    let line = |(name, value): (&[u8], &[u8])| {
        let name = name.to_ascii_lowercase();
        format!("{}: {}", name.escape_ascii(), value.escape_ascii())
    };
    headers.iter().map(line).collect()
}

fn values<'a>(request: &'a Request, name: &str) -> Vec<&'a str> {
    request.headers.lines(name)
}

#[test]
fn plain_request_gets_albs_headers() {
    let mut request = Request::for_test("/", "a.com", &[("Host", "a.com"), ("Accept", "*/*")]);
    send(&mut request, &policy()).unwrap();
    let mut seen = lines(&request.headers);
    seen.sort();
    assert_eq!(
        seen,
        [
            "accept: */*",
            "host: a.com",
            &format!("x-amzn-trace-id: {ROOT}"),
            "x-forwarded-for: 198.51.100.7",
            "x-forwarded-port: 80",
            "x-forwarded-proto: http",
        ]
    );
}

#[test]
fn hop_by_hop_headers_end_here() {
    let sent = [
        ("Connection", "keep-alive, Upgrade, HTTP2-Settings"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eA=="),
        ("TE", "trailers"),
        ("Trailer", "X-Sum"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABk"),
        ("Expect", "100-continue"),
        ("Content-Length", "0"),
        ("Via", "1.1 front"),
    ];
    assert_eq!(
        seen(&sent, &policy()),
        [
            "content-length: 0",
            "proxy-authorization: Basic eA==",
            "via: 1.1 front"
        ]
    );
}

#[test]
fn connection_takes_nominated_headers_with_it() {
    let sent = [
        ("Connection", "close, X-One,, x-TWO"),
        ("connection", "\tx-three ,bad name,caf\u{e9}"),
        ("X-One", "1"),
        ("x-two", "2"),
        ("X-Two", "2 again"),
        ("X-Three", "3"),
        ("X-Four", "4"),
    ];
    let mut request = Request::for_test("/", "a.com", &sent[..1]);
    for (name, value) in &sent[1..] {
        request
            .headers
            .append_named(name.as_bytes(), value.as_bytes());
    }
    send(&mut request, &policy()).unwrap();
    assert!(request.headers.line("x-four").is_some());
    for name in ["connection", "x-one", "x-two", "x-three"] {
        assert!(request.headers.line(name).is_none(), "{name}");
    }
}

#[test]
fn connection_may_name_so_much_and_no_more() {
    let many = vec!["x-a"; NOMINATED_MAX].join(",,");
    let sent = [
        ("X-A", "1"),
        ("X-B", "2"),
        ("Connection", &*format!("{many}, x-b")),
    ];
    assert_eq!(seen(&sent, &policy()), ["x-b: 2"]);
}

/// F1 of the test list: Traefik CVE-2024-45410 and its like.
#[test]
fn connection_cannot_take_what_we_add_nor_framing_nor_host() {
    let nominated = "Host, CONTENT-LENGTH, X-Forwarded-For, x-forwarded-Proto, X-Forwarded-Port, X-Amzn-Trace-Id, \
                     X-Amzn-Tls-Version";
    let sent = [
        ("Connection", nominated),
        ("Host", "a.com"),
        ("Content-Length", "3"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Amzn-Trace-Id", "Root=1-a-b"),
    ];
    let mut request = Request::for_test("/", "a.com", &sent);
    let policy = Forwarding {
        x_amzn_tls_version_and_cipher_suite: true,
        ..policy()
    };
    toward_target(&mut request, &tls_client(), &policy, NOW, RANDOM).unwrap();
    assert_eq!(values(&request, "host"), ["a.com"]);
    assert_eq!(values(&request, "content-length"), ["3"]);
    assert_eq!(
        values(&request, "x-forwarded-for"),
        ["10.0.0.1, 198.51.100.7"]
    );
    assert_eq!(values(&request, "x-forwarded-proto"), ["https"]);
    assert_eq!(values(&request, "x-forwarded-port"), ["80"]);
    assert_eq!(values(&request, "x-amzn-tls-version"), ["TLSv1.2"]);
    assert!(values(&request, "x-amzn-trace-id")[0].ends_with(";Root=1-a-b"));
}

/// F2: names that a CGI-like target cannot tell from ours.
#[test]
fn names_that_become_ours_with_underscores_are_dropped() {
    let sent = [
        ("X_Forwarded_For", "10.0.0.1"),
        ("X-Forwarded_For", "10.0.0.1"),
        ("x_forwarded-proto", "https"),
        ("X_Forwarded_Host", "evil"),
        ("X_Amzn_Trace_Id", "Root=1-a-b"),
        ("X_Amzn_Oidc_Data", "evil"),
        ("X-Amzn-Mtls_Clientcert", "evil"),
        ("Content_Length", "5"),
        ("Transfer_Encoding", "chunked"),
        ("X_Custom", "stays"),
        ("Client_Id", "stays"),
        ("X_F", "stays"),
    ];
    assert_eq!(
        seen(&sent, &policy()),
        ["client_id: stays", "x_custom: stays", "x_f: stays"]
    );
}

/// F3: the client has no say in these.
#[test]
fn proto_and_port_are_overwritten() {
    let sent = [
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Proto", "wss"),
        ("X-Forwarded-Port", "1"),
    ];
    let mut request = Request::for_test("/", "a.com", &sent);
    send(&mut request, &on_8080()).unwrap();
    assert_eq!(values(&request, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&request, "x-forwarded-port"), ["8080"]);
}

/// F4: also while the features that add them are off.
#[test]
fn identity_headers_of_clients_are_stripped() {
    let sent = [
        ("X-Amzn-Mtls-Clientcert", "evil"),
        ("x-amzn-mtls-clientcert-subject", "CN=root"),
        ("X-Amzn-Oidc-Data", "evil"),
        ("X-AMZN-OIDC-IDENTITY", "root"),
        ("X-Amzn-Tls-Version", "TLSv1.3"),
        ("X-Amzn-RequestId", "stays"),
    ];
    assert_eq!(seen(&sent, &policy()), ["x-amzn-requestid: stays"]);
}

#[test]
fn invalid_names_are_dropped_where_asked() {
    let sent = [("X_Custom", "1"), ("x.y", "2"), ("x-ok-1", "3")];
    assert_eq!(seen(&sent, &policy()).len(), 3);
    let drop = Forwarding {
        drop_invalid_header_fields: true,
        ..policy()
    };
    assert_eq!(seen(&sent, &drop), ["x-ok-1: 3"]);
}

#[test]
fn forwarded_for_in_every_mode() {
    use model::XffHeaderProcessing::{Append, Preserve, Remove};
    let plain: &[&str] = &[];
    for (mode, sent, expected) in [
        (Append, plain, &["198.51.100.7"][..]),
        (Append, &["10.0.0.1"], &["10.0.0.1, 198.51.100.7"]),
        (
            Append,
            &["10.0.0.1", "", "::1, x"],
            &["10.0.0.1, ::1, x, 198.51.100.7"],
        ),
        (Preserve, plain, &[]),
        (Preserve, &["10.0.0.1", "::1"], &["10.0.0.1", "::1"]),
        (Remove, plain, &[]),
        (Remove, &["10.0.0.1", "::1"], &[]),
    ] {
        let sent: Vec<_> = sent
            .iter()
            .map(|value| ("X-Forwarded-For", *value))
            .collect();
        let mut request = Request::for_test("/", "a.com", &sent);
        let policy = Forwarding {
            xff_header_processing: mode,
            ..policy()
        };
        send(&mut request, &policy).unwrap();
        assert_eq!(
            values(&request, "x-forwarded-for"),
            expected,
            "{mode:?} {sent:?}"
        );
    }
}

#[test]
fn client_address_is_written_as_alb_writes_it() {
    for (peer, bare, with_port) in [
        ("1.2.3.4:8080", "1.2.3.4", "1.2.3.4:8080"),
        ("255.0.10.100:1", "255.0.10.100", "255.0.10.100:1"),
        ("[2001:db8::1]:8080", "2001:db8::1", "[2001:db8::1]:8080"),
        ("[::ffff:1.2.3.4]:8080", "1.2.3.4", "1.2.3.4:8080"),
    ] {
        for (xff_client_port, expected) in [(false, bare), (true, with_port)] {
            let mut request = Request::for_test("/", "a.com", &[]);
            let client = Client {
                peer: peer.parse().unwrap(),
                ..client()
            };
            let policy = Forwarding {
                xff_client_port,
                ..policy()
            };
            toward_target(&mut request, &client, &policy, NOW, RANDOM).unwrap();
            assert_eq!(values(&request, "x-forwarded-for"), [expected]);
        }
    }
}

#[test]
fn more_than_30_forwarded_addresses_are_refused() {
    let fifteen = ["10.0.0.1"; 15].join(", ");
    let sixteen = ["10.0.0.1"; 16].join(",");
    let fits = [
        ("X-Forwarded-For", &*fifteen),
        ("X-Forwarded-For", &*fifteen),
    ];
    let over = [
        ("X-Forwarded-For", &*fifteen),
        ("X-Forwarded-For", &*sixteen),
    ];
    assert_eq!(
        send(&mut Request::for_test("/", "a.com", &fits), &policy()),
        Ok(InvalidNames::None)
    );
    assert_eq!(
        send(&mut Request::for_test("/", "a.com", &over), &policy()),
        Err(Error::TooManyForwardedAddresses)
    );
}

#[test]
fn tls_facts_are_sent_where_asked_and_known() {
    let on = Forwarding {
        x_amzn_tls_version_and_cipher_suite: true,
        ..policy()
    };
    for (client, policy, expected) in [
        (tls_client(), on.clone(), &["TLSv1.2"][..]),
        (tls_client(), policy(), &[]),
        (client(), on, &[]),
    ] {
        let mut request = Request::for_test("/", "a.com", &[]);
        toward_target(&mut request, &client, &policy, NOW, RANDOM).unwrap();
        assert_eq!(values(&request, "x-amzn-tls-version"), expected);
        assert_eq!(
            values(&request, "x-amzn-tls-cipher-suite").len(),
            expected.len()
        );
    }
}

#[test]
fn trace_lines_are_joined_and_continued() {
    let sent = [
        ("X-Amzn-Trace-Id", "Root=1-a-b"),
        ("X-Amzn-Trace-Id", "Q=1"),
    ];
    let mut request = Request::for_test("/", "a.com", &sent);
    send(&mut request, &policy()).unwrap();
    let expected = format!("{};Root=1-a-b;Q=1", ROOT.replace("Root", "Self"));
    assert_eq!(values(&request, "x-amzn-trace-id"), [expected]);
}

#[test]
fn host_follows_the_listeners_port() {
    for (policy, authority, expected) in [
        (policy(), "example.com", "example.com"),
        (policy(), "example.com:80", "example.com"),
        (policy(), "Example.COM", "example.com"),
        (policy(), "[2001:DB8::1]:443", "[2001:db8::1]"),
        (policy(), "", "datarobot"),
        (on_8080(), "example.com", "example.com:8080"),
        (on_8080(), "example.com:", "example.com:8080"),
        (on_8080(), "example.com:8080", "example.com:8080"),
        (on_8080(), "Example.com:18080", "example.com:18080"),
        (on_8080(), "[::1]", "[::1]:8080"),
    ] {
        let sent = [("Host", authority)];
        let sent = if authority.is_empty() { &[][..] } else { &sent };
        let mut request = Request::for_test("/", authority, sent);
        send(&mut request, &policy).unwrap();
        assert_eq!(values(&request, "host"), [expected], "{authority}");
    }
}

#[test]
fn authority_of_an_absolute_target_wins_and_only_one_host_is_sent() {
    let sent = [("Host", "example.com"), ("Host", "other.com")];
    let mut request = Request::for_test("/x", "dns", &sent);
    send(&mut request, &policy()).unwrap();
    assert_eq!(values(&request, "host"), ["dns"]);
}

#[test]
fn preserved_host_is_untouched_and_made_only_where_there_is_none() {
    let preserve = Forwarding {
        preserve_host_header: true,
        ..on_8080()
    };
    let sent = [("Host", "Example.com:80"), ("Host", "other.com")];
    let mut request = Request::for_test("/x", "dns", &sent);
    send(&mut request, &preserve).unwrap();
    assert_eq!(values(&request, "host"), ["Example.com:80", "other.com"]);

    let mut request = Request::for_test("/x", "Example.com", &[]);
    request.version = Version::HTTP_2;
    send(&mut request, &preserve).unwrap();
    assert_eq!(values(&request, "host"), ["Example.com"]);
}

#[test]
fn cookie_crumbs_of_http2_become_one_line() {
    let crumbs = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")];
    let mut request = Request::for_test("/", "a.com", &crumbs);
    request.version = Version::HTTP_2;
    send(&mut request, &policy()).unwrap();
    assert_eq!(values(&request, "cookie"), ["a=1; b=2; c=3"]);
    let mut request = Request::for_test("/", "a.com", &crumbs);
    send(&mut request, &policy()).unwrap();
    assert_eq!(values(&request, "cookie").len(), 3, "HTTP/1.1 lines stay");
}

fn back(headers: &[(&str, &str)]) -> Vec<String> {
    let mut headers = Request::for_test("/", "", headers).headers;
    toward_client(&mut headers, b"now");
    let mut lines = lines(&headers);
    lines.sort();
    lines
}

#[test]
fn answer_loses_what_ends_here_and_keeps_its_server_and_date() {
    let sent = [
        ("Server", "nginx"),
        ("Date", "then"),
        ("Connection", "close, X-Hop, Content-Length"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "close"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2c"),
        ("X-Hop", "1"),
        ("Content-Length", "2"),
        ("Trailer", "X-Sum"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    ];
    let kept = [
        "content-length: 2",
        "date: then",
        "server: nginx",
        "set-cookie: a=1",
        "set-cookie: b=2",
    ];
    assert_eq!(back(&sent), kept);
}

#[test]
fn answer_without_a_date_gets_one() {
    assert_eq!(back(&[("Server", "x")]), ["date: now", "server: x"]);
}

proptest! {
    /// Whatever a client sends, the target reads our facts and nothing that only we may say.
    #[test]
    fn no_client_can_speak_for_us(
        sent in proptest::collection::vec((TELLING_NAME, TELLING_VALUE), 0..12),
        authority in "[a-zA-Z.]{1,9}(:[0-9]{1,5})?",
    ) {
        let mut request = Request::for_test("/", &authority, &[]);
        for (name, value) in &sent {
            // Without regard to case `k` is also the Kelvin sign, which no name holds.
            if name.is_ascii() {
                request.headers.append_named(name.as_bytes(), value.as_bytes());
            }
        }
        send(&mut request, &policy()).unwrap();
        prop_assert_eq!(values(&request, "x-forwarded-proto"), ["http"]);
        prop_assert_eq!(values(&request, "x-forwarded-port"), ["80"]);
        for name in ["host", "x-forwarded-for", "x-amzn-trace-id"] {
            prop_assert_eq!(values(&request, name).len(), 1, "{}", name);
        }
        prop_assert!(values(&request, "x-forwarded-for")[0].ends_with("198.51.100.7"));
        for (name, _) in request.headers.iter() {
            let name = str::from_utf8(name).unwrap().to_lowercase();
            for ours in ["x_forwarded", "x-amzn-tls", "x-amzn-oidc", "connection"] {
                prop_assert!(!name.starts_with(ours), "{}", name);
            }
            prop_assert_ne!(name, "te");
        }
    }
}

const TELLING_NAME: &str = "(?i)(connection|host|te|x-[a-z_]{1,3}\
    |x[-_]forwarded[-_](for|proto|port)|x[-_]amzn[-_](trace-id|tls-version|oidc-data))";
const TELLING_VALUE: &str = "(?i)(close|[a-z,; =]{0,12}\
    |(x-forwarded-(for|proto|port)|host|x-amzn-trace-id)(, ?[a-z-]{1,9})?)";

#[test]
fn addresses_are_written_as_they_are_known() {
    let mut addresses: Vec<IpAddr> = (0..=255_u8)
        .map(|octet| IpAddr::from([octet, 255 - octet, octet, 0]))
        .collect();
    addresses.push("2001:db8::1".parse().unwrap());
    for address in addresses {
        let mut text = Vec::new();
        write_address(&mut text, address);
        assert_eq!(String::from_utf8(text).unwrap(), address.to_string());
    }
}
