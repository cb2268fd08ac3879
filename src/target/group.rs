//! One target group: chooses a target for a request, keeps the list of those that may be chosen. Never probes, and
//! choosing neither locks nor allocates.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::health::{Health, Outcome, State, Thresholds, Usage};
use super::members::{Members, Routing};
use super::registry::Leaving;
use super::stickiness::Mark;
use super::{Change, Lease, Target};
use crate::model::{self, TargetGroupName};
use crate::telemetry::{GroupMetrics, target_group_arn};
use crate::upstream::PoolId;

/// One target group as it runs. New settings make a new one around the same targets.
#[derive(Debug)]
pub(crate) struct Group {
    /// Without the targets, which change while a group lives.
    settings: model::TargetGroup,
    usage: Usage,
    /// Names this group in the access log.
    arn: Box<str>,
    /// Names this group in a stickiness cookie.
    mark: Mark,
    members: ArcSwap<Members>,
    cursors: Box<[Cursor]>,
    /// Held while `members` is replaced, so that an older view never replaces a newer one. Taken before any health.
    roster: Mutex<Roster>,
    pub(crate) metrics: GroupMetrics,
}

/// Everyone who belongs to a group.
#[derive(Debug, Default)]
struct Roster {
    registered: Vec<Arc<Target>>,
    draining: Vec<Leaving>,
    standing: Standing,
}

/// Whether a group's targets are its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Current,
    /// Another group has taken them over; this one only serves requests that were on their way.
    Retired,
}

/// Whose turn it is, for one worker, on a cache line of its own. Only that worker writes, so a load and a store do.
#[derive(Debug)]
#[repr(align(128))]
struct Cursor(AtomicU32);

impl Group {
    /// A group without targets. `chance` gives each worker its own place to start at, else all would begin with the
    /// same target and a small group would see them march in step.
    pub(super) fn new(
        settings: &model::TargetGroup,
        usage: Usage,
        workers: usize,
        metrics: GroupMetrics,
        chance: &mut fastrand::Rng,
    ) -> Self {
        let cursor = |_| Cursor(AtomicU32::new(chance.u32(..)));
        Self {
            settings: without_targets(settings),
            usage,
            arn: target_group_arn(&settings.name).into(),
            mark: Mark::of_group(&settings.name),
            members: ArcSwap::from_pointee(Members::build(&[])),
            cursors: (0..workers.max(1)).map(cursor).collect(),
            roster: Mutex::default(),
            metrics,
        }
    }

    pub(crate) fn name(&self) -> &TargetGroupName {
        &self.settings.name
    }

    /// The same as records of requests have it.
    pub(crate) fn arn(&self) -> &[u8] {
        self.arn.as_bytes()
    }

    /// How clients are kept with their targets.
    pub(crate) fn stickiness(&self) -> Option<&model::Stickiness> {
        self.settings.stickiness.as_ref()
    }

    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// The next target in turn that was not tried; `None` when there is nobody to send to.
    pub(crate) fn pick(&self, worker: usize, tried: &[PoolId]) -> Option<Lease> {
        let members = self.members.load();
        self.in_turn(&members, worker, tried).map(Lease::take)
    }

    /// The target that a cookie names if it is still eligible, else the next in turn. Either way the response should
    /// carry a cookie for the target that is given: the session stays where it was moved to.
    pub(crate) fn pick_sticky(
        &self,
        worker: usize,
        tried: &[PoolId],
        mark: &Mark,
    ) -> Option<Lease> {
        let members = self.members.load();
        let named = members.marked(mark);
        match named.filter(|target| !tried.contains(&target.pool())) {
            Some(target) => Some(Lease::take(target)),
            None => self.in_turn(&members, worker, tried).map(Lease::take),
        }
    }

    fn in_turn<'a>(
        &self,
        members: &'a Members,
        worker: usize,
        tried: &[PoolId],
    ) -> Option<&'a Arc<Target>> {
        let cursor = &self.cursors[worker % self.cursors.len()].0;
        let place = (cursor.load(Ordering::Relaxed) as usize).checked_rem(members.len())?;
        let (place, target) = members.from(place, tried)?;
        // A place, not a count: a count would jump where it wraps. Groups are far smaller than 2^32.
        cursor.store(place as u32 + 1, Ordering::Relaxed);
        Some(target)
    }

    /// The checks of a target begin.
    pub(super) fn checking(&self, target: &Target, now: Instant) {
        target.change_health(|health| health.checking(now));
    }

    /// A probe came to its end. The list of eligible targets is made anew only when this changes it.
    pub(crate) fn observe(&self, target: &Arc<Target>, outcome: Outcome, now: Instant) {
        let thresholds = Thresholds::from(&self.settings.health_check);
        let roster = self.lock_roster();
        if roster.standing == Standing::Retired {
            // A late result. Counted here, the group that took over would not hear of it.
            return;
        }
        let change = target.change_health(|health| health.observe(outcome, thresholds, now));
        if change.from == change.to {
            return;
        }
        self.log(target, change);
        // Initial and unhealthy targets are eligible together, or not at all.
        if (change.from == State::Healthy) != (change.to == State::Healthy) {
            self.rebuild(&roster);
        }
        self.report(&roster);
    }

    /// Replaces the list of targets.
    pub(super) fn adopt(&self, registered: Vec<Arc<Target>>, draining: Vec<Leaving>) {
        let mut roster = self.lock_roster();
        *roster = Roster {
            registered,
            draining,
            standing: Standing::Current,
        };
        self.rebuild(&roster);
        self.report(&roster);
    }

    /// Changes a target's health for another reason than a probe, and who is eligible with it.
    pub(super) fn steer(&self, target: &Target, change: impl FnOnce(Health) -> Health) {
        let roster = self.lock_roster();
        let change = target.change_health(change);
        if change.from != change.to {
            self.log(target, change);
        }
        self.rebuild(&roster);
        self.report(&roster);
    }

    /// Forgets targets that have left and whose time is over.
    pub(super) fn forget_left(&self, now: Instant) {
        let mut roster = self.lock_roster();
        roster.draining.retain(|leaving| now < leaving.until);
    }

    /// Stops taking results, because another group has the targets now or none has.
    pub(super) fn retire(&self) {
        self.lock_roster().standing = Standing::Retired;
    }

    /// Nobody has its targets any more; its series say so for as long as some request still holds it.
    pub(super) fn close(&self) {
        self.retire();
        self.metrics.healthy.set(0);
        self.metrics.unhealthy.set(0);
    }

    fn rebuild(&self, roster: &Roster) {
        let members = Members::build(&roster.registered);
        let routing = members.routing();
        let before = self.members.swap(Arc::new(members)).routing();
        if before == Routing::Healthy && routing == Routing::FailOpen {
            let targets = roster.registered.len();
            tracing::warn!(group = %self.name(), targets, "no target is healthy, requests go to all of them");
        }
    }

    /// HealthyHostCount and UnHealthyHostCount.
    fn report(&self, roster: &Roster) {
        let count = |wanted: fn(State) -> bool| {
            let states = roster.registered.iter().map(|target| target.state());
            states.filter(|state| wanted(*state)).count() as f64
        };
        self.metrics
            .healthy
            .set(count(|state| state == State::Healthy));
        self.metrics
            .unhealthy
            .set(count(|state| matches!(state, State::Unhealthy(_))));
    }

    fn log(&self, target: &Target, change: Change) {
        let (group, key) = (self.name(), &target.key);
        let (from, to) = (change.from.name(), change.to.name());
        match change.to.reason() {
            None => tracing::info!(%group, target = %key, from, to, "target health changed"),
            Some(reason) => {
                tracing::warn!(%group, target = %key, from, to, reason, "target health changed");
            }
        }
    }

    /// What an operator sees: registered targets in the order of the configuration, then those that drain.
    pub(crate) fn targets(&self) -> impl Iterator<Item = Arc<Target>> + use<> {
        self.targets_at(Instant::now())
    }

    pub(super) fn targets_at(&self, now: Instant) -> impl Iterator<Item = Arc<Target>> + use<> {
        let roster = self.lock_roster();
        let draining = roster.draining.iter().filter(|leaving| now < leaving.until);
        let draining = draining.map(|leaving| &leaving.target);
        let all: Vec<_> = roster.registered.iter().chain(draining).cloned().collect();
        all.into_iter()
    }

    /// Whether this group already runs what is written; its targets aside.
    pub(super) fn runs(&self, settings: &model::TargetGroup, usage: Usage) -> bool {
        self.usage == usage && self.settings == without_targets(settings)
    }

    /// Whether its targets are spoken to as is written.
    pub(super) fn speaks(&self, settings: &model::TargetGroup) -> bool {
        (self.settings.protocol, &self.settings.tls) == (settings.protocol, &settings.tls)
    }

    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    pub(super) fn health_check(&self) -> &model::HealthCheck {
        &self.settings.health_check
    }

    pub(super) fn deregistration_delay(&self) -> Duration {
        self.settings.deregistration_delay
    }

    fn lock_roster(&self) -> MutexGuard<'_, Roster> {
        // The lists are replaced whole, so they are sound even if a thread died here.
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn without_targets(settings: &model::TargetGroup) -> model::TargetGroup {
    model::TargetGroup {
        targets: Vec::new(),
        ..settings.clone()
    }
}

#[cfg(test)]
impl Group {
    /// A group of this name without targets, for unit tests of other rooms.
    pub(crate) fn for_test(name: &str) -> Self {
        let name = name.parse().unwrap();
        let settings = model::TargetGroup::new(name, model::Protocol::Http, 80);
        let metrics =
            crate::telemetry::Metrics::new(&"lb".parse().unwrap(), 1).group(&settings.name);
        let mut chance = fastrand::Rng::with_seed(1);
        Self::new(&settings, Usage::InUse, 1, metrics, &mut chance)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::Protocol;
    use crate::target::health::Failure;
    use crate::target::{TargetKey, stickiness};
    use crate::telemetry::Metrics;
    use crate::upstream::Upstream;

    pub(in crate::target) const TWO: Thresholds = Thresholds {
        healthy: 2,
        unhealthy: 2,
    };

    /// A target of group `app` whose checks have begun.
    pub(in crate::target) fn target(text: &str) -> Arc<Target> {
        let key = TargetKey::of(&text.parse().unwrap(), 80);
        let addresses = text.parse().into_iter().collect();
        let upstream = Upstream::new(PoolId(key.port.into()), addresses, None, None);
        let now = Instant::now();
        let health = Health::registered(now).checking(now);
        Arc::new(Target::new(&"app".parse().unwrap(), key, upstream, health))
    }

    /// The meters of group `app`.
    pub(in crate::target) fn metrics() -> GroupMetrics {
        Metrics::new(&"lb".parse().unwrap(), 1).group(&"app".parse().unwrap())
    }

    /// A group of this many targets, all healthy.
    pub(in crate::target) fn healthy_group(count: usize, seed: u64) -> (Group, Vec<Arc<Target>>) {
        let mut settings = model::TargetGroup::new("app".parse().unwrap(), Protocol::Http, 80);
        settings.health_check.healthy_threshold = TWO.healthy;
        let mut chance = fastrand::Rng::with_seed(seed);
        let group = Group::new(&settings, Usage::InUse, 2, metrics(), &mut chance);
        let targets: Vec<_> = (1..=count)
            .map(|port| target(&format!("10.0.0.1:{port}")))
            .collect();
        group.adopt(targets.clone(), Vec::new());
        for target in &targets {
            group.observe(target, Outcome::Passed, Instant::now());
        }
        (group, targets)
    }

    fn fail(group: &Group, target: &Arc<Target>) {
        for _ in 0..TWO.unhealthy {
            group.observe(target, Outcome::Failed(Failure::Timeout), Instant::now());
        }
    }

    fn picked(group: &Group, times: usize) -> Vec<PoolId> {
        let pick = |_| group.pick(0, &[]).unwrap().pool();
        (0..times).map(pick).collect()
    }

    #[test]
    fn a_group_without_targets_gives_nobody() {
        let (group, _) = healthy_group(0, 1);
        assert!(group.pick(0, &[]).is_none());
        assert!(group.pick_sticky(0, &[], group.mark()).is_none());
    }

    #[test]
    fn an_unhealthy_target_gets_nothing_until_it_is_healthy_again() {
        let (group, targets) = healthy_group(2, 1);
        fail(&group, &targets[0]);
        assert!(!picked(&group, 4).contains(&targets[0].pool()));
        group.observe(&targets[0], Outcome::Passed, Instant::now());
        assert!(!picked(&group, 4).contains(&targets[0].pool()));
        group.observe(&targets[0], Outcome::Passed, Instant::now());
        assert!(picked(&group, 2).contains(&targets[0].pool()));
    }

    #[test]
    fn without_a_healthy_target_all_get_requests() {
        let (group, targets) = healthy_group(3, 1);
        targets.iter().for_each(|target| fail(&group, target));
        for target in &targets {
            assert!(picked(&group, 3).contains(&target.pool()));
        }
        group.observe(&targets[1], Outcome::Passed, Instant::now());
        group.observe(&targets[1], Outcome::Passed, Instant::now());
        assert_eq!(picked(&group, 2), [targets[1].pool(), targets[1].pool()]);
    }

    #[test]
    fn members_are_made_anew_only_when_they_change() {
        let (group, targets) = healthy_group(2, 1);
        let before = group.members.load_full();
        group.observe(&targets[0], Outcome::Passed, Instant::now());
        group.observe(
            &targets[0],
            Outcome::Failed(Failure::Timeout),
            Instant::now(),
        );
        assert!(Arc::ptr_eq(&before, &group.members.load_full()));
        group.observe(
            &targets[0],
            Outcome::Failed(Failure::Timeout),
            Instant::now(),
        );
        assert!(!Arc::ptr_eq(&before, &group.members.load_full()));
    }

    #[test]
    fn a_retired_group_takes_no_results() {
        let (group, targets) = healthy_group(2, 1);
        group.retire();
        fail(&group, &targets[0]);
        assert!(targets[0].health().is_healthy());
    }

    #[test]
    fn a_lease_counts_while_it_is_held() {
        let (group, targets) = healthy_group(1, 1);
        let lease = group.pick(0, &[]).unwrap();
        assert_eq!(targets[0].outstanding_requests(), 1);
        drop(lease);
        assert_eq!(targets[0].outstanding_requests(), 0);
    }

    #[test]
    fn a_sticky_client_stays_while_its_target_is_eligible() {
        let (group, targets) = healthy_group(3, 1);
        let mark = *targets[1].mark();
        let stuck = || group.pick_sticky(0, &[], &mark).unwrap().pool();
        assert!((0..9).all(|_| stuck() == targets[1].pool()));
        let tried = [targets[1].pool()];
        let elsewhere = group.pick_sticky(0, &tried, &mark).unwrap();
        assert_ne!(elsewhere.pool(), tried[0]);
        fail(&group, &targets[1]);
        assert!((0..9).all(|_| stuck() != targets[1].pool()));
    }

    #[test]
    fn a_mark_of_another_group_means_nothing() {
        let (group, targets) = healthy_group(3, 1);
        let foreign = stickiness::Mark::of(&"other".parse().unwrap(), &targets[0].key);
        let keys: Vec<_> = (0..3)
            .map(|_| group.pick_sticky(0, &[], &foreign).unwrap().pool())
            .collect();
        assert!(targets.iter().all(|target| keys.contains(&target.pool())));
    }

    #[test]
    fn draining_targets_are_shown_until_their_delay_ends() {
        let (group, targets) = healthy_group(2, 1);
        let now = Instant::now();
        targets[0].change_health(|health| health.deregistered());
        let leaving = Leaving {
            target: Arc::clone(&targets[0]),
            until: now + Duration::from_secs(300),
        };
        group.adopt(vec![Arc::clone(&targets[1])], vec![leaving]);
        let states = |seconds| -> Vec<_> {
            let targets = group.targets_at(now + Duration::from_secs(seconds));
            targets.map(|target| target.state().name()).collect()
        };
        assert_eq!(states(299), ["healthy", "draining"]);
        assert_eq!(states(300), ["healthy"]);
    }

    proptest! {
        #[test]
        fn round_robin_is_fair_in_every_window(
            count in 1..20usize, seed: u64, rounds in 1..5usize, skip in 0..40usize,
        ) {
            let (group, _) = healthy_group(count, seed);
            picked(&group, skip);
            let mut seen = HashMap::new();
            for key in picked(&group, rounds * count) {
                *seen.entry(key).or_insert(0) += 1;
            }
            prop_assert_eq!(seen.len(), count);
            prop_assert!(seen.values().all(|&times| times == rounds));
        }

        #[test]
        fn workers_take_turns_apart(seed: u64, noise in 0..50usize) {
            let (first, _) = healthy_group(7, seed);
            let (second, _) = healthy_group(7, seed);
            (0..noise).for_each(|_| drop(second.pick(1, &[])));
            prop_assert_eq!(picked(&first, 20), picked(&second, 20));
        }

        #[test]
        fn a_tried_target_is_not_given_again(count in 1..8usize, seed: u64) {
            let (group, _) = healthy_group(count, seed);
            let mut tried = Vec::new();
            while let Some(lease) = group.pick(0, &tried) {
                prop_assert!(!tried.contains(&lease.pool()));
                tried.push(lease.pool());
            }
            prop_assert_eq!(tried.len(), count);
        }
    }
}
