//! How to talk to one target: its addresses, its connections, HTTP/1.1 over them.
//! Never chooses a target and never decides what a failure means.

pub(crate) mod resolve;
