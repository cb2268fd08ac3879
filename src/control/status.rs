//! What is true now, in the words of the admin address (`GET /api/v1/status`).

use serde::{Deserialize, Serialize};

use super::Running;

/// The state of a running load balancer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Number of the configuration that runs; the first is 1.
    pub generation: u64,
    /// In the order of the configuration.
    pub listeners: Vec<ListenerStatus>,
    /// In the order of the configuration.
    pub target_groups: Vec<GroupStatus>,
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

pub(super) fn of(running: &Running) -> Status {
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
            .map(|target| {
                let state = target.state();
                TargetStatus {
                    id: target.key.id.to_string(),
                    port: target.key.port,
                    state: state.name().into(),
                    reason: state.reason().map(Into::into),
                    description: state.description().map(Into::into),
                    outstanding_requests: target.outstanding_requests(),
                }
            })
            .collect(),
    });
    Status {
        generation: running.generation.0,
        listeners: listeners.collect(),
        target_groups: groups.collect(),
    }
}
