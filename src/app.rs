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
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use crate::control::{GroupStatus, ListenerStatus, Status, TargetStatus};

use crate::admin;
use crate::control::{Control, Controller, Finished, Rejected};
use crate::model::{AdminAddress, Config, Generation};

/// How long requests may take to finish once the process is told to stop; ALB's default deregistration delay.
const FINISH_GRACE: Duration = Duration::from_secs(300);

/// Why a configuration does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    let (ready, started) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("control".into())
        .spawn(move || control_side(config, ready))
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
fn control_side(config: Config, ready: oneshot::Sender<Started>) {
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
        let admin = match admin::bind(&config.admin) {
            Ok(admin) => admin,
            Err(error) => {
                drop(ready.send(Err(Error::Bind(format!("admin address: {error}")))));
                return;
            }
        };
        let (controller, view) = match Controller::start(&config) {
            Ok(started) => started,
            Err(rejected) => {
                // Whoever tries again at once finds the admin address free.
                drop(admin);
                drop(ready.send(Err(rejected.into())));
                return;
            }
        };
        let (control, events) = Control::new(view.clone());
        drop(ready.send(Ok((control, admin.address()))));
        let stop = CancellationToken::new();
        let serve = admin::serve(admin, view, stop.clone());
        let run = async {
            controller.run(events).await;
            stop.cancel();
        };
        tokio::join!(serve, run);
    });
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
        Ok(self.control.apply(config).await?)
    }

    /// Stops accepting, lets requests finish for as long as ALB would, and ends. No task, thread or socket is left.
    pub async fn shutdown(self) {
        self.control.finish(Instant::now() + FINISH_GRACE).await;
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

/// Runs a load balancer until SIGTERM or SIGINT, then lets requests finish; a second signal ends it at once. `ready`
/// is called when everything is bound.
///
/// # Errors
/// As `start`.
pub fn run_until_signal(config: Config, ready: impl FnOnce(&Running)) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Bind(format!("no runtime can be started: {error}")))?;
    runtime.block_on(async {
        let mut stop = Stop::listen()
            .map_err(|error| Error::Bind(format!("signals cannot be received: {error}")))?;
        let running = start(config).await?;
        ready(&running);
        stop.asked().await;
        tracing::info!("stopping: requests in progress may finish; a second signal ends them");
        let finished = tokio::select! {
            finished = running.control.finish(Instant::now() + FINISH_GRACE) => finished,
            () = stop.asked() => Finished::InPart,
        };
        running.stop().await;
        tracing::info!(finished = finished == Finished::Whole, "stopped");
        Ok(())
    })
}

/// The two signals that mean the same.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
