//! Has this process replaced by a newer one. Only who runs the whole process can do that: it offers to, and hears
//! whoever asks.

use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot};

/// Questions that may wait: all but the first are only to be refused.
const QUESTIONS_MAX: usize = 16;

/// The process id of the new one, or why there is none.
pub(crate) type Answer = Result<u32, NotReplaced>;

/// Those who ask, for whoever runs the process.
pub(crate) type Questions = mpsc::Receiver<oneshot::Sender<Answer>>;

/// Why this process goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReplaced {
    #[error("this load balancer does not run by 'albedo run', so it cannot be replaced")]
    Embedded,
    #[error(
        "the first process of a container cannot be replaced, the container would end with it; start another one"
    )]
    FirstProcess,
    #[error(
        "the system does not say which binary this is, so it cannot be started again; is /proc there?"
    )]
    UnknownBinary,
    #[error("an upgrade is under way already")]
    UnderWay,
    #[error("the load balancer is stopping")]
    Stopping,
    #[error("{0}")]
    Failed(String),
}

/// Where to ask; nobody offers anything at first.
#[derive(Clone, Debug, Default)]
pub(super) struct Desk(Arc<OnceLock<mpsc::Sender<oneshot::Sender<Answer>>>>);

impl Desk {
    /// Offers to replace the process, once.
    pub(super) fn open(&self) -> Questions {
        let (ask, questions) = mpsc::channel(QUESTIONS_MAX);
        let first = self.0.set(ask);
        debug_assert!(first.is_ok(), "a process is run once");
        questions
    }

    /// Asks, and waits until the new process serves or this one goes on.
    pub(super) async fn ask(&self) -> Answer {
        let ask = self.0.get().ok_or(NotReplaced::Embedded)?;
        let (reply, answer) = oneshot::channel();
        drop(ask.send(reply).await);
        // Whoever is gone answers by dropping the reply.
        answer.await.unwrap_or(Err(NotReplaced::Stopping))
    }
}
