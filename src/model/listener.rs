//! A front door: port, protocol, certificates, rules.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Actions, Rule};

/// One listener; one for each (address, port).
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// 1 to 65535; 0 binds a free port (library use).
    pub port: u16,
    /// Address to bind; none means every address, IPv6 too.
    pub address: Option<IpAddr>,
    /// HTTP, or HTTPS with at least one certificate.
    pub protocol: Protocol,
    /// TLS versions and suites; only read on HTTPS.
    pub ssl_policy: SslPolicy,
    /// The first is the default, the others are chosen by SNI; empty on HTTP.
    pub certificates: Vec<Certificate>,
    /// In ascending order of priority, no priority twice.
    pub rules: Vec<Rule>,
    /// What happens when no rule matches.
    pub default_actions: Actions,
}

/// Protocol of a listener or a target group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Clear text.
    #[default]
    Http,
    /// TLS.
    Https,
}

impl Protocol {
    /// ELBv2's spelling: `HTTP` or `HTTPS`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The ELB security policies that rustls honours exactly; parsing any other name says which of these are near.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SslPolicy {
    /// `ELBSecurityPolicy-TLS13-1-3-2021-06`: TLS 1.3 alone.
    Tls13Only,
    /// `ELBSecurityPolicy-TLS13-1-2-Res-2021-06`: TLS 1.3 and 1.2, forward secret AEAD suites; the default.
    #[default]
    Tls13And12Restricted,
    /// `ELBSecurityPolicy-FS-1-2-Res-2020-10`: TLS 1.2 alone, forward secret AEAD suites.
    Tls12Restricted,
}

impl SslPolicy {
    /// The name as ELBv2 spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls13Only => "ELBSecurityPolicy-TLS13-1-3-2021-06",
            Self::Tls13And12Restricted => "ELBSecurityPolicy-TLS13-1-2-Res-2021-06",
            Self::Tls12Restricted => "ELBSecurityPolicy-FS-1-2-Res-2020-10",
        }
    }
}

/// A certificate chain, leaf first, and its private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, leaf first.
    pub certificate: Pem,
    /// The leaf's private key.
    pub key: Pem,
}

/// Where PEM text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pem {
    /// Read when a configuration is applied.
    File(PathBuf),
    /// Given by the embedding program.
    Inline(Secret),
}

/// Bytes that never reach a log: their `Debug` shows only their length.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Wraps bytes that must stay out of logs.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}
