//! Drains: by hand, and because a target is no more in the configuration. Requests in progress learn from their target
//! how long they have; here they are woken to look.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::Controller;
use super::status::{SteeredStatus, TargetStatus};
use crate::target::{Steered, Target, Unknown};

/// What becomes of a drain or its opposite.
pub(super) type Reply = oneshot::Sender<Result<SteeredStatus, Unknown>>;

impl Controller {
    /// Takes a target out of its group.
    pub(super) fn drain(&mut self, group: &str, target: &str, reply: Reply) {
        if self.is_settled() {
            return drop(reply);
        }
        let outcome = self.registry.drain(group, target, Instant::now());
        let outcome = outcome.map(|steered| {
            self.wake_busy([&steered.target]);
            let warning = (steered.remaining == 0).then(|| {
                let text = format!(
                    "no target of '{}' takes requests any more",
                    steered.group.name()
                );
                tracing::warn!("{text}");
                text
            });
            status(&steered, warning)
        });
        let _left = reply.send(outcome);
    }

    /// Brings a target back.
    pub(super) fn undrain(&mut self, group: &str, target: &str, reply: Reply) {
        if self.is_settled() {
            return drop(reply);
        }
        let outcome = self.registry.undrain(group, target, Instant::now());
        let outcome = outcome.map(|steered| {
            // Whoever was told of an end is told that it is off.
            self.wake_busy([&steered.target]);
            status(&steered, None)
        });
        let _left = reply.send(outcome);
    }

    /// Ends what is over, requests in progress included.
    pub(super) fn end_drains(&mut self, now: Instant) {
        let ended = self.registry.end_drains(now);
        for target in &ended {
            let outstanding = target.outstanding_requests();
            tracing::info!(target = %target.key, outstanding, "target has drained");
        }
        self.wake_busy(&ended);
    }

    /// Wakes requests in progress, if there are any at these targets.
    pub(super) fn wake_busy<'a>(&self, targets: impl IntoIterator<Item = &'a Arc<Target>>) {
        let mut targets = targets.into_iter();
        if targets.any(|target| target.outstanding_requests() > 0) {
            self.listeners.wake();
        }
    }
}

fn status(steered: &Steered, warning: Option<String>) -> SteeredStatus {
    SteeredStatus {
        group: steered.group.name().to_string(),
        target: TargetStatus::of(&steered.target),
        warning,
    }
}
