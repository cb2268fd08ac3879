//! What a process leaves to the one that replaces it: its listening sockets, and what it knows. Never knows what is
//! said over a connection, and never decides who serves.

mod inheritance;

pub(crate) use inheritance::{AdminSocket, Asked, ListenerSockets, SocketFile, Sockets};
