//! How to talk to one address: connect, keep idle connections, send a request, read the answer. Never knows target
//! groups, health or rules.

mod connect;
mod error;
mod http1;
mod pool;
pub(crate) mod resolve;

pub(crate) use connect::{Tls, connect};
pub(crate) use error::{Error, Failure, Replay};
pub(crate) use http1::{Answer, Terms, send};
pub(crate) use pool::{PoolId, sweep};

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::message::Client;
use crate::model::ProxyProtocolVersion;
use crate::proxy_protocol::{Carried, write};

/// Where one target is and how to speak to it.
#[derive(Debug)]
pub(crate) struct Upstream {
    pool: PoolId,
    addresses: ArcSwap<Vec<SocketAddr>>,
    tls: Option<Tls>,
    proxy_protocol: Option<ProxyProtocolVersion>,
}

impl Upstream {
    /// A target at these addresses, of which there may be none yet. `pool` is never given to another.
    pub(crate) fn new(
        pool: PoolId,
        addresses: Vec<SocketAddr>,
        tls: Option<Tls>,
        proxy_protocol: Option<ProxyProtocolVersion>,
    ) -> Self {
        Self {
            pool,
            addresses: ArcSwap::from_pointee(addresses),
            tls,
            proxy_protocol,
        }
    }

    pub(crate) fn pool(&self) -> PoolId {
        self.pool
    }

    /// Where the target is now, as far as is known.
    pub(crate) fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        self.addresses.load_full()
    }

    /// Replaces the addresses; connections to the old ones finish and are not used again once they close.
    pub(crate) fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.addresses.store(Arc::new(addresses));
    }

    /// What a connection on this client's behalf begins with; nothing where the target is not told.
    fn header(&self, client: &Client) -> Vec<u8> {
        let carried = Carried::For {
            source: client.peer,
            destination: client.local,
        };
        let version = self.proxy_protocol;
        version.map_or_else(Vec::new, |version| write(version, carried))
    }

    /// How the target is told whose connection it is.
    pub(crate) fn proxy_protocol(&self) -> Option<ProxyProtocolVersion> {
        self.proxy_protocol
    }

    /// TLS toward the target, where it speaks TLS.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }
}
