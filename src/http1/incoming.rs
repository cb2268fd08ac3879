//! A body read straight from its connection. When it ends well, a target's connection goes home; when it is dropped
//! early, a client's connection learns what is left.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::chunked::Decoder;
use super::connection::{BodyState, Connection, Home};
use super::{Expectation, Framing, Malformed};

/// A body on its way in.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Gone once the body has ended.
    connection: Option<Rc<Connection>>,
    reader: Reader,
    /// Where the connection goes afterwards; nowhere for clients, and for targets that close.
    home: Option<Rc<Home>>,
    /// What its sender waits to hear before it goes on.
    expectation: Expectation,
}

/// How the end of a body is found, and how far it is.
#[derive(Debug)]
pub(crate) enum Reader {
    /// This many bytes to come.
    Length(u64),
    Chunked(Decoder),
    UntilClose,
}

/// Why a body did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the connection closed before the body ended")]
    Closed,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Incoming {
    /// The body that `framing` announces on this connection; `None` when there is none, in which case the connection
    /// goes home at once.
    pub(crate) fn open(
        connection: Rc<Connection>,
        framing: Framing,
        home: Option<Rc<Home>>,
    ) -> Option<Self> {
        let Some(reader) = Reader::new(framing) else {
            bring_home(connection, home);
            return None;
        };
        connection.body.replace(BodyState::Reading);
        Some(Self {
            connection: Some(connection),
            reader,
            home,
            expectation: Expectation::Nothing,
        })
    }

    /// The rest of a body whose reader was dropped, for whoever discards it.
    pub(crate) fn resume(connection: Rc<Connection>) -> Option<Self> {
        match connection.body.replace(BodyState::Reading) {
            BodyState::Abandoned(reader) => Some(Self {
                connection: Some(connection),
                reader,
                home: None,
                expectation: Expectation::Nothing,
            }),
            other => {
                connection.body.replace(other);
                None
            }
        }
    }

    /// The same body, of a sender that waits for a word (RFC 9110 §10.1.1). It gets that from whoever wants the body: who
    /// answers without it says that instead.
    pub(crate) fn with_expectation(mut self, expectation: Expectation) -> Self {
        self.expectation = expectation;
        self
    }

    /// How many bytes are to come, where that is known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        self.reader.left()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.connection.is_none()
    }

    /// When its connection last carried a byte, either way; `None` once the body has ended.
    pub(crate) fn last_active(&self) -> Option<Instant> {
        self.connection
            .as_ref()
            .map(|connection| connection.last_active())
    }

    /// Lends the next piece of the body; `None` at its end.
    pub(crate) fn poll_lend<R>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Context<'_>, &[u8]) -> R,
    ) -> Poll<Result<Option<R>, Broken>> {
        let mut take = Some(take);
        loop {
            let Some(connection) = &self.connection else {
                return Poll::Ready(Ok(None));
            };
            if self.expectation == Expectation::Continue {
                self.expectation = Expectation::Nothing;
                connection.push(cx, &[b"HTTP/1.1 100 Continue\r\n\r\n"])?;
            }
            let reader = &mut self.reader;
            let lent = ready!(
                connection.poll_lend(cx, |cx, bytes| match reader.piece(bytes) {
                    Ok((used, [])) => (used, Ok(None)),
                    Ok((used, piece)) => (used, Ok(take.take().map(|take| take(cx, piece)))),
                    Err(malformed) => (0, Err(malformed)),
                })
            )?;
            match lent {
                None if matches!(self.reader, Reader::UntilClose) => self.connection = None,
                None => return Poll::Ready(Err(Broken::Closed)),
                Some(piece) => {
                    let piece = piece?;
                    self.end_if_complete();
                    if piece.is_some() {
                        return Poll::Ready(Ok(piece));
                    }
                }
            }
        }
    }

    fn end_if_complete(&mut self) {
        if self.reader.is_complete()
            && let Some(connection) = self.connection.take()
        {
            bring_home(connection, self.home.take());
        }
    }
}

impl Reader {
    /// `None` where there is nothing to read.
    fn new(framing: Framing) -> Option<Self> {
        match framing {
            Framing::Empty => None,
            Framing::Length(length) => Some(Self::Length(length)),
            Framing::Chunked => Some(Self::Chunked(Decoder::new())),
            Framing::UntilClose => Some(Self::UntilClose),
        }
    }

    fn is_complete(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(decoder) => decoder.is_done(),
            Self::UntilClose => false,
        }
    }

    /// How many bytes are to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// The next piece of the body in `bytes`, and how many of `bytes` it takes to get there.
    fn piece<'a>(&mut self, bytes: &'a [u8]) -> Result<(usize, &'a [u8]), Malformed> {
        match self {
            Self::Length(left) => {
                let take = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= take as u64;
                Ok((take, &bytes[..take]))
            }
            Self::Chunked(decoder) => decoder.decode(bytes),
            Self::UntilClose => Ok((bytes.len(), bytes)),
        }
    }
}

/// Reads a body from the start of bytes at hand, of which it sees `piece_max` at once: what it says, how many of them
/// it takes, and whether that is all of it. For fuzzing, where there is no connection.
pub(crate) fn read_body(
    framing: Framing,
    bytes: &[u8],
    piece_max: usize,
) -> Result<(Vec<u8>, usize, Completeness), Malformed> {
    let (mut body, mut at) = (Vec::new(), 0);
    let Some(mut reader) = Reader::new(framing) else {
        return Ok((body, at, Completeness::Whole));
    };
    while at < bytes.len() && !reader.is_complete() {
        let end = at.saturating_add(piece_max).min(bytes.len());
        let (used, piece) = reader.piece(&bytes[at..end])?;
        body.extend_from_slice(piece);
        at += used;
    }
    let completeness = match reader {
        Reader::UntilClose => Completeness::Whole,
        _ if reader.is_complete() => Completeness::Whole,
        _ => Completeness::Part,
    };
    Ok((body, at, completeness))
}

/// Whether a body at hand has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completeness {
    Whole,
    Part,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let reader = match self.expectation {
                Expectation::Nothing => std::mem::replace(&mut self.reader, Reader::UntilClose),
                // What comes may be the body or the next request: its sender has not been told.
                Expectation::Continue => Reader::UntilClose,
            };
            connection.body.replace(BodyState::Abandoned(reader));
        }
    }
}

/// A connection whose message is complete. Bytes beyond it are nobody's: `Home::take` closes a connection that
/// has some rather than give them to the next request.
fn bring_home(connection: Rc<Connection>, home: Option<Rc<Home>>) {
    connection.body.replace(BodyState::None);
    if let Some(home) = home {
        home.put(connection);
    }
}
