//! Attributes of the load balancer as a whole, and of the process that is it.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::LoadBalancerName;

/// ELBv2 load balancer attributes; every default is ALB's.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadBalancer {
    /// Shown in logs and metrics.
    pub name: LoadBalancerName,
    /// Longest silence on a connection, either side: 1 s to 4000 s, default 60 s (`idle_timeout.timeout_seconds`).
    pub idle_timeout: Duration,
    /// Longest life of a client connection: 60 s to 604800 s, default 1 h (`client_keep_alive.seconds`).
    pub client_keep_alive: Duration,
    /// Offer HTTP/2 by ALPN on HTTPS listeners (`routing.http2.enabled`).
    pub http2: bool,
    /// Send the client's Host header untouched (`routing.http.preserve_host_header.enabled`).
    pub preserve_host_header: bool,
    /// Remove request headers whose name is not `[-A-Za-z0-9]+` (`routing.http.drop_invalid_header_fields.enabled`).
    pub drop_invalid_header_fields: bool,
    /// `routing.http.desync_mitigation_mode`.
    pub desync_mitigation_mode: DesyncMitigationMode,
    /// `routing.http.xff_header_processing.mode`.
    pub xff_header_processing: XffHeaderProcessing,
    /// Append the client's port in X-Forwarded-For (`routing.http.xff_client_port.enabled`).
    pub xff_client_port: bool,
    /// Add X-Amzn-Tls-Version and X-Amzn-Tls-Cipher-Suite on HTTPS listeners
    /// (`routing.http.x_amzn_tls_version_and_cipher_suite.enabled`).
    pub x_amzn_tls_version_and_cipher_suite: bool,
    /// Where request records go; none by default (`access_logs.s3.enabled`).
    pub access_log: Option<AccessLog>,
}

/// How strictly requests of doubtful framing are treated (ALB user guide, "Desync mitigation mode").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DesyncMitigationMode {
    /// Let everything through that can be framed.
    Monitor,
    /// Refuse what is a security risk; ALB's default.
    #[default]
    Defensive,
    /// Refuse whatever is not RFC-compliant.
    Strictest,
}

/// What happens to X-Forwarded-For.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XffHeaderProcessing {
    /// Add the client's address at the end; ALB's default.
    #[default]
    Append,
    /// Leave the header as it came.
    Preserve,
    /// Remove the header.
    Remove,
}

/// Where access log records go and how they look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// File or standard output.
    pub sink: AccessLogSink,
    /// ALB's line or JSON.
    pub format: AccessLogFormat,
}

/// The place an access log is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogSink {
    /// `-` in the file.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// The shape of an access log record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// ALB's space-separated line.
    #[default]
    Alb,
    /// One JSON object a line.
    Json,
}

/// Number of data-plane threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// One for each CPU allowed by affinity and cgroup quota.
    #[default]
    Auto,
    /// Exactly this many, 1 to 1024.
    Count(NonZeroUsize),
}

/// Where the admin door opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A TCP address; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A socket file, `unix:PATH`.
    Unix(PathBuf),
}
