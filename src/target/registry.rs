//! Live targets by identity across generations: what stays keeps its health and connections, what is new begins, what
//! is gone gets nothing more. Owned by the controller alone, so it needs no lock.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::group::Traffic;
use super::health::Health;
use super::{Group, Target, TargetKey, checker};
use crate::model::{self, Config, Protocol, TargetGroupName, TargetId, UpstreamTls};
use crate::telemetry::Metrics;
use crate::tls;
use crate::upstream::resolve::{self, Resolver};
use crate::upstream::{PoolId, Tls, Upstream};

/// Something a target group names that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("target_groups[{index}]: {error}")]
pub(crate) struct Unusable {
    pub(crate) index: usize,
    pub(crate) error: tls::Error,
}

/// The running groups and what keeps them running.
#[derive(Debug)]
pub(crate) struct Registry {
    groups: HashMap<TargetGroupName, Running>,
    resolver: Arc<Resolver>,
    tasks: TaskTracker,
    workers: usize,
    next_pool: u64,
}

#[derive(Debug)]
struct Running {
    group: Arc<Group>,
    /// Ends the group's checks and look-ups.
    stop: CancellationToken,
}

/// A configuration's groups, made but not running.
#[derive(Debug)]
pub(crate) struct Plan {
    groups: Vec<Planned>,
}

#[derive(Debug)]
struct Planned {
    group: Arc<Group>,
    /// `None` for a group that runs already and stays as it is.
    start: Option<Start>,
}

/// What a new group needs besides itself.
#[derive(Debug)]
struct Start {
    probe_tls: Option<Arc<rustls::ClientConfig>>,
}

impl Plan {
    /// The group of this name.
    pub(crate) fn group(&self, name: &TargetGroupName) -> Option<Arc<Group>> {
        self.groups
            .iter()
            .map(|planned| &planned.group)
            .find(|group| group.name() == name)
            .map(Arc::clone)
    }
}

impl Registry {
    /// A registry without groups; `workers` is how many threads will choose from them.
    pub(crate) fn new(workers: usize, tasks: TaskTracker) -> Self {
        let resolver = Arc::new(Resolver::system());
        Self {
            groups: HashMap::new(),
            resolver,
            tasks,
            workers,
            next_pool: 0,
        }
    }

    /// Makes the groups of a configuration around the targets that live. Touches nothing that runs.
    ///
    /// # Errors
    /// When a CA file cannot be used.
    pub(crate) fn plan(&mut self, config: &Config, metrics: &Metrics) -> Result<Plan, Unusable> {
        let used = used_groups(config);
        let mut groups = Vec::with_capacity(config.target_groups.len());
        for (index, settings) in config.target_groups.iter().enumerate() {
            let traffic = if used.contains(&settings.name) {
                Traffic::Some
            } else {
                Traffic::None
            };
            let planned = self
                .plan_group(settings, traffic, metrics)
                .map_err(|error| Unusable { index, error })?;
            groups.push(planned);
        }
        Ok(Plan { groups })
    }

    fn plan_group(
        &mut self,
        settings: &model::TargetGroup,
        traffic: Traffic,
        metrics: &Metrics,
    ) -> Result<Planned, tls::Error> {
        let known = self
            .groups
            .get(&settings.name)
            .map(|running| Arc::clone(&running.group));
        if let Some(group) = &known
            && group.settings == *settings
            && group.traffic == traffic
        {
            return Ok(Planned {
                group: Arc::clone(group),
                start: None,
            });
        }
        let tls = match settings.protocol {
            Protocol::Https => Some(tls::client::config(&settings.tls)?),
            Protocol::Http => None,
        };
        let probe_tls = match settings.health_check.protocol {
            // ALB never checks the certificate of a target that it probes.
            Protocol::Https => Some(tls::client::config(&UpstreamTls::Unverified)?),
            Protocol::Http => None,
        };
        let targets = settings
            .targets
            .iter()
            .map(|target| self.target(target, settings, known.as_deref(), tls.as_ref()))
            .collect::<Result<_, _>>()?;
        let metrics = metrics.group(&settings.name);
        let group = Group::new(
            settings.clone(),
            targets,
            traffic,
            self.workers,
            metrics,
            || fastrand::u32(..),
        );
        Ok(Planned {
            group: Arc::new(group),
            start: Some(Start { probe_tls }),
        })
    }

    /// The live target of this identity, or a new one. A target spoken to in another way is another target.
    fn target(
        &mut self,
        target: &model::Target,
        settings: &model::TargetGroup,
        known: Option<&Group>,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> Result<Arc<Target>, tls::Error> {
        let key = TargetKey {
            id: target.id.clone(),
            port: target.port.unwrap_or(settings.port),
        };
        let same_speech = |group: &&Group| {
            group.settings.protocol == settings.protocol && group.settings.tls == settings.tls
        };
        let live = known
            .filter(same_speech)
            .and_then(|group| group.targets.iter().find(|live| live.key == key));
        if let Some(live) = live {
            return Ok(Arc::clone(live));
        }
        let tls = match tls {
            Some(config) => Some(Tls {
                config: Arc::clone(config),
                name: tls::client::server_name(&target.id)?,
            }),
            None => None,
        };
        let addresses = match &target.id {
            TargetId::Address(address) => vec![SocketAddr::new(*address, key.port)],
            TargetId::Name(_) => Vec::new(),
        };
        self.next_pool += 1;
        let upstream = Upstream::new(PoolId(self.next_pool), addresses, tls);
        Ok(Arc::new(Target::new(key, upstream, Health::REGISTERED)))
    }

    /// Makes the plan the truth: groups that are gone or replaced stop their checks, new ones start theirs.
    pub(crate) fn commit(&mut self, plan: Plan) {
        let mut groups = HashMap::with_capacity(plan.groups.len());
        for Planned { group, start } in plan.groups {
            let name = group.name().clone();
            let running = match (start, self.groups.remove(&name)) {
                (None, Some(running)) => running,
                (start, replaced) => {
                    if let Some(replaced) = replaced {
                        replaced.stop.cancel();
                    }
                    let stop = CancellationToken::new();
                    group.open();
                    self.start(&group, start.and_then(|start| start.probe_tls), &stop);
                    Running { group, stop }
                }
            };
            groups.insert(name, running);
        }
        for gone in self.groups.values() {
            gone.stop.cancel();
        }
        self.groups = groups;
    }

    fn start(
        &self,
        group: &Arc<Group>,
        probe_tls: Option<Arc<rustls::ClientConfig>>,
        stop: &CancellationToken,
    ) {
        for target in &group.targets {
            if let TargetId::Name(name) = &target.key.id {
                self.tasks.spawn(look_up(
                    Arc::clone(&self.resolver),
                    Arc::clone(name),
                    Arc::clone(target),
                    stop.clone(),
                ));
            }
            if group.traffic == Traffic::Some {
                let tls = probe_tls.as_ref().and_then(|config| {
                    let name = tls::client::server_name(&target.key.id).ok()?;
                    Some(Tls {
                        config: Arc::clone(config),
                        name,
                    })
                });
                let check = checker::run(
                    Arc::clone(group),
                    Arc::clone(target),
                    tls,
                    fastrand::f64(),
                    stop.clone(),
                );
                self.tasks.spawn(check);
            }
        }
    }

    /// The running groups in the order of the configuration.
    pub(crate) fn groups(&self, config: &Config) -> Vec<Arc<Group>> {
        let group = |settings: &model::TargetGroup| {
            self.groups
                .get(&settings.name)
                .map(|r| Arc::clone(&r.group))
        };
        config.target_groups.iter().filter_map(group).collect()
    }

    /// Ends every check and look-up.
    pub(crate) fn stop(&self) {
        self.groups
            .values()
            .for_each(|running| running.stop.cancel());
    }
}

async fn look_up(
    resolver: Arc<Resolver>,
    name: Arc<str>,
    target: Arc<Target>,
    stop: CancellationToken,
) {
    let port = target.key.port;
    let publish = move |addresses: Vec<std::net::IpAddr>| {
        target.upstream.set_addresses(
            addresses
                .into_iter()
                .map(|ip| SocketAddr::new(ip, port))
                .collect(),
        );
    };
    resolve::keep(&resolver, &name, publish, stop).await;
}

/// Groups that some rule or default action names.
fn used_groups(config: &Config) -> HashSet<TargetGroupName> {
    let mut used = HashSet::new();
    for listener in &config.listeners {
        for actions in listener
            .rules
            .iter()
            .map(|rule| &rule.actions)
            .chain([&listener.default_actions])
        {
            if let model::Action::Forward(forward) = &actions.terminal {
                used.extend(forward.target_groups.iter().map(|group| group.name.clone()));
            }
        }
    }
    used
}
