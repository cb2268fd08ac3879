//! Our reading of requests against another parser's: two readers that disagree are how requests are smuggled.

mod oracle;

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Bytes that stand where a change is made: those that parsers trip over.
const ODD: [&[u8]; 22] = [
    b"", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\0", b"\x0b", b"\x7f", b"\x80", b":", b";", b",",
    b"#", b"?", b"/", b"0", b"5", b"f", b"-", b"\"", b"chunked",
];

fn header_lines() -> impl Strategy<Value = String> {
    let line = select(vec![
        "X-A: b\r\n",
        "x-a:b\r\n",
        "X-A:  b \r\n",
        "X-A:\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive\r\n",
        "Connection: x, close\r\n",
        "Expect: 100-continue\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: identity\r\n",
        "TE: trailers\r\n",
        "Upgrade: x\r\n",
    ]);
    prop::collection::vec(line, 0..3).prop_map(|lines| lines.concat())
}

fn framed_body() -> impl Strategy<Value = String> {
    select(vec![
        "\r\n",
        "Content-Length: 0\r\n\r\n",
        "Content-Length: 5\r\n\r\nhello",
        "content-length:5\r\n\r\nhello",
        "Content-Length: 05 \r\n\r\nhello",
        "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "Content-Length: 5, 5\r\n\r\nhello",
        "Content-Length: +5\r\n\r\nhello",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n00A\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
        "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ])
    .prop_map(str::to_owned)
}

fn request() -> impl Strategy<Value = String> {
    let method = select(vec![
        "GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "BREW", "CONNECT",
    ]);
    let target = select(vec![
        "/",
        "/a?b",
        "/a?",
        "*",
        "http://h/p?q",
        "http://h",
        "http://h?q",
        "HTTPS://h:1/",
        "h:80",
        "/%2f\\'",
    ]);
    let version = select(vec![
        "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0",
    ]);
    (method, target, version, header_lines(), framed_body()).prop_map(
        |(method, target, version, lines, body)| {
            format!("{method} {target} {version}\r\nHost: h\r\n{lines}{body}")
        },
    )
}

/// One to three requests in a row, and up to three small changes anywhere in them.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<Index>(), 0..4_usize, select(ODD.to_vec())), 0..4);
    (prop::collection::vec(request(), 1..4), changes).prop_map(|(requests, changes)| {
        let mut bytes = requests.concat().into_bytes();
        for (at, removed, inserted) in changes {
            let start = at.index(bytes.len());
            let end = (start + removed).min(bytes.len() - 1);
            bytes.splice(start..end.max(start), inserted.iter().copied());
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 16_384,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn hyper_reads_the_same_requests_or_we_refuse_them(bytes in stream()) {
        oracle::assert_agreement(&bytes);
    }
}

#[test]
fn a_plain_stream_is_read_by_both() {
    let bytes = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let (requests, end) = albedo::hatch::read_requests(bytes);
    assert_eq!((requests.len(), end), (2, albedo::hatch::End::Clean));
    oracle::assert_agreement(bytes);
}
