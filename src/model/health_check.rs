//! How targets are probed and what counts as healthy (ELBv2 health check parameters).

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::invalid::quoted;
use super::{Invalid, Protocol};

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

impl HealthCheck {
    /// Time between two probes. ALB's least is [`Self::INTERVAL_ALB_MIN`]; a pair of machines in one rack wants
    /// faster failover than a cloud.
    pub const INTERVAL: RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_secs(300);
    /// Below it a configuration is warned about.
    pub const INTERVAL_ALB_MIN: Duration = Duration::from_secs(5);
    /// Longest wait for an answer.
    pub const TIMEOUT: RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_secs(120);
    /// Below it a configuration is warned about.
    pub const TIMEOUT_ALB_MIN: Duration = Duration::from_secs(2);
    /// `HealthyThresholdCount` and `UnhealthyThresholdCount`.
    pub const THRESHOLD: RangeInclusive<u8> = 2..=10;
    /// `HealthCheckPath`, in bytes.
    pub const PATH_MAX: usize = 1024;
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

impl fmt::Display for HealthCheckPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrafficPort => f.write_str("traffic-port"),
            Self::Port(port) => port.fmt(f),
        }
    }
}

impl FromStr for HealthCheckPort {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "traffic-port" => Ok(Self::TrafficPort),
            _ => port(text).map(Self::Port).ok_or_else(|| {
                Invalid::new(
                    format_args!("{} is not a health check port", quoted(text)),
                    "write 'traffic-port' for the target's own port, or a number from 1 to 65535",
                )
            }),
        }
    }
}

/// A port from 1 to 65535 written in digits.
pub(super) fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.then(|| text.parse().ok()).flatten();
    port.filter(|port| *port != 0)
}

/// Status codes that pass: inclusive ranges within 200 to 499, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher(Vec<(u16, u16)>);

impl Matcher {
    /// The codes that ALB lets a matcher name.
    pub const CODES: RangeInclusive<u16> = 200..=499;

    /// Passes the codes of these ranges.
    pub fn new(ranges: impl IntoIterator<Item = RangeInclusive<u16>>) -> Result<Self, Invalid> {
        let ranges: Vec<_> = ranges.into_iter().map(RangeInclusive::into_inner).collect();
        if ranges.is_empty() {
            return Err(bad_matcher("", "names no status code"));
        }
        for &(low, high) in &ranges {
            if low > high {
                return Err(bad_matcher(&format!("{low}-{high}"), "runs backwards"));
            }
            if !Self::CODES.contains(&low) || !Self::CODES.contains(&high) {
                let range = Self(vec![(low, high)]).to_string();
                return Err(bad_matcher(&range, "leaves 200 to 499"));
            }
        }
        Ok(Self(ranges))
    }

    /// Whether this status code passes.
    pub fn matches(&self, status: u16) -> bool {
        self.0
            .iter()
            .any(|&(low, high)| (low..=high).contains(&status))
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (low, high)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match low == high {
                true => write!(f, "{comma}{low}")?,
                false => write!(f, "{comma}{low}-{high}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Matcher {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let ranges: Option<Vec<_>> = text.split(',').map(code_range).collect();
        match ranges {
            Some(ranges) => Self::new(ranges),
            None => Err(bad_matcher(text, "is not a list of status codes")),
        }
    }
}

/// `200` or `200-299`.
fn code_range(text: &str) -> Option<RangeInclusive<u16>> {
    let code = |text: &str| port(text.trim());
    match text.split_once('-') {
        Some((low, high)) => Some(code(low)?..=code(high)?),
        None => code(text).map(|code| code..=code),
    }
}

fn bad_matcher(text: &str, why: &str) -> Invalid {
    let remedy = match text.to_ascii_lowercase().as_str() {
        "2xx" => "write '200-299'",
        "3xx" => "write '300-399'",
        _ => "write codes and ranges within 200 to 499, such as '200', '200,202' or '200-299'",
    };
    Invalid::new(format_args!("matcher {} {why}", quoted(text)), remedy)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_matcher_is_codes_and_ranges() {
        let matcher: Matcher = "200-204, 301".parse().unwrap();
        assert!(matcher.matches(200) && matcher.matches(204) && matcher.matches(301));
        assert!(!matcher.matches(205) && !matcher.matches(199));
        assert_eq!(matcher.to_string(), "200-204,301");
        assert_eq!("200".parse(), Ok(Matcher::default()));
    }

    #[test]
    fn a_bad_matcher_says_why() {
        let refusal = |text: &str| text.parse::<Matcher>().unwrap_err().to_string();
        assert!(refusal("500").contains("leaves 200 to 499"));
        assert!(refusal("200-500").contains("'200-500' leaves"));
        assert!(refusal("299-200").contains("runs backwards"));
        assert!(refusal("2xx").ends_with("write '200-299'"));
        for bad in ["", ",", "200,", "200-", "-200", "200-250-299", "+200", "OK"] {
            assert!(refusal(bad).contains("is not a list"), "{bad}");
        }
        assert!(Matcher::new([]).is_err());
    }

    #[test]
    fn the_probe_knocks_at_a_port_or_at_the_targets_own() {
        assert_eq!("traffic-port".parse(), Ok(HealthCheckPort::TrafficPort));
        assert_eq!("8011".parse(), Ok(HealthCheckPort::Port(8011)));
        for bad in ["traffic_port", "0", "65536", "", "-1"] {
            assert!(bad.parse::<HealthCheckPort>().is_err(), "{bad}");
        }
        assert_eq!(HealthCheckPort::TrafficPort.resolve(80), 80);
    }

    proptest! {
        #[test]
        fn what_a_matcher_shows_is_read_back(low in 200_u16..=499, span in 0_u16..300, code: u16) {
            let high = low.saturating_add(span).min(499);
            let matcher = Matcher::new([low..=high, 200..=200]).unwrap();
            prop_assert_eq!(matcher.to_string().parse::<Matcher>(), Ok(matcher.clone()));
            prop_assert_eq!(matcher.matches(code), (low..=high).contains(&code) || code == 200);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9,-]{0,12}|.{0,12}") {
            if let Ok(matcher) = text.parse::<Matcher>() {
                prop_assert!(!matcher.matches(199) && !matcher.matches(500));
            }
            let _ = text.parse::<HealthCheckPort>();
        }
    }
}
