//! albedo: a software application load balancer with the data model and the behaviour of AWS's.
//!
//! The rooms of the house, from the cellar up; a room may name only rooms listed above it. The order is also the
//! order of reading, and, from `listener` back to `upstream`, a request's way through the house.

pub mod model; // what the user said
mod tls; // keys and locks; one stream type, plain or TLS
mod worker; // threads, clock, alarms
mod headers; // names and values, where they lie
mod http1; // HTTP/1.1 as bytes: heads, framing, chunks; both sides use it
mod proxy_protocol; // whose connection it is, in front of its bytes
mod message; // what travels
mod drain; // "finish, please"
mod confinement; // what this process gives up
mod handover; // what a process leaves to the next
mod systemd; // what the service manager gives and hears
mod telemetry; // what we tell the operator
mod upstream; // how to talk           ^ response
mod target; // who                     |
mod action; // what to do              |
mod rule; // which door                |
mod snapshot; // the furniture         |
mod proxy; // the life of a request    |
mod listener; // the front door        v request
pub mod config; // where it comes from
mod control; // who may change things
mod admin; // the operator's door
pub mod app; // the builder
pub mod demo; // the DataRobot table on loopback
pub mod cli; // the verbs
#[doc(hidden)]
pub mod hatch; // for benches and fuzz only
