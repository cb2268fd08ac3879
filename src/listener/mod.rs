//! The front doors: which listeners run, on which sockets, on every worker. Never knows targets or rules.

mod accept;
mod balance;
mod connection;
mod crowd;
mod http1;
mod http2;
mod proxied;
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
use tokio_util::task::TaskTracker;

use self::socket::Claim;
use crate::drain::{Drain, Idle};
use crate::handover::{Asked, ListenerSockets, Sockets};
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
    /// The sockets of those that are open, to be handed over one day. A socket is closed when it is dropped here and
    /// on its workers.
    sockets: HashMap<ListenerId, Vec<TcpListener>>,
    /// Sockets of others, for the first listeners that fit.
    inherited: Sockets,
    doors: Doors,
    /// Ports of closed listeners whose sockets or connections may still be there.
    closing: Vec<(u16, Weak<AtomicUsize>)>,
    next_id: u32,
}

/// Whether clients may come in.
#[derive(Debug)]
enum Doors {
    Open,
    /// Not before these are accepted from.
    Held(Vec<(ListenerId, Vec<TcpListener>)>),
}

/// One listener that runs.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) id: ListenerId,
    /// What the configuration asked for; port 0 asks for any.
    pub(crate) asked: (Option<IpAddr>, u16),
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
    Bound(Open, Bound),
}

/// The sockets of a listener that is about to open.
#[derive(Debug)]
pub(crate) struct Bound {
    sockets: Vec<TcpListener>,
    /// The same, shared out to workers in turn.
    shares: Vec<TcpListener>,
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
    /// Let everything that waits look up: the drain of a target begins, or is over.
    Wake,
    /// Look at the newest snapshot and say so.
    Refresh { done: oneshot::Sender<()> },
    /// The same for every listener, and what still goes on is ended at `until`; the answer comes when nothing more will
    /// be accepted.
    CloseAll {
        until: Instant,
        idle: Idle,
        closed: oneshot::Sender<()>,
    },
    /// Say when every connection has finished.
    Finish { finished: oneshot::Sender<()> },
    /// End now.
    Stop,
}

impl Listeners {
    /// Starts `count` workers without any listener. New ones take the sockets they find among `inherited`. None accepts
    /// before `open_doors`, and none of those that are bound even listens, since somebody else may serve until then:
    /// clients would wait in vain if it came to nothing.
    ///
    /// # Errors
    /// When the system gives no thread; none is left running then.
    pub(crate) fn start(
        count: usize,
        current: Arc<ArcSwap<Snapshot>>,
        inherited: Sockets,
    ) -> io::Result<Self> {
        // Bounded by what is sent: a command for each listener of a configuration, and connections on their way from
        // one worker to another, which the receiver counts as its own.
        let (commands, received): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let balances = balance::Balance::of(&commands);
        let crowd = crowd::Crowd::new();
        let mut listeners = Self {
            workers: Vec::with_capacity(count),
            open: Vec::new(),
            sockets: HashMap::new(),
            inherited,
            doors: Doors::Held(Vec::new()),
            closing: Vec::new(),
            next_id: 0,
        };
        for (index, ((commands, received), balance)) in
            commands.into_iter().zip(received).zip(balances).enumerate()
        {
            let (current, crowd) = (Arc::clone(&current), Arc::clone(&crowd));
            match worker::start(index, move || run(received, current, balance, crowd)) {
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

    /// Finds, takes over or binds the sockets of every listener, in order; nothing accepts yet. A listener on any free
    /// port keeps the port that it found.
    ///
    /// # Errors
    /// The first port that could not be had; what was bound before is closed again.
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
                None => self.find(asked, &prepared).map_err(|error| BindError {
                    index,
                    port: listener.port,
                    error,
                })?,
            });
        }
        Ok(prepared)
    }

    /// Those that run, in the order of the configuration.
    pub(crate) fn open(&self) -> &[Open] {
        &self.open
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

    fn find(
        &mut self,
        asked: (Option<IpAddr>, u16),
        prepared: &[Prepared],
    ) -> io::Result<Prepared> {
        let (address, port) = asked;
        let mut sockets = self.inherited.take(address, port);
        if sockets.is_empty() {
            let claim = self.claim(port, prepared);
            sockets = socket::bind(address, port, self.workers.len(), claim)?;
        } else {
            socket::adopt(&sockets)?;
        }
        if let Doors::Open = self.doors {
            socket::listen(&sockets)?;
        }
        let shares = socket::share_out(&sockets, self.workers.len())?;
        let address = sockets[0].local_addr()?;
        self.next_id += 1;
        let open = Open {
            id: ListenerId(self.next_id),
            asked,
            address,
            connections: Arc::default(),
        };
        Ok(Prepared::Bound(open, Bound { sockets, shares }))
    }

    /// Workers close sockets in their own time, and a listener may move from one address to another on its port.
    fn claim(&mut self, port: u16, prepared: &[Prepared]) -> Claim {
        self.closing.retain(|(_, rest)| rest.strong_count() > 0);
        let open = self.open.iter().chain(prepared.iter().map(Prepared::open));
        let mut ours = open
            .map(|open| open.address.port())
            .chain(self.closing.iter().map(|(port, _)| *port));
        if port == 0 || ours.any(|ours| ours == port) || self.inherited.has_port(port) {
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
            if let Prepared::Bound(bound, Bound { sockets, shares }) = listener {
                let id = bound.id;
                // All know it before any accepts: the first connection may be handed over at once.
                for worker in &self.workers {
                    let connections = Arc::clone(&bound.connections);
                    worker.tell(Command::Open { id, connections });
                }
                self.sockets.insert(id, sockets);
                match &mut self.doors {
                    Doors::Open => self.accept(id, shares),
                    Doors::Held(waiting) => waiting.push((id, shares)),
                }
            }
        }
        for gone in self
            .open
            .iter()
            .filter(|old| open.iter().all(|new| new.id != old.id))
        {
            self.sockets.remove(&gone.id);
            for worker in &self.workers {
                worker.tell(Command::Close { id: gone.id });
            }
            let rest = Arc::downgrade(&gone.connections);
            self.closing.push((gone.address.port(), rest));
        }
        self.closing.retain(|(_, rest)| rest.strong_count() > 0);
        self.open = open;
    }

    /// Lets every worker look at the newest snapshot; ends when all have. Until then one that had nothing to do would
    /// hold on to the one before.
    pub(crate) fn refresh(&self) -> impl Future<Output = ()> + Send + 'static {
        let workers = self.commands();
        async move { all(&workers, |done| Command::Refresh { done }).await }
    }

    /// The sockets of those that are open, once more, for another process.
    ///
    /// # Errors
    /// When the system has no more descriptors.
    pub(crate) fn leave(&self) -> io::Result<Vec<ListenerSockets>> {
        let leave = |open: &Open| {
            let sockets = self.sockets.get(&open.id).into_iter().flatten();
            Ok(ListenerSockets {
                asked: Asked::As(open.asked.0, open.asked.1),
                sockets: sockets
                    .map(TcpListener::try_clone)
                    .collect::<io::Result<_>>()?,
            })
        };
        self.open.iter().map(leave).collect()
    }

    fn accept(&self, id: ListenerId, shares: Vec<TcpListener>) {
        for (worker, socket) in self.workers.iter().cycle().zip(shares) {
            worker.tell(Command::Accept { id, socket });
        }
    }

    /// Lets every request that waits look up.
    pub(crate) fn wake(&self) {
        for worker in &self.workers {
            worker.tell(Command::Wake);
        }
    }

    /// Accepts from what was held until now, and closes what was inherited for nothing.
    ///
    /// # Errors
    /// When a port has been lost meanwhile; nothing accepts then.
    pub(crate) fn open_doors(&mut self) -> Result<(), BindError> {
        for (index, open) in self.open.iter().enumerate() {
            let sockets = self.sockets.get(&open.id);
            socket::listen(sockets.map_or(&[], Vec::as_slice)).map_err(|error| BindError {
                index,
                port: open.address.port(),
                error,
            })?;
        }
        if let Doors::Held(waiting) = std::mem::replace(&mut self.doors, Doors::Open) {
            for (id, shares) in waiting {
                self.accept(id, shares);
            }
        }
        for address in self.inherited.addresses() {
            tracing::warn!(%address, "no listener wants an inherited socket");
        }
        self.inherited = Sockets::default();
        Ok(())
    }

    /// Stops accepting; ends when no worker does any more. Connections are told that nobody waits beyond `until`. Asked
    /// again, it may be in more of a hurry.
    pub(crate) fn close(
        &mut self,
        until: Instant,
        idle: Idle,
    ) -> impl Future<Output = ()> + Send + 'static {
        self.sockets.clear();
        let workers = self.commands();
        async move {
            let close = |closed| Command::CloseAll {
                until,
                idle,
                closed,
            };
            all(&workers, close).await;
        }
    }

    /// Ends when the last connection has. To be asked once nothing is accepted any more: what workers handed over to
    /// each other until then has come before this.
    pub(crate) fn finished(&self) -> impl Future<Output = ()> + Send + 'static {
        let workers = self.commands();
        async move { all(&workers, |finished| Command::Finish { finished }).await }
    }

    fn commands(&self) -> Vec<mpsc::UnboundedSender<Command>> {
        let workers = self.workers.iter();
        workers.map(|worker| worker.commands.clone()).collect()
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

/// Tells every worker something, and waits until all say that it is done. One that is gone has done it too.
async fn all(
    workers: &[mpsc::UnboundedSender<Command>],
    command: impl Fn(oneshot::Sender<()>) -> Command,
) {
    let ask = |worker: &mpsc::UnboundedSender<Command>| {
        let (reply, answer) = oneshot::channel();
        let _ = worker.send(command(reply));
        answer
    };
    let answers: Vec<_> = workers.iter().map(ask).collect();
    for answer in answers {
        let _ = answer.await;
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
    /// Tasks that accept.
    accepting: TaskTracker,
    closed: Option<Instant>,
}

impl Door {
    fn close(&mut self, idle: Idle) {
        self.stop.cancel();
        self.accepting.close();
        self.place.drain.begin(idle);
        self.closed.get_or_insert_with(Instant::now);
    }

    /// Whether nobody is there and nobody will come. Connections that another worker accepted before the door closed
    /// may be on their way for a moment.
    fn is_deserted(&self) -> bool {
        let closed = self.closed.is_some_and(|at| at.elapsed() >= POOL_SWEEP);
        closed && self.place.drain.open() == 0
    }
}

/// A worker's life.
async fn run(
    mut commands: mpsc::UnboundedReceiver<Command>,
    current: Arc<ArcSwap<Snapshot>>,
    balance: balance::Balance,
    crowd: Arc<crowd::Crowd>,
) {
    let mut doors: HashMap<ListenerId, Door> = HashMap::new();
    let mut sweeps = tokio::time::interval(POOL_SWEEP);
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            _ = sweeps.tick() => {
                let gone = upstream::sweep(current.load().idle_timeout, Instant::now());
                // Ends with the worker, and with it what is still open.
                tokio::task::spawn_local(gone.close());
                doors.retain(|_, door| !door.is_deserted());
                continue;
            }
        };
        match command {
            Some(Command::Open { id, connections }) => {
                let (current, crowd) = (Arc::clone(&current), Arc::clone(&crowd));
                let Some(place) = connection::Place::new(id, current, crowd, Drain::new()) else {
                    continue;
                };
                let door = Door {
                    place: Rc::new(place),
                    connections,
                    stop: CancellationToken::new(),
                    accepting: TaskTracker::new(),
                    closed: None,
                };
                doors.insert(id, door);
            }
            Some(Command::Accept { id, socket }) => {
                let Some(door) = doors.get(&id) else {
                    continue;
                };
                door.accepting.spawn_local(accept::run(
                    socket,
                    Rc::clone(&door.place),
                    Arc::clone(&door.connections),
                    balance.clone(),
                    door.stop.clone(),
                ));
            }
            Some(Command::Adopt(connection)) => {
                if let Some(door) = doors.get(&connection.id) {
                    accept::adopt(connection, &door.place, &door.connections);
                }
            }
            Some(Command::Close { id }) => {
                if let Some(door) = doors.get_mut(&id) {
                    door.close(Idle::End);
                }
            }
            Some(Command::Wake) => worker::wake_all(),
            Some(Command::Refresh { done }) => {
                for door in doors.values() {
                    door.place.listener();
                }
                let _ = done.send(());
            }
            Some(Command::CloseAll {
                until,
                idle,
                closed,
            }) => {
                for door in doors.values_mut() {
                    door.place.drain.end_at(until);
                    door.close(idle);
                }
                tokio::task::spawn_local(async move {
                    tokio::time::sleep_until(until.into()).await;
                    worker::wake_all();
                });
                let accepting: Vec<_> = doors.values().map(|door| door.accepting.clone()).collect();
                tokio::task::spawn_local(async move {
                    for tasks in accepting {
                        tasks.wait().await;
                    }
                    let _ = closed.send(());
                });
            }
            Some(Command::Finish { finished }) => {
                let places: Vec<_> = doors.values().map(|door| Rc::clone(&door.place)).collect();
                tokio::task::spawn_local(async move {
                    for place in places {
                        place.drain.finished().await;
                    }
                    let _ = finished.send(());
                });
            }
            Some(Command::Stop) | None => return,
        }
    }
}
