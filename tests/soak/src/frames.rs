//! WebSocket frames (RFC 6455 §5), as little of them as is needed.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;

/// The code of a Close by which an intermediary says: come back, elsewhere.
pub(crate) const SERVICE_RESTART: u16 = 1012;

/// Who sends a frame; a client's are masked, here with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Client,
    Target,
}

/// A frame of at most 64 KiB.
pub(crate) fn encode(from: From, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let masked = match from {
        From::Client => 0x80,
        From::Target => 0,
    };
    let mut frame = vec![0x80 | opcode];
    match u16::try_from(payload.len()).expect("a small frame") {
        length @ 0..126 => frame.push(masked | length as u8),
        length => {
            frame.push(masked | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    if masked != 0 {
        frame.extend_from_slice(&[0; 4]);
    }
    frame.extend_from_slice(payload);
    frame
}

/// Takes the first whole frame out of what was read: opcode and payload.
pub(crate) fn decode(unread: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (&first, &second) = (unread.first()?, unread.get(1)?);
    let (mut at, length) = match second & 0x7f {
        126 => (
            4,
            usize::from(u16::from_be_bytes([*unread.get(2)?, *unread.get(3)?])),
        ),
        length => (2, usize::from(length)),
    };
    if second & 0x80 != 0 {
        at += 4;
    }
    if unread.len() < at + length {
        return None;
    }
    let payload = unread[at..at + length].to_vec();
    unread.drain(..at + length);
    Some((first & 15, payload))
}

/// What a server answers to a key.
pub(crate) fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let algorithm = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
    BASE64_STANDARD.encode(aws_lc_rs::digest::digest(algorithm, text.as_bytes()))
}
