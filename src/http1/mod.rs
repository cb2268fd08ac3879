//! HTTP/1.1 as bytes: heads, framing, chunks. The one place that reads and writes them, for clients
//! and for targets. Never asks what a request is for.

mod casing;

pub(crate) use casing::Casing;
