//! The one who may change things. One task owns the running configuration and takes one event at a time; everyone
//! else has a handle. Never knows where a configuration came from, or who asked.

mod apply;
mod controller;
mod status;

pub(crate) use apply::Rejected;
pub(crate) use controller::Controller;
pub use status::{GroupStatus, ListenerStatus, Status, TargetStatus};

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};

use crate::listener::Open;
use crate::model::{Config, Generation, Protocol};
use crate::target::Group;
use crate::telemetry::Metrics;

/// Events that may wait; whoever sends more waits for the controller.
const EVENTS_MAX: usize = 16;

/// Everything that can happen to a running load balancer.
#[derive(Debug)]
pub(crate) enum Event {
    /// Run this configuration instead, whole or not at all.
    Apply(Box<Config>, oneshot::Sender<Result<Generation, Rejected>>),
    /// Stop accepting and let requests finish; the answer comes when they have. Nobody waits for it beyond the moment
    /// given.
    Finish(Instant, oneshot::Sender<()>),
    /// End, with whatever still runs.
    Stop,
}

/// Whether a load balancer in front may send requests here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    Draining,
}

/// What runs now: one generation, as far as others may see it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) generation: Generation,
    pub(crate) listeners: Vec<(Open, Protocol)>,
    pub(crate) groups: Vec<Arc<Group>>,
}

/// What everyone may look at.
#[derive(Clone, Debug)]
pub(crate) struct View {
    readiness: watch::Receiver<Readiness>,
    running: watch::Receiver<Arc<Running>>,
    metrics: Arc<Metrics>,
}

impl View {
    pub(crate) fn readiness(&self) -> Readiness {
        *self.readiness.borrow()
    }

    pub(crate) fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running.borrow())
    }

    /// What is true now.
    pub(crate) fn status(&self) -> Status {
        status::of(&self.running())
    }

    /// Prometheus text.
    pub(crate) fn metrics(&self) -> String {
        self.metrics.render()
    }
}

#[cfg(test)]
impl View {
    /// A view of a load balancer that has no listener and no target group, for unit tests of other rooms.
    pub(crate) fn for_test(readiness: watch::Receiver<Readiness>, metrics: Metrics) -> Self {
        let running = Running {
            generation: Generation::FIRST,
            listeners: Vec::new(),
            groups: Vec::new(),
        };
        let (_, running) = watch::channel(Arc::new(running));
        Self {
            readiness,
            running,
            metrics: Arc::new(metrics),
        }
    }
}

/// How far requests came before the load balancer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    /// Every one was answered.
    Whole,
    /// Some were not, because their time was over.
    InPart,
}

/// A handle to the controller: it asks, and waits for the answer.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    events: mpsc::Sender<Event>,
    pub(crate) view: View,
}

impl Control {
    /// A handle, and what the controller listens to.
    pub(crate) fn new(view: View) -> (Self, mpsc::Receiver<Event>) {
        let (events, received) = mpsc::channel(EVENTS_MAX);
        (Self { events, view }, received)
    }

    /// Applies a configuration whole or not at all; answers when every worker runs it.
    pub(crate) async fn apply(&self, config: Config) -> Result<Generation, Rejected> {
        let (reply, answer) = oneshot::channel();
        // A controller that is gone answers by dropping the reply.
        drop(
            self.events
                .send(Event::Apply(Box::new(config), reply))
                .await,
        );
        answer.await.unwrap_or(Err(Rejected::Stopped))
    }

    /// Stops accepting; ends when every request has, or at `until`.
    pub(crate) async fn finish(&self, until: Instant) -> Finished {
        let (reply, answer) = oneshot::channel();
        drop(self.events.send(Event::Finish(until, reply)).await);
        match tokio::time::timeout_at(until.into(), answer).await {
            Ok(_) => Finished::Whole,
            Err(_) => Finished::InPart,
        }
    }

    /// Ends everything.
    pub(crate) async fn stop(&self) {
        drop(self.events.send(Event::Stop).await);
    }
}
