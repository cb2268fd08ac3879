//! Our HTTP/1.1 server loop: read a head, let `proxy` answer, write the answer, again. Between two requests a
//! connection holds no buffer and only the small future of `serve`.

mod answer;
mod desk;

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Version;

use super::connection::Front;
use crate::action::Tunnel;
use crate::headers::Name;
use crate::http1::desync::{self, Verdict};
use crate::http1::{
    Connection, Incoming, Malformed, Persistence, RequestHead, after_empty_line, parse_request,
};
use crate::message::{self, Body, Client, Exchange, Kind, Outstanding, Request, Response, Size};
use crate::proxy;
use crate::snapshot::{Ledger, Listener};
use crate::worker::{self, Alarm};
use answer::{Written, agree, write};
pub(super) use desk::Desks;
use desk::Tray;

/// Most bytes of a body nobody wants that are read so that the connection can go on; beyond, closing is cheaper.
const DISCARD_MAX: u64 = 64 * 1024;

/// How long and how much is read after our last byte, so that a reset does not destroy it on its way
/// (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_MAX: u64 = 256 * 1024;

/// A client that ends its sending side this soon after the last byte of a request has asked all it wants and reads on
/// (`nc -N`); one that does so later has given up.
const HALF_CLOSE_WINDOW: Duration = Duration::from_millis(250);

/// Most bytes of pipelined requests read ahead while one is answered.
const READ_AHEAD_MAX: usize = 16 * 1024;

/// Serves one connection until either side has had enough.
pub(super) async fn serve(connection: Rc<Connection>, front: Rc<Front>) {
    loop {
        let before = Counts::of(&connection);
        let said = match read_head(&connection, &front).await {
            Next::Request(head) => Ok(head),
            Next::Refused(refusal) => Err(refusal),
            Next::End => break,
        };
        // What an exchange takes is not part of this future: it is large, and most connections wait.
        let mut desk = front.desks().take(Heard {
            connection: Rc::clone(&connection),
            front: Rc::clone(&front),
            before,
            said,
        });
        let after = poll_fn(|cx| desk.poll(cx)).await;
        front.desks().give_back(desk);
        match after {
            After::Quiet => {}
            After::Close => break,
            After::Linger => return linger(&connection, &front.alarm).await,
            After::Abort => return,
            After::Tunnel(through) => {
                tunnel(&connection, &front, through).await;
                break;
            }
        }
    }
    close(&connection, &front.alarm).await;
}

/// Something that wants an answer.
struct Heard {
    connection: Rc<Connection>,
    front: Rc<Front>,
    before: Counts,
    /// A request, or what is wrong with bytes that are none.
    said: Result<RequestHead, Refusal>,
}

/// Why bytes are no request that is served, and what ALB would say of them.
struct Refusal {
    error: message::Error,
    verdict: Verdict,
}

/// Answers whatever is put on a desk, one after the other.
async fn work(tray: Rc<Tray>) -> Infallible {
    loop {
        let Heard {
            connection,
            front,
            before,
            said,
        } = poll_fn(|_| tray.poll_next()).await;
        let after = match said {
            Ok(head) => exchange(&connection, &front, head, before).await,
            Err(refusal) => {
                refuse(&connection, &front, refusal, before).await;
                After::Linger
            }
        };
        tray.done(after);
    }
}

/// What becomes of a connection after an exchange.
enum After {
    /// It goes on when the client does.
    Quiet,
    Close,
    /// Close, but the client may still be sending.
    Linger,
    /// The client is gone.
    Abort,
    /// HTTP is over.
    // Boxed: what it holds is large and rare.
    Tunnel(Box<Through>),
}

/// What an upgraded connection goes on with.
struct Through {
    tunnel: Tunnel,
    exchange: Exchange,
    before: Counts,
    idle_timeout: Duration,
    outstanding: Option<Outstanding>,
    ledger: Arc<Ledger>,
}

/// What comes next on a connection.
enum Next {
    Request(RequestHead),
    /// Bytes that are no request, or a request that began and did not go on.
    Refused(Refusal),
    /// The client left, or is to go.
    End,
}

/// Waits for a client to say something, and for all of it.
async fn read_head(connection: &Connection, front: &Front) -> Next {
    let mut reading = Reading::Head;
    // Not asked again: an empty line is no sign of life.
    let last_active = connection.last_active();
    loop {
        let first = |cx: &mut Context<'_>| match poll_head(connection, cx, &mut reading) {
            // A head that has begun has its own limit.
            Poll::Pending if reading == Reading::MoreOfHead => Poll::Ready(None),
            // A keep-alive wait ends when the worker drains; a head that has begun is waited for.
            Poll::Pending if front.ends_idle() => Poll::Ready(Some(Next::End)),
            outcome => outcome.map(Some),
        };
        match front
            .alarm
            .while_active(front.idle_timeout(), || last_active, first)
            .await
        {
            None => return Next::End,
            Some(Some(next)) => return next,
            Some(None) => {}
        }
        // Rare enough for the exact time; the worker's is up to a tick old, and nobody shall be told too early.
        // A head is one packet or a few; whoever needs long holds a connection for nothing.
        let deadline = worker::refresh_clock() + front.header_timeout();
        let rest = |cx: &mut Context<'_>| match poll_head(connection, cx, &mut reading) {
            // It was the empty line, in two parts.
            Poll::Pending if reading != Reading::MoreOfHead => Poll::Ready(None),
            outcome => outcome.map(Some),
        };
        match front.alarm.race(deadline, rest).await {
            None => {
                return Next::Refused(Refusal {
                    error: message::Error::RequestTimeout,
                    verdict: Verdict::COMPLIANT,
                });
            }
            Some(Some(next)) => return next,
            Some(None) => {}
        }
    }
}

/// What the next read is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Head,
    /// The bytes at hand are an empty line, which begins nothing (RFC 9112 §2.2). It stays at hand, so that a second one
    /// is seen for what it is.
    BehindEmptyLine,
    /// The bytes at hand are no whole head.
    MoreOfHead,
}

fn poll_head(connection: &Connection, cx: &mut Context<'_>, reading: &mut Reading) -> Poll<Next> {
    loop {
        let take = |_: &mut Context<'_>, bytes: &[u8]| match parse_request(bytes) {
            Ok(Some((head, length))) => (length, Ok(Ok(head))),
            // An old client sends it after a body.
            Ok(None) if bytes == b"\r\n" => (0, Ok(Err(Reading::BehindEmptyLine))),
            Ok(None) => (0, Ok(Err(Reading::MoreOfHead))),
            Err(malformed) => {
                let verdict = desync::of_bytes(after_empty_line(bytes));
                (0, Err((malformed, verdict)))
            }
        };
        let lent = match *reading {
            Reading::Head => connection.poll_lend(cx, take),
            Reading::BehindEmptyLine | Reading::MoreOfHead => connection.poll_lend_more(cx, take),
        };
        match ready!(lent) {
            Ok(Some(Ok(Ok(head)))) => return Poll::Ready(Next::Request(head)),
            Ok(Some(Ok(Err(next)))) => *reading = next,
            Ok(Some(Err((malformed, verdict)))) => {
                let error = message::Error::of_request(malformed);
                return Poll::Ready(Next::Refused(Refusal { error, verdict }));
            }
            Ok(None) if *reading == Reading::MoreOfHead => {
                let malformed = Malformed::Syntax("the head ends early");
                let error = message::Error::of_request(malformed);
                let verdict = Verdict::COMPLIANT;
                return Poll::Ready(Next::Refused(Refusal { error, verdict }));
            }
            Ok(None) | Err(_) => return Poll::Ready(Next::End),
        }
    }
}

/// Answers one request, whole.
async fn exchange(
    connection: &Rc<Connection>,
    front: &Front,
    head: RequestHead,
    before: Counts,
) -> After {
    let alarm = &front.alarm;
    let verdict = head.verdict;
    let (mut request, mut asked) = request(connection, head);
    let listener = front.listener();
    let mut exchange = front.begin(kind(&front.client), &listener);
    exchange.desync = verdict;
    if listener.ledger.access_log.is_some() {
        exchange.asked(&request);
    }
    let answer = {
        let handling = pin!(proxy::handle(
            &mut request,
            &front.client,
            &listener,
            &mut exchange,
            alarm
        ));
        let handling = pin!(front.while_it_lasts(handling));
        unless_gone(connection, handling).await
    };
    let answer = match answer {
        Some(None) => Some(proxy::refuse(
            message::Error::ShuttingDown,
            asked.answer,
            &mut exchange,
        )),
        answer => answer.flatten(),
    };
    if request.connections == Persistence::Close {
        asked.persistence = Persistence::Close;
    }
    // What is left of the body goes back to the connection, which then knows whether it can go on.
    drop(request);
    let outcome = match answer {
        Some(Response {
            body: Body::Upgraded(target),
            headers,
            outstanding,
            ..
        }) => {
            let idle_timeout = listener.idle_timeout;
            exchange.tunnelled();
            match agree(connection, &target, headers, idle_timeout, alarm).await {
                Written::Whole => {
                    return After::Tunnel(Box::new(Through {
                        tunnel: Tunnel::new(target),
                        exchange,
                        before,
                        idle_timeout,
                        outstanding,
                        ledger: Arc::clone(&listener.ledger),
                    }));
                }
                written => (written, Persistence::Close),
            }
        }
        Some(response) => {
            let persistence = persistence_after(&asked, &response, connection, front, &listener);
            let written = write(
                connection,
                response,
                &asked,
                persistence,
                listener.idle_timeout,
                alarm,
            )
            .await;
            (written, persistence)
        }
        None => (Written::ClientGone, Persistence::Close),
    };
    if let (Written::ClientGone, _) = outcome {
        proxy::client_gone(&mut exchange);
    }
    before.settle(connection, &mut exchange);
    listener.ledger.finish(&mut exchange);
    match outcome {
        (Written::CutShort, _) if asked.version == Version::HTTP_10 => {
            // The end of the connection may be the end of the body here; a reset is what shows that it is none.
            connection.reset();
            After::Abort
        }
        (Written::ClientGone | Written::CutShort, _) => After::Abort,
        (Written::Whole, Persistence::Close)
            if connection.body_is_open() || connection.has_unread() =>
        {
            After::Linger
        }
        (Written::Whole, Persistence::Close) => After::Close,
        (Written::Whole, Persistence::KeepAlive) => discard(connection, alarm).await,
    }
}

/// Carries what is not HTTP any more, to its end.
async fn tunnel(connection: &Connection, front: &Front, mut through: Box<Through>) {
    let Through {
        tunnel,
        exchange,
        before,
        idle_timeout,
        outstanding,
        ledger,
    } = &mut *through;
    let ends_at = || front.tunnel_ends_at(outstanding.as_ref());
    tunnel
        .run(connection, *idle_timeout, &front.alarm, ends_at)
        .await;
    before.settle(connection, exchange);
    ledger.finish(exchange);
}

/// The request that a head begins, its body still on the connection.
fn request(connection: &Rc<Connection>, head: RequestHead) -> (Request, Asked) {
    let RequestHead {
        method,
        target,
        authority,
        version,
        headers,
        framing,
        persistence,
        expectation,
        upgrade,
        verdict: _,
    } = head;
    let body = Incoming::open(Rc::clone(connection), framing, None)
        .map(|body| body.with_expectation(expectation));
    let body = body.map_or(Body::Empty, Body::Http1);
    let asked = Asked {
        answer: message::Answer::to(&method),
        version,
        persistence,
    };
    let request = Request {
        method,
        target,
        authority,
        version,
        headers,
        body,
        upgrade,
        connections: Persistence::KeepAlive,
    };
    (request, asked)
}

/// Bytes of a connection that belong to requests before this one.
#[derive(Clone, Copy)]
struct Counts {
    received: u64,
    sent: u64,
}

impl Counts {
    /// What was read ahead belongs to what comes next.
    fn of(connection: &Connection) -> Self {
        Self {
            received: connection.received() - connection.unread_len() as u64,
            sent: connection.sent(),
        }
    }

    fn settle(self, connection: &Connection, exchange: &mut Exchange) {
        let now = Self::of(connection);
        exchange.received_bytes = now.received - self.received;
        exchange.sent_bytes = now.sent - self.sent;
    }
}

fn kind(client: &Client) -> Kind {
    if client.tls.is_some() {
        Kind::Https
    } else {
        Kind::Http
    }
}

/// What the answer must know of its request.
struct Asked {
    answer: message::Answer,
    version: Version,
    persistence: Persistence,
}

/// Waits for an answer, or for the client to give up waiting for it: `None` then, and the work is dropped where it
/// stands, which closes the connection to the target.
async fn unless_gone<T>(
    connection: &Connection,
    mut handling: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let mut watching = true;
    poll_fn(|cx| {
        if let Poll::Ready(response) = handling.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        // While a body is open its reader sees the end itself.
        while watching && !connection.body_is_open() && connection.unread_len() < READ_AHEAD_MAX {
            let last_byte = connection.last_active();
            match connection.poll_read_ahead(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) if worker::refresh_clock() < last_byte + HALF_CLOSE_WINDOW => {
                    watching = false
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
            }
        }
        Poll::Pending
    })
    .await
}

/// Whether the connection goes on after this answer.
fn persistence_after(
    asked: &Asked,
    response: &Response,
    connection: &Connection,
    front: &Front,
    listener: &Listener,
) -> Persistence {
    let says_close = response
        .headers
        .get(Name::Connection)
        .is_some_and(|value| value == b"close");
    let ends_by_closing =
        asked.version == Version::HTTP_10 && response.body.size() == Size::Unknown;
    let too_much_unread = connection.body_left().is_none_or(|left| left > DISCARD_MAX);
    if says_close || ends_by_closing || too_much_unread || front.is_to_close(listener) {
        Persistence::Close
    } else {
        asked.persistence
    }
}

/// Reads away the rest of a body that nobody wanted, so that the next request is found behind it.
async fn discard(connection: &Rc<Connection>, alarm: &Alarm) -> After {
    let Some(mut rest) = Incoming::resume(Rc::clone(connection)) else {
        return After::Quiet;
    };
    let mut left = DISCARD_MAX;
    let read = alarm
        .race(worker::now() + LINGER, |cx| {
            loop {
                match ready!(rest.poll_lend(cx, |_, piece| piece.len() as u64)) {
                    Ok(None) => return Poll::Ready(After::Quiet),
                    Ok(Some(count)) if count <= left => left -= count,
                    Ok(Some(_)) | Err(_) => return Poll::Ready(After::Linger),
                }
            }
        })
        .await;
    read.unwrap_or(After::Linger)
}

/// Answers bytes that are no request.
async fn refuse(connection: &Connection, front: &Front, refusal: Refusal, before: Counts) {
    let Refusal { error, verdict } = refusal;
    let listener = front.listener();
    let mut exchange = front.begin(kind(&front.client), &listener);
    exchange.desync = verdict;
    let response = proxy::refuse(error, message::Answer::Whole, &mut exchange);
    let asked = Asked {
        answer: message::Answer::Whole,
        version: Version::HTTP_11,
        persistence: Persistence::Close,
    };
    write(
        connection,
        response,
        &asked,
        Persistence::Close,
        listener.idle_timeout,
        &front.alarm,
    )
    .await;
    before.settle(connection, &mut exchange);
    listener.ledger.finish(&mut exchange);
}

/// Ends a connection on which nothing is on its way to us.
async fn close(connection: &Connection, alarm: &Alarm) {
    alarm
        .race(worker::now() + LINGER, |cx| connection.poll_shutdown(cx))
        .await;
}

/// Ends a connection on which the client may still be sending: reads on for a while, so that our last words arrive.
pub(super) async fn linger(connection: &Connection, alarm: &Alarm) {
    let mut left = LINGER_MAX;
    let mut shut = false;
    alarm
        .race(worker::now() + LINGER, |cx| {
            if !shut {
                shut = connection.poll_shutdown(cx).is_ready();
            }
            loop {
                match ready!(connection.poll_lend(cx, |_, bytes| (bytes.len(), bytes.len() as u64)))
                {
                    Ok(Some(count)) if count <= left => left -= count,
                    _ => return Poll::Ready(()),
                }
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::connection::tests::size_of_future;

    /// A desk is held for as long as a request is answered; a tunnel keeps what it has.
    #[test]
    fn what_exchanges_and_tunnels_hold_stays_small() {
        let desk = size_of_future(work);
        assert!(desk <= 2208, "a desk has {desk} bytes");
        let tunnel = size_of::<Through>();
        assert!(tunnel <= 512, "a tunnel has {tunnel} bytes");
    }
}
