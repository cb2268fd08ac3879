//! Request heads: bytes to fields, strictly by RFC 9112. What both directions share of heads stands here too.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};
use memchr::{memchr, memchr_iter};

use super::{
    Casing, Framing, HEADER_MAX, HEADERS_MAX, Malformed, REQUEST_HEAD_MAX, REQUEST_LINE_MAX,
};

/// A request head that holds to RFC 9112.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    /// Path and query as sent; `*` for OPTIONS of the server itself.
    pub(crate) target: Bytes,
    /// Host and port the client asked for, as sent; empty only for HTTP/1.0 without Host.
    pub(crate) authority: Bytes,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) casing: Casing,
    /// How long the body is.
    pub(crate) framing: Framing,
    /// Whether the client allows another request on this connection (RFC 9112 §9.3).
    pub(crate) persistence: Persistence,
    /// Whether the client waits before it sends the body (RFC 9110 §10.1.1).
    pub(crate) expectation: Expectation,
}

/// Whether a connection may carry another message after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    KeepAlive,
    Close,
}

/// What a client waits for before it sends a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expectation {
    Nothing,
    Continue,
}

/// Reads one request head from the start of `bytes`; gives it with its length, or `None` while it is incomplete.
pub(crate) fn parse_request(bytes: &[u8]) -> Result<Option<(RequestHead, usize)>, Malformed> {
    // RFC 9112 §2.2: one empty line before the request line is forgiven; old clients send it after a body.
    let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let bytes = &bytes[skipped..];
    let Some(length) = head_length(bytes)? else {
        check_partial(bytes)?;
        return Ok(None);
    };
    if length > REQUEST_HEAD_MAX {
        return Err(Malformed::HeadTooLarge);
    }
    let head = read_request(&Bytes::copy_from_slice(&bytes[..length]))?;
    Ok(Some((head, skipped + length)))
}

/// Reads a whole head. Every value of the result is a slice of `head`, which is the one copy made of it.
fn read_request(head: &Bytes) -> Result<RequestHead, Malformed> {
    let mut slots = [const { std::mem::MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut slots) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Malformed::Syntax("the head ends early")),
        Err(error) => return Err(refusal(error)),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Malformed::Syntax("the request line is incomplete"));
    };
    if method.len() + target.len() > REQUEST_LINE_MAX {
        return Err(Malformed::LineTooLong);
    }
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| Malformed::Syntax("the method is not a token"))?;
    let version = version_of(minor);
    let (headers, casing) = read_headers(head, parsed.headers)?;
    let (target, named) = split_target(&method, head.slice_ref(target.as_bytes()))?;
    Ok(RequestHead {
        authority: check_host(version, &headers, named)?,
        framing: Framing::of_request(&method, version, &headers)?,
        persistence: persistence(version, &headers),
        expectation: expectation(version, &headers)?,
        method,
        target,
        version,
        headers,
        casing,
    })
}

/// Length of the head at the start of `bytes`, up to and with its empty line; `None` while that has not come.
/// Lines end in CRLF and nothing else: RFC 9112 §2.2 lets a recipient take a bare LF, but two recipients that
/// disagree about it are how requests are smuggled.
pub(super) fn head_length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut line = 0;
    for end in memchr_iter(b'\n', bytes) {
        if end == 0 || bytes[end - 1] != b'\r' {
            return Err(Malformed::Syntax("a line ends in a bare line feed"));
        }
        if end - 1 == line {
            return Ok(Some(end + 1));
        }
        line = end + 1;
    }
    Ok(None)
}

/// Refuses an incomplete head that can only become too large.
fn check_partial(bytes: &[u8]) -> Result<(), Malformed> {
    let first_line = memchr(b'\n', bytes).unwrap_or(bytes.len());
    if first_line > REQUEST_LINE_MAX + " HTTP/1.1\r".len() {
        return Err(Malformed::LineTooLong);
    }
    let last_line = memchr::memrchr(b'\n', bytes).map_or(0, |end| bytes.len() - end);
    if bytes.len() > REQUEST_HEAD_MAX || last_line > HEADER_MAX + ": \r\n".len() {
        return Err(Malformed::HeadTooLarge);
    }
    Ok(())
}

pub(super) fn version_of(minor: u8) -> Version {
    if minor == 0 {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    }
}

pub(super) fn refusal(error: httparse::Error) -> Malformed {
    match error {
        httparse::Error::TooManyHeaders => Malformed::HeadTooLarge,
        httparse::Error::Version => Malformed::Version,
        httparse::Error::HeaderName => Malformed::Syntax("a header name is not a token"),
        httparse::Error::HeaderValue => {
            Malformed::Syntax("a header value holds a control character")
        }
        httparse::Error::NewLine => Malformed::Syntax("a carriage return stands alone"),
        httparse::Error::Token => Malformed::Syntax("the request line is not of RFC 9112"),
        httparse::Error::Status => Malformed::Syntax("the status line is not of RFC 9112"),
    }
}

/// Fields into the map, spellings beside it.
pub(super) fn read_headers(
    head: &Bytes,
    fields: &[httparse::Header<'_>],
) -> Result<(HeaderMap, Casing), Malformed> {
    let mut headers = HeaderMap::with_capacity(fields.len() + ROOM_FOR_OURS);
    let mut casing = Casing::default();
    for field in fields {
        if field.name.len() + field.value.len() > HEADER_MAX {
            return Err(Malformed::HeadTooLarge);
        }
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| Malformed::Syntax("a header name is not a token"))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_| Malformed::Syntax("a header value holds a control character"))?;
        casing.remember(&name, field.name.as_bytes());
        headers.append(name, value);
    }
    Ok((headers, casing))
}

/// Headers that a hop adds: X-Forwarded-For, -Proto, -Port, X-Amzn-Trace-Id. Reserved so that the map never grows.
const ROOM_FOR_OURS: usize = 4;

/// RFC 9112 §3.2: origin-form, absolute-form, or `*` with OPTIONS. CONNECT's authority-form is let through as it is,
/// for whoever answers 405.
fn split_target(method: &Method, target: Bytes) -> Result<(Bytes, Option<Bytes>), Malformed> {
    if target.iter().any(|&byte| byte == b'#') {
        return Err(Malformed::Syntax("the request target has a fragment"));
    }
    if target.starts_with(b"/") || method == Method::CONNECT {
        return Ok((target, None));
    }
    if target == "*" && method == Method::OPTIONS {
        return Ok((target, None));
    }
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| {
            target
                .get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })
        .ok_or(Malformed::Syntax(
            "the request target is neither a path nor a URL",
        ))?;
    let rest = target.slice(scheme.len()..);
    let end = rest
        .iter()
        .position(|&byte| byte == b'/' || byte == b'?')
        .unwrap_or(rest.len());
    let authority = rest.slice(..end);
    if authority.is_empty() || !is_host(&authority) {
        return Err(Malformed::Syntax(
            "the URL of the request has no valid host",
        ));
    }
    let target = match rest.get(end) {
        Some(b'/') => rest.slice(end..),
        // RFC 9110 §4.2.3: an empty path means "/".
        Some(_) => [b"/", &rest[end..]].concat().into(),
        None => Bytes::from_static(b"/"),
    };
    Ok((target, Some(authority)))
}

/// RFC 9112 §3.2: exactly one valid Host in HTTP/1.1; the authority of an absolute target wins over it (§3.2.2).
fn check_host(
    version: Version,
    headers: &HeaderMap,
    named: Option<Bytes>,
) -> Result<Bytes, Malformed> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Malformed::Syntax("there is more than one Host header"));
    }
    match host {
        Some(host) if host.is_empty() || !is_host(host.as_bytes()) => {
            Err(Malformed::Syntax("the Host header is not a host"))
        }
        Some(host) => Ok(named.unwrap_or_else(|| Bytes::copy_from_slice(host.as_bytes()))),
        None if version == Version::HTTP_11 => Err(Malformed::Syntax("there is no Host header")),
        None => Ok(named.unwrap_or_default()),
    }
}

/// RFC 3986 §3.2.2 without userinfo: a name or an IP literal, then perhaps a port.
fn is_host(bytes: &[u8]) -> bool {
    let (host, rest) = match bytes {
        [b'[', inside @ ..] => match memchr(b']', inside) {
            Some(end) => {
                let literal = &inside[..end];
                if literal.is_empty()
                    || !literal
                        .iter()
                        .all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte))
                {
                    return false;
                }
                (literal, &inside[end + 1..])
            }
            None => return false,
        },
        _ => bytes.split_at(memchr(b':', bytes).unwrap_or(bytes.len())),
    };
    let port_fits = match rest {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let is_name_byte =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:".contains(byte);
    port_fits && !host.is_empty() && host.iter().all(is_name_byte)
}

/// RFC 9112 §9.3: HTTP/1.1 persists unless it says close, HTTP/1.0 only if it says keep-alive.
pub(super) fn persistence(version: Version, headers: &HeaderMap) -> Persistence {
    let says = |option: &str| {
        headers.get_all(header::CONNECTION).iter().any(|value| {
            value
                .as_bytes()
                .split(|&byte| byte == b',')
                .any(|item| item.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
        })
    };
    if says("close") || (version == Version::HTTP_10 && !says("keep-alive")) {
        Persistence::Close
    } else {
        Persistence::KeepAlive
    }
}

/// RFC 9110 §10.1.1 knows one expectation. HTTP/1.0 has none, so its Expect means nothing.
fn expectation(version: Version, headers: &HeaderMap) -> Result<Expectation, Malformed> {
    let mut values = headers.get_all(header::EXPECT).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(Expectation::Nothing),
        (Some(_), _) if version == Version::HTTP_10 => Ok(Expectation::Nothing),
        (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Ok(Expectation::Continue)
        }
        _ => Err(Malformed::Syntax("the expectation is not 100-continue")),
    }
}
