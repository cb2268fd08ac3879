//! TCP, then TLS, each under its own limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Error;
use crate::tls::{Socket, Stream};

/// Longest wait for a connection, and again for its handshake (ALB user guide: 10 seconds, fixed).
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// TLS toward one target.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) config: Arc<rustls::ClientConfig>,
    /// Sent as SNI when it is a name.
    pub(crate) name: ServerName<'static>,
}

/// Opens a connection to an address that takes one, and says which. It begins with `header`, before TLS. Real timers are
/// used here: connecting is rare.
pub(crate) async fn connect(
    addresses: &[SocketAddr],
    header: &[u8],
    tls: Option<&Tls>,
) -> Result<(Stream, SocketAddr), Error> {
    let (mut tcp, address) = connect_tcp(addresses).await?;
    // A fresh socket's buffer takes it at once.
    tcp.write_all(header).await.map_err(Error::Connect)?;
    let Some(tls) = tls else {
        return Ok((Stream::Plain(tcp), address));
    };
    let handshake = TlsConnector::from(Arc::clone(&tls.config)).connect(tls.name.clone(), tcp);
    let stream = timeout(CONNECT_TIMEOUT, handshake)
        .await
        .map_err(|_| Error::TlsTimeout)?
        .map_err(Error::Tls)?;
    Ok((Stream::Client(Box::new(stream)), address))
}

/// Tries the addresses in turn, from a random one on, so that those of one name share the load. Each has its share of
/// the time, so that one that swallows packets does not keep the others from being tried.
async fn connect_tcp(addresses: &[SocketAddr]) -> Result<(Socket, SocketAddr), Error> {
    let mut outcome = Error::NoAddress;
    let share = CONNECT_TIMEOUT / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let first = fastrand::usize(..addresses.len().max(1));
    for address in addresses.iter().cycle().skip(first).take(addresses.len()) {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                tcp.set_nodelay(true).map_err(Error::Connect)?;
                return Ok((Socket::new(tcp), *address));
            }
            Ok(Err(error)) => outcome = Error::Connect(error),
            Err(_elapsed) => outcome = Error::ConnectTimeout,
        }
    }
    Err(outcome)
}
