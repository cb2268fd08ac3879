//! Who is eligible now: one immutable value, made whenever health or the list of targets changes, so that choosing
//! has no special case. Never changes, never waits.

use std::sync::Arc;

use super::Target;
use super::health::State;
use super::stickiness::Mark;
use crate::upstream::PoolId;

/// The targets that requests may go to at this moment.
#[derive(Debug)]
pub(super) struct Members {
    /// In the order of the configuration.
    eligible: Box<[Arc<Target>]>,
    /// The same, ordered for the look-up of a cookie; places in `eligible`.
    by_mark: Box<[(Mark, usize)]>,
    routing: Routing,
}

/// Whom requests go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Routing {
    Healthy,
    /// No target is healthy, so all that are registered are asked.
    FailOpen,
    /// No target is registered, or none is in use.
    Nobody,
}

impl Members {
    /// Decides who is eligible among the registered targets.
    ///
    /// With no healthy one, all of them are, as ALB does below `unhealthy_state_routing`, whose default is one healthy
    /// target. New targets count: they are registered, an untried one is no worse a guess than one known to be sick,
    /// and a load balancer that has just started serves at once instead of answering 503 until its first verdicts.
    pub(super) fn build(registered: &[Arc<Target>]) -> Self {
        let in_state = |wanted: fn(State) -> bool| -> Box<[Arc<Target>]> {
            let fits = |target: &&Arc<Target>| wanted(target.state());
            registered.iter().filter(fits).cloned().collect()
        };
        let healthy = in_state(|state| state == State::Healthy);
        if !healthy.is_empty() {
            return Self::of(healthy, Routing::Healthy);
        }
        let open = in_state(|state| matches!(state, State::Initial(_) | State::Unhealthy(_)));
        match open.is_empty() {
            false => Self::of(open, Routing::FailOpen),
            true => Self::of(open, Routing::Nobody),
        }
    }

    fn of(eligible: Box<[Arc<Target>]>, routing: Routing) -> Self {
        let marks = eligible.iter().map(|target| *target.mark());
        let mut by_mark: Box<[_]> = marks.zip(0..).collect();
        by_mark.sort_unstable();
        Self {
            eligible,
            by_mark,
            routing,
        }
    }

    pub(super) fn routing(&self) -> Routing {
        self.routing
    }

    pub(super) fn len(&self) -> usize {
        self.eligible.len()
    }

    /// The first eligible target from `place` on, around the end, that was not tried; and its place.
    pub(super) fn from(&self, place: usize, tried: &[PoolId]) -> Option<(usize, &Arc<Target>)> {
        let (before, after) = self.eligible.split_at_checked(place)?;
        let places = (place..).zip(after).chain((0..).zip(before));
        let mut untried = places.filter(|(_, target)| !tried.contains(&target.pool()));
        untried.next()
    }

    /// The eligible target that a cookie names.
    pub(super) fn marked(&self, mark: &Mark) -> Option<&Arc<Target>> {
        let found = self.by_mark.binary_search_by(|(known, _)| known.cmp(mark));
        let (_, place) = self.by_mark[found.ok()?];
        self.eligible.get(place)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::target::group::tests::{TWO, target};
    use crate::target::health::{Failure, Health, Outcome, Unused};

    fn with(address: &str, outcomes: &[Outcome]) -> Arc<Target> {
        let target = target(address);
        for outcome in outcomes {
            target.change_health(|health| health.observe(*outcome, TWO, Instant::now()));
        }
        target
    }

    fn eligible(registered: &[Arc<Target>]) -> (Routing, Vec<String>) {
        let members = Members::build(registered);
        let keys = members.eligible.iter().map(|target| target.key.to_string());
        (members.routing(), keys.collect())
    }

    const DOWN: [Outcome; 2] = [Outcome::Failed(Failure::Timeout); 2];

    #[test]
    fn healthy_targets_alone_are_eligible_while_there_is_one() {
        let healthy = with("10.0.0.1:80", &[Outcome::Passed]);
        let unhealthy = with("10.0.0.2:80", &DOWN);
        let initial = with("10.0.0.3:80", &[]);
        assert_eq!(
            eligible(&[unhealthy, initial, healthy]),
            (Routing::Healthy, vec!["10.0.0.1:80".to_owned()])
        );
    }

    #[test]
    fn without_a_healthy_one_all_registered_targets_are_eligible() {
        let unhealthy = with("10.0.0.2:80", &DOWN);
        let initial = with("10.0.0.3:80", &[]);
        let draining = with("10.0.0.4:80", &[Outcome::Passed]);
        draining.change_health(|health| health.deregistered());
        assert_eq!(
            eligible(&[unhealthy, initial, draining]),
            (
                Routing::FailOpen,
                vec!["10.0.0.2:80".to_owned(), "10.0.0.3:80".to_owned()]
            )
        );
    }

    #[test]
    fn a_group_without_targets_in_use_has_nobody() {
        let unused = target("10.0.0.1:80");
        unused.change_health(|_| Health::unused(Unused::NotInUse, Instant::now()));
        assert_eq!(eligible(&[unused]), (Routing::Nobody, vec![]));
        assert_eq!(eligible(&[]), (Routing::Nobody, vec![]));
        assert!(Members::build(&[]).from(0, &[]).is_none());
    }

    #[test]
    fn every_eligible_target_is_found_by_its_mark() {
        let targets: Vec<_> = (1..=50)
            .map(|last| target(&format!("10.0.0.{last}:80")))
            .collect();
        let members = Members::build(&targets);
        for target in &targets {
            let found = members.marked(target.mark()).unwrap();
            assert!(Arc::ptr_eq(found, target));
        }
        assert!(members.marked(target("10.0.1.1:80").mark()).is_none());
    }
}
