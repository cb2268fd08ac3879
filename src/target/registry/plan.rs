//! What a configuration makes of the groups and targets that live: which of them stay, and what is new. Never changes
//! what is live.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;

use super::Registry;
use super::drain::Drain;
use crate::handover::KnownTarget;
use crate::model::{
    self, Config, Protocol, ProxyProtocolVersion, TargetGroupName, TargetId, UpstreamTls,
};
use crate::target::checker::{self, Probe};
use crate::target::error::{Problem, Unusable};
use crate::target::health::{Health, Unused, Usage};
use crate::target::{Group, Target, TargetKey};
use crate::telemetry::Metrics;
use crate::upstream::{PoolId, Tls, Upstream};
use crate::{tls, worker};

/// The target groups of a configuration, ready to run. Dropping it changes nothing.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) groups: HashMap<TargetGroupName, PlannedGroup>,
}

#[derive(Debug)]
pub(super) struct PlannedGroup {
    pub(super) group: Arc<Group>,
    pub(super) tls: Option<tls::client::Settings>,
    pub(super) targets: Vec<(Arc<Target>, Probe)>,
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
    /// Makes everything that `commit` needs, and touches nothing that is live.
    ///
    /// # Errors
    /// When something that a group names cannot be used.
    pub(crate) fn plan(&mut self, config: &Config, metrics: &Metrics) -> Result<Plan, Unusable> {
        self.plan_at(config, metrics, Instant::now())
    }

    pub(super) fn plan_at(
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
