//! The builder: makes the rooms, connects them, owns their end.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let (config, _warnings) = albedo::config::read("config/albedo.yaml".as_ref())?;
//! let running = albedo::app::start(config).await?;
//! println!("listening on {:?}", running.listeners());
//! running.shutdown().await;
//! # Ok(())
//! # }
//! ```

use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use crate::control::{
    GroupStatus, LastReload, ListenerStatus, ProblemStatus, Status, SteeredStatus, TargetStatus,
};

use crate::admin;
use crate::config::{File, Problems};
use crate::control::{self, Control, Controller, Finished, Refused, Rejected, View};
use crate::handover::Sockets;
use crate::model::{AdminAddress, Config, Generation};
use crate::systemd::{Manager, News};

/// Why a configuration does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its file says something that cannot be.
    #[error("{0}")]
    Problems(Problems),
    /// Something that it names cannot be used; the text says where and what.
    #[error("{0}")]
    Refused(String),
    /// A port or a thread could not be had.
    #[error("{0}")]
    Bind(String),
}

impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Bind(_) | Rejected::Workers(_) => Self::Bind(rejected.to_string()),
            _ => Self::Refused(rejected.to_string()),
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Problems(problems) => Self::Problems(problems),
            Refused::Rejected(rejected, _) => rejected.into(),
            Refused::NotFromAFile | Refused::Stopped => Self::Refused(refused.to_string()),
        }
    }
}

/// Where a load balancer's configuration comes from.
#[derive(Debug)]
pub enum Source {
    /// The program that embeds it, which changes it by [`Running::apply`].
    Program(Config),
    /// A file, which is read again when it changes.
    File(File),
}

/// A load balancer that runs. Several may run in one process; they share nothing.
///
/// Dropping it ends it at once; `shutdown` lets requests finish.
#[derive(Debug)]
pub struct Running {
    control: Control,
    admin: AdminAddress,
    thread: Option<JoinHandle<()>>,
}

/// Starts a load balancer: binds the admin address and every listener, starts workers and health checks.
///
/// # Errors
/// When something that the configuration names cannot be used or bound; nothing is left running then.
pub async fn start(config: Config) -> Result<Running, Error> {
    start_with(Source::Program(config), Sockets::default()).await
}

/// Starts what a file says, and follows the file from then on: when it or a file that it names changes, it is read
/// again and applied, whole or not at all.
///
/// # Errors
/// As `start`, and when the file is refused.
pub async fn start_from(file: File) -> Result<Running, Error> {
    start_with(Source::File(file), Sockets::default()).await
}

/// Starts with sockets that listeners and the admin address take instead of binding their own.
async fn start_with(source: Source, sockets: Sockets) -> Result<Running, Error> {
    let (ready, started) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("control".into())
        .spawn(move || control_side(source, sockets, ready))
        .map_err(|error| Error::Bind(format!("no control thread can be started: {error}")))?;
    let (control, admin) = started
        .await
        .unwrap_or_else(|_| Err(Error::Bind("the control side ended".into())))?;
    Ok(Running {
        control,
        admin,
        thread: Some(thread),
    })
}

type Started = Result<(Control, AdminAddress), Error>;

/// The control side: admin address, health checks, names, changes. A runtime of its own, so that none of it delays
/// a request.
fn control_side(source: Source, sockets: Sockets, ready: oneshot::Sender<Started>) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            drop(ready.send(Err(Error::Bind(format!(
                "no control runtime can be started: {error}"
            )))));
            return;
        }
    };
    runtime.block_on(async {
        let (admin, controller, view) = match assemble(source, sockets) {
            Ok(assembled) => assembled,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let (control, events) = Control::new(view);
        let stop = CancellationToken::new();
        let address = admin.address();
        let serve = admin::serve(admin, control.downgrade(), stop.clone());
        drop(ready.send(Ok((control, address))));
        let run = async {
            controller.run(events).await;
            stop.cancel();
        };
        tokio::join!(serve, run);
    });
}

/// Everything of the control side, ready to run.
fn assemble(
    source: Source,
    mut sockets: Sockets,
) -> Result<(admin::Bound, Controller, View), Error> {
    let (config, file) = match source {
        Source::Program(config) => (config, None),
        Source::File(mut file) => {
            let (config, warnings) = file.load().map_err(Error::Problems)?;
            warnings.iter().for_each(control::log_problem);
            (config, Some(file))
        }
    };
    let admin = match sockets.take_admin(&config.admin) {
        Some(taken) => admin::adopt(taken),
        None => admin::bind(&config.admin),
    };
    let admin = admin.map_err(|error| Error::Bind(format!("admin address: {error}")))?;
    // Where this fails the admin address is closed first, so whoever tries again at once finds it free.
    let (controller, view) = Controller::start(&config, file, sockets)?;
    Ok((admin, controller, view))
}

impl Running {
    /// The addresses that are bound, in the order of the configuration; port 0 has become a real one.
    pub fn listeners(&self) -> Vec<SocketAddr> {
        self.control
            .view
            .running()
            .listeners
            .iter()
            .map(|(open, _)| open.address)
            .collect()
    }

    /// Where the admin address is bound.
    pub fn admin(&self) -> &AdminAddress {
        &self.admin
    }

    /// What is true now.
    pub fn status(&self) -> Status {
        self.control.view.status()
    }

    /// Runs another configuration, whole or not at all; returns when every worker runs it. Requests in progress
    /// finish under the rules they began with.
    ///
    /// # Errors
    /// When something that it names cannot be used or bound; then nothing has changed.
    pub async fn apply(&self, config: Config) -> Result<Generation, Error> {
        Ok(self.control.apply(config).await?.generation)
    }

    /// Reads the file again that this was started from, and runs what it says now, whole or not at all; returns when
    /// every worker does. A file that changes is read again without being asked.
    ///
    /// # Errors
    /// When the file is refused, or there is none; then nothing has changed.
    pub async fn reload(&self) -> Result<Generation, Error> {
        Ok(self.control.reload().await?.generation)
    }

    /// Stops accepting, lets requests finish, and ends, with the delay and the timeout of `shutdown` in the
    /// configuration. No task, thread or socket is left.
    pub async fn shutdown(self) {
        self.control.finish().await;
        self.stop().await;
    }

    /// Ends at once, with whatever is in progress.
    pub async fn stop(mut self) {
        self.control.stop().await;
        if let Some(thread) = self.thread.take() {
            // The thread ends by itself now; waiting for it must not hold up the caller's other tasks.
            drop(tokio::task::spawn_blocking(move || thread.join()).await);
        }
    }
}

/// What a process was given by whoever started it.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) sockets: Sockets,
    pub(crate) manager: Manager,
}

/// Runs a load balancer until SIGTERM or SIGINT, then lets requests finish; a second signal ends it at once. SIGHUP
/// reads its file again. `ready` is called when everything is bound.
///
/// # Errors
/// As `start` and `start_from`.
pub(crate) fn run_until_signal(
    source: Source,
    origin: Origin,
    ready: impl FnOnce(&Running),
) -> Result<(), Error> {
    let Origin { sockets, manager } = origin;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Bind(format!("no runtime can be started: {error}")))?;
    runtime.block_on(async {
        let mut signals = Signals::listen()
            .map_err(|error| Error::Bind(format!("signals cannot be received: {error}")))?;
        let running = start_with(source, sockets).await?;
        ready(&running);
        manager.tell(News::Ready);
        while signals.next().await == Asked::Reload {
            running.control.begin_reload().await;
        }
        manager.tell(News::Stopping);
        tracing::info!("stopping: requests in progress may finish; a second signal ends them");
        let finished = tokio::select! {
            finished = running.control.finish() => finished,
            () = signals.stop() => Finished::InPart,
        };
        running.stop().await;
        tracing::info!(finished = finished == Finished::Whole, "stopped");
        Ok(())
    })
}

/// What an operator can ask for by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Reload,
    Stop,
}

/// The signals that are heard.
struct Signals {
    hang_up: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next one; cancelling loses none.
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
        }
    }

    /// The next one that means to stop; others come too late.
    async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}
