//! A rule: conditions that must all hold, and what happens then.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::invalid::quoted;
use super::{Actions, Condition, Invalid};

/// One rule of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Rules are tried in ascending order.
    pub priority: Priority,
    /// All must hold; at least one.
    pub conditions: Vec<Condition>,
    /// Applied after the match, before the action; at most one of each kind.
    pub transforms: Vec<Transform>,
    /// What happens to a request that matches.
    pub actions: Actions,
}

/// 1 to 50000 (ELBv2 `CreateRule`, Priority).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub(super) u16);

impl Priority {
    /// The priorities that ELBv2 gives out.
    pub const RANGE: RangeInclusive<u16> = 1..=50_000;
    /// The rule before the default.
    pub const LAST: Self = Self(50_000);

    /// The number itself.
    pub fn value(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u16> for Priority {
    type Error = Invalid;

    fn try_from(number: u16) -> Result<Self, Invalid> {
        match Self::RANGE.contains(&number) {
            true => Ok(Self(number)),
            false => Err(bad_priority(&number.to_string())),
        }
    }
}

impl FromStr for Priority {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number: Option<u16> = match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse().ok(),
            false => None,
        };
        number
            .filter(|number| Self::RANGE.contains(number))
            .map(Self)
            .ok_or_else(|| bad_priority(text))
    }
}

fn bad_priority(text: &str) -> Invalid {
    let remedy = match text {
        "default" => {
            "leave this rule out and write its action under 'default_actions' of the listener"
        }
        _ => "write a whole number from 1 to 50000",
    };
    Invalid::new(format_args!("{} is not a priority", quoted(text)), remedy)
}

/// A rewrite of the request between the match and the action (ELBv2 `RuleTransform`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transform {
    /// Rewrites path and query.
    UrlRewrite {
        /// Pattern, at most 1024 characters.
        regex: String,
        /// Replacement with `$1` groups, at most 1024 characters.
        replace: String,
    },
    /// Rewrites the Host header.
    HostHeaderRewrite {
        /// Pattern, at most 1024 characters.
        regex: String,
        /// Replacement with `$1` groups, at most 1024 characters.
        replace: String,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn priorities_are_1_to_50000() {
        for (text, good) in [
            ("1", true),
            ("50000", true),
            ("0", false),
            ("50001", false),
            ("70000", false),
            ("-1", false),
            ("+1", false),
            ("1.0", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<Priority>().is_ok(), good, "{text}");
        }
        let refusal = "default".parse::<Priority>().unwrap_err();
        assert!(refusal.remedy().contains("default_actions"));
    }

    proptest! {
        #[test]
        fn number_and_text_agree(number: u16) {
            let text = number.to_string().parse::<Priority>();
            prop_assert_eq!(text, Priority::try_from(number));
        }
    }
}
