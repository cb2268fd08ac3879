//! `albedo run`: serves a configuration in the foreground until a signal ends it.

use std::path::PathBuf;

use super::{Exit, config_file, exit_of, out};
use crate::admin::{self, Token};
use crate::app::{self, Origin, Replacement, Source};
use crate::config::File;
use crate::confinement::{self, Confinement};
use crate::handover::{self, Predecessor, Program};
use crate::systemd;
use crate::telemetry::log;

pub(super) fn run(named: Option<PathBuf>) -> Exit {
    // First of all: no thread may run yet.
    let confinement = confinement::enter();
    let origin = match origin(&confinement) {
        Ok(origin) => origin,
        Err(error) => {
            out::complain(&error);
            return error.exit();
        }
    };
    let Some(file) = config_file(named) else {
        return Exit::Refused;
    };
    log::start();
    confinement.log();
    let source = Source::File(File::new(file));
    exit_of(app::run(source, origin, tell))
}

/// What whoever started this process gave to it.
fn origin(confinement: &Confinement) -> Result<Origin, Unusable> {
    let program = Program::of_this_process(confinement.variable());
    Ok(Origin {
        sockets: systemd::sockets()?,
        predecessor: Predecessor::of_environment()?,
        replacement: program.map_or(Replacement::Unknown, Replacement::Program),
        token: Token::of_environment()?,
        manager: systemd::Manager::of_environment(),
    })
}

/// Why what was given cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Sockets(#[from] systemd::Error),
    #[error(transparent)]
    Predecessor(#[from] handover::Lost),
    #[error(transparent)]
    Token(#[from] admin::Unusable),
}

impl Unusable {
    fn exit(&self) -> Exit {
        match self {
            Self::Sockets(_) | Self::Predecessor(_) => Exit::CouldNotBind,
            Self::Token(_) => Exit::Refused,
        }
    }
}

/// Says where requests are taken, now that they are.
fn tell(running: &app::Running) {
    for address in running.listeners() {
        tracing::info!("listening on {address}");
    }
    tracing::info!("admin address {}", running.admin());
}
