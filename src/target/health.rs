//! The health of one target in one group: a pure state machine, with ELBv2's states, reasons and words (ALB user
//! guide, "Target health status"). Never reads a clock, never probes.

use std::borrow::Cow;

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed(Failure),
}

/// Why a probe failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// This status is not in the matcher.
    ResponseCodeMismatch(u16),
    /// No answer within the timeout.
    Timeout,
    /// No connection, no handshake, or no HTTP.
    FailedHealthChecks,
}

/// How many results in a row turn a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thresholds {
    pub(crate) healthy: u8,
    pub(crate) unhealthy: u8,
}

/// What a target is, as ELBv2 tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Registered, not yet probed.
    Registering,
    /// Probed, without a verdict yet.
    InitialHealthChecking,
    Healthy,
    Unhealthy(Failure),
    /// Its group gets no traffic, so it is not probed.
    NotInUse,
}

/// A target's state and the run of results that may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    state: State,
    /// Results in a row that speak against the state.
    against: u8,
}

impl Health {
    /// A target that was just registered.
    pub(crate) const REGISTERED: Self = Self {
        state: State::Registering,
        against: 0,
    };
    /// A target of a group that no rule names.
    pub(crate) const NOT_IN_USE: Self = Self {
        state: State::NotInUse,
        against: 0,
    };

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Whether the target gets requests without the group failing open.
    pub(crate) fn is_healthy(&self) -> bool {
        self.state == State::Healthy
    }

    /// The state after one more result. One pass makes a new target healthy; otherwise a threshold of results in a
    /// row turns a target, and one result the other way starts the count anew.
    #[must_use]
    pub(crate) fn observe(self, outcome: Outcome, thresholds: Thresholds) -> Self {
        match (self.state, outcome) {
            (State::Registering | State::InitialHealthChecking, Outcome::Passed) => {
                Self::settled(State::Healthy)
            }
            (State::Registering | State::InitialHealthChecking, Outcome::Failed(failure)) => Self {
                state: State::InitialHealthChecking,
                ..self
            }
            .against(thresholds.unhealthy, State::Unhealthy(failure)),
            (State::Healthy, Outcome::Failed(failure)) => {
                self.against(thresholds.unhealthy, State::Unhealthy(failure))
            }
            (State::Unhealthy(_), Outcome::Passed) => {
                self.against(thresholds.healthy, State::Healthy)
            }
            // The newest reason is the one to show.
            (State::Unhealthy(_), Outcome::Failed(failure)) => {
                Self::settled(State::Unhealthy(failure))
            }
            (State::Healthy, Outcome::Passed) => Self::settled(State::Healthy),
            (State::NotInUse, _) => self,
        }
    }

    fn settled(state: State) -> Self {
        Self { state, against: 0 }
    }

    fn against(self, threshold: u8, turned: State) -> Self {
        let against = self.against + 1;
        if against >= threshold {
            Self::settled(turned)
        } else {
            Self { against, ..self }
        }
    }
}

impl State {
    /// `TargetHealth.State`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Registering | Self::InitialHealthChecking => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy(_) => "unhealthy",
            Self::NotInUse => "unused",
        }
    }

    /// `TargetHealth.Reason`; a healthy target has none.
    pub(crate) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Registering => Some("Elb.RegistrationInProgress"),
            Self::InitialHealthChecking => Some("Elb.InitialHealthChecking"),
            Self::Healthy => None,
            Self::Unhealthy(Failure::ResponseCodeMismatch(_)) => {
                Some("Target.ResponseCodeMismatch")
            }
            Self::Unhealthy(Failure::Timeout) => Some("Target.Timeout"),
            Self::Unhealthy(Failure::FailedHealthChecks) => Some("Target.FailedHealthChecks"),
            Self::NotInUse => Some("Target.NotInUse"),
        }
    }

    /// `TargetHealth.Description`; a healthy target has none.
    pub(crate) fn description(self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::Registering => "Target registration is in progress".into(),
            Self::InitialHealthChecking => "Initial health checks in progress".into(),
            Self::Healthy => return None,
            Self::Unhealthy(Failure::ResponseCodeMismatch(code)) => {
                format!("Health checks failed with these codes: [{code}]").into()
            }
            Self::Unhealthy(Failure::Timeout) => "Request timed out".into(),
            Self::Unhealthy(Failure::FailedHealthChecks) => "Health checks failed".into(),
            Self::NotInUse => {
                "Target group is not configured to receive traffic from the load balancer".into()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FAILED: Outcome = Outcome::Failed(Failure::Timeout);

    fn after(outcomes: &[Outcome], thresholds: Thresholds) -> Health {
        outcomes
            .iter()
            .fold(Health::REGISTERED, |health, &outcome| {
                health.observe(outcome, thresholds)
            })
    }

    #[test]
    fn one_pass_makes_a_new_target_healthy() {
        let thresholds = Thresholds {
            healthy: 5,
            unhealthy: 2,
        };
        assert_eq!(
            after(&[], thresholds).state().reason(),
            Some("Elb.RegistrationInProgress")
        );
        assert!(after(&[Outcome::Passed], thresholds).is_healthy());
        let waiting = after(&[FAILED], thresholds);
        assert_eq!(waiting.state().reason(), Some("Elb.InitialHealthChecking"));
        assert!(after(&[FAILED, Outcome::Passed], thresholds).is_healthy());
        assert_eq!(
            after(&[FAILED, FAILED], thresholds).state(),
            State::Unhealthy(Failure::Timeout)
        );
    }

    #[test]
    fn the_newest_reason_is_shown_in_elbv2s_words() {
        let thresholds = Thresholds {
            healthy: 2,
            unhealthy: 2,
        };
        let mismatch = Outcome::Failed(Failure::ResponseCodeMismatch(503));
        let state = after(&[FAILED, FAILED, mismatch], thresholds).state();
        assert_eq!(
            (state.name(), state.reason()),
            ("unhealthy", Some("Target.ResponseCodeMismatch"))
        );
        assert_eq!(
            state.description().unwrap(),
            "Health checks failed with these codes: [503]"
        );
    }

    #[test]
    fn a_target_out_of_use_stays_so_whatever_a_late_probe_says() {
        let thresholds = Thresholds {
            healthy: 2,
            unhealthy: 2,
        };
        assert_eq!(
            Health::NOT_IN_USE.observe(Outcome::Passed, thresholds),
            Health::NOT_IN_USE
        );
    }

    /// Says it from the whole history instead of a count: a verdict stands until a run of the opposite is long enough.
    fn reference(history: &[bool], thresholds: Thresholds) -> Option<bool> {
        let mut verdict = None;
        for end in 1..=history.len() {
            let last = history[end - 1];
            let run = history[..end]
                .iter()
                .rev()
                .take_while(|&&passed| passed == last)
                .count();
            let needed = match (verdict, last) {
                (None, true) => 1,
                (_, true) => usize::from(thresholds.healthy),
                (_, false) => usize::from(thresholds.unhealthy),
            };
            if run >= needed {
                verdict = Some(last);
            }
        }
        verdict
    }

    proptest! {
        #[test]
        fn verdicts_turn_at_the_threshold_and_only_there(
            history in prop::collection::vec(any::<bool>(), 0..60),
            healthy in 2_u8..=10,
            unhealthy in 2_u8..=10,
        ) {
            let thresholds = Thresholds { healthy, unhealthy };
            let outcomes: Vec<_> = history.iter().map(|&passed| if passed { Outcome::Passed } else { FAILED }).collect();
            let expected = match reference(&history, thresholds) {
                Some(true) => "healthy",
                Some(false) => "unhealthy",
                None => "initial",
            };
            prop_assert_eq!(after(&outcomes, thresholds).state().name(), expected);
        }
    }
}
