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

/// What has become of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Whole,
    /// By us or the target.
    CutShort,
    /// The client has left.
    ToNobody,
}

/// Why a body is not sent to its end.
enum Broken {
    ByClient,
    ByUs(Reason),
}

/// Sends a body to its end, or to where it breaks off: then the stream is reset.
pub(super) async fn send(
    outgoing: &mut SendStream<Bytes>,
    body: Body,
    record: &mut Record,
    idle_timeout: Duration,
    alarm: &Alarm,
) -> Sent {
    let mut sending = Sending {
        outgoing,
        body,
        held: Bytes::new(),
        record,
        idle_timeout,
        silence: None,
    };
    let (sent, reason) = match poll_fn(|cx| sending.poll(cx, alarm)).await {
        Ok(()) => return Sent::Whole,
        Err(Broken::ByUs(reason)) => (Sent::CutShort, reason),
        Err(Broken::ByClient) => (Sent::ToNobody, Reason::CANCEL),
    };
    sending.outgoing.send_reset(reason);
    sent
}

struct Sending<'a> {
    outgoing: &'a mut SendStream<Bytes>,
    body: Body,
    /// A piece, or what is left of it, that the client's window had no room for.
    held: Bytes,
    record: &'a mut Record,
    idle_timeout: Duration,
    /// The client's silence, where something is held.
    silence: Option<Silence>,
}

/// A client that has taken nothing, and sent nothing of its own body.
#[derive(Clone, Copy, Debug)]
struct Silence {
    since: Instant,
    /// How much of its body had come.
    received: u64,
}

impl Sending<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, alarm: &Alarm) -> Poll<Result<(), Broken>> {
        loop {
            let outstanding = self.record.outstanding.as_ref();
            if outstanding.is_some_and(Outstanding::is_over) {
                return Poll::Ready(Err(Broken::ByUs(Reason::INTERNAL_ERROR)));
            }
            let waited = match self.held.is_empty() {
                true => self.poll_piece(cx),
                false => self.poll_room(cx),
            };
            match waited {
                Poll::Ready(Ok(Progress::Some)) => {}
                Poll::Ready(Ok(Progress::Ended)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                Poll::Pending => break,
            }
        }
        let active = match self.silence {
            Some(silence) => silence.since,
            // Not from now on: it is the alarm that asks again when it rings.
            None => self.body.last_active().unwrap_or_else(worker::now),
        };
        alarm.set(worker::silent_until(active, self.idle_timeout));
        match alarm.poll(cx) {
            Poll::Pending => Poll::Pending,
            // Nobody is told whose silence it was, but it was not the whole answer.
            Poll::Ready(()) if self.silence.is_some() => {
                Poll::Ready(Err(Broken::ByUs(Reason::CANCEL)))
            }
            Poll::Ready(()) => Poll::Ready(Err(Broken::ByUs(Reason::INTERNAL_ERROR))),
        }
    }

    /// Takes the next piece of the body, and hands on as much of it as the window has room for.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Progress, Broken>> {
        // h2 keeps pieces until they are sent, so they must be owned.
        let piece = self
            .body
            .poll_lend(cx, |_, piece| Bytes::copy_from_slice(piece));
        match piece {
            Poll::Ready(Ok(Some(piece))) if !piece.is_empty() => {
                self.outgoing.reserve_capacity(piece.len());
                self.held = piece;
                self.poll_room(cx)
            }
            Poll::Ready(Ok(Some(_))) if !self.body.is_done() => Poll::Ready(Ok(Progress::Some)),
            Poll::Ready(Ok(_)) => Poll::Ready(self.hand_over(Bytes::new(), Progress::Ended)),
            Poll::Ready(Err(_)) => Poll::Ready(Err(Broken::ByUs(Reason::INTERNAL_ERROR))),
            // A client that resets the stream wakes it.
            Poll::Pending => self
                .outgoing
                .poll_reset(cx)
                .map(|_reset| Err(Broken::ByClient)),
        }
    }

    /// Waits for room in the client's window, and hands on as much of what is held. No more: the last piece, too, shall
    /// have somebody who waits for its client, and a client that takes little at a time is seen to take it.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<Progress, Broken>> {
        let room = loop {
            match self.outgoing.capacity() {
                0 => match self.outgoing.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Broken::ByClient)),
                    Poll::Pending => {
                        self.body.poll_other_way(cx);
                        self.note_silence();
                        return Poll::Pending;
                    }
                },
                room => break room,
            }
        };
        self.silence = None;
        let part = self.held.split_to(room.min(self.held.len()));
        let progress = match self.held.is_empty() && self.body.is_done() {
            true => Progress::Ended,
            false => Progress::Some,
        };
        Poll::Ready(self.hand_over(part, progress))
    }

    /// Remembers since when, or that it begins again after the client has sent something.
    fn note_silence(&mut self) {
        let received = self.record.body.as_ref().map_or(0, |body| body.get());
        if self
            .silence
            .is_none_or(|silence| silence.received != received)
        {
            self.silence = Some(Silence {
                since: worker::now(),
                received,
            });
        }
    }

    fn hand_over(&mut self, part: Bytes, progress: Progress) -> Result<Progress, Broken> {
        let length = part.len() as u64;
        self.outgoing
            .send_data(part, progress == Progress::Ended)
            .map_err(|_| Broken::ByClient)?;
        self.record.exchange.sent_bytes += length;
        Ok(progress)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Some,
    Ended,
}
