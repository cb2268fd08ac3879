//! A response body on its way to a client, no further ahead than the client's window and a piece. Never waits without
//! an alarm.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::{Reason, SendStream};

use super::record::Record;
use crate::message::{Body, Outstanding};
use crate::worker::{self, Alarm};

/// Sends a body to its end, or to where it breaks off: then the stream is reset.
pub(super) async fn send(
    outgoing: &mut SendStream<Bytes>,
    body: Body,
    record: &mut Record,
    idle_timeout: Duration,
    alarm: &Alarm,
) {
    let mut sending = Sending {
        outgoing,
        body,
        held: None,
        record,
        idle_timeout,
        waits_since: None,
    };
    if let Err(reason) = poll_fn(|cx| sending.poll(cx, alarm)).await {
        sending.outgoing.send_reset(reason);
    }
}

struct Sending<'a> {
    outgoing: &'a mut SendStream<Bytes>,
    body: Body,
    /// A piece that the client's window had no room for.
    held: Option<Bytes>,
    record: &'a mut Record,
    idle_timeout: Duration,
    /// Since when the client has taken nothing.
    waits_since: Option<Instant>,
}

impl Sending<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, alarm: &Alarm) -> Poll<Result<(), Reason>> {
        loop {
            let outstanding = self.record.outstanding.as_ref();
            if outstanding.is_some_and(Outstanding::is_over) {
                return Poll::Ready(Err(Reason::INTERNAL_ERROR));
            }
            let waited = match self.held {
                Some(_) => self.poll_room(cx),
                None => self.poll_piece(cx),
            };
            match waited {
                Poll::Ready(Ok(Progress::Some)) => {}
                Poll::Ready(Ok(Progress::Ended)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(reason)) => return Poll::Ready(Err(reason)),
                Poll::Pending => break,
            }
        }
        let active = match self.waits_since {
            Some(since) => since,
            // Not from now on: it is the alarm that asks again when it rings.
            None => self.body.last_active().unwrap_or_else(worker::now),
        };
        alarm.set(active + self.idle_timeout);
        match alarm.poll(cx) {
            Poll::Pending => Poll::Pending,
            // Nobody is told whose silence it was, but it was not the whole answer.
            Poll::Ready(()) if self.waits_since.is_some() => Poll::Ready(Err(Reason::CANCEL)),
            Poll::Ready(()) => Poll::Ready(Err(Reason::INTERNAL_ERROR)),
        }
    }

    /// Takes the next piece of the body and hands it on, where it is the last or the window has room.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Progress, Reason>> {
        // h2 keeps pieces until the client's window opens, so they must be owned.
        let piece = self
            .body
            .poll_lend(cx, |_, piece| Bytes::copy_from_slice(piece));
        let piece = match piece {
            Poll::Ready(Ok(Some(piece))) => piece,
            Poll::Ready(Ok(None)) => {
                return Poll::Ready(self.hand_over(Bytes::new(), Progress::Ended));
            }
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Reason::INTERNAL_ERROR)),
            // A client that resets the stream wakes it.
            Poll::Pending => {
                return self
                    .outgoing
                    .poll_reset(cx)
                    .map(|reset| Err(reset.unwrap_or(Reason::CANCEL)));
            }
        };
        self.record.exchange.sent_bytes += piece.len() as u64;
        if self.body.is_done() {
            // The last piece waits with h2, if it must.
            return Poll::Ready(self.hand_over(piece, Progress::Ended));
        }
        // One byte: h2 asks for the rest once it has the piece, and room that waits for a piece would be missed by the
        // other streams.
        self.outgoing.reserve_capacity(1);
        self.held = Some(piece);
        Poll::Ready(Ok(Progress::Some))
    }

    /// Waits for room in the client's window, and hands on what is held.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<Progress, Reason>> {
        while self.outgoing.capacity() == 0 {
            match self.outgoing.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Reason::CANCEL)),
                Poll::Pending => {
                    self.body.poll_other_way(cx);
                    self.waits_since.get_or_insert_with(worker::now);
                    return Poll::Pending;
                }
            }
        }
        self.waits_since = None;
        let piece = self.held.take().unwrap_or_default();
        Poll::Ready(self.hand_over(piece, Progress::Some))
    }

    fn hand_over(&mut self, piece: Bytes, progress: Progress) -> Result<Progress, Reason> {
        self.outgoing
            .send_data(piece, progress == Progress::Ended)
            .map_err(|_| Reason::CANCEL)?;
        Ok(progress)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Some,
    Ended,
}
