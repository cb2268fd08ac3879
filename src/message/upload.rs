//! A request body on its way to an HTTP/1.1 target: read here, framed, written there, no further ahead than the
//! target takes it.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::body::{Body, Broken};
use crate::http1;

/// The rest of a request.
#[derive(Debug)]
pub(crate) struct Upload {
    body: Body,
    framing: Outgoing,
    connection: Rc<http1::Connection>,
    /// Whether the last poll stood still because the client had nothing for us.
    pub(crate) waits_for: WaitsFor,
}

/// How the body's end is shown to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// By a Content-Length in the head.
    Length,
    /// By a last chunk.
    Chunked,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    Client,
    Target,
}

/// Why an upload stopped.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The client's side broke.
    Client(Broken),
    /// The target's side broke; its answer may be there nevertheless.
    Target(io::Error),
}

impl Upload {
    pub(crate) fn new(body: Body, framing: Outgoing, connection: Rc<http1::Connection>) -> Self {
        Self {
            body,
            framing,
            connection,
            waits_for: WaitsFor::Target,
        }
    }

    /// Moves what can be moved; ready when all of the body is with the target.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        loop {
            self.waits_for = WaitsFor::Target;
            ready!(self.connection.poll_flush(cx)).map_err(Stopped::Target)?;
            if self.body.is_done() && self.framing == Outgoing::Length {
                return Poll::Ready(Ok(()));
            }
            self.waits_for = WaitsFor::Client;
            let (framing, connection) = (self.framing, &self.connection);
            // The context serves two borrowers in one call: the body registers its waker, then lends.
            let waker = cx.waker().clone();
            let pushed = ready!(self.body.poll_lend(cx, |piece| {
                let mut cx = Context::from_waker(&waker);
                push(connection, &mut cx, framing, piece)
            }))
            .map_err(Stopped::Client)?;
            match pushed {
                Some(outcome) => outcome.map_err(Stopped::Target)?,
                None if self.framing == Outgoing::Chunked => {
                    self.connection
                        .push(cx, &[http1::LAST_CHUNK])
                        .map_err(Stopped::Target)?;
                    self.framing = Outgoing::Length;
                    self.body = Body::Empty;
                }
                None => self.body = Body::Empty,
            }
        }
    }
}

/// Writes one piece of a body to a connection, as a chunk where the framing wants one.
pub(crate) fn push(
    connection: &http1::Connection,
    cx: &mut Context<'_>,
    framing: Outgoing,
    piece: &[u8],
) -> io::Result<()> {
    match framing {
        Outgoing::Length => connection.push(cx, &[piece]),
        Outgoing::Chunked => connection.push(
            cx,
            &[http1::chunk_head(piece.len(), &mut [0; 18]), piece, b"\r\n"],
        ),
    }
}
