//! What travels: request, response, and the rules that every HTTP hop obeys. Never knows a rule or a target.

mod body;
mod client;
pub(crate) mod cookie;
mod error;
mod exchange;
pub(crate) mod headers;
mod limit;
mod outstanding;
mod pace;
mod trace_id;
mod upload;
pub(crate) mod websocket;

pub(crate) use body::{Body, Broken, Duplex, Http2Body, Size};
pub(crate) use client::{Client, TlsFacts};
pub(crate) use error::{Answer, ClientConnection, Error, HTML, own_response, page, reason_phrase};
pub(crate) use exchange::{Action, Asked, ConnectionId, Exchange, Kind, MatchedRule};
pub(crate) use limit::Limit;
pub(crate) use outstanding::{Outstanding, OutstandingCount};
pub(crate) use pace::SharedTime;
pub(crate) use upload::{Outgoing, Stopped, Upload, WaitsFor, push, push_end};

use http::{Method, StatusCode, Version};
use memchr::memchr;

use crate::headers::{Headers, Span};
use crate::http1::{Persistence, Upgrade};

/// A request on its way from a client to a target.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Path and query exactly as sent; starts with `/`, or is `*` (OPTIONS). Stands beside the headers.
    pub(crate) target: Span,
    /// The host the client asked for, port included, as sent: the authority of an absolute target or `:authority`,
    /// else the first Host header. Empty for HTTP/1.0 without Host. Stands beside the headers.
    pub(crate) authority: Span,
    pub(crate) version: Version,
    pub(crate) headers: Headers,
    pub(crate) body: Body,
    /// The protocol that the client would rather speak with the target.
    pub(crate) upgrade: Option<Upgrade>,
    /// Whether the connections that it came by and goes by may carry others after it.
    pub(crate) connections: Persistence,
}

impl Request {
    /// Path and query, as sent.
    pub(crate) fn target(&self) -> &[u8] {
        self.headers.text(self.target)
    }

    /// The host and its port, as sent.
    pub(crate) fn authority(&self) -> &[u8] {
        self.headers.text(self.authority)
    }

    /// The path without the query, as sent.
    pub(crate) fn path(&self) -> &[u8] {
        let target = self.target();
        &target[..memchr(b'?', target).unwrap_or(target.len())]
    }

    /// The query without its `?`; `None` when there is no `?`.
    pub(crate) fn query(&self) -> Option<&[u8]> {
        let target = self.target();
        Some(&target[memchr(b'?', target)? + 1..])
    }

    /// The host without its port, as sent.
    pub(crate) fn host(&self) -> &[u8] {
        let (host, _) = split_port(self.authority());
        host
    }

    /// The port the client named beside the host, where it named one.
    pub(crate) fn host_port(&self) -> Option<&[u8]> {
        let (_, port) = split_port(self.authority());
        port
    }
}

/// A response on its way from a target, or from albedo itself, to a client.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: Headers,
    pub(crate) body: Body,
    /// The target's count of requests in progress, one lower once this answer is gone.
    pub(crate) outstanding: Option<Outstanding>,
}

/// Splits `host:port`; the brackets of an IPv6 literal stay with the host (RFC 3986 §3.2.2).
fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let literal_end = match authority {
        [b'[', ..] => memchr(b']', authority),
        _ => None,
    };
    let after_literal = literal_end.map_or(0, |at| at + 1);
    match memchr(b':', &authority[after_literal..]) {
        Some(colon) => {
            let colon = after_literal + colon;
            (&authority[..colon], Some(&authority[colon + 1..]))
        }
        None => (authority, None),
    }
}

#[cfg(test)]
impl Request {
    /// A GET over HTTP/1.1 with these headers, for unit tests of other rooms.
    pub(crate) fn for_test(target: &str, authority: &str, headers: &[(&str, &str)]) -> Self {
        let mut headers = Headers::for_test(headers);
        Self {
            method: Method::GET,
            target: headers.keep(target.as_bytes()),
            authority: headers.keep(authority.as_bytes()),
            version: Version::HTTP_11,
            headers,
            body: Body::Empty,
            upgrade: None,
            connections: Persistence::KeepAlive,
        }
    }

    /// The same for another target and authority, which may be any bytes.
    pub(crate) fn asks(mut self, target: &[u8], authority: &[u8]) -> Self {
        self.target = self.headers.keep(target);
        self.authority = self.headers.keep(authority);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::split_port;

    #[test]
    fn port_is_split_from_names_and_literals() {
        assert_eq!(split_port(b"a.com"), (&b"a.com"[..], None));
        assert_eq!(split_port(b"a.com:80"), (&b"a.com"[..], Some(&b"80"[..])));
        assert_eq!(
            split_port(b"[::1]:8443"),
            (&b"[::1]"[..], Some(&b"8443"[..]))
        );
        assert_eq!(split_port(b"[::1]"), (&b"[::1]"[..], None));
        assert_eq!(split_port(b""), (&b""[..], None));
    }
}
