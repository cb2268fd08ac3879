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

mod process;

pub(crate) use process::{Origin, Replacement, run};

use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use crate::control::{
    GroupStatus, LastReload, ListenerStatus, ProblemStatus, Status, SteeredStatus, TargetStatus,
};

use crate::admin;
use crate::config::{File, Problems};
use crate::control::{self, Control, Controller, Leaving, Refused, Rejected, View};
use crate::handover::{AdminSocket, Inheritance};
use crate::model::{AdminAddress, Config, Generation};

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
    // Boxed: it is much larger than the other.
    Program(Box<Config>),
    /// A file, which is read again when it changes.
    File(File),
}

/// A load balancer that runs. Several may run in one process; they share nothing.
///
/// Dropping it ends it at once; `shutdown` lets requests finish.
#[derive(Debug)]
pub struct Running {
    control: Control,
    admin: Admin,
    thread: Option<JoinHandle<()>>,
}

/// The admin door, as far as it is not the control side's.
#[derive(Debug)]
struct Admin {
    address: AdminAddress,
    /// To be handed over one day; none once it has been.
    socket: Option<AdminSocket>,
    closing: admin::Closing,
}

/// Starts a load balancer: binds the admin address and every listener, starts workers and health checks.
///
/// # Errors
/// When something that the configuration names cannot be used or bound; nothing is left running then.
pub async fn start(config: Config) -> Result<Running, Error> {
    start_alone(Source::Program(Box::new(config))).await
}

/// Starts what a file says, and follows the file from then on: when it or a file that it names changes, it is read
/// again and applied, whole or not at all.
///
/// # Errors
/// As `start`, and when the file is refused.
pub async fn start_from(file: File) -> Result<Running, Error> {
    start_alone(Source::File(file)).await
}

async fn start_alone(source: Source) -> Result<Running, Error> {
    let running = start_held(source, None, Inheritance::default()).await?;
    match running.open().await {
        Ok(()) => Ok(running),
        Err(error) => {
            running.stop().await;
            Err(error)
        }
    }
}

/// Starts with what another process leaves, where it leaves something. Nobody is let in before `open`.
async fn start_held(
    source: Source,
    token: Option<admin::Token>,
    inheritance: Inheritance,
) -> Result<Running, Error> {
    let (ready, started) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("control".into())
        .spawn(move || control_side(source, token, inheritance, ready))
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

type Started = Result<(Control, Admin), Error>;

/// The control side: admin address, health checks, names, changes. A runtime of its own, so that none of it delays
/// a request.
fn control_side(
    source: Source,
    token: Option<admin::Token>,
    inheritance: Inheritance,
    ready: oneshot::Sender<Started>,
) {
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
        let assembled = match assemble(source, inheritance) {
            Ok(assembled) => assembled,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let Assembled {
            bound,
            admin,
            controller,
            mut view,
        } = assembled;
        let (control, events) = Control::new(view.clone());
        let (weak, closing) = (control.downgrade(), admin.closing.clone());
        drop(ready.send(Ok((control, admin))));
        let serve = async {
            // Where another process answers still, it alone knows.
            if view.opened().await {
                admin::serve(bound, token, weak, closing.clone()).await;
            }
        };
        let run = async {
            controller.run(events).await;
            closing.close();
        };
        tokio::join!(serve, run);
    });
}

/// Everything of the control side, ready to run.
struct Assembled {
    bound: admin::Bound,
    admin: Admin,
    controller: Controller,
    view: View,
}

fn assemble(source: Source, mut inheritance: Inheritance) -> Result<Assembled, Error> {
    let (config, file) = match source {
        Source::Program(config) => (*config, None),
        Source::File(mut file) => {
            let (config, warnings) = file.load().map_err(Error::Problems)?;
            warnings.iter().for_each(control::log_problem);
            (config, Some(file))
        }
    };
    let not_bound = |error: io::Error| Error::Bind(format!("admin address: {error}"));
    let bound = match inheritance.sockets.take_admin(&config.admin) {
        Some(taken) => admin::adopt(taken),
        None => admin::bind(&config.admin),
    };
    let bound = bound.map_err(not_bound)?;
    let admin = Admin {
        address: bound.address(),
        socket: Some(bound.leave(&config.admin).map_err(not_bound)?),
        closing: admin::Closing::default(),
    };
    // Where this fails the admin address is closed first, so whoever tries again at once finds it free.
    let (controller, view) = Controller::start(&config, file, inheritance)?;
    Ok(Assembled {
        bound,
        admin,
        controller,
        view,
    })
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
        &self.admin.address
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

    /// Lets clients in.
    async fn open(&self) -> Result<(), Error> {
        Ok(self.control.open().await?)
    }

    /// Everything that another process needs to go on here; nothing changes.
    fn leave(&self) -> impl Future<Output = io::Result<(Inheritance, Leaving)>> + use<> {
        let admin = self.admin.socket.as_ref().map(AdminSocket::try_clone);
        let control = self.control.clone();
        async move {
            let (mut left, leaving) = control.leave().await?;
            left.sockets.admin.extend(admin.transpose()?);
            Ok((left, leaving))
        }
    }

    /// Leaves the admin address to another process.
    async fn pass_on(&mut self) {
        self.admin.socket = None;
        self.admin.closing.pass_on().await;
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
