//! What happened when, as far as requests may notice. Decides whether it explains what became of one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::{Millis, now};
use crate::fault::{Fault, SETTLES};
use crate::ledger::{End, Story};
use crate::world::{Group, Place, TargetId};

/// How long checks take to see a fault: two of them, an interval and a timeout each, and a busy machine's slack.
pub(crate) const DETECTION: Millis = 2 * (1000 + 800) + 1500;

/// Everything that was done to the load balancer and to its targets.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Events>);

#[derive(Debug, Default)]
struct Events {
    faults: Vec<Trouble>,
    upgrades: Vec<Upgrade>,
    tables: Vec<Table>,
    absences: Vec<Absence>,
    certificates: Vec<Rotation>,
}

/// A fault of one target.
#[derive(Debug)]
struct Trouble {
    target: TargetId,
    fault: Fault,
    seen: SeenByChecks,
    began: Millis,
    ended: Option<Millis>,
}

/// Whether checks meet the fault that requests meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeenByChecks {
    Yes,
    No,
}

/// From the order to the end of the process that was replaced.
#[derive(Debug)]
struct Upgrade {
    asked: Millis,
    gone: Option<Millis>,
}

/// Where `/switch` leads, from when it may and when it must.
#[derive(Debug)]
struct Table {
    switch: Group,
    asked: Millis,
    acked: Option<Millis>,
}

/// A target that was taken out: it may get nothing from `acked` to `lifted`, and what it has may be ended.
#[derive(Debug)]
struct Absence {
    target: TargetId,
    asked: Millis,
    acked: Option<Millis>,
    lifted: Option<Millis>,
}

/// The certificate that new clients must see.
#[derive(Debug)]
struct Rotation {
    name: String,
    certificate: Vec<u8>,
    asked: Millis,
    acked: Option<Millis>,
}

/// What is thought of the end of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it should be.
    Whole,
    /// The client had its reasons, or the protocol has.
    Expected,
    Explained(&'static str),
    Violation(String),
}

/// What is wrong with the place where a request was executed.
#[derive(Debug)]
enum Misplaced {
    /// By the configuration of a process that was replaced before that changed.
    ByAnOldProcess,
    Wrongly(String),
}

impl History {
    pub(crate) fn fault_begins(&self, target: TargetId, fault: Fault, seen: SeenByChecks) {
        self.events().faults.push(Trouble {
            target,
            fault,
            seen,
            began: now(),
            ended: None,
        });
    }

    pub(crate) fn fault_ends(&self, target: TargetId) {
        let mut events = self.events();
        let open = events
            .faults
            .iter_mut()
            .rfind(|fault| fault.target == target);
        open.expect("it began").ended = Some(now());
    }

    pub(crate) fn upgrade_asked(&self) -> usize {
        let mut events = self.events();
        events.upgrades.push(Upgrade {
            asked: now(),
            gone: None,
        });
        events.upgrades.len() - 1
    }

    pub(crate) fn old_is_gone(&self, upgrade: usize) {
        self.events().upgrades[upgrade].gone = Some(now());
    }

    pub(crate) fn table_asked(&self, switch: Group) {
        self.events().tables.push(Table {
            switch,
            asked: now(),
            acked: None,
        });
    }

    pub(crate) fn table_acked(&self) {
        let mut events = self.events();
        events.tables.last_mut().expect("it was asked").acked = Some(now());
    }

    pub(crate) fn absence_asked(&self, target: TargetId) {
        self.events().absences.push(Absence {
            target,
            asked: now(),
            acked: None,
            lifted: None,
        });
    }

    pub(crate) fn absence_acked(&self, target: TargetId) {
        self.absence(target, |absence| absence.acked = Some(now()));
    }

    /// Before it is asked for.
    pub(crate) fn absence_lifted(&self, target: TargetId) {
        self.absence(target, |absence| absence.lifted = Some(now()));
    }

    fn absence(&self, target: TargetId, change: impl FnOnce(&mut Absence)) {
        let mut events = self.events();
        let known = events.absences.iter_mut().rfind(|one| one.target == target);
        change(known.expect("it was asked"));
    }

    pub(crate) fn certificate_asked(&self, name: &str, certificate: &[u8]) {
        self.events().certificates.push(Rotation {
            name: name.to_owned(),
            certificate: certificate.to_owned(),
            asked: now(),
            acked: None,
        });
    }

    pub(crate) fn certificates_acked(&self) {
        for rotation in &mut self.events().certificates {
            rotation.acked.get_or_insert_with(now);
        }
    }

    /// Whether this certificate may be shown by a handshake that took place between these moments.
    pub(crate) fn may_show(&self, name: &str, shown: &[u8], began: Millis, ended: Millis) -> bool {
        let events = self.events();
        let known: Vec<_> = events
            .certificates
            .iter()
            .filter(|one| one.name == name)
            .collect();
        known.iter().enumerate().any(|(index, rotation)| {
            let replaced = known.get(index + 1).and_then(|next| next.acked);
            rotation.certificate == shown
                && rotation.asked <= ended
                && replaced.is_none_or(|at| began <= at)
        })
    }

    /// What is to be thought of a request that has ended.
    pub(crate) fn judge(&self, story: &Story, end: &End, ended: Millis) -> Verdict {
        let events = self.events();
        let misplaced = events.misplaced(story, ended);
        if let Some(Misplaced::Wrongly(wrong)) = misplaced {
            return Verdict::Violation(wrong);
        }
        let executed = story.executions.len();
        match end {
            End::Wrong(what) => return Verdict::Violation(what.clone()),
            End::Unanswered | End::Behind if executed > 0 => {
                return Verdict::Violation(
                    "executed, and its client was left without a word".into(),
                );
            }
            End::Whole(target) if story.executions.last().map(|last| last.0) != Some(*target) => {
                let text = format!(
                    "answered by {}, which did not execute it last",
                    target.name()
                );
                return Verdict::Violation(text);
            }
            _ => {}
        }
        if executed > 1 && events.fault_that(story, ended, |_| true).is_none() {
            return Verdict::Violation(format!("executed {executed} times without a fault"));
        }
        match end {
            End::Whole(_) if misplaced.is_some() => {
                Verdict::Explained("upgrade, by what was in force before it")
            }
            End::Whole(_) => Verdict::Whole,
            End::Left | End::Behind => Verdict::Expected,
            End::Told if events.is_upgraded(story.began, ended) => {
                Verdict::Explained("upgrade, a WebSocket that was told to come back")
            }
            End::Told if events.is_taken_out(story, ended) => {
                Verdict::Explained("drain, a WebSocket that was told to come back")
            }
            _ => match events.fault_that(story, ended, |fault| fault.explains(end)) {
                Some(fault) => Verdict::Explained(fault.name()),
                None => Verdict::Violation(format!("ended as {end:?}, and nothing explains that")),
            },
        }
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events {
    /// Says whether a request was executed where it should not have been.
    fn misplaced(&self, story: &Story, ended: Millis) -> Option<Misplaced> {
        let mut found = None;
        for (target, at) in &story.executions {
            let group = target.group();
            let name = target.name();
            let (wrong, since) = match story.place {
                Place::Of(wanted) if group != wanted => {
                    return Some(Misplaced::Wrongly(format!("executed by {name}")));
                }
                Place::Switch => (self.left(group, story.began, ended), "the wrong group"),
                Place::Of(_) => (self.taken_out(*target, story.began, *at), "taken out"),
            };
            match wrong {
                None => {}
                Some(since) if self.is_served_by_old(since, story.began) => {
                    found = Some(Misplaced::ByAnOldProcess);
                }
                Some(_) => {
                    let text = format!("executed by {name}, which was {since}");
                    return Some(Misplaced::Wrongly(text));
                }
            }
        }
        found
    }

    /// Since when `/switch` leads to this group no more, if it led nowhere else during a request.
    fn left(&self, group: Group, began: Millis, ended: Millis) -> Option<Millis> {
        let mut since = 0;
        for (index, table) in self.tables.iter().enumerate() {
            let replaced = self.tables.get(index + 1).and_then(|next| next.acked);
            if table.switch != group || table.asked > ended {
                continue;
            }
            match replaced {
                Some(at) if at < began => since = at,
                _ => return None,
            }
        }
        Some(since)
    }

    /// Since when a target is out that was given a request that began later.
    fn taken_out(&self, target: TargetId, began: Millis, at: Millis) -> Option<Millis> {
        self.absences.iter().find_map(|absence| {
            let acked = absence.acked.filter(|acked| *acked < began)?;
            let is_out =
                absence.target == target && absence.lifted.is_none_or(|lifted| at < lifted);
            is_out.then_some(acked)
        })
    }

    /// Whether a process that was replaced before a change still served when a request began. A connection on which an
    /// answer was under way at the upgrade may carry one more request there, since nothing told its client to go.
    fn is_served_by_old(&self, changed: Millis, began: Millis) -> bool {
        self.upgrades.iter().any(|upgrade| {
            upgrade.asked <= changed && upgrade.gone.is_none_or(|gone| began <= gone)
        })
    }

    fn is_upgraded(&self, began: Millis, ended: Millis) -> bool {
        self.upgrades
            .iter()
            .any(|upgrade| upgrade.asked <= ended && upgrade.gone.is_none_or(|gone| began <= gone))
    }

    fn is_taken_out(&self, story: &Story, ended: Millis) -> bool {
        self.absences.iter().any(|absence| {
            let concerned = story
                .executions
                .iter()
                .any(|(target, _)| *target == absence.target);
            concerned && absence.asked <= ended && absence.asked >= story.began
        })
    }

    /// The fault that a request may have met, of those that `could` explain it.
    fn fault_that(
        &self,
        story: &Story,
        ended: Millis,
        could: impl Fn(Fault) -> bool,
    ) -> Option<Fault> {
        let Place::Of(group) = story.place else {
            return None;
        };
        let concerns = |trouble: &&Trouble| {
            let met = match story.executions.as_slice() {
                [] => trouble.target.group() == group,
                executions => executions
                    .iter()
                    .any(|(target, _)| *target == trouble.target),
            };
            met && trouble.may_touch(story.began, ended) && could(trouble.fault)
        };
        let found = self.faults.iter().rev().find(concerns);
        found.map(|trouble| trouble.fault)
    }
}

impl Trouble {
    fn may_touch(&self, began: Millis, ended: Millis) -> bool {
        let lasted = self.ended.unwrap_or(Millis::MAX - SETTLES);
        let until = match self.seen {
            SeenByChecks::Yes => lasted.min(self.began + self.fault.noticed_within(DETECTION)),
            SeenByChecks::No => match self.fault {
                Fault::Refuse => lasted.min(self.began),
                _ => lasted,
            },
        };
        ended >= self.began && began <= until + SETTLES
    }
}
