//! The process that is to be replaced, as the one that replaces it sees it.

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::stdio::dup2_stdin;
use socket2::{Domain, SockRef};
use tokio::time::timeout;

use super::message::{FromPredecessor, FromSuccessor, Inheritance, VERSION};
use super::wire::{Broken, Line};
use super::{VARIABLE, VARIABLE_VALUE};

/// Longest wait for the other process' next word; it has nothing else to do.
const WORD_TIMEOUT: Duration = Duration::from_secs(20);

/// Why nothing can be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("{VARIABLE} is set, but standard input is not the socket of a process to be replaced")]
    NoSocket,
    #[error("the process to be replaced hands over in form {0}, and {VERSION} is understood")]
    Version(u32),
    #[error("the process to be replaced says nothing")]
    Silent,
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// The process that is to be replaced, before it has said anything.
#[derive(Debug)]
pub(crate) struct Predecessor(UnixStream);

/// The same, once it has handed everything over and waits to hear how it goes.
#[derive(Debug)]
pub(crate) struct Waiting(Line);

impl Predecessor {
    /// The one that started this process to be replaced by it, if one did. Standard input is free afterwards.
    ///
    /// # Errors
    /// When somebody set the variable who is no such process.
    pub(crate) fn of_environment() -> Result<Option<Self>, Lost> {
        if env::var_os(VARIABLE).is_none_or(|value| value != VARIABLE_VALUE) {
            return Ok(None);
        }
        let taken = take_standard_input().ok();
        let socket = taken.filter(|stream| {
            let domain = SockRef::from(stream).domain();
            domain.is_ok_and(|domain| domain == Domain::UNIX)
        });
        socket
            .map(|socket| Some(Self(socket)))
            .ok_or(Lost::NoSocket)
    }

    /// Everything that it leaves; needs a runtime.
    ///
    /// # Errors
    /// When it breaks off, or hands over in another way; it goes on serving then.
    pub(crate) async fn inheritance(self) -> Result<(Inheritance, Waiting), Lost> {
        let mut line = Line::new(self.0).map_err(Broken::Io)?;
        let heard = timeout(WORD_TIMEOUT, line.hear()).await;
        let (words, descriptors) = heard.map_err(|_| Lost::Silent)??;
        let FromPredecessor::Inherit(will) = words else {
            return Err(Broken::NotUnderstood.into());
        };
        if will.version != VERSION {
            let why = Lost::Version(will.version);
            Waiting(line).refuse(&why.to_string()).await;
            return Err(why);
        }
        let left = Inheritance::of(will, descriptors).ok_or(Broken::NotUnderstood)?;
        Ok((left, Waiting(line)))
    }
}

#[cfg(test)]
impl Predecessor {
    /// One in this process.
    pub(super) fn at(socket: UnixStream) -> Self {
        Self(socket)
    }
}

impl Waiting {
    /// Tells it that everything which can fail has not, and waits to be told to serve.
    ///
    /// # Errors
    /// When it goes on serving after all.
    pub(crate) async fn prepared(&mut self) -> Result<(), Lost> {
        self.0.say(FromSuccessor::Prepared).await?;
        let heard = timeout(WORD_TIMEOUT, self.0.hear()).await;
        match heard.map_err(|_| Lost::Silent)??.0 {
            FromPredecessor::Serve => Ok(()),
            FromPredecessor::Inherit(_) => Err(Broken::NotUnderstood.into()),
        }
    }

    /// Tells it that connections are accepted here. Should it have gone, they still are.
    pub(crate) async fn serving(mut self) {
        let _ = self.0.say(FromSuccessor::Serving).await;
    }

    /// Tells it why nothing comes of it; it goes on serving.
    pub(crate) async fn refuse(mut self, why: &str) {
        let why = why.to_owned();
        // It sees the end of this process at the latest.
        let _ = self.0.say(FromSuccessor::Refused { why }).await;
    }
}

/// The socket alone shall say when this process ends, so standard input becomes another file.
fn take_standard_input() -> io::Result<UnixStream> {
    let taken = io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(taken.into())
}
