//! Who may answer: target groups, the health of their targets, the choice among them. Never opens a connection for a
//! request (that is `upstream`), never knows rules or listeners.

mod checker;
mod error;
mod group;
mod health;
mod lease;
mod members;
mod registry;
pub(crate) mod stickiness;

pub(crate) use error::Unusable;
pub(crate) use group::Group;
pub(crate) use lease::Lease;
pub(crate) use registry::{Plan, Registry, Steered, Unknown};

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::message::OutstandingCount;
use crate::model::{self, TargetGroupName, TargetId};
use crate::upstream::{PoolId, Upstream};
use health::{Health, State};
use stickiness::Mark;

/// What tells the targets of a group apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TargetKey {
    pub(crate) id: TargetId,
    pub(crate) port: u16,
}

impl TargetKey {
    /// The key of a target as written; the group's port is that of targets that name none.
    pub(crate) fn of(target: &model::Target, group_port: u16) -> Self {
        Self {
            id: target.id.clone(),
            port: target.port.unwrap_or(group_port),
        }
    }
}

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            TargetId::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
            TargetId::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// One live target of one group. It outlives configurations for as long as its key stays in its group, and its last
/// requests after that.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) key: TargetKey,
    upstream: Upstream,
    outstanding: Arc<OutstandingCount>,
    /// Written by its checker and when it comes and goes; nobody on the path of a request looks.
    health: Mutex<Health>,
    /// Names this target in a stickiness cookie.
    mark: Mark,
    /// Tells a checker that waits for it that the name has addresses now.
    found: Notify,
}

impl Target {
    pub(crate) fn new(
        group: &TargetGroupName,
        key: TargetKey,
        upstream: Upstream,
        health: Health,
    ) -> Self {
        Self {
            mark: Mark::of(group, &key),
            key,
            upstream,
            outstanding: Arc::default(),
            health: Mutex::new(health),
            found: Notify::new(),
        }
    }

    /// The same target spoken to in another way: its health and its count stay, its connections do not.
    fn with_upstream(&self, upstream: Upstream) -> Self {
        Self {
            key: self.key.clone(),
            upstream,
            outstanding: Arc::clone(&self.outstanding),
            health: Mutex::new(self.health()),
            mark: self.mark,
            found: Notify::new(),
        }
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Tells this target's connections from those of every other that ever was.
    pub(crate) fn pool(&self) -> PoolId {
        self.upstream.pool()
    }

    /// Requests in progress.
    pub(crate) fn outstanding_requests(&self) -> u32 {
        self.outstanding.now()
    }

    /// What it is, as ELBv2 tells it.
    pub(crate) fn state(&self) -> State {
        self.health().current()
    }

    /// Its health at this moment.
    pub(crate) fn health(&self) -> Health {
        *self.lock_health()
    }

    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Where its name leads now.
    fn set_addresses(&self, addresses: &[IpAddr]) {
        let port = self.key.port;
        let addresses = addresses.iter().map(|ip| SocketAddr::new(*ip, port));
        self.upstream.set_addresses(addresses.collect());
        self.found.notify_one();
    }

    /// Its addresses, as soon as there are any.
    async fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        loop {
            let addresses = self.upstream.addresses();
            if !addresses.is_empty() {
                return addresses;
            }
            // `notify_one` keeps its permit when nobody waits yet, so addresses found right now are not missed.
            self.found.notified().await;
        }
    }

    /// Replaces the health by what `change` makes of it.
    fn change_health(&self, change: impl FnOnce(Health) -> Health) -> Change {
        let mut health = self.lock_health();
        let before = *health;
        *health = change(before);
        Change {
            from: before.current(),
            to: health.current(),
        }
    }

    fn lock_health(&self) -> MutexGuard<'_, Health> {
        // Health is replaced in one step, so it is whole even if a thread died here.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a result did to a target's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    from: State,
    to: State,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_an_address_with_its_port() {
        for (text, shown) in [
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[::1]:81", "[::1]:81"),
            ("Node.Example", "node.example:8011"),
        ] {
            let target: model::Target = text.parse().unwrap();
            assert_eq!(TargetKey::of(&target, 8011).to_string(), shown);
        }
    }
}
