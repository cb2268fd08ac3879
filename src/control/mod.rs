//! The one who may change things. One task owns the running configuration and takes one event at a time; everyone
//! else has a handle. Never knows how a configuration is spelled, or who asked.

mod access_logs;
mod apply;
mod certificates;
mod controller;
mod cookie_keys;
mod drain;
mod finish;
mod reload;
mod replace;
mod retired;
mod status;
mod ticket_keys;

pub(crate) use apply::Rejected;
pub(crate) use certificates::problems as certificate_problems;
pub(crate) use controller::Controller;
pub(crate) use reload::{Refused, log_problem};
pub(crate) use replace::{Answer, NotReplaced, Questions};
pub use status::{
    GroupStatus, LastReload, ListenerStatus, ProblemStatus, Status, SteeredStatus, TargetStatus,
};

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Problem;
use crate::handover::Inheritance;
use crate::listener::Open;
use crate::model::{Config, Generation, Protocol};
use crate::target::{Group, Unknown};
use crate::telemetry::Metrics;
use replace::Desk;

/// Events that may wait; whoever sends more waits for the controller.
const EVENTS_MAX: usize = 16;

/// Everything that can happen to a running load balancer.
#[derive(Debug)]
pub(crate) enum Event {
    /// Run this configuration instead, whole or not at all.
    Apply(Box<Config>, oneshot::Sender<Result<Applied, Refused>>),
    /// Read the file again and run what it says now, whole or not at all.
    Reload(oneshot::Sender<Result<Applied, Refused>>),
    /// Take a target out of its group, both as somebody wrote them.
    Drain {
        group: String,
        target: String,
        reply: oneshot::Sender<Result<SteeredStatus, Unknown>>,
    },
    /// Bring a target back.
    Undrain {
        group: String,
        target: String,
        reply: oneshot::Sender<Result<SteeredStatus, Unknown>>,
    },
    /// Accept: everything else is ready.
    Open(oneshot::Sender<Result<(), Refused>>),
    /// Give what another process needs to go on here; nothing changes.
    Leave(oneshot::Sender<io::Result<(Inheritance, Leaving)>>),
    /// Say so, stop accepting some time later, and let requests finish; the answer comes when they have, or when their
    /// time is over.
    Finish(oneshot::Sender<Finished>),
    /// The same at once, but for idle connections, which end after their next answer: another process has taken over.
    /// The first answer comes when nothing new is taken any more.
    GiveWay(oneshot::Sender<()>, oneshot::Sender<Finished>),
    /// End, with whatever still runs.
    Stop,
}

/// A configuration that was taken.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) generation: Generation,
    /// What is doubtful in it, and what of it waits for a restart.
    pub(crate) warnings: Vec<Problem>,
}

/// Whether a load balancer in front may send requests here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Nothing accepts yet.
    Starting,
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
    last_reload: watch::Receiver<Option<Arc<LastReload>>>,
    metrics: Arc<Metrics>,
}

impl View {
    pub(crate) fn readiness(&self) -> Readiness {
        *self.readiness.borrow()
    }

    /// Ends when clients are let in; `false` if that does not happen.
    pub(crate) async fn opened(&mut self) -> bool {
        let open = |readiness: &Readiness| *readiness != Readiness::Starting;
        self.readiness.wait_for(open).await.is_ok()
    }

    pub(crate) fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running.borrow())
    }

    /// What is true now.
    pub(crate) fn status(&self) -> Status {
        let last_reload = self.last_reload.borrow().clone();
        status::of(&self.running(), last_reload.as_deref())
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
        let (_, last_reload) = watch::channel(None);
        Self {
            readiness,
            running,
            last_reload,
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

/// A handle that does not keep the load balancer running: it ends when everybody else has let go of it.
#[derive(Clone, Debug)]
pub(crate) struct WeakControl {
    events: mpsc::WeakSender<Event>,
    pub(crate) view: View,
    desk: Desk,
}

impl WeakControl {
    /// A whole handle; `None` when the load balancer ends.
    pub(crate) fn upgrade(&self) -> Option<Control> {
        Some(Control {
            events: self.events.upgrade()?,
            view: self.view.clone(),
            desk: self.desk.clone(),
        })
    }
}

/// Held while another process prepares to take over.
#[derive(Debug)]
pub(crate) struct Leaving {
    _held: oneshot::Sender<Infallible>,
}

/// A handle to the controller: it asks, and waits for the answer.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    events: mpsc::Sender<Event>,
    pub(crate) view: View,
    desk: Desk,
}

impl Control {
    /// A handle, and what the controller listens to.
    pub(crate) fn new(view: View) -> (Self, mpsc::Receiver<Event>) {
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let desk = Desk::default();
        let control = Self { events, view, desk };
        (control, received)
    }

    pub(crate) fn downgrade(&self) -> WeakControl {
        WeakControl {
            events: self.events.downgrade(),
            view: self.view.clone(),
            desk: self.desk.clone(),
        }
    }

    /// Applies a configuration whole or not at all; answers when every worker runs it.
    pub(crate) async fn apply(&self, config: Config) -> Result<Applied, Refused> {
        let outcome = self.ask(|reply| Event::Apply(Box::new(config), reply));
        outcome.await.unwrap_or(Err(Refused::Stopped))
    }

    /// Reads the file again, and applies it whole or not at all; answers when every worker runs it.
    pub(crate) async fn reload(&self) -> Result<Applied, Refused> {
        let outcome = self.ask(Event::Reload);
        outcome.await.unwrap_or(Err(Refused::Stopped))
    }

    /// Takes a target out of its group; `None` when the load balancer has stopped.
    pub(crate) async fn drain(
        &self,
        group: String,
        target: String,
    ) -> Option<Result<SteeredStatus, Unknown>> {
        self.ask(|reply| Event::Drain {
            group,
            target,
            reply,
        })
        .await
    }

    /// Brings a target back; `None` when the load balancer has stopped.
    pub(crate) async fn undrain(
        &self,
        group: String,
        target: String,
    ) -> Option<Result<SteeredStatus, Unknown>> {
        self.ask(|reply| Event::Undrain {
            group,
            target,
            reply,
        })
        .await
    }

    /// Asks, and waits for the answer. A controller that is gone, or does not answer, drops the reply.
    async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        drop(self.events.send(event(reply)).await);
        answer.await.ok()
    }

    /// Accepts; everything else is ready.
    pub(crate) async fn open(&self) -> Result<(), Refused> {
        let outcome = self.ask(Event::Open);
        outcome.await.unwrap_or(Err(Refused::Stopped))
    }

    /// Has the process replaced by a newer one; answers when that one serves.
    pub(crate) async fn replace(&self) -> Answer {
        self.desk.ask().await
    }

    /// Offers to replace the process, and gives who asks for it.
    pub(crate) fn replaceable(&self) -> Questions {
        self.desk.open()
    }

    /// What another process needs to go on here, but for the admin address. Nothing is changed until the second part is
    /// dropped: the other process would not hear of it.
    pub(crate) async fn leave(&self) -> io::Result<(Inheritance, Leaving)> {
        let stopped = || Err(io::Error::other(Refused::Stopped));
        self.ask(Event::Leave).await.unwrap_or_else(stopped)
    }

    /// Stops as the configuration says: in some time accepting, and with every request, or when their time is over.
    pub(crate) async fn finish(&self) -> Finished {
        self.ask(Event::Finish).await.unwrap_or(Finished::InPart)
    }

    /// As `finish`, at once, in favour of another process: idle connections stay until they are asked once more.
    /// Returns when nothing new is taken any more, and gives what to wait for.
    pub(crate) async fn give_way(&self) -> impl Future<Output = Finished> + use<> {
        let (closed, first) = oneshot::channel();
        let (reply, answer) = oneshot::channel();
        drop(self.events.send(Event::GiveWay(closed, reply)).await);
        // A controller that is gone takes nothing either.
        drop(first.await);
        async move { answer.await.unwrap_or(Finished::InPart) }
    }

    /// Ends everything.
    pub(crate) async fn stop(&self) {
        drop(self.events.send(Event::Stop).await);
    }
}
