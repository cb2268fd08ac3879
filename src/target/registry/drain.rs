//! Takes targets out of their groups by hand and brings them back, and ends every drain when its time is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Care, LiveTarget, Registry};
use crate::handover::KnownDrain;
use crate::model::{self, TargetGroupName, nearest, quoted};
use crate::target::health::{Health, Unused};
use crate::target::{Group, Target, TargetKey};

/// How far a target that was taken out by hand has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    /// It may finish what it has until then.
    Until(Instant),
    /// It has nothing any more, and is not checked.
    Over,
}

impl Drain {
    /// What the next process is told.
    pub(super) fn known(&self, now: Instant) -> KnownDrain {
        let left = match self {
            Self::Until(until) => until.saturating_duration_since(now).as_millis(),
            Self::Over => 0,
        };
        KnownDrain {
            milliseconds: left.try_into().unwrap_or(u64::MAX),
        }
    }

    pub(super) fn inherited(known: &KnownDrain, now: Instant) -> Self {
        let left = Duration::from_millis(known.milliseconds);
        match now.checked_add(left) {
            Some(until) if until > now => Self::Until(until),
            _ => Self::Over,
        }
    }
}

/// A target that was taken out or brought back, or already was.
#[derive(Debug)]
pub(crate) struct Steered {
    pub(crate) group: Arc<Group>,
    pub(crate) target: Arc<Target>,
    /// Targets of its group that nobody took out.
    pub(crate) remaining: usize,
}

/// Why no target was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unknown {
    #[error("target group {} does not exist{}", quoted(group), meant(suggestion))]
    Group {
        group: String,
        suggestion: Option<String>,
    },
    #[error(
        "target group '{group}' has no target {}{}",
        quoted(target),
        meant(suggestion)
    )]
    Target {
        group: TargetGroupName,
        target: String,
        suggestion: Option<String>,
    },
    #[error("target group '{group}' has several targets {}; name one of {}", quoted(target), candidates.join(", "))]
    Ambiguous {
        group: TargetGroupName,
        target: String,
        candidates: Vec<String>,
    },
}

fn meant(suggestion: &Option<String>) -> String {
    suggestion
        .as_ref()
        .map_or_else(String::new, |word| format!("; did you mean '{word}'?"))
}

impl Registry {
    /// Takes a target out: no new requests at once, and the group's deregistration delay for the others.
    ///
    /// # Errors
    /// When there is no such target, or more than one.
    pub(crate) fn drain(
        &mut self,
        group: &str,
        target: &str,
        now: Instant,
    ) -> Result<Steered, Unknown> {
        let (group, target) = self.find(group, target)?;
        let drains = self.drains.entry(group.name().clone()).or_default();
        if !drains.contains_key(&target.key) {
            let until = now + group.deregistration_delay();
            drains.insert(target.key.clone(), Drain::Until(until));
            target.outstanding.end_at(until);
            group.steer(&target, Health::deregistered);
        }
        Ok(self.steered(group, target))
    }

    /// Brings a target back that was taken out. One that still drains has been checked all the time; another one starts
    /// as if it were new.
    ///
    /// # Errors
    /// When there is no such target, or more than one.
    pub(crate) fn undrain(
        &mut self,
        group: &str,
        target: &str,
        now: Instant,
    ) -> Result<Steered, Unknown> {
        let (group, target) = self.find(group, target)?;
        let drains = self.drains.entry(group.name().clone()).or_default();
        let drain = drains.remove(&target.key);
        if drain.is_some() {
            target.outstanding.go_on();
        }
        match drain {
            None => {}
            Some(Drain::Until(_)) => {
                group.steer(&target, |health| {
                    health.restored().placed(group.usage(), now)
                });
            }
            Some(Drain::Over) => {
                group.steer(&target, |health| health.placed(group.usage(), now));
                self.care_again(&group, &target);
            }
        }
        Ok(self.steered(group, target))
    }

    /// When the next drain is over.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        let leaving = self.leaving.values().flatten();
        let leaving = leaving.map(|leaving| leaving.until);
        let drains = self.drains.values().flat_map(|drains| drains.values());
        let drains = drains.filter_map(|drain| match drain {
            Drain::Until(until) => Some(*until),
            Drain::Over => None,
        });
        leaving.chain(drains).min()
    }

    /// Ends the drains whose time is over. Gives their targets, so that whoever is still busy there can be told.
    pub(crate) fn end_drains(&mut self, now: Instant) -> Vec<Arc<Target>> {
        let mut ended = Vec::new();
        for (name, leaving) in &mut self.leaving {
            let gone = leaving.extract_if(.., |leaving| leaving.until <= now);
            let before = ended.len();
            ended.extend(gone.map(|gone| gone.target));
            if let Some(live) = self.live.get(name)
                && before < ended.len()
            {
                live.group.forget_left(now);
            }
        }
        self.leaving.retain(|_, leaving| !leaving.is_empty());
        for (name, drains) in &mut self.drains {
            let over = |drain: &Drain| matches!(drain, Drain::Until(until) if *until <= now);
            if !drains.values().any(over) {
                continue;
            }
            let live = self.live.get_mut(name);
            for live_target in live.into_iter().flat_map(|live| &mut live.targets) {
                let target = &live_target.target;
                let Some(drain) = drains.get_mut(&target.key).filter(|drain| over(drain)) else {
                    continue;
                };
                *drain = Drain::Over;
                live_target.care = Care::NONE;
                ended.push(Arc::clone(target));
            }
        }
        for target in &ended {
            target.change_health(|_| Health::unused(Unused::NotRegistered, now));
        }
        ended
    }

    fn find(&self, group: &str, target: &str) -> Result<(Arc<Group>, Arc<Target>), Unknown> {
        let named: Option<TargetGroupName> = group.parse().ok();
        let Some(live) = named.and_then(|name| self.live.get(&name)) else {
            let names = self.live.keys().map(TargetGroupName::as_str);
            return Err(Unknown::Group {
                group: group.to_owned(),
                suggestion: nearest(group, names).map(str::to_owned),
            });
        };
        let all = || live.targets.iter().map(|live| &live.target);
        let named: Option<model::Target> = target.parse().ok();
        let fits = |key: &TargetKey| {
            let fits = |named: &model::Target| {
                named.id == key.id && named.port.is_none_or(|port| port == key.port)
            };
            named.as_ref().is_some_and(fits)
        };
        let found: Vec<_> = all().filter(|target| fits(&target.key)).collect();
        let group = live.group.name().clone();
        match found[..] {
            [found] => Ok((Arc::clone(&live.group), Arc::clone(found))),
            [] => {
                let keys: Vec<String> = all().map(|target| target.key.to_string()).collect();
                let suggestion = nearest(target, keys.iter().map(String::as_str));
                Err(Unknown::Target {
                    group,
                    suggestion: suggestion.map(str::to_owned),
                    target: target.to_owned(),
                })
            }
            _ => Err(Unknown::Ambiguous {
                group,
                target: target.to_owned(),
                candidates: found.iter().map(|found| found.key.to_string()).collect(),
            }),
        }
    }

    fn care_again(&mut self, group: &Arc<Group>, target: &Arc<Target>) {
        let probe = self
            .live_target(group, target)
            .map(|live| live.probe.clone());
        let Some(probe) = probe else { return };
        let care = self.care_for(group, target, &probe, None);
        if let Some(live) = self.live_target(group, target) {
            live.care = care;
        }
    }

    fn live_target(&mut self, group: &Group, target: &Target) -> Option<&mut LiveTarget> {
        let live = self.live.get_mut(group.name())?;
        let mut targets = live.targets.iter_mut();
        targets.find(|live| live.target.key == target.key)
    }

    fn steered(&self, group: Arc<Group>, target: Arc<Target>) -> Steered {
        let all = self
            .live
            .get(group.name())
            .map_or(0, |live| live.targets.len());
        let drained = self
            .drains
            .get(group.name())
            .map_or(0, |drains| drains.len());
        Steered {
            group,
            target,
            remaining: all - drained,
        }
    }
}
