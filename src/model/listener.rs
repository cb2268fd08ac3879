//! A front door: port, protocol, certificates, rules.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::spelled::spelled;
use super::{Actions, ProxyProtocol, Rule, SslPolicy};

/// One listener; one for each (address, port).
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// 1 to 65535; 0 binds a free port (library use).
    pub port: u16,
    /// Address to bind; none means every address, IPv6 too.
    pub address: Option<IpAddr>,
    /// HTTP, or HTTPS with at least one certificate.
    pub protocol: Protocol,
    /// Whether clients come through other load balancers that say whose connection it is; not when absent.
    pub proxy_protocol: Option<ProxyProtocol>,
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

spelled!(Protocol, "a protocol", { Http => "HTTP", Https => "HTTPS" });

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

impl From<PathBuf> for Pem {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl Listener {
    /// A listener on every address without rules.
    pub fn new(port: u16, protocol: Protocol, default_actions: Actions) -> Self {
        Self {
            port,
            address: None,
            protocol,
            proxy_protocol: None,
            ssl_policy: SslPolicy::default(),
            certificates: Vec::new(),
            rules: Vec::new(),
            default_actions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_spelled_in_capitals() {
        assert_eq!("HTTPS".parse(), Ok(Protocol::Https));
        let refusal = "https".parse::<Protocol>().unwrap_err().to_string();
        assert_eq!(refusal, "'https' is not a protocol; did you mean 'HTTPS'?");
        let refusal = "TCP".parse::<Protocol>().unwrap_err().to_string();
        assert_eq!(refusal, "'TCP' is not a protocol; write HTTP or HTTPS");
    }

    #[test]
    fn a_secret_stays_out_of_logs() {
        let shown = format!("{:?}", Pem::Inline(Secret::new(*b"-----BEGIN")));
        assert_eq!(shown, "Inline(Secret(10 bytes))");
    }
}
