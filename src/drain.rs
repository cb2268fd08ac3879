//! "Finish, please": a sign that connections see when they look up, and the count of those that have not finished.
//! Never ends anything by force; whoever waits decides how long.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use tokio_util::task::TaskTracker;

use crate::worker;

/// One listener on one worker: its connections, and whether they should come to an end.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    begun: Rc<Cell<Option<Idle>>>,
    until: Rc<Cell<Option<Instant>>>,
    tasks: TaskTracker,
}

/// What becomes of connections on which nothing is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// They end.
    End,
    /// They end after their next answer: a client that is just about to ask would see a closed connection.
    Stay,
}

impl Drain {
    pub(crate) fn new() -> Self {
        Self {
            begun: Rc::default(),
            until: Rc::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Whether connections should end after what they are doing.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.get().is_some()
    }

    /// Whether connections on which nothing is under way should end.
    pub(crate) fn ends_idle(&self) -> bool {
        self.begun.get() == Some(Idle::End)
    }

    /// Asks every connection to end and wakes the idle ones. Once those were asked to end they are not asked to stay.
    pub(crate) fn begin(&self, idle: Idle) {
        if !self.ends_idle() {
            self.begun.set(Some(idle));
        }
        self.tasks.close();
        worker::wake_all();
    }

    /// Tells when those that go on will be ended. Told twice, the earlier end holds.
    pub(crate) fn end_at(&self, until: Instant) {
        let earlier = self.until.get().map_or(until, |known| known.min(until));
        self.until.set(Some(earlier));
    }

    /// When connections that still go on will be ended; `None` while nobody has said so.
    pub(crate) fn ends_at(&self) -> Option<Instant> {
        self.until.get()
    }

    /// Whether that moment has come; they are woken for it.
    pub(crate) fn is_over(&self) -> bool {
        self.ends_at()
            .is_some_and(|at| at <= worker::refresh_clock())
    }

    /// Runs a connection as one that drains with the others.
    pub(crate) fn spawn(&self, connection: impl Future<Output = ()> + 'static) {
        self.tasks.spawn_local(connection);
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.tasks.len()
    }

    /// Ends when the last connection has, after `begin`.
    pub(crate) async fn finished(&self) {
        self.tasks.wait().await;
    }
}
