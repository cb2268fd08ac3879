//! As much of RFC 9113 as one request needs, and a connection that is then left alone.

const HEAD: usize = 9;

/// The largest frame a peer may send to who did not ask for more (SETTINGS_MAX_FRAME_SIZE).
const FRAME_MAX: usize = 16 << 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The client of one request, on stream 1.
#[derive(Debug, Default)]
pub struct Http2 {
    /// What came of a frame that is not whole.
    input: Vec<u8>,
    answered: bool,
}

impl Http2 {
    /// What a client says first: preface, settings, and a GET.
    pub fn hello(host: &str, path: &str) -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        write(SETTINGS, 0, 0, &[], &mut bytes);
        // RFC 7541 appendix A: ":method GET", ":scheme https"; then literals named by ":authority" (1) and ":path" (4).
        let mut block = vec![0x82, 0x87];
        for (name, value) in [(1, host), (4, path)] {
            // Lengths up to 126 take one byte.
            let value = &value.as_bytes()[..value.len().min(126)];
            block.extend([name, value.len() as u8]);
            block.extend_from_slice(value);
        }
        write(HEADERS, END_HEADERS | END_STREAM, 1, &block, &mut bytes);
        bytes
    }

    pub fn is_answered(&self) -> bool {
        self.answered
    }

    /// Goes through what has come; what has to be said to it goes to `replies`.
    pub fn take(&mut self, bytes: &[u8], replies: &mut Vec<u8>) -> Result<(), String> {
        self.input.extend_from_slice(bytes);
        while let Some(&[a, b, c, kind, flags, s0, s1, s2, s3]) = self.input.first_chunk::<HEAD>() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > FRAME_MAX {
                return Err(format!("a frame of {length} bytes"));
            }
            if self.input.len() < HEAD + length {
                break;
            }
            let frame: Vec<u8> = self.input.drain(..HEAD + length).skip(HEAD).collect();
            let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
            self.frame(kind, flags, stream, &frame, replies)?;
        }
        if self.input.is_empty() {
            // Thousands of idle connections keep nothing.
            self.input = Vec::new();
        }
        Ok(())
    }

    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        replies: &mut Vec<u8>,
    ) -> Result<(), String> {
        match kind {
            SETTINGS if flags & ACK == 0 => write(SETTINGS, ACK, 0, &[], replies),
            PING if flags & ACK == 0 => write(PING, ACK, 0, payload, replies),
            GOAWAY => return Err(String::from("the server takes no more requests")),
            RESET => return Err(String::from("the server reset the request")),
            HEADERS if stream == 1 && flags & (PADDED | PRIORITY) == 0 && !is_200(payload) => {
                return Err(String::from("a status that is not 200"));
            }
            HEADERS | DATA if stream == 1 => self.answered |= flags & END_STREAM != 0,
            _ => (),
        }
        Ok(())
    }
}

/// Whether a header block begins with ":status 200", which has an index of its own, behind changes of the table's size.
fn is_200(block: &[u8]) -> bool {
    block.iter().find(|byte| **byte & 0xe0 != 0x20) == Some(&0x88)
}

fn write(kind: u8, flags: u8, stream: u32, payload: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.extend([kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(kind, flags, stream, payload, &mut bytes);
        bytes
    }

    #[test]
    fn an_answer_may_come_in_any_pieces() {
        let frames = [
            frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
            frame(HEADERS, END_HEADERS, 1, &[0x20, 0x88]),
            frame(DATA, END_STREAM, 1, b"hello"),
            frame(PING, 0, 0, b"12345678"),
        ];
        for size in [1, 5, 100] {
            let (mut http2, mut replies) = (Http2::default(), Vec::new());
            for piece in frames.concat().chunks(size) {
                assert_eq!(http2.take(piece, &mut replies), Ok(()));
            }
            assert!(http2.is_answered());
            let expected = [
                frame(SETTINGS, ACK, 0, &[]),
                frame(PING, ACK, 0, b"12345678"),
            ];
            assert_eq!(replies, expected.concat());
        }
    }

    #[test]
    fn another_status_is_an_error() {
        let answer = frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x8d]);
        assert!(Http2::default().take(&answer, &mut Vec::new()).is_err());
    }
}
