//! The classifier against AWS's own: its published cases, and whatever else can be thought of.

use http_desync_guardian::request_analyzer::HttpRequestData;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde::Deserialize;

use super::*;
use crate::http1::parse_request;

/// Class and reason as words.
fn words(verdict: Verdict) -> (String, String) {
    let reason = verdict.reason().map_or("Compliant", Reason::as_str);
    (verdict.class().as_str().to_owned(), reason.to_owned())
}

/// What AWS's classifier says of these bytes.
fn guardian(bytes: &[u8]) -> (String, String) {
    let result = HttpRequestData::analyze_raw_request(bytes);
    (format!("{:?}", result.tier), format!("{:?}", result.reason))
}

#[derive(Deserialize)]
struct Case {
    name: String,
    method: String,
    target: String,
    version: String,
    headers: Vec<(String, String)>,
    class: String,
    reason: String,
}

fn cases() -> Vec<Case> {
    let lines = include_str!("guardian.jsonl").lines();
    lines
        .filter(|line| !line.starts_with("//"))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_case_that_aws_published_is_judged_as_there() {
    let cases = cases();
    assert_eq!(cases.len(), 159);
    for case in cases {
        let fields: Fields<'_> = case
            .headers
            .iter()
            .map(|(name, value)| Field::of((name.as_bytes(), value.as_bytes())))
            .collect();
        let mut verdict = Verdict::COMPLIANT;
        let [method, target, version] =
            [&case.method, &case.target, &case.version].map(|piece| piece.as_bytes());
        judge(&mut verdict, method, target, version, &fields);
        assert_eq!(words(verdict), (case.class, case.reason), "{}", case.name);
    }
}

#[test]
fn every_case_is_judged_alike_from_its_bytes() {
    for case in cases() {
        let headers: String = case
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let head = format!(
            "{} {} {}\r\n{headers}\r\n",
            case.method, case.target, case.version
        );
        let head = first_head(head.as_bytes());
        assert_eq!(words(of_bytes(head)), guardian(head), "{}", case.name);
    }
}

/// Up to the empty line, as far as both read; all of it where there is none.
fn first_head(bytes: &[u8]) -> &[u8] {
    let mut lines = Lines(bytes);
    let mut verdict = Verdict::COMPLIANT;
    lines.next(&mut verdict);
    while let Some(line) = lines.next(&mut verdict) {
        if line.is_empty() {
            break;
        }
    }
    &bytes[..bytes.len() - lines.0.len()]
}

#[test]
fn a_reason_has_the_name_and_the_class_that_aws_gave_it() {
    for (head, class, reason) in [
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "Compliant",
            "Compliant",
        ),
        ("GET  \r\n\r\n", "Ambiguous", "MissingUri"),
        ("GET HTTP/1.1\r\n\r\n", "Ambiguous", "MissingUri"),
        ("GET /\r\n\r\n", "Acceptable", "NonCompliantVersion"),
        ("GET / HTTP/2.0\r\n\r\n", "Compliant", "Compliant"),
        ("GET /a b HTTP/1.1\r\n\r\n", "Acceptable", "SpaceInUri"),
        (
            "GET / HTTP/1.1\r\na\r\n\r\n",
            "Ambiguous",
            "MissingHeaderColon",
        ),
        (
            "GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n",
            "Ambiguous",
            "MultilineHeader",
        ),
        (
            "GET / HTTP/1.1\r\nContent-Type: b\r\n c\r\n\r\n",
            "Compliant",
            "Compliant",
        ),
        (
            "GET / HTTP/1.1\r\na: b\n\r\n",
            "Acceptable",
            "NonCrLfLineTermination",
        ),
        (
            "POST / HTTP/1.1\r\nContent_Length: 5\r\nContent-Length: 6\r\n\r\n",
            "Severe",
            "MultipleContentLength",
        ),
    ] {
        let expected = (class.to_owned(), reason.to_owned());
        assert_eq!(guardian(head.as_bytes()), expected, "{head:?}");
        assert_eq!(words(of_bytes(head.as_bytes())), expected, "{head:?}");
    }
}

#[test]
fn a_head_that_is_not_whole_is_judged_by_its_whole_lines() {
    let head = b"GET / HTTP/1.1\r\na : b\r\nContent-Le";
    assert_eq!(of_bytes(head).reason(), Some(Reason::NonCompliantHeader));
    assert_eq!(of_bytes(b"GET / HT"), Verdict::COMPLIANT);
    assert_eq!(of_bytes(b""), Verdict::COMPLIANT);
}

#[test]
fn what_comes_over_http_2_is_judged_as_it_goes_on() {
    let none = Headers::default();
    let length = Headers::for_test(&[("content-length", "5")]);
    let judged = |method: Method, headers: &Headers, framing| {
        of_generated(&method, headers, framing).reason()
    };
    assert_eq!(judged(Method::GET, &none, FramingHeader::None), None);
    assert_eq!(
        judged(Method::GET, &none, FramingHeader::Chunked),
        Some(Reason::UndefinedTransferEncodingSemantics)
    );
    assert_eq!(
        judged(Method::GET, &length, FramingHeader::Length(5)),
        Some(Reason::UndefinedContentLengthSemantics)
    );
    assert_eq!(
        judged(Method::POST, &length, FramingHeader::Length(5)),
        None
    );
    assert_eq!(judged(Method::POST, &length, FramingHeader::Chunked), None);
    let odd = Headers::for_test(&[("content_length", "6"), ("content-length", "5")]);
    assert_eq!(
        judged(Method::POST, &odd, FramingHeader::Length(5)),
        Some(Reason::MultipleContentLength)
    );
    let twin = Headers::for_test(&[("transfer--encoding", "gzip")]);
    assert_eq!(
        judged(Method::POST, &twin, FramingHeader::None),
        Some(Reason::SuspiciousHeader)
    );
}

/// Pieces of heads, right and wrong.
fn line() -> impl Strategy<Value = &'static str> {
    select(vec![
        "Host: a\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 6\r\n",
        "Content-Length: 0\r\n",
        "content-length:\r\n",
        "Content-Length: 5, 5\r\n",
        "Content_Length: 5\r\n",
        " Content-Length: 7\r\n",
        "ContentXLength: 5\r\n",
        "Content-Length-: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding: identity\r\n",
        "Transfer-Encoding: gzip, chunked;q=1\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer--Encoding: chunked\r\n",
        "Tran\u{17f}fer-Encod\u{131}ng: chunked\r\n",
        "t----------------: x\r\n",
        "Content-Type: a\r\n",
        "Content-Disposition: a\r\n",
        " folded\r\n",
        "\tfolded: like this\r\n",
        "no colon\r\n",
        ": x\r\n",
        "X: \u{1}\r\n",
        "X: b\n",
        "X : b\r\n",
    ])
}

fn first_line() -> impl Strategy<Value = String> {
    let method = select(vec!["GET", "HEAD", "POST", "", "G(T"]);
    let target = select(vec![" /", " /a b", "", " ", "  /", " /\t", " /\u{7f}"]);
    let version = select(vec![
        " HTTP/1.1",
        " HTTP/1.1",
        " HTTP/1.0",
        " HTTP/0.9",
        " HTTP/1.2",
        " HTTP/2.0",
        "",
        " ",
        " HTTP/1.1 ",
        " http/1.1",
        " HTTP/1.1 x",
        " HTTP/11",
    ]);
    let end = select(vec!["\r\n", "\r\n", "\n"]);
    (method, target, version, end)
        .prop_map(|(method, target, version, end)| format!("{method}{target}{version}{end}"))
}

/// A head with up to three small changes anywhere in it.
fn head() -> impl Strategy<Value = Vec<u8>> {
    const ODD: [&[u8]; 14] = [
        b"", b" ", b"\t", b"\r", b"\n", b"\0", b"\x0b", b"\x7f", b"\x80", b":", b";", b",", b"-",
        b"c",
    ];
    let changes = prop::collection::vec((any::<Index>(), 0..3_usize, select(ODD.to_vec())), 0..4);
    let lines = prop::collection::vec(line(), 0..5).prop_map(|lines| lines.concat());
    (first_line(), lines, changes).prop_map(|(first, lines, changes)| {
        let mut bytes = format!("{first}{lines}\r\n").into_bytes();
        for (at, removed, inserted) in changes {
            let start = at.index(bytes.len());
            let end = (start + removed).min(bytes.len());
            bytes.splice(start..end, inserted.iter().copied());
        }
        bytes.extend_from_slice(b"\r\n\r\n");
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
    fn any_head_is_judged_as_aws_judges_it(bytes in head()) {
        let head = first_head(&bytes);
        prop_assert_eq!(words(of_bytes(head)), guardian(head), "{}", head.escape_ascii());
    }

    /// Two ways to one verdict: from a head that was read, and from its bytes.
    #[test]
    fn what_is_taken_is_judged_as_its_bytes_are(bytes in head()) {
        if let Ok(Some((read, length))) = parse_request(&bytes) {
            let head = bytes[..length].strip_prefix(b"\r\n").unwrap_or(&bytes[..length]);
            prop_assert_eq!(words(read.verdict), guardian(head), "{}", head.escape_ascii());
        }
    }

    #[test]
    fn no_bytes_panic_the_classifier(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = of_bytes(&bytes);
    }
}
