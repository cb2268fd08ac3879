//! `albedo run`: serves a configuration in the foreground until a signal ends it.

use std::path::PathBuf;

use super::{Exit, config_file, exit_of, out};
use crate::app::{self, Origin, Source};
use crate::config::File;
use crate::systemd;
use crate::telemetry::log;

pub(super) fn run(named: Option<PathBuf>) -> Exit {
    // First of all: no thread may run yet.
    let sockets = match systemd::sockets() {
        Ok(sockets) => sockets,
        Err(error) => {
            out::complain(&error);
            return Exit::CouldNotBind;
        }
    };
    let Some(file) = config_file(named) else {
        return Exit::Refused;
    };
    log::start();
    let origin = Origin {
        sockets,
        manager: systemd::Manager::of_environment(),
    };
    let source = Source::File(File::new(file));
    exit_of(app::run_until_signal(source, origin, tell))
}

/// Says where requests are taken, now that they are.
fn tell(running: &app::Running) {
    for address in running.listeners() {
        tracing::info!("listening on {address}");
    }
    tracing::info!("admin address {}", running.admin());
}
