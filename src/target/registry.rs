//! The live targets by group and key, across generations: keeps those that stay, with their health and their counts,
//! makes new ones, lets go of the others. Used by the controller alone. Never changes what is live before `commit`.

mod drain;
mod plan;

pub(crate) use drain::{Steered, Unknown};
pub(crate) use plan::Plan;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::drain::Drain;
use self::plan::PlannedGroup;
use super::checker::{self, Probe, Schedule};
use super::health::{Health, Usage};
use super::{Group, Target, TargetKey};
use crate::handover::KnownTarget;
use crate::model::{self, Config, TargetGroupName, TargetId};
use crate::upstream::resolve::{self, Resolver};
use crate::{tls, worker};

/// Every target group that runs, and every live target.
#[derive(Debug)]
pub(crate) struct Registry {
    workers: usize,
    resolver: Resolver,
    tasks: TaskTracker,
    /// Parent of what ends the tasks of each target.
    stop: CancellationToken,
    chance: fastrand::Rng,
    live: HashMap<TargetGroupName, Live>,
    /// Targets that are no more in the configuration and finish what they have.
    leaving: HashMap<TargetGroupName, Vec<Leaving>>,
    /// Targets that were taken out by hand; they stand in the configuration still, so this outlives its changes.
    drains: HashMap<TargetGroupName, HashMap<TargetKey, Drain>>,
    next_pool: u64,
    /// What another process knew of targets, for the first configuration.
    inherited: HashMap<KnownKey, KnownTarget>,
    /// For HTTPS probes; made when first needed.
    check_tls: Option<Arc<ClientConfig>>,
}

/// One group that runs.
#[derive(Debug)]
struct Live {
    group: Arc<Group>,
    /// `None` where its targets take clear text.
    tls: Option<tls::client::Settings>,
    targets: Vec<LiveTarget>,
}

/// A target of the configuration.
#[derive(Debug)]
struct LiveTarget {
    target: Arc<Target>,
    probe: Probe,
    care: Care,
}

/// The tasks that check a target and look its name up; they end when this is dropped.
#[derive(Debug)]
struct Care {
    _stop: Option<DropGuard>,
}

impl Care {
    const NONE: Self = Self { _stop: None };
}

/// A target that was taken out of its group and may finish what it has.
#[derive(Clone, Debug)]
pub(crate) struct Leaving {
    pub(crate) target: Arc<Target>,
    /// When its deregistration delay ends.
    pub(crate) until: Instant,
}

/// What a change did to requests in progress.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// Targets that leave now.
    pub(crate) left: Vec<Leaving>,
    /// Targets that are back before their time was over.
    pub(crate) back: Vec<Arc<Target>>,
}

impl Registry {
    /// Nothing runs yet; `workers` is how many threads will choose from the groups. Checks and look-ups become tasks
    /// of `tasks`; all end when the registry is stopped or dropped.
    pub(crate) fn new(workers: usize, tasks: TaskTracker, inherited: Vec<KnownTarget>) -> Self {
        Self {
            workers,
            resolver: Resolver::system(),
            tasks,
            stop: CancellationToken::new(),
            chance: fastrand::Rng::new(),
            live: HashMap::new(),
            leaving: HashMap::new(),
            drains: inherited_drains(&inherited, Instant::now()),
            next_pool: 0,
            inherited: inherited.into_iter().map(keyed).collect(),
            check_tls: None,
        }
    }

    /// The running groups in the order of the configuration.
    pub(crate) fn groups(&self, config: &Config) -> Vec<Arc<Group>> {
        let running = |settings: &model::TargetGroup| self.live.get(&settings.name);
        let running = config.target_groups.iter().filter_map(running);
        running.map(|live| Arc::clone(&live.group)).collect()
    }

    /// What is known of registered targets, for another process.
    pub(crate) fn known(&self, now: Instant) -> Vec<KnownTarget> {
        let drain = |group: &Group, key: &TargetKey| {
            let drain = self.drains.get(group.name())?.get(key)?;
            Some(drain.known(now))
        };
        let known = |group: &Group, target: &Target| KnownTarget {
            group: group.name().to_string(),
            id: target.key.id.to_string(),
            port: target.key.port,
            addresses: match target.key.id {
                TargetId::Address(_) => Vec::new(),
                TargetId::Name(_) => {
                    let addresses = target.upstream().addresses();
                    addresses.iter().map(|address| address.ip()).collect()
                }
            },
            health: target.health().known(now),
            drain: drain(group, &target.key),
        };
        let live = self.live.values();
        live.flat_map(|live| {
            let targets = live.targets.iter();
            targets.map(|one| known(&live.group, &one.target))
        })
        .collect()
    }

    /// Ends every check and look-up.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Runs what was planned; this cannot fail. Must be called on the control runtime, where checks and look-ups run.
    pub(crate) fn commit(&mut self, plan: Plan) -> Committed {
        self.commit_at(plan, Instant::now())
    }

    fn commit_at(&mut self, plan: Plan, now: Instant) -> Committed {
        self.inherited.clear();
        let mut before = std::mem::take(&mut self.live);
        let mut committed = Committed::default();
        for (name, planned) in plan.groups {
            let before = before.remove(&name);
            let live = self.commit_group(planned, before, &mut committed, now);
            self.live.insert(name, live);
        }
        for (name, live) in before {
            live.group.close();
            let drains = self.drains.remove(&name).unwrap_or_default();
            let gone = leave(&live.group, live.targets, &drains, now);
            committed.left.extend(gone.iter().cloned());
            self.leaving.entry(name).or_default().extend(gone);
        }
        // Another process may have had groups that are not here.
        self.drains.retain(|name, _| self.live.contains_key(name));
        committed
    }

    fn commit_group(
        &mut self,
        planned: PlannedGroup,
        before: Option<Live>,
        committed: &mut Committed,
        now: Instant,
    ) -> Live {
        let group = planned.group;
        let replaced = before
            .as_ref()
            .filter(|before| !Arc::ptr_eq(&before.group, &group));
        let same = before.is_some() && replaced.is_none();
        if let Some(replaced) = replaced {
            replaced.group.retire();
        }
        let mut known: HashMap<TargetKey, LiveTarget> = HashMap::new();
        for live in before.into_iter().flat_map(|before| before.targets) {
            known.insert(live.target.key.clone(), live);
        }
        let mut drains = self.drains.remove(group.name()).unwrap_or_default();
        let mut targets = Vec::with_capacity(planned.targets.len());
        for (target, probe) in planned.targets {
            worker::step_aside();
            let drain = drains.get(&target.key);
            if drain.is_none() {
                target.change_health(|health| health.placed(group.usage(), now));
                if target.outstanding.ends_at().is_some() {
                    target.outstanding.go_on();
                    committed.back.push(Arc::clone(&target));
                }
            }
            let care = match known.remove(&target.key) {
                Some(live) if same && Arc::ptr_eq(&live.target, &target) => live.care,
                _ => self.care_for(&group, &target, &probe, drain),
            };
            targets.push(LiveTarget {
                target,
                probe,
                care,
            });
        }
        let gone = leave(&group, known.into_values(), &drains, now);
        let stays: HashSet<&TargetKey> = targets.iter().map(|live| &live.target.key).collect();
        drains.retain(|key, _| stays.contains(key));
        let mut leaving = self.leaving.remove(group.name()).unwrap_or_default();
        leaving.retain(|leaving| !stays.contains(&leaving.target.key));
        leaving.extend(gone.iter().cloned());
        let registered = targets
            .iter()
            .map(|live| Arc::clone(&live.target))
            .collect();
        group.adopt(registered, leaving.clone());
        if !drains.is_empty() {
            self.drains.insert(group.name().clone(), drains);
        }
        if !leaving.is_empty() {
            self.leaving.insert(group.name().clone(), leaving);
        }
        committed.left.extend(gone);
        Live {
            group,
            tls: planned.tls,
            targets,
        }
    }

    /// Starts what a target needs: checks, and look-ups where it has a name. Nothing where no rule forwards to its group,
    /// or where it was taken out and has finished.
    fn care_for(
        &mut self,
        group: &Arc<Group>,
        target: &Arc<Target>,
        probe: &Probe,
        drain: Option<&Drain>,
    ) -> Care {
        if group.usage() == Usage::NotInUse || matches!(drain, Some(Drain::Over)) {
            return Care::NONE;
        }
        let stop = self.stop.child_token();
        if let TargetId::Name(name) = &target.key.id {
            let (resolver, name) = (self.resolver.clone(), Arc::clone(name));
            let (target, stop) = (Arc::clone(target), stop.clone());
            self.tasks.spawn(async move {
                let publish = |addresses: Vec<_>| target.set_addresses(&addresses);
                resolve::keep(&resolver, &name, publish, stop).await;
            });
        }
        let schedule = Schedule::draw(group.health_check().interval, &mut self.chance);
        let (group, target) = (Arc::clone(group), Arc::clone(target));
        let check = checker::run(group, target, probe.clone(), schedule, stop.clone());
        self.tasks.spawn(check);
        Care {
            _stop: Some(stop.drop_guard()),
        }
    }
}

/// Targets that were taken out by hand in another process.
fn inherited_drains(
    inherited: &[KnownTarget],
    now: Instant,
) -> HashMap<TargetGroupName, HashMap<TargetKey, Drain>> {
    let mut drains: HashMap<_, HashMap<_, _>> = HashMap::new();
    for known in inherited {
        let Some(drain) = &known.drain else { continue };
        let (Ok(group), Ok(id)) = (known.group.parse(), known.id.parse()) else {
            continue;
        };
        let key = TargetKey {
            id,
            port: known.port,
        };
        let drain = Drain::inherited(drain, now);
        drains.entry(group).or_default().insert(key, drain);
    }
    drains
}

/// Group, id and port, as another process wrote them.
type KnownKey = (String, String, u16);

fn keyed(known: KnownTarget) -> (KnownKey, KnownTarget) {
    let key = (known.group.clone(), known.id.clone(), known.port);
    (key, known)
}

/// Takes targets out of their group: no new requests from now on, and time to finish the others. What was taken out by
/// hand has begun to leave already.
fn leave(
    group: &Group,
    targets: impl IntoIterator<Item = LiveTarget>,
    drains: &HashMap<TargetKey, Drain>,
    now: Instant,
) -> Vec<Leaving> {
    let leave = |LiveTarget { target, .. }: LiveTarget| {
        let until = match drains.get(&target.key) {
            None => now + group.deregistration_delay(),
            Some(Drain::Until(until)) => *until,
            Some(Drain::Over) => return None,
        };
        target.change_health(Health::deregistered);
        target.outstanding.end_at(until);
        Some(Leaving { target, until })
    };
    targets.into_iter().filter_map(leave).collect()
}

#[cfg(test)]
mod tests;
