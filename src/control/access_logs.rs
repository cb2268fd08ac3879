//! The access logs over the generations: the one that is written to, and those before it whose last lines are still on
//! their way. Workers hold handles only, so that none of them ever waits for a disk.

use std::io;
use std::time::{Duration, Instant};

use metrics::Counter;

use crate::model::{self, LoadBalancer, LoadBalancerName};
use crate::telemetry::{AccessLog, Writer};

/// How long the last lines may take at the end. A stuck pipe must not keep the process.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct AccessLogs {
    current: Option<Open>,
    /// Each ends when the last request that began under it has.
    retired: Vec<Writer>,
    workers: usize,
    /// Lines that were lost, whichever log they were meant for.
    dropped: Counter,
}

/// A log, and what it was opened for.
#[derive(Debug)]
struct Open {
    settings: model::AccessLog,
    name: LoadBalancerName,
    log: AccessLog,
    writer: Writer,
}

/// The log of a configuration that is being applied.
#[derive(Debug)]
pub(super) enum Prepared {
    None,
    /// The one that is open.
    Kept(AccessLog),
    /// Dropping it leaves an open file behind as it was.
    New(Box<NewLog>),
}

/// A log that was opened just now.
#[derive(Debug)]
pub(super) struct NewLog(Open);

impl Prepared {
    pub(super) fn log(&self) -> Option<&AccessLog> {
        match self {
            Self::None => None,
            Self::Kept(log) => Some(log),
            Self::New(new) => Some(&new.0.log),
        }
    }
}

impl AccessLogs {
    pub(super) fn new(workers: usize, dropped: Counter) -> Self {
        Self {
            current: None,
            retired: Vec::new(),
            workers,
            dropped,
        }
    }

    /// Opens the log that is asked for, unless it is open.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn prepare(&self, load_balancer: &LoadBalancer) -> io::Result<Prepared> {
        let (settings, name) = match &load_balancer.access_log {
            None => return Ok(Prepared::None),
            Some(settings) => (settings, &load_balancer.name),
        };
        if let Some(open) = &self.current
            && (&open.settings, &open.name) == (settings, name)
        {
            return Ok(Prepared::Kept(open.log.clone()));
        }
        let (log, writer) = AccessLog::open(settings, name, self.workers, self.dropped.clone())?;
        Ok(Prepared::New(Box::new(NewLog(Open {
            settings: settings.clone(),
            name: name.clone(),
            log,
            writer,
        }))))
    }

    /// Lets go of the log that was open unless it was kept.
    pub(super) fn commit(&mut self, prepared: Prepared) {
        let next = match prepared {
            Prepared::Kept(_) => return,
            Prepared::None => None,
            Prepared::New(new) => Some(new.0),
        };
        let before = std::mem::replace(&mut self.current, next);
        self.retired.extend(before.map(|open| open.writer));
        self.forget_finished();
    }

    /// Forgets logs that have come to their end.
    pub(super) fn forget_finished(&mut self) {
        self.retired.retain(|writer| !writer.is_finished());
    }

    /// Waits for the last lines, all at once and not for long. Nobody records anything any more.
    pub(super) fn finish(self) {
        let deadline = Instant::now() + FLUSH_LIMIT;
        let current = self.current.map(|open| open.writer);
        for writer in self.retired.into_iter().chain(current) {
            writer.finish(deadline.saturating_duration_since(Instant::now()));
        }
    }
}
