//! base64url without padding (RFC 4648 §5), of whole groups of three bytes. Cookie values hold none of `+ / =` safely
//! everywhere. Never takes two texts for the same bytes.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Appends the text of `bytes`; what is left of a group at the end is not written.
pub(super) fn encode(bytes: &[u8], text: &mut Vec<u8>) {
    for three in bytes.as_chunks::<3>().0 {
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        let letter = |place: u32| ALPHABET[(bits >> (6 * place) & 63) as usize];
        text.extend_from_slice(&[letter(3), letter(2), letter(1), letter(0)]);
    }
}

/// The bytes of a text, in the beginning of `buffer`. `None` for one that `encode` does not write, or that is too
/// long.
pub(super) fn decode<'b>(text: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let (fours, []) = text.as_chunks::<4>() else {
        return None;
    };
    let bytes = buffer.get_mut(..fours.len() * 3)?;
    for (four, three) in fours.iter().zip(bytes.chunks_exact_mut(3)) {
        let bits = four
            .iter()
            .try_fold(0, |bits, &letter| Some(bits << 6 | value(letter)?))?;
        three.copy_from_slice(&u32::to_be_bytes(bits)[1..]);
    }
    Some(bytes)
}

fn value(letter: u8) -> Option<u32> {
    let value = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        encode(bytes, &mut text);
        text
    }

    #[test]
    fn it_is_the_url_safe_one() {
        assert_eq!(
            encoded(b"Many hands make light work.!!?"),
            *b"TWFueSBoYW5kcyBtYWtlIGxpZ2h0IHdvcmsuISE_"
        );
        assert_eq!(encoded(&[0xfb, 0xef, 0xbe, 0xff, 0xff, 0xff]), *b"----____");
    }

    #[test]
    fn nothing_else_is_read() {
        let mut buffer = [0; 6];
        for text in [
            "A",
            "AA",
            "AAA",
            "AAAAA",
            "AAA=",
            "AAA+",
            "AA A",
            "AAAAAAAAAAAA",
        ] {
            assert_eq!(decode(text.as_bytes(), &mut buffer), None, "{text}");
        }
        assert_eq!(decode(b"", &mut buffer), Some(&b""[..]));
    }

    proptest! {
        #[test]
        fn it_goes_there_and_back(threes in prop::collection::vec(any::<[u8; 3]>(), 0..80)) {
            let bytes = threes.concat();
            let mut buffer = [0; 240];
            prop_assert_eq!(decode(&encoded(&bytes), &mut buffer), Some(&bytes[..]));
        }

        #[test]
        fn a_text_that_is_read_is_the_only_one(text in "[A-Za-z0-9_-]{0,40}") {
            let mut buffer = [0; 30];
            if let Some(bytes) = decode(text.as_bytes(), &mut buffer) {
                prop_assert_eq!(encoded(bytes), text.as_bytes());
            }
        }
    }
}
