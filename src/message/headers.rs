//! What a hop does to headers, toward the target and toward the client: removes what ends here, refuses names
//! that are not the client's to say, adds what ALB adds. Never decides where a request goes.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use http::Version;
use smallvec::SmallVec;

use super::{Client, Error, Request, trace_id};
use crate::headers::{Headers, Name, Names};
use crate::model;

/// ALB refuses a request that has been through more proxies than this (463).
const FORWARDED_ADDRESSES_MAX: usize = 30;

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
    x_forwarded_port: Box<[u8]>,
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
            x_forwarded_port: listener_port.to_string().into_bytes().into(),
        }
    }
}

/// What became of headers whose names are not `[-A-Za-z0-9]+`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum InvalidNames {
    /// There was none.
    #[default]
    None,
    Forwarded,
    Dropped,
}

/// Makes the client's headers those that the target receives; says whether there were names that ALB calls invalid.
///
/// What we add comes after what we remove, so nothing the client nominates or spells oddly can undo it
/// (RFC 9110 §7.6.1).
pub(crate) fn toward_target(
    request: &mut Request,
    client: &Client,
    policy: &Forwarding,
    now_epoch_seconds: u32,
    random: [u64; 2],
) -> Result<InvalidNames, Error> {
    let headers = &mut request.headers;
    let invalid = remove_what_ends_here(headers, policy);
    if request.version == Version::HTTP_2 {
        join_cookies(headers);
    }
    forwarded_for(headers, client.peer, policy)?;
    headers.set(Name::XForwardedProto, client.scheme().as_bytes());
    headers.set(Name::XForwardedPort, &policy.x_forwarded_port);
    if policy.x_amzn_tls_version_and_cipher_suite
        && let Some(tls) = &client.tls
    {
        headers.set(Name::XAmznTlsVersion, tls.version.as_bytes());
        headers.set(Name::XAmznTlsCipherSuite, tls.cipher.as_bytes());
    }
    if let Some(upgrade) = &request.upgrade {
        // Ours again: the target is asked by this hop, on a connection that it will not share.
        headers.set(Name::Connection, b"Upgrade");
        headers.set(Name::Upgrade, upgrade.value());
    }
    host(request, policy);
    trace_id::renew(&mut request.headers, now_epoch_seconds, random);
    Ok(invalid)
}

/// Traces a request that no target sees; gives its id.
pub(crate) fn trace(
    request: &mut Request,
    now_epoch_seconds: u32,
    random: [u64; 2],
) -> Option<&[u8]> {
    trace_id::renew(&mut request.headers, now_epoch_seconds, random);
    request.headers.get(Name::XAmznTraceId)
}

/// Makes the target's headers those that the client receives. `date` is for targets that send none
/// (RFC 9110 §6.6.1). Server stays the target's. Connection is the listener's affair.
pub(crate) fn toward_client(headers: &mut Headers, date: &[u8]) {
    // Trailers end here, so their announcement does too.
    const LEAVING: Names = Names::of(&[
        Name::KeepAlive,
        Name::ProxyConnection,
        Name::Te,
        Name::Trailer,
        Name::TransferEncoding,
        Name::Upgrade,
    ]);
    remove_nominated(headers);
    headers.remove_all(LEAVING);
    if !headers.has(Name::Date) {
        headers.append(Name::Date, date);
    }
}

/// Names for this hop alone (RFC 9110 §7.6.1), and names by which only the load balancer may speak. ALB itself answers
/// `Expect`, and drops trailers with their announcement. Proxy-Authorization is for whoever asked for it (§11.7.2), and
/// that was not us.
fn remove_what_ends_here(headers: &mut Headers, policy: &Forwarding) -> InvalidNames {
    const LEAVING: Names = Names::of(&[
        Name::KeepAlive,
        Name::Te,
        Name::Trailer,
        Name::TransferEncoding,
        Name::Upgrade,
        Name::Http2Settings,
        Name::Expect,
        Name::ProxyConnection,
        Name::ProxyAuthenticate,
    ]);
    remove_nominated(headers);
    headers.remove_all(LEAVING);
    // Nearly always there is none, and looking is cheaper than sifting.
    if headers.iter().any(|(name, _)| is_ours(name)) {
        headers.remove_where(is_ours);
    }
    let is_invalid = |name: &[u8]| !name.iter().all(is_valid);
    match !headers.are_plain() && headers.any_unknown(1, is_invalid) {
        false => InvalidNames::None,
        true if policy.drop_invalid_header_fields => {
            headers.remove_where(is_invalid);
            InvalidNames::Dropped
        }
        true => InvalidNames::Forwarded,
    }
}

/// Whoever reads these takes them for ours, whether or not the feature that adds them is on.
const IDENTITY: [&str; 3] = ["x-amzn-mtls-", "x-amzn-oidc-", "x-amzn-tls-"];

/// Whether only the load balancer may use this name, or targets that turn `-` into `_` (CGI, WSGI, Rack) would take it
/// for one of ours, or for framing.
fn is_ours(name: &[u8]) -> bool {
    const TRUSTED: [&str; 4] = [
        "x-forwarded-",
        "x-amzn-trace-id",
        "content-length",
        "transfer-encoding",
    ];
    // The first letter spares most names the search.
    if !matches!(name, [b'x' | b'X' | b'c' | b'C' | b't' | b'T', ..]) {
        return false;
    }
    let begins = |trusted: &&str| {
        name.len() >= trusted.len()
            && name.iter().zip(trusted.bytes()).all(|(byte, wanted)| {
                byte.to_ascii_lowercase() == wanted || (*byte == b'_' && wanted == b'-')
            })
    };
    IDENTITY.iter().any(begins) || name.contains(&b'_') && TRUSTED.iter().any(begins)
}

/// ALB's notion for `drop_invalid_header_fields`: `[-A-Za-z0-9]+`.
fn is_valid(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'-'
}

/// Most headers that Connection takes with it; each of them is looked for among all headers. Nobody names so many, and
/// what is named beyond goes on as if it were not.
const NOMINATED_MAX: usize = 32;

/// Removes Connection and what it names.
fn remove_nominated(headers: &mut Headers) {
    if !headers.has(Name::Connection) {
        return;
    }
    // Copied because what it names is removed from where it stands; nearly always that is nothing.
    let nominated: SmallVec<[SmallVec<[u8; 32]>; 2]> = headers
        .all(Name::Connection)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty() && may_be_nominated(name))
        .take(NOMINATED_MAX)
        .map(SmallVec::from_slice)
        .collect();
    headers.remove(Name::Connection);
    if !nominated.is_empty() {
        headers.remove_where(|name| {
            let mut nominated = nominated.iter();
            nominated.any(|nominated| name.eq_ignore_ascii_case(nominated))
        });
    }
}

/// Connection may not take away what the next hop relies on: framing, the host, and what we add.
fn may_be_nominated(name: &[u8]) -> bool {
    const KEPT: [&str; 2] = ["content-length", "host"];
    const KEPT_PREFIXES: [&str; 2] = ["x-forwarded-", "x-amzn-"];
    // The two usual elements, which name no headers: Keep-Alive goes in any case.
    const OPTIONS: [&str; 2] = ["keep-alive", "close"];
    let is_any = |list: &[&str]| {
        let mut list = list.iter();
        list.any(|kept| name.eq_ignore_ascii_case(kept.as_bytes()))
    };
    let starts = |kept: &&str| {
        name.get(..kept.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(kept.as_bytes()))
    };
    !is_any(&OPTIONS) && !is_any(&KEPT) && !KEPT_PREFIXES.iter().any(starts)
}

/// HTTP/2 clients may cut Cookie into crumbs; elsewhere it is one line (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut Headers) {
    if headers.all(Name::Cookie).nth(1).is_none() {
        return;
    }
    let crumbs: SmallVec<[&[u8]; 8]> = headers.all(Name::Cookie).collect();
    let cookie = crumbs.join(&b"; "[..]);
    drop(crumbs);
    headers.remove(Name::Cookie);
    headers.append_named(b"cookie", &cookie);
}

fn forwarded_for(
    headers: &mut Headers,
    peer: SocketAddr,
    policy: &Forwarding,
) -> Result<(), Error> {
    let sent = headers.all(Name::XForwardedFor);
    let addresses: usize = sent.map(count_elements).sum();
    if addresses > FORWARDED_ADDRESSES_MAX {
        return Err(Error::TooManyForwardedAddresses);
    }
    match policy.xff_header_processing {
        model::XffHeaderProcessing::Preserve => {}
        model::XffHeaderProcessing::Remove => headers.remove(Name::XForwardedFor),
        model::XffHeaderProcessing::Append => {
            // Several lines are one list (RFC 9110 §5.3); left apart, a target might read only the client's.
            let mut sent: SmallVec<[u8; 128]> = SmallVec::new();
            for line in headers.all(Name::XForwardedFor) {
                if !line.is_empty() {
                    sent.extend_from_slice(line);
                    sent.extend_from_slice(b", ");
                }
            }
            headers.remove(Name::XForwardedFor);
            headers.append_with(Name::XForwardedFor, |text| {
                text.extend_from_slice(&sent);
                if policy.xff_client_port {
                    write_address_and_port(text, peer);
                } else {
                    write_address(text, peer.ip().to_canonical());
                }
            });
        }
    }
    Ok(())
}

fn count_elements(list: &[u8]) -> usize {
    let elements = list.split(|&byte| byte == b',');
    elements
        .filter(|element| !element.trim_ascii().is_empty())
        .count()
}

fn write_address_and_port(value: &mut Vec<u8>, peer: SocketAddr) {
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

/// Writes an address as text.
pub(crate) fn write_address(value: &mut Vec<u8>, address: IpAddr) {
    match address {
        // By hand: this is on every request's path, and the formatter costs ten times as much.
        IpAddr::V4(address) => {
            // Room for three digits and a dot each; what is too many is written over, or left out.
            let mut text = [0; 16];
            let mut end = 0;
            for octet in address.octets() {
                let Octet { digits, len } = OCTETS[usize::from(octet)];
                text[end..end + 4].copy_from_slice(&digits);
                end += len;
            }
            value.extend_from_slice(&text[..end - 1]);
        }
        IpAddr::V6(address) => {
            let written = write!(Text(value), "{address}");
            debug_assert!(written.is_ok(), "a buffer takes all that is written");
        }
    }
}

/// An octet of an address as text, with the dot behind it.
#[derive(Clone, Copy)]
struct Octet {
    digits: [u8; 4],
    len: usize,
}

static OCTETS: [Octet; 256] = {
    let mut octets = [Octet {
        digits: [b'.'; 4],
        len: 0,
    }; 256];
    let mut octet = 0;
    while octet < 256 {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let mut at = if octet < 10 {
            2
        } else if octet < 100 {
            1
        } else {
            0
        };
        let text = &mut octets[octet];
        while at < 3 {
            text.digits[text.len] = b'0' + digits[at] as u8;
            text.len += 1;
            at += 1;
        }
        text.len += 1;
        octet += 1;
    }
    octets
};

/// Lets `write!` reach a buffer of bytes.
struct Text<'a>(&'a mut Vec<u8>);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Host for the target (ALB user guide, "Host header preservation"). The common request carries it already.
fn host(request: &mut Request, policy: &Forwarding) {
    // RFC 9113 §8.3.1: from HTTP/2, Host is what `:authority` says.
    if policy.preserve_host_header
        && request.version != Version::HTTP_2
        && request.headers.has(Name::Host)
    {
        return;
    }
    let mut wanted: SmallVec<[u8; 128]> = SmallVec::new();
    if policy.preserve_host_header && !request.authority().is_empty() {
        wanted.extend_from_slice(request.authority());
    } else {
        write_host(&mut wanted, request, policy);
    }
    let mut sent = request.headers.all(Name::Host);
    if sent.next() == Some(&wanted) && sent.next().is_none() {
        return;
    }
    drop(sent);
    request.headers.set(Name::Host, &wanted);
}

/// Lower case; no port on listeners 80 and 443; elsewhere the client's port, or the listener's where it named none.
fn write_host(wanted: &mut SmallVec<[u8; 128]>, request: &Request, policy: &Forwarding) {
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

#[cfg(test)]
mod tests;
