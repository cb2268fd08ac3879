//! The one task that owns what runs: it takes one event at a time. What each event does is said in files of its own.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::task::TaskTracker;

use super::access_logs::AccessLogs;
use super::apply::Rejected;
use super::certificates::Reminder;
use super::cookie_keys::{self, CookieKeys};
use super::finish::Ending;
use super::reload::Fixed;
use super::retired::Retired;
use super::status::LastReload;
use super::{Event, Leaving, Readiness, Refused, Running, View};
use crate::config::{File, LOOK_EVERY};
use crate::handover::{Inheritance, Known, KnownTickets, Sockets};
use crate::listener::Listeners;
use crate::model::{self, Config, Generation, Shutdown};
use crate::snapshot::{ListenerId, Snapshot};
use crate::target::Registry;
use crate::telemetry::{Metrics, ProcessMetrics, ReloadMetrics};
use crate::tls::server::Settings;
use crate::worker;

/// Owns what runs. Its parts are changed here and nowhere else.
#[derive(Debug)]
pub(crate) struct Controller {
    pub(super) registry: Registry,
    pub(super) listeners: Listeners,
    /// The TLS settings of the HTTPS listeners that run.
    pub(super) tls: HashMap<ListenerId, Settings>,
    /// Ticket keys of another process, for the first listeners that fit.
    pub(super) tickets: Vec<KnownTickets>,
    pub(super) reminder: Reminder,
    pub(super) current: Arc<ArcSwap<Snapshot>>,
    pub(super) retired: Retired,
    pub(super) generation: Generation,
    pub(super) metrics: Arc<Metrics>,
    pub(super) process: ProcessMetrics,
    pub(super) access_logs: AccessLogs,
    pub(super) cookie_keys: CookieKeys,
    /// Where the configuration comes from; `None` in a program that makes its own.
    pub(super) file: Option<File>,
    pub(super) fixed: Fixed,
    pub(super) reloads: ReloadMetrics,
    pub(super) last_reload: watch::Sender<Option<Arc<LastReload>>>,
    pub(super) shutdown: Shutdown,
    pub(super) ending: Ending,
    /// Closed once nobody prepares to take over.
    leaving: Option<oneshot::Receiver<Infallible>>,
    pub(super) running: watch::Sender<Arc<Running>>,
    pub(super) readiness: watch::Sender<Readiness>,
    /// Checks and look-ups of targets.
    pub(super) tasks: TaskTracker,
}

impl Controller {
    /// Starts the workers and applies the first configuration; `file` is where later ones come from. Nothing accepts
    /// before `Event::Open`.
    ///
    /// # Errors
    /// As `apply`; nothing is left running then.
    pub(crate) fn start(
        config: &Config,
        file: Option<File>,
        inherited: Inheritance,
    ) -> Result<(Self, View), Rejected> {
        let workers = match config.workers {
            model::Workers::Auto => worker::count(),
            model::Workers::Count(count) => count.get(),
        };
        let current = Arc::new(ArcSwap::from_pointee(Snapshot::new(
            config.load_balancer.idle_timeout,
            Vec::new(),
        )));
        let Inheritance { sockets, known } = inherited;
        // Before the workers: they run until they are told to stop.
        let cookie_keys = CookieKeys::new(&known.cookie_keys, Timestamp::now());
        let cookie_keys = cookie_keys.map_err(cookie_keys::Error::from)?;
        let listeners =
            Listeners::start(workers, Arc::clone(&current), sockets).map_err(Rejected::Workers)?;
        let tasks = TaskTracker::new();
        let metrics = Arc::new(Metrics::new(&config.load_balancer.name, workers));
        let process = metrics.process();
        let access_logs = AccessLogs::new(workers, process.access_log_dropped.clone());
        process
            .workers
            .set(u32::try_from(workers).unwrap_or(u32::MAX));
        let reloads = metrics.reloads();
        let nothing = Running {
            generation: Generation(0),
            listeners: Vec::new(),
            groups: Vec::new(),
        };
        let (running, running_view) = watch::channel(Arc::new(nothing));
        let (readiness, readiness_view) = watch::channel(Readiness::Starting);
        let (last_reload, last_reload_view) = watch::channel(None);
        let view = View {
            readiness: readiness_view,
            running: running_view,
            last_reload: last_reload_view,
            metrics: Arc::clone(&metrics),
        };
        let registry = Registry::new(workers, tasks.clone(), known.targets);
        let generation = Generation(known.generation);
        let mut controller = Self {
            registry,
            listeners,
            tls: HashMap::new(),
            tickets: known.tickets,
            reminder: Reminder::new(Instant::now()),
            current,
            retired: Retired::default(),
            generation,
            metrics,
            process,
            access_logs,
            cookie_keys,
            file,
            fixed: Fixed::of(config),
            reloads,
            last_reload,
            shutdown: config.shutdown,
            ending: Ending::default(),
            leaving: None,
            running,
            readiness,
            tasks,
        };
        match controller.apply(config) {
            Ok(generation) => {
                controller.reloads.started(Timestamp::now());
                controller.tell_doubts(Timestamp::now());
                tracing::info!(%generation, "configuration applied");
                Ok((controller, view))
            }
            Err(rejected) => {
                controller.listeners.stop();
                Err(rejected)
            }
        }
    }

    /// Takes events until told to stop.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = self.next(&mut events, &mut looks).await;
            match event {
                Event::Apply(config, reply) => self.change(&config, reply),
                Event::Reload(reply) => self.reload(reply),
                Event::Drain {
                    group,
                    target,
                    reply,
                } => self.drain(&group, &target, reply),
                Event::Undrain {
                    group,
                    target,
                    reply,
                } => self.undrain(&group, &target, reply),
                Event::Finish(reply) => self.announce_end(reply),
                Event::Open(reply) => {
                    let _left = reply.send(self.open());
                }
                Event::Leave(reply) => {
                    let left = self.leave();
                    let _left = reply.send(left);
                }
                Event::GiveWay(closed, reply) => self.give_way(closed, reply),
                Event::Stop => break,
            }
        }
        self.stop().await;
    }

    /// What comes next. A file that has changed is one who asks for a reload.
    async fn next(&mut self, events: &mut mpsc::Receiver<Event>, looks: &mut Interval) -> Event {
        loop {
            // No arm loses anything when it is cancelled.
            tokio::select! {
                event = events.recv() => return event.unwrap_or(Event::Stop),
                () = until(self.due()) => self.tend(Instant::now()),
                _ = looks.tick() => {
                    self.retired.sweep();
                    self.access_logs.forget_finished();
                    // A file that changes now is the affair of whoever takes over, or is looked at when nobody does.
                    if self.is_settled() {
                        continue;
                    }
                    self.cookie_keys.look(Timestamp::now(), Instant::now());
                    self.rotate_ticket_keys(Timestamp::now());
                    self.remind(Timestamp::now(), Instant::now());
                    if self.file.as_mut().is_some_and(File::has_changed) {
                        let (reply, _nobody) = oneshot::channel();
                        return Event::Reload(reply);
                    }
                }
            }
        }
    }

    /// When something is to be done that nobody asks for.
    fn due(&self) -> Option<Instant> {
        let due = [self.end_is_due(), self.registry.next_end()];
        due.into_iter().flatten().min()
    }

    fn tend(&mut self, now: Instant) {
        self.end_drains(now);
        self.close_when_due(now);
    }

    /// Lets clients in.
    fn open(&mut self) -> Result<(), Refused> {
        self.listeners.open_doors().map_err(|error| {
            let rejected = Rejected::from(error);
            let problem = Box::new(rejected.problem());
            Refused::Rejected(rejected, problem)
        })?;
        self.readiness.send_replace(Readiness::Ready);
        Ok(())
    }

    /// Everything that another process needs to go on where this one is.
    fn leave(&mut self) -> io::Result<(Inheritance, Leaving)> {
        let sockets = Sockets {
            listeners: self.listeners.leave()?,
            admin: Vec::new(),
        };
        let known = Known {
            generation: self.generation.0,
            targets: self.registry.known(Instant::now()),
            cookie_keys: self.cookie_keys.known(),
            tickets: self.known_tickets(),
        };
        let (held, leaving) = oneshot::channel();
        self.leaving = Some(leaving);
        Ok((Inheritance { sockets, known }, Leaving { _held: held }))
    }

    /// Whether nothing is changed any more, or not while another process prepares to take over.
    pub(super) fn is_settled(&mut self) -> bool {
        let held = self
            .leaving
            .as_mut()
            .is_some_and(|leaving| leaving.try_recv() == Err(TryRecvError::Empty));
        if !held {
            self.leaving = None;
        }
        held || self.is_closing()
    }

    pub(crate) async fn stop(self) {
        self.registry.stop();
        self.listeners.stop();
        self.tasks.close();
        self.tasks.wait().await;
        // The last handles on the access log are in there. Whoever else runs on this thread has nothing to do any more.
        drop((self.current, self.retired));
        self.access_logs.finish();
    }
}

/// Waits for a moment, or for ever where there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
