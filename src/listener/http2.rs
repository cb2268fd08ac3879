//! HTTP/2 by hyper, every limit set by hand. Its streams meet the same `proxy::handle` as HTTP/1.1's requests.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::ext::Protocol;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

use super::connection::{Current, Front};
use crate::action::Tunnel;
use crate::headers::{Headers, Name, Names};
use crate::http1::{Connection, Upgrade, is_host};
use crate::message::websocket::Key;
use crate::message::{
    self, Body, Broken, Error, Exchange, Http2Body, Kind, Outstanding, Request, Response, Size,
};
use crate::proxy;
use crate::snapshot::Ledger;
use crate::tls::{Socket, Stream};
use crate::worker::{self, Alarm};

/// Streams at once on one connection (ALB quota: 128).
const CONCURRENT_STREAMS_MAX: u32 = 128;
/// Bytes of one request body on their way before its target took any.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Largest frame we take; the smallest the protocol allows is right for TLS records (RFC 9113 §4.2).
const FRAME_MAX: u32 = 16 * 1024;
/// Bytes of one response that wait for its client.
const SEND_BUFFER_MAX: usize = 64 * 1024;
/// Bytes of a request's headers, uncompressed (ALB quota for a request head: 64 K).
const HEADER_LIST_MAX: u32 = 64 * 1024;
/// Streams a client may open and reset before we looked at them (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;
/// Streams we may have to reset for a client's errors before the connection ends (CVE-2025-8671).
const ERROR_RESETS_MAX: usize = 256;
/// What a stream has beyond the idle timeout before it is reset: a silent target, or a client silent in its body,
/// is noticed first and has an answer of its own.
const LAST_RESORT: Duration = Duration::from_secs(1);
/// Grace of a connection that was told to go.
const GOAWAY_GRACE: Duration = Duration::from_secs(30);

/// Serves one connection until either side has had enough.
// Boxed: by value it would be in the future more than once.
pub(super) async fn serve(tls: Box<TlsStream<Socket>>, front: Rc<Front>) {
    let alarm = &front.alarm;
    let usage = Rc::new(Usage {
        active: Cell::new(0),
        is_used: Cell::new(false),
        last: Cell::new(worker::now()),
    });
    let streams = Local {
        tasks: TaskTracker::new(),
        front: Rc::clone(&front),
        next: Rc::default(),
    };
    let service = service_fn({
        let (usage, streams) = (Rc::clone(&usage), streams.clone());
        move |request| {
            let stream = InUse::begin(&usage);
            let streams = streams.clone();
            // Boxed: hyper hands it on by value several times, and it is large.
            Box::pin(async move { Ok::<_, Infallible>(answer(request, stream, &streams).await) })
        }
    });
    let mut connection = pin!(builder(streams).serve_connection(TokioIo::new(tls), service));
    let quiet_since = || {
        if usage.active.get() > 0 {
            worker::now()
        } else {
            usage.last.get()
        }
    };
    // Asked each time: a connection lives for hours, and the limits may change under it.
    let ended = alarm
        .until(
            || quiet_since() + front.idle_timeout(),
            |cx| {
                if let Poll::Ready(_outcome) = connection.as_mut().poll(cx) {
                    return Poll::Ready(Ended::ByClient);
                }
                if is_to_go(&front, &usage) {
                    Poll::Ready(Ended::ByUs)
                } else {
                    Poll::Pending
                }
            },
        )
        .await;
    if let Some(Ended::ByClient) = ended {
        return;
    }
    connection.as_mut().graceful_shutdown();
    // Streams that run go on; a connection without any ends when its client has heard that it is to go.
    let told = worker::now();
    let going = |cx: &mut Context<'_>| connection.as_mut().poll(cx).map(drop);
    let since = || quiet_since().max(told);
    alarm.while_active(GOAWAY_GRACE, since, going).await;
}

/// Whether a connection is told to go. One that was just opened is about to be used: if it may, it is told with its
/// first answer, since clients do not expect to be turned away before they have asked.
fn is_to_go(front: &Front, usage: &Usage) -> bool {
    let listener = front.listener();
    match usage.is_used.get() {
        true => front.is_to_close(&listener),
        false => front.ends_idle() || front.expires(&listener) <= worker::now(),
    }
}

enum Ended {
    ByClient,
    ByUs,
}

fn builder(streams: Local) -> http2::Builder<Local> {
    let mut builder = http2::Builder::new(streams);
    builder
        .max_concurrent_streams(CONCURRENT_STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .adaptive_window(false)
        .max_frame_size(FRAME_MAX)
        .max_send_buf_size(SEND_BUFFER_MAX)
        .max_header_list_size(HEADER_LIST_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .enable_connect_protocol()
        .auto_date_header(false);
    builder
}

/// Runs streams on the worker that has the connection.
#[derive(Clone, Debug)]
struct Local {
    tasks: TaskTracker,
    front: Rc<Front>,
    next: Rc<Cell<Next>>,
}

/// What hyper is to run next.
#[derive(Clone, Copy, Debug, Default)]
enum Next {
    #[default]
    Stream,
    /// What carries the answers of a tunnel; that may have nothing to do for long, and ends with its tunnel.
    TunnelEnd,
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, stream: F) {
        match self.next.take() {
            Next::Stream => {
                let period = self.front.idle_timeout() + LAST_RESORT;
                let next = Rc::clone(&self.next);
                self.tasks.spawn_local(while_it_moves(stream, period, next));
            }
            Next::TunnelEnd => drop(self.tasks.spawn_local(stream)),
        }
    }
}

/// Runs a stream to its end, or resets it when nothing has woken it for `period`: then its client has stopped taking
/// the answer, which hyper waits for without end.
async fn while_it_moves(stream: impl Future<Output = ()>, period: Duration, next: Rc<Cell<Next>>) {
    let mut stream = pin!(stream);
    let moved = Cell::new(worker::now());
    let alarm = Alarm::new();
    alarm
        .while_active(
            period,
            || moved.get(),
            |cx| {
                // Woken by the alarm it has not moved.
                let in_time = worker::now() < moved.get() + period;
                let outcome = stream.as_mut().poll(cx);
                // What was announced and did not come, because its stream was reset, is not the next stream.
                next.set(Next::Stream);
                if in_time {
                    moved.set(worker::now());
                }
                outcome
            },
        )
        .await;
}

/// How a connection is used.
#[derive(Debug)]
struct Usage {
    active: Cell<u32>,
    /// Whether there has been any stream.
    is_used: Cell<bool>,
    last: Cell<Instant>,
}

/// One stream in its connection's count.
#[derive(Debug)]
struct InUse(Rc<Usage>);

impl InUse {
    fn begin(usage: &Rc<Usage>) -> Self {
        usage.is_used.set(true);
        usage.active.set(usage.active.get() + 1);
        Self(Rc::clone(usage))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
        self.0.last.set(worker::now());
    }
}

/// Answers one stream. A stream that the client resets is dropped where it stands.
async fn answer(
    mut request: http::Request<hyper::body::Incoming>,
    stream: InUse,
    streams: &Local,
) -> http::Response<Outgoing> {
    let front = &streams.front;
    let alarm = Alarm::new();
    let listener = front.listener();
    let exchange = front.begin(Kind::H2, &listener);
    // Boxed: it goes with the answer, which hyper hands on by value.
    let mut record = Box::new(Record {
        exchange,
        kept_by: Keeper::Listener(Rc::clone(&listener)),
        outstanding: None,
        received: Rc::default(),
        _stream: stream,
    });
    let whole = message::Answer::to(request.method());
    let tunnel = Handshake::begin(&mut request);
    let response = match read(request, tunnel.as_ref(), Rc::clone(&record.received)) {
        Ok(mut request) => {
            if listener.ledger.access_log.is_some() {
                record.exchange.asked(&request);
            }
            let answer = {
                let handling = pin!(proxy::handle(
                    &mut request,
                    &front.client,
                    &listener,
                    &mut record.exchange,
                    &alarm,
                ));
                front.while_it_lasts(handling).await
            };
            match answer {
                Some(answer) => answer,
                None => proxy::refuse(Error::ShuttingDown, whole, &mut record.exchange),
            }
        }
        Err(error) => proxy::refuse(error, whole, &mut record.exchange),
    };
    let response = match (tunnel, response) {
        (None, response) => response,
        (Some(handshake), response) if handshake.is_agreed(&response) => {
            return open(handshake, response, record, listener.idle_timeout, streams);
        }
        // RFC 8441 §5: any success would tell the client that it has a tunnel.
        (Some(_), response) if response.status.is_success() || is_switch(&response) => {
            proxy::refuse(Error::TargetMalformedResponse, whole, &mut record.exchange)
        }
        (Some(_), refusal) => refusal,
    };
    let Response {
        status,
        headers,
        body,
        outstanding,
        ..
    } = response;
    record.outstanding = outstanding;
    record.exchange.sent_bytes = headers.size();
    let outgoing = Outgoing {
        body,
        record: Some(record),
        alarm,
        idle_timeout: listener.idle_timeout,
    };
    let mut response = http::Response::new(outgoing);
    *response.status_mut() = status;
    *response.headers_mut() = headers.to_map(match status {
        // RFC 9110 §8.6.
        StatusCode::NO_CONTENT => Names::of(&[Name::Connection, Name::ContentLength]),
        _ => Names::of(&[Name::Connection]),
    });
    response
}

/// A WebSocket that a client asks for by extended CONNECT (RFC 8441), until its target has agreed.
struct Handshake {
    upgrade: OnUpgrade,
    key: Key,
}

impl Handshake {
    /// `None` for any other request.
    fn begin(request: &mut http::Request<hyper::body::Incoming>) -> Option<Self> {
        let protocol = request.extensions().get::<Protocol>()?;
        let is_websocket = protocol.as_str().eq_ignore_ascii_case("websocket");
        (is_websocket && request.method() == Method::CONNECT).then(|| Self {
            upgrade: hyper::upgrade::on(request),
            key: Key::new(fastrand::u128(..).to_ne_bytes()),
        })
    }

    /// The same question as an HTTP/1.1 target knows it (RFC 8441 §5.1).
    fn translate(&self, headers: &mut Headers) -> (Method, Option<Upgrade>) {
        headers.set(Name::SecWebSocketKey, self.key.value());
        (Method::GET, Some(Upgrade::WebSocket))
    }

    fn is_agreed(&self, response: &Response) -> bool {
        is_switch(response) && self.key.is_accepted(&response.headers)
    }
}

fn is_switch(response: &Response) -> bool {
    matches!(response.body, Body::Upgraded(_))
}

/// Tells the client that it has its tunnel, and carries it on a task of its own.
fn open(
    handshake: Handshake,
    response: Response,
    mut record: Box<Record>,
    idle_timeout: Duration,
    streams: &Local,
) -> http::Response<Outgoing> {
    let Response {
        mut headers,
        body,
        outstanding,
        ..
    } = response;
    const OURS: Names = Names::of(&[
        Name::SecWebSocketAccept,
        Name::Connection,
        Name::ContentLength,
    ]);
    headers.remove_all(OURS);
    record.kept_by = Keeper::Ledger(Arc::clone(record.kept_by.ledger()));
    record.exchange.tunnelled();
    record.exchange.sent_bytes = headers.size();
    record.outstanding = outstanding;
    if let Body::Upgraded(target) = body {
        let (front, upgrade) = (Rc::clone(&streams.front), handshake.upgrade);
        // An idle tunnel keeps no more than it needs.
        let tunnel = Box::new(Tunnel::new(target));
        streams.tasks.spawn_local(async move {
            // The client is gone, or its connection.
            let Ok(stream) = upgrade.await else { return };
            carry(tunnel, stream, &front, record, idle_timeout).await;
        });
    }
    // hyper starts it as soon as it has seen this answer, in the same breath.
    streams.next.set(Next::TunnelEnd);
    let mut response = http::Response::new(Outgoing {
        body: Body::Empty,
        record: None,
        alarm: Alarm::new(),
        idle_timeout,
    });
    *response.headers_mut() = headers.to_map(Names::NONE);
    response
}

async fn carry(
    mut tunnel: Box<Tunnel>,
    stream: Upgraded,
    front: &Front,
    mut record: Box<Record>,
    idle_timeout: Duration,
) {
    let alarm = Alarm::new();
    let stream = Stream::Http2(Box::new(TokioIo::new(stream)));
    let client = Connection::new(stream, front.client.peer);
    let outstanding = record.outstanding.take();
    let ends_at = || front.tunnel_ends_at(outstanding.as_ref());
    tunnel.run(&client, idle_timeout, &alarm, ends_at).await;
    let received = record.received.get() + client.received();
    record.received.set(received);
    record.exchange.sent_bytes += client.sent();
}

/// Our request from hyper's: the target as sent, one host, no second opinion about framing.
fn read(
    request: http::Request<hyper::body::Incoming>,
    tunnel: Option<&Handshake>,
    received: Rc<Cell<u64>>,
) -> Result<Request, Error> {
    let (parts, body) = request.into_parts();
    let mut headers = Headers::of_map(&parts.headers);
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let named = parts.uri.authority().map(|authority| authority.as_str());
    // Bytes of the head before HPACK made them fewer.
    let line = parts.method.as_str().len() + target.len() + named.map_or(0, str::len);
    received.set(line as u64 + headers.size());
    if headers.all(Name::Host).nth(1).is_some() {
        return Err(Error::MalformedRequest(
            "there is more than one Host header",
        ));
    }
    let authority = match (named, headers.find(Name::Host)) {
        // RFC 9113 §8.3.1: the two must not differ.
        (Some(named), Some(host)) if !headers.text(host).eq_ignore_ascii_case(named.as_bytes()) => {
            return Err(Error::MalformedRequest(
                "the Host header differs from :authority",
            ));
        }
        (Some(named), _) => headers.keep(named.as_bytes()),
        (None, Some(host)) => host,
        (None, None) => return Err(Error::MissingHost),
    };
    if !is_host(headers.text(authority)) {
        return Err(Error::MalformedRequest("the host is not a host"));
    }
    headers.remove(Name::Host);
    // RFC 9113 §8.3.1; hyper lets a query through without a path.
    if !target.starts_with('/') && (target != "*" || parts.method != Method::OPTIONS) {
        return Err(Error::MalformedRequest(":path does not begin with a slash"));
    }
    let (method, upgrade) = match tunnel {
        Some(tunnel) => tunnel.translate(&mut headers),
        None => (parts.method, None),
    };
    Ok(Request {
        target: headers.keep(target.as_bytes()),
        method,
        authority,
        version: Version::HTTP_2,
        headers,
        upgrade,
        body: if body.is_end_stream() {
            Body::Empty
        } else {
            Body::Http2(Http2Body {
                incoming: body,
                received,
            })
        },
    })
}

/// Where a record goes.
#[derive(Debug)]
enum Keeper {
    /// Counted up, this costs no other worker anything.
    Listener(Rc<Current>),
    /// For a tunnel, which may outlive many generations and shall not keep the one it began in.
    Ledger(Arc<Ledger>),
}

impl Keeper {
    fn ledger(&self) -> &Arc<Ledger> {
        match self {
            Self::Listener(listener) => &listener.ledger,
            Self::Ledger(ledger) => ledger,
        }
    }
}

/// What is recorded when a stream ends, however it ends.
#[derive(Debug)]
struct Record {
    exchange: Exchange,
    kept_by: Keeper,
    outstanding: Option<Outstanding>,
    /// Head and body, as they came out of HPACK and frames.
    received: Rc<Cell<u64>>,
    _stream: InUse,
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.exchange.elb_status.is_none() {
            proxy::client_gone(&mut self.exchange);
        }
        self.exchange.received_bytes = self.received.get();
        self.kept_by.ledger().finish(&mut self.exchange);
    }
}

/// A response body on its way into hyper.
#[derive(Debug)]
struct Outgoing {
    body: Body,
    /// `None` where a tunnel has it.
    record: Option<Box<Record>>,
    alarm: Alarm,
    idle_timeout: Duration,
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        let this = self.get_mut();
        let outstanding = this
            .record
            .as_ref()
            .and_then(|record| record.outstanding.as_ref());
        if outstanding.is_some_and(Outstanding::is_over) {
            return Poll::Ready(Some(Err(CutShort::Deregistered)));
        }
        // hyper keeps pieces until the client's window opens, so they must be owned.
        let piece = match this
            .body
            .poll_lend(cx, |_, piece| Bytes::copy_from_slice(piece))
        {
            Poll::Ready(piece) => piece?,
            Poll::Pending => {
                // Not from now on: it is the alarm that asks again when it rings.
                let active = this.body.last_active().unwrap_or_else(worker::now);
                this.alarm.set(active + this.idle_timeout);
                ready!(this.alarm.poll(cx));
                return Poll::Ready(Some(Err(CutShort::Target)));
            }
        };
        Poll::Ready(piece.map(|piece| {
            if let Some(record) = &mut this.record {
                record.exchange.sent_bytes += piece.len() as u64;
            }
            Ok(Frame::data(piece))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_done()
    }

    fn size_hint(&self) -> SizeHint {
        match self.body.size() {
            Size::Known(length) => SizeHint::with_exact(length),
            Size::Unknown => SizeHint::default(),
        }
    }
}

/// Why a response breaks off.
#[derive(Debug, thiserror::Error)]
enum CutShort {
    #[error("the target was silent for too long")]
    Target,
    #[error("the target was taken out, and its deregistration delay is over")]
    Deregistered,
    #[error(transparent)]
    Broken(#[from] Broken),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::connection::tests::size_of_future;

    /// Without what hyper holds.
    #[test]
    fn what_connections_streams_and_tunnels_hold_stays_small() {
        let connection = size_of_future(|(tls, front)| serve(tls, front));
        assert!(connection <= 2048, "a connection has {connection} bytes");
        let stream = size_of_future(|(request, stream, streams)| answer(request, stream, streams));
        assert!(stream <= 4096, "a stream has {stream} bytes");
        let tunnel = size_of_future(|(tunnel, stream, front, record, idle_timeout)| {
            carry(tunnel, stream, front, record, idle_timeout)
        });
        assert!(tunnel <= 1664, "the task of a tunnel has {tunnel} bytes");
        let tunnel = size_of::<Tunnel>();
        assert!(tunnel <= 160, "a tunnel has {tunnel} bytes");
    }
}
