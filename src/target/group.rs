//! One target group: its targets, and the choice among them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::Target;
use super::health::{Outcome, State, Thresholds};
use super::members::Members;
use crate::message::Outstanding;
use crate::model::{self, TargetGroupName};
use crate::telemetry::GroupMetrics;
use crate::upstream::{PoolId, Upstream};

/// A target group of the running configuration.
#[derive(Debug)]
pub(crate) struct Group {
    pub(super) settings: model::TargetGroup,
    pub(super) targets: Vec<Arc<Target>>,
    pub(super) traffic: Traffic,
    members: ArcSwap<Members>,
    /// Held while members are rebuilt, so that an older view never replaces a newer one.
    rebuilding: Mutex<()>,
    cursors: Box<[Cursor]>,
    pub(crate) metrics: GroupMetrics,
}

/// Whether any rule sends requests to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    Some,
    None,
}

/// Where one worker's round stands. Written by that worker alone; on a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Cursor(AtomicU32);

impl Group {
    /// `start` gives each worker's cursor a place to begin, at random: workers that begin together stay together.
    pub(super) fn new(
        settings: model::TargetGroup,
        targets: Vec<Arc<Target>>,
        traffic: Traffic,
        workers: usize,
        metrics: GroupMetrics,
        mut start: impl FnMut() -> u32,
    ) -> Self {
        let members = ArcSwap::from_pointee(Members::of(&targets));
        let cursors = (0..workers)
            .map(|_| Cursor(AtomicU32::new(start())))
            .collect();
        let group = Self {
            settings,
            targets,
            traffic,
            members,
            rebuilding: Mutex::new(()),
            cursors,
            metrics,
        };
        group.report();
        group
    }

    pub(crate) fn name(&self) -> &TargetGroupName {
        &self.settings.name
    }

    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().map(|target| &**target)
    }

    /// The next target in turn that is not among `tried`; `None` when there is nobody to send to.
    pub(crate) fn pick(&self, worker: usize, tried: &[PoolId]) -> Option<Lease> {
        let members = self.members.load();
        let eligible = &members.eligible;
        let count = u32::try_from(eligible.len())
            .ok()
            .filter(|&count| count > 0)?;
        let cursor = &self.cursors[worker % self.cursors.len()].0;
        // Load and store instead of an atomic addition: nobody else writes here.
        let turn = cursor.load(Ordering::Relaxed);
        cursor.store(turn.wrapping_add(1), Ordering::Relaxed);
        let in_turn = |step: u32| &eligible[(turn.wrapping_add(step) % count) as usize];
        (0..count)
            .map(in_turn)
            .find(|target| !tried.contains(&target.pool()))
            .map(Lease::new)
    }

    /// Takes one probe's result into account.
    pub(super) fn observe(&self, target: &Arc<Target>, outcome: Outcome) {
        let thresholds = Thresholds {
            healthy: self.settings.health_check.healthy_threshold,
            unhealthy: self.settings.health_check.unhealthy_threshold,
        };
        let (before, after) = {
            let mut health = target.health();
            let before = *health;
            *health = before.observe(outcome, thresholds);
            (before, *health)
        };
        if before.state().name() != after.state().name() {
            log_change(self.name(), target, before.state(), after.state());
            self.rebuild();
        }
    }

    /// Tells the targets whether they are in use, and chooses from them from now on.
    pub(super) fn open(&self) {
        for target in &self.targets {
            target.set_traffic(self.traffic);
        }
        self.rebuild();
    }

    fn rebuild(&self) {
        let _alone = self
            .rebuilding
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.members.store(Arc::new(Members::of(&self.targets)));
        self.report();
    }

    fn report(&self) {
        let healthy = self
            .targets
            .iter()
            .filter(|target| target.health().is_healthy())
            .count();
        let unhealthy =
            |target: &&Arc<Target>| matches!(target.health().state(), State::Unhealthy(_));
        let unhealthy = self.targets.iter().filter(unhealthy).count();
        self.metrics.healthy.set(healthy as f64);
        self.metrics.unhealthy.set(unhealthy as f64);
    }
}

fn log_change(group: &TargetGroupName, target: &Target, from: State, to: State) {
    let reason = to.reason().unwrap_or("-");
    tracing::info!(%group, target = %target.key, from = from.name(), to = to.name(), reason, "target health changed");
}

/// A target borrowed for one request; its count of outstanding requests goes down when this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    target: Arc<Target>,
    outstanding: Outstanding,
}

impl Lease {
    fn new(target: &Arc<Target>) -> Self {
        Self {
            target: Arc::clone(target),
            outstanding: Outstanding::count(&target.outstanding),
        }
    }

    pub(crate) fn pool(&self) -> PoolId {
        self.target.pool()
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.target.upstream
    }

    /// The count alone, for an answer that is on its way.
    pub(crate) fn into_outstanding(self) -> Outstanding {
        self.outstanding
    }
}
