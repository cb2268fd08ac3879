//! Names in the paths of the admin address, percent-encoded (RFC 3986 §2.1): both directions.

use std::fmt::Write;

/// A name as one segment of a path.
pub(crate) fn encode(name: &str) -> String {
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                segment.push(byte.into());
            }
            _ => write!(segment, "%{byte:02X}").expect("memory takes every character"),
        }
    }
    segment
}

/// The name that a segment stands for; `None` if it stands for none.
pub(super) fn decode(segment: &str) -> Option<String> {
    let mut name = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        name.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(name).ok()
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_segment_is_what_it_stands_for() {
        assert_eq!(encode("[::1]:80"), "%5B%3A%3A1%5D%3A80");
        assert_eq!(decode("[::1]:80").as_deref(), Some("[::1]:80"));
        assert_eq!(decode("a%2Fb%3a1").as_deref(), Some("a/b:1"));
        for broken in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in ".{0,40}") {
            let segment = encode(&name);
            prop_assert!(!segment.contains('/') && segment.is_ascii());
            prop_assert_eq!(decode(&segment), Some(name));
        }
    }
}
