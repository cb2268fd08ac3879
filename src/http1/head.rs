//! Request heads: bytes to fields, strictly by RFC 9112. What both directions share of heads stands here too.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};
use memchr::{memchr, memchr_iter};

use super::{
    Casing, Framing, HEADER_MAX, HEADERS_MAX, Malformed, REQUEST_HEAD_MAX, REQUEST_LINE_MAX,
    Upgrade, spare,
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
    /// The protocol that the client would rather speak from here on.
    pub(crate) upgrade: Option<Upgrade>,
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
        Err(httparse::Error::Version) if !names_a_version(head) => {
            return Err(refusal(httparse::Error::Token));
        }
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
    let (headers, casing, notable) = read_headers(head, parsed.headers)?;
    let (target, named) = split_target(&method, head.slice_ref(target.as_bytes()))?;
    let framing = match notable.framing {
        Presence::There => Framing::of_request(&method, version, &headers)?,
        Presence::Absent => Framing::Empty,
    };
    Ok(RequestHead {
        authority: check_host(version, &headers, named)?,
        framing,
        persistence: persistence(version, &headers, notable.connection),
        expectation: match notable.expect {
            Presence::There => expectation(version, &headers)?,
            Presence::Absent => Expectation::Nothing,
        },
        upgrade: match notable.upgrade {
            Presence::There => Upgrade::of_request(&method, version, &headers, framing),
            Presence::Absent => None,
        },
        method,
        target,
        version,
        headers,
        casing,
    })
}

/// Whether the third word of the request line is a version of HTTP, if one that is not served. Where it is anything
/// else, such as the rest of a target with a space in it, the version is not what is wrong.
fn names_a_version(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or(head);
    let mut words = line.split(|&byte| byte == b' ').skip(2);
    matches!(
        (words.next(), words.next()),
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
            if major.is_ascii_digit() && minor.is_ascii_digit()
    )
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

/// Fields into the map, spellings beside it, and which of the headers that rule a connection are there at all: most
/// messages have one of them or none, and not looking up the others is worth more than it looks.
pub(super) fn read_headers(
    head: &Bytes,
    fields: &[httparse::Header<'_>],
) -> Result<(HeaderMap, Casing, Notable), Malformed> {
    let (mut headers, mut casing) = spare::take(fields.len() + ROOM_FOR_OURS);
    let mut notable = Notable::default();
    for field in fields {
        if field.name.len() + field.value.len() > HEADER_MAX {
            return Err(Malformed::HeadTooLarge);
        }
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| Malformed::Syntax("a header name is not a token"))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_| Malformed::Syntax("a header value holds a control character"))?;
        notable.notice(&name);
        casing.remember(&name, field.name.as_bytes());
        headers.append(name, value);
    }
    Ok((headers, casing, notable))
}

/// Which headers that rule a connection a head has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Notable {
    /// Content-Length or Transfer-Encoding.
    framing: Presence,
    pub(super) connection: Presence,
    expect: Presence,
    upgrade: Presence,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Presence {
    #[default]
    Absent,
    There,
}

impl Notable {
    fn notice(&mut self, name: &HeaderName) {
        // Standard names are compared as numbers.
        if name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING {
            self.framing = Presence::There;
        } else if name == header::CONNECTION {
            self.connection = Presence::There;
        } else if name == header::EXPECT {
            self.expect = Presence::There;
        } else if name == header::UPGRADE {
            self.upgrade = Presence::There;
        }
    }
}

/// Headers that a hop adds: X-Forwarded-For, -Proto, -Port, X-Amzn-Trace-Id. Reserved so that the map never grows.
const ROOM_FOR_OURS: usize = 4;

/// RFC 9112 §3.2: origin-form, absolute-form, or `*` with OPTIONS. CONNECT's authority-form is let through as it is,
/// for whoever answers 405.
fn split_target(method: &Method, target: Bytes) -> Result<(Bytes, Option<Bytes>), Malformed> {
    if target.contains(&b'#') {
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
pub(crate) fn is_host(bytes: &[u8]) -> bool {
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
pub(super) fn persistence(
    version: Version,
    headers: &HeaderMap,
    connection: Presence,
) -> Persistence {
    if connection == Presence::Absent {
        return if version == Version::HTTP_10 {
            Persistence::Close
        } else {
            Persistence::KeepAlive
        };
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Option<(RequestHead, usize)>, Malformed> {
        parse_request(text.as_bytes())
    }

    fn head(text: &str) -> RequestHead {
        parse(text).unwrap().unwrap().0
    }

    /// A request with these lines between its request line and its empty line.
    fn with(lines: &str) -> Result<Option<(RequestHead, usize)>, Malformed> {
        parse(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
    }

    #[test]
    fn a_head_is_read_to_its_empty_line_and_no_further() {
        let text = "GET /a?b HTTP/1.1\r\nHost: x:80\r\nX-Some: thing\r\n\r\nGET /next";
        let (head, length) = parse(text).unwrap().unwrap();
        assert_eq!(
            (head.method, &head.target[..], &head.authority[..]),
            (Method::GET, &b"/a?b"[..], &b"x:80"[..])
        );
        assert_eq!(&text[length..], "GET /next");
        for cut in 0..length {
            assert!(parse(&text[..cut]).unwrap().is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn one_empty_line_before_a_request_is_forgiven_and_counted() {
        let (_, length) = parse("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(length, 29);
        assert!(parse("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").is_err());
    }

    #[test]
    fn lines_end_in_crlf_and_nothing_else() {
        for text in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
            "GET / HTTP/1.1\n\rHost: a\n\r\n\r",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn doubtful_request_lines_are_refused() {
        for line in [
            " GET / HTTP/1.1",
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET /a b HTTP/1.1",
            "GET\t/ HTTP/1.1",
            "GET /#f HTTP/1.1",
            "GET / http/1.1",
            "GET /",
            "GET",
            "G@T / HTTP/1.1",
            "GET a HTTP/1.1",
            "GET * HTTP/1.1",
            "GET ftp://a/ HTTP/1.1",
            "GET http:///a HTTP/1.1",
            "GET http://u@a/ HTTP/1.1",
            "GET http://a:port/ HTTP/1.1",
            "GET /\u{7f} HTTP/1.1",
        ] {
            assert!(
                parse(&format!("{line}\r\nHost: a\r\n\r\n")).is_err(),
                "{line:?}"
            );
        }
    }

    #[test]
    fn other_versions_are_told_apart_from_nonsense() {
        for line in [
            "GET / HTTP/2.0",
            "PRI * HTTP/2.0",
            "GET / HTTP/1.2",
            "GET / HTTP/3.0",
        ] {
            assert_eq!(
                parse(&format!("{line}\r\nHost: a\r\n\r\n")).unwrap_err(),
                Malformed::Version,
                "{line:?}"
            );
        }
    }

    #[test]
    fn doubtful_headers_are_refused() {
        for lines in [
            ": x\r\n",
            "name : x\r\n",
            " name: x\r\n",
            "name\r\n",
            "a: b\r\n c\r\n",
            "a: b\0\r\n",
            "a: b\u{1}\r\n",
            "a\u{e9}: b\r\n",
            "Host: b\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            "Transfer-Encoding: \u{b}chunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Expect: 100-continuez\r\n",
        ] {
            assert!(with(lines).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn the_host_is_one_and_valid_and_an_absolute_target_wins() {
        assert!(parse("GET / HTTP/1.1\r\n\r\n").is_err());
        assert!(
            parse("GET / HTTP/1.0\r\n\r\n")
                .unwrap()
                .unwrap()
                .0
                .authority
                .is_empty()
        );
        for host in [
            "", "a b", "a/b", "u@a", "a:b", "a:123456", "[::1", "[]", "[::g]", "a:1:2", "[::1]x",
            "a,b c",
        ] {
            assert!(
                parse(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).is_err(),
                "{host:?}"
            );
        }
        for host in [
            "a", "a.b", "a:80", "a:", "[::1]", "[::1]:80", "1.2.3.4", "a_b", "A.B",
        ] {
            assert_eq!(
                &head(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).authority[..],
                host.as_bytes()
            );
        }
        let absolute = head("GET HTTP://b.c:81/d?e HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(
            (&absolute.authority[..], &absolute.target[..]),
            (&b"b.c:81"[..], &b"/d?e"[..])
        );
        assert_eq!(
            &head("GET http://b HTTP/1.1\r\nHost: a\r\n\r\n").target[..],
            b"/"
        );
        assert_eq!(
            &head("GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n").target[..],
            b"/?q"
        );
        assert_eq!(
            &head("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").target[..],
            b"*"
        );
    }

    #[test]
    fn connections_persist_as_the_version_says() {
        assert_eq!(
            with("").unwrap().unwrap().0.persistence,
            Persistence::KeepAlive
        );
        assert_eq!(
            with("Connection: x, Close\r\n")
                .unwrap()
                .unwrap()
                .0
                .persistence,
            Persistence::Close
        );
        let old = |lines: &str| head(&format!("GET / HTTP/1.0\r\n{lines}\r\n")).persistence;
        assert_eq!(old(""), Persistence::Close);
        assert_eq!(old("Connection: Keep-Alive\r\n"), Persistence::KeepAlive);
    }

    #[test]
    fn only_http_1_1_expects() {
        assert_eq!(
            with("Expect: 100-Continue\r\n")
                .unwrap()
                .unwrap()
                .0
                .expectation,
            Expectation::Continue
        );
        assert_eq!(
            head("GET / HTTP/1.0\r\nExpect: x\r\n\r\n").expectation,
            Expectation::Nothing
        );
    }

    #[test]
    fn limits_are_those_of_alb_whole_or_not() {
        let line = format!(
            "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
            "a".repeat(REQUEST_LINE_MAX)
        );
        assert_eq!(parse(&line).unwrap_err(), Malformed::LineTooLong);
        assert_eq!(
            parse(&line[..REQUEST_LINE_MAX + 20]).unwrap_err(),
            Malformed::LineTooLong
        );
        let header = format!("a: {}\r\n", "b".repeat(HEADER_MAX + 2));
        assert_eq!(with(&header).unwrap_err(), Malformed::HeadTooLarge);
        let open = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", header.trim_end());
        assert_eq!(parse(&open).unwrap_err(), Malformed::HeadTooLarge);
        assert_eq!(
            with(&"a: b\r\n".repeat(HEADERS_MAX)).unwrap_err(),
            Malformed::HeadTooLarge
        );
        let head = format!("a: {}\r\n", "b".repeat(1000)).repeat(66);
        assert_eq!(with(&head).unwrap_err(), Malformed::HeadTooLarge);
        assert_eq!(
            parse(&format!("GET / HTTP/1.1\r\n{head}")).unwrap_err(),
            Malformed::HeadTooLarge
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_parser(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            drop(parse_request(&bytes));
        }

        #[test]
        fn no_heads_panic_the_parser(text in "(GET|POST|HEAD) /[a-z/?#*]{0,9} HTTP/1.[01]\r\n([A-Za-z-]{0,9}[: ]{0,2}[ -~\t]{0,20}\r?\n){0,5}\r\n") {
            drop(parse(&text));
        }

        #[test]
        fn a_prefix_of_a_good_head_is_never_refused(value in "[a-z ]{0,40}", cut in 0_usize..60) {
            let text = format!("GET /x HTTP/1.1\r\nHost: a\r\nName: {value}\r\n\r\n");
            prop_assert!(parse(&text[..cut.min(text.len())]).is_ok());
        }
    }
}
