//! Who is eligible now: one immutable value, made when something changed, read once by every choice.

use std::sync::Arc;

use super::Target;
use super::health::State;

/// The targets that a group chooses from.
#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) eligible: Box<[Arc<Target>]>,
}

impl Members {
    /// The healthy targets; where there is none, every registered one (ALB user guide, "Target group health": a group
    /// without healthy targets fails open). A target that was not probed yet is registered too: at a start nothing
    /// waits for the first probes.
    pub(super) fn of(targets: &[Arc<Target>]) -> Self {
        let healthy: Box<[_]> = targets
            .iter()
            .filter(|target| target.health().is_healthy())
            .cloned()
            .collect();
        if !healthy.is_empty() {
            return Self { eligible: healthy };
        }
        let registered = |target: &&Arc<Target>| target.health().state() != State::NotInUse;
        Self {
            eligible: targets.iter().filter(registered).cloned().collect(),
        }
    }
}
