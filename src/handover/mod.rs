//! What a process leaves to the one that replaces it: its listening sockets, and what it knows, over a private socket.
//! Never knows what is said over a connection, and never decides who serves.
//!
//! The old process starts the new one with its end of the socket as standard input and says `Inherit`, with every
//! socket. The new one makes everything ready and says `Prepared`; until then nothing has changed for anybody. Told to
//! `Serve` it accepts and says `Serving`; then the old one stops accepting. At no moment does nobody accept, and
//! nobody accepts who could still fail. Whoever breaks off, the other serves.

mod inheritance;
mod message;
mod predecessor;
mod program;
mod successor;
mod wire;

pub(crate) use inheritance::{AdminSocket, Asked, ListenerSockets, SocketFile, Sockets};
pub(crate) use message::{
    Inheritance, Known, KnownDrain, KnownHealth, KnownKey, KnownKeys, KnownTarget, KnownTickets,
};
pub(crate) use predecessor::{Lost, Predecessor, Waiting};
pub(crate) use program::Program;
pub(crate) use successor::{Failed, LIMIT, Successor};

/// Tells a process that its standard input is the socket.
const VARIABLE: &str = "ALBEDO_HANDOVER";
const VARIABLE_VALUE: &str = "stdin";

#[cfg(test)]
mod tests;
