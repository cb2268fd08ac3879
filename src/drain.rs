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
    begun: Rc<Cell<bool>>,
    until: Rc<Cell<Option<Instant>>>,
    tasks: TaskTracker,
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
        self.begun.get()
    }

    /// Asks every connection to end and wakes the idle ones.
    pub(crate) fn begin(&self) {
        self.begun.set(true);
        self.tasks.close();
        worker::wake_all();
    }

    /// As `begin`, and tells when those that go on will be ended.
    pub(crate) fn begin_until(&self, until: Instant) {
        self.until.set(Some(until));
        self.begin();
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
