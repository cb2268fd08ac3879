//! How the load balancer ends when it is told to: it says so, serves on for a while, then stops accepting and lets
//! requests finish, until their time is over.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::{Controller, Finished, Readiness};
use crate::drain::Idle;

/// What workers have beyond the time that requests are given: those that are cut off are answered first.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How far the end has come.
#[derive(Debug, Default)]
pub(super) enum Ending {
    /// Nobody has asked for it.
    #[default]
    Far,
    /// New connections are taken until then.
    Announced {
        until: Instant,
        reply: oneshot::Sender<Finished>,
    },
    /// Nothing new is taken.
    Closing,
}

impl Controller {
    /// Says that the end is near, and begins it when its delay is over; at once where nothing new is taken already.
    pub(super) fn announce_end(&mut self, reply: oneshot::Sender<Finished>) {
        self.readiness.send_replace(Readiness::Draining);
        let delay = match self.ending {
            Ending::Closing => Duration::ZERO,
            Ending::Far | Ending::Announced { .. } => self.shutdown.delay,
        };
        let until = Instant::now() + delay;
        self.ending = Ending::Announced { until, reply };
        self.close_when_due(Instant::now());
    }

    /// Begins the end at once, because another process has taken over; idle connections may stay for one more answer.
    /// Says when nothing new is taken any more.
    pub(super) fn give_way(
        &mut self,
        closed: oneshot::Sender<()>,
        reply: oneshot::Sender<Finished>,
    ) {
        self.readiness.send_replace(Readiness::Draining);
        self.ending = Ending::Closing;
        self.close(Instant::now(), Idle::Stay, Some(closed), reply);
    }

    /// When the next step is due.
    pub(super) fn end_is_due(&self) -> Option<Instant> {
        match self.ending {
            Ending::Announced { until, .. } => Some(until),
            Ending::Far | Ending::Closing => None,
        }
    }

    /// Whether nothing new is taken any more.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.ending, Ending::Closing)
    }

    pub(super) fn close_when_due(&mut self, now: Instant) {
        match std::mem::take(&mut self.ending) {
            Ending::Announced { until, reply } if until <= now => {
                self.ending = Ending::Closing;
                self.close(now, Idle::End, None, reply);
            }
            earlier => self.ending = earlier,
        }
    }

    fn close(
        &mut self,
        now: Instant,
        idle: Idle,
        tell: Option<oneshot::Sender<()>>,
        reply: oneshot::Sender<Finished>,
    ) {
        let until = now + self.shutdown.timeout;
        let closed = self.listeners.close(until, idle);
        let finished = self.listeners.finished();
        let end = async move {
            closed.await;
            if let Some(tell) = tell {
                let _left = tell.send(());
            }
            finished.await;
        };
        self.tasks.spawn(async move {
            let finished = match timeout_at((until + LAST_WORDS).into(), end).await {
                Ok(()) => Finished::Whole,
                Err(_) => Finished::InPart,
            };
            let _left = reply.send(finished);
        });
    }
}
