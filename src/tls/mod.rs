//! Keys and locks, both sides: certificates, the choice among them by SNI, policies, settings for clients and targets.
//! Never knows HTTP, never lets the bytes of a private key into a log or an error.

pub(crate) mod certificate;
pub(crate) mod client;
mod error;
mod http2;
pub(crate) mod policy;
pub(crate) mod server;
mod socket;
mod stream;
mod tickets;
mod validity;
mod x509;

pub(crate) use error::Error;
pub(crate) use http2::Http2Stream;
pub(crate) use socket::Socket;
pub(crate) use stream::Stream;
pub(crate) use tickets::TicketKey;
pub(crate) use validity::Doubt;
