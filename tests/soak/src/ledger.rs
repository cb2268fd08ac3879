//! The ledger: what was asked, who executed it, how it ended, what the access log says of it. Every entry must agree.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::{Millis, now, shown};
use crate::history::{History, Verdict};
use crate::world::{Place, TargetId};

/// Entries are kept in so many parts, each with a lock of its own.
const PARTS: usize = 32;

/// Violations that are told in full.
const TOLD_MAX: usize = 25;

/// A request's number.
pub(crate) type Id = u64;

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) what: What,
    pub(crate) way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum What {
    Get,
    Put,
    Post,
    /// Server-sent events.
    Events,
    /// An answer that lets wait.
    Poll,
    /// A WebSocket.
    Socket,
    /// A client that goes away amid its request.
    Leaver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Way {
    Http1,
    Http1Tls,
    Http2,
}

impl What {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Events => "events",
            Self::Poll => "long poll",
            Self::Socket => "WebSocket",
            Self::Leaver => "leaver",
        }
    }
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http1Tls => "HTTP/1.1 TLS",
            Self::Http2 => "HTTP/2",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.what.name(), self.way.name())
    }
}

/// Whether a request may be executed twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeats {
    Allowed,
    Forbidden,
}

/// How a request ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Answered whole, every byte right, by this target.
    Whole(TargetId),
    /// The load balancer's own answer.
    Refused(u16),
    /// The target's own 500.
    TargetFailed,
    /// The answer, or the connection, broke off.
    Broken(String),
    /// Somebody answered who is none of the targets.
    Stranger,
    /// An answer that is not right.
    Wrong(String),
    /// The connection ended before a byte of the answer.
    Unanswered,
    /// Not looked at, on a connection that was told before that it ends.
    Behind,
    /// A WebSocket that was told to come back.
    Told,
    /// The client went away.
    Left,
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    pub(crate) began: Millis,
    pub(crate) executions: Vec<(TargetId, Millis)>,
}

/// What is remembered of every request to the end.
#[derive(Clone, Copy, Default)]
struct Mark {
    executed: u8,
    ended: u8,
    logged: u8,
    flags: u8,
    /// What the client saw and what the log has, 0 where there is none.
    seen: u16,
    written: u16,
}

const ONCE: u8 = 1;
const NEVER: u8 = 2;
/// The load balancer certainly knew of it.
const KNOWN: u8 = 4;

#[derive(Default)]
struct Part {
    open: HashMap<Id, Story>,
    marks: Vec<Mark>,
}

#[derive(Default)]
pub(crate) struct Ledger {
    parts: [Mutex<Part>; PARTS],
    next: AtomicU64,
    stopping: AtomicBool,
    pub(crate) history: History,
    pub(crate) sums: Mutex<Sums>,
}

/// What is told at the end.
#[derive(Default)]
pub(crate) struct Sums {
    pub(crate) kinds: BTreeMap<Kind, u64>,
    pub(crate) ends: BTreeMap<&'static str, u64>,
    pub(crate) explained: BTreeMap<&'static str, u64>,
    pub(crate) repeated: u64,
    pub(crate) lost: u64,
    violations: Vec<String>,
    /// Milliseconds of GETs to the group that nothing happens to, by phase.
    pub(crate) calm: BTreeMap<&'static str, Vec<u32>>,
    phase: &'static str,
    pub(crate) notes: BTreeMap<&'static str, u64>,
    pub(crate) slowest_event: u64,
}

impl Ledger {
    /// A request is about to be sent.
    pub(crate) fn begin(&self, place: Place, kind: Kind, repeats: Repeats) -> Id {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let story = Story {
            place,
            kind,
            began: now(),
            executions: Vec::new(),
        };
        let mut part = self.part(id);
        part.open.insert(id, story);
        if repeats == Repeats::Forbidden {
            part.mark(id).flags |= ONCE;
        }
        id
    }

    /// A target has read the head of it.
    pub(crate) fn arrived(&self, id: Id, target: TargetId) {
        if id >= self.next.load(Ordering::Relaxed) {
            return self.violation(format!("{}: id {id} was never sent", target.name()));
        }
        let mut part = self.part(id);
        if let Some(story) = part.open.get_mut(&id) {
            story.executions.push((target, now()));
        }
        let story = part.open.get(&id).map(|story| format!("{story:?}"));
        let mark = part.mark(id);
        mark.executed = mark.executed.saturating_add(1);
        let wrong = if mark.flags & NEVER != 0 {
            "executed after its client was left without a word"
        } else if mark.flags & ONCE != 0 && mark.executed > 1 {
            "executed twice, though that is forbidden"
        } else {
            return;
        };
        drop(part);
        let at = shown(now());
        self.violation(format!(
            "id {id}: {wrong}, at {at} by {}: {story:?}",
            target.name()
        ));
    }

    /// A request ended for its client.
    pub(crate) fn end(&self, id: Id, end: End) {
        let ended = now();
        let mut part = self.part(id);
        let mark = part.mark(id);
        mark.ended = mark.ended.saturating_add(1);
        match &end {
            End::Whole(_) => (mark.seen, mark.flags) = (200, mark.flags | KNOWN),
            End::Refused(status) => (mark.seen, mark.flags) = (*status, mark.flags | KNOWN),
            End::Unanswered | End::Behind => mark.flags |= NEVER,
            _ => {}
        }
        let Some(story) = part.open.remove(&id) else {
            drop(part);
            return self.violation(format!("id {id} ended twice, at last as {end:?}"));
        };
        drop(part);
        let verdict = self.history.judge(&story, &end, ended);
        let mut sums = self.sums();
        *sums.kinds.entry(story.kind).or_default() += 1;
        sums.repeated += u64::from(story.executions.len() > 1);
        let ends = match &verdict {
            Verdict::Whole => "whole",
            Verdict::Expected => "not asked to the end",
            Verdict::Explained(_) => "explained by a fault",
            Verdict::Violation(_) => "lost",
        };
        *sums.ends.entry(ends).or_default() += 1;
        match verdict {
            Verdict::Whole => {
                if story.kind.what == What::Get
                    && story.place == Place::Of(crate::world::Group::Calm)
                {
                    let phase = sums.phase;
                    let took = u32::try_from(ended - story.began).unwrap_or(u32::MAX);
                    sums.calm.entry(phase).or_default().push(took);
                }
            }
            Verdict::Expected => {}
            Verdict::Explained(why) => *sums.explained.entry(why).or_default() += 1,
            Verdict::Violation(what) => {
                sums.lost += 1;
                let executions: Vec<_> = story
                    .executions
                    .iter()
                    .map(|(target, at)| format!("executed by {} at {}", target.name(), shown(*at)))
                    .collect();
                let text = format!(
                    "id {id}, {} to /{}: {what}; asked at {}, {}, ended at {} as {end:?}",
                    story.kind,
                    story.place.name(),
                    shown(story.began),
                    if executions.is_empty() {
                        "never executed".to_owned()
                    } else {
                        executions.join(", ")
                    },
                    shown(ended),
                );
                drop(sums);
                self.violation(text);
            }
        }
    }

    /// The access log has a line of it.
    pub(crate) fn logged(&self, id: Id, status: u16) {
        if id >= self.next.load(Ordering::Relaxed) {
            return self.violation(format!("the access log has id {id}, which was never sent"));
        }
        let mut part = self.part(id);
        let mark = part.mark(id);
        mark.logged = mark.logged.saturating_add(1);
        mark.written = status;
    }

    /// Something that must not be.
    pub(crate) fn violation(&self, text: String) {
        let mut sums = self.sums();
        if sums.violations.len() < 10 {
            println!("FAIL at {}: {text}", shown(now()));
        }
        sums.violations.push(text);
    }

    /// Something worth to be counted.
    pub(crate) fn note(&self, what: &'static str, count: u64) {
        *self.sums().notes.entry(what).or_default() += count;
    }

    pub(crate) fn begins(&self, phase: &'static str) {
        self.sums().phase = phase;
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Requests that have begun.
    pub(crate) fn begun(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Requests whose line the log has.
    pub(crate) fn lines(&self) -> u64 {
        let mut lines = 0;
        for part in &self.parts {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            lines += part.marks.iter().filter(|mark| mark.logged > 0).count() as u64;
        }
        lines
    }

    /// Compares what targets, clients and the access log say of every request, once all has ended.
    pub(crate) fn close(&self) {
        let (mut missing, mut twice, mut differ) = (Vec::new(), Vec::new(), Vec::new());
        for id in 0..self.begun() {
            let mark = *self.part(id).mark(id);
            if mark.ended != 1 {
                self.violation(format!("id {id} ended {} times", mark.ended));
            }
            if mark.flags & NEVER != 0 && mark.executed > 0 {
                self.violation(format!("id {id} was executed and never answered"));
            }
            match mark.logged {
                0 if mark.flags & KNOWN != 0 || mark.executed > 0 => missing.push(id),
                0 | 1 => {}
                _ => twice.push(id),
            }
            if mark.logged == 1
                && mark.seen != 0
                && mark.seen != mark.written
                && mark.written != 101
            {
                differ.push((id, mark.seen, mark.written));
            }
        }
        let first = |ids: &[Id]| format!("{:?}", &ids[..ids.len().min(5)]);
        if !missing.is_empty() {
            self.violation(format!(
                "{} requests are not in the access log, such as {}",
                missing.len(),
                first(&missing)
            ));
        }
        if !twice.is_empty() {
            self.violation(format!(
                "{} requests are in the access log twice, such as {}",
                twice.len(),
                first(&twice)
            ));
        }
        if !differ.is_empty() {
            let shown = &differ[..differ.len().min(5)];
            self.violation(format!(
                "{} requests have another status in the access log: {shown:?}",
                differ.len()
            ));
        }
    }

    /// What must not have been, in full as far as anybody reads.
    pub(crate) fn violations(&self) -> (usize, Vec<String>) {
        let sums = self.sums();
        let told = sums.violations.iter().take(TOLD_MAX).cloned().collect();
        (sums.violations.len(), told)
    }

    pub(crate) fn sums(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part(&self, id: Id) -> MutexGuard<'_, Part> {
        let part = &self.parts[id as usize % PARTS];
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    fn mark(&mut self, id: Id) -> &mut Mark {
        let index = id as usize / PARTS;
        if self.marks.len() <= index {
            self.marks.resize(index + 1, Mark::default());
        }
        &mut self.marks[index]
    }
}
