mod http1; // HTTP/1.1 as bytes: heads, framing, chunks; both sides use it
mod message;
pub mod model; // what the user said // what travels
