//! A request body on its way to an HTTP/1.1 target: read here, framed, written there, no further ahead than the
//! target takes it.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::body::{Body, Broken, Size};
use super::pace::{Pace, TooSlow};
use crate::http1;
use crate::model::BodyRate;

/// The rest of a request.
#[derive(Debug)]
pub(crate) struct Upload {
    body: Body,
    framing: Outgoing,
    connection: Rc<http1::Connection>,
    /// Whether any piece of the body has been taken from its source.
    begun: bool,
    pace: Pace,
    /// Who the last poll waited for.
    pub(crate) waits_for: WaitsFor,
}

/// How a body's end is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// By a Content-Length in the head, or by closing.
    Plain,
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
    /// The client sends less than it must.
    TooSlow,
    /// The target's side broke; its answer may be there nevertheless.
    Target,
}

impl Upload {
    pub(crate) fn new(
        body: Body,
        framing: Outgoing,
        connection: Rc<http1::Connection>,
        rate: Option<BodyRate>,
    ) -> Self {
        Self {
            body,
            framing,
            connection,
            begun: false,
            pace: Pace::new(rate),
            waits_for: WaitsFor::Target,
        }
    }

    /// Sends the head, and with it the first piece of the body where that is at hand.
    pub(crate) fn begin(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut Vec<u8>,
    ) -> Result<(), Stopped> {
        match self.poll_piece(cx, head) {
            Poll::Pending => self
                .connection
                .push(cx, &[head])
                .map_err(|_| Stopped::Target),
            Poll::Ready(outcome) => outcome,
        }
    }

    /// Moves what can be moved; ready when all of the body is with the target.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        loop {
            self.waits_for = WaitsFor::Target;
            ready!(self.connection.poll_flush(cx)).map_err(|_| Stopped::Target)?;
            if self.framing == Outgoing::Plain && self.body.is_done() {
                return Poll::Ready(Ok(()));
            }
            self.waits_for = WaitsFor::Client;
            let Poll::Ready(outcome) = self.poll_piece(cx, &mut Vec::new()) else {
                self.pace.waits(|| self.body.senders_time());
                return Poll::Pending;
            };
            outcome?;
        }
    }

    /// Lets the rest come as slowly as it may: who has its answer is in a conversation.
    pub(crate) fn no_longer_hurries(&mut self) {
        self.pace = Pace::new(None);
    }

    /// The body, if no piece of it was taken yet.
    pub(crate) fn into_untouched(self) -> Option<Body> {
        (!self.begun).then_some(self.body)
    }

    /// Takes the next piece, or the end, and pushes it behind `before`.
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        before: &mut Vec<u8>,
    ) -> Poll<Result<(), Stopped>> {
        let Self {
            body,
            framing,
            connection,
            pace,
            ..
        } = self;
        let mut came = None;
        let lent = body.poll_lend(cx, |cx, piece| {
            came = Some(piece.len());
            push(connection, cx, before, *framing, piece)
        });
        let pushed = ready!(lent);
        self.begun = true;
        // A body that is complete holds nobody up any more, and its target may be about to do as it says.
        if let Some(bytes) = came
            && pace.came(bytes, || body.senders_time()) == Err(TooSlow)
            && !is_complete(body)
        {
            return Poll::Ready(Err(Stopped::TooSlow));
        }
        let outcome = match pushed.map_err(Stopped::Client)? {
            Some(outcome) => outcome,
            None => {
                let end = std::mem::replace(&mut self.framing, Outgoing::Plain);
                self.body = Body::Empty;
                push_end(&self.connection, cx, before, end)
            }
        };
        Poll::Ready(outcome.map_err(|_| Stopped::Target))
    }
}

/// Whether all of a body has come, though its end may not be shown yet.
fn is_complete(body: &Body) -> bool {
    body.is_done() || body.size() == Size::Known(0)
}

/// Largest piece that is copied behind what goes before it: up to here one slice is cheaper to send than two.
const JOINED_MAX: usize = 4 * 1024;

/// Pushes one piece of a body behind `before`, as a chunk where the framing wants one.
pub(crate) fn push(
    connection: &http1::Connection,
    cx: &mut Context<'_>,
    before: &mut Vec<u8>,
    framing: Outgoing,
    piece: &[u8],
) -> io::Result<()> {
    let mut line = [0; 18];
    let (opening, closing): (&[u8], &[u8]) = match framing {
        Outgoing::Plain => (b"", b""),
        Outgoing::Chunked => (http1::chunk_head(piece.len(), &mut line), b"\r\n"),
    };
    if before.is_empty() || piece.len() > JOINED_MAX {
        return connection.push(cx, &[before, opening, piece, closing]);
    }
    for part in [opening, piece, closing] {
        before.extend_from_slice(part);
    }
    connection.push(cx, &[before])
}

/// Pushes what shows the end of a body behind `before`.
pub(crate) fn push_end(
    connection: &http1::Connection,
    cx: &mut Context<'_>,
    before: &[u8],
    framing: Outgoing,
) -> io::Result<()> {
    match framing {
        Outgoing::Plain => connection.push(cx, &[before]),
        Outgoing::Chunked => connection.push(cx, &[before, http1::LAST_CHUNK]),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::tls::{Socket, Stream};

    /// A socket, and the connection that has its other end.
    async fn side() -> (TcpStream, Rc<http1::Connection>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap());
        let (ours, accepted) = tokio::join!(ours, listener.accept());
        let (theirs, peer) = accepted.unwrap();
        let connection = http1::Connection::new(Stream::Plain(Socket::new(theirs)), peer);
        (ours.unwrap(), Rc::new(connection))
    }

    #[tokio::test]
    async fn a_client_is_not_waited_for_before_its_head_is_with_the_target() {
        let (_client, client_side) = side().await;
        // More than sockets take.
        for (length, waits) in [(0, true), (32 << 20, false)] {
            let (_target, target_side) = side().await;
            let framing = http1::Framing::Length(5);
            let body = http1::Incoming::open(Rc::clone(&client_side), framing, None).unwrap();
            let rate = Some(BodyRate::default());
            let body = Body::Http1(body);
            let mut upload = Upload::new(body, Outgoing::Plain, target_side, rate);
            let mut head = vec![b'a'; length];
            poll_fn(|cx| {
                upload.begin(cx, &mut head).unwrap();
                assert!(upload.poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            assert_eq!(upload.pace.waiting_since.is_some(), waits);
        }
    }
}
