//! Our HTTP/1.1 client: one request on one connection, read inline by whoever waits for it. No task, no channel.

use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};

use super::pool::home;
use super::{Error, Failure, Replay, Upstream, connect};
use crate::headers::Name;
use crate::http1::{
    Connection, FramingHeader, Home, Incoming, Malformed, Persistence, ResponseHead, Upgraded,
    encode_request, parse_response,
};
use crate::message::{
    Body, Client, Duplex, Outgoing, Request, Response, Size, Stopped, Upload, WaitsFor,
};
use crate::model::BodyRate;
use crate::tls::Stream;
use crate::worker::{self, Alarm};

/// Most interim responses (1xx) before the final one; a target that sends more talks nonsense.
const INTERIM_MAX: u8 = 16;

/// What came back, and when.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    pub(crate) address: SocketAddr,
    /// When the request had left as far as it would before the answer.
    pub(crate) sent_at: Instant,
}

/// On what terms a request is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    /// On whose behalf.
    pub(crate) client: &'a Client,
    /// Longest silence of client and target.
    pub(crate) idle_timeout: Duration,
    /// How slowly the body may come until there is an answer.
    pub(crate) body_rate: Option<BodyRate>,
    pub(crate) alarm: &'a Alarm,
    /// Good enough for whoever is told when the request was sent.
    pub(crate) clock: fn() -> Instant,
}

/// Sends a request whose headers are ready for the target. An idle connection that turns out dead is replaced by a
/// fresh one where that is safe, so nobody sees the race between our request and the target's keep-alive timer.
///
/// Where targets are told whose connection it is, each request has one of its own: what one client's header opened must
/// never carry another's request.
///
/// On failure `request` is whole unless `Replay::Impossible` says otherwise.
pub(crate) async fn send(
    upstream: &Upstream,
    request: &mut Request,
    terms: &Terms<'_>,
) -> Result<Answer, Failure> {
    let home = match upstream.proxy_protocol {
        None => Some(home(upstream.pool)),
        Some(_) => {
            if request.upgrade.is_none() {
                request.headers.set(Name::Connection, b"close");
            }
            None
        }
    };
    // One idle connection and no more: a request that ends every connection it meets must not meet them all.
    if let Some(home) = &home
        && let Some(connection) = home.take()
    {
        match exchange(connection, Some(home), request, terms).await {
            Err(failure) if dead_on_arrival(&failure, &request.method) => {}
            outcome => return outcome,
        }
    }
    // Boxed: a handshake is large, and most requests find a connection.
    let (stream, address) = Box::pin(open(upstream, terms.client))
        .await
        .map_err(|error| Failure {
            error,
            replay: Replay::Untouched,
        })?;
    let connection = Rc::new(Connection::new(stream, address));
    exchange(connection, home.as_ref(), request, terms).await
}

/// Opens a connection on this client's behalf.
async fn open(upstream: &Upstream, client: &Client) -> Result<(Stream, SocketAddr), Error> {
    let header = upstream.header(client);
    connect(&upstream.addresses(), &header, upstream.tls()).await
}

/// Whether an idle connection was closed by the target while our request was on its way (RFC 9112 §9.3.1).
fn dead_on_arrival(failure: &Failure, method: &Method) -> bool {
    matches!(failure.error, Error::Closed | Error::Broken(_))
        && match failure.replay {
            Replay::Untouched => true,
            Replay::Unanswered => method.is_idempotent(),
            Replay::Impossible => false,
        }
}

async fn exchange(
    connection: Rc<Connection>,
    home: Option<&Rc<Home>>,
    request: &mut Request,
    terms: &Terms<'_>,
) -> Result<Answer, Failure> {
    connection.touch();
    let (received, sent) = (connection.received(), connection.sent());
    let mut exchange = Exchange {
        connection: &connection,
        request,
        state: State::Fresh,
        reading: Reading::Head,
        interim: 0,
        terms,
        sent_at: None,
    };
    let outcome = terms
        .alarm
        .while_active(
            terms.idle_timeout,
            || connection.last_active(),
            |cx| exchange.poll(cx),
        )
        .await;
    let Exchange { state, sent_at, .. } = exchange;
    let error = match (outcome, &state) {
        (Some(Ok(head)), _) => {
            let address = connection.peer();
            let response = match request.upgrade.take() {
                Some(protocol) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                    switched(Upgraded::new(connection, protocol), head)
                }
                _ => response(connection, home, request, head, state),
            };
            return Ok(Answer {
                response,
                address,
                sent_at: sent_at.unwrap_or_else(terms.clock),
            });
        }
        (Some(Err(error)), _) => error,
        (None, State::Uploading(upload)) if upload.waits_for == WaitsFor::Client => {
            Error::ClientTimeout
        }
        (None, _) => Error::Timeout,
    };
    let replay = match state.into_untouched() {
        Some(body) if connection.received() == received => {
            if !matches!(body, Body::Empty) {
                request.body = body;
            }
            if connection.sent() == sent {
                Replay::Untouched
            } else {
                Replay::Unanswered
            }
        }
        _ => Replay::Impossible,
    };
    Err(Failure { error, replay })
}

/// The response, its body tied to the connection it comes from.
fn response(
    connection: Rc<Connection>,
    home: Option<&Rc<Home>>,
    request: &Request,
    head: ResponseHead,
    state: State,
) -> Response {
    // RFC 9112 §9.3: a connection whose request has not ended cannot carry another.
    let reusable = matches!(state, State::Bodiless | State::Uploaded)
        && head.persistence == Persistence::KeepAlive
        && request.connections == Persistence::KeepAlive;
    let upload = match state {
        State::Uploading(mut upload) => {
            upload.no_longer_hurries();
            Some(upload)
        }
        State::Fresh | State::Bodiless | State::Uploaded | State::CutShort(_) => None,
    };
    if home.is_none() {
        // Ended in the ordinary way, each request's connection would keep one of some 28,000 ports for a minute.
        connection.reset();
    }
    let home = home.filter(|_| reusable).cloned();
    let body = match (Incoming::open(connection, head.framing, home), upload) {
        (None, _) => Body::Empty,
        (Some(response), None) => Body::Http1(response),
        (Some(response), upload) => Body::Duplex(Box::new(Duplex { upload, response })),
    };
    with_body(head, body)
}

/// The 101 after which the connection speaks another protocol; it goes nowhere else from there.
fn switched(upgraded: Upgraded, head: ResponseHead) -> Response {
    with_body(head, Body::Upgraded(upgraded))
}

fn with_body(head: ResponseHead, body: Body) -> Response {
    Response {
        status: head.status,
        headers: head.headers,
        body,
        outstanding: None,
    }
}

/// One request and its answer on one connection, as far as the answer's head.
struct Exchange<'a> {
    connection: &'a Rc<Connection>,
    request: &'a mut Request,
    state: State,
    reading: Reading,
    interim: u8,
    terms: &'a Terms<'a>,
    sent_at: Option<Instant>,
}

/// How far the request is.
enum State {
    /// Nothing was done yet.
    Fresh,
    /// The head is away and there is no body.
    Bodiless,
    /// The head is away, the body follows.
    Uploading(Upload),
    /// Head and body are away.
    Uploaded,
    /// The target stopped taking the request; the body, if none of it was taken.
    CutShort(Option<Body>),
}

/// What the next read is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Head,
    /// The bytes at hand are no whole head.
    MoreOfHead,
}

impl Exchange<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Error>> {
        self.poll_request(cx)?;
        loop {
            let head = ready!(self.poll_head(cx))?;
            if !head.status.is_informational() {
                return Poll::Ready(Ok(head));
            }
            if head.status == StatusCode::SWITCHING_PROTOCOLS && self.agrees(&head) {
                return Poll::Ready(Ok(head));
            }
            self.interim += 1;
            if self.interim > INTERIM_MAX || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Err(Malformed::Syntax(
                    "an interim response nobody asked for",
                )
                .into()));
            }
        }
    }

    /// Whether a 101 says yes to what was asked; one that says anything else is nonsense.
    fn agrees(&self, head: &ResponseHead) -> bool {
        let asked = self.request.upgrade.as_ref();
        asked.is_some_and(|asked| asked.is_agreed(&head.headers))
    }

    /// Moves the request on. A target that stops taking it may have answered already, so only the client's failure
    /// is one here.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let outcome = match &mut self.state {
            State::Fresh => self.begin(cx),
            State::Bodiless => self.connection.poll_flush(cx).map_err(|_| Stopped::Target),
            State::Uploading(upload) => upload.poll(cx),
            State::Uploaded | State::CutShort(_) => return Ok(()),
        };
        match outcome {
            Poll::Pending => return Ok(()),
            Poll::Ready(Err(Stopped::Client(broken))) => return Err(Error::Client(broken)),
            Poll::Ready(Err(Stopped::TooSlow)) => return Err(Error::ClientTooSlow),
            Poll::Ready(Err(Stopped::Target)) => {
                let state = std::mem::replace(&mut self.state, State::Uploaded);
                self.state = State::CutShort(state.into_untouched());
            }
            Poll::Ready(Ok(())) => {
                if let State::Uploading(_) = self.state {
                    self.state = State::Uploaded;
                }
            }
        }
        self.sent_at.get_or_insert_with(self.terms.clock);
        Ok(())
    }

    fn begin(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        let body = std::mem::take(&mut self.request.body);
        let (framing, outgoing) = framing(&self.request.method, body.size());
        worker::with_outgoing(|head| {
            let Request {
                method, headers, ..
            } = &*self.request;
            encode_request(head, method, self.request.target(), headers, framing);
            match outgoing {
                None => {
                    self.state = State::Bodiless;
                    self.connection
                        .push(cx, &[head])
                        .map_err(|_| Stopped::Target)?;
                    self.connection.poll_flush(cx).map_err(|_| Stopped::Target)
                }
                Some(outgoing) => {
                    let mut upload = Upload::new(
                        body,
                        outgoing,
                        Rc::clone(self.connection),
                        self.terms.body_rate,
                    );
                    let begun = upload.begin(cx, head);
                    let outcome = match begun {
                        Ok(()) => upload.poll(cx),
                        Err(stopped) => Poll::Ready(Err(stopped)),
                    };
                    self.state = State::Uploading(upload);
                    outcome
                }
            }
        })
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Error>> {
        loop {
            let method = &self.request.method;
            let take = |_: &mut Context<'_>, bytes: &[u8]| match parse_response(bytes, method) {
                Ok(Some((head, length))) => (length, Ok(Some(head))),
                Ok(None) => (0, Ok(None)),
                Err(malformed) => (0, Err(malformed)),
            };
            let lent = match self.reading {
                Reading::Head => self.connection.poll_lend(cx, take),
                Reading::MoreOfHead => self.connection.poll_lend_more(cx, take),
            };
            match ready!(lent)
                .map_err(Error::Broken)?
                .ok_or(Error::Closed)??
            {
                Some(head) => {
                    self.reading = Reading::Head;
                    return Poll::Ready(Ok(head));
                }
                None => self.reading = Reading::MoreOfHead,
            }
        }
    }
}

impl State {
    /// The request's body, if none of it was taken.
    fn into_untouched(self) -> Option<Body> {
        match self {
            Self::Fresh | Self::Bodiless => Some(Body::Empty),
            Self::Uploading(upload) => upload.into_untouched(),
            Self::Uploaded => None,
            Self::CutShort(body) => body,
        }
    }
}

/// How a body of this size is announced to a target, and how its end is shown; `None` where there is no body.
fn framing(method: &Method, size: Size) -> (FramingHeader, Option<Outgoing>) {
    match size {
        // RFC 9110 §8.6: methods that expect content say so when there is none.
        Size::Known(0) if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            (FramingHeader::Length(0), None)
        }
        Size::Known(0) => (FramingHeader::None, None),
        Size::Known(length) => (FramingHeader::Length(length), Some(Outgoing::Plain)),
        Size::Unknown => (FramingHeader::Chunked, Some(Outgoing::Chunked)),
    }
}
