//! Request heads: bytes to fields, strictly by RFC 9112. What both directions share of heads stands here too.

use std::ops::Range;

use http::{Method, Version};
use memchr::{memchr, memchr_iter};

use super::desync::{self, Verdict};
use super::fields::{find_below, length_of_token, letters_digits_and, line_end, read_fields};
use super::{Framing, HEADER_MAX, Malformed, REQUEST_HEAD_MAX, REQUEST_LINE_MAX, Upgrade};
use crate::headers::{Headers, Name, Span};

/// A request head that holds to RFC 9112.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    /// Path and query as sent; `*` for OPTIONS of the server itself.
    pub(crate) target: Span,
    /// Host and port the client asked for, as sent; empty only for HTTP/1.0 without Host.
    pub(crate) authority: Span,
    pub(crate) version: Version,
    pub(crate) headers: Headers,
    /// How long the body is.
    pub(crate) framing: Framing,
    /// Whether others might find another end of it.
    pub(crate) verdict: Verdict,
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
    let head = after_empty_line(bytes);
    let skipped = bytes.len() - head.len();
    let bytes = head;
    let outcome = match read_request(bytes) {
        Ok(Some((head, length))) if length <= REQUEST_HEAD_MAX => {
            return Ok(Some((head, skipped + length)));
        }
        outcome => outcome,
    };
    let Some(length) = head_length(bytes)? else {
        check_partial(bytes)?;
        return Ok(None);
    };
    if length > REQUEST_HEAD_MAX {
        return Err(Malformed::HeadTooLarge);
    }
    Err(match outcome {
        Ok(_) => Malformed::Syntax("the head ends early"),
        Err(Malformed::Version) if !names_a_version(&bytes[..length]) => NO_REQUEST_LINE,
        Err(malformed) => malformed,
    })
}

/// RFC 9112 §2.2: one empty line before the request line is forgiven; old clients send it after a body.
pub(crate) fn after_empty_line(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\r\n").unwrap_or(bytes)
}

const NO_REQUEST_LINE: Malformed = Malformed::Syntax("the request line is not of RFC 9112");

/// A whole head, or what is wrong with as much as there is. Its bytes are copied, once.
fn read_request(bytes: &[u8]) -> Result<Option<(RequestHead, usize)>, Malformed> {
    let Some(line) = read_request_line(bytes)? else {
        return Ok(None);
    };
    let RequestLine {
        method,
        target,
        version,
        end,
    } = line;
    let Some((mut headers, length)) = read_fields(bytes, end)? else {
        return Ok(None);
    };
    let (target, named) = split_target(&method, target, &mut headers)?;
    let framing = Framing::of_request(&method, version, &headers)?;
    let head = RequestHead {
        authority: check_host(version, &headers, named)?,
        framing,
        verdict: desync::of_head(&method, version, &headers),
        persistence: match is_framed_twice(&headers) {
            true => Persistence::Close,
            false => persistence(version, &headers),
        },
        expectation: expectation(version, &headers)?,
        upgrade: match headers.has(Name::Upgrade) {
            true => Upgrade::of_request(&method, version, &headers, framing),
            false => None,
        },
        method,
        target,
        version,
        headers,
    };
    Ok(Some((head, length)))
}

/// The first line of a head (RFC 9112 §3), with one space between two of its parts.
struct RequestLine {
    method: Method,
    target: Range<usize>,
    version: Version,
    /// Where the next line begins.
    end: usize,
}

fn read_request_line(bytes: &[u8]) -> Result<Option<RequestLine>, Malformed> {
    let method_end = length_of_token(bytes);
    match bytes.get(method_end) {
        None => return Ok(None),
        Some(b' ') if method_end > 0 => {}
        Some(_) => return Err(NO_REQUEST_LINE),
    }
    let target = method_end + 1;
    let Some(target_len) = find_below::<0x21>(&bytes[target..]) else {
        return Ok(None);
    };
    let target = target..target + target_len;
    if target.is_empty() || bytes[target.end] != b' ' {
        return Err(NO_REQUEST_LINE);
    }
    if method_end + target.len() > REQUEST_LINE_MAX {
        return Err(Malformed::LineTooLong);
    }
    // Targets, rules and logs may rely on it that a target is text.
    let text = &bytes[target.clone()];
    if !text.is_ascii() && str::from_utf8(text).is_err() {
        return Err(NO_REQUEST_LINE);
    }
    let method = Method::from_bytes(&bytes[..method_end])
        .map_err(|_| Malformed::Syntax("the method is not a token"))?;
    let version = match bytes[target.end + 1..].first_chunk() {
        None => return Ok(None),
        Some(b"HTTP/1.1") => Version::HTTP_11,
        Some(b"HTTP/1.0") => Version::HTTP_10,
        Some(_) => return Err(Malformed::Version),
    };
    let line_ends = target.end + " HTTP/1.1".len();
    let end = line_end(bytes, line_ends, "the request line is not of RFC 9112")?;
    Ok(end.map(|end| RequestLine {
        method,
        target,
        version,
        end,
    }))
}

/// RFC 9112 §6.1: after a request with both headers the connection ends, since whoever passed it on may have read the
/// other one.
fn is_framed_twice(headers: &Headers) -> bool {
    headers.has(Name::TransferEncoding) && headers.has(Name::ContentLength)
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

/// RFC 9112 §3.2: origin-form, absolute-form, or `*` with OPTIONS. CONNECT's authority-form is let through as it is,
/// for whoever answers 405.
fn split_target(
    method: &Method,
    target: Range<usize>,
    headers: &mut Headers,
) -> Result<(Span, Option<Span>), Malformed> {
    let span = Span::of(target);
    let target = headers.text(span);
    if memchr(b'#', target).is_some() {
        return Err(Malformed::Syntax("the request target has a fragment"));
    }
    if target.starts_with(b"/") || method == Method::CONNECT {
        return Ok((span, None));
    }
    if target == b"*" && method == Method::OPTIONS {
        return Ok((span, None));
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
    let rest = &target[scheme.len()..];
    let end = rest
        .iter()
        .position(|&byte| byte == b'/' || byte == b'?')
        .unwrap_or(rest.len());
    if end == 0 || !is_host(&rest[..end]) {
        return Err(Malformed::Syntax(
            "the URL of the request has no valid host",
        ));
    }
    let authority = span.slice(scheme.len()..scheme.len() + end);
    let path = span.slice(scheme.len() + end..target.len());
    let target = match rest.get(end) {
        Some(b'/') => path,
        // RFC 9110 §4.2.3: an empty path means "/".
        _ => {
            let target = [b"/", headers.text(path)].concat();
            headers.keep(&target)
        }
    };
    Ok((target, Some(authority)))
}

/// RFC 9112 §3.2: exactly one valid Host in HTTP/1.1; the authority of an absolute target wins over it (§3.2.2).
fn check_host(version: Version, headers: &Headers, named: Option<Span>) -> Result<Span, Malformed> {
    if headers.all(Name::Host).nth(1).is_some() {
        return Err(Malformed::Syntax("there is more than one Host header"));
    }
    match headers.find(Name::Host) {
        Some(host) if !is_host(headers.text(host)) => {
            Err(Malformed::Syntax("the Host header is not a host"))
        }
        Some(host) => Ok(named.unwrap_or(host)),
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
    port_fits && !host.is_empty() && host.iter().all(|byte| NAME_BYTE[usize::from(*byte)])
}

/// What stands in a name; and the colons of an IP literal. No percent sign, though RFC 3986 has one there: no name of DNS
/// needs it, and a target that takes `%61` for `a` would see another host than the rules did.
static NAME_BYTE: [bool; 256] = letters_digits_and(b"-._~!$&'()*+,;=:");

/// RFC 9112 §9.3: HTTP/1.1 persists unless it says close, HTTP/1.0 only if it says keep-alive.
pub(super) fn persistence(version: Version, headers: &Headers) -> Persistence {
    let says = |option: &str| {
        headers.all(Name::Connection).any(|value| {
            value
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
pub(crate) fn expectation(version: Version, headers: &Headers) -> Result<Expectation, Malformed> {
    let mut values = headers.all(Name::Expect);
    match (values.next(), values.next()) {
        (None, _) => Ok(Expectation::Nothing),
        (Some(_), _) if version == Version::HTTP_10 => Ok(Expectation::Nothing),
        (Some(value), None) if value.eq_ignore_ascii_case(b"100-continue") => {
            Ok(Expectation::Continue)
        }
        _ => Err(Malformed::Syntax("the expectation is not 100-continue")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http1::HEADERS_MAX;

    fn parse(text: &str) -> Result<Option<(RequestHead, usize)>, Malformed> {
        parse_request(text.as_bytes())
    }

    fn head(text: &str) -> RequestHead {
        parse(text).unwrap().unwrap().0
    }

    fn target(head: &RequestHead) -> &[u8] {
        head.headers.text(head.target)
    }

    fn authority(head: &RequestHead) -> &[u8] {
        head.headers.text(head.authority)
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
            (&head.method, target(&head), authority(&head)),
            (&Method::GET, &b"/a?b"[..], &b"x:80"[..])
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
            "GET /\u{1} HTTP/1.1",
            "GET  HTTP/1.1",
            "/ HTTP/1.1",
            "GET / HTTP/1.1\rX",
            "GET / HTTP/1",
            "GET / XHTTP/1.1",
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
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "Content-Length: x\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: identity\r\nContent-Length: 1\r\n",
            "Transfer-Encoding: \u{b}chunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Expect: 100-continuez\r\n",
        ] {
            assert!(with(lines).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn a_connection_ends_with_a_request_that_is_framed_twice() {
        for lines in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
        ] {
            let head = with(lines).unwrap().unwrap().0;
            assert_eq!(
                (head.framing, head.persistence),
                (Framing::Chunked, Persistence::Close)
            );
        }
    }

    #[test]
    fn the_host_is_one_and_valid_and_an_absolute_target_wins() {
        assert!(parse("GET / HTTP/1.1\r\n\r\n").is_err());
        assert!(authority(&head("GET / HTTP/1.0\r\n\r\n")).is_empty());
        for host in [
            "", "a b", "a/b", "u@a", "a:b", "a:123456", "[::1", "[]", "[::g]", "a:1:2", "[::1]x",
            "a,b c", "%61.com", "a%",
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
                authority(&head(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))),
                host.as_bytes()
            );
        }
        let absolute = head("GET HTTP://b.c:81/d?e HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(
            (authority(&absolute), target(&absolute)),
            (&b"b.c:81"[..], &b"/d?e"[..])
        );
        assert_eq!(
            target(&head("GET http://b HTTP/1.1\r\nHost: a\r\n\r\n")),
            b"/"
        );
        assert_eq!(
            target(&head("GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n")),
            b"/?q"
        );
        assert_eq!(target(&head("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")), b"*");
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
