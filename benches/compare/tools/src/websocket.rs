//! As much of RFC 6455 as a target that echoes and a client that waits for it need.

use std::ops::Range;

/// Longest payload taken.
const PAYLOAD_MAX: u64 = 1 << 20;

const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Sec-WebSocket-Accept for a key.
pub fn accept_key(key: &str) -> String {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key.as_bytes());
    // RFC 6455 §1.3 fixes this text.
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64(&hash.digest().bytes())
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63] as char;
            text.push(if place <= group.len() { letter } else { '=' });
        }
    }
    text
}

/// A frame as it stands in the bytes.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    first: u8,
    mask: [u8; 4],
    payload: Range<usize>,
}

/// The frame at the start of the bytes, if it is whole.
fn frame(bytes: &[u8]) -> Result<Option<Frame>, &'static str> {
    let &[first, second, ..] = bytes else {
        return Ok(None);
    };
    if second & MASKED == 0 {
        return Err("a frame of a client is not masked");
    }
    let (length, head) = match second & !MASKED {
        126 => (
            bytes
                .get(2..4)
                .map(|two| u64::from(u16::from_be_bytes([two[0], two[1]]))),
            4,
        ),
        127 => (
            bytes
                .get(2..10)
                .and_then(|eight| Some(u64::from_be_bytes(eight.try_into().ok()?))),
            10,
        ),
        short => (Some(u64::from(short)), 2),
    };
    let Some(length) = length else {
        return Ok(None);
    };
    if length > PAYLOAD_MAX {
        return Err("a frame is too long");
    }
    let payload = head + 4..head + 4 + length as usize;
    if bytes.len() < payload.end {
        return Ok(None);
    }
    let mask = [
        bytes[head],
        bytes[head + 1],
        bytes[head + 2],
        bytes[head + 3],
    ];
    Ok(Some(Frame {
        first,
        mask,
        payload,
    }))
}

/// What comes after a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Echo {
    /// The frame took so many bytes.
    Went(usize),
    /// A close frame: it is answered, and nothing follows.
    Closed,
    Incomplete,
}

/// Answers the frame at the start of the bytes: messages with themselves, pings with pongs.
pub fn echo(bytes: &[u8], out: &mut Vec<u8>) -> Result<Echo, &'static str> {
    let Some(Frame {
        first,
        mask,
        payload,
    }) = frame(bytes)?
    else {
        return Ok(Echo::Incomplete);
    };
    let opcode = first & 0xf;
    let went = payload.end;
    if opcode == PONG {
        return Ok(Echo::Went(went));
    }
    out.push(if opcode == PING { FINAL | PONG } else { first });
    write_length(payload.len(), 0, out);
    let from = out.len();
    out.extend_from_slice(&bytes[payload]);
    unmask(&mut out[from..], mask);
    Ok(if opcode == CLOSE {
        Echo::Closed
    } else {
        Echo::Went(went)
    })
}

/// A binary message of one frame, masked.
pub fn masked(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = message(payload, MASKED);
    let from = frame.len();
    frame.extend_from_slice(&mask);
    frame.extend_from_slice(payload);
    unmask(&mut frame[from + 4..], mask);
    frame
}

/// The same, as it comes back.
pub fn unmasked(payload: &[u8]) -> Vec<u8> {
    let mut frame = message(payload, 0);
    frame.extend_from_slice(payload);
    frame
}

fn message(payload: &[u8], masked: u8) -> Vec<u8> {
    const BINARY: u8 = 0x2;
    let mut frame = vec![FINAL | BINARY];
    write_length(payload.len(), masked, &mut frame);
    frame
}

fn write_length(length: usize, masked: u8, out: &mut Vec<u8>) {
    match length {
        0..126 => out.push(length as u8 | masked),
        126..0x1_0000 => {
            out.push(126 | masked);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127 | masked);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let mut groups = bytes.chunks_exact_mut(4);
    for group in &mut groups {
        group
            .iter_mut()
            .zip(mask)
            .for_each(|(byte, key)| *byte ^= key);
    }
    groups
        .into_remainder()
        .iter_mut()
        .zip(mask)
        .for_each(|(byte, key)| *byte ^= key);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_is_accepted() {
        assert_eq!(
            accept_key("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn messages_of_every_length_come_back() {
        for length in [0, 1, 64, 125, 126, 127, 65_535, 65_536, 70_001] {
            let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let sent = masked(&payload, [7, 5, 3, 1]);
            let mut out = Vec::new();
            assert_eq!(echo(&sent, &mut out), Ok(Echo::Went(sent.len())));
            assert_eq!(out, unmasked(&payload));
            assert_eq!(
                echo(&sent[..sent.len() - 1], &mut out),
                Ok(Echo::Incomplete)
            );
        }
    }

    #[test]
    fn pings_are_answered_and_closes_end_it() {
        let mut out = Vec::new();
        assert_eq!(
            echo(&[0x89, 0x81, 0, 0, 0, 0, b'a'], &mut out),
            Ok(Echo::Went(7))
        );
        assert_eq!(echo(&[0x88, 0x80, 0, 0, 0, 0], &mut out), Ok(Echo::Closed));
        assert_eq!(out, [0x8a, 1, b'a', 0x88, 0]);
    }

    #[test]
    fn what_no_client_may_send_is_refused() {
        assert!(echo(&[0x82, 0x01, 0], &mut Vec::new()).is_err());
        assert!(echo(&[0x82, 0xff, 1, 0, 0, 0, 0, 0, 0, 0], &mut Vec::new()).is_err());
    }
}
