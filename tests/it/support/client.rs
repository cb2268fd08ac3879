//! A client that sends bytes and reads responses.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::message::{End, Framed, Message, Wire};
use super::within;

/// One connection to the load balancer.
#[derive(Debug)]
pub(crate) struct Client(Wire);

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await;
        Self(Wire::new(stream.expect("a loopback connection")))
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.send(bytes.as_ref()).await;
    }

    /// The next response, interim ones too; none where the connection ends instead.
    pub(crate) async fn next(&mut self, framed: Framed) -> Option<Message> {
        self.0.message(framed).await
    }

    /// The next response, of which there must be one.
    pub(crate) async fn response(&mut self) -> Message {
        self.next(Framed::ByHead).await.expect("a response")
    }

    /// The next response to a HEAD request.
    pub(crate) async fn response_to_head(&mut self) -> Message {
        self.next(Framed::WithoutBody).await.expect("a response")
    }

    /// The head of the next response; its body can be taken piece by piece.
    pub(crate) async fn head(&mut self) -> String {
        self.0.head().await.expect("a response")
    }

    pub(crate) async fn take(&mut self, count: usize) -> Vec<u8> {
        self.0.take(count).await
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> String {
        self.0.rest().await.escape_ascii().to_string()
    }

    /// How the connection ends, whatever comes before that.
    pub(crate) async fn end(&mut self) -> End {
        self.0.end().await
    }

    /// Says that nothing more will be sent, and reads on.
    pub(crate) async fn half_close(&mut self) {
        self.0.half_close().await;
    }

    /// Goes away for good and at once.
    pub(crate) fn reset(self) {
        self.0.reset();
    }
}
