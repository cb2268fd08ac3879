//! How targets are probed and what counts as healthy (ELBv2 health check parameters).

use std::sync::Arc;
use std::time::Duration;

use super::Protocol;

/// Health check settings of a target group; defaults are ALB's.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// Default HTTP, even where the group speaks HTTPS.
    pub protocol: Protocol,
    /// Default `traffic-port`.
    pub port: HealthCheckPort,
    /// Path with optional query, 1 to 1024 characters, default `/`.
    pub path: Arc<str>,
    /// 5 s to 300 s, default 30 s; down to 100 ms with a warning.
    pub interval: Duration,
    /// 2 s to 120 s, default 5 s, below `interval`; down to 100 ms with a warning.
    pub timeout: Duration,
    /// Successes in a row until healthy, 2 to 10, default 5.
    pub healthy_threshold: u8,
    /// Failures in a row until unhealthy, 2 to 10, default 2.
    pub unhealthy_threshold: u8,
    /// Which status codes pass, default `200`.
    pub matcher: Matcher,
}

/// Where the probe knocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthCheckPort {
    /// The port that takes the target's requests.
    #[default]
    TrafficPort,
    /// One port for every target of the group.
    Port(u16),
}

impl HealthCheckPort {
    /// The port to probe on a target that takes requests on `traffic_port`.
    pub fn resolve(self, traffic_port: u16) -> u16 {
        match self {
            Self::TrafficPort => traffic_port,
            Self::Port(port) => port,
        }
    }
}

/// Status codes that pass: inclusive ranges within 200 to 499, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher(pub(super) Vec<(u16, u16)>);

impl Matcher {
    /// Whether this status code passes.
    pub fn matches(&self, status: u16) -> bool {
        self.0
            .iter()
            .any(|&(low, high)| (low..=high).contains(&status))
    }
}

impl Default for Matcher {
    fn default() -> Self {
        Self(vec![(200, 200)])
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            protocol: Protocol::Http,
            port: HealthCheckPort::TrafficPort,
            path: "/".into(),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            healthy_threshold: 5,
            unhealthy_threshold: 2,
            matcher: Matcher::default(),
        }
    }
}
