//! The live targets by group and key, across generations: keeps those that stay, with their health and their counts,
//! makes new ones, lets go of the others. Used by the controller alone. Never changes what is live before `commit`.

mod drain;

pub(crate) use drain::{Steered, Unknown};

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::drain::Drain;
use super::checker::{self, Probe, Schedule};
use super::error::{Problem, Unusable};
use super::health::{Health, Unused, Usage};
use super::{Group, Target, TargetKey};
use crate::handover::KnownTarget;
use crate::model::{
    self, Config, Protocol, ProxyProtocolVersion, TargetGroupName, TargetId, UpstreamTls,
};
use crate::telemetry::Metrics;
use crate::upstream::resolve::{self, Resolver};
use crate::upstream::{PoolId, Tls, Upstream};
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

/// The target groups of a configuration, ready to run. Dropping it changes nothing.
#[derive(Debug)]
pub(crate) struct Plan {
    groups: HashMap<TargetGroupName, PlannedGroup>,
}

#[derive(Debug)]
struct PlannedGroup {
    group: Arc<Group>,
    tls: Option<tls::client::Settings>,
    targets: Vec<(Arc<Target>, Probe)>,
}

impl Plan {
    /// The group of this name, for rules to point to.
    pub(crate) fn group(&self, name: &TargetGroupName) -> Option<Arc<Group>> {
        self.groups
            .get(name)
            .map(|planned| Arc::clone(&planned.group))
    }
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

    /// Makes everything that `commit` needs, and touches nothing that is live.
    ///
    /// # Errors
    /// When something that a group names cannot be used.
    pub(crate) fn plan(&mut self, config: &Config, metrics: &Metrics) -> Result<Plan, Unusable> {
        self.plan_at(config, metrics, Instant::now())
    }

    fn plan_at(
        &mut self,
        config: &Config,
        metrics: &Metrics,
        now: Instant,
    ) -> Result<Plan, Unusable> {
        let used = used_groups(config);
        let mut groups = HashMap::with_capacity(config.target_groups.len());
        for (index, settings) in config.target_groups.iter().enumerate() {
            let usage = match used.contains(&settings.name) {
                true => Usage::InUse,
                false => Usage::NotInUse,
            };
            let path = format!("target_groups[{index}]");
            let planned = self.plan_group(&path, settings, usage, metrics, now)?;
            groups.insert(settings.name.clone(), planned);
        }
        // A file is checked for this; what an embedding program makes may not be.
        if let Some(missing) = used.into_iter().find(|name| !groups.contains_key(*name)) {
            let problem = Problem::NoSuchGroup {
                name: missing.clone(),
            };
            return Err(Unusable::at("listeners".to_owned(), problem));
        }
        Ok(Plan { groups })
    }

    fn plan_group(
        &mut self,
        path: &str,
        settings: &model::TargetGroup,
        usage: Usage,
        metrics: &Metrics,
        now: Instant,
    ) -> Result<PlannedGroup, Unusable> {
        let check = &settings.health_check;
        let asked = asked_path(path, &check.path)?;
        let settings_of_tls = self.target_tls(path, settings)?;
        let tls = settings_of_tls.as_ref().map(|tls| Arc::clone(&tls.config));
        let check_tls = self.check_tls(path, check.protocol)?;
        let known = self.known_targets(&settings.name, now);
        let mut targets = Vec::with_capacity(settings.targets.len());
        let mut seen = HashSet::new();
        for (index, written) in settings.targets.iter().enumerate() {
            worker::step_aside();
            let key = TargetKey::of(written, settings.port);
            if !seen.insert(key.clone()) {
                // `10.0.0.1` and `10.0.0.1:80` are one target where the group's port is 80.
                continue;
            }
            let tls_toward = |config: &Option<Arc<ClientConfig>>| {
                tls_toward(&key.id, config.as_ref())
                    .map_err(|error| Unusable::at(format!("{path}.targets[{index}]"), error))
            };
            let port = check.port.resolve(key.port);
            let told = settings.proxy_protocol;
            let probe = Probe::new(asked.clone(), port, told, tls_toward(&check_tls)?);
            let target = match known.get(&key) {
                Some(target) if is_spoken_to(target, told, tls.as_ref()) => Arc::clone(target),
                known => {
                    let tls = tls_toward(&tls)?;
                    Arc::new(self.new_target(settings, key, known, tls, now))
                }
            };
            targets.push((target, probe));
        }
        let group = self.group(settings, usage, metrics);
        Ok(PlannedGroup {
            group,
            tls: settings_of_tls,
            targets,
        })
    }

    /// A group lives on while its settings stay; which targets it has is another matter.
    fn group(
        &mut self,
        settings: &model::TargetGroup,
        usage: Usage,
        metrics: &Metrics,
    ) -> Arc<Group> {
        let running = self.live.get(&settings.name).map(|live| &live.group);
        match running.filter(|group| group.runs(settings, usage)) {
            Some(group) => Arc::clone(group),
            None => {
                let group = Group::new(
                    settings,
                    usage,
                    self.workers,
                    metrics.group(&settings.name),
                    &mut self.chance,
                );
                Arc::new(group)
            }
        }
    }

    /// TLS settings are kept while they say the same and the bundle of roots holds the same, and connections with them.
    fn target_tls(
        &self,
        path: &str,
        settings: &model::TargetGroup,
    ) -> Result<Option<tls::client::Settings>, Unusable> {
        if settings.protocol == Protocol::Http {
            return Ok(None);
        }
        let running = self.live.get(&settings.name);
        let before = running.filter(|live| live.group.speaks(settings));
        let before = before.and_then(|live| live.tls.as_ref());
        tls::client::settings(&settings.tls, before)
            .map(Some)
            .map_err(|error| Unusable::at(format!("{path}.{}", tls_field(&settings.tls)), error))
    }

    /// ALB checks no certificate in a probe, so neither do we, not even where a request would.
    fn check_tls(
        &mut self,
        path: &str,
        protocol: Protocol,
    ) -> Result<Option<Arc<ClientConfig>>, Unusable> {
        if protocol == Protocol::Https && self.check_tls.is_none() {
            let made = tls::client::unverified();
            let path = || format!("{path}.health_check.protocol");
            self.check_tls = Some(made.map_err(|error| Unusable::at(path(), error))?);
        }
        Ok(self
            .check_tls
            .clone()
            .filter(|_| protocol == Protocol::Https))
    }

    /// Targets of a group that live on from before: registered ones, and those that drain, whose return ends that.
    fn known_targets(
        &self,
        group: &TargetGroupName,
        now: Instant,
    ) -> HashMap<TargetKey, Arc<Target>> {
        let leaving = self.leaving.get(group).into_iter().flatten();
        let leaving = leaving.filter(|leaving| now < leaving.until);
        let running = self.live.get(group).into_iter();
        let running = running
            .flat_map(|live| &live.targets)
            .map(|live| &live.target);
        let all = leaving.map(|leaving| &leaving.target).chain(running);
        all.map(|target| (target.key.clone(), Arc::clone(target)))
            .collect()
    }

    fn new_target(
        &mut self,
        settings: &model::TargetGroup,
        key: TargetKey,
        known: Option<&Arc<Target>>,
        tls: Option<Tls>,
        now: Instant,
    ) -> Target {
        let group = &settings.name;
        let inherited = self.inherited_target(group, &key);
        let addresses = match (known, &key.id, inherited) {
            (Some(known), ..) => known.upstream().addresses().to_vec(),
            (None, TargetId::Address(address), _) => vec![(*address, key.port).into()],
            // Its look-up starts with its checks.
            (None, TargetId::Name(_), None) => Vec::new(),
            (None, TargetId::Name(_), Some(inherited)) => {
                let addresses = inherited.addresses.iter();
                addresses.map(|ip| (*ip, key.port).into()).collect()
            }
        };
        let health = inherited.map_or_else(
            || Health::registered(now),
            |inherited| Health::inherited(&inherited.health, now),
        );
        let drain = self.drains.get(group).and_then(|drains| drains.get(&key));
        let (health, ends_at) = match drain {
            None => (health, None),
            Some(Drain::Until(until)) => (health.deregistered(), Some(*until)),
            Some(Drain::Over) => (Health::unused(Unused::NotRegistered, now), None),
        };
        let pool = PoolId(self.next_pool);
        let upstream = Upstream::new(pool, addresses, tls, settings.proxy_protocol);
        self.next_pool += 1;
        match known {
            Some(known) => known.with_upstream(upstream),
            None => {
                let target = Target::new(group, key, upstream, health);
                if let Some(ends_at) = ends_at {
                    target.outstanding.end_at(ends_at);
                }
                target
            }
        }
    }

    fn inherited_target(&self, group: &TargetGroupName, key: &TargetKey) -> Option<&KnownTarget> {
        let key = (group.to_string(), key.id.to_string(), key.port);
        self.inherited.get(&key)
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

/// The groups that any rule or default action forwards to.
fn used_groups(config: &Config) -> HashSet<&TargetGroupName> {
    let rules = config.listeners.iter().flat_map(|listener| &listener.rules);
    let defaults = config
        .listeners
        .iter()
        .map(|listener| &listener.default_actions);
    let actions = rules.map(|rule| &rule.actions).chain(defaults);
    let groups = actions.flat_map(|actions| match &actions.terminal {
        model::Action::Forward(forward) => &forward.target_groups[..],
        model::Action::FixedResponse(_) | model::Action::Redirect(_) => &[],
    });
    groups.map(|group| &group.name).collect()
}

fn asked_path(path: &str, asked: &str) -> Result<http::Uri, Unusable> {
    checker::path(asked).ok_or_else(|| {
        let problem = Problem::HealthCheckPath {
            path: asked.to_owned(),
        };
        Unusable::at(format!("{path}.health_check.path"), problem)
    })
}

/// The field that says how certificates of targets are checked.
fn tls_field(tls: &UpstreamTls) -> &'static str {
    match tls {
        UpstreamTls::Unverified => "protocol",
        UpstreamTls::Verified { .. } => "ca_file",
    }
}

fn tls_toward(
    id: &TargetId,
    config: Option<&Arc<ClientConfig>>,
) -> Result<Option<Tls>, tls::Error> {
    let Some(config) = config else {
        return Ok(None);
    };
    Ok(Some(Tls {
        config: Arc::clone(config),
        name: tls::client::server_name(id)?,
    }))
}

/// Whether a live target's connections are made with these settings.
fn is_spoken_to(
    target: &Target,
    told: Option<ProxyProtocolVersion>,
    tls: Option<&Arc<ClientConfig>>,
) -> bool {
    let same_tls = match (target.upstream().tls(), tls) {
        (None, None) => true,
        (Some(now), Some(wanted)) => Arc::ptr_eq(&now.config, wanted),
        (None, Some(_)) | (Some(_), None) => false,
    };
    same_tls && target.upstream().proxy_protocol() == told
}

#[cfg(test)]
mod tests;
