//! A target group: who may answer, how they are chosen, checked and kept.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::spelled::spelled;
use super::{HealthCheck, Protocol, ProxyProtocolVersion, Target, TargetGroupName};

/// One target group.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetGroup {
    /// Unique in a configuration.
    pub name: TargetGroupName,
    /// How albedo speaks to the targets.
    pub protocol: Protocol,
    /// HTTP version toward the targets.
    pub protocol_version: ProtocolVersion,
    /// How targets are told whose connection it is, before anything else is said; not when absent
    /// (`proxy_protocol_v2.enabled` of a Network Load Balancer's group).
    pub proxy_protocol: Option<ProxyProtocolVersion>,
    /// Port of targets that name none, 1 to 65535.
    pub port: u16,
    /// How a target is chosen.
    pub algorithm: Algorithm,
    /// Whether users stay on their target.
    pub stickiness: Option<Stickiness>,
    /// How long a removed target may finish, 0 s to 3600 s, default 300 s.
    pub deregistration_delay: Duration,
    /// Ramp of a young target, 0 s (off) or 30 s to 900 s.
    pub slow_start: Duration,
    /// How targets are probed.
    pub health_check: HealthCheck,
    /// Only read when `protocol` is HTTPS.
    pub tls: UpstreamTls,
    /// No (id, port) twice.
    pub targets: Vec<Target>,
}

impl TargetGroup {
    /// `deregistration_delay.timeout_seconds`.
    pub const DEREGISTRATION_DELAY: RangeInclusive<Duration> =
        Duration::ZERO..=Duration::from_secs(3600);
    /// `slow_start.duration_seconds` when it is not 0 (off).
    pub const SLOW_START: RangeInclusive<Duration> =
        Duration::from_secs(30)..=Duration::from_secs(900);

    /// A group without targets and with every default of ALB.
    pub fn new(name: TargetGroupName, protocol: Protocol, port: u16) -> Self {
        Self {
            name,
            protocol,
            protocol_version: ProtocolVersion::default(),
            proxy_protocol: None,
            port,
            algorithm: Algorithm::default(),
            stickiness: None,
            deregistration_delay: Duration::from_secs(300),
            slow_start: Duration::ZERO,
            health_check: HealthCheck::default(),
            tls: UpstreamTls::default(),
            targets: Vec::new(),
        }
    }
}

/// HTTP version toward targets (ELBv2 `ProtocolVersion`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProtocolVersion {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
}

spelled!(ProtocolVersion, "a protocol version", {
    Http1 => "HTTP1",
    Http2 => "HTTP2",
    Grpc => "GRPC",
});

/// How a target is chosen (`load_balancing.algorithm.type`; `failover` is albedo's own).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// In turn.
    #[default]
    RoundRobin,
    /// The one with the fewest requests in progress.
    LeastOutstandingRequests,
    /// By chance.
    WeightedRandom,
    /// One active target at a time.
    Failover,
}

spelled!(Algorithm, "an algorithm", {
    RoundRobin => "round_robin",
    LeastOutstandingRequests => "least_outstanding_requests",
    WeightedRandom => "weighted_random",
    Failover => "failover",
});

/// How users are kept on their target (`stickiness.type`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stickiness {
    /// albedo's own cookie, AWSALB.
    LbCookie {
        /// 1 s to 604800 s.
        duration: Duration,
    },
    /// Follows a cookie of the application.
    AppCookie {
        /// Not starting `AWSALB`.
        cookie_name: Arc<str>,
        /// 1 s to 604800 s.
        duration: Duration,
    },
}

impl Stickiness {
    /// `stickiness.lb_cookie.duration_seconds` and its sisters.
    pub const DURATION: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(604_800);
    /// What ALB sets when stickiness is on and no duration is given.
    pub const DURATION_DEFAULT: Duration = Duration::from_secs(86_400);
}

/// Whether a target's certificate is checked; ALB never does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UpstreamTls {
    /// Any certificate is taken (`verify: false`).
    #[default]
    Unverified,
    /// The chain must end in this bundle and the name must fit (`verify: true`, `ca_file`).
    Verified {
        /// PEM bundle of trusted roots.
        ca_file: PathBuf,
    },
}
