//! Health of one target in one group: a pure state machine in ELBv2's words. Never probes, never reads a clock, and
//! never decides who gets requests.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use crate::handover::KnownHealth;
use crate::model;

/// What is known of one target's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    /// What its checks say, never `Draining`.
    state: State,
    /// When this state began; a new reason within it does not count.
    since: Instant,
    last: Option<Checked>,
    streak: Streak,
    /// Whether it finishes what it has and gets nothing new, whatever its checks say meanwhile.
    draining: bool,
}

/// ELBv2 `TargetHealthStateEnum`, with the reason where a state has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Initial(Initial),
    Healthy,
    Unhealthy(Failure),
    Draining,
    Unused(Unused),
}

/// How far a new target has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initial {
    RegistrationInProgress,
    HealthChecking,
}

/// Why a target takes no part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unused {
    /// No rule forwards to the group.
    NotInUse,
    /// Somebody took it out, and its drain is over.
    NotRegistered,
}

/// Whether any rule forwards to a group. One that none forwards to is not probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    InUse,
    NotInUse,
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed(Failure),
}

/// How a probe failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// An answer with a status code outside the matcher. ALB lists one code for each of its nodes; there is one here.
    ResponseCodeMismatch(u16),
    /// No answer within the timeout.
    Timeout,
    /// No connection, no TLS, or an answer that is not HTTP.
    FailedHealthChecks,
}

/// The last probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) outcome: Outcome,
    pub(crate) at: Instant,
}

/// Results of one kind in a row; a result of the other kind starts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Streak {
    Passes(u32),
    Failures(u32),
}

/// Results in a row that change a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thresholds {
    pub(crate) healthy: u8,
    pub(crate) unhealthy: u8,
}

impl Health {
    /// A target that has just been registered.
    pub(crate) fn registered(now: Instant) -> Self {
        Self::begin(State::Initial(Initial::RegistrationInProgress), now)
    }

    /// A target that takes no part.
    pub(crate) fn unused(why: Unused, now: Instant) -> Self {
        Self::begin(State::Unused(why), now)
    }

    fn begin(state: State, now: Instant) -> Self {
        Self {
            state,
            since: now,
            last: None,
            streak: Streak::Passes(0),
            draining: false,
        }
    }

    /// Its checks have begun.
    #[must_use]
    pub(crate) fn checking(self, now: Instant) -> Self {
        match self.state {
            State::Initial(Initial::RegistrationInProgress) => {
                self.enter(State::Initial(Initial::HealthChecking), now)
            }
            _ => self,
        }
    }

    /// A probe came to its end.
    ///
    /// A new target is healthy after one success. It is unhealthy after as many failures in a row as take a healthy
    /// one out: ALB's guide leaves open whether one would do, and a service that is still starting should not be
    /// called broken for its first refusal. Until then it gets no requests either way.
    #[must_use]
    pub(crate) fn observe(self, outcome: Outcome, thresholds: Thresholds, now: Instant) -> Self {
        if matches!(self.state, State::Unused(_)) {
            // A probe that was under way when its group went out of use.
            return self;
        }
        let seen = Self {
            last: Some(Checked { outcome, at: now }),
            streak: self.streak.extended(outcome),
            ..self
        };
        match seen.verdict(outcome, thresholds) {
            Some(state) => seen.enter(state, now),
            None => seen,
        }
    }

    /// The state that the newest result leads to, `None` for the present one.
    fn verdict(&self, outcome: Outcome, thresholds: Thresholds) -> Option<State> {
        match (self.state, outcome) {
            (State::Initial(_), Outcome::Passed) => Some(State::Healthy),
            (State::Unhealthy(_), Outcome::Passed) => self
                .streak
                .passes_reach(thresholds.healthy)
                .then_some(State::Healthy),
            (State::Unhealthy(_), Outcome::Failed(failure)) => Some(State::Unhealthy(failure)),
            (State::Initial(_) | State::Healthy, Outcome::Failed(failure)) => self
                .streak
                .failures_reach(thresholds.unhealthy)
                .then_some(State::Unhealthy(failure)),
            (State::Healthy, Outcome::Passed) | (State::Draining | State::Unused(_), _) => None,
        }
    }

    /// The target is in a group that rules use, or in one that none uses.
    #[must_use]
    pub(crate) fn placed(self, usage: Usage, now: Instant) -> Self {
        match (usage, self.current()) {
            (Usage::NotInUse, State::Unused(Unused::NotInUse)) => self,
            (Usage::NotInUse, _) => Self::unused(Unused::NotInUse, now),
            // Whatever was known of it is old by now: it starts as a new one (ALB user guide, "Target health status").
            (Usage::InUse, State::Unused(_) | State::Draining) => Self::registered(now),
            (Usage::InUse, State::Initial(_) | State::Healthy | State::Unhealthy(_)) => self,
        }
    }

    /// The target was taken out of its group and finishes what it has. As long as it is checked, its checks count.
    #[must_use]
    pub(crate) fn deregistered(self) -> Self {
        Self {
            draining: true,
            ..self
        }
    }

    /// It was brought back while it was still checked, so what is known of it holds.
    #[must_use]
    pub(crate) fn restored(self) -> Self {
        Self {
            draining: false,
            ..self
        }
    }

    fn enter(self, state: State, now: Instant) -> Self {
        let stays = std::mem::discriminant(&self.state) == std::mem::discriminant(&state);
        Self {
            state,
            since: if stays { self.since } else { now },
            ..self
        }
    }

    pub(crate) fn current(&self) -> State {
        match self.draining {
            true => State::Draining,
            false => self.state,
        }
    }
}

/// From one process to the next.
impl Health {
    /// What the next process is told.
    pub(crate) fn known(&self, now: Instant) -> KnownHealth {
        let (passes, failures) = match self.streak {
            Streak::Passes(count) => (count, 0),
            Streak::Failures(count) => (0, count),
        };
        let code = match self.state {
            State::Unhealthy(Failure::ResponseCodeMismatch(code)) => Some(code),
            _ => None,
        };
        let age = now.saturating_duration_since(self.since).as_millis();
        KnownHealth {
            state: self.state.name().to_owned(),
            reason: self.state.reason().map(str::to_owned),
            code,
            milliseconds: age.try_into().unwrap_or(u64::MAX),
            passes,
            failures,
        }
    }

    /// Goes on where another process was. A target that took no part there, or of which is told in words that are not
    /// ours, begins as a new one.
    pub(crate) fn inherited(known: &KnownHealth, now: Instant) -> Self {
        let reason = known.reason.as_deref().unwrap_or_default();
        let state = match (known.state.as_str(), reason, known.code) {
            ("healthy", ..) => State::Healthy,
            ("unhealthy", "Target.ResponseCodeMismatch", Some(code)) => {
                State::Unhealthy(Failure::ResponseCodeMismatch(code))
            }
            ("unhealthy", "Target.Timeout", _) => State::Unhealthy(Failure::Timeout),
            ("unhealthy", ..) => State::Unhealthy(Failure::FailedHealthChecks),
            ("initial", ..) => State::Initial(Initial::RegistrationInProgress),
            _ => return Self::registered(now),
        };
        let age = Duration::from_millis(known.milliseconds);
        Self {
            state,
            // A machine that has just started has no moment so long ago.
            since: now.checked_sub(age).unwrap_or(now),
            last: None,
            draining: false,
            streak: match known.failures {
                0 => Streak::Passes(known.passes),
                failures => Streak::Failures(failures),
            },
        }
    }
}

/// What only tests look at so far.
#[cfg(test)]
impl Health {
    pub(crate) fn is_healthy(&self) -> bool {
        self.current() == State::Healthy
    }

    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    pub(crate) fn last(&self) -> Option<Checked> {
        self.last
    }

    /// Successes in a row up to now.
    pub(crate) fn passes(&self) -> u32 {
        match self.streak {
            Streak::Passes(count) => count,
            Streak::Failures(_) => 0,
        }
    }

    /// Failures in a row up to now.
    pub(crate) fn failures(&self) -> u32 {
        match self.streak {
            Streak::Failures(count) => count,
            Streak::Passes(_) => 0,
        }
    }
}

/// ELBv2's spelling (API reference, `TargetHealth`).
impl State {
    /// `State`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Initial(_) => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy(_) => "unhealthy",
            Self::Draining => "draining",
            Self::Unused(_) => "unused",
        }
    }

    /// `Reason`; none when healthy.
    pub(crate) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Initial(Initial::RegistrationInProgress) => Some("Elb.RegistrationInProgress"),
            Self::Initial(Initial::HealthChecking) => Some("Elb.InitialHealthChecking"),
            Self::Healthy => None,
            Self::Unhealthy(Failure::ResponseCodeMismatch(_)) => {
                Some("Target.ResponseCodeMismatch")
            }
            Self::Unhealthy(Failure::Timeout) => Some("Target.Timeout"),
            Self::Unhealthy(Failure::FailedHealthChecks) => Some("Target.FailedHealthChecks"),
            Self::Draining => Some("Target.DeregistrationInProgress"),
            Self::Unused(Unused::NotInUse) => Some("Target.NotInUse"),
            Self::Unused(Unused::NotRegistered) => Some("Target.NotRegistered"),
        }
    }

    /// `Description`; none when healthy.
    pub(crate) fn description(self) -> Option<Cow<'static, str>> {
        let text = match self {
            Self::Initial(Initial::RegistrationInProgress) => "Target registration is in progress",
            Self::Initial(Initial::HealthChecking) => "Initial health checks in progress",
            Self::Healthy => return None,
            Self::Unhealthy(Failure::ResponseCodeMismatch(code)) => {
                let text = format!("Health checks failed with these codes: [{code}]");
                return Some(text.into());
            }
            Self::Unhealthy(Failure::Timeout) => "Request timed out",
            Self::Unhealthy(Failure::FailedHealthChecks) => "Health checks failed",
            Self::Draining => "Target deregistration is in progress",
            Self::Unused(Unused::NotInUse) => {
                "Target group is not configured to receive traffic from the load balancer"
            }
            Self::Unused(Unused::NotRegistered) => "Target is not registered to the target group",
        };
        Some(text.into())
    }
}

impl Streak {
    fn extended(self, outcome: Outcome) -> Self {
        match (self, outcome) {
            (Self::Passes(count), Outcome::Passed) => Self::Passes(count.saturating_add(1)),
            (Self::Failures(_), Outcome::Passed) => Self::Passes(1),
            (Self::Failures(count), Outcome::Failed(_)) => Self::Failures(count.saturating_add(1)),
            (Self::Passes(_), Outcome::Failed(_)) => Self::Failures(1),
        }
    }

    fn passes_reach(self, threshold: u8) -> bool {
        matches!(self, Self::Passes(count) if count >= u32::from(threshold))
    }

    fn failures_reach(self, threshold: u8) -> bool {
        matches!(self, Self::Failures(count) if count >= u32::from(threshold))
    }
}

impl From<&model::HealthCheck> for Thresholds {
    fn from(check: &model::HealthCheck) -> Self {
        Self {
            healthy: check.healthy_threshold,
            unhealthy: check.unhealthy_threshold,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MISMATCH: Outcome = Outcome::Failed(Failure::ResponseCodeMismatch(503));
    const TIMEOUT: Outcome = Outcome::Failed(Failure::Timeout);
    const REFUSED: Outcome = Outcome::Failed(Failure::FailedHealthChecks);
    const TWO: Thresholds = Thresholds {
        healthy: 2,
        unhealthy: 2,
    };

    fn after(outcomes: &[Outcome], thresholds: Thresholds) -> Health {
        let now = Instant::now();
        let fresh = Health::registered(now).checking(now);
        let step = |health: Health, outcome: &Outcome| health.observe(*outcome, thresholds, now);
        outcomes.iter().fold(fresh, step)
    }

    #[test]
    fn every_state_reads_as_elb_writes_it() {
        let table = [
            (
                State::Initial(Initial::RegistrationInProgress),
                "initial",
                Some("Elb.RegistrationInProgress"),
                Some("Target registration is in progress"),
            ),
            (
                State::Initial(Initial::HealthChecking),
                "initial",
                Some("Elb.InitialHealthChecking"),
                Some("Initial health checks in progress"),
            ),
            (State::Healthy, "healthy", None, None),
            (
                State::Unhealthy(Failure::ResponseCodeMismatch(503)),
                "unhealthy",
                Some("Target.ResponseCodeMismatch"),
                Some("Health checks failed with these codes: [503]"),
            ),
            (
                State::Unhealthy(Failure::Timeout),
                "unhealthy",
                Some("Target.Timeout"),
                Some("Request timed out"),
            ),
            (
                State::Unhealthy(Failure::FailedHealthChecks),
                "unhealthy",
                Some("Target.FailedHealthChecks"),
                Some("Health checks failed"),
            ),
            (
                State::Draining,
                "draining",
                Some("Target.DeregistrationInProgress"),
                Some("Target deregistration is in progress"),
            ),
            (
                State::Unused(Unused::NotInUse),
                "unused",
                Some("Target.NotInUse"),
                Some("Target group is not configured to receive traffic from the load balancer"),
            ),
            (
                State::Unused(Unused::NotRegistered),
                "unused",
                Some("Target.NotRegistered"),
                Some("Target is not registered to the target group"),
            ),
        ];
        for (state, word, reason, description) in table {
            assert_eq!(state.name(), word);
            assert_eq!(state.reason(), reason);
            assert_eq!(state.description().as_deref(), description);
        }
    }

    #[test]
    fn a_new_target_is_healthy_after_its_first_success() {
        let thresholds = Thresholds {
            healthy: 10,
            unhealthy: 2,
        };
        assert!(after(&[Outcome::Passed], thresholds).is_healthy());
        assert!(after(&[REFUSED, Outcome::Passed], thresholds).is_healthy());
    }

    #[test]
    fn a_new_target_is_unhealthy_after_the_threshold() {
        assert_eq!(
            after(&[REFUSED], TWO).current(),
            State::Initial(Initial::HealthChecking)
        );
        assert_eq!(
            after(&[REFUSED, TIMEOUT], TWO).current(),
            State::Unhealthy(Failure::Timeout)
        );
    }

    #[test]
    fn the_reason_is_that_of_the_newest_failure() {
        let now = Instant::now();
        let first = after(&[REFUSED, REFUSED], TWO);
        let later = first.observe(MISMATCH, TWO, now + Duration::from_secs(5));
        assert_eq!(
            later.current(),
            State::Unhealthy(Failure::ResponseCodeMismatch(503))
        );
        assert_eq!(later.since(), first.since());
    }

    #[test]
    fn an_unused_target_ignores_a_late_result() {
        let now = Instant::now();
        let unused = Health::unused(Unused::NotInUse, now);
        assert_eq!(unused.observe(Outcome::Passed, TWO, now), unused);
        assert_eq!(unused.checking(now), unused);
    }

    #[test]
    fn a_draining_target_shows_no_verdict_and_has_one_when_it_is_back() {
        let now = Instant::now();
        let draining = after(&[Outcome::Passed], TWO).deregistered();
        assert_eq!(draining.current(), State::Draining);
        assert!(draining.restored().is_healthy());
        let failed = draining.observe(TIMEOUT, TWO, now);
        let failed = failed.observe(TIMEOUT, TWO, now);
        assert_eq!(failed.current(), State::Draining);
        let restored = failed.restored().current();
        assert_eq!(restored, State::Unhealthy(Failure::Timeout));
    }

    #[test]
    fn words_that_are_not_ours_begin_anew() {
        let now = Instant::now();
        let known = |state: &str, reason: Option<&str>| KnownHealth {
            state: state.to_owned(),
            reason: reason.map(str::to_owned),
            code: None,
            milliseconds: u64::MAX,
            passes: 0,
            failures: 3,
        };
        let restored = |state, reason| Health::inherited(&known(state, reason), now).current();
        let new = State::Initial(Initial::RegistrationInProgress);
        for state in ["initial", "draining", "unused", "splendid"] {
            assert_eq!(restored(state, None), new);
        }
        assert_eq!(restored("healthy", None), State::Healthy);
        let failed = State::Unhealthy(Failure::FailedHealthChecks);
        assert_eq!(restored("unhealthy", Some("Target.Tired")), failed);
    }

    #[test]
    fn a_group_comes_into_use_and_its_targets_start_anew() {
        let now = Instant::now();
        let healthy = after(&[Outcome::Passed], TWO);
        assert_eq!(healthy.placed(Usage::InUse, now), healthy);
        let unused = healthy.placed(Usage::NotInUse, now);
        assert_eq!(unused.current(), State::Unused(Unused::NotInUse));
        let again = State::Initial(Initial::RegistrationInProgress);
        assert_eq!(unused.placed(Usage::InUse, now).current(), again);
        let draining = healthy.deregistered();
        assert_eq!(draining.placed(Usage::InUse, now).current(), again);
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            3 => Just(Outcome::Passed),
            1 => Just(TIMEOUT),
            1 => Just(REFUSED),
            1 => Just(MISMATCH),
        ]
    }

    fn thresholds() -> impl Strategy<Value = Thresholds> {
        (2..=10u8, 2..=10u8).prop_map(|(healthy, unhealthy)| Thresholds { healthy, unhealthy })
    }

    /// The verdict read off the whole history, newest result last.
    fn reference(history: &[Outcome], thresholds: Thresholds) -> &'static str {
        let ends_with = |list: &[Outcome], count: u8, passed: bool| {
            list.len() >= usize::from(count)
                && list[list.len() - usize::from(count)..]
                    .iter()
                    .all(|outcome| (*outcome == Outcome::Passed) == passed)
        };
        let Some((newest, earlier)) = history.split_last() else {
            return "initial";
        };
        let before = reference(earlier, thresholds);
        let passed = *newest == Outcome::Passed;
        match before {
            "initial" if passed => "healthy",
            "unhealthy" if ends_with(history, thresholds.healthy, true) => "healthy",
            "initial" | "healthy" if ends_with(history, thresholds.unhealthy, false) => "unhealthy",
            same => same,
        }
    }

    proptest! {
        #[test]
        fn the_machine_agrees_with_its_whole_history(
            history in prop::collection::vec(outcome(), 0..60),
            thresholds in thresholds(),
        ) {
            let health = after(&history, thresholds);
            prop_assert_eq!(health.current().name(), reference(&history, thresholds));
            prop_assert_eq!(health.last().map(|last| last.outcome), history.last().copied());
        }

        #[test]
        fn the_next_process_comes_to_the_same_verdicts(
            before in prop::collection::vec(outcome(), 1..20),
            behind in prop::collection::vec(outcome(), 0..20),
            thresholds in thresholds(),
        ) {
            let now = Instant::now();
            let here = after(&before, thresholds);
            let there = Health::inherited(&here.known(now), now);
            let there = there.checking(now);
            prop_assert_eq!(here.current(), there.current());
            let step = |health: Health, outcome: &Outcome| health.observe(*outcome, thresholds, now);
            let (here, there) = (behind.iter().fold(here, step), behind.iter().fold(there, step));
            prop_assert_eq!(here.current(), there.current());
        }

        #[test]
        fn exactly_the_threshold_of_successes_heals(thresholds in thresholds()) {
            let mut health = after(&vec![TIMEOUT; thresholds.unhealthy.into()], thresholds);
            for count in 1..=thresholds.healthy {
                prop_assert!(!health.is_healthy());
                health = health.observe(Outcome::Passed, thresholds, Instant::now());
                prop_assert_eq!(health.passes(), u32::from(count));
            }
            prop_assert!(health.is_healthy());
        }

        #[test]
        fn exactly_the_threshold_of_failures_takes_a_target_out(thresholds in thresholds()) {
            let mut health = after(&[Outcome::Passed], thresholds);
            for count in 1..=thresholds.unhealthy {
                prop_assert!(health.is_healthy());
                health = health.observe(REFUSED, thresholds, Instant::now());
                prop_assert_eq!(health.failures(), u32::from(count));
            }
            prop_assert!(!health.is_healthy());
        }

        #[test]
        fn a_lone_failure_never_takes_a_healthy_target_out(
            successes in prop::collection::vec(1..4usize, 1..20),
            thresholds in thresholds(),
        ) {
            let mut health = after(&[Outcome::Passed], thresholds);
            for count in successes {
                health = health.observe(TIMEOUT, thresholds, Instant::now());
                prop_assert!(health.is_healthy());
                for _ in 0..count {
                    health = health.observe(Outcome::Passed, thresholds, Instant::now());
                }
            }
        }

        #[test]
        fn since_moves_exactly_when_the_state_does(
            history in prop::collection::vec(outcome(), 1..60),
            thresholds in thresholds(),
        ) {
            let start = Instant::now();
            let mut health = Health::registered(start).checking(start);
            for (step, outcome) in (1u32..).zip(history) {
                let now = start + Duration::from_secs(1) * step;
                let before = health;
                health = health.observe(outcome, thresholds, now);
                let moved = before.current().name() != health.current().name();
                prop_assert_eq!(health.since(), if moved { now } else { before.since() });
            }
        }
    }
}
