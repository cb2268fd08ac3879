//! What every connection of a listener knows: its client, and the rules that hold right now. Does the TLS handshake
//! and hands over to HTTP/1.1 or HTTP/2.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use http::StatusCode;
use rustls::server::Acceptor;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::crowd::{Crowd, Visit};
use super::http1::{self, Desks};
use super::{http2, proxied};
use crate::drain::Drain;
use crate::http1::Connection;
use crate::message::{Client, ConnectionId, Exchange, Kind, Limit, Outstanding, TlsFacts, page};
use crate::model::Limits;
use crate::snapshot::{Listener, ListenerId, Snapshot};
use crate::tls::{self, Socket, Stream};
use crate::worker::{self, Alarm};

/// One listener on one worker.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) id: ListenerId,
    seen: RefCell<Seen>,
    crowd: Arc<Crowd>,
    pub(super) drain: Drain,
    desks: Desks,
}

/// The snapshot this worker looked at last, and this listener in it. Requests share the `Rc`: counting it up costs
/// no other worker anything.
#[derive(Debug)]
struct Seen {
    cache: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    snapshot: Arc<Snapshot>,
    listener: Rc<Current>,
}

/// A listener of some snapshot, held by one worker.
#[derive(Debug)]
pub(super) struct Current(Arc<Listener>);

impl Deref for Current {
    type Target = Listener;

    fn deref(&self) -> &Listener {
        &self.0
    }
}

impl Place {
    /// `None` when the current snapshot does not know this listener.
    pub(super) fn new(
        id: ListenerId,
        current: Arc<ArcSwap<Snapshot>>,
        crowd: Arc<Crowd>,
        drain: Drain,
    ) -> Option<Self> {
        let snapshot = current.load_full();
        let listener = Rc::new(Current(Arc::clone(snapshot.listener(id)?)));
        Some(Self {
            id,
            seen: RefCell::new(Seen {
                cache: Cache::new(current),
                snapshot,
                listener,
            }),
            crowd,
            drain,
            desks: Desks::default(),
        })
    }

    /// Lets a client in, or says which limit does not. Behind other load balancers it is not known yet whose connection
    /// it is.
    pub(super) fn enter(
        &self,
        peer: SocketAddr,
        connections: usize,
        listener: &Listener,
    ) -> Result<Visit, Limit> {
        let limits = &listener.limits;
        match listener.trusted_proxies {
            None => self.crowd.enter(peer.ip(), connections, limits),
            Some(_) => self
                .crowd
                .admit(connections, limits)
                .map(|()| Visit::unknown()),
        }
    }

    /// The listener as the newest snapshot has it; one that vanished stays as it was, for those who are still here.
    pub(super) fn listener(&self) -> Rc<Current> {
        let mut seen = self.seen.borrow_mut();
        let Seen {
            cache,
            snapshot,
            listener,
        } = &mut *seen;
        let newest = cache.load();
        if !Arc::ptr_eq(newest, snapshot) {
            *snapshot = Arc::clone(newest);
            if let Some(newest) = snapshot.listener(self.id) {
                *listener = Rc::new(Current(Arc::clone(newest)));
            }
        }
        Rc::clone(listener)
    }
}

/// One client connection, as its server loop knows it.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) client: Rc<Client>,
    pub(super) id: ConnectionId,
    /// One for all that it waits for in its life.
    pub(super) alarm: Alarm,
    place: Rc<Place>,
    visit: Visit,
    since: Instant,
}

impl Front {
    /// The listener's rules and limits, for one request.
    pub(super) fn listener(&self) -> Rc<Current> {
        self.place.listener()
    }

    /// Where its requests are answered.
    pub(super) fn desks(&self) -> &Desks {
        &self.place.desks
    }

    /// A record of the request that begins now, counted against what its client may ask. The wall clock is asked only
    /// for those who will read it.
    pub(super) fn begin(&self, kind: Kind, listener: &Listener) -> Exchange {
        let started = worker::refresh_clock();
        let log = listener.ledger.access_log.as_ref();
        let started_at = log.map(|_| worker::wall_clock(started));
        let (crowd, address) = (&self.place.crowd, self.client.peer.ip());
        let visit = &self.visit;
        let limit = match visit.may_ask(crowd, address, &listener.limits, started) {
            true => None,
            false => Some(Limit::RequestsPerClient),
        };
        Exchange::begin(&self.client, self.id, kind, started, started_at, limit)
    }

    /// Counts the connection among those of its client, or says which limit does not let it.
    pub(super) fn meet(&mut self, listener: &Listener) -> Result<(), Limit> {
        let client = self.client.peer.ip();
        self.visit = self.place.crowd.meet(client, &listener.limits)?;
        Ok(())
    }

    /// When it must be known what the client speaks.
    pub(super) fn handshake_deadline(&self, listener: &Listener) -> Instant {
        self.since + listener.limits.handshake_timeout
    }

    /// Longest wait for the rest of a head once its first byte is there.
    pub(super) fn header_timeout(&self) -> Duration {
        self.listener().limits.header_timeout
    }

    /// Counts that it has reached a limit.
    pub(super) fn count_limit(&self, limit: Limit) {
        self.listener().ledger.metrics.count_limit(limit);
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        self.listener().idle_timeout
    }

    /// Whether the connection should end after what it is doing.
    pub(super) fn is_draining(&self) -> bool {
        self.place.drain.has_begun()
    }

    /// Waits for `work`, or gives `None` once the time of a process that is to end is over.
    pub(super) async fn while_it_lasts<T>(
        &self,
        work: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        worker::unless_over(work, || self.place.drain.is_over()).await
    }

    /// When a tunnel will be ended, because its target goes or this process does; `None` while neither is in sight.
    pub(super) fn tunnel_ends_at(&self, outstanding: Option<&Outstanding>) -> Option<Instant> {
        let target = outstanding.and_then(Outstanding::ends_at);
        [target, self.place.drain.ends_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether the connection should end when nothing is under way on it.
    pub(super) fn ends_idle(&self) -> bool {
        self.place.drain.ends_idle()
    }

    /// Whether the connection should end after this request: its time is up (`client_keep_alive`), or it drains.
    pub(super) fn is_to_close(&self, listener: &Listener) -> bool {
        self.is_draining() || self.expires(listener) <= worker::now()
    }

    /// When `client_keep_alive` is over.
    pub(super) fn expires(&self, listener: &Listener) -> Instant {
        self.since + listener.client_keep_alive
    }
}

/// Serves one accepted socket to its end, and drops `counted` then. What lives here is held by every connection for as
/// long as it is open, so whatever is large or short stands in a box of its own. No `async fn`: those keep room for
/// their arguments to the end.
pub(super) fn serve<C>(
    tcp: Socket,
    peer: SocketAddr,
    place: Rc<Place>,
    visit: Visit,
    counted: C,
) -> impl Future<Output = ()> {
    let greeting = Box::pin(greet(tcp, peer, place, visit));
    async move {
        match greeting.await {
            Greeted::Http1(connection, front) => http1::serve(connection, front).await,
            Greeted::Http2(tls, front) => Box::pin(http2::serve(tls, front)).await,
            Greeted::Gone => {}
        }
        drop(counted);
    }
}

/// What a client turned out to speak.
enum Greeted {
    Http1(Rc<Connection>, Rc<Front>),
    Http2(Box<TlsStream<Socket>>, Rc<Front>),
    Gone,
}

/// Finds out who is there: addresses, those that a PROXY header names, and where there is TLS, what its handshake agrees
/// on.
async fn greet(mut tcp: Socket, peer: SocketAddr, place: Rc<Place>, visit: Visit) -> Greeted {
    // A socket without a local address was reset while it waited.
    let Ok(local) = tcp.local_addr() else {
        return Greeted::Gone;
    };
    let listener = place.listener();
    let mut front = Front {
        client: Rc::new(Client {
            peer: canonical(peer),
            local: canonical(local),
            tls: None,
        }),
        id: ConnectionId(fastrand::u128(..).to_ne_bytes()),
        alarm: Alarm::new(),
        place,
        visit,
        // Exact, for deadlines that count from here.
        since: worker::refresh_clock(),
    };
    if let Some(trusted) = &listener.trusted_proxies {
        // Boxed: few listeners have any.
        let meeting = Box::pin(proxied::meet_client(
            &mut tcp, &mut front, trusted, &listener,
        ));
        if meeting.await.is_none() {
            return Greeted::Gone;
        }
    }
    let Some(config) = &listener.tls else {
        let connection = Connection::new(Stream::Plain(tcp), peer);
        return Greeted::Http1(Rc::new(connection), Rc::new(front));
    };
    let Some(tls) = handshake(tcp, Arc::clone(config), &front, &listener).await else {
        return Greeted::Gone;
    };
    let facts = tls::server::facts(tls.get_ref().1);
    front.client = Rc::new(Client {
        peer: front.client.peer,
        local: front.client.local,
        tls: facts.map(|facts| TlsFacts {
            version: facts.version,
            cipher: facts.cipher,
            server_name: facts.server_name.map(Into::into),
        }),
    });
    if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
        return Greeted::Http2(tls, Rc::new(front));
    }
    let connection = Connection::new(Stream::Server(tls), peer);
    Greeted::Http1(Rc::new(connection), Rc::new(front))
}

/// An IPv4 address that came through an IPv6 socket, as the IPv4 address that everyone calls it.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The handshake, first byte to last, under one limit; `None` when the connection is over.
async fn handshake(
    tcp: Socket,
    config: Arc<rustls::ServerConfig>,
    front: &Front,
    listener: &Listener,
) -> Option<Box<TlsStream<Socket>>> {
    let alarm = &front.alarm;
    let (limits, metrics) = (&listener.limits, &listener.ledger.metrics);
    let deadline = front.handshake_deadline(listener);
    let greeting = alarm.race(deadline, |cx| poll_greeting(&tcp, front, cx));
    let agreed = match greeting.await {
        Some(Greeting::Tls) => {
            let mut agreeing = pin!(agree(tcp, config, front, limits));
            alarm.race(deadline, |cx| agreeing.as_mut().poll(cx)).await
        }
        Some(Greeting::InClear) => {
            answer_in_clear(tcp, front).await;
            Some(Agreed::No)
        }
        Some(Greeting::None) => return None,
        None => None,
    };
    match agreed {
        Some(Agreed::Yes(tls)) => return Some(tls),
        Some(Agreed::No) => {}
        Some(Agreed::TooMany) => {
            metrics.count_limit(Limit::Handshakes);
            return None;
        }
        None => metrics.count_limit(Limit::HandshakeTimeout),
    }
    metrics.tls_errors.increment(1);
    None
}

/// How a handshake ended.
enum Agreed {
    Yes(Box<TlsStream<Socket>>),
    No,
    /// There was no place for it, or not for as long as it took.
    TooMany,
}

/// The handshake from the client's hello on. It is counted once all of that is there: whoever says nothing or little
/// keeps nobody out.
async fn agree(
    tcp: Socket,
    config: Arc<rustls::ServerConfig>,
    front: &Front,
    limits: &Limits,
) -> Agreed {
    let Ok(hello) = LazyConfigAcceptor::new(Acceptor::default(), tcp).await else {
        return Agreed::No;
    };
    let crowd = &front.place.crowd;
    let begun = poll_fn(|cx| Poll::Ready(crowd.begin_handshake(limits, worker::now(), cx.waker())));
    let Some(begun) = begun.await else {
        return Agreed::TooMany;
    };
    let mut answering = hello.into_stream(config);
    poll_fn(|cx| match Pin::new(&mut answering).poll(cx) {
        Poll::Ready(Ok(tls)) => Poll::Ready(Agreed::Yes(Box::new(tls))),
        Poll::Ready(Err(_)) => Poll::Ready(Agreed::No),
        Poll::Pending if begun.is_over() => Poll::Ready(Agreed::TooMany),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// How a client begins.
enum Greeting {
    Tls,
    /// Most likely somebody typed `http://`.
    InClear,
    /// It left without a word, or is to go before it said one.
    None,
}

/// Looks at the first byte and leaves it. Asked before rustls is: when that meets something else it answers with an
/// alert, and then it is too late for words.
fn poll_greeting(tcp: &Socket, front: &Front, cx: &mut Context<'_>) -> Poll<Greeting> {
    let mut first = [0];
    let greeting = match tcp.poll_peek(cx, &mut first) {
        Poll::Pending if front.ends_idle() => Greeting::None,
        Poll::Pending => return Poll::Pending,
        Poll::Ready(Ok(0) | Err(_)) => Greeting::None,
        // RFC 8446 §5.1: content types of TLS records.
        Poll::Ready(Ok(_)) if (20..=24).contains(&first[0]) => Greeting::Tls,
        Poll::Ready(Ok(_)) => Greeting::InClear,
    };
    Poll::Ready(greeting)
}

/// Tells a client that spoke HTTP to an HTTPS port, in the only words it understands.
async fn answer_in_clear(tcp: Socket, front: &Front) {
    let page = page(StatusCode::BAD_REQUEST);
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\nServer: awselb/2.0\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        page.len()
    );
    let connection = Connection::new(Stream::Plain(tcp), front.client.peer);
    // A fresh socket's buffer takes a page whole or the socket is gone.
    let _ = poll_fn(|cx| Poll::Ready(connection.push(cx, &[head.as_bytes(), &page]))).await;
    http1::linger(&connection, &front.alarm).await;
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Bytes of the future that `make` would give; it is never called.
    pub(in crate::listener) fn size_of_future<A, F: Future>(_make: impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }

    /// There are many connections, and most of them wait; those to targets are such a `Connection` and nothing else. What
    /// TLS adds is held in `tls::stream`, HTTP/2 in `http2`, a tunnel in `http1`.
    #[test]
    fn what_every_connection_holds_stays_small() {
        let future = size_of_future(|(tcp, peer, place, visit)| serve(tcp, peer, place, visit, ()));
        assert!(future <= 384, "the task of a connection has {future} bytes");
        let connection = size_of::<Connection>();
        assert!(connection <= 256, "a connection has {connection} bytes");
        let front = size_of::<Front>();
        assert!(front <= 64, "its front has {front} bytes");
    }
}
