//! A target that a test plays: it accepts, sees exact bytes, answers any bytes, closes or resets when told to.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::Poll;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

use super::message::{End, Framed, Message, Wire};
use super::within;

/// A target's port.
#[derive(Debug)]
pub(crate) struct Target(TcpListener);

impl Target {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The next connection of the load balancer.
    pub(crate) async fn accept(&self) -> Served {
        let accepted = within("a connection to the target", self.0.accept()).await;
        Served(Wire::new(accepted.unwrap().0))
    }

    /// Accepts a connection and reads its first request.
    pub(crate) async fn serve(&self) -> (Served, Message) {
        let mut served = self.accept().await;
        let request = served.request().await;
        (served, request)
    }

    /// Whether no connection waits to be accepted. Whoever asks has seen something that comes after a connection, so
    /// there is nothing to wait for.
    pub(crate) async fn is_left_alone(&self) -> bool {
        poll_fn(|cx| Poll::Ready(self.0.poll_accept(cx).is_pending())).await
    }
}

/// One connection to a target.
#[derive(Debug)]
pub(crate) struct Served(Wire);

impl Served {
    /// The next request, whole; none where the connection ends instead.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        self.0.message(Framed::ByHead).await
    }

    /// The next request, of which there must be one.
    pub(crate) async fn request(&mut self) -> Message {
        self.next().await.expect("a request")
    }

    /// The head of the next request; its body can be taken piece by piece.
    pub(crate) async fn head(&mut self) -> String {
        self.0.head().await.expect("a request")
    }

    /// Whether nothing came that was not read yet.
    pub(crate) async fn is_quiet(&self) -> bool {
        self.0.is_quiet().await
    }

    pub(crate) async fn take(&mut self, count: usize) -> Vec<u8> {
        self.0.take(count).await
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.send(bytes.as_ref()).await;
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> String {
        self.0.rest().await.escape_ascii().to_string()
    }

    /// Reads to the end of the connection, and says how it came.
    pub(crate) async fn end(&mut self) -> End {
        self.0.end().await
    }

    /// Says that nothing more will be sent, and reads on.
    pub(crate) async fn half_close(&mut self) {
        self.0.half_close().await;
    }

    /// Ends with a reset.
    pub(crate) fn reset(self) {
        self.0.reset();
    }
}

/// A port that refuses connections for as long as this lives: it is taken, and nobody listens.
#[derive(Debug)]
pub(crate) struct Refusing(Socket);

impl Refusing {
    pub(crate) fn start() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        socket.bind(&any.into()).unwrap();
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }
}
