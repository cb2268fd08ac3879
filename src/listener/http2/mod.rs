//! HTTP/2 by the `h2` crate, every limit set by hand. Its streams meet the same `proxy::handle` as HTTP/1.1's requests,
//! and all of a connection's are carried by one task.
//!
//! What a client may have us do and hold, for one connection. Above a limit a stream is reset, a request refused, or the
//! connection ended with GOAWAY; whatever is held ends with the idle timeout. Nothing is left to h2's own defaults.
//!
//! | what | how much | above it |
//! | --- | --- | --- |
//! | streams at once | `STREAMS_MAX` | REFUSED_STREAM |
//! | a request's headers | `HEADER_LIST_MAX` | 431 |
//! | CONTINUATION frames of a block | 5, what h2 makes of `HEADER_LIST_MAX` and `FRAME_MAX` | ENHANCE_YOUR_CALM |
//! | time for a block of headers | `header_timeout` | GOAWAY and the end |
//! | headers that are remembered | `HEADER_TABLE_MAX` | PROTOCOL_ERROR, where RFC 7541 has COMPRESSION_ERROR |
//! | a frame | `FRAME_MAX` | FRAME_SIZE_ERROR |
//! | bytes of bodies on their way up | `STREAM_WINDOW`, `CONNECTION_WINDOW` | FLOW_CONTROL_ERROR |
//! | small pieces of them | `SMALL_PIECES_MAX` | ENHANCE_YOUR_CALM |
//! | bytes of an answer on their way down | `SEND_BUFFER_MAX` with h2, and a piece of a target's with us | the target waits |
//! | frames on their way down | `wire::GATHERED_MAX` | we read no more |
//! | answers to PING and SETTINGS | one each, h2's own | we read no more |
//! | streams reset before we saw them | `PENDING_RESETS_MAX` | ENHANCE_YOUR_CALM |
//! | streams reset for a client's errors | `ERROR_RESETS_MAX` | ENHANCE_YOUR_CALM |
//! | streams reset by us that are remembered | `REMEMBERED_RESETS_MAX`, `REMEMBERED_RESETS_FOR` | their late frames are errors |
//! | time without a stream | the load balancer's idle timeout | GOAWAY |
//! | the connection's life | `client_keep_alive` | GOAWAY with the next answer |
//! | time after GOAWAY without a stream | `GOAWAY_GRACE` | the end |
//!
//! What this comes to in bytes is measured in `tests/it/hostile/siege.rs`.

mod answer;
mod blocks;
mod body;
mod calls;
mod record;
mod request;
mod streams;
mod tunnel;
mod wire;

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream};
use tokio::task::coop;
use tokio_rustls::server::TlsStream;

use super::connection::Front;
use crate::message::{Limit, SharedTime};
use crate::tls::Socket;
use crate::worker::{self, Alarm};
use calls::{Calls, STREAMS_MAX};
use streams::{Streams, Turn};
use wire::Wire;

/// Bytes of one request body on their way before its target took any.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What small pieces of bodies may cost beside their bytes, which windows do not count, before their targets took them:
/// up to 256 bytes for each piece.
const SMALL_PIECES_MAX: usize = CONNECTION_WINDOW as usize / 2;
/// Largest frame we take; the smallest the protocol allows is right for TLS records (RFC 9113 §4.2).
const FRAME_MAX: u32 = 16 * 1024;
/// Bytes of one response that wait for its client.
const SEND_BUFFER_MAX: usize = 64 * 1024;
/// Bytes of a request's headers, uncompressed (ALB quota for a request head: 64 K).
const HEADER_LIST_MAX: u32 = 64 * 1024;
/// Bytes of headers that a client may have us remember; the protocol's own default (RFC 9113 §6.5.2).
const HEADER_TABLE_MAX: u32 = 4 * 1024;
/// Streams a client may open and reset before we looked at them (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;
/// Streams we may have to reset for a client's errors before the connection ends (CVE-2025-8671).
const ERROR_RESETS_MAX: usize = 256;
/// Streams we have reset whose late frames are still known as such, and for how long: a round trip or two.
const REMEMBERED_RESETS_MAX: usize = 50;
const REMEMBERED_RESETS_FOR: Duration = Duration::from_secs(1);
/// How often connection and streams take turns before other tasks have theirs.
const ROUNDS_MAX: u32 = 8;
/// How long a connection that is cut off may take its last frame.
const CUT_GRACE: Duration = Duration::from_secs(2);
/// Grace of a connection that was told to go.
const GOAWAY_GRACE: Duration = Duration::from_secs(30);

/// Serves one connection until either side has had enough.
// Boxed: by value it would be in the future more than once.
pub(super) async fn serve(tls: Box<TlsStream<Socket>>, front: Rc<Front>) {
    let alarm = &front.alarm;
    let usage = Usage::new();
    let time = &SharedTime::new();
    let calls = Calls::new();
    let wire = Wire::new(tls, calls.connection());
    let mut connection = Conversation {
        stage: Stage::Greeting(builder().handshake(wire.clone())),
        wire: wire.clone(),
        is_to_go: false,
        waker: calls.connection(),
        streams: Streams::new(Arc::clone(&calls)),
        answer: |request, respond, alarm| {
            answer::answer(request, respond, Rc::clone(&front), alarm, time)
        },
        calls,
        usage: &usage,
    };
    // Asked each time: a connection lives for hours, and the limits may change under it.
    let ended = alarm
        .until(
            || match wire.block_since() {
                Some(since) => since + front.header_timeout(),
                None => worker::silent_until(usage.quiet_since(), front.idle_timeout()),
            },
            |cx| match connection.poll(cx) {
                Poll::Ready(()) => Poll::Ready(Ended::ByClient),
                Poll::Pending if is_to_go(&front, &usage) => Poll::Ready(Ended::ByUs),
                Poll::Pending => Poll::Pending,
            },
        )
        .await;
    if usage.is_flooding.get() {
        let listener = front.listener();
        listener.ledger.metrics.count_limit(Limit::Streams);
    }
    if let Some(Ended::ByClient) = ended {
        return;
    }
    if ended.is_none() && wire.block_since().is_some() {
        front.count_limit(Limit::HeaderTimeout);
        connection.cut();
        let going = |cx: &mut Context<'_>| connection.poll(cx);
        alarm.race(worker::now() + CUT_GRACE, going).await;
        return;
    }
    connection.go();
    // Streams that run go on; a connection without any ends when its client has heard that it is to go.
    let told = worker::now();
    let going = |cx: &mut Context<'_>| connection.poll(cx);
    let since = || usage.quiet_since().max(told);
    alarm.while_active(GOAWAY_GRACE, since, going).await;
}

/// Whether a connection is told to go. One that was just opened is about to be used: if it may, it is told with its
/// first answer, since clients do not expect to be turned away before they have asked.
fn is_to_go(front: &Front, usage: &Usage) -> bool {
    let listener = front.listener();
    match usage.is_used.get() {
        true => front.is_to_close(&listener),
        false => front.ends_idle() || front.expires(&listener) <= worker::now(),
    }
}

enum Ended {
    ByClient,
    ByUs,
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX as u32)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(SMALL_PIECES_MAX)
        .max_frame_size(FRAME_MAX)
        .max_send_buffer_size(SEND_BUFFER_MAX)
        .max_header_list_size(HEADER_LIST_MAX)
        .header_table_size(HEADER_TABLE_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
        .max_concurrent_reset_streams(REMEMBERED_RESETS_MAX)
        .reset_stream_duration(REMEMBERED_RESETS_FOR)
        .enable_connect_protocol();
    builder
}

/// A connection with its streams; `answer` makes what carries one of them.
struct Conversation<'a, E, T, A> {
    stage: Stage,
    wire: Wire,
    /// Whether it was told to.
    is_to_go: bool,
    calls: Arc<Calls>,
    waker: Waker,
    streams: Streams<E, T>,
    answer: A,
    usage: &'a Usage,
}

enum Stage {
    Greeting(Handshake<Wire, Bytes>),
    Open(Connection<Wire, Bytes>),
}

/// A request, and where its answer goes.
type Asked = (http::Request<RecvStream>, SendResponse<Bytes>);

impl<E, T, A> Conversation<'_, E, T, A>
where
    E: Future<Output = Option<Pin<Box<T>>>>,
    T: Future<Output = ()>,
    A: Fn(http::Request<RecvStream>, SendResponse<Bytes>, Rc<Alarm>) -> E,
{
    /// Tells the client that no more requests are taken, as soon as it can be told anything.
    fn go(&mut self) {
        self.is_to_go = true;
        if let Stage::Open(connection) = &mut self.stage {
            connection.graceful_shutdown();
        }
        self.waker.wake_by_ref();
    }

    /// Ends the connection with its streams, as soon as the client has been told.
    fn cut(&mut self) {
        if let Stage::Open(connection) = &mut self.stage {
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
        self.waker.wake_by_ref();
    }

    /// Moves on whatever was called; ready when the connection is over, and the streams with it.
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.calls.wake_up(cx.waker());
        let outcome = match self.take_turns() {
            Poll::Pending => self.send(),
            Poll::Ready(()) => {
                // What was said before the end; h2 has not always sent it.
                let _ = self.send();
                Poll::Ready(())
            }
        };
        self.calls.fall_asleep();
        outcome
    }

    fn take_turns(&mut self) -> Poll<()> {
        for _ in 0..ROUNDS_MAX {
            let ended = self.streams.run_called();
            self.note(ended);
            // After the streams: what they said is sent by this.
            if self.calls.take_connection() {
                while let Poll::Ready(asked) = self.poll_connection() {
                    match asked {
                        Some(asked) => self.begin(asked),
                        None => return Poll::Ready(()),
                    }
                }
            }
            if !self.calls.is_anyone_waiting() || !coop::has_budget_remaining() {
                break;
            }
        }
        Poll::Pending
    }

    /// Sends what these turns have brought together; ready when the wire is broken.
    fn send(&self) -> Poll<()> {
        let cx = &mut Context::from_waker(&self.waker);
        match self.wire.poll_send(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    /// Reads and writes what can be; gives the next request, or `None` at the connection's end.
    fn poll_connection(&mut self) -> Poll<Option<Asked>> {
        let cx = &mut Context::from_waker(&self.waker);
        loop {
            match &mut self.stage {
                Stage::Open(connection) => {
                    // Nothing is lost where this future is dropped.
                    let accepted = ready!(pin!(connection.accept()).poll(cx));
                    if let Some(Err(error)) = &accepted
                        && error.reason() == Some(Reason::ENHANCE_YOUR_CALM)
                        && error.is_library()
                    {
                        self.usage.is_flooding.set(true);
                    }
                    return Poll::Ready(accepted.and_then(Result::ok));
                }
                Stage::Greeting(handshake) => {
                    match ready!(Pin::new(handshake).poll(cx)) {
                        Ok(mut connection) => {
                            if self.is_to_go {
                                connection.graceful_shutdown();
                            }
                            self.stage = Stage::Open(connection);
                        }
                        Err(_) => return Poll::Ready(None),
                    };
                }
            }
        }
    }

    fn begin(&mut self, (request, mut respond): Asked) {
        self.usage.is_used.set(true);
        if self.streams.len() == STREAMS_MAX {
            // The client has reset some, which have not been told yet.
            let ended = self.streams.run_called();
            self.note(ended);
        }
        if self.streams.len() == STREAMS_MAX {
            respond.send_reset(Reason::REFUSED_STREAM);
            return;
        }
        let answer = &self.answer;
        let turn = self.streams.begin(|alarm| answer(request, respond, alarm));
        // What needs to wait for nobody has been answered already.
        self.note(usize::from(turn == Some(Turn::Ended)));
    }

    /// Keeps account of how the connection is used.
    fn note(&self, ended: usize) {
        self.usage.active.set(self.streams.len());
        if ended > 0 {
            self.usage.last.set(worker::now());
        }
    }
}

/// How a connection is used.
#[derive(Debug)]
struct Usage {
    active: Cell<usize>,
    /// Whether there has been any stream.
    is_used: Cell<bool>,
    /// Whether its client did more than it may, and it ended for that.
    is_flooding: Cell<bool>,
    /// When a stream ended last.
    last: Cell<Instant>,
}

impl Usage {
    fn new() -> Self {
        Self {
            active: Cell::new(0),
            is_used: Cell::new(false),
            is_flooding: Cell::new(false),
            last: Cell::new(worker::now()),
        }
    }

    /// Since when there has been no stream; a connection with one is not quiet.
    fn quiet_since(&self) -> Instant {
        if self.active.get() > 0 {
            worker::now()
        } else {
            self.last.get()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::connection::tests::size_of_future;

    /// Without what h2 holds on the heap.
    #[test]
    fn what_a_connection_holds_stays_small() {
        let connection = size_of_future(|(tls, front)| serve(tls, front));
        assert!(connection <= 2048, "a connection has {connection} bytes");
    }
}
