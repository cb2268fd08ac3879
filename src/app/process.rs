//! A process that is one load balancer: it hears signals, tells the service manager how it is, takes over from an
//! older process and is replaced by a newer one. Never a part of a program that embeds a load balancer.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};

use super::{Error, Running, Source, start_held};
use crate::admin::Token;
use crate::control::{Answer, Finished, Leaving, NotReplaced, Questions};
use crate::handover::{
    self, Failed, Inheritance, Predecessor, Program, Sockets, Successor, Waiting,
};
use crate::systemd::{Manager, News};

/// What a process was given by whoever started it.
#[derive(Debug)]
pub(crate) struct Origin {
    /// Sockets of a service manager.
    pub(crate) sockets: Sockets,
    pub(crate) manager: Manager,
    /// The process that is to be replaced by this one.
    pub(crate) predecessor: Option<Predecessor>,
    /// What whoever comes to the admin address has to know.
    pub(crate) token: Option<Token>,
    /// What replaces this process one day.
    pub(crate) replacement: Replacement,
}

/// What can be started in place of this process.
#[derive(Debug)]
pub(crate) enum Replacement {
    Program(Program),
    /// The system does not say what this process was started from.
    Unknown,
    /// It holds what cannot be handed over.
    Never,
}

impl Origin {
    /// A process that nobody but a person at a terminal started.
    pub(crate) fn terminal() -> Self {
        Self {
            sockets: Sockets::default(),
            manager: Manager::none(),
            predecessor: None,
            token: None,
            replacement: Replacement::Never,
        }
    }
}

/// Runs a load balancer until SIGTERM or SIGINT, then lets requests finish; a second signal ends it at once. SIGHUP
/// reads its file again, SIGUSR2 replaces the process by a newer one. `ready` is called when everything is bound.
///
/// # Errors
/// As `start` and `start_from`, and when there is nothing to be taken over.
pub(crate) fn run(
    source: Source,
    origin: Origin,
    ready: impl FnOnce(&Running),
) -> Result<(), Error> {
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Bind(format!("no runtime can be started: {error}")))?;
    runtime.block_on(async {
        let signals = Signals::listen()
            .map_err(|error| Error::Bind(format!("signals cannot be received: {error}")))?;
        let mut process = Process::begin(source, origin, signals).await?;
        ready(&process.running);
        let end = process.serve().await;
        process.end(end).await;
        Ok(())
    })
}

/// Takes all the descriptors that this process may have. Shells and service managers give 1,024 to begin with, for
/// programs that can count no further.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of descriptors stays as it was");
    }
}

/// A load balancer and what happens to the process that it is.
struct Process {
    running: Running,
    signals: Signals,
    manager: Manager,
    replacement: Replacement,
    /// Who wants this process to be replaced.
    questions: Questions,
    /// Reloads whose end the service manager is to hear of.
    reloads: JoinSet<()>,
    /// The upgrade under way, one at most.
    upgrade: JoinSet<Result<u32, Failed>>,
    /// Who waits for it; nobody where it was asked for by a signal.
    asked_by: Option<oneshot::Sender<Answer>>,
}

/// Why a process ends.
enum End {
    Asked,
    /// This process serves in its place, and somebody may wait to hear so.
    ReplacedBy(u32, Option<oneshot::Sender<Answer>>),
}

impl Process {
    /// Starts the load balancer, in place of the process that is to be replaced if there is one.
    async fn begin(source: Source, origin: Origin, signals: Signals) -> Result<Self, Error> {
        let manager = origin.manager;
        let running = match origin.predecessor {
            None => {
                let inheritance = Inheritance {
                    sockets: origin.sockets,
                    ..Inheritance::default()
                };
                let running = start_held(source, origin.token, inheritance).await?;
                running.open().await?;
                manager.tell(News::Ready);
                tell_status(&manager, &running);
                running
            }
            // It tells the service manager when this process is the service.
            Some(predecessor) => take_over(source, origin.token, predecessor).await?,
        };
        Ok(Self {
            questions: running.control.replaceable(),
            running,
            signals,
            manager,
            replacement: origin.replacement,
            reloads: JoinSet::new(),
            upgrade: JoinSet::new(),
            asked_by: None,
        })
    }

    /// Serves until it is to end.
    async fn serve(&mut self) -> End {
        loop {
            // What is not taken now is there the next time: cancelling an arm loses nothing.
            tokio::select! {
                asked = self.signals.next() => match asked {
                    Asked::Stop => return End::Asked,
                    Asked::Reload => self.begin_reload(),
                    Asked::Upgrade => self.begin_upgrade(None),
                },
                Some(asked_by) = self.questions.recv() => self.begin_upgrade(Some(asked_by)),
                Some(_) = self.reloads.join_next() => self.reloaded(),
                Some(outcome) = self.upgrade.join_next() => {
                    if let Some(end) = self.upgraded(outcome) {
                        return end;
                    }
                }
            }
        }
    }

    fn begin_reload(&mut self) {
        self.manager.tell(News::Reloading);
        let control = self.running.control.clone();
        self.reloads.spawn(async move {
            // Whatever came of it was told to everybody who wants to know.
            let _ = control.reload().await;
        });
    }

    fn reloaded(&self) {
        if self.reloads.is_empty() {
            self.manager.tell(News::Ready);
            tell_status(&self.manager, &self.running);
        }
    }

    fn begin_upgrade(&mut self, asked_by: Option<oneshot::Sender<Answer>>) {
        match self.replacement() {
            Ok(program) => {
                tracing::info!(%program, "upgrading: the installed binary starts");
                let upgrade = upgrade(program, self.running.leave());
                self.upgrade.spawn(upgrade);
                self.asked_by = asked_by;
            }
            Err(refusal) => {
                tracing::warn!("no upgrade: {refusal}");
                answer(asked_by, Err(refusal));
            }
        }
    }

    fn replacement(&self) -> Result<Program, NotReplaced> {
        if !self.upgrade.is_empty() {
            return Err(NotReplaced::UnderWay);
        }
        match &self.replacement {
            Replacement::Never => Err(NotReplaced::Embedded),
            // Its end is the container's.
            _ if std::process::id() == 1 => Err(NotReplaced::FirstProcess),
            Replacement::Unknown => Err(NotReplaced::UnknownBinary),
            Replacement::Program(program) => Ok(program.clone()),
        }
    }

    /// What came of an upgrade: this process ends, or goes on as if nothing had been.
    fn upgraded(&mut self, outcome: Result<Result<u32, Failed>, JoinError>) -> Option<End> {
        let asked_by = self.asked_by.take();
        let why = match outcome {
            Ok(Ok(pid)) => return Some(End::ReplacedBy(pid, asked_by)),
            Ok(Err(failed)) => failed.to_string(),
            Err(panicked) => panicked.to_string(),
        };
        tracing::error!("the upgrade failed, this process goes on: {why}");
        answer(asked_by, Err(NotReplaced::Failed(why)));
        None
    }

    /// Lets requests finish, and ends. An upgrade under way ends with it.
    async fn end(mut self, end: End) {
        self.upgrade.shutdown().await;
        self.questions.close();
        let finished = match end {
            End::Asked => {
                self.manager.tell(News::Stopping);
                tracing::info!(
                    "stopping: requests in progress may finish; a second signal ends them"
                );
                self.finish().await
            }
            End::ReplacedBy(pid, asked_by) => {
                self.manager.tell(News::ReplacedBy(pid));
                tracing::info!(pid, "replaced: requests in progress finish here");
                let finished = self.running.control.give_way().await;
                self.running.pass_on().await;
                answer(asked_by, Ok(pid));
                tokio::select! {
                    finished = finished => finished,
                    // Somebody is in a hurry.
                    () = self.signals.stop() => self.finish().await,
                }
            }
        };
        self.running.stop().await;
        tracing::info!(finished = finished == Finished::Whole, "stopped");
    }

    /// Ends when the last request has, when their time is over, or at a signal.
    async fn finish(&mut self) -> Finished {
        tokio::select! {
            finished = self.running.control.finish() => finished,
            () = self.signals.stop() => Finished::InPart,
        }
    }
}

/// A line for whoever looks at the service.
fn tell_status(manager: &Manager, running: &Running) {
    let status = running.status();
    let refused = status
        .last_reload
        .is_some_and(|last| last.outcome == "refused");
    let note = match refused {
        true => ", a newer configuration was refused",
        false => "",
    };
    let line = format!("generation {}{note}", status.generation);
    manager.tell(News::Status(&line));
}

/// Starts the load balancer with what another process leaves, and serves when that one is about to stop.
async fn take_over(
    source: Source,
    token: Option<Token>,
    predecessor: Predecessor,
) -> Result<Running, Error> {
    let (left, mut predecessor) = predecessor.inheritance().await.map_err(lost)?;
    let started = match start_held(source, token, left).await {
        Ok(running) => open_in_turn(running, &mut predecessor).await,
        Err(error) => Err(error),
    };
    match &started {
        Ok(_) => predecessor.serving().await,
        Err(error) => predecessor.refuse(&error.to_string()).await,
    }
    started
}

async fn open_in_turn(running: Running, predecessor: &mut Waiting) -> Result<Running, Error> {
    predecessor.prepared().await.map_err(lost)?;
    running.open().await?;
    Ok(running)
}

fn lost(lost: handover::Lost) -> Error {
    Error::Bind(lost.to_string())
}

/// Starts another process and lets it serve.
async fn upgrade(
    program: Program,
    left: impl Future<Output = io::Result<(Inheritance, Leaving)>>,
) -> Result<u32, Failed> {
    // Until it is done, one way or the other, nothing changes here that the successor would not know.
    let (left, _leaving) = left.await.map_err(Failed::Leave)?;
    let successor = Successor::start(&program, &left).await?;
    successor.take_over().await
}

/// Whoever asked may have left.
fn answer(asked_by: Option<oneshot::Sender<Answer>>, answer: Answer) {
    if let Some(asked_by) = asked_by {
        let _left = asked_by.send(answer);
    }
}

/// What an operator can ask for by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Reload,
    Stop,
    Upgrade,
}

/// The signals that are heard.
struct Signals {
    hang_up: Signal,
    interrupt: Signal,
    terminate: Signal,
    user_2: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next one; cancelling loses none.
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.user_2.recv() => Asked::Upgrade,
        }
    }

    /// The next one that means to stop; others come too late.
    async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}
