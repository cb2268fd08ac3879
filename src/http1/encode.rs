//! Heads back into bytes. Framing headers are written from what the body is, never copied from what a peer said.

use http::{Method, StatusCode};

use super::framing::FRAMING;
use super::{Persistence, Upgrade};
use crate::headers::Headers;

/// The framing header of a message that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramingHeader {
    /// Neither header: no body, or one that ends with the connection.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Writes a request head for an HTTP/1.1 target.
pub(crate) fn encode_request(
    out: &mut Vec<u8>,
    method: &Method,
    target: &[u8],
    headers: &Headers,
    framing: FramingHeader,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    headers.write(out, FRAMING);
    encode_framing(out, framing);
    out.extend_from_slice(b"\r\n");
}

/// Writes a response head for an HTTP/1.x client. `reason` is the phrase of the status line.
pub(crate) fn encode_response(
    out: &mut Vec<u8>,
    status: StatusCode,
    reason: &str,
    headers: &Headers,
    framing: FramingHeader,
    persistence: Persistence,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    headers.write(out, FRAMING);
    encode_framing(out, framing);
    out.extend_from_slice(match persistence {
        Persistence::Close => b"Connection: close\r\n",
        // RFC 9112 §9.3: an HTTP/1.0 client must be told that the connection stays. ALB tells everyone.
        Persistence::KeepAlive => b"Connection: keep-alive\r\n".as_slice(),
    });
    out.extend_from_slice(b"\r\n");
}

/// Writes the 101 by which a client learns that `protocol` is spoken from here on. `headers` have neither Connection
/// nor Upgrade.
pub(crate) fn encode_switch(out: &mut Vec<u8>, protocol: &Upgrade, headers: &Headers) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: ");
    out.extend_from_slice(protocol.value());
    out.extend_from_slice(b"\r\n");
    headers.write(out, FRAMING);
    out.extend_from_slice(b"\r\n");
}

fn encode_framing(out: &mut Vec<u8>, framing: FramingHeader) {
    match framing {
        FramingHeader::None => {}
        FramingHeader::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        FramingHeader::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9110 §8.6: a 101 has no length; a hop that believed one would take the tunnel's first bytes for a body.
    #[test]
    fn a_switch_says_nothing_of_a_body() {
        let headers = Headers::for_test(&[("Content-Length", "5"), ("X-A", "b")]);
        let mut out = Vec::new();
        encode_switch(&mut out, &Upgrade::WebSocket, &headers);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.ends_with("Upgrade: websocket\r\nX-A: b\r\n\r\n"),
            "{text}"
        );
    }
}
