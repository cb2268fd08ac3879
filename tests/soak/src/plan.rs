//! What will be done, and when: all of it follows from the seed.

use crate::certificates::NAMES;
use crate::clock::Millis;
use crate::fault::Fault;
use crate::history::SeenByChecks;
use crate::world::{Group, TargetId};

/// The parts of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phases {
    /// Nothing happens yet.
    pub(crate) calm: Millis,
    /// Everything happens.
    pub(crate) upheaval: Millis,
    /// Everything but upgrades, so that one process shows what it holds in the long run.
    pub(crate) endurance: Millis,
}

impl Phases {
    pub(crate) fn of(minutes: f64) -> Self {
        let all = (minutes * 60_000.0) as Millis;
        let calm = (all * 3 / 20).min(120_000);
        let upheaval = all * 7 / 20;
        Self {
            calm,
            upheaval,
            endurance: all - calm - upheaval,
        }
    }

    pub(crate) fn whole(self) -> Millis {
        self.calm + self.upheaval + self.endurance
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// `/switch` leads to the other group, and every rule changes its place.
    Rules,
    /// A target leaves the file, or comes back.
    Remove(TargetId),
    Restore(TargetId),
    Drain(TargetId),
    Undrain(TargetId),
    Certificate(&'static str),
    /// A file that must be refused.
    Nonsense,
    Upgrade,
    Fault(TargetId, Fault, SeenByChecks),
    Recovery(TargetId),
}

/// Events in their order; each waits for the one before it.
pub(crate) type Track = Vec<(Millis, Event)>;

/// One track of changes, one of faults for each of two groups.
pub(crate) fn draw(seed: u64, phases: Phases) -> [Track; 3] {
    let mut random = fastrand::Rng::with_seed(seed);
    [
        changes(&mut random.fork(), phases),
        faults(&mut random.fork(), phases, Group::Stormy),
        faults(&mut random.fork(), phases, Group::Gusty),
    ]
}

fn changes(random: &mut fastrand::Rng, phases: Phases) -> Track {
    let mut track = Track::new();
    let moving: Vec<_> = Group::Moving.targets().collect();
    let (mut drained, mut removed) = (None, None);
    let mut at = phases.calm;
    let end = phases.whole().saturating_sub(2000);
    while at < end {
        let upgrades = at < phases.calm + phases.upheaval;
        let event = match random.u32(..100) {
            0..30 => Event::Rules,
            30..45 => match removed.take() {
                Some(target) => Event::Restore(target),
                None => Event::Remove(*removed.insert(moving[random.usize(2..4)])),
            },
            45..65 => match drained.take() {
                Some(target) => Event::Undrain(target),
                None => Event::Drain(*drained.insert(moving[random.usize(..2)])),
            },
            65..80 => Event::Certificate(NAMES[random.usize(..NAMES.len())]),
            80..88 => Event::Nonsense,
            _ if upgrades => Event::Upgrade,
            _ => Event::Rules,
        };
        track.push((at, event));
        at += random.u64(300..2500);
    }
    track
}

fn faults(random: &mut fastrand::Rng, phases: Phases, group: Group) -> Track {
    let mut track = Track::new();
    let targets: Vec<_> = group.targets().collect();
    let mut deck = Vec::new();
    let mut at = phases.calm + random.u64(..2000);
    let end = phases.whole().saturating_sub(2000);
    loop {
        if deck.is_empty() {
            deck = Fault::ALL.to_vec();
            random.shuffle(&mut deck);
        }
        let Some(fault) = deck.pop() else {
            return track;
        };
        let target = targets[random.usize(..targets.len())];
        let lasts = random.u64(2000..9000);
        if at + lasts > end {
            return track;
        }
        let seen = match fault {
            // Checks look at the status alone, or make no difference.
            Fault::ResetInBody
            | Fault::HalfCloseInBody
            | Fault::TooShort
            | Fault::TooLong
            | Fault::CloseUnannounced
            | Fault::Interim
            | Fault::Drip => SeenByChecks::No,
            Fault::Refuse | Fault::Stop | Fault::TakenOver => SeenByChecks::Yes,
            _ if random.u32(..10) < 3 => SeenByChecks::No,
            _ => SeenByChecks::Yes,
        };
        track.push((at, Event::Fault(target, fault, seen)));
        track.push((at + lasts, Event::Recovery(target)));
        // Long enough for checks to bring it back.
        at += lasts + random.u64(3000..5000);
    }
}

impl Event {
    pub(crate) fn shown(self) -> String {
        match self {
            Self::Rules => "reload: the rules move".into(),
            Self::Remove(target) => format!("reload: {} leaves", target.name()),
            Self::Restore(target) => format!("reload: {} is back", target.name()),
            Self::Drain(target) => format!("drain: {}", target.name()),
            Self::Undrain(target) => format!("undrain: {}", target.name()),
            Self::Certificate(name) => format!("reload: {name} has another certificate"),
            Self::Nonsense => "reload: nonsense".into(),
            Self::Upgrade => "upgrade".into(),
            Self::Fault(target, fault, SeenByChecks::Yes) => {
                format!("fault: {} {}", target.name(), fault.name())
            }
            Self::Fault(target, fault, SeenByChecks::No) => {
                format!("fault: {} {}, not to checks", target.name(), fault.name())
            }
            Self::Recovery(target) => format!("{} is well again", target.name()),
        }
    }
}
