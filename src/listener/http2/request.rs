//! Our request from h2's: the target as sent, one host, no second opinion about framing.

use std::cell::Cell;
use std::rc::Rc;

use h2::RecvStream;
use http::{Method, Version};

use super::record::Record;
use super::tunnel::Handshake;
use crate::headers::{Headers, Name};
use crate::http1::{Expectation, expectation, is_host};
use crate::message::{Body, Error, Http2Body, Request, SharedTime};

/// Reads a head, and what its client waits for; `incoming` is what follows it, taken where that is a body. `record`
/// learns how many bytes came. All bodies of the connection share `time`.
pub(super) fn read(
    parts: http::request::Parts,
    incoming: &mut Option<RecvStream>,
    tunnel: Option<&Handshake>,
    record: &mut Record,
    time: &Rc<SharedTime>,
) -> Result<(Request, Expectation), Error> {
    let mut headers = Headers::of_map(&parts.headers);
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let named = parts.uri.authority().map(|authority| authority.as_str());
    // Bytes of the head before HPACK made them fewer.
    let line = parts.method.as_str().len() + target.len() + named.map_or(0, str::len);
    record.received = line as u64 + headers.size();
    // RFC 9113 §8.2.1. Targets take such space away, and would see another value than the rules did.
    if headers.iter().any(|(_, value)| is_padded(value)) {
        return Err(Error::MalformedRequest(
            "the value of a header begins or ends with space",
        ));
    }
    if headers.all(Name::Host).nth(1).is_some() {
        return Err(Error::MalformedRequest(
            "there is more than one Host header",
        ));
    }
    let authority = match (named, headers.find(Name::Host)) {
        // RFC 9113 §8.3.1: the two must not differ.
        (Some(named), Some(host)) if !headers.text(host).eq_ignore_ascii_case(named.as_bytes()) => {
            return Err(Error::MalformedRequest(
                "the Host header differs from :authority",
            ));
        }
        (Some(named), _) => headers.keep(named.as_bytes()),
        (None, Some(host)) => host,
        (None, None) => return Err(Error::MissingHost),
    };
    if !is_host(headers.text(authority)) {
        return Err(Error::MalformedRequest("the host is not a host"));
    }
    headers.remove(Name::Host);
    // RFC 9113 §8.3.1; h2 lets a query through without a path.
    if !target.starts_with('/') && (target != "*" || parts.method != Method::OPTIONS) {
        return Err(Error::MalformedRequest(":path does not begin with a slash"));
    }
    let has_body = has_body(&parts.method, incoming.as_ref());
    // As over HTTP/1.1: not every target looks for chunks behind a HEAD.
    if has_body && parts.method == Method::HEAD && !headers.has(Name::ContentLength) {
        return Err(Error::MalformedRequest(
            "a HEAD request has a body of unknown length",
        ));
    }
    let expectation = match headers.has(Name::Expect) {
        true => expectation(Version::HTTP_2, &headers).map_err(Error::of_request)?,
        false => Expectation::Nothing,
    };
    let body = match incoming.take_if(|_| has_body) {
        Some(incoming) => body(incoming, &headers, record, time),
        None => Body::Empty,
    };
    let (method, upgrade) = match tunnel {
        Some(tunnel) => tunnel.translate(&mut headers),
        None => (parts.method, None),
    };
    let expectation = match body {
        Body::Empty => Expectation::Nothing,
        _ => expectation,
    };
    let request = Request {
        target: headers.keep(target.as_bytes()),
        method,
        authority,
        version: Version::HTTP_2,
        headers,
        upgrade,
        connections: crate::http1::Persistence::KeepAlive,
        body,
    };
    Ok((request, expectation))
}

fn is_padded(value: &[u8]) -> bool {
    [value.first(), value.last()]
        .into_iter()
        .any(|byte| matches!(byte, Some(b' ' | b'\t')))
}

fn has_body(method: &Method, incoming: Option<&RecvStream>) -> bool {
    // RFC 9113 §8.5: what follows a CONNECT is a tunnel's.
    method != Method::CONNECT && incoming.is_some_and(|body| !body.is_end_stream())
}

/// The body that a request brings.
fn body(
    incoming: RecvStream,
    headers: &Headers,
    record: &mut Record,
    time: &Rc<SharedTime>,
) -> Body {
    let length = headers.get(Name::ContentLength);
    // h2 has seen that all of them are the same number.
    let length = length
        .and_then(|length| str::from_utf8(length).ok())
        .and_then(|length| length.parse().ok());
    let received = Rc::new(Cell::new(0));
    record.body = Some(Rc::clone(&received));
    Body::Http2(Http2Body::new(incoming, length, received, time))
}
