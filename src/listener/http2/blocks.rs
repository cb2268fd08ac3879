//! Since when a client has been sending a block of headers: h2 keeps what has come of one for as long as the rest does
//! not, and hears nothing else meanwhile (RFC 9113 §4.3). Never looks into a block.

use std::time::Instant;

use crate::worker;

/// Bytes before the first frame (RFC 9113 §3.4).
const PREFACE_LEN: usize = 24;

/// Bytes before a frame's payload (RFC 9113 §4.1).
const HEAD_LEN: usize = 9;

/// Types of frames that have a piece of a block, and the flag of the last one (RFC 9113 §6.2, §6.10).
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Where the frames that were read end.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Bytes to come that are passed over: the preface, then the rest of a payload.
    ahead: usize,
    /// The first bytes of a frame.
    head: [u8; HEAD_LEN],
    head_len: usize,
    block: Block,
    since: Option<Instant>,
}

/// How much has come of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    None,
    /// All but the rest of its last frame.
    Last,
    Some,
}

impl Blocks {
    pub(super) fn new() -> Self {
        Self {
            ahead: PREFACE_LEN,
            head: [0; HEAD_LEN],
            head_len: 0,
            block: Block::None,
            since: None,
        }
    }

    /// When the block began that has begun and not ended.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Goes over what was read.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        loop {
            let passed = self.ahead.min(bytes.len());
            self.ahead -= passed;
            bytes = &bytes[passed..];
            if self.ahead == 0 && self.block == Block::Last {
                self.block = Block::None;
            }
            let taken = (HEAD_LEN - self.head_len).min(bytes.len());
            self.head[self.head_len..self.head_len + taken].copy_from_slice(&bytes[..taken]);
            self.head_len += taken;
            bytes = &bytes[taken..];
            if self.head_len < HEAD_LEN {
                break;
            }
            self.head_len = 0;
            self.begin_frame();
        }
        if self.block == Block::None {
            self.since = None;
        } else {
            // Rare enough for the exact time.
            self.since.get_or_insert_with(worker::refresh_clock);
        }
    }

    fn begin_frame(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.ahead = u32::from_be_bytes([0, high, middle, low]) as usize;
        if kind == HEADERS {
            self.since = None;
        }
        if let HEADERS | CONTINUATION = kind {
            self.block = match flags & END_HEADERS {
                0 => Block::Some,
                _ => Block::Last,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: u8 = 4;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.extend(vec![HEADERS; usize::from(length)]);
        frame
    }

    fn after(frames: &[Vec<u8>]) -> Blocks {
        let mut blocks = Blocks::new();
        blocks.pass(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frames.iter().for_each(|frame| blocks.pass(frame));
        blocks
    }

    #[test]
    fn a_block_lasts_from_its_head_to_its_last_byte() {
        let frames = [
            frame(SETTINGS, 0, 18),
            frame(HEADERS, 0, 30),
            frame(CONTINUATION, 0, 0),
            frame(CONTINUATION, END_HEADERS, 5),
            frame(SETTINGS, 1, 0),
            frame(HEADERS, END_HEADERS, 40),
            frame(0, 1, 200),
            frame(HEADERS, END_HEADERS, 0),
        ];
        // From the last byte of a HEADERS frame's head up to the last one of its block.
        let (first, second) = (27 + 9..27 + 39 + 9 + 14, 27 + 39 + 9 + 14 + 9 + 9..);
        let second = second.start..second.start + 40;
        let whole = frames.concat();
        for piece in [1, 2, 3, 7, 50, whole.len()] {
            let mut blocks = after(&[]);
            let mut passed = 0;
            for bytes in whole.chunks(piece) {
                blocks.pass(bytes);
                passed += bytes.len();
                let expected = first.contains(&passed) || second.contains(&passed);
                assert_eq!(blocks.since().is_some(), expected, "{passed} by {piece}");
            }
        }
    }

    #[test]
    fn a_new_block_has_a_time_of_its_own() {
        let mut begun = frame(HEADERS, END_HEADERS, 20);
        let rest = begun.split_off(12);
        let mut blocks = after(&[begun.clone()]);
        let first = blocks.since().unwrap();
        blocks.pass(&rest[..5]);
        assert_eq!(blocks.since(), Some(first));
        while worker::refresh_clock() == first {}
        blocks.pass(&[&rest[5..], &begun].concat());
        assert!(blocks.since().unwrap() > first);
    }
}
