//! What one client, and all of them, may take of a load balancer. ELBv2 has few words for it: AWS makes an ALB larger,
//! a machine of one's own has an end.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Limits that an operator sets; those of the protocol are constants where they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections of all listeners; as many as descriptors allow when absent.
    pub connections: Option<NonZeroU32>,
    /// Client connections of one address, on all listeners; no limit when absent.
    pub connections_per_client: Option<NonZeroU32>,
    /// Requests of one address in a second, on the average; no limit when absent.
    pub requests_per_client: Option<RequestRate>,
    /// Leading bits of an IPv6 address that make a client: whoever has a network has all of its addresses.
    pub client_ipv6_prefix: u8,
    /// TLS handshakes with clients that are under way; no limit when absent.
    pub handshakes: Option<NonZeroU32>,
    /// How long a TLS handshake may take, from the connection's first moment on.
    pub handshake_timeout: Duration,
    /// How long a request's head may take, from its first byte on.
    pub header_timeout: Duration,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRate {
    /// How many come into it in a second.
    pub per_second: NonZeroU32,
    /// How many it holds: requests that may come at once.
    pub burst: NonZeroU32,
}

impl Limits {
    /// Range of every number of connections, requests and handshakes.
    pub const COUNT: RangeInclusive<u32> = 1..=10_000_000;
    /// Range of `client_ipv6_prefix`.
    pub const IPV6_PREFIX: RangeInclusive<u8> = 32..=128;
    /// Range of both timeouts.
    pub const TIMEOUT: RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_secs(600);
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: None,
            connections_per_client: None,
            requests_per_client: None,
            client_ipv6_prefix: 64,
            handshakes: None,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(15),
        }
    }
}
