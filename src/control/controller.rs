//! The one task that owns what runs: it takes one event at a time. What each event does is said in files of its own.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use super::apply::Rejected;
use super::{Event, Readiness, Running, View};
use crate::listener::Listeners;
use crate::model::{self, Config, Generation};
use crate::snapshot::Snapshot;
use crate::target::Registry;
use crate::target::stickiness::Keys;
use crate::telemetry::{AccessLog, Metrics, ProcessMetrics};
use crate::worker;

/// Owns what runs. Its parts are changed here and nowhere else.
#[derive(Debug)]
pub(crate) struct Controller {
    pub(super) registry: Registry,
    pub(super) listeners: Listeners,
    pub(super) current: Arc<ArcSwap<Snapshot>>,
    pub(super) generation: Generation,
    pub(super) metrics: Arc<Metrics>,
    pub(super) process: ProcessMetrics,
    pub(super) access_log: Option<(model::AccessLog, AccessLog)>,
    /// Made at start; sessions end with the process.
    pub(super) cookie_keys: Arc<Keys>,
    pub(super) running: watch::Sender<Arc<Running>>,
    pub(super) readiness: watch::Sender<Readiness>,
    /// Checks and look-ups of targets.
    pub(super) tasks: TaskTracker,
}

impl Controller {
    /// Starts the workers and applies the first configuration.
    ///
    /// # Errors
    /// As `apply`; nothing is left running then.
    pub(crate) fn start(config: &Config) -> Result<(Self, View), Rejected> {
        let workers = match config.workers {
            model::Workers::Auto => worker::count(),
            model::Workers::Count(count) => count.get(),
        };
        let current = Arc::new(ArcSwap::from_pointee(Snapshot::new(
            config.load_balancer.idle_timeout,
            Vec::new(),
        )));
        // Before the workers: they run until they are told to stop.
        let cookie_keys = Arc::new(Keys::generate().map_err(|_| Rejected::Random)?);
        let listeners =
            Listeners::start(workers, Arc::clone(&current)).map_err(Rejected::Workers)?;
        let tasks = TaskTracker::new();
        let metrics = Arc::new(Metrics::new(&config.load_balancer.name));
        let process = metrics.process();
        process
            .workers
            .set(u32::try_from(workers).unwrap_or(u32::MAX));
        let nothing = Running {
            generation: Generation(0),
            listeners: Vec::new(),
            groups: Vec::new(),
        };
        let (running, running_view) = watch::channel(Arc::new(nothing));
        let (readiness, readiness_view) = watch::channel(Readiness::Ready);
        let view = View {
            readiness: readiness_view,
            running: running_view,
            metrics: Arc::clone(&metrics),
        };
        let registry = Registry::new(workers, tasks.clone());
        let generation = Generation(0);
        let mut controller = Self {
            registry,
            listeners,
            current,
            generation,
            metrics,
            process,
            access_log: None,
            cookie_keys,
            running,
            readiness,
            tasks,
        };
        match controller.apply(config) {
            Ok(_first) => Ok((controller, view)),
            Err(rejected) => {
                controller.listeners.stop();
                Err(rejected)
            }
        }
    }

    /// Takes events until told to stop.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            match event {
                Event::Apply(config, reply) => {
                    let outcome = self.apply(&config);
                    // Whoever asked may have left; what was applied stays.
                    drop(reply.send(outcome));
                }
                Event::Finish(until, reply) => {
                    self.readiness.send_replace(Readiness::Draining);
                    let finished = self.listeners.finish(until);
                    self.tasks.spawn(async move {
                        finished.await;
                        let _left = reply.send(());
                    });
                }
                Event::Stop => break,
            }
        }
        self.stop().await;
    }

    async fn stop(self) {
        self.registry.stop();
        self.listeners.stop();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
