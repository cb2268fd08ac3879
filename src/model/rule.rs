//! A rule: conditions that must all hold, and what happens then.

use std::fmt;

use super::{Actions, Condition};

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
