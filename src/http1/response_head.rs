//! Response heads from targets: bytes to fields. A target is trusted no more than a client.

use http::{Method, StatusCode};
use memchr::memchr;

use super::head::{Persistence, head_length, persistence, read_headers, refusal, version_of};
use super::{Framing, HEADERS_MAX, Malformed, RESPONSE_HEAD_MAX};
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
    let mut slots = [const { std::mem::MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let length = match httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        bytes,
        &mut slots,
    ) {
        Ok(httparse::Status::Complete(length)) => length,
        outcome => {
            let length = head_length(bytes)?;
            if length.unwrap_or(bytes.len()) > RESPONSE_HEAD_MAX {
                return Err(Malformed::HeadTooLarge);
            }
            return match (length, outcome) {
                (None, _) => Ok(None),
                (Some(_), Ok(_)) => Err(Malformed::Syntax("the head ends early")),
                (Some(_), Err(error)) => Err(refusal(error)),
            };
        }
    };
    if length > RESPONSE_HEAD_MAX {
        return Err(Malformed::HeadTooLarge);
    }
    let head = read_response(&bytes[..length], &parsed, method)?;
    Ok(Some((head, length)))
}

fn read_response(
    head: &[u8],
    parsed: &httparse::Response<'_, '_>,
    method: &Method,
) -> Result<ResponseHead, Malformed> {
    let (Some(code), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(Malformed::Syntax("the status line is incomplete"));
    };
    // Whatever the library would skip before it is refused.
    if !head.starts_with(b"HTTP/1.") {
        return Err(Malformed::Syntax("the status line is not of RFC 9112"));
    }
    let status = StatusCode::from_u16(code)
        .map_err(|_| Malformed::Syntax("the status code is below 100"))?;
    let version = version_of(minor);
    let first_line = memchr(b'\n', head).map_or(0, |end| end + 1);
    let headers = read_headers(head, first_line, parsed.headers)?;
    Ok(ResponseHead {
        framing: Framing::of_response(method, status, version, &headers)?,
        persistence: persistence(version, &headers),
        status,
        headers,
    })
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
        assert!(parse("HTTP/1.1 200\r\n\r\n").unwrap().is_some());
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
