mod http1; // HTTP/1.1 as bytes: heads, framing, chunks; both sides use it
mod message;
pub mod model; // what the user said
mod tls; // keys and locks; one stream type, plain or TLS
mod worker; // threads, clock, alarms // what travels

mod action; // what to do

mod rule; // which door
