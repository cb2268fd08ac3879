//! What albedo promises, seen from outside.
#![expect(
    clippy::unwrap_used,
    reason = "a scene that cannot be set is a failed test"
)]

mod support;

mod check; // configurations good and bad
mod shipped_config; // the files of config/
mod differential; // our reading of requests against another parser's
mod framing; // raw bytes in, raw bytes out
mod access_log; // what is written down of a request
mod headers; // what a hop does to headers
mod limits; // what one client, and all of them, may take
mod proxy_protocol; // whose connection another load balancer brings, and how targets are told
mod faults; // targets that fail, each in another way
mod retry; // what is sent twice, and what never is
mod timeouts; // what happens when somebody falls silent
mod websocket; // upgrades, and what goes through them

mod back_again; // a configuration that was left and came back
mod confinement; // what the process gives up, and what still works
mod dns; // targets by name
mod farewell; // what outlives its target, or its load balancer
mod hostile; // attacks by name
mod drain; // targets taken out by hand
mod h2spec; // what the protocol demands, section by section
mod health; // health checks, and where traffic goes
mod http2; // HTTP/2 toward clients
mod http2_flow; // its windows, resets and limits, frame by frame
mod lifecycle; // start, change and end
mod reload; // files that are read again, and what a change leaves alone
mod scene; // targets, certificates and clients around a running load balancer
mod stickiness; // clients that come back
mod process; // the real binary as a process
mod secrets; // what no log and no page shows
mod systemd; // what a service manager gives and hears
mod tls; // real handshakes
mod upgrade; // another process takes over
mod weights; // forwards to several groups
