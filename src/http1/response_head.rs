//! Response heads from targets: bytes to fields. A target is trusted no more than a client.

use http::{Method, StatusCode, Version};

use super::fields::{find_control, line_end, read_fields};
use super::head::{Persistence, head_length, persistence};
use super::{Framing, Malformed, RESPONSE_HEAD_MAX};
use crate::headers::Headers;

/// A response head that holds to RFC 9112.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) headers: Headers,
    /// How long the body is.
    pub(crate) framing: Framing,
    /// Whether the target allows another request on this connection.
    pub(crate) persistence: Persistence,
}

/// Reads one head of a response to `method` from the start of `bytes`; gives it with its length, or `None` while it
/// is incomplete.
pub(crate) fn parse_response(
    bytes: &[u8],
    method: &Method,
) -> Result<Option<(ResponseHead, usize)>, Malformed> {
    let outcome = match read_response(bytes, method) {
        Ok(Some((head, length))) if length <= RESPONSE_HEAD_MAX => return Ok(Some((head, length))),
        outcome => outcome,
    };
    let length = head_length(bytes)?;
    if length.unwrap_or(bytes.len()) > RESPONSE_HEAD_MAX {
        return Err(Malformed::HeadTooLarge);
    }
    match (length, outcome) {
        (None, _) => Ok(None),
        (Some(_), Ok(_)) => Err(Malformed::Syntax("the head ends early")),
        (Some(_), Err(malformed)) => Err(malformed),
    }
}

/// A whole head, or what is wrong with as much as there is. Its bytes are copied, once.
fn read_response(
    bytes: &[u8],
    method: &Method,
) -> Result<Option<(ResponseHead, usize)>, Malformed> {
    let Some((version, status, first)) = read_status_line(bytes)? else {
        return Ok(None);
    };
    let Some((headers, length)) = read_fields(bytes, first)? else {
        return Ok(None);
    };
    let head = ResponseHead {
        framing: Framing::of_response(method, status, version, &headers)?,
        persistence: persistence(version, &headers),
        status,
        headers,
    };
    Ok(Some((head, length)))
}

/// Version and status, and where the next line begins (RFC 9112 §4). The space before a reason that is not there may
/// be absent too.
fn read_status_line(bytes: &[u8]) -> Result<Option<(Version, StatusCode, usize)>, Malformed> {
    const NO_STATUS_LINE: &str = "the status line is not of RFC 9112";
    let Some((line, reason)) = bytes.split_first_chunk::<{ "HTTP/1.1 200".len() }>() else {
        return Ok(None);
    };
    let (version, code) = match line.split_first_chunk() {
        Some((b"HTTP/1.1 ", code)) => (Version::HTTP_11, code),
        Some((b"HTTP/1.0 ", code)) => (Version::HTTP_10, code),
        _ => return Err(Malformed::Syntax(NO_STATUS_LINE)),
    };
    let status = StatusCode::from_bytes(code)
        .map_err(|_| Malformed::Syntax("the status is no number of three digits"))?;
    let end = match reason.first() {
        Some(b' ') => find_control(bytes, line.len() + 1),
        Some(_) => Some(line.len()),
        None => None,
    };
    let Some(end) = end else {
        return Ok(None);
    };
    let first = line_end(bytes, end, NO_STATUS_LINE)?;
    Ok(first.map(|first| (version, status, first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<(ResponseHead, usize)>, Malformed> {
        parse_response(text.as_bytes(), &Method::GET)
    }

    #[test]
    fn heads_end_at_the_empty_line() {
        let (head, length) = parse("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nhi")
            .unwrap()
            .unwrap();
        assert_eq!(
            (head.status.as_u16(), head.framing, length),
            (200, Framing::Length(2), 46)
        );
        assert_eq!(head.persistence, Persistence::KeepAlive);
        assert!(
            parse("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n")
                .unwrap()
                .is_none()
        );
        for line in ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.0 200 a\tb\u{e9}"] {
            let text = format!("{line}\r\n\r\n");
            assert!(parse(&text).unwrap().is_some(), "{line:?}");
            for cut in (0..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
                assert!(parse(&text[..cut]).unwrap().is_none(), "{line:?} at {cut}");
            }
        }
    }

    #[test]
    fn malformed_heads_are_refused() {
        for text in [
            "HTTP/1.1 200 OK\nA: b\n\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "HTTP/1.1 099 Low\r\n\r\n",
            "HTTP/1.1 2000\r\n\r\n",
            "HTTP/1.1  200\r\n\r\n",
            "HTTP/1.1 200 O\0K\r\n\r\n",
            "HTTP/1.1 200 O\rK\r\n\r\n",
            "HTTP/1.1 200\t\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "garbage\r\n\r\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn heads_past_32_kib_are_refused() {
        let large = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(RESPONSE_HEAD_MAX));
        assert_eq!(parse(&large).unwrap_err(), Malformed::HeadTooLarge);
    }
}
