//! Attributes of the load balancer as a whole, and of the process that is it.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::invalid::quoted;
use super::spelled::spelled;
use super::{Invalid, LoadBalancerName};

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
    /// Where the keys of stickiness cookies are kept; in memory when absent, so sessions end with the process.
    pub cookie_keys: Option<CookieKeys>,
}

impl LoadBalancer {
    /// `idle_timeout.timeout_seconds`.
    pub const IDLE_TIMEOUT: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(4000);
    /// `client_keep_alive.seconds`.
    pub const CLIENT_KEEP_ALIVE: RangeInclusive<Duration> =
        Duration::from_secs(60)..=Duration::from_secs(604_800);
}

impl Default for LoadBalancer {
    fn default() -> Self {
        Self {
            name: LoadBalancerName::default(),
            idle_timeout: Duration::from_secs(60),
            client_keep_alive: Duration::from_secs(3600),
            http2: true,
            preserve_host_header: false,
            drop_invalid_header_fields: false,
            desync_mitigation_mode: DesyncMitigationMode::default(),
            xff_header_processing: XffHeaderProcessing::default(),
            xff_client_port: false,
            x_amzn_tls_version_and_cipher_suite: false,
            access_log: None,
            cookie_keys: None,
        }
    }
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

spelled!(DesyncMitigationMode, "a desync mitigation mode", {
    Monitor => "monitor",
    Defensive => "defensive",
    Strictest => "strictest",
});

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

spelled!(XffHeaderProcessing, "a mode of X-Forwarded-For", {
    Append => "append",
    Preserve => "preserve",
    Remove => "remove",
});

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

spelled!(AccessLogFormat, "an access log format", { Alb => "alb", Json => "json" });

/// The file of the keys that stickiness cookies are sealed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieKeys {
    /// Made at the first start that needs it, for nobody else to read. The processes that share it know each other's
    /// cookies.
    pub path: PathBuf,
    /// A new key is put into the file when the newest is this old; when absent, that is the operator's affair.
    pub rotation: Option<Duration>,
}

impl CookieKeys {
    /// Where a configuration's file says nothing: beside it.
    pub const FILE: &str = "cookie.keys";
    /// More often, and more keys would have to be kept than a file may hold: cookies live for a week.
    pub const ROTATION: RangeInclusive<Duration> =
        Duration::from_secs(86_400)..=Duration::from_secs(365 * 86_400);
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

impl Workers {
    /// More threads than any machine this is meant for has CPUs.
    pub const COUNT: RangeInclusive<usize> = 1..=1024;
}

impl FromStr for Workers {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let count = digits.then(|| text.parse().ok()).flatten();
        count
            .filter(|count: &NonZeroUsize| Self::COUNT.contains(&count.get()))
            .map(Self::Count)
            .ok_or_else(|| {
                Invalid::new(
                    format_args!("{} is not a number of workers", quoted(text)),
                    "write 'auto' for one on each CPU, or a whole number from 1 to 1024",
                )
            })
    }
}

/// Where the admin door opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A TCP address; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A socket file, `unix:PATH`.
    Unix(PathBuf),
}

impl Default for AdminAddress {
    fn default() -> Self {
        Self::Tcp(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9900)))
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for AdminAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        text.parse()
            .map(Self::Tcp)
            .map_err(|_| not_an_admin_address(text))
    }
}

fn unix(path: &str) -> Result<AdminAddress, Invalid> {
    /// `sockaddr_un.sun_path` has 108 bytes on Linux, the last one a NUL.
    const PATH_MAX: usize = 107;
    if path.is_empty() || path.contains('\0') {
        return Err(Invalid::new(
            "'unix:' names no socket file",
            "write a path after it, such as 'unix:/run/albedo/admin.sock'",
        ));
    }
    if path.len() > PATH_MAX {
        return Err(Invalid::new(
            format_args!("the path {} is too long for a socket", quoted(path)),
            format_args!("use one of at most {PATH_MAX} bytes"),
        ));
    }
    Ok(AdminAddress::Unix(PathBuf::from(path)))
}

fn not_an_admin_address(text: &str) -> Invalid {
    let remedy = match text.rsplit_once(':') {
        Some(("" | "localhost", port)) if port.parse::<u16>().is_ok() => {
            format!("write '127.0.0.1:{port}' for this machine alone")
        }
        None if text.parse::<u16>().is_ok() => {
            format!("write '127.0.0.1:{text}' for this machine alone")
        }
        _ if text.starts_with('/') => format!("write 'unix:{text}' for a socket file"),
        _ => "write ADDRESS:PORT, such as '127.0.0.1:9900' or '[::1]:9900', or 'unix:PATH'"
            .to_owned(),
    };
    Invalid::new(
        format_args!("{} is not an admin address", quoted(text)),
        remedy,
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn workers_are_auto_or_a_count() {
        let count = |number| Ok(Workers::Count(NonZeroUsize::new(number).unwrap()));
        assert_eq!("auto".parse(), Ok(Workers::Auto));
        assert_eq!("1".parse(), count(1));
        assert_eq!("1024".parse(), count(1024));
        for bad in ["0", "1025", "-1", "+2", "two", ""] {
            assert!(bad.parse::<Workers>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_admin_door_is_an_address_or_a_socket_file() {
        assert_eq!("127.0.0.1:9900".parse(), Ok(AdminAddress::default()));
        assert_eq!(
            "unix:/run/a.sock".parse(),
            Ok(AdminAddress::Unix("/run/a.sock".into()))
        );
        assert!("[::1]:0".parse::<AdminAddress>().is_ok());
        let remedy = |text: &str| {
            text.parse::<AdminAddress>()
                .unwrap_err()
                .remedy()
                .to_owned()
        };
        assert!(remedy(":9900").contains("'127.0.0.1:9900'"));
        assert!(remedy("localhost:9900").contains("'127.0.0.1:9900'"));
        assert!(remedy("9900").contains("'127.0.0.1:9900'"));
        assert!(remedy("/run/a.sock").contains("'unix:/run/a.sock'"));
        assert!(remedy("unix:").contains("write a path"));
        assert!(remedy(&format!("unix:/{}", "x".repeat(107))).contains("107 bytes"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(unix:)?.{0,30}") {
            let _ = text.parse::<Workers>();
            if let Ok(address) = text.parse::<AdminAddress>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
