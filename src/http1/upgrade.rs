//! Upgrade (RFC 9110 §7.8): which request asks to speak another protocol on its connection, and which answer agrees.

use std::rc::Rc;

use http::{Method, Version};

use super::fields::is_token;
use super::{Connection, Framing};
use crate::headers::{Headers, Name};

/// The protocol that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// RFC 6455.
    WebSocket,
    /// Any other, as the client named it.
    Other(Box<[u8]>),
}

/// A connection to a target that speaks something else than HTTP now. It cannot carry another request, so nothing
/// leads from here to where idle connections live.
#[derive(Debug)]
pub(crate) struct Upgraded {
    connection: Rc<Connection>,
    protocol: Upgrade,
}

impl Upgrade {
    /// What a request asks for; `None` where it asks for nothing that can be had, which is no error: whoever offers an
    /// upgrade takes an ordinary answer as well.
    pub(super) fn of_request(
        method: &Method,
        version: Version,
        headers: &Headers,
        framing: Framing,
    ) -> Option<Self> {
        // A body would have to be over before the other protocol begins; nobody sends one.
        if version != Version::HTTP_11 || framing != Framing::Empty || !is_nominated(headers) {
            return None;
        }
        let name = only(headers)?;
        if name.eq_ignore_ascii_case(b"websocket") {
            // RFC 6455 §4.1: the method is GET. A target may not check that.
            return (method == Method::GET).then_some(Self::WebSocket);
        }
        is_tunnelled(name).then(|| Self::Other(name.into()))
    }

    /// As it is written in an Upgrade header.
    pub(crate) fn value(&self) -> &[u8] {
        match self {
            Self::WebSocket => b"websocket",
            Self::Other(name) => name,
        }
    }

    /// Whether the headers of a 101 agree to this protocol and no other (RFC 9110 §15.2.2).
    pub(crate) fn is_agreed(&self, headers: &Headers) -> bool {
        is_nominated(headers)
            && only(headers).is_some_and(|name| name.eq_ignore_ascii_case(self.value()))
    }
}

impl Upgraded {
    pub(crate) fn new(connection: Rc<Connection>, protocol: Upgrade) -> Self {
        Self {
            connection,
            protocol,
        }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn protocol(&self) -> &Upgrade {
        &self.protocol
    }
}

/// Whether Connection names Upgrade; without that the header is about another hop.
fn is_nominated(headers: &Headers) -> bool {
    let values = headers.all(Name::Connection);
    let mut names = values.flat_map(|value| value.split(|&byte| byte == b','));
    names.any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// The one protocol that is named. A choice of several is not offered on: which of them a 101 means is a question
/// that two readers can answer differently.
fn only(headers: &Headers) -> Option<&[u8]> {
    let mut values = headers.all(Name::Upgrade);
    let value = values.next()?;
    // RFC 9110 §7.8: a token, perhaps with a version behind a slash.
    let is_named = value.iter().all(|&byte| byte == b'/' || is_token(byte));
    let is_one = values.next().is_none() && is_named;
    (is_one && !value.is_empty()).then_some(value)
}

/// HTTP itself and TLS are not carried blindly: requests inside would pass by every rule (h2c smuggling).
fn is_tunnelled(name: &[u8]) -> bool {
    let protocol = name.split(|&byte| byte == b'/').next().unwrap_or(name);
    let refused: [&[u8]; 4] = [b"h2c", b"h2", b"http", b"tls"];
    !refused
        .iter()
        .any(|refused| protocol.eq_ignore_ascii_case(refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> Headers {
        Headers::for_test(lines)
    }

    fn asked(lines: &[(&'static str, &str)]) -> Option<Upgrade> {
        let headers = headers(lines);
        Upgrade::of_request(&Method::GET, Version::HTTP_11, &headers, Framing::Empty)
    }

    const WEBSOCKET: [(&str, &str); 2] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
    ];

    #[test]
    fn a_websocket_is_asked_for_by_get_in_http_1_1_without_a_body() {
        assert_eq!(asked(&WEBSOCKET), Some(Upgrade::WebSocket));
        let headers = headers(&WEBSOCKET);
        for (method, version, framing) in [
            (Method::POST, Version::HTTP_11, Framing::Empty),
            (Method::GET, Version::HTTP_10, Framing::Empty),
            (Method::GET, Version::HTTP_11, Framing::Length(1)),
            (Method::GET, Version::HTTP_11, Framing::Chunked),
        ] {
            let asked = Upgrade::of_request(&method, version, &headers, framing);
            assert_eq!(asked, None, "{method} {version:?} {framing:?}");
        }
    }

    #[test]
    fn an_upgrade_must_be_nominated_and_name_one_protocol() {
        for lines in [
            &[("upgrade", "websocket")][..],
            &[("connection", "upgrade")],
            &[("connection", "upgrade"), ("upgrade", "")],
            &[("connection", "upgrade"), ("upgrade", "websocket, foo")],
            &[
                ("connection", "upgrade"),
                ("upgrade", "a"),
                ("upgrade", "b"),
            ],
        ] {
            assert_eq!(asked(lines), None, "{lines:?}");
        }
    }

    #[test]
    fn other_protocols_are_passed_on_but_no_http_within_http() {
        let named = |name| asked(&[("connection", "upgrade"), ("upgrade", name)]);
        assert_eq!(named("foo/2"), Some(Upgrade::Other((*b"foo/2").into())));
        for name in ["h2c", "H2C", "h2", "HTTP/2.0", "TLS/1.0"] {
            assert_eq!(named(name), None, "{name}");
        }
    }

    #[test]
    fn a_101_agrees_to_what_was_asked() {
        assert!(Upgrade::WebSocket.is_agreed(&headers(&WEBSOCKET)));
        for lines in [
            &[("upgrade", "websocket")][..],
            &[("connection", "upgrade"), ("upgrade", "foo")],
            &[("connection", "upgrade")],
        ] {
            assert!(!Upgrade::WebSocket.is_agreed(&headers(lines)), "{lines:?}");
        }
    }
}
