//! `albedo run`: serves a configuration in the foreground until a signal ends it.

use std::path::PathBuf;

use super::{Exit, config_file, exit_of};
use crate::app;
use crate::config::File;
use crate::telemetry::log;

pub(super) fn run(named: Option<PathBuf>) -> Exit {
    let Some(file) = config_file(named) else {
        return Exit::Refused;
    };
    log::start();
    let source = app::Source::File(File::new(file));
    exit_of(app::run_until_signal(source, tell))
}

/// Says where requests are taken, now that they are.
fn tell(running: &app::Running) {
    for address in running.listeners() {
        tracing::info!("listening on {address}");
    }
    tracing::info!("admin address {}", running.admin());
}
