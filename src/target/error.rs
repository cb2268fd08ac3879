//! Why the target groups of a configuration cannot run; nothing was changed.

use crate::model::TargetGroupName;
use crate::tls;

/// A reason, and where in the configuration it lies.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub(crate) struct Unusable {
    /// As the configuration is written: `target_groups[2].tls`.
    pub(crate) path: String,
    pub(crate) problem: Problem,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("'{path}' cannot be asked for; write a path of visible ASCII that starts with '/'")]
    HealthCheckPath { path: String },
    #[error(
        "a rule forwards to target group '{name}', which does not exist; add it, or forward to another"
    )]
    NoSuchGroup { name: TargetGroupName },
}

impl Unusable {
    pub(super) fn at(path: String, problem: impl Into<Problem>) -> Self {
        Self {
            path,
            problem: problem.into(),
        }
    }
}
