//! Names and numbers by which things are told apart.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::Invalid;
use super::invalid::quoted;

/// Longest name ELBv2 gives a target group or a load balancer.
const NAME_MAX: usize = 32;

/// Name of a target group: 1 to 32 letters, digits and hyphens, no hyphen at either end, no two in a row
/// (ELBv2 `CreateTargetGroup`, Name).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetGroupName(pub(super) Arc<str>);

impl TargetGroupName {
    /// Stands where a name could not be read; a configuration that holds it is never applied.
    pub(crate) fn stand_in() -> Self {
        Self("unreadable".into())
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TargetGroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TargetGroupName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        check_letters("target group name", text)?;
        if text.contains("--") {
            return Err(Invalid::new(
                format_args!(
                    "target group name {} has two hyphens in a row",
                    quoted(text)
                ),
                format_args!("write '{}'", clean(text)),
            ));
        }
        Ok(Self(text.into()))
    }
}

/// Name of the load balancer: 1 to 32 letters, digits and hyphens, no hyphen at either end,
/// not starting `internal-` (ELBv2 `CreateLoadBalancer`, Name).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LoadBalancerName(pub(super) Arc<str>);

impl LoadBalancerName {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LoadBalancerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LoadBalancerName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        check_letters("load balancer name", text)?;
        if let Some(rest) = text.strip_prefix("internal-") {
            return Err(Invalid::new(
                format_args!(
                    "load balancer name {} starts with 'internal-', which ELB keeps for itself",
                    quoted(text)
                ),
                format_args!("write '{}'", clean(rest)),
            ));
        }
        Ok(Self(text.into()))
    }
}

impl Default for LoadBalancerName {
    fn default() -> Self {
        Self("albedo".into())
    }
}

/// What both kinds of name have in common.
fn check_letters(what: &str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new(
            format_args!("the {what} is empty"),
            "write 1 to 32 letters, digits and hyphens",
        ));
    }
    if let Some(c) = text
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && *c != '-')
    {
        let remedy = match clean(text) {
            name if name.is_empty() => "use letters, digits and hyphens only".to_owned(),
            name => format!("write '{name}': letters, digits and hyphens only"),
        };
        return Err(Invalid::new(
            format_args!("{what} {} holds {}", quoted(text), quoted(&c.to_string())),
            remedy,
        ));
    }
    if text.len() > NAME_MAX {
        return Err(Invalid::new(
            format_args!("{what} {} has {} characters", quoted(text), text.len()),
            format_args!("shorten it to {NAME_MAX}"),
        ));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(Invalid::new(
            format_args!("{what} {} starts or ends with a hyphen", quoted(text)),
            "begin and end it with a letter or a digit",
        ));
    }
    Ok(())
}

/// The nearest name that both kinds take; may be empty.
fn clean(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let mut name = words.join("-");
    name.truncate(NAME_MAX);
    name.trim_end_matches('-').to_owned()
}

/// Number of an applied configuration; the first is 1, each applied one counts up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// The first generation of a process.
    pub const FIRST: Self = Self(1);

    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<TargetGroupName>().unwrap_err().to_string()
    }

    #[test]
    fn names_of_the_seed_are_good() {
        for name in ["app", "dss-api", "a", "0", "x".repeat(32).as_str()] {
            assert_eq!(name.parse::<TargetGroupName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn a_refusal_offers_the_nearest_good_name() {
        assert_eq!(
            refusal("my_group"),
            "target group name 'my_group' holds '_'; write 'my-group': letters, digits and hyphens only"
        );
        assert_eq!(
            refusal("a--b"),
            "target group name 'a--b' has two hyphens in a row; write 'a-b'"
        );
        assert!(refusal("-a").contains("starts or ends with a hyphen"));
        assert!(refusal(&"x".repeat(33)).contains("33 characters"));
        assert!(refusal("").contains("is empty"));
        assert!(refusal("é").ends_with("use letters, digits and hyphens only"));
    }

    #[test]
    fn a_load_balancer_is_not_internal_by_name() {
        assert!("internal-web".parse::<LoadBalancerName>().is_err());
        assert!("web--1".parse::<LoadBalancerName>().is_ok());
    }

    proptest! {
        #[test]
        fn a_name_is_exactly_what_elb_takes(text in "[a-z0-9-]{0,34}|.{0,6}") {
            let good = (1..=32).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !text.starts_with('-') && !text.ends_with('-') && !text.contains("--");
            prop_assert_eq!(text.parse::<TargetGroupName>().is_ok(), good);
        }

        #[test]
        fn the_offered_name_is_itself_good(text in ".{0,60}") {
            let name = clean(&text);
            prop_assert!(name.is_empty() || name.parse::<TargetGroupName>().is_ok());
        }
    }
}
