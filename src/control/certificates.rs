//! What is wrong or doubtful about the certificates that a configuration names. Never changes what runs.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Controller;
use super::apply::halves;
use super::reload::log_problem;
use crate::config::{Problem, Severity};
use crate::model::Config;
use crate::tls;

/// Everything that would keep the files that a configuration names from being served, or is doubtful about them; the
/// places are unknown.
pub(crate) fn problems(config: &Config, now: Timestamp) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        for (place, certificate) in listener.certificates.iter().enumerate() {
            let path = format!("listeners[{index}].certificates[{place}]");
            match tls::server::examine(certificate, now) {
                Ok(doubts) => problems.extend(doubts.iter().map(|doubt| warning(&path, doubt))),
                Err(error) => problems.push(problem(Severity::Error, &path, &error)),
            }
        }
    }
    for (index, group) in config.target_groups.iter().enumerate() {
        if let Err(error) = tls::client::settings(&group.tls, None) {
            let path = format!("target_groups[{index}].ca_file");
            problems.push(problem(Severity::Error, &path, &error));
        }
    }
    problems
}

/// How often the log says what is doubtful, beside the start and each reload: one that ends is seen before it has.
const REMIND_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// When it is time to say it again.
#[derive(Debug)]
pub(super) struct Reminder {
    next: Instant,
}

impl Reminder {
    /// Due for the first time after `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next: now + REMIND_EVERY,
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + REMIND_EVERY;
        }
        due
    }
}

impl Controller {
    /// Says what is doubtful about the certificates that are served.
    pub(super) fn tell_doubts(&self, now: Timestamp) {
        for doubt in self.doubts(now) {
            log_problem(&self.placed(doubt));
        }
    }

    /// The same where it was not said for long.
    pub(super) fn remind(&mut self, now: Timestamp, clock: Instant) {
        if self.reminder.is_due(clock) {
            self.tell_doubts(now);
        }
    }

    /// What is doubtful about the certificates that are served.
    pub(super) fn doubts(&self, now: Timestamp) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (index, open) in self.listeners.open().iter().enumerate() {
            let settings = self.tls.get(&open.id);
            let doubts = settings
                .into_iter()
                .flat_map(|settings| settings.doubts(now));
            for (place, doubt) in doubts {
                let path = format!("listeners[{index}].certificates[{place}]");
                problems.push(warning(&path, &doubt));
            }
        }
        problems
    }
}

fn warning(path: &str, doubt: &tls::Doubt) -> Problem {
    problem(Severity::Warning, path, doubt)
}

fn problem(severity: Severity, path: &str, what: &impl ToString) -> Problem {
    let (message, remedy) = halves(what);
    Problem {
        severity,
        place: None,
        path: path.to_owned(),
        message,
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubts_are_told_once_a_day() {
        let start = Instant::now();
        let mut reminder = Reminder::new(start);
        let hours = |hours: u64| start + Duration::from_secs(60 * 60 * hours);
        let due = (0..24 * 5).filter(|hour| reminder.is_due(hours(*hour)));
        assert_eq!(due.collect::<Vec<_>>(), [24, 48, 72, 96]);
    }
}
