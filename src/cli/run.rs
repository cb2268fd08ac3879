//! `albedo run`: serves a configuration in the foreground until a signal ends it.

use std::path::PathBuf;

use super::{Exit, config_file, exit_of, out};
use crate::telemetry::log;
use crate::{app, config};

pub(super) fn run(named: Option<PathBuf>) -> Exit {
    let Some(file) = config_file(named) else {
        return Exit::Refused;
    };
    let (config, warnings) = match config::read(&file) {
        Ok(read) => read,
        Err(problems) => {
            out::show(&format!("{}\n", problems.to_string().trim_end()));
            return Exit::Refused;
        }
    };
    log::start();
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    exit_of(app::run_until_signal(config, tell))
}

/// Says where requests are taken, now that they are.
fn tell(running: &app::Running) {
    for address in running.listeners() {
        tracing::info!("listening on {address}");
    }
    tracing::info!("admin address {}", running.admin());
}
