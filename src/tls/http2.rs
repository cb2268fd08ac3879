//! The bytes of an HTTP/2 stream that its client has opened as a tunnel (RFC 8441). Takes no more from either side than
//! flow control lets the other have.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that are handed over in one go; the rest waits with its sender.
const PIECE_MAX: usize = 16 * 1024;

/// Both directions of one stream. Dropped before both have ended, it resets the stream.
pub(crate) struct Http2Stream {
    incoming: RecvStream,
    /// What came and was not read yet; it counts against the client's window.
    unread: Bytes,
    outgoing: SendStream<Bytes>,
    is_shut: bool,
}

/// Nothing of what goes through it.
impl fmt::Debug for Http2Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Http2Stream({:?})", self.outgoing.stream_id())
    }
}

impl Http2Stream {
    pub(crate) fn new(incoming: RecvStream, outgoing: SendStream<Bytes>) -> Self {
        Self {
            incoming,
            unread: Bytes::new(),
            outgoing,
            is_shut: false,
        }
    }
}

impl AsyncRead for Http2Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match ready!(this.incoming.poll_data(cx)) {
                Some(Ok(data)) => this.unread = data,
                None => return Poll::Ready(Ok(())),
                // A client that leaves has ended as well as any.
                Some(Err(error))
                    if matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) =>
                {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let count = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.unread[..count]);
        this.unread.advance(count);
        // Only a stream that is over has nothing to release.
        let _ = this.incoming.flow_control().release_capacity(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let most = bytes.len().min(PIECE_MAX);
        this.outgoing.reserve_capacity(most);
        let room = loop {
            match this.outgoing.capacity() {
                0 => match ready!(this.outgoing.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                },
                room => break room,
            }
        };
        let piece = Bytes::copy_from_slice(&bytes[..room.min(most)]);
        let count = piece.len();
        this.outgoing
            .send_data(piece, false)
            .map_err(io::Error::other)?;
        Poll::Ready(Ok(count))
    }

    /// What was written is with the connection, which sends it by itself. Fails, and wakes who asked, once the client has
    /// reset the stream: nobody hears of that who neither reads nor writes.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().outgoing.poll_reset(cx) {
            Poll::Pending => Poll::Ready(Ok(())),
            Poll::Ready(Ok(_)) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(io::Error::other(error))),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut {
            this.is_shut = true;
            this.outgoing
                .send_data(Bytes::new(), true)
                .map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}
