//! What is wrong or doubtful about the certificates that a configuration names. Never changes what runs.

use jiff::Timestamp;

use super::Controller;
use super::apply::halves;
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

impl Controller {
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
