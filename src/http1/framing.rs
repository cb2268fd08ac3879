//! How long is this body? RFC 9112 §6, both directions, in one place: nobody else reads Content-Length or
//! Transfer-Encoding to frame anything.

use http::{Method, StatusCode, Version};

use super::Malformed;
use crate::headers::{Headers, Name, Names};

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    Empty,
    /// This many bytes, more than none.
    Length(u64),
    /// Chunks up to an empty one.
    Chunked,
    /// Whatever comes until the peer closes; responses only.
    UntilClose,
}

impl Framing {
    /// The framing of a request (RFC 9112 §6.3). Where two readers might differ it is refused, or taken as the RFC
    /// says; `desync` tells whether it was such.
    pub(super) fn of_request(
        method: &Method,
        version: Version,
        headers: &Headers,
    ) -> Result<Self, Malformed> {
        // Most requests have neither.
        if !headers.has_any(FRAMING) {
            return Ok(Self::Empty);
        }
        let length = content_length(headers, Repeated::Agreeing)?;
        let coding = transfer_coding(headers)?;
        match (coding, length) {
            (Coding::None, None | Some(0)) => Ok(Self::Empty),
            (Coding::None, Some(length)) => Ok(Self::Length(length)),
            (_, _) if version == Version::HTTP_10 => {
                Err(Malformed::Syntax("HTTP/1.0 has no Transfer-Encoding"))
            }
            (_, _) if method == Method::HEAD => {
                Err(Malformed::Syntax("a HEAD request has a Transfer-Encoding"))
            }
            (Coding::Identity, None) => Ok(Self::Empty),
            (Coding::Identity, Some(_)) => Err(Malformed::Syntax(
                "there is both a Content-Length and a Transfer-Encoding",
            )),
            // RFC 9112 §6.3, item 3: the coding overrides the length. The length goes no further.
            (Coding::Chunked, _) => Ok(Self::Chunked),
        }
    }

    /// The framing of a response to `method` (RFC 9112 §6.3).
    pub(super) fn of_response(
        method: &Method,
        status: StatusCode,
        version: Version,
        headers: &Headers,
    ) -> Result<Self, Malformed> {
        let length = content_length(headers, Repeated::Never)?;
        let coding = transfer_coding(headers)?;
        if coding != Coding::None && version == Version::HTTP_10 {
            return Err(Malformed::Syntax("HTTP/1.0 has no Transfer-Encoding"));
        }
        if coding != Coding::None && length.is_some() {
            return Err(Malformed::Syntax(
                "there is both a Content-Length and a Transfer-Encoding",
            ));
        }
        if method == Method::HEAD || status.is_informational() || BODILESS.contains(&status) {
            return Ok(Self::Empty);
        }
        Ok(match (coding, length) {
            (Coding::Chunked, _) => Self::Chunked,
            (Coding::None, Some(0)) => Self::Empty,
            (Coding::None, Some(length)) => Self::Length(length),
            (Coding::None | Coding::Identity, _) => Self::UntilClose,
        })
    }
}

/// What says how long a body is. Written from what the body is, never copied.
pub(super) const FRAMING: Names = Names::of(&[Name::ContentLength, Name::TransferEncoding]);

/// Responses that end with their head whatever their headers say (RFC 9112 §6.3, item 1).
const BODILESS: [StatusCode; 2] = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];

/// Whether a length may be said more than once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeated {
    Never,
    /// Where every header says the same.
    Agreeing,
}

/// RFC 9110 §8.6: digits. What is said more than once goes on once.
fn content_length(headers: &Headers, repeated: Repeated) -> Result<Option<u64>, Malformed> {
    let mut values = headers.all(Name::ContentLength);
    let Some(digits) = values.next() else {
        return Ok(None);
    };
    let length = number(digits)?;
    for again in values {
        if repeated == Repeated::Never || number(again)? != length {
            return Err(Malformed::Syntax("there is more than one Content-Length"));
        }
    }
    Ok(Some(length))
}

fn number(digits: &[u8]) -> Result<u64, Malformed> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::Syntax("the Content-Length is not a number"));
    }
    digits
        .iter()
        .try_fold(0_u64, |sum, digit| {
            sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        })
        .ok_or(Malformed::Syntax("the Content-Length is past 64 bits"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    None,
    Identity,
    Chunked,
}

/// ALB takes `chunked` and `identity`, answers 501 to the codings it knows by name and 400 to anything else.
fn transfer_coding(headers: &Headers) -> Result<Coding, Malformed> {
    let mut values = headers.all(Name::TransferEncoding);
    let Some(value) = values.next() else {
        return Ok(Coding::None);
    };
    if values.next().is_some() {
        return Err(Malformed::Syntax(
            "there is more than one Transfer-Encoding",
        ));
    }
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(Coding::Chunked);
    }
    if value.eq_ignore_ascii_case(b"identity") {
        return Ok(Coding::Identity);
    }
    let known = |name: &[u8]| {
        NOT_IMPLEMENTED
            .iter()
            .any(|coding| coding.eq_ignore_ascii_case(name))
    };
    let names = || value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    if names().any(known)
        && names().all(|name| known(name) || name.eq_ignore_ascii_case(b"chunked"))
    {
        return Err(Malformed::TransferCoding);
    }
    Err(Malformed::Syntax("the Transfer-Encoding is not chunked"))
}

const NOT_IMPLEMENTED: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> Headers {
        Headers::for_test(lines)
    }

    fn request(lines: &[(&'static str, &str)]) -> Result<Framing, Malformed> {
        Framing::of_request(&Method::POST, Version::HTTP_11, &headers(lines))
    }

    fn response(
        method: Method,
        status: u16,
        lines: &[(&'static str, &str)],
    ) -> Result<Framing, Malformed> {
        Framing::of_response(
            &method,
            StatusCode::from_u16(status).unwrap(),
            Version::HTTP_11,
            &headers(lines),
        )
    }

    #[test]
    fn requests_are_framed_by_length_or_chunks() {
        assert_eq!(request(&[]), Ok(Framing::Empty));
        assert_eq!(request(&[("content-length", "0")]), Ok(Framing::Empty));
        assert_eq!(
            request(&[("content-length", "18446744073709551615")]),
            Ok(Framing::Length(u64::MAX))
        );
        assert_eq!(
            request(&[("transfer-encoding", "Chunked")]),
            Ok(Framing::Chunked)
        );
        assert_eq!(
            request(&[("transfer-encoding", "identity")]),
            Ok(Framing::Empty)
        );
    }

    #[test]
    fn doubtful_lengths_are_refused() {
        for value in [
            "",
            "5, 5",
            "+5",
            "5 5",
            "0x5",
            "-1",
            "18446744073709551616",
            "5;",
            "５",
        ] {
            assert!(request(&[("content-length", value)]).is_err(), "{value:?}");
        }
        assert!(request(&[("content-length", "5"), ("content-length", "6")]).is_err());
        assert!(request(&[("content-length", "5"), ("content-length", "")]).is_err());
        assert!(request(&[("content-length", "x"), ("transfer-encoding", "chunked")]).is_err());
        assert!(request(&[("content-length", "5"), ("transfer-encoding", "identity")]).is_err());
        assert!(request(&[("content-length", "0"), ("transfer-encoding", "identity")]).is_err());
    }

    #[test]
    fn what_is_said_twice_is_taken_as_the_rfc_says() {
        assert_eq!(
            request(&[("content-length", "5"), ("content-length", "05")]),
            Ok(Framing::Length(5))
        );
        assert_eq!(
            request(&[("content-length", "5"), ("transfer-encoding", "chunked")]),
            Ok(Framing::Chunked)
        );
        assert!(
            response(
                Method::GET,
                200,
                &[("content-length", "5"), ("content-length", "5")]
            )
            .is_err()
        );
    }

    #[test]
    fn doubtful_codings_are_refused() {
        for value in [
            "chunked, identity",
            "xchunked",
            "chunked, chunked",
            "",
            "chunked,",
            "identity, chunked",
            "chunked;q=1",
        ] {
            assert_eq!(
                request(&[("transfer-encoding", value)]),
                Err(Malformed::Syntax("the Transfer-Encoding is not chunked")),
                "{value:?}"
            );
        }
        assert!(
            request(&[
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked")
            ])
            .is_err()
        );
        for value in ["gzip", "gzip, chunked", "Deflate", "chunked, compress"] {
            assert_eq!(
                request(&[("transfer-encoding", value)]),
                Err(Malformed::TransferCoding),
                "{value:?}"
            );
        }
    }

    #[test]
    fn chunks_belong_to_http_1_1_and_not_to_head() {
        let chunked = headers(&[("transfer-encoding", "chunked")]);
        assert!(Framing::of_request(&Method::POST, Version::HTTP_10, &chunked).is_err());
        assert!(Framing::of_request(&Method::HEAD, Version::HTTP_11, &chunked).is_err());
        assert!(
            Framing::of_response(&Method::GET, StatusCode::OK, Version::HTTP_10, &chunked).is_err()
        );
    }

    #[test]
    fn responses_without_content_end_with_their_head() {
        let length = &[("content-length", "5")];
        assert_eq!(response(Method::HEAD, 200, length), Ok(Framing::Empty));
        assert_eq!(response(Method::GET, 204, length), Ok(Framing::Empty));
        assert_eq!(response(Method::GET, 304, length), Ok(Framing::Empty));
        assert_eq!(response(Method::GET, 200, length), Ok(Framing::Length(5)));
        assert_eq!(response(Method::GET, 200, &[]), Ok(Framing::UntilClose));
        assert_eq!(
            response(Method::GET, 200, &[("transfer-encoding", "chunked")]),
            Ok(Framing::Chunked)
        );
    }

    #[test]
    fn responses_that_contradict_themselves_are_refused() {
        assert!(
            response(
                Method::GET,
                200,
                &[("content-length", "5"), ("transfer-encoding", "chunked")]
            )
            .is_err()
        );
        assert!(
            response(
                Method::HEAD,
                200,
                &[("content-length", "5"), ("content-length", "6")]
            )
            .is_err()
        );
        assert!(response(Method::GET, 200, &[("transfer-encoding", "gzip, chunked")]).is_err());
    }
}
