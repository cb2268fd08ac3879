//! How a load balancer ends when it is told to. ELBv2 has no word for it: nobody stops an ALB.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Two periods, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// How long it still serves as before while `/readyz` says 503, so that whatever sends requests here can notice;
    /// none by default.
    pub delay: Duration,
    /// How long requests in progress may take after that; as long as ALB's default deregistration delay.
    pub timeout: Duration,
}

impl Shutdown {
    /// Range of `delay`.
    pub const DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(600);
    /// Range of `timeout`; that of a deregistration delay.
    pub const TIMEOUT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            timeout: Duration::from_secs(300),
        }
    }
}
