//! Who is asking: facts about one client connection, fixed when it is accepted.

use std::net::SocketAddr;
use std::sync::Arc;

/// One client connection as the hallway sees it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The TCP peer, or whom a PROXY header that is believed names in its place.
    pub(crate) peer: SocketAddr,
    /// The address the client connected to.
    pub(crate) local: SocketAddr,
    /// What the handshake agreed on; `None` on HTTP listeners.
    pub(crate) tls: Option<TlsFacts>,
}

impl Client {
    /// `https` or `http`, as X-Forwarded-Proto says it.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// What a client handshake agreed on.
#[derive(Clone, Debug)]
pub(crate) struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub(crate) version: &'static str,
    /// OpenSSL's name of the suite, as ALB logs it.
    pub(crate) cipher: &'static str,
    /// The name the client asked for, where it asked for one.
    pub(crate) server_name: Option<Arc<str>>,
}
