//! What a hop does to headers, toward the target and toward the client: removes what ends here, refuses names
//! that are not the client's to say, adds what ALB adds. Never decides where a request goes.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use http::Version;
use http::header::{CONNECTION, COOKIE, DATE, HOST, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::{Buffer, Client, Error, Request, trace_id};
use crate::model;

/// ALB refuses a request that has been through more proxies than this (463).
const FORWARDED_ADDRESSES_MAX: usize = 30;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_AMZN_TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const X_AMZN_TLS_VERSION: HeaderName = HeaderName::from_static("x-amzn-tls-version");
const X_AMZN_TLS_CIPHER_SUITE: HeaderName = HeaderName::from_static("x-amzn-tls-cipher-suite");

/// What the load balancer's attributes and the listener say about headers.
#[derive(Clone, Debug)]
pub(crate) struct Forwarding {
    preserve_host_header: bool,
    drop_invalid_header_fields: bool,
    xff_header_processing: model::XffHeaderProcessing,
    xff_client_port: bool,
    x_amzn_tls_version_and_cipher_suite: bool,
    /// For HTTP/1.0 requests that name no host; ALB sends its own DNS name.
    fallback_host: Box<[u8]>,
    /// `:port` of a listener on neither 80 nor 443, which ALB writes beside a host without one.
    host_port: Option<Box<[u8]>>,
    x_forwarded_port: HeaderValue,
}

impl Forwarding {
    /// `listener_port` is the bound one, never 0.
    pub(crate) fn build(load_balancer: &model::LoadBalancer, listener_port: u16) -> Self {
        Self {
            preserve_host_header: load_balancer.preserve_host_header,
            drop_invalid_header_fields: load_balancer.drop_invalid_header_fields,
            xff_header_processing: load_balancer.xff_header_processing,
            xff_client_port: load_balancer.xff_client_port,
            x_amzn_tls_version_and_cipher_suite: load_balancer.x_amzn_tls_version_and_cipher_suite,
            fallback_host: load_balancer.name.as_str().as_bytes().into(),
            host_port: match listener_port {
                80 | 443 => None,
                port => Some(format!(":{port}").into_bytes().into()),
            },
            x_forwarded_port: HeaderValue::from(listener_port),
        }
    }
}

/// Makes the client's headers those that the target receives.
///
/// What we add comes after what we remove, so nothing the client nominates or spells oddly can undo it
/// (RFC 9110 §7.6.1).
pub(crate) fn toward_target(
    request: &mut Request,
    client: &Client,
    policy: &Forwarding,
    now_epoch_seconds: u32,
    random: [u64; 2],
) -> Result<(), Error> {
    let headers = &mut request.headers;
    remove_what_ends_here(headers, policy);
    if request.version == Version::HTTP_2 {
        join_cookies(headers)?;
    }
    forwarded_for(headers, client.peer, policy)?;
    set(
        headers,
        X_FORWARDED_PROTO,
        HeaderValue::from_static(client.scheme()),
    )?;
    set(headers, X_FORWARDED_PORT, policy.x_forwarded_port.clone())?;
    if policy.x_amzn_tls_version_and_cipher_suite
        && let Some(tls) = &client.tls
    {
        set(
            headers,
            X_AMZN_TLS_VERSION,
            HeaderValue::from_static(tls.version),
        )?;
        set(
            headers,
            X_AMZN_TLS_CIPHER_SUITE,
            HeaderValue::from_static(tls.cipher),
        )?;
    }
    host(request, policy)?;
    trace(&mut request.headers, now_epoch_seconds, random)
}

/// Makes the target's headers those that the client receives. `version` is the client's, `date` is for targets that
/// send none (RFC 9110 §6.6.1). Server stays the target's. Connection is the listener's affair.
pub(crate) fn toward_client(headers: &mut HeaderMap, version: Version, date: HeaderValue) {
    let mut leaving = Leaving::default();
    let mut dated = false;
    for name in headers.keys() {
        match name.as_str() {
            "connection" => leaving.nominated_by(headers),
            "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade" => {
                leaving.names.push(name.clone());
            }
            // HTTP/1.0 knows no trailers to announce.
            "trailer" if version < Version::HTTP_11 => leaving.names.push(name.clone()),
            "date" => dated = true,
            _ => {}
        }
    }
    leaving.remove_from(headers);
    // A map that is full beyond all limits of a head goes without; better than failing the answer.
    if !dated {
        let _ = headers.try_append(DATE, date);
    }
}

/// One pass over the names finds the rare ones: a request has about ten, and nearly all of them fall through a
/// comparison of lengths. Looking up each name we care for would hash some thirty names for nothing.
fn remove_what_ends_here(headers: &mut HeaderMap, policy: &Forwarding) {
    let mut leaving = Leaving::default();
    for name in headers.keys() {
        match name.as_str() {
            "connection" => leaving.nominated_by(headers),
            text if ends_here(text)
                || impersonates(text)
                || policy.drop_invalid_header_fields && !is_valid(text) =>
            {
                leaving.names.push(name.clone());
            }
            _ => {}
        }
    }
    leaving.remove_from(headers);
}

/// Names for this hop alone (RFC 9110 §7.6.1) or for a proxy (§11.7), and names by which only the load balancer may
/// speak. ALB itself answers `Expect`, and drops trailers with their announcement. `name` is in lower case.
fn ends_here(name: &str) -> bool {
    match name {
        "keep-alive"
        | "te"
        | "trailer"
        | "transfer-encoding"
        | "upgrade"
        | "http2-settings"
        | "expect"
        | "proxy-connection"
        | "proxy-authenticate"
        | "proxy-authorization" => true,
        _ => name.starts_with("x-amzn-") && IDENTITY.iter().any(|prefix| name.starts_with(prefix)),
    }
}

/// Whoever reads these takes them for ours, whether or not the feature that adds them is on.
const IDENTITY: [&str; 3] = ["x-amzn-mtls-", "x-amzn-oidc-", "x-amzn-tls-"];

/// Whether targets that turn `-` into `_` (CGI, WSGI, Rack) would take this name for one of ours, or for framing.
fn impersonates(name: &str) -> bool {
    const TRUSTED: [&str; 7] = [
        "x-forwarded-",
        "x-amzn-trace-id",
        IDENTITY[0],
        IDENTITY[1],
        IDENTITY[2],
        "content-length",
        "transfer-encoding",
    ];
    // The first letter spares most names the search.
    if !matches!(name.as_bytes(), [b'x' | b'c' | b't', ..]) || !name.contains('_') {
        return false;
    }
    TRUSTED.iter().any(|trusted| {
        name.len() >= trusted.len()
            && name
                .bytes()
                .zip(trusted.bytes())
                .all(|(byte, wanted)| byte == wanted || (byte == b'_' && wanted == b'-'))
    })
}

/// ALB's notion for `drop_invalid_header_fields`: `[-A-Za-z0-9]+`. `name` is in lower case.
fn is_valid(name: &str) -> bool {
    name.bytes()
        .all(|byte| matches!(byte, b'-' | b'a'..=b'z' | b'0'..=b'9'))
}

/// Headers to be removed when the pass over their names is done.
#[derive(Default)]
struct Leaving {
    names: SmallVec<[HeaderName; 8]>,
    /// Values of Connection, whose elements are names too.
    nominations: SmallVec<[HeaderValue; 2]>,
}

impl Leaving {
    fn nominated_by(&mut self, headers: &HeaderMap) {
        self.nominations
            .extend(headers.get_all(CONNECTION).iter().cloned());
    }

    fn remove_from(self, headers: &mut HeaderMap) {
        for name in self.names {
            headers.remove(name);
        }
        if self.nominations.is_empty() {
            return;
        }
        headers.remove(CONNECTION);
        let names = self
            .nominations
            .iter()
            .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
            .filter_map(|name| str::from_utf8(name.trim_ascii()).ok());
        for name in names.filter(|name| may_be_nominated(name)) {
            headers.remove(name);
        }
    }
}

/// Connection may not take away what the next hop relies on: framing, the host, and what we add.
fn may_be_nominated(name: &str) -> bool {
    const KEPT: [&str; 2] = ["content-length", "host"];
    const KEPT_PREFIXES: [&str; 2] = ["x-forwarded-", "x-amzn-"];
    // The two usual elements are no headers that could still be here.
    const OPTIONS: [&str; 2] = ["keep-alive", "close"];
    let is_any = |list: &[&str]| list.iter().any(|kept| name.eq_ignore_ascii_case(kept));
    let starts = |kept: &&str| {
        name.get(..kept.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(kept))
    };
    !is_any(&OPTIONS) && !is_any(&KEPT) && !KEPT_PREFIXES.iter().any(starts)
}

/// HTTP/2 clients may cut Cookie into crumbs; elsewhere it is one line (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) -> Result<(), Error> {
    let crumbs = headers.get_all(COOKIE);
    if crumbs.iter().nth(1).is_none() {
        return Ok(());
    }
    let mut cookie = Buffer::new();
    for crumb in crumbs {
        if !cookie.is_empty() {
            cookie.extend_from_slice(b"; ");
        }
        cookie.extend_from_slice(crumb.as_bytes());
    }
    set(headers, COOKIE, header_value(&cookie)?)
}

fn forwarded_for(
    headers: &mut HeaderMap,
    peer: SocketAddr,
    policy: &Forwarding,
) -> Result<(), Error> {
    let sent = headers.get_all(X_FORWARDED_FOR);
    let addresses: usize = sent.iter().map(count_elements).sum();
    if addresses > FORWARDED_ADDRESSES_MAX {
        return Err(Error::TooManyForwardedAddresses);
    }
    match policy.xff_header_processing {
        model::XffHeaderProcessing::Preserve => Ok(()),
        model::XffHeaderProcessing::Remove => {
            headers.remove(X_FORWARDED_FOR);
            Ok(())
        }
        model::XffHeaderProcessing::Append => {
            let mut value = Buffer::new();
            // Several lines are one list (RFC 9110 §5.3); left apart, a target might read only the client's.
            for line in sent.iter().map(HeaderValue::as_bytes) {
                if !line.is_empty() {
                    value.extend_from_slice(line);
                    value.extend_from_slice(b", ");
                }
            }
            if policy.xff_client_port {
                write_address_and_port(&mut value, peer);
            } else {
                write_address(&mut value, peer.ip().to_canonical());
            }
            set(headers, X_FORWARDED_FOR, header_value(&value)?)
        }
    }
}

fn count_elements(list: &HeaderValue) -> usize {
    let elements = list.as_bytes().split(|&byte| byte == b',');
    elements
        .filter(|element| !element.trim_ascii().is_empty())
        .count()
}

fn write_address_and_port(value: &mut Buffer, peer: SocketAddr) {
    let address = peer.ip().to_canonical();
    if address.is_ipv6() {
        value.push(b'[');
        write_address(value, address);
        value.push(b']');
    } else {
        write_address(value, address);
    }
    value.push(b':');
    value.extend_from_slice(itoa::Buffer::new().format(peer.port()).as_bytes());
}

fn write_address(value: &mut Buffer, address: IpAddr) {
    match address {
        // By hand: this is on every request's path, and the formatter costs ten times as much.
        IpAddr::V4(address) => {
            let mut digits = itoa::Buffer::new();
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    value.push(b'.');
                }
                value.extend_from_slice(digits.format(octet).as_bytes());
            }
        }
        IpAddr::V6(address) => {
            let written = write!(Text(value), "{address}");
            debug_assert!(written.is_ok(), "a buffer takes all that is written");
        }
    }
}

/// Lets `write!` reach a buffer of bytes.
struct Text<'a>(&'a mut Buffer);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Host for the target (ALB user guide, "Host header preservation"). The common request carries it already and costs
/// no allocation here.
fn host(request: &mut Request, policy: &Forwarding) -> Result<(), Error> {
    // RFC 9113 §8.3.1: from HTTP/2, Host is what `:authority` says.
    if policy.preserve_host_header
        && request.version != Version::HTTP_2
        && request.headers.contains_key(HOST)
    {
        return Ok(());
    }
    let mut wanted = Buffer::new();
    if policy.preserve_host_header && !request.authority.is_empty() {
        wanted.extend_from_slice(&request.authority);
    } else {
        write_host(&mut wanted, request, policy);
    }
    let mut sent = request.headers.get_all(HOST).iter();
    if sent.next().is_some_and(|sent| sent.as_bytes() == &*wanted) && sent.next().is_none() {
        return Ok(());
    }
    let value = header_value(&wanted)?;
    set(&mut request.headers, HOST, value)
}

/// Lower case; no port on listeners 80 and 443; elsewhere the client's port, or the listener's where it named none.
fn write_host(wanted: &mut Buffer, request: &Request, policy: &Forwarding) {
    let name = match request.host() {
        b"" => &*policy.fallback_host,
        name => name,
    };
    wanted.extend_from_slice(name);
    wanted.make_ascii_lowercase();
    let Some(listener_port) = &policy.host_port else {
        return;
    };
    match request.host_port() {
        None | Some(b"") => wanted.extend_from_slice(listener_port),
        Some(port) => {
            wanted.push(b':');
            wanted.extend_from_slice(port);
        }
    }
}

fn trace(headers: &mut HeaderMap, now_epoch_seconds: u32, random: [u64; 2]) -> Result<(), Error> {
    let next = {
        let sent: SmallVec<[&[u8]; 2]> = headers
            .get_all(X_AMZN_TRACE_ID)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        trace_id::next(&sent, now_epoch_seconds, random)
    };
    set(headers, X_AMZN_TRACE_ID, header_value(&next)?)
}

/// Built of valid values and digits, so this fails only if a value slipped in that never was one.
fn header_value(bytes: &[u8]) -> Result<HeaderValue, Error> {
    HeaderValue::from_bytes(bytes).map_err(|_| Error::MalformedRequest("header value"))
}

/// In place of whatever the client said under this name. `HeaderMap::insert` would panic on a full map.
fn set(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) -> Result<(), Error> {
    match headers.try_insert(name, value) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::HeadTooLarge),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
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
            x_forwarded_port: HeaderValue::from(80),
        }
    }

    fn on_8080() -> Forwarding {
        Forwarding {
            host_port: Some(b":8080"[..].into()),
            x_forwarded_port: HeaderValue::from(8080),
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

    fn send(request: &mut Request, policy: &Forwarding) -> Result<(), Error> {
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

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        headers.iter().map(line).collect()
    }

    fn values<'a>(request: &'a Request, name: &str) -> Vec<&'a str> {
        let values = request.headers.get_all(name).iter();
        values
            .map(|value| str::from_utf8(value.as_bytes()).unwrap())
            .collect()
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
            ["content-length: 0", "via: 1.1 front"]
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
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request.headers.append(name, value);
        }
        send(&mut request, &policy()).unwrap();
        assert!(request.headers.contains_key("x-four"));
        for name in ["connection", "x-one", "x-two", "x-three"] {
            assert!(!request.headers.contains_key(name), "{name}");
        }
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
            Ok(())
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

    fn back(headers: &[(&str, &str)], version: Version) -> Vec<String> {
        let mut headers = Request::for_test("/", "", headers).headers;
        toward_client(&mut headers, version, HeaderValue::from_static("now"));
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
            "trailer: X-Sum",
        ];
        assert_eq!(back(&sent, Version::HTTP_2), kept);
        assert_eq!(back(&sent, Version::HTTP_11), kept);
        assert_eq!(back(&sent, Version::HTTP_10), kept[..5]);
    }

    #[test]
    fn answer_without_a_date_gets_one() {
        assert_eq!(
            back(&[("Server", "x")], Version::HTTP_11),
            ["date: now", "server: x"]
        );
    }

    proptest! {
        /// Whatever a client sends, the target reads our facts and nothing that only we may say.
        #[test]
        fn no_client_can_speak_for_us(
            sent in proptest::collection::vec(
                (
                    "(?i)(connection|x[-_]forwarded[-_](for|proto|port)|x[-_]amzn[-_](trace-id|tls-version|oidc-data)|host|te|x-[a-z_]{1,3})",
                    "(?i)(close|[a-z,; =]{0,12}|(x-forwarded-(for|proto|port)|host|x-amzn-trace-id)(, ?[a-z-]{1,9})?)",
                ),
                0..12,
            ),
            authority in "[a-zA-Z.]{1,9}(:[0-9]{1,5})?",
        ) {
            let mut request = Request::for_test("/", "", &[]);
            request.authority = Bytes::from(authority);
            for (name, value) in &sent {
                // Without regard to case `k` is also the Kelvin sign, which no name holds.
                let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
                    continue;
                };
                request.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            send(&mut request, &policy()).unwrap();
            prop_assert!(values(&request, "x-forwarded-for")[0].ends_with("198.51.100.7"));
            for (name, expected) in [("x-forwarded-for", None), ("x-forwarded-proto", Some("http")), ("x-forwarded-port", Some("80")), ("host", None), ("x-amzn-trace-id", None)] {
                let values = values(&request, name);
                prop_assert_eq!(values.len(), 1, "{}", name);
                prop_assert!(expected.is_none_or(|expected| values[0] == expected));
            }
            for name in request.headers.keys() {
                let name = name.as_str();
                prop_assert!(!name.starts_with("x_forwarded") && !name.starts_with("x-amzn-tls") && !name.starts_with("x-amzn-oidc"));
                prop_assert!(name != "connection" && name != "te");
            }
        }
    }
}
