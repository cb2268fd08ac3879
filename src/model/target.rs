//! One target: where it is, and on which port.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use super::Invalid;
use super::health_check::port;
use super::invalid::quoted;

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

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self {
            id: TargetId::Address(address.ip()),
            port: Some(address.port()),
        }
    }
}

impl FromStr for Target {
    type Err = Invalid;

    /// Reads `ID` or `ID:PORT`; an IPv6 address with a port stands in brackets.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (id, port_text) = match text.rsplit_once(':') {
            _ if text.contains("://") => (text, None),
            // Without brackets every colon belongs to the address.
            _ if text.parse::<Ipv6Addr>().is_ok() => (text, None),
            Some((id, port)) if !id.contains(':') || id.ends_with(']') => (id, Some(port)),
            _ => (text, None),
        };
        let port = match port_text {
            None => None,
            Some(digits) => Some(port(digits).ok_or_else(|| {
                Invalid::new(
                    format_args!("{} has no port after its colon", quoted(text)),
                    "write a number from 1 to 65535 there, or leave the colon out to take the group's port",
                )
            })?),
        };
        Ok(Self {
            id: id.parse()?,
            port,
        })
    }
}

impl FromStr for TargetId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bracketed = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        let address = match bracketed {
            Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => text.parse().ok(),
        };
        match address {
            Some(address) => connectable(address).map(Self::Address),
            None => name(text).map(Self::Name),
        }
    }
}

fn connectable(address: IpAddr) -> Result<IpAddr, Invalid> {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || broadcast {
        return Err(Invalid::new(
            format_args!("nothing can be connected to at '{address}'"),
            "write the target's own address",
        ));
    }
    Ok(address)
}

/// A DNS name (RFC 1123 §2.1; `_` because people use it), without its last dot, in lower case.
fn name(text: &str) -> Result<Arc<str>, Invalid> {
    /// RFC 1035 §2.3.4, without the root's dot.
    const NAME_MAX: usize = 253;
    /// RFC 1035 §2.3.4.
    const LABEL_MAX: usize = 63;
    let refuse = |remedy: &str| {
        let message = format!("{} is neither an address nor a name", quoted(text));
        Err(Invalid::new(message, remedy))
    };
    if text.contains("://") {
        return refuse("leave the scheme and the path out: the group's protocol says how to speak");
    }
    if text.contains('/') {
        return refuse("leave the path out: a network of addresses is not a target");
    }
    if text.contains(':') {
        return refuse("write an IPv6 address with a port as '[ADDRESS]:PORT'");
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let good_label = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > NAME_MAX || !name.split('.').all(good_label) {
        return refuse(
            "write an IP address or a DNS name, such as 192.168.0.4 or app1.example.com",
        );
    }
    // WHATWG URL, "ends in a number": such a host can only be a mistyped IPv4 address.
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return refuse("write four numbers from 0 to 255 for an IPv4 address");
    }
    Ok(name.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(text: &str) -> (String, Option<u16>) {
        let target: Target = text.parse().unwrap();
        (target.id.to_string(), target.port)
    }

    fn refusal(text: &str) -> String {
        text.parse::<Target>().unwrap_err().to_string()
    }

    #[test]
    fn a_target_is_an_address_or_a_name_with_or_without_a_port() {
        assert_eq!(target("192.168.0.4"), ("192.168.0.4".into(), None));
        assert_eq!(
            target("192.168.0.5:8080"),
            ("192.168.0.5".into(), Some(8080))
        );
        assert_eq!(target("[::1]:80"), ("::1".into(), Some(80)));
        assert_eq!(target("[fe80::1]"), ("fe80::1".into(), None));
        assert_eq!(target("fe80::1"), ("fe80::1".into(), None));
        assert_eq!(target("DSS1.Site."), ("dss1.site".into(), None));
        assert_eq!(target("my_app:9000"), ("my_app".into(), Some(9000)));
    }

    #[test]
    fn a_mistyped_target_says_how_it_is_written() {
        assert!(refusal("192.168.0.300").contains("four numbers"));
        assert!(refusal("http://10.0.0.1:80").contains("leave the scheme"));
        assert!(refusal("10.0.0.0/24").contains("network"));
        assert!(refusal("10.0.0.1:").contains("no port"));
        assert!(refusal("10.0.0.1:0").contains("1 to 65535"));
        assert!(refusal("10.0.0.1:http").contains("no port"));
        assert!(refusal("::zz:80").contains("'[ADDRESS]:PORT'"));
        assert!(refusal("0.0.0.0").contains("nothing can be connected"));
        assert!(refusal("").contains("neither"));
        assert!(refusal("a..b").contains("neither"));
        assert!(refusal(&"x".repeat(64)).contains("neither"));
    }

    proptest! {
        #[test]
        fn every_socket_address_is_a_target(address: SocketAddr) {
            prop_assume!(connectable(address.ip()).is_ok() && address.port() != 0);
            let address = SocketAddr::new(address.ip(), address.port());
            prop_assert_eq!(address.to_string().parse::<Target>(), Ok(Target::from(address)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-z.:\\[\\]-]{0,20}|.{0,20}") {
            let _ = text.parse::<Target>();
        }
    }
}
