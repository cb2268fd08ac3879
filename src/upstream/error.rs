//! What can go wrong between albedo and a target: facts, no statuses.

use std::io;

use crate::http1::Malformed;
use crate::message;

/// A fact about one attempt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the target's name has no address yet")]
    NoAddress,
    #[error("connecting failed: {0}")]
    Connect(io::Error),
    #[error("connecting took longer than its limit")]
    ConnectTimeout,
    #[error("the TLS handshake failed: {0}")]
    Tls(io::Error),
    #[error("the TLS handshake took longer than its limit")]
    TlsTimeout,
    #[error("the target closed the connection before it answered")]
    Closed,
    #[error("the connection to the target broke: {0}")]
    Broken(io::Error),
    #[error("the target's response is malformed: {0}")]
    Malformed(#[from] Malformed),
    #[error("the target was silent for too long")]
    Timeout,
    #[error("the client's body broke: {0}")]
    Client(message::Broken),
    #[error("the client was silent for too long in its body")]
    ClientTimeout,
    #[error("the client sent its body too slowly")]
    ClientTooSlow,
}

/// An attempt that gave no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) replay: Replay,
}

/// Whether the request may be sent once more, elsewhere or on a fresh connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    /// No byte of it left for the target, and its body is whole.
    Untouched,
    /// It left, its body is whole, and nothing came back: safe where the method is idempotent (RFC 9110 §9.2.2).
    Unanswered,
    /// Part of the body is gone, or part of an answer came.
    Impossible,
}
