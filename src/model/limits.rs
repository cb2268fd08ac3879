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
    /// How long it may take until it is known what a client speaks, from the connection's first moment on: PROXY header
    /// and TLS handshake.
    pub handshake_timeout: Duration,
    /// How long a request's head may take, from its first byte on.
    pub header_timeout: Duration,
    /// How slowly a request's body may come; no limit but the idle timeout when absent.
    pub body_rate: Option<BodyRate>,
}

/// A lowest rate. Only time in which the client is waited for counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyRate {
    /// Bytes that each second of waiting must have brought.
    pub bytes_per_second: NonZeroU32,
    /// How much of the waiting need not have brought anything.
    pub grace: Duration,
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
    /// Range of `bytes_per_second`; 0 is no limit.
    pub const BYTES_PER_SECOND: RangeInclusive<u32> = 0..=1_000_000;
    /// Range of the timeouts and of `grace`.
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
            body_rate: Some(BodyRate::default()),
        }
    }
}

impl Default for BodyRate {
    fn default() -> Self {
        Self {
            // 1440 bytes a minute: one full packet in an idle timeout of 60 seconds is enough, a few bytes are not.
            bytes_per_second: const { NonZeroU32::new(24).expect("24 is not 0") },
            grace: Duration::from_secs(10),
        }
    }
}
