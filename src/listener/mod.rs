//! The front doors: which listeners run, on which sockets, on every worker. Never knows targets or rules.

mod accept;
mod balance;
mod connection;
mod http1;
mod http2;
mod socket;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::socket::Claim;
use crate::drain::Drain;
use crate::model;
use crate::snapshot::{ListenerId, Snapshot};
use crate::{upstream, worker};

/// How often a worker looks after its idle connections to targets.
const POOL_SWEEP: Duration = Duration::from_secs(1);

/// The running listeners and the workers that serve them.
#[derive(Debug)]
pub(crate) struct Listeners {
    workers: Vec<Worker>,
    open: Vec<Open>,
    /// Ports of closed listeners whose sockets or connections may still be there.
    closing: Vec<(u16, Weak<AtomicUsize>)>,
    next_id: u32,
}

/// One listener that runs.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) id: ListenerId,
    /// What the configuration asked for; port 0 asks for any.
    asked: (Option<IpAddr>, u16),
    /// What it got.
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Open {
    /// Connections that are open now.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A listener of a configuration that is being applied: one that runs already, or one whose sockets are bound.
#[derive(Debug)]
pub(crate) enum Prepared {
    Running(Open),
    Bound(Open, Vec<TcpListener>),
}

impl Prepared {
    pub(crate) fn open(&self) -> &Open {
        match self {
            Self::Running(open) | Self::Bound(open, _) => open,
        }
    }
}

/// A port that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("port {port} cannot be bound: {error}")]
pub(crate) struct BindError {
    /// Which listener of the configuration asked for it.
    pub(crate) index: usize,
    pub(crate) port: u16,
    #[source]
    pub(crate) error: io::Error,
}

#[derive(Debug)]
struct Worker {
    commands: mpsc::UnboundedSender<Command>,
    thread: JoinHandle<()>,
}

/// What a worker can be told.
enum Command {
    Open {
        id: ListenerId,
        connections: Arc<AtomicUsize>,
    },
    /// Accept for a listener that is open on every worker.
    Accept { id: ListenerId, socket: TcpListener },
    /// Serve a connection that another worker accepted.
    Adopt(balance::HandedOver),
    /// Stop accepting, let connections finish.
    Close { id: ListenerId },
    /// Look at the newest snapshot and say so.
    Refresh { done: oneshot::Sender<()> },
    /// Close everything and say when it is done; what still goes on is ended at `until`.
    Finish {
        until: Instant,
        finished: oneshot::Sender<()>,
    },
    /// End now.
    Stop,
}

impl Listeners {
    /// Starts `count` workers without any listener.
    ///
    /// # Errors
    /// When the system gives no thread; none is left running then.
    pub(crate) fn start(count: usize, current: Arc<ArcSwap<Snapshot>>) -> io::Result<Self> {
        // Bounded by what is sent: a command for each listener of a configuration, and connections on their way from
        // one worker to another, which the receiver counts as its own.
        let (commands, received): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let balances = balance::Balance::of(&commands);
        let mut listeners = Self {
            workers: Vec::with_capacity(count),
            open: Vec::new(),
            closing: Vec::new(),
            next_id: 0,
        };
        for (index, ((commands, received), balance)) in
            commands.into_iter().zip(received).zip(balances).enumerate()
        {
            let current = Arc::clone(&current);
            match worker::start(index, move || run(received, current, balance)) {
                Ok(thread) => listeners.workers.push(Worker { commands, thread }),
                Err(error) => {
                    // Workers know each other, so those that run would never find their channel closed.
                    listeners.stop();
                    return Err(error);
                }
            }
        }
        Ok(listeners)
    }

    /// Finds or binds the sockets of every listener, in order; nothing accepts yet. A listener on any free port keeps
    /// the port that it found.
    ///
    /// # Errors
    /// The first port that could not be bound; what was bound before is closed again.
    pub(crate) fn prepare(
        &mut self,
        listeners: &[model::Listener],
    ) -> Result<Vec<Prepared>, BindError> {
        let mut prepared = Vec::with_capacity(listeners.len());
        let running = self.running(listeners);
        for (index, (listener, running)) in listeners.iter().zip(running).enumerate() {
            let asked = (listener.address, listener.port);
            prepared.push(match running {
                Some(open) => Prepared::Running(open),
                None => self.bind(asked, &prepared).map_err(|error| BindError {
                    index,
                    port: listener.port,
                    error,
                })?,
            });
        }
        Ok(prepared)
    }

    /// Those of these listeners that run already, by their numbers.
    pub(crate) fn known(&self, listeners: &[model::Listener]) -> Vec<Option<ListenerId>> {
        let running = self.running(listeners).into_iter();
        running.map(|open| open.map(|open| open.id)).collect()
    }

    /// Those of these listeners that run already: what they ask for was asked for before.
    fn running(&self, listeners: &[model::Listener]) -> Vec<Option<Open>> {
        let mut open = self.open.clone();
        let find = |listener: &model::Listener| {
            let asked = (listener.address, listener.port);
            let known = open.iter().position(|open| open.asked == asked)?;
            Some(open.remove(known))
        };
        listeners.iter().map(find).collect()
    }

    fn bind(
        &mut self,
        asked: (Option<IpAddr>, u16),
        prepared: &[Prepared],
    ) -> io::Result<Prepared> {
        let (address, port) = asked;
        let claim = self.claim(port, prepared);
        let sockets = socket::bind(address, port, self.workers.len(), claim)?;
        let address = sockets[0].local_addr()?;
        self.next_id += 1;
        let open = Open {
            id: ListenerId(self.next_id),
            asked,
            address,
            connections: Arc::default(),
        };
        Ok(Prepared::Bound(open, sockets))
    }

    /// Workers close sockets in their own time, and a listener may move from one address to another on its port.
    fn claim(&mut self, port: u16, prepared: &[Prepared]) -> Claim {
        self.closing.retain(|(_, rest)| rest.strong_count() > 0);
        let open = self.open.iter().chain(prepared.iter().map(Prepared::open));
        let mut ours = open
            .map(|open| open.address.port())
            .chain(self.closing.iter().map(|(port, _)| *port));
        if port == 0 || ours.any(|ours| ours == port) {
            Claim::Shared
        } else {
            Claim::Sole
        }
    }

    /// Opens what was bound and closes what is not among the prepared. The snapshot that knows them is current by now.
    pub(crate) fn commit(&mut self, prepared: Vec<Prepared>) {
        let mut open = Vec::with_capacity(prepared.len());
        for listener in prepared {
            open.push(listener.open().clone());
            if let Prepared::Bound(bound, sockets) = listener {
                let id = bound.id;
                // All know it before any accepts: the first connection may be handed over at once.
                for worker in &self.workers {
                    let connections = Arc::clone(&bound.connections);
                    worker.tell(Command::Open { id, connections });
                }
                for (worker, socket) in self.workers.iter().zip(sockets) {
                    worker.tell(Command::Accept { id, socket });
                }
            }
        }
        for gone in self
            .open
            .iter()
            .filter(|old| open.iter().all(|new| new.id != old.id))
        {
            for worker in &self.workers {
                worker.tell(Command::Close { id: gone.id });
            }
            let rest = Arc::downgrade(&gone.connections);
            self.closing.push((gone.address.port(), rest));
        }
        self.open = open;
    }

    /// Lets every worker look at the newest snapshot; ends when all have. Until then one that had nothing to do would
    /// hold on to the one before.
    pub(crate) fn refresh(&self) -> impl Future<Output = ()> + Send + 'static {
        all(self.tell_all(|done| Command::Refresh { done }))
    }

    /// Stops accepting; ends when the last connection has. They are told that nobody waits beyond `until`.
    pub(crate) fn finish(&self, until: Instant) -> impl Future<Output = ()> + Send + 'static {
        all(self.tell_all(|finished| Command::Finish { until, finished }))
    }

    /// Tells every worker something that it will say to have done.
    fn tell_all(
        &self,
        command: impl Fn(oneshot::Sender<()>) -> Command,
    ) -> Vec<oneshot::Receiver<()>> {
        let tell = |worker: &Worker| {
            let (done, told) = oneshot::channel();
            worker.tell(command(done));
            told
        };
        self.workers.iter().map(tell).collect()
    }

    /// Ends the workers with whatever they still do, and waits for their threads.
    pub(crate) fn stop(self) {
        for worker in &self.workers {
            worker.tell(Command::Stop);
        }
        for worker in self.workers {
            if worker.thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

async fn all(told: Vec<oneshot::Receiver<()>>) {
    for done in told {
        // A worker that is gone has done it too.
        let _ = done.await;
    }
}

impl Worker {
    /// A worker that is gone has nothing to be told.
    fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

/// One listener on this worker.
struct Door {
    place: Rc<connection::Place>,
    connections: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Door {
    fn close(&self) {
        self.stop.cancel();
        self.place.drain.begin();
    }

    fn close_until(&self, until: Instant) {
        self.stop.cancel();
        self.place.drain.begin_until(until);
    }
}

/// A worker's life.
async fn run(
    mut commands: mpsc::UnboundedReceiver<Command>,
    current: Arc<ArcSwap<Snapshot>>,
    balance: balance::Balance,
) {
    let mut doors: HashMap<ListenerId, Door> = HashMap::new();
    let mut sweeps = tokio::time::interval(POOL_SWEEP);
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            _ = sweeps.tick() => {
                upstream::sweep(current.load().idle_timeout, Instant::now());
                continue;
            }
        };
        match command {
            Some(Command::Open { id, connections }) => {
                let Some(place) = connection::Place::new(id, Arc::clone(&current), Drain::new())
                else {
                    continue;
                };
                let door = Door {
                    place: Rc::new(place),
                    connections,
                    stop: CancellationToken::new(),
                };
                doors.insert(id, door);
            }
            Some(Command::Accept { id, socket }) => {
                let Some(door) = doors.get(&id) else {
                    continue;
                };
                door.place.drain.spawn(accept::run(
                    socket,
                    Rc::clone(&door.place),
                    Arc::clone(&door.connections),
                    balance.clone(),
                    door.stop.clone(),
                ));
            }
            Some(Command::Adopt(connection)) => {
                // A listener that closed meanwhile closes what comes late.
                if let Some(door) = doors.get(&connection.id) {
                    accept::adopt(connection, &door.place, &door.connections);
                }
            }
            Some(Command::Close { id }) => {
                if let Some(door) = doors.remove(&id) {
                    door.close();
                }
            }
            Some(Command::Refresh { done }) => {
                for door in doors.values() {
                    door.place.listener();
                }
                let _ = done.send(());
            }
            Some(Command::Finish { until, finished }) => {
                let drains: Vec<_> = doors.drain().map(|(_, door)| door).collect();
                drains.iter().for_each(|door| door.close_until(until));
                tokio::task::spawn_local(async move {
                    tokio::time::sleep_until(until.into()).await;
                    worker::wake_all();
                });
                tokio::task::spawn_local(async move {
                    for door in drains {
                        door.place.drain.finished().await;
                    }
                    let _ = finished.send(());
                });
            }
            Some(Command::Stop) | None => return,
        }
    }
}
