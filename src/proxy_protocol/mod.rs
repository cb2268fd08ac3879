//! The PROXY protocol as bytes, versions 1 and 2: whose connection it is that somebody carries to us, and that we carry
//! to a target. Never decides who may say so. Sections are those of haproxy.org/download/3.2/doc/proxy-protocol.txt.

mod read;
mod write;

pub(crate) use read::{HEADER_MAX, read};
pub(crate) use write::write;

use std::net::SocketAddr;

/// First bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of version 2 before the addresses: signature, command, family and length.
const FIXED_LEN: usize = 16;

/// Whose a connection is that a load balancer opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// Its own, such as a health check (LOCAL, UNKNOWN), or that of a client without an IP address.
    Own,
    /// A client's.
    For {
        /// The client.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
}
