//! The fields of a head, read in one pass, strictly by RFC 9112 §5, and the search for bytes that end a text. Never
//! knows what a field means.

use super::{HEADER_MAX, HEADERS_MAX, Malformed};
use crate::headers::{Fields, Headers};

/// Reads the fields from `first` on, up to and with the empty line behind them. Gives them with the length of the head,
/// or `None` while it is incomplete.
pub(super) fn read_fields(
    bytes: &[u8],
    first: usize,
) -> Result<Option<(Headers, usize)>, Malformed> {
    let mut fields = Fields::new();
    let mut line = first;
    let mut kinds = 0;
    loop {
        let name_end = line + length_of_name(&bytes[line..], &mut kinds);
        match bytes.get(name_end) {
            None => return Ok(None),
            Some(b':') if name_end > line => {}
            Some(b'\r') if name_end == line => {
                let end = line_end(bytes, line, "a carriage return stands alone")?;
                let are_plain = kinds & ODD == 0;
                return Ok(end.map(|end| (fields.of_head(&bytes[..end], are_plain), end)));
            }
            Some(_) => return Err(Malformed::Syntax("a header name is not a token")),
        }
        let mut value = name_end + 1;
        while let Some(b' ' | b'\t') = bytes.get(value) {
            value += 1;
        }
        let Some(text_end) = find_control(bytes, value) else {
            return Ok(None);
        };
        let refusal = "a header value holds a control character";
        let Some(next_line) = line_end(bytes, text_end, refusal)? else {
            return Ok(None);
        };
        let mut value_end = text_end;
        while value_end > value && matches!(bytes[value_end - 1], b' ' | b'\t') {
            value_end -= 1;
        }
        if name_end - line + value_end - value > HEADER_MAX || fields.len() == HEADERS_MAX {
            return Err(Malformed::HeadTooLarge);
        }
        fields.note(bytes, line..name_end, value..value_end);
        line = next_line;
    }
}

/// Where the next line begins, if this one ends at `at` in CRLF and nothing else; `None` while that has not come.
pub(super) fn line_end(
    bytes: &[u8],
    at: usize,
    refusal: &'static str,
) -> Result<Option<usize>, Malformed> {
    match bytes[at..] {
        [] | [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] => Ok(Some(at + 2)),
        _ => Err(Malformed::Syntax(refusal)),
    }
}

/// How many bytes of a token (RFC 9110 §5.6.2) stand first.
pub(super) fn length_of_token(bytes: &[u8]) -> usize {
    let end = bytes.iter().position(|&byte| !is_token(byte));
    end.unwrap_or(bytes.len())
}

/// The same, and adds what kinds of bytes they are.
fn length_of_name(bytes: &[u8], kinds: &mut u8) -> usize {
    let mut length = 0;
    for &byte in bytes {
        let kind = TOKEN[usize::from(byte)];
        if kind == 0 {
            break;
        }
        *kinds |= kind;
        length += 1;
    }
    length
}

/// Whether a byte may stand in a token.
pub(super) fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)] != 0
}

/// Of a byte of a token: a letter, a digit or a hyphen.
const PLAIN: u8 = 1;
/// Any other.
const ODD: u8 = 2;

/// The kind of each byte; 0 for what stands in no token.
static TOKEN: [u8; 256] = {
    let (plain, all) = (
        letters_digits_and(b"-"),
        letters_digits_and(b"!#$%&'*+-.^_`|~"),
    );
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = match (plain[byte], all[byte]) {
            (true, _) => PLAIN,
            (false, true) => ODD,
            (false, false) => 0,
        };
        byte += 1;
    }
    kinds
};

/// A table of bytes, for where each byte of a head is looked up.
pub(super) const fn letters_digits_and(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

/// The first control character from `from` on, but for tabs: RFC 9110 §5.5 allows none in a value, and one ends its
/// line.
pub(super) fn find_control(bytes: &[u8], mut from: usize) -> Option<usize> {
    loop {
        from += find_below::<0x20>(&bytes[from..])?;
        if bytes[from] != b'\t' {
            return Some(from);
        }
        from += 1;
    }
}

/// The first byte that is less than `LIMIT`, or DEL. Eight at a time: a head is looked at whole.
pub(super) fn find_below<const LIMIT: u8>(bytes: &[u8]) -> Option<usize> {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = EACH << 7;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The high bit of each byte that comes out less than 0, and was not set before. A byte behind one that does may
        // have to lend to it and show too, but it is the first that is asked for.
        let less = word.wrapping_sub(EACH * LIMIT as u64);
        let del = (word ^ (EACH * 0x7f)).wrapping_sub(EACH);
        let found = (less | del) & !word & HIGH;
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|&byte| byte < LIMIT || byte == 0x7f)?;
    Some(words.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Names and values, and how many bytes all of them take.
    type Seen = (Vec<(Vec<u8>, Vec<u8>)>, usize);

    /// As another parser sees them.
    fn others(bytes: &[u8]) -> Option<Seen> {
        let mut slots = [httparse::EMPTY_HEADER; HEADERS_MAX];
        match httparse::parse_headers(bytes, &mut slots) {
            Ok(httparse::Status::Complete((length, fields))) => {
                let field = |field: &httparse::Header<'_>| {
                    (field.name.as_bytes().to_vec(), field.value.to_vec())
                };
                Some((fields.iter().map(field).collect(), length))
            }
            Ok(httparse::Status::Partial) | Err(_) => None,
        }
    }

    fn ours(bytes: &[u8]) -> Option<Seen> {
        let (headers, length) = read_fields(bytes, 0).ok()??;
        let field = |(name, value): (&[u8], &[u8])| (name.to_vec(), value.to_vec());
        Some((headers.iter().map(field).collect(), length))
    }

    #[test]
    fn fields_are_as_another_parser_sees_them() {
        for text in [
            "\r\n",
            "A: b\r\n\r\n",
            "A:b\r\nC:\r\nD: \t e \t\r\nF:  \r\n\r\nrest",
            "A: \u{e9}\tb c\r\n\r\n",
            "~!#$%&'*+-.^_`|z9: \x7e\r\n\r\n",
        ] {
            let bytes = text.as_bytes();
            assert!(ours(bytes).is_some(), "{text:?}");
            assert_eq!(ours(bytes), others(bytes), "{text:?}");
            let (_, length) = ours(bytes).unwrap();
            for cut in 0..length {
                assert!(
                    matches!(read_fields(&bytes[..cut], 0), Ok(None)),
                    "{text:?}"
                );
            }
        }
    }

    #[test]
    fn every_byte_alone_is_where_it_may_be() {
        for byte in 0..=255_u8 {
            let name = [b"ab", &[byte][..], b"c: d\r\n\r\n"].concat();
            let value = [b"ab: c", &[byte][..], b"d\r\n\r\n"].concat();
            assert_eq!(ours(&name), others(&name), "{byte} in a name");
            // A bare line feed is the one that another parser takes.
            let theirs = others(&value).filter(|_| byte != b'\n');
            assert_eq!(ours(&value), theirs, "{byte} in a value");
        }
    }

    proptest! {
        #[test]
        fn what_we_take_others_take_alike(
            bytes in "([A-Za-z-]{0,9}[: \t]{0,3}[ -~\t\u{80}-\u{ff}]{0,30}(\r\n|\r\n|\r\n|\n|\r|\0|\x7f| )){0,6}(\r\n)?",
        ) {
            let bytes = bytes.as_bytes();
            if let Some(ours) = ours(bytes) {
                let theirs = others(bytes);
                prop_assert_eq!(Some(&ours), theirs.as_ref());
                let plain: Vec<_> = bytes[..ours.1].split(|byte| *byte == b'\n').collect();
                prop_assert!(plain.iter().rev().skip(1).all(|line| line.ends_with(b"\r")));
            }
        }

        #[test]
        fn the_first_of_them_is_found(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let naive = |limit: u8| bytes.iter().position(|&byte| byte < limit || byte == 0x7f);
            prop_assert_eq!(find_below::<0x20>(&bytes), naive(0x20));
            prop_assert_eq!(find_below::<0x21>(&bytes), naive(0x21));
        }
    }
}
