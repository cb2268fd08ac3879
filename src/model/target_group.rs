//! A target group: who may answer, how they are chosen, checked and kept.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{HealthCheck, Protocol, TargetGroupName};

/// One target group.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetGroup {
    /// Unique in a configuration.
    pub name: TargetGroupName,
    /// How albedo speaks to the targets.
    pub protocol: Protocol,
    /// HTTP version toward the targets.
    pub protocol_version: ProtocolVersion,
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

/// One registered target; (id, port) tells targets apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Address or name.
    pub id: TargetId,
    /// The group's port when absent.
    pub port: Option<u16>,
}

/// Where a target is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetId {
    /// An IP address.
    Address(IpAddr),
    /// A DNS name, lower-case, looked up again when its TTL ends.
    Name(Arc<str>),
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}
