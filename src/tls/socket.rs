//! A TCP socket of the data plane. Does what tokio's does with less around each system call: the call itself without
//! the C library, which makes every one of them a point where a thread may be cancelled, and a look at whether the
//! socket is ready before any lock is taken.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop;

/// A connected socket.
#[derive(Debug)]
pub(crate) struct Socket {
    tcp: TcpStream,
    /// Who is woken when it can be read, and when it can be written.
    reader: Registered,
    writer: Registered,
}

/// The task that waits for one direction: its address, 0 when there is none. tokio holds the task's waker for as long
/// as this says so, hence no other task can have come to that address.
#[derive(Debug, Default)]
struct Registered(Cell<usize>);

impl Socket {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self {
            tcp,
            reader: Registered::default(),
            writer: Registered::default(),
        }
    }

    /// The address on our side.
    ///
    /// # Errors
    /// When the connection was reset before it was looked at.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Looks at bytes that came and leaves them.
    pub(crate) fn poll_peek(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.reader.0.set(0);
        self.tcp.poll_peek(cx, &mut ReadBuf::new(buffer))
    }

    /// Whether nothing came since the last read, not even an end. Costs a system call only where the event queue
    /// reported something.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let peeked = self.attempt(Interest::READABLE, 0, || {
            let (_, count) = rustix::net::recv(&self.tcp, &mut byte, RecvFlags::PEEK)?;
            Ok(count)
        });
        peeked.is_none()
    }

    /// Has the connection end with a reset when it is dropped.
    pub(crate) fn reset(&self) {
        // A socket that cannot be told is closed in the ordinary way.
        let _ = self.tcp.set_zero_linger();
    }

    /// Makes a system call that moves up to `most` bytes, if the socket is ready for it; `None` when it is not.
    fn attempt(
        &self,
        interest: Interest,
        most: usize,
        call: impl FnOnce() -> rustix::io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        let mut moved = None;
        let outcome = self.tcp.try_io(interest, || {
            // It is ready because it was reported, and whoever waited was woken then.
            self.registered(interest).0.set(0);
            let count = call()?;
            moved = Some(count);
            match count {
                // Fewer than it might have been: the next call would find nothing, and the event queue tells when it
                // will. A socket that is reported anew after this call is reported by this thread, so later.
                1.. if count < most => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            }
        });
        match (moved, outcome) {
            (Some(count), _) => Some(Ok(count)),
            (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => Some(Err(error)),
            (None, _) => None,
        }
    }

    /// Makes such a call as soon as the socket is ready for it.
    fn poll_call(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        most: usize,
        mut call: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        // A connection that always moves on must let others run, too.
        let turn = ready!(coop::poll_proceed(cx));
        loop {
            if let Some(outcome) = self.attempt(interest, most, &mut call) {
                turn.made_progress();
                return Poll::Ready(outcome);
            }
            let registered = self.registered(interest);
            if registered.waits(cx) {
                return Poll::Pending;
            }
            let ready = match interest {
                Interest::READABLE => self.tcp.poll_read_ready(cx),
                _ => self.tcp.poll_write_ready(cx),
            };
            match ready {
                Poll::Ready(ready) => ready?,
                Poll::Pending => {
                    registered.wait(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    fn registered(&self, interest: Interest) -> &Registered {
        match interest {
            Interest::READABLE => &self.reader,
            _ => &self.writer,
        }
    }
}

impl Registered {
    /// Whether this task is the one that waits; then it need not say so again, under a lock.
    fn waits(&self, cx: &Context<'_>) -> bool {
        self.0.get() == cx.waker().data().addr()
    }

    /// tokio said that this task waits. It also says so where the task's turn is over, and then it knows of nobody.
    fn wait(&self, cx: &Context<'_>) {
        if coop::has_budget_remaining() {
            self.0.set(cx.waker().data().addr());
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.initialize_unfilled();
        let most = room.len();
        let count = ready!(self.poll_call(cx, Interest::READABLE, most, || {
            let (_, count) = rustix::net::recv(&self.tcp, &mut *room, RecvFlags::empty())?;
            Ok(count)
        }))?;
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let send = || rustix::net::send(&self.tcp, bytes, SendFlags::NOSIGNAL);
        self.poll_call(cx, Interest::WRITABLE, bytes.len(), send)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // TLS writes a list of records, and mostly one; the system takes that with less ado than a list.
        if let [piece] = pieces {
            return self.poll_write(cx, piece);
        }
        let most = pieces.iter().map(|piece| piece.len()).sum();
        let send = || rustix::io::writev(&self.tcp, pieces);
        self.poll_call(cx, Interest::WRITABLE, most, send)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connect = TcpStream::connect(listener.local_addr().unwrap());
        let (theirs, accepted) = tokio::join!(connect, listener.accept());
        (theirs.unwrap(), Socket::new(accepted.unwrap().0))
    }

    /// What a task has left of its turn when it comes to a silent socket may be any number.
    #[tokio::test]
    async fn a_task_is_woken_however_much_of_its_turn_was_left() {
        for spent in 0..130 {
            let (mut theirs, mut ours) = pair().await;
            let mut to_spend = spent;
            let reading = tokio::spawn(async move {
                let mut byte = [0];
                let mut buffer = ReadBuf::new(&mut byte);
                poll_fn(|cx| {
                    while to_spend > 0 && coop::has_budget_remaining() {
                        to_spend -= 1;
                        ready!(coop::poll_proceed(cx)).made_progress();
                    }
                    Pin::new(&mut ours).poll_read(cx, &mut buffer)
                })
                .await
            });
            // The reader has had every turn it asks for by itself.
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            theirs.write_all(b"x").await.unwrap();
            let woken = tokio::time::timeout(Duration::from_secs(5), reading).await;
            assert!(woken.is_ok(), "after {spent} operations");
        }
    }

    #[tokio::test]
    async fn what_comes_is_read_to_its_end() {
        let (mut theirs, mut ours) = pair().await;
        assert!(ours.is_quiet());
        let sending = tokio::spawn(async move {
            for _ in 0..64 {
                theirs.write_all(&[7; 4_096]).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut all = Vec::new();
        ours.read_to_end(&mut all).await.unwrap();
        sending.await.unwrap();
        assert_eq!(all.len(), 64 * 4_096);
        assert!(!ours.is_quiet(), "an end is no quiet");
    }
}
