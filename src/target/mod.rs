//! Who may answer: target groups, the health of each target in its group, and the choice among them. Never opens a
//! connection for a request: that is `upstream`.

mod checker;
mod group;
mod health;
mod members;
mod registry;

pub(crate) use group::{Group, Lease};
pub(crate) use registry::{Plan, Registry, Unusable};

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::message::OutstandingCount;
use crate::model::TargetId;
use crate::upstream::{PoolId, Upstream};
use group::Traffic;
use health::{Health, State};

/// What tells targets of a group apart (ELBv2: Id and Port).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TargetKey {
    pub(crate) id: TargetId,
    pub(crate) port: u16,
}

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            TargetId::Address(std::net::IpAddr::V6(address)) => {
                write!(f, "[{address}]:{}", self.port)
            }
            id => write!(f, "{id}:{}", self.port),
        }
    }
}

/// One target in a group. It lives on across generations for as long as its group lists it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) key: TargetKey,
    pub(crate) upstream: Upstream,
    outstanding: Arc<OutstandingCount>,
    /// Written by its checker, read when members are built and for status; no request looks here.
    health: Mutex<Health>,
}

impl Target {
    fn new(key: TargetKey, upstream: Upstream, health: Health) -> Self {
        Self {
            key,
            upstream,
            outstanding: Arc::default(),
            health: Mutex::new(health),
        }
    }

    pub(crate) fn state(&self) -> State {
        self.health().state()
    }

    /// Requests in progress.
    pub(crate) fn outstanding_requests(&self) -> u32 {
        self.outstanding.now()
    }

    /// Tells this target from every other that ever was.
    pub(crate) fn pool(&self) -> PoolId {
        self.upstream.pool()
    }

    /// A target whose group comes into use is registered anew.
    fn set_traffic(&self, traffic: Traffic) {
        let mut health = self.health();
        *health = match (traffic, health.state()) {
            (Traffic::None, _) => Health::NOT_IN_USE,
            (Traffic::Some, State::NotInUse) => Health::REGISTERED,
            (Traffic::Some, _) => *health,
        };
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // Whoever panicked while holding it left a whole value behind: it is replaced, never edited in parts.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
