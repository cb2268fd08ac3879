//! The next process, as the one that it replaces sees it: started, given everything, believed when it has proved
//! itself, else ended. Until then nothing changes for whoever is served.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::message::{FromPredecessor, FromSuccessor, Inheritance};
use super::program::Program;
use super::wire::{Broken, Line};
use super::{VARIABLE, VARIABLE_VALUE};

/// How long the next process may take to read its configuration and to make everything ready.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long it may take from there to accepting, which is a few system calls.
const SERVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an upgrade takes at the longest.
pub(crate) const LIMIT: Duration = PREPARE_TIMEOUT
    .saturating_add(SERVE_TIMEOUT)
    .saturating_add(END_TIMEOUT);

/// How a service manager tells a process of sockets (sd_listen_fds(3)); what it said was for this one.
const LISTEN_VARIABLES: [&str; 3] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// How long a process that broke off may take to end, so that its exit status can be told.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest refusal that is repeated, in bytes: the problems of a configuration, not its whole text.
const REFUSAL_MAX: usize = 16 * 1024;

/// Why there is no next process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("'{program}' cannot be started: {error}")]
    Start { program: String, error: io::Error },
    #[error("the sockets cannot be handed over: {0}")]
    Leave(#[source] io::Error),
    #[error("the new process refuses: {0}")]
    Refused(String),
    #[error("the new process ended before it was ready ({0})")]
    Ended(ExitStatus),
    #[error("the new process was not ready within {} s", .0.as_secs())]
    Late(Duration),
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// A process that is ready to take over and waits to be told.
#[derive(Debug)]
pub(crate) struct Successor {
    unproven: Unproven,
    line: Line,
}

impl Successor {
    /// Starts the program, gives it everything, and waits until it is prepared.
    ///
    /// # Errors
    /// Why it is not; it is ended then, and what was handed over is still ours.
    pub(crate) async fn start(program: &Program, left: &Inheritance) -> Result<Self, Failed> {
        Self::start_within(PREPARE_TIMEOUT, program, left).await
    }

    pub(super) async fn start_within(
        limit: Duration,
        program: &Program,
        left: &Inheritance,
    ) -> Result<Self, Failed> {
        let failed = |error| Failed::Start {
            program: program.path.display().to_string(),
            error,
        };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let line = Line::new(ours).map_err(failed)?;
        let child = command(program, theirs.into()).spawn().map_err(failed)?;
        let mut successor = Self {
            unproven: Unproven(Some(child)),
            line,
        };
        match timeout(limit, successor.prepare(left)).await {
            Ok(Ok(())) => Ok(successor),
            Ok(Err(Failed::Broken(broken))) => Err(successor.end(broken).await),
            Ok(Err(failed)) => Err(failed),
            Err(_) => Err(Failed::Late(limit)),
        }
    }

    pub(super) async fn prepare(&mut self, left: &Inheritance) -> Result<(), Failed> {
        let (will, descriptors) = left.will();
        let words = FromPredecessor::Inherit(will);
        self.line.hand_over(words, &descriptors).await?;
        match self.hear().await? {
            FromSuccessor::Prepared => Ok(()),
            FromSuccessor::Refused { why } => Err(refused(why)),
            FromSuccessor::Serving => Err(Broken::NotUnderstood.into()),
        }
    }

    /// Lets it serve, and gives its process id once it does. It cannot be taken back then.
    ///
    /// # Errors
    /// Why it does not; it is ended then.
    pub(crate) async fn take_over(mut self) -> Result<u32, Failed> {
        let serve = async {
            self.line.say(FromPredecessor::Serve).await?;
            match self.hear().await? {
                FromSuccessor::Serving => Ok(()),
                FromSuccessor::Refused { why } => Err(refused(why)),
                FromSuccessor::Prepared => Err(Broken::NotUnderstood.into()),
            }
        };
        match timeout(SERVE_TIMEOUT, serve).await {
            Ok(Ok(())) => Ok(self.unproven.proved()),
            Ok(Err(Failed::Broken(broken))) => Err(self.end(broken).await),
            Ok(Err(failed)) => Err(failed),
            Err(_) => Err(Failed::Late(SERVE_TIMEOUT)),
        }
    }

    async fn hear(&mut self) -> Result<FromSuccessor, Broken> {
        Ok(self.line.hear().await?.0)
    }

    /// Why it broke off: how it ended says more, if it has.
    async fn end(mut self, broken: Broken) -> Failed {
        let ended = async { self.unproven.0.as_mut()?.wait().await.ok() };
        match timeout(END_TIMEOUT, ended).await {
            Ok(Some(status)) => Failed::Ended(status),
            Ok(None) | Err(_) => broken.into(),
        }
    }
}

#[cfg(test)]
impl Successor {
    /// One in this process.
    pub(super) fn at(socket: UnixStream) -> Self {
        Self {
            unproven: Unproven(None),
            line: Line::new(socket).unwrap(),
        }
    }
}

fn refused(mut why: String) -> Failed {
    why.truncate(why.floor_char_boundary(REFUSAL_MAX));
    Failed::Refused(why)
}

fn command(program: &Program, standard_input: OwnedFd) -> Command {
    let mut command = Command::new(&program.path);
    command
        .args(&program.arguments)
        .stdin(standard_input)
        .env(VARIABLE, VARIABLE_VALUE)
        .envs(program.variable.clone());
    for variable in LISTEN_VARIABLES {
        command.env_remove(variable);
    }
    command
}

/// A process that is ended when this is dropped, unless it has proved itself.
#[derive(Debug)]
struct Unproven(Option<Child>);

impl Unproven {
    fn proved(mut self) -> u32 {
        let child = self.0.take();
        child.and_then(|child| child.id()).unwrap_or_default()
    }
}

impl Drop for Unproven {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself.
            let _ = child.start_kill();
        }
    }
}
