//! What a hop does to headers, toward the target and toward the client: removes what ends here, refuses names
//! that are not the client's to say, adds what ALB adds. Never decides where a request goes.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use http::Version;
use http::header::{CONNECTION, COOKIE, DATE, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
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

/// The X-Amzn-Trace-Id of a request.
pub(crate) fn trace_id(request: &Request) -> Option<HeaderValue> {
    request.headers.get(X_AMZN_TRACE_ID).cloned()
}

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
    if let Some(upgrade) = &request.upgrade {
        // Ours again: the target is asked by this hop, on a connection that it will not share.
        set(headers, CONNECTION, HeaderValue::from_static("Upgrade"))?;
        set(headers, UPGRADE, upgrade.value())?;
    }
    host(request, policy)?;
    trace(&mut request.headers, now_epoch_seconds, random)
}

/// Makes the target's headers those that the client receives. `date` is for targets that send none
/// (RFC 9110 §6.6.1). Server stays the target's. Connection is the listener's affair.
pub(crate) fn toward_client(headers: &mut HeaderMap, date: HeaderValue) {
    let mut leaving = Leaving::default();
    let mut dated = false;
    for name in headers.keys() {
        match name.as_str() {
            "connection" => leaving.nominated_by(headers),
            // Trailers end here, so their announcement does too.
            "keep-alive" | "proxy-connection" | "te" | "trailer" | "transfer-encoding"
            | "upgrade" => {
                leaving.names.push(name.clone());
            }
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
mod tests;
