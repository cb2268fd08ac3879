//! One type for a connection's bytes: plain, TLS from either end, or a stream of an HTTP/2 connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Http2Stream, Socket};

/// A connected socket, with or without TLS on it. The TLS states are large, so they live on the heap.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Socket),
    /// We are the server: toward clients.
    Server(Box<tokio_rustls::server::TlsStream<Socket>>),
    /// We are the client: toward targets.
    Client(Box<tokio_rustls::client::TlsStream<Socket>>),
    /// What a client's extended CONNECT has opened (RFC 8441).
    Http2(Box<Http2Stream>),
}

impl Stream {
    /// Reads what is there into `buffer`; 0 is the end. A peer that ends TLS without saying so gives an error, so that
    /// a body that ends with its connection is never cut short unseen (RFC 8446 §6.1).
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let outcome = match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, &mut buffer),
            Self::Server(tls) => Pin::new(tls).poll_read(cx, &mut buffer),
            Self::Client(tls) => Pin::new(tls).poll_read(cx, &mut buffer),
            Self::Http2(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        };
        outcome.map_ok(|()| buffer.filled().len())
    }

    /// Writes some of `pieces`, of which there are at most four. One goes out as it is: the system takes a slice with
    /// less ado than a list of slices.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[&[u8]],
    ) -> Poll<io::Result<usize>> {
        if let [piece] = pieces {
            return match self {
                Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, piece),
                Self::Server(tls) => Pin::new(tls).poll_write(cx, piece),
                Self::Client(tls) => Pin::new(tls).poll_write(cx, piece),
                Self::Http2(stream) => Pin::new(stream).poll_write(cx, piece),
            };
        }
        let mut slices = [IoSlice::new(&[]); 4];
        let mut count = 0;
        for piece in pieces
            .iter()
            .filter(|piece| !piece.is_empty())
            .take(slices.len())
        {
            slices[count] = IoSlice::new(piece);
            count += 1;
        }
        let slices = &slices[..count];
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Self::Server(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
            Self::Client(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
            Self::Http2(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Sends records that TLS still holds.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Server(tls) => Pin::new(tls).poll_flush(cx),
            Self::Client(tls) => Pin::new(tls).poll_flush(cx),
            Self::Http2(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Says that nothing more will be written: close_notify where there is TLS, then FIN.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Server(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::Client(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::Http2(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// Whether nothing came since the last read, not even an end.
    pub(crate) fn is_quiet(&mut self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_quiet(),
            // What came may be TLS's own affair, such as a ticket.
            Self::Server(_) | Self::Client(_) | Self::Http2(_) => {
                let mut cx = Context::from_waker(Waker::noop());
                self.poll_read(&mut cx, &mut [0]).is_pending()
            }
        }
    }

    /// Has the connection end with a reset when it is dropped: what came so far must not look whole.
    pub(crate) fn reset(&self) {
        match self {
            Self::Plain(tcp) => tcp.reset(),
            Self::Server(tls) => tls.get_ref().0.reset(),
            Self::Client(tls) => tls.get_ref().0.reset(),
            // A stream that is dropped before its end is reset.
            Self::Http2(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every connection has a stream, plain ones too. The buffers of TLS are not in it.
    #[test]
    fn what_tls_adds_to_a_connection_stays_small() {
        let stream = size_of::<Stream>();
        assert!(stream <= 56, "a stream has {stream} bytes");
        let server = size_of::<tokio_rustls::server::TlsStream<Socket>>();
        assert!(server <= 1280, "TLS toward a client has {server} bytes");
        let client = size_of::<tokio_rustls::client::TlsStream<Socket>>();
        assert!(client <= 1152, "TLS toward a target has {client} bytes");
    }
}
