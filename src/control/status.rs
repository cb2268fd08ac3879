//! What is true now, in the words of the admin address (`GET /api/v1/status`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Running;
use crate::config::{Problem, Severity};
use crate::model::Generation;
use crate::target::Target;
use crate::telemetry::Outcome;

/// The state of a running load balancer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Number of the configuration that runs; the first is 1.
    pub generation: u64,
    /// In the order of the configuration.
    pub listeners: Vec<ListenerStatus>,
    /// In the order of the configuration.
    pub target_groups: Vec<GroupStatus>,
    /// What became of the newest change; none since the start.
    pub last_reload: Option<LastReload>,
}

/// What became of a change of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReload {
    /// `applied` or `refused`.
    pub outcome: String,
    /// The configuration that has run since.
    pub generation: u64,
    /// When it was, as RFC 3339 writes it.
    pub at: String,
    /// Why it was refused, or what is doubtful in what was applied.
    pub problems: Vec<ProblemStatus>,
}

/// One problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemStatus {
    /// `error` or `warning`.
    pub severity: String,
    /// The field, such as `listeners[0].rules[2].actions`.
    pub path: String,
    /// What is wrong, and how to mend it.
    pub message: String,
    /// Where it stands in the file; counts from 1.
    pub line: Option<usize>,
    /// Counts from 1.
    pub column: Option<usize>,
}

/// A target that was taken out or brought back by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteeredStatus {
    /// Its target group.
    pub group: String,
    /// What it is now.
    #[serde(flatten)]
    pub target: TargetStatus,
    /// What is doubtful about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl TargetStatus {
    /// Id and port as one text.
    pub(crate) fn address(&self) -> String {
        match self.id.contains(':') {
            // An IPv6 address: its port would read as one more group of digits.
            true => format!("[{}]:{}", self.id, self.port),
            false => format!("{}:{}", self.id, self.port),
        }
    }

    pub(super) fn of(target: &Target) -> Self {
        let state = target.state();
        Self {
            id: target.key.id.to_string(),
            port: target.key.port,
            state: state.name().into(),
            reason: state.reason().map(Into::into),
            description: state.description().map(Into::into),
            outstanding_requests: target.outstanding_requests(),
        }
    }
}

impl LastReload {
    pub(super) fn new(
        outcome: Outcome,
        generation: Generation,
        at: Timestamp,
        problems: &[Problem],
    ) -> Self {
        Self {
            outcome: outcome.as_str().to_owned(),
            generation: generation.0,
            at: format!("{at:.3}"),
            problems: problems.iter().map(ProblemStatus::from).collect(),
        }
    }
}

impl From<&Problem> for ProblemStatus {
    fn from(problem: &Problem) -> Self {
        let severity = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        Self {
            severity: severity.to_owned(),
            path: problem.path.clone(),
            message: format!("{}; {}", problem.message, problem.remedy),
            line: problem.place.as_ref().map(|place| place.line),
            column: problem.place.as_ref().map(|place| place.column),
        }
    }
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// The port that is bound.
    pub port: u16,
    /// `HTTP` or `HTTPS`.
    pub protocol: String,
    /// Client connections that are open.
    pub connections: usize,
}

/// One target group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Its name.
    pub name: String,
    /// In the order of the configuration.
    pub targets: Vec<TargetStatus>,
}

/// One target of a group (ELBv2 `TargetHealthDescription`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStatus {
    /// Address or name.
    pub id: String,
    /// The port that takes requests.
    pub port: u16,
    /// `initial`, `healthy`, `unhealthy`, `unused` or `draining`.
    pub state: String,
    /// ELBv2's reason code; none for a healthy target.
    pub reason: Option<String>,
    /// ELBv2's text for the reason.
    pub description: Option<String>,
    /// Requests in progress.
    pub outstanding_requests: u32,
}

pub(super) fn of(running: &Running, last_reload: Option<&LastReload>) -> Status {
    let listeners = running
        .listeners
        .iter()
        .map(|(open, protocol)| ListenerStatus {
            port: open.address.port(),
            protocol: protocol.to_string(),
            connections: open.connections(),
        });
    let groups = running.groups.iter().map(|group| GroupStatus {
        name: group.name().to_string(),
        targets: group
            .targets()
            .map(|target| TargetStatus::of(&target))
            .collect(),
    });
    Status {
        generation: running.generation.0,
        listeners: listeners.collect(),
        target_groups: groups.collect(),
        last_reload: last_reload.cloned(),
    }
}
