//! Accepts sockets for one listener on one worker: a task per connection, a limit, a pause when the system has no
//! more to give.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::balance::{Balance, Counted, HandedOver, Placed};
use super::connection::{self, Place};
use super::crowd::Visit;
use crate::telemetry::ListenerMetrics;
use crate::tls::Socket;

/// Most connections of one listener on one worker; beyond it they wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 65_536;

/// How long to wait when nothing can be accepted: long enough not to spin, short enough not to be noticed.
const PAUSE: Duration = Duration::from_millis(50);

/// Most connections that are taken from a socket's queue once it is to be closed; the queue holds no more.
const LAST_MAX: usize = 4096;

/// Accepts until told to stop, then takes who waits already and closes the socket. Connections go on.
pub(super) async fn run(
    socket: std::net::TcpListener,
    place: Rc<Place>,
    open: Arc<AtomicUsize>,
    balance: Balance,
    stop: CancellationToken,
) {
    // Cannot fail on a worker: the socket is non-blocking and the event queue is there.
    let Ok(socket) = TcpListener::from_std(socket) else {
        return;
    };
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => take(tcp, peer, &place, &open, &balance),
            // The client was gone before we looked.
            Err(error) if is_about_the_client(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
        while place.drain.open() >= CONNECTIONS_MAX && !stop.is_cancelled() {
            tokio::time::sleep(PAUSE).await;
        }
    }
    take_the_last(socket, &place, &open, &balance);
}

/// Serves a connection here, or has another worker serve it, if it may come in at all.
fn take(
    tcp: TcpStream,
    peer: SocketAddr,
    place: &Rc<Place>,
    open: &Arc<AtomicUsize>,
    balance: &Balance,
) {
    let placed = balance.place();
    // Asked here, so that whoever is turned away costs no other worker anything.
    let Some(visit) = enter(peer, place, balance) else {
        return;
    };
    match placed {
        Placed::Here(counted) => spawn(tcp, peer, place, open, visit, counted),
        Placed::There(worker, counted) => {
            // A socket that cannot leave this event queue is closed with it.
            if let Ok(tcp) = tcp.into_std() {
                balance.hand_over(
                    worker,
                    HandedOver {
                        id: place.id,
                        tcp,
                        peer,
                        visit,
                        counted,
                    },
                );
            }
        }
    }
}

/// Lets a client in whose connection is in its worker's count already; one that may not come in is counted as turned
/// away, and as nothing else.
fn enter(peer: SocketAddr, place: &Place, balance: &Balance) -> Option<Visit> {
    let listener = place.listener();
    let entered = place.enter(peer, balance.connections(), &listener);
    let turned_away = |limit| listener.ledger.metrics.count_limit(limit);
    entered.map_err(turned_away).ok()
}

/// Takes the connections that wait in a socket's queue: closing it would reset them.
fn take_the_last(
    socket: TcpListener,
    place: &Rc<Place>,
    open: &Arc<AtomicUsize>,
    balance: &Balance,
) {
    let Ok(socket) = socket.into_std() else {
        return;
    };
    for _ in 0..LAST_MAX {
        if place.drain.open() >= CONNECTIONS_MAX {
            return;
        }
        match socket.accept() {
            Ok((tcp, peer)) => {
                let tcp = tcp
                    .set_nonblocking(true)
                    .and_then(|()| TcpStream::from_std(tcp));
                let counted = balance.stay();
                if let Ok(tcp) = tcp
                    && let Some(visit) = enter(peer, place, balance)
                {
                    spawn(tcp, peer, place, open, visit, counted);
                }
            }
            Err(error) if is_about_the_client(&error) => {}
            Err(_) => return,
        }
    }
}

/// Serves a connection that another worker accepted.
pub(super) fn adopt(connection: HandedOver, place: &Rc<Place>, open: &Arc<AtomicUsize>) {
    let HandedOver {
        id: _,
        tcp,
        peer,
        visit,
        counted,
    } = connection;
    if let Ok(tcp) = TcpStream::from_std(tcp) {
        spawn(tcp, peer, place, open, visit, counted);
    }
}

fn spawn(
    tcp: TcpStream,
    peer: SocketAddr,
    place: &Rc<Place>,
    open: &Arc<AtomicUsize>,
    visit: Visit,
    load: Counted,
) {
    let counted = (Open::count(open, &place.listener().ledger.metrics), load);
    let (socket, place_of_one) = (Socket::new(tcp), Rc::clone(place));
    place.drain.spawn(connection::serve(
        socket,
        peer,
        place_of_one,
        visit,
        counted,
    ));
}

fn is_about_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}

/// One connection in the listener's count of open ones.
struct Open {
    open: Arc<AtomicUsize>,
    gauge: Gauge,
}

impl Open {
    fn count(open: &Arc<AtomicUsize>, metrics: &ListenerMetrics) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        metrics.connections_total.increment(1);
        metrics.connections.increment(1);
        Self {
            open: Arc::clone(open),
            gauge: metrics.connections.clone(),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.gauge.decrement(1);
    }
}
