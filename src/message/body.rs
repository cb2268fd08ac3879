//! What follows a head: nothing, bytes at hand, or bytes still to come. Pieces are lent, not given, so that a body
//! passes from socket to socket without a copy that anyone owns.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;

use super::Upload;
use super::pace::{SharedTime, Turn};
use crate::http1;
use crate::worker;

/// A message body.
#[derive(Debug, Default)]
pub(crate) enum Body {
    /// No content.
    #[default]
    Empty,
    /// Content made by albedo itself.
    Full(Bytes),
    /// Content from an HTTP/1.1 connection.
    Http1(http1::Incoming),
    /// Content from an HTTP/2 stream.
    Http2(Http2Body),
    /// A response that began before its request had ended: the rest of the request goes on beside it.
    Duplex(Box<Duplex>),
    /// No content: the target speaks another protocol from here on.
    Upgraded(http1::Upgraded),
}

/// Content from an HTTP/2 stream, and the count of what came.
#[derive(Debug)]
pub(crate) struct Http2Body {
    incoming: RecvStream,
    /// Bytes to come, where the head told.
    left: Option<u64>,
    received: Rc<Cell<u64>>,
    turn: Turn,
}

impl Http2Body {
    pub(crate) fn new(
        incoming: RecvStream,
        length: Option<u64>,
        received: Rc<Cell<u64>>,
        time: &Rc<SharedTime>,
    ) -> Self {
        Self {
            incoming,
            left: length,
            received,
            turn: Turn::new(Rc::clone(time)),
        }
    }

    /// Lends the next piece, and lets the client send as much again: nobody asks before the piece before has been taken.
    fn poll_lend<R>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Context<'_>, &[u8]) -> R,
    ) -> Poll<Result<Option<R>, h2::Error>> {
        let data = loop {
            // Trailers are dropped, as ALB drops those of HTTP/1.1.
            let Poll::Ready(data) = self.incoming.poll_data(cx) else {
                self.turn.release(worker::now);
                return Poll::Pending;
            };
            match data.transpose()? {
                None => return Poll::Ready(Ok(None)),
                Some(data) if data.is_empty() => {}
                Some(data) => break data,
            }
        };
        // Until it is asked again, nobody knows what has come since.
        self.turn.hold(worker::now);
        // Only a stream that is over has nothing to release.
        let _ = self.incoming.flow_control().release_capacity(data.len());
        let count = data.len() as u64;
        self.received.set(self.received.get() + count);
        // Data that do not keep their length are h2's to refuse.
        self.left = self.left.map(|left| left.saturating_sub(count));
        Poll::Ready(Ok(Some(take(cx, &data))))
    }
}

/// A response on its way down while its request is still on its way up.
#[derive(Debug)]
pub(crate) struct Duplex {
    pub(crate) upload: Option<Upload>,
    pub(crate) response: http1::Incoming,
}

impl Duplex {
    /// Moves the request on. Its own failure is no reason to stop a response that is coming.
    fn poll_upload(&mut self, cx: &mut Context<'_>) {
        if let Some(upload) = &mut self.upload
            && upload.poll(cx).is_ready()
        {
            self.upload = None;
        }
    }
}

/// How many bytes a body has to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Known(u64),
    Unknown,
}

/// Why a body did not end well. Whose fault it is, the side it came from tells.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Http1(#[from] http1::Broken),
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

impl Body {
    /// Content at hand.
    pub(crate) fn full(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(bytes)
        }
    }

    /// How many bytes are to come.
    pub(crate) fn size(&self) -> Size {
        let known = match self {
            Self::Empty | Self::Upgraded(_) => Some(0),
            Self::Full(bytes) => Some(bytes.len() as u64),
            Self::Http1(incoming) => incoming.remaining(),
            Self::Http2(body) => body.left,
            Self::Duplex(duplex) => duplex.response.remaining(),
        };
        known.map_or(Size::Unknown, Size::Known)
    }

    /// Whether nothing is to come, as far as can be said without asking the peer.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Empty | Self::Upgraded(_) => true,
            Self::Full(_) => false,
            Self::Http1(incoming) => incoming.is_done(),
            Self::Http2(body) => body.incoming.is_end_stream(),
            Self::Duplex(duplex) => duplex.response.is_done(),
        }
    }

    /// When the HTTP/1.1 connection that brings it last carried a byte, either way; `None` for other bodies and for
    /// one that has ended.
    pub(crate) fn last_active(&self) -> Option<Instant> {
        match self {
            Self::Http1(incoming) => incoming.last_active(),
            Self::Duplex(duplex) => duplex.response.last_active(),
            Self::Empty | Self::Full(_) | Self::Http2(_) | Self::Upgraded(_) => None,
        }
    }

    /// What time it is for whoever sends it.
    pub(super) fn senders_time(&self) -> Instant {
        match self {
            Self::Http2(body) => body.turn.clients_time(worker::now()),
            _ => worker::now(),
        }
    }

    /// Moves on what goes the other way, for whoever cannot take a piece now: a client that sends all before it reads
    /// anything would wait for us, and we for it.
    pub(crate) fn poll_other_way(&mut self, cx: &mut Context<'_>) {
        if let Self::Duplex(duplex) = self {
            duplex.poll_upload(cx);
        }
    }

    /// Lends the next piece; `None` at the end. A body that broke is not asked again.
    pub(crate) fn poll_lend<R>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Context<'_>, &[u8]) -> R,
    ) -> Poll<Result<Option<R>, Broken>> {
        match self {
            Self::Empty | Self::Upgraded(_) => Poll::Ready(Ok(None)),
            Self::Full(bytes) => {
                let outcome = take(cx, bytes);
                *self = Self::Empty;
                Poll::Ready(Ok(Some(outcome)))
            }
            Self::Http1(incoming) => incoming.poll_lend(cx, take).map_err(Broken::from),
            Self::Http2(body) => body.poll_lend(cx, take).map_err(Broken::from),
            Self::Duplex(duplex) => {
                duplex.poll_upload(cx);
                duplex.response.poll_lend(cx, take).map_err(Broken::from)
            }
        }
    }
}
