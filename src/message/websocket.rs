//! What we must know of WebSocket: the key and its answer where we ask on behalf of an HTTP/2 client, and where frames
//! begin, so that a Close can be put between two of them. Never looks at what they carry.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::prelude::{BASE64_STANDARD, Engine};

use crate::headers::{Headers, Name};

/// A `Sec-WebSocket-Key` of our own (RFC 6455 §4.1), for clients that come by HTTP/2 and have none (RFC 8441 §5).
#[derive(Debug)]
pub(crate) struct Key(String);

impl Key {
    /// `random` need not be unguessable: the answer proves that the target understood, and nothing else.
    pub(crate) fn new(random: [u8; 16]) -> Self {
        Self(BASE64_STANDARD.encode(random))
    }

    pub(crate) fn value(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether an answer was made with this key (RFC 6455 §4.2.2).
    pub(crate) fn is_accepted(&self, headers: &Headers) -> bool {
        let text = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", self.0);
        let expected = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let expected = BASE64_STANDARD.encode(expected);
        headers
            .get(Name::SecWebSocketAccept)
            .is_some_and(|accept| accept == expected.as_bytes())
    }
}

/// Close with 1012, "service restart" (RFC 6455 §5.5.1 and IANA's registry of close codes): clients reconnect.
pub(crate) const CLOSE_SERVICE_RESTART: [u8; 4] = [0x88, 0x02, 0x03, 0xf4];

/// How far a stream of frames is.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// Bytes of the payload that are to come.
    payload: u64,
    /// The header that has begun, of which `seen` bytes are there.
    header: [u8; HEADER_MAX],
    seen: u8,
    close: Close,
}

/// Two bytes, a length of eight, a mask of four.
const HEADER_MAX: usize = 14;

/// Whether the stream has said that it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Close {
    #[default]
    NotYet,
    /// A Close frame has begun; nothing may come after it.
    Sent,
}

impl Frames {
    /// Whether the next byte begins a frame.
    pub(crate) fn at_boundary(&self) -> bool {
        self.payload == 0 && self.seen == 0
    }

    pub(crate) fn close(&self) -> Close {
        self.close
    }

    /// Follows all of `bytes`.
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = self.step(bytes);
            bytes = &bytes[used..];
        }
    }

    /// Follows `bytes` up to where the frame that runs ends, and says how many those are.
    pub(crate) fn finish_frame(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while !self.at_boundary() && used < bytes.len() {
            used += self.step(&bytes[used..]);
        }
        used
    }

    /// Follows some of `bytes`, which are not empty: what is left of a payload, or one byte of a header.
    fn step(&mut self, bytes: &[u8]) -> usize {
        if self.payload > 0 {
            let used = self.payload.min(bytes.len() as u64);
            self.payload -= used;
            // No more than there are bytes at hand.
            return used as usize;
        }
        self.header[usize::from(self.seen)] = bytes[0];
        self.seen += 1;
        if self.seen == 1 && self.header[0] & 0x0f == OPCODE_CLOSE {
            self.close = Close::Sent;
        }
        if usize::from(self.seen) == self.header_len() {
            self.payload = self.payload_len();
            self.seen = 0;
        }
        1
    }

    /// Length of the header that has begun, as far as its first two bytes tell.
    fn header_len(&self) -> usize {
        if self.seen < 2 {
            return 2;
        }
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + mask
    }

    fn payload_len(&self) -> u64 {
        let bytes = match self.header[1] & 0x7f {
            126 => &self.header[2..4],
            127 => &self.header[2..10],
            short => return u64::from(short),
        };
        bytes
            .iter()
            .fold(0, |length, &byte| length << 8 | u64::from(byte))
    }
}

const OPCODE_CLOSE: u8 = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame of this many bytes of payload.
    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match length {
            0..126 => frame.push(mask | length as u8),
            126..65_536 => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        frame.resize(frame.len() + length, 0x88);
        frame
    }

    /// The example of RFC 6455 §1.3.
    #[test]
    fn a_key_is_accepted_by_its_own_answer() {
        let key = Key::new(*b"the sample nonce");
        assert_eq!(key.value(), b"dGhlIHNhbXBsZSBub25jZQ==");
        let answer = |accept| Headers::for_test(&[("Sec-WebSocket-Accept", accept)]);
        assert!(key.is_accepted(&answer("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
        assert!(!key.is_accepted(&answer("s3pPLMBiTxaQ9kYGzzhZRbK+xOp=")));
        assert!(!key.is_accepted(&Headers::default()));
    }

    #[test]
    fn a_frame_ends_where_its_length_says() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            for masked in [false, true] {
                let bytes = frame(2, length, masked);
                let mut frames = Frames::default();
                for byte in &bytes[..bytes.len() - 1] {
                    frames.follow(&[*byte]);
                    assert!(!frames.at_boundary(), "{length}");
                }
                frames.follow(&bytes[bytes.len() - 1..]);
                assert!(frames.at_boundary(), "{length}");
            }
        }
    }

    #[test]
    fn finishing_stops_at_the_end_of_the_frame() {
        let (first, second) = (frame(1, 300, false), frame(1, 5, false));
        let mut frames = Frames::default();
        frames.follow(&first[..10]);
        let rest = [&first[10..], &second].concat();
        assert_eq!(frames.finish_frame(&rest), first.len() - 10);
        assert!(frames.at_boundary());
        assert_eq!(frames.finish_frame(&second), 0);
    }

    #[test]
    fn a_close_is_seen_when_it_begins_and_not_within_a_payload() {
        let mut frames = Frames::default();
        frames.follow(&frame(2, 200, false));
        assert_eq!(frames.close(), Close::NotYet);
        frames.follow(&CLOSE_SERVICE_RESTART[..1]);
        assert_eq!(frames.close(), Close::Sent);
    }

    #[test]
    fn our_own_close_is_one_whole_frame_with_code_1012() {
        let mut frames = Frames::default();
        frames.follow(&CLOSE_SERVICE_RESTART);
        assert!(frames.at_boundary());
        let [_, _, high, low] = CLOSE_SERVICE_RESTART;
        assert_eq!(u16::from_be_bytes([high, low]), 1012);
    }

    proptest! {
        /// However the bytes are cut, and whatever they are, the same place is reached.
        #[test]
        fn pieces_do_not_matter(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            cuts in prop::collection::vec(0_usize..400, 0..6),
        ) {
            let mut whole = Frames::default();
            whole.follow(&bytes);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut cut = Frames::default();
            for piece in cuts.windows(2) {
                cut.follow(&bytes[piece[0]..piece[1]]);
            }
            prop_assert_eq!(whole.at_boundary(), cut.at_boundary());
            prop_assert_eq!(whole.payload, cut.payload);
            prop_assert_eq!(whole.close(), cut.close());
        }
    }
}
