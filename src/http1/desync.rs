//! Says of every request how sure it is that all readers find the same end of it: ALB's class and reason, judged from
//! the bytes ("Desync mitigation mode" in the ALB user guide, and `http_desync_guardian`, the classifier that AWS
//! published). Refuses nothing and never knows the mode.

use http::{Method, Version};
use memchr::{memchr, memrchr};
use smallvec::SmallVec;

use super::fields::is_token;
use super::framing::FRAMING;
use super::{FramingHeader, HEADERS_MAX};
use crate::headers::{Headers, Name};

/// What ALB would say of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict(Option<Reason>);

/// How much a request may be misread, from not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Compliant,
    /// Not by the RFC, but no known risk.
    Acceptable,
    /// Readers may differ about where it ends.
    Ambiguous,
    /// It is most likely meant to be misread.
    Severe,
}

/// Why a request is not compliant; ALB's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    GetHeadZeroContentLength,
    NonCompliantHeader,
    NonCompliantVersion,
    NonCrLfLineTermination,
    SpaceInUri,
    AmbiguousUri,
    BothTeClPresent,
    DuplicateContentLength,
    EmptyHeader,
    MissingHeaderColon,
    MissingUri,
    MultilineHeader,
    SuspiciousHeader,
    UndefinedContentLengthSemantics,
    UndefinedTransferEncodingSemantics,
    BadContentLength,
    BadHeader,
    BadMethod,
    BadTransferEncoding,
    BadUri,
    BadVersion,
    MultipleContentLength,
    MultipleTransferEncodingChunked,
}

impl Verdict {
    pub(crate) const COMPLIANT: Self = Self(None);

    pub(crate) fn class(self) -> Class {
        self.0.map_or(Class::Compliant, Reason::class)
    }

    /// `None` for what is compliant.
    pub(crate) fn reason(self) -> Option<Reason> {
        self.0
    }

    /// Notes a finding. The first of a class stays; only a graver one takes its place.
    fn note(&mut self, reason: Reason) {
        if self.class() < reason.class() {
            self.0 = Some(reason);
        }
    }
}

impl Class {
    /// The word in the access log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Compliant => "Compliant",
            Self::Acceptable => "Acceptable",
            Self::Ambiguous => "Ambiguous",
            Self::Severe => "Severe",
        }
    }
}

impl Reason {
    pub(crate) fn class(self) -> Class {
        match self {
            Self::GetHeadZeroContentLength
            | Self::NonCompliantHeader
            | Self::NonCompliantVersion
            | Self::NonCrLfLineTermination
            | Self::SpaceInUri => Class::Acceptable,
            Self::AmbiguousUri
            | Self::BothTeClPresent
            | Self::DuplicateContentLength
            | Self::EmptyHeader
            | Self::MissingHeaderColon
            | Self::MissingUri
            | Self::MultilineHeader
            | Self::SuspiciousHeader
            | Self::UndefinedContentLengthSemantics
            | Self::UndefinedTransferEncodingSemantics => Class::Ambiguous,
            Self::BadContentLength
            | Self::BadHeader
            | Self::BadMethod
            | Self::BadTransferEncoding
            | Self::BadUri
            | Self::BadVersion
            | Self::MultipleContentLength
            | Self::MultipleTransferEncodingChunked => Class::Severe,
        }
    }

    /// The word in the access log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::GetHeadZeroContentLength => "GetHeadZeroContentLength",
            Self::NonCompliantHeader => "NonCompliantHeader",
            Self::NonCompliantVersion => "NonCompliantVersion",
            Self::NonCrLfLineTermination => "NonCrLfLineTermination",
            Self::SpaceInUri => "SpaceInUri",
            Self::AmbiguousUri => "AmbiguousUri",
            Self::BothTeClPresent => "BothTeClPresent",
            Self::DuplicateContentLength => "DuplicateContentLength",
            Self::EmptyHeader => "EmptyHeader",
            Self::MissingHeaderColon => "MissingHeaderColon",
            Self::MissingUri => "MissingUri",
            Self::MultilineHeader => "MultilineHeader",
            Self::SuspiciousHeader => "SuspiciousHeader",
            Self::UndefinedContentLengthSemantics => "UndefinedContentLengthSemantics",
            Self::UndefinedTransferEncodingSemantics => "UndefinedTransferEncodingSemantics",
            Self::BadContentLength => "BadContentLength",
            Self::BadHeader => "BadHeader",
            Self::BadMethod => "BadMethod",
            Self::BadTransferEncoding => "BadTransferEncoding",
            Self::BadUri => "BadUri",
            Self::BadVersion => "BadVersion",
            Self::MultipleContentLength => "MultipleContentLength",
            Self::MultipleTransferEncodingChunked => "MultipleTransferEncodingChunked",
        }
    }
}

/// The verdict on a head that our strict reader took. Its lines, names and values are RFC 9112's, so what is left to
/// judge is what its headers say of the body, and names that others may take for those that do.
pub(super) fn of_head(method: &Method, version: Version, headers: &Headers) -> Verdict {
    let method = method.as_str().as_bytes();
    let version = match version {
        Version::HTTP_10 => HTTP_1_0,
        _ => HTTP_1_1,
    };
    let mut verdict = Verdict::COMPLIANT;
    if has_suspicious(headers) {
        let fields: Fields<'_> = headers.iter().map(Field::of).collect();
        judge(&mut verdict, method, b"/", version, &fields);
    } else if headers.has_any(FRAMING) {
        // Nearly all that have a body, and cheap: two or three short values are looked at.
        let codings = headers.all(Name::TransferEncoding).collect();
        let lengths = headers.all(Name::ContentLength).collect();
        judge_framing(&mut verdict, method, version, &codings, &lengths);
    }
    verdict
}

/// The verdict on a request that came over HTTP/2, as it will go to a target: with this framing, whatever its own
/// headers say of it.
pub(crate) fn of_generated(method: &Method, headers: &Headers, framing: FramingHeader) -> Verdict {
    let is_doubted =
        matches!(*method, Method::GET | Method::HEAD) && framing != FramingHeader::None;
    if !is_doubted && !has_suspicious(headers) {
        return Verdict::COMPLIANT;
    }
    let mut length = itoa::Buffer::new();
    let ours = match framing {
        FramingHeader::None => None,
        FramingHeader::Length(bytes) => Some((CONTENT_LENGTH, length.format(bytes).as_bytes())),
        FramingHeader::Chunked => Some((TRANSFER_ENCODING, CHUNKED)),
    };
    let is_framing = |name: &[u8]| {
        [CONTENT_LENGTH, TRANSFER_ENCODING]
            .iter()
            .any(|framing| name.eq_ignore_ascii_case(framing))
    };
    let others = headers.iter().filter(|(name, _)| !is_framing(name));
    let fields: Fields<'_> = others.chain(ours).map(Field::of).collect();
    let mut verdict = Verdict::COMPLIANT;
    let method = method.as_str().as_bytes();
    judge(&mut verdict, method, b"/", HTTP_1_1, &fields);
    verdict
}

/// The verdict on a head that our strict reader refused, as far as it came: up to its empty line, or else to the end
/// of its last whole line, since what comes after is not known to be missing.
pub(crate) fn of_bytes(bytes: &[u8]) -> Verdict {
    let Some(end) = memrchr(b'\n', bytes) else {
        return Verdict::COMPLIANT;
    };
    let mut lines = Lines(&bytes[..=end]);
    let mut verdict = Verdict::COMPLIANT;
    // There is one, up to that line feed.
    let first = lines.next(&mut verdict).unwrap_or_default();
    let (method, target, version) = split_first_line(first, &mut verdict);
    let fields = read_fields(lines, &mut verdict);
    judge(&mut verdict, method, target, version, &fields);
    verdict
}

/// Whether a name, which is not that of a framing header, may be taken for it by somebody who is careless about what
/// stands between letters. Whoever writes one means to be misread.
pub(crate) fn is_suspicious(name: &[u8]) -> bool {
    // Shorter ones cannot be, and most others begin with another letter.
    if name.len() < CONTENT_LENGTH.len() {
        return false;
    }
    let first = name.iter().find(|byte| byte.is_ascii_alphanumeric());
    if !matches!(first, Some(b'c' | b'C' | b't' | b'T')) {
        return false;
    }
    match similarity(TRANSFER_ENCODING, name) {
        Similarity::Same => false,
        Similarity::SameLetters => true,
        Similarity::Distant => similarity(CONTENT_LENGTH, name) == Similarity::SameLetters,
    }
}

fn has_suspicious(headers: &Headers) -> bool {
    headers.any_unknown(CONTENT_LENGTH.len() as u16, is_suspicious)
}

const CONTENT_LENGTH: &[u8] = b"content-length";
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding";
const CHUNKED: &[u8] = b"chunked";
const HTTP_0_9: &[u8] = b"HTTP/0.9";
const HTTP_1_0: &[u8] = b"HTTP/1.0";
const HTTP_1_1: &[u8] = b"HTTP/1.1";
const HTTP_2: &[u8] = b"HTTP/2";

/// A header, its value as it stands behind the colon.
#[derive(Clone, Copy)]
struct Field<'a> {
    name: &'a [u8],
    value: &'a [u8],
}

impl<'a> Field<'a> {
    fn of((name, value): (&'a [u8], &'a [u8])) -> Self {
        Self { name, value }
    }
}

/// Only requests that are refused or odd have their headers gathered.
type Fields<'a> = SmallVec<[Field<'a>; 16]>;

/// Values of one framing header; more than one is odd already.
type Values<'a> = SmallVec<[&'a [u8]; 2]>;

/// The whole judgement, in the order of AWS's classifier, which decides between reasons of one class.
fn judge(
    verdict: &mut Verdict,
    method: &[u8],
    target: &[u8],
    version: &[u8],
    fields: &[Field<'_>],
) {
    // Its comparison is of bytes: a version in small letters is none that it knows either.
    if version >= HTTP_2 {
        *verdict = Verdict::COMPLIANT;
        return;
    }
    let version = match trim(version) {
        b"" => HTTP_0_9,
        _ => version,
    };
    let (mut codings, mut lengths) = (Values::new(), Values::new());
    for &field in fields {
        judge_field(verdict, field, &mut codings, &mut lengths);
    }
    judge_framing(verdict, method, version, &codings, &lengths);
    if !method.iter().all(|&byte| is_token(byte)) {
        verdict.note(Reason::BadMethod);
    }
    judge_version(verdict, version);
    judge_target(verdict, target);
}

fn judge_field<'a>(
    verdict: &mut Verdict,
    field: Field<'a>,
    codings: &mut Values<'a>,
    lengths: &mut Values<'a>,
) {
    let is_harmful = field
        .name
        .iter()
        .chain(field.value)
        .any(|&byte| ends_lines(byte));
    if is_harmful {
        verdict.note(Reason::BadHeader);
    } else if !field.name.iter().all(|&byte| is_token(byte))
        || !field.value.iter().all(|&byte| is_value_byte(byte))
    {
        verdict.note(Reason::NonCompliantHeader);
    }
    if matches!(trim(field.name), [] | [b':', ..]) {
        verdict.note(Reason::EmptyHeader);
        return;
    }
    let coding = similarity(TRANSFER_ENCODING, field.name);
    let length = match coding {
        Similarity::Distant => similarity(CONTENT_LENGTH, field.name),
        _ => Similarity::Distant,
    };
    match (coding, length) {
        (Similarity::Same, _) => codings.push(field.value),
        (_, Similarity::Same) => lengths.push(field.value),
        _ if is_harmful => {}
        (Similarity::SameLetters, _) => {
            verdict.note(Reason::SuspiciousHeader);
            codings.push(field.value);
        }
        (_, Similarity::SameLetters) => {
            verdict.note(Reason::SuspiciousHeader);
            lengths.push(field.value);
        }
        (Similarity::Distant, Similarity::Distant) => {}
    }
}

/// What is said of the body, and whether it can be said of this method in this version.
fn judge_framing(
    verdict: &mut Verdict,
    method: &[u8],
    version: &[u8],
    codings: &Values<'_>,
    lengths: &Values<'_>,
) {
    if version <= HTTP_1_0 && !codings.is_empty() {
        verdict.note(Reason::UndefinedTransferEncodingSemantics);
        return;
    }
    if version < HTTP_1_0 && !lengths.is_empty() {
        verdict.note(Reason::UndefinedContentLengthSemantics);
        return;
    }
    judge_codings(verdict, codings);
    let length = judge_lengths(verdict, lengths);
    if matches!(method, b"GET" | b"HEAD") {
        if !codings.is_empty() {
            verdict.note(Reason::UndefinedTransferEncodingSemantics);
        }
        match length {
            Some(0) => verdict.note(Reason::GetHeadZeroContentLength),
            Some(_) => verdict.note(Reason::UndefinedContentLengthSemantics),
            None => {}
        }
    }
    if length.is_some() && !codings.is_empty() {
        verdict.note(Reason::BothTeClPresent);
    }
}

fn judge_codings(verdict: &mut Verdict, codings: &Values<'_>) {
    let mut after_chunked = false;
    for item in codings
        .iter()
        .flat_map(|value| value.split(|&byte| byte == b','))
    {
        let name = trim(item.split(|&byte| byte == b';').next().unwrap_or_default());
        let is = |coding: &[u8]| name.eq_ignore_ascii_case(coding);
        if is(CHUNKED) {
            if after_chunked {
                verdict.note(Reason::MultipleTransferEncodingChunked);
            }
            after_chunked = true;
        } else if is(b"compress") || is(b"deflate") || is(b"gzip") || is(b"identity") {
            after_chunked = false;
        } else {
            verdict.note(Reason::BadTransferEncoding);
        }
    }
}

/// Gives the first length that is one.
fn judge_lengths(verdict: &mut Verdict, lengths: &Values<'_>) -> Option<u64> {
    let mut first = None;
    for value in lengths {
        match (number(trim(value)), first) {
            (None, _) => verdict.note(Reason::BadContentLength),
            (Some(length), None) => first = Some(length),
            (Some(length), Some(first)) if length == first => {
                verdict.note(Reason::DuplicateContentLength);
            }
            (Some(_), Some(_)) => verdict.note(Reason::MultipleContentLength),
        }
    }
    first
}

fn judge_version(verdict: &mut Verdict, version: &[u8]) {
    let bare = trim(version);
    match bare.strip_prefix(b"HTTP/1.") {
        Some([minor @ b'0'..=b'9']) => {
            if bare.len() != version.len() || *minor > b'1' {
                verdict.note(Reason::NonCompliantVersion);
            }
        }
        _ if bare == HTTP_0_9 => verdict.note(Reason::NonCompliantVersion),
        _ => verdict.note(Reason::BadVersion),
    }
}

fn judge_target(verdict: &mut Verdict, target: &[u8]) {
    for &byte in target {
        match byte {
            _ if ends_lines(byte) => verdict.note(Reason::BadUri),
            b' ' => verdict.note(Reason::SpaceInUri),
            ..b' ' | 0x7f => verdict.note(Reason::AmbiguousUri),
            _ => {}
        }
    }
}

/// The lines of a head, however they end.
#[derive(Clone, Copy)]
struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    fn next(&mut self, verdict: &mut Verdict) -> Option<&'a [u8]> {
        let end = memchr(b'\n', self.0)?;
        let line = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Some(line.strip_suffix(b"\r").unwrap_or_else(|| {
            verdict.note(Reason::NonCrLfLineTermination);
            line
        }))
    }
}

/// Method, target and version. The version is the last word, so that spaces before it are the target's.
fn split_first_line<'a>(line: &'a [u8], verdict: &mut Verdict) -> (&'a [u8], &'a [u8], &'a [u8]) {
    let Some((method, rest)) = split_once(line, b' ').filter(|(_, rest)| !rest.is_empty()) else {
        verdict.note(Reason::MissingUri);
        return (
            split_once(line, b' ').map_or(line, |(method, _)| method),
            b"",
            b"",
        );
    };
    // What is no token at the end of the line, such as spaces, belongs to the last word.
    let last = rest.iter().rposition(|&byte| is_token(byte)).unwrap_or(0);
    match memrchr(b' ', &rest[..=last]) {
        Some(space) => {
            if rest == b" " {
                verdict.note(Reason::MissingUri);
            }
            (method, &rest[..space], &rest[space + 1..])
        }
        None if rest.starts_with(b"HTTP/1.") => {
            verdict.note(Reason::MissingUri);
            (method, b"", rest)
        }
        // HTTP/0.9 names no version.
        None => (method, rest, b""),
    }
}

/// The headers, folded lines as AWS's classifier reads them: as more of the value before them where they cannot be
/// taken for a header, else as headers whose names begin with a space.
fn read_fields<'a>(mut lines: Lines<'a>, verdict: &mut Verdict) -> Fields<'a> {
    let mut fields = Fields::new();
    let mut above: Option<&[u8]> = None;
    let mut is_media_type = false;
    while fields.len() < HEADERS_MAX
        && let Some(line) = lines.next(verdict)
        && !line.is_empty()
    {
        let is_folded = matches!(line, [b' ' | b'\t', ..]);
        let split = split_once(line, b':');
        if let (false, Some((name, _))) = (is_folded, split) {
            is_media_type = name.eq_ignore_ascii_case(b"content-type");
            above = Some(name);
        }
        fields.push(match (above, split) {
            (Some(name), None) if is_folded => Field { name, value: line },
            (Some(name), Some((value, _))) if is_folded && is_media_type => Field { name, value },
            (_, Some((name, value))) => Field { name, value },
            (_, None) => Field {
                name: line,
                value: b"",
            },
        });
        if is_folded && !is_media_type {
            verdict.note(Reason::MultilineHeader);
        } else if !is_folded && split.is_none() {
            verdict.note(Reason::MissingHeaderColon);
        }
    }
    fields
}

/// How alike a name is to one that frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Similarity {
    /// It is that name.
    Same,
    /// It is that name to somebody who reads letters alone.
    SameLetters,
    Distant,
}

/// Compares by letters, as AWS's classifier does, down to how it stops at the first that differs. `framing` is in small
/// letters.
fn similarity(framing: &[u8], name: &[u8]) -> Similarity {
    if name.len() < framing.len() {
        return Similarity::Distant;
    }
    let mut at = after_odd(name, 0);
    let mut is_same = at == 0 && name.len() == framing.len();
    for &wanted in framing {
        if at == name.len() {
            return Similarity::Distant;
        }
        let letter = letter_at(wanted, name, at);
        if wanted == b'-' {
            is_same &= letter.is_some();
            at = after_odd(name, letter.unwrap_or(at + 1));
        } else {
            let Some(next) = letter else {
                break;
            };
            at = next
                + name[next..]
                    .iter()
                    .take_while(|&&byte| byte <= b' ')
                    .count();
        }
    }
    if at == name.len() && is_same {
        Similarity::Same
    } else if after_odd(name, at) == name.len() {
        Similarity::SameLetters
    } else {
        Similarity::Distant
    }
}

/// The next letter or digit from `at` on.
fn after_odd(name: &[u8], at: usize) -> usize {
    let odd = name[at..]
        .iter()
        .take_while(|byte| !byte.is_ascii_alphanumeric());
    at + odd.count()
}

/// Where it goes on behind `wanted`, if that stands at `at` in either case. The long s and the i without a dot turn
/// into S and I where a name is put into capitals.
fn letter_at(wanted: u8, name: &[u8], at: usize) -> Option<usize> {
    match (wanted, &name[at..]) {
        (_, [byte, ..]) if byte.to_ascii_lowercase() == wanted => Some(at + 1),
        (b's', [0xc5, 0xbf, ..]) | (b'i', [0xc4, 0xb1, ..]) => Some(at + 2),
        _ => None,
    }
}

fn split_once(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr(byte, text)?;
    Some((&text[..at], &text[at + 1..]))
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// None at all is 0.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |sum, digit| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// What no reader may let through: whoever does sees other lines than were written.
fn ends_lines(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

#[cfg(test)]
mod tests;
