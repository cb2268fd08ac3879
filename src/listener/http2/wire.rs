//! What h2 writes on, gathered: frames of many streams leave in one write, once the connection's turn is over. Never
//! keeps a buffer that it has nothing in.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::blocks::Blocks;
use crate::tls::Socket;
use crate::worker;

/// Most bytes that are gathered before they are sent anyhow, and so what a client may leave with us that takes none. In
/// TLS records they still go in one piece, as what is read in one does (`worker`).
const GATHERED_MAX: usize = 60_000;

/// One connection's wire: h2 has one handle, and who ends its turns the other.
#[derive(Clone)]
pub(super) struct Wire(Rc<RefCell<Ends>>);

/// Nothing of what goes over it.
impl fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Wire")
    }
}

struct Ends {
    tls: Box<TlsStream<Socket>>,
    /// Written by h2, and not by TLS; the worker's buffer until it is empty again.
    gathered: Vec<u8>,
    /// How many of these bytes TLS has taken.
    sent: usize,
    blocks: Blocks,
    reader: Arc<Reader>,
    /// Calls the reader.
    waker: Waker,
}

/// Who is called when there is something to read, and calls the connection then. A connection has many turns for what
/// it is to write, and need not ask TLS and the socket each time.
#[derive(Debug)]
struct Reader {
    is_called: AtomicBool,
    connection: Waker,
}

impl Wake for Reader {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_called.store(true, Ordering::Release);
        self.connection.wake_by_ref();
    }
}

impl Wire {
    /// `connection` calls the connection that reads from here.
    pub(super) fn new(tls: Box<TlsStream<Socket>>, connection: Waker) -> Self {
        let reader = Arc::new(Reader {
            is_called: AtomicBool::new(true),
            connection,
        });
        Self(Rc::new(RefCell::new(Ends {
            tls,
            gathered: Vec::new(),
            sent: 0,
            blocks: Blocks::new(),
            waker: Waker::from(Arc::clone(&reader)),
            reader,
        })))
    }

    /// When a block of headers began that has not ended.
    pub(super) fn block_since(&self) -> Option<Instant> {
        self.0.borrow().blocks.since()
    }

    /// Sends what was gathered.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_send(cx)
    }
}

impl Ends {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.capacity() == 0 {
            return Poll::Ready(Ok(()));
        }
        while self.sent < self.gathered.len() {
            let left = &self.gathered[self.sent..];
            let count = ready!(Pin::new(&mut self.tls).poll_write(cx, left))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        ready!(Pin::new(&mut self.tls).poll_flush(cx))?;
        self.sent = 0;
        worker::with_outgoing(|spare| {
            // Of two buffers the larger one stays, that of a connection which had to wait is not needed any more.
            if spare.capacity() < self.gathered.capacity() {
                std::mem::swap(spare, &mut self.gathered);
            }
        });
        self.gathered = Vec::new();
        Poll::Ready(Ok(()))
    }

    fn poll_gather<B: Deref<Target = [u8]>>(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[B],
    ) -> Poll<io::Result<usize>> {
        if self.gathered.len() >= GATHERED_MAX {
            ready!(self.poll_send(cx))?;
        }
        if self.gathered.capacity() == 0 {
            worker::with_outgoing(|spare| std::mem::swap(spare, &mut self.gathered));
        }
        let mut room = GATHERED_MAX - self.gathered.len();
        let before = room;
        for piece in pieces {
            let taken = &piece[..piece.len().min(room)];
            self.gathered.extend_from_slice(taken);
            room -= taken.len();
        }
        Poll::Ready(Ok(before - room))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let ends = &mut *self.0.borrow_mut();
        if !ends.reader.is_called.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        let cx = &mut Context::from_waker(&ends.waker);
        let known = buffer.filled().len();
        let outcome = Pin::new(&mut ends.tls).poll_read(cx, buffer);
        if outcome.is_ready() {
            ends.blocks.pass(&buffer.filled()[known..]);
            // There may be more.
            ends.reader.is_called.store(true, Ordering::Relaxed);
        }
        outcome
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_gather(cx, &[bytes])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_gather(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Says that all is sent, which is for the turn's end: h2 flushes after every frame of some size.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut ends = self.0.borrow_mut();
        ready!(ends.poll_send(cx))?;
        Pin::new(&mut ends.tls).poll_shutdown(cx)
    }
}
