//! Names and numbers by which things are told apart.

use std::fmt;
use std::sync::Arc;

/// Name of a target group: 1 to 32 letters, digits and hyphens, no hyphen at either end, no two in a row
/// (ELBv2 `CreateTargetGroup`, Name).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetGroupName(pub(super) Arc<str>);

impl TargetGroupName {
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
