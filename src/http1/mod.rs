//! HTTP/1.1 as bytes: heads, framing, chunks, connections. The one place that reads and writes them, for clients
//! and for targets. Never asks what a request is for.

mod chunked;
mod connection;
pub(crate) mod desync;
mod encode;
mod fields;
mod framing;
mod head;
mod incoming;
mod response_head;
mod upgrade;

pub(crate) use chunked::{LAST_CHUNK, chunk_head};
pub(crate) use connection::{Connection, Home};
pub(crate) use encode::{FramingHeader, encode_request, encode_response, encode_switch};
pub(crate) use framing::Framing;
pub(crate) use head::{
    Expectation, Persistence, RequestHead, after_empty_line, expectation, is_host, parse_request,
};
pub(crate) use incoming::{Broken, Completeness, Incoming, read_body};
pub(crate) use response_head::{ResponseHead, parse_response};
pub(crate) use upgrade::{Upgrade, Upgraded};

/// Longest request line in bytes (ALB quota: 16 K).
pub(crate) const REQUEST_LINE_MAX: usize = 16 * 1024;
/// Longest single header in bytes, name and value (ALB quota: 16 K).
pub(crate) const HEADER_MAX: usize = 16 * 1024;
/// Longest request head in bytes (ALB quota: 64 K).
pub(crate) const REQUEST_HEAD_MAX: usize = 64 * 1024;
/// Longest response head in bytes (ALB quota: 32 K).
pub(crate) const RESPONSE_HEAD_MAX: usize = 32 * 1024;
/// Most headers in one head. ALB names no number; this one keeps the cost of a head linear in its bytes.
pub(crate) const HEADERS_MAX: usize = 256;

/// Why bytes are not the message they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// RFC 9112 does not allow it; the text says what.
    #[error("{0}")]
    Syntax(&'static str),
    /// The request line is past `REQUEST_LINE_MAX`.
    #[error("the request line is too long")]
    LineTooLong,
    /// The head is past its limit, or one header or their number is.
    #[error("the head is too large")]
    HeadTooLarge,
    /// Not HTTP/1.0 or HTTP/1.1.
    #[error("the HTTP version is not served")]
    Version,
    /// A transfer coding that is known but not implemented.
    #[error("the transfer coding is not implemented")]
    TransferCoding,
}
