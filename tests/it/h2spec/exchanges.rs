//! RFC 9113 §7 and §8: codes of errors, and what makes a request. A malformed one never reaches a target.

use super::Must::{Answer, ConnectionError, Pong, Refused, StreamError, Whole};
use super::*;

#[tokio::test]
async fn what_makes_a_request() {
    hold(cases()).await;
}

pub(super) fn cases() -> Vec<Case> {
    [codes(), messages(), fields(), pseudo_headers(), connects()]
        .into_iter()
        .flatten()
        .collect()
}

/// A request of these fields alone.
fn of<const N: usize>(fields: [(&str, &str); N]) -> Vec<u8> {
    head(1, END_STREAM, &literals(fields))
}

/// A request with these fields behind its own.
fn with<const N: usize>(fields: [(&str, &str); N]) -> Vec<u8> {
    get_with(&literals(fields))
}

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "https");
const PATH: (&str, &str) = (":path", "/");
const AUTHORITY: (&str, &str) = (":authority", "web.example");

/// §7.
fn codes() -> Vec<Case> {
    vec![
        case(
            "http2/7/1: GOAWAY of an unknown error",
            [goaway(0, 0xff, b"")],
            Must::Farewell,
        ),
        case(
            "http2/7/2: RST_STREAM of an unknown error",
            [post(1), reset(1, 0xff), ping(OPAQUE)],
            Pong(OPAQUE),
        ),
    ]
}

/// §8.1, §8.4.
fn messages() -> Vec<Case> {
    let trailers = |flags, fields: &[(&str, &str)]| {
        [
            post(1),
            data(1, 0, TEST),
            head(1, flags, &literals(fields.iter().copied())),
        ]
    };
    let announced = |length| {
        let length = literals([("content-length", length)]);
        head(1, 0, &[minimal("POST", "/"), length].concat())
    };
    vec![
        case(
            "http2/8.1/1: trailers that do not end the stream",
            trailers(0, &[("x-test", "ok")]),
            MALFORMED,
        ),
        case(
            "http2/8.1.2.6/1: a length that DATA does not keep",
            [announced("1"), data(1, END_STREAM, TEST)],
            MALFORMED,
        ),
        case(
            "http2/8.1.2.6/2: a length that several DATA do not keep",
            [announced("1"), data(1, 0, TEST), data(1, END_STREAM, TEST)],
            MALFORMED,
        ),
        case(
            "+8.1.1: a length that the end does not keep",
            [announced("10"), data(1, END_STREAM, TEST)],
            MALFORMED,
        ),
        case(
            "+8.1.1: a length that trailers do not keep",
            [
                announced("10"),
                data(1, 0, TEST),
                head(1, END_STREAM, &literals([("x-test", "ok")])),
            ],
            MALFORMED,
        ),
        case(
            "+8.1.1: a length and no body",
            [with([("content-length", "10")])],
            MALFORMED,
        ),
        case(
            "+8.1.1: two lengths",
            [with([("content-length", "0"), ("content-length", "1")])],
            MALFORMED,
        ),
        case(
            "+8.1.1: a length that is no number",
            [announced("+4"), data(1, END_STREAM, TEST)],
            MALFORMED,
        ),
        case(
            "+8.1.1: a length of 0 and no body",
            [with([("content-length", "0")])],
            Whole(1),
        ),
        case(
            "http2/8.1.2.1/3: trailers with a pseudo-header",
            trailers(0, &[(":method", "POST")]),
            MALFORMED,
        ),
        case(
            // §8.1 has it reset the stream; h2 leaves them out, and no trailer goes on anyhow.
            "+8.1: trailers with a pseudo-header at the end",
            trailers(END_STREAM, &[(":method", "POST")]),
            Answer(1),
        ),
        case(
            "+8.1: HEADERS after trailers",
            [
                post(1),
                head(1, END_STREAM, &dummy()),
                head(1, END_STREAM, &dummy()),
            ],
            StreamError(1, &[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        case(
            "+8.1: HEAD with a body of unknown length",
            [head(1, 0, &minimal("HEAD", "/")), data(1, END_STREAM, TEST)],
            Refused(1),
        ),
        case(
            "http2/8.2/1: PUSH_PROMISE",
            [frame(
                PUSH_PROMISE,
                END_HEADERS,
                1,
                &[&3_u32.to_be_bytes()[..], &minimal("GET", "/")].concat(),
            )],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "+8.4: PUSH_PROMISE on a stream that is open",
            [
                post(1),
                frame(
                    PUSH_PROMISE,
                    END_HEADERS,
                    1,
                    &[&2_u32.to_be_bytes()[..], &minimal("GET", "/")].concat(),
                ),
            ],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
    ]
}

/// §8.2.
fn fields() -> Vec<Case> {
    let malformed = |name, field| case(name, [with([field])], MALFORMED);
    let refused = |name, value| case(name, [with([("x-test", value)])], Refused(1));
    vec![
        malformed("http2/8.1.2/1: a capital", ("X-TEST", "ok")),
        malformed("http2/8.1.2.2/1: Connection", ("connection", "keep-alive")),
        case(
            "http2/8.1.2.2/2: TE",
            [with([("trailers", "test"), ("te", "trailers, deflate")])],
            MALFORMED,
        ),
        case(
            "+8.2.2: TE: trailers",
            [with([("te", "trailers")])],
            Answer(1),
        ),
        malformed("+8.2.2: Keep-Alive", ("keep-alive", "timeout=5")),
        malformed("+8.2.2: Proxy-Connection", ("proxy-connection", "close")),
        malformed(
            "+8.2.2: Transfer-Encoding",
            ("transfer-encoding", "chunked"),
        ),
        malformed("+8.2.2: Upgrade", ("upgrade", "websocket")),
        malformed("+8.2.1: a name without letters", ("", "ok")),
        malformed("+8.2.1: a name with a space", ("x test", "ok")),
        malformed("+8.2.1: a name with a colon", ("x:test", "ok")),
        malformed("+8.2.1: a name with a control", ("x\x01test", "ok")),
        malformed("+8.2.1: a name with DEL", ("x\x7ftest", "ok")),
        malformed("+8.2.1: a name beyond ASCII", ("x-t\u{e9}st", "ok")),
        malformed("+8.2.1: a value with NUL", ("x-test", "o\0k")),
        malformed("+8.2.1: a value with CR", ("x-test", "o\rk")),
        malformed("+8.2.1: a value with LF", ("x-test", "o\nk")),
        refused("+8.2.1: a value that begins with a space", " ok"),
        refused("+8.2.1: a value that ends with a space", "ok "),
        refused("+8.2.1: a value that begins with a tab", "\tok"),
        refused("+8.2.1: a value that ends with a tab", "ok\t"),
        refused("+8.2.1: a value that is a space", " "),
        case(
            "+8.2.1: a value with a space within, and none at all",
            [with([("x-test", "o k"), ("x-none", "")])],
            Answer(1),
        ),
        case(
            "+8.2.3: a cookie in crumbs",
            [with([("cookie", "a=1"), ("cookie", "b=2")])],
            Answer(1),
        ),
    ]
}

/// §8.3.
fn pseudo_headers() -> Vec<Case> {
    let malformed = |name, request| case(name, [request], MALFORMED);
    vec![
        malformed(
            "http2/8.1.2.1/1: an unknown pseudo-header",
            with([(":test", "ok")]),
        ),
        malformed(
            "http2/8.1.2.1/2: a response's pseudo-header",
            with([(":status", "200")]),
        ),
        malformed(
            "http2/8.1.2.1/4: a pseudo-header behind another",
            of([("x-test", "ok"), METHOD, SCHEME, PATH, AUTHORITY]),
        ),
        malformed(
            "http2/8.1.2.3/1: an empty :path",
            of([METHOD, SCHEME, (":path", ""), AUTHORITY]),
        ),
        malformed("http2/8.1.2.3/2: no :method", of([SCHEME, PATH, AUTHORITY])),
        malformed("http2/8.1.2.3/3: no :scheme", of([METHOD, PATH, AUTHORITY])),
        malformed("http2/8.1.2.3/4: no :path", of([METHOD, SCHEME, AUTHORITY])),
        malformed("http2/8.1.2.3/5: two :method", with([METHOD])),
        malformed("http2/8.1.2.3/6: two :scheme", with([SCHEME])),
        malformed("http2/8.1.2.3/7: two :path", with([PATH])),
        malformed("+8.3.1: two :authority", with([AUTHORITY])),
        malformed(
            "+8.3.1: two :authority in a row",
            of([METHOD, SCHEME, PATH, AUTHORITY, AUTHORITY]),
        ),
        case(
            // h2 cuts it off before anybody sees it, rules and targets alike.
            "+8.3.1: :path with a fragment",
            [of([METHOD, SCHEME, (":path", "/a#b"), AUTHORITY])],
            Answer(1),
        ),
        case(
            "+8.3.1: :path without a slash",
            [of([METHOD, SCHEME, (":path", "a"), AUTHORITY])],
            Refused(1),
        ),
        case(
            "+8.3.1: :path that is a query",
            [of([METHOD, SCHEME, (":path", "?a"), AUTHORITY])],
            Refused(1),
        ),
        case(
            "+8.3.1: :path that is a URL",
            [of([
                METHOD,
                SCHEME,
                (":path", "https://web.example/"),
                AUTHORITY,
            ])],
            Refused(1),
        ),
        case(
            "+8.3.1: * for another method than OPTIONS",
            [of([METHOD, SCHEME, (":path", "*"), AUTHORITY])],
            Refused(1),
        ),
        case(
            "+8.3.1: * for OPTIONS",
            [of([
                (":method", "OPTIONS"),
                SCHEME,
                (":path", "*"),
                AUTHORITY,
            ])],
            Answer(1),
        ),
        case(
            "+8.3.1: :path with a space",
            [of([METHOD, SCHEME, (":path", "/a b"), AUTHORITY])],
            Refused(1),
        ),
        case(
            "+8.3.1: userinfo",
            [of([METHOD, SCHEME, PATH, (":authority", "me@web.example")])],
            Refused(1),
        ),
        case(
            "+8.3.1: Host alone",
            [of([METHOD, SCHEME, PATH, ("host", "web.example")])],
            Answer(1),
        ),
        case(
            "+8.3.1: Host that says the same",
            [with([("host", "WEB.example")])],
            Answer(1),
        ),
        case(
            "+8.3.1: Host that says something else",
            [with([("host", "evil.example")])],
            Refused(1),
        ),
        case("+8.3.1: no host", [of([METHOD, SCHEME, PATH])], Refused(1)),
        case(
            "+8.3.1: an empty host",
            [of([METHOD, SCHEME, PATH, (":authority", "")])],
            Refused(1),
        ),
        case(
            "+8.3.1: a method that is none",
            [of([(":method", "G T"), SCHEME, PATH, AUTHORITY])],
            MALFORMED,
        ),
    ]
}

/// §8.5, RFC 8441.
fn connects() -> Vec<Case> {
    const CONNECT: (&str, &str) = (":method", "CONNECT");
    const PROTOCOL: (&str, &str) = (":protocol", "websocket");
    vec![
        case("+8.5: CONNECT", [of([CONNECT, AUTHORITY])], Refused(1)),
        case(
            "+8.5: CONNECT with :path",
            [of([CONNECT, PATH, AUTHORITY])],
            MALFORMED,
        ),
        case(
            "+8.5: CONNECT with :scheme",
            [of([CONNECT, SCHEME, AUTHORITY])],
            MALFORMED,
        ),
        case(
            "+RFC 8441 §4: :protocol without CONNECT",
            [of([METHOD, SCHEME, PATH, AUTHORITY, PROTOCOL])],
            MALFORMED,
        ),
        case(
            "+RFC 8441 §4: :protocol without :path",
            [of([CONNECT, SCHEME, AUTHORITY, PROTOCOL])],
            MALFORMED,
        ),
        case(
            "+RFC 8441 §4: :protocol without :scheme",
            [of([CONNECT, PATH, AUTHORITY, PROTOCOL])],
            MALFORMED,
        ),
    ]
}
