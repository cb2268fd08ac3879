//! What the types cannot say: ranges, references, and things that do not go together. Looks at a whole
//! configuration, from a file or from an embedding program, and finds everything. Never changes it.

mod action;
mod listener;
mod load_balancer;
mod rule;
mod shadow;
mod target_group;

use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::field_path::FieldPath;
use super::not_served;
use super::problem::Severity;
use crate::model::{Config, duration};

/// Something wrong or doubtful, and the fields that say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) path: FieldPath,
    pub(super) message: String,
    pub(super) remedy: String,
    /// What the finding was drawn from. When one of these could not be read, it was drawn from a stand-in and means
    /// nothing.
    rests_on: Vec<FieldPath>,
}

impl Finding {
    /// Names what else it was drawn from.
    fn rests_on(&mut self, paths: impl IntoIterator<Item = FieldPath>) {
        self.rests_on.extend(paths);
    }
}

/// Where a configuration holds something else than its file says.
#[derive(Debug, Default)]
pub(super) struct StandIns {
    paths: HashSet<FieldPath>,
    /// Whatever holds one of `paths`.
    above: HashSet<FieldPath>,
}

impl StandIns {
    pub(super) fn new(paths: Vec<FieldPath>) -> Self {
        let ancestors = |path: &FieldPath| std::iter::successors(path.parent(), FieldPath::parent);
        Self {
            above: paths.iter().flat_map(ancestors).collect(),
            paths: paths.into_iter().collect(),
        }
    }

    /// Whether a finding was drawn from something at, above or below one of them.
    pub(super) fn touch(&self, finding: &Finding) -> bool {
        finding.rests_on.iter().any(|ground| {
            let mut upwards = std::iter::successors(Some(ground.clone()), FieldPath::parent);
            self.above.contains(ground) || upwards.any(|path| self.paths.contains(&path))
        })
    }
}

/// What the checks have found so far.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    /// Refuses the configuration.
    pub(super) fn error(
        &mut self,
        path: &FieldPath,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> &mut Finding {
        self.push(Severity::Error, path, message.into(), remedy.into())
    }

    /// Takes it, but says so.
    pub(super) fn warning(
        &mut self,
        path: &FieldPath,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> &mut Finding {
        self.push(Severity::Warning, path, message.into(), remedy.into())
    }

    fn push(
        &mut self,
        severity: Severity,
        path: &FieldPath,
        message: String,
        remedy: String,
    ) -> &mut Finding {
        self.0.push_mut(Finding {
            severity,
            path: path.clone(),
            message,
            remedy,
            rests_on: vec![path.clone()],
        })
    }

    fn duration(&mut self, path: &FieldPath, value: Duration, range: &RangeInclusive<Duration>) {
        if !range.contains(&value) {
            let (low, high) = (
                duration::format(*range.start()),
                duration::format(*range.end()),
            );
            let message = format!("'{}' is out of range", duration::format(value));
            self.error(path, message, format!("write {low} to {high}"));
        }
    }

    fn number<T: PartialOrd + fmt::Display>(
        &mut self,
        path: &FieldPath,
        value: T,
        range: &RangeInclusive<T>,
    ) {
        if !range.contains(&value) {
            let remedy = format!("write {} to {}", range.start(), range.end());
            self.error(path, format!("'{value}' is out of range"), remedy);
        }
    }
}

/// Everything that is wrong or doubtful in a configuration whose leaves are good.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = Findings::default();
    load_balancer::check(config, &mut findings);
    listener::check(config, &mut findings);
    target_group::check(config, &mut findings);
    not_served::check(config, &mut findings);
    findings.0
}
