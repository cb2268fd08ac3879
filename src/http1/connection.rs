//! A connection that carries HTTP/1.1, either side. While it is idle it holds no buffer: bytes are read into the
//! worker's scratch, and only what could not be used or sent at once is kept.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::incoming::Reader;
use crate::tls::Stream;
use crate::worker;

/// Most idle connections that one worker keeps to one target; the oldest goes first.
const IDLE_MAX: usize = 512;

/// One connection. Reader and writer share it, each for the length of a poll.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: RefCell<Stream>,
    peer: SocketAddr,
    /// Read and not yet used.
    unread: RefCell<Pending>,
    /// Accepted and not yet sent.
    unsent: RefCell<Pending>,
    received: Cell<u64>,
    sent: Cell<u64>,
    last_active: Cell<Instant>,
    /// Whether some message body is still to be read, and how.
    pub(super) body: RefCell<BodyState>,
}

/// What the connection knows of the body it is bringing.
#[derive(Debug)]
pub(super) enum BodyState {
    /// The next bytes are a head.
    None,
    /// An `Incoming` reads it.
    Reading,
    /// Its `Incoming` was dropped before the end.
    Abandoned(Reader),
}

impl Connection {
    pub(crate) fn new(stream: Stream, peer: SocketAddr) -> Self {
        Self {
            stream: RefCell::new(stream),
            peer,
            unread: RefCell::default(),
            unsent: RefCell::default(),
            received: Cell::new(0),
            sent: Cell::new(0),
            last_active: Cell::new(worker::now()),
            body: RefCell::new(BodyState::None),
        }
    }

    /// Bytes that came, without TLS around them.
    pub(crate) fn received(&self) -> u64 {
        self.received.get()
    }

    /// Bytes that went, without TLS around them.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// When the last byte came or went.
    pub(crate) fn last_active(&self) -> Instant {
        self.last_active.get()
    }

    /// Counts as activity: a connection that was idle begins something.
    pub(crate) fn touch(&self) {
        self.last_active.set(worker::now());
    }

    /// The socket's other end.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether bytes wait that were read already, such as a pipelined request.
    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.borrow().is_empty()
    }

    /// How many such bytes.
    pub(crate) fn unread_len(&self) -> usize {
        self.unread.borrow().bytes().len()
    }

    /// How many bytes of a message body are still to be read; `None` where only its end can tell.
    pub(crate) fn body_left(&self) -> Option<u64> {
        match &*self.body.borrow() {
            BodyState::None => Some(0),
            BodyState::Reading => None,
            BodyState::Abandoned(reader) => reader.left(),
        }
    }

    /// Whether a message body is still open on the reading side.
    pub(crate) fn body_is_open(&self) -> bool {
        !matches!(*self.body.borrow(), BodyState::None)
    }

    /// Lends the next bytes to `take`, which says how many it used; `None` at the end of the stream. What it leaves
    /// is lent again.
    pub(crate) fn poll_lend<R>(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Context<'_>, &[u8]) -> (usize, R),
    ) -> Poll<io::Result<Option<R>>> {
        if self.has_unread() {
            return Poll::Ready(Ok(Some(self.lend_unread(cx, take))));
        }
        worker::with_scratch(|scratch| {
            let count = ready!(self.poll_read(cx, scratch))?;
            if count == 0 {
                return Poll::Ready(Ok(None));
            }
            let (used, outcome) = take(cx, &scratch[..count]);
            self.unread.borrow_mut().extend(&scratch[used..count]);
            Poll::Ready(Ok(Some(outcome)))
        })
    }

    /// Like `poll_lend`, but reads more first: for a taker that could not do with what it saw.
    pub(crate) fn poll_lend_more<R>(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Context<'_>, &[u8]) -> (usize, R),
    ) -> Poll<io::Result<Option<R>>> {
        if ready!(self.poll_read_ahead(cx))? == 0 {
            return Poll::Ready(Ok(None));
        }
        Poll::Ready(Ok(Some(self.lend_unread(cx, take))))
    }

    /// Reads more behind what is unread; 0 is the end of the stream. The caller bounds how much may gather.
    pub(crate) fn poll_read_ahead(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        worker::with_scratch(|scratch| {
            let count = ready!(self.poll_read(cx, scratch))?;
            self.unread.borrow_mut().extend(&scratch[..count]);
            Poll::Ready(Ok(count))
        })
    }

    fn lend_unread<R>(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Context<'_>, &[u8]) -> (usize, R),
    ) -> R {
        let mut unread = self.unread.borrow_mut();
        let (used, outcome) = take(cx, unread.bytes());
        unread.advance(used);
        outcome
    }

    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let count = ready!(self.stream.borrow_mut().poll_read(cx, buffer))?;
        self.received.set(self.received.get() + count as u64);
        self.last_active.set(worker::now());
        Poll::Ready(Ok(count))
    }

    /// Sends `pieces` as far as the socket takes them and keeps the rest for `poll_flush`. Callers flush before they
    /// push again, so what is kept is never more than one push.
    pub(crate) fn push(&self, cx: &mut Context<'_>, pieces: &[&[u8]]) -> io::Result<()> {
        let mut unsent = self.unsent.borrow_mut();
        let mut written = 0;
        if unsent.is_empty()
            && let Poll::Ready(count) = self.stream.borrow_mut().poll_write(cx, pieces)
        {
            written = count?;
            self.count_sent(written);
        }
        for piece in pieces {
            let skip = written.min(piece.len());
            unsent.extend(&piece[skip..]);
            written -= skip;
        }
        Ok(())
    }

    /// Sends all that was pushed.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut unsent = self.unsent.borrow_mut();
        let mut stream = self.stream.borrow_mut();
        while !unsent.is_empty() {
            let count = ready!(stream.poll_write(cx, &[unsent.bytes()]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.count_sent(count);
            unsent.advance(count);
        }
        stream.poll_flush(cx)
    }

    /// Says that nothing more will be sent.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.borrow_mut().poll_shutdown(cx)
    }

    /// Has the connection end with a reset when it is dropped.
    pub(crate) fn reset(&self) {
        self.stream.borrow().reset();
    }

    fn count_sent(&self, count: usize) {
        self.sent.set(self.sent.get() + count as u64);
        self.last_active.set(worker::now());
    }

    /// Whether an idle connection is fit for another request: nothing unread, no end, no stray bytes. Costs a system
    /// call only where the event queue reported something.
    fn is_fit(&self) -> bool {
        !self.has_unread() && self.unsent.borrow().is_empty() && self.stream.borrow_mut().is_quiet()
    }
}

/// Where the idle connections of one target live, on one worker; a body that ends well brings its connection home.
#[derive(Debug, Default)]
pub(crate) struct Home {
    idle: RefCell<VecDeque<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: Rc<Connection>,
    since: Instant,
}

impl Home {
    pub(crate) fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty()
    }

    /// Keeps an idle connection for the next request.
    pub(crate) fn put(&self, connection: Rc<Connection>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() == IDLE_MAX {
            idle.pop_front();
        }
        idle.push_back(Idle {
            connection,
            since: worker::now(),
        });
    }

    /// The connection that was used last and is still fit; unfit ones on the way are closed.
    pub(crate) fn take(&self) -> Option<Rc<Connection>> {
        loop {
            let Idle { connection, .. } = self.idle.borrow_mut().pop_back()?;
            if connection.is_fit() {
                return Some(connection);
            }
        }
    }

    /// Moves what is unfit or has been idle for `period` to `gone`, where it ends when that is dropped.
    pub(crate) fn expire(&self, period: Duration, now: Instant, gone: &mut Vec<Rc<Connection>>) {
        self.idle.borrow_mut().retain(|idle| {
            let stays = now < idle.since + period && idle.connection.is_fit();
            if !stays {
                gone.push(Rc::clone(&idle.connection));
            }
            stays
        });
    }
}

/// Bytes between a socket and whoever is slower; holds no memory while empty.
#[derive(Default)]
struct Pending {
    buffer: Vec<u8>,
    start: usize,
}

/// How many they are: they may be a secret.
impl fmt::Debug for Pending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Pending({} bytes)", self.bytes().len())
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn extend(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    fn advance(&mut self, count: usize) {
        self.start += count;
        if self.is_empty() {
            *self = Self::default();
        }
    }
}
