//! What we tell the operator: metrics, the access log, our own log. Never decides anything, and never makes a
//! request wait.

mod access_log;
pub(crate) mod log;
mod metrics;
mod record;
mod tally;

pub(crate) use access_log::{AccessLog, Writer};
pub(crate) use metrics::{
    GroupMetrics, ListenerMetrics, Metrics, Outcome, ProcessMetrics, ReloadMetrics,
};
pub(crate) use record::target_group_arn;
