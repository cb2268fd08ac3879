//! Chunked transfer coding (RFC 9112 §7.1), strict: no bare line feeds, no whitespace around sizes, bounded
//! extensions and trailers. Trailers are read and dropped, as ALB does.

use super::Malformed;
use super::fields::is_token;

/// Most bytes of chunk extensions and trailers in one body. Neither is passed on, so neither may cost much.
const OVERHEAD_MAX: u32 = 16 * 1024;

/// What ends a chunked body that has no trailers.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Writes the size line of a chunk of `size` bytes, without allocating.
pub(crate) fn chunk_head(size: usize, line: &mut [u8; 18]) -> &[u8] {
    let mut at = line.len() - 2;
    line[at..].copy_from_slice(b"\r\n");
    let mut rest = size;
    loop {
        at -= 1;
        line[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
        if rest == 0 {
            return &line[at..];
        }
    }
}

/// Where a decoder stands.
#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
    /// Extension and trailer bytes still allowed.
    overhead_left: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    SizeStart,
    /// After at least one digit.
    Size(u64),
    /// In an extension, which ends at CR.
    Extension(u64),
    /// After the CR of a size line.
    SizeLf(u64),
    /// This many bytes of data to come, more than none.
    Data(u64),
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    /// After the CR of the empty line that ends it all.
    EndLf,
    Done,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            state: State::SizeStart,
            overhead_left: OVERHEAD_MAX,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads from `input` up to and with the next piece of data. Gives how much of `input` is used and the piece,
    /// which is empty when the input or the body ended first.
    pub(super) fn decode<'a>(&mut self, input: &'a [u8]) -> Result<(usize, &'a [u8]), Malformed> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if let State::Data(left) = self.state {
                let take = usize::try_from(left)
                    .map_or(input.len() - at, |left| left.min(input.len() - at));
                let left = left - take as u64;
                self.state = if left == 0 {
                    State::DataCr
                } else {
                    State::Data(left)
                };
                return Ok((at + take, &input[at..at + take]));
            }
            self.state = self.step(input[at])?;
            at += 1;
        }
        Ok((at, &[]))
    }

    fn step(&mut self, byte: u8) -> Result<State, Malformed> {
        use State::*;
        Ok(match (self.state, byte) {
            (SizeStart, _) => Size(digit(byte)?),
            (Size(size) | Extension(size), b'\r') => SizeLf(size),
            (Size(size), b';') => self.extension(size)?,
            (Size(size), _) => Size(push_digit(size, digit(byte)?)?),
            (Extension(_), b'\n' | 0) => {
                return Err(Malformed::Syntax(
                    "a chunk extension holds a control character",
                ));
            }
            (Extension(size), _) => self.extension(size)?,
            (SizeLf(0), b'\n') => TrailerStart,
            (SizeLf(size), b'\n') => Data(size),
            (DataCr, b'\r') => DataLf,
            (DataLf, b'\n') => SizeStart,
            (TrailerStart, b'\r') => EndLf,
            (TrailerStart | TrailerName, _) if is_token(byte) => self.trailer(TrailerName)?,
            (TrailerName, b':') => self.trailer(TrailerValue)?,
            (TrailerStart | TrailerName, _) => {
                return Err(Malformed::Syntax("a trailer has no name"));
            }
            (TrailerValue, b'\r') => TrailerLf,
            (TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => self.trailer(TrailerValue)?,
            (TrailerValue, _) => {
                return Err(Malformed::Syntax("a trailer holds a control character"));
            }
            (TrailerLf, b'\n') => TrailerStart,
            (EndLf, b'\n') => Done,
            (SizeLf(_) | DataCr | DataLf | TrailerLf | EndLf, _) => {
                return Err(Malformed::Syntax("a chunk does not end in CRLF"));
            }
            // `decode` takes these two by the slice; standing still is the harmless answer.
            (state @ (Data(_) | Done), _) => state,
        })
    }

    fn extension(&mut self, size: u64) -> Result<State, Malformed> {
        self.spend()?;
        Ok(State::Extension(size))
    }

    fn trailer(&mut self, next: State) -> Result<State, Malformed> {
        self.spend()?;
        Ok(next)
    }

    fn spend(&mut self) -> Result<(), Malformed> {
        self.overhead_left = self.overhead_left.checked_sub(1).ok_or(Malformed::Syntax(
            "the chunk extensions or trailers are too long",
        ))?;
        Ok(())
    }
}

fn digit(byte: u8) -> Result<u64, Malformed> {
    char::from(byte)
        .to_digit(16)
        .map(u64::from)
        .ok_or(Malformed::Syntax(
            "a chunk size is not a hexadecimal number",
        ))
}

fn push_digit(size: u64, digit: u64) -> Result<u64, Malformed> {
    if size >> 60 != 0 {
        return Err(Malformed::Syntax("a chunk size is past 64 bits"));
    }
    Ok(size << 4 | digit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A body, and what was left over after its end.
    type Decoded = (Vec<u8>, Vec<u8>);

    /// Decodes `input` in pieces of `step` bytes.
    fn decode(input: &[u8], step: usize) -> Result<Option<Decoded>, Malformed> {
        let mut decoder = Decoder::new();
        let mut body = Vec::new();
        let mut rest = input;
        while !rest.is_empty() && !decoder.is_done() {
            let piece = &rest[..step.min(rest.len())];
            let (used, data) = decoder.decode(piece)?;
            body.extend_from_slice(data);
            rest = &rest[used..];
        }
        Ok(decoder.is_done().then(|| (body, rest.to_vec())))
    }

    #[test]
    fn chunks_are_joined_and_what_follows_is_left() {
        let input = b"5\r\nhello\r\n1;x=y\r\n \r\n5\r\nworld\r\n0\r\nA: b\r\n\r\nGET";
        for step in 1..input.len() {
            let (body, rest) = decode(input, step).unwrap().unwrap();
            assert_eq!(
                (&body[..], &rest[..]),
                (&b"hello world"[..], &b"GET"[..]),
                "in steps of {step}"
            );
        }
    }

    #[test]
    fn doubtful_chunks_are_refused() {
        let bad: [&[u8]; 16] = [
            b"\r\n",
            b"5\nhello",
            b"5 \r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b"-5\r\nhello\r\n",
            b"+5\r\nhello\r\n",
            b"FFFFFFFFFFFFFFFFF\r\n",
            b"5\r\nhello5\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello\r0\r\n\r\n",
            b"5;a\nb\r\nhello\r\n",
            b"5\r\rhello",
            b"0\r\n\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\n\rX",
        ];
        for input in bad {
            for step in [1, input.len()] {
                assert!(
                    decode(input, step).is_err(),
                    "{:?}",
                    String::from_utf8_lossy(input)
                );
            }
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let extensions =
            "1;e=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n".repeat(400);
        assert!(decode(extensions.as_bytes(), 4096).is_err());
        let trailers = format!("0\r\n{}", "A: b\r\n".repeat(5000));
        assert!(decode(trailers.as_bytes(), 4096).is_err());
    }

    #[test]
    fn an_unfinished_body_is_not_done() {
        for input in [&b"5\r\nhello\r\n0\r\n"[..], b"5\r\nhel", b"", b"5"] {
            assert_eq!(decode(input, 64), Ok(None));
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..20), step in 1_usize..400) {
            let mut wire = Vec::new();
            for piece in &pieces {
                wire.extend_from_slice(chunk_head(piece.len(), &mut [0; 18]));
                wire.extend_from_slice(piece);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(LAST_CHUNK);
            let (body, rest) = decode(&wire, step).unwrap().unwrap();
            prop_assert_eq!(body, pieces.concat());
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn no_bytes_panic_the_decoder(input in prop::collection::vec(any::<u8>(), 0..200), step in 1_usize..50) {
            drop(decode(&input, step));
        }
    }
}
