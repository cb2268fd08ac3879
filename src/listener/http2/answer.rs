//! The answer to one stream's request: read, let `proxy` answer, send.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, HeaderValue};

use super::body::{self, Sent};
use super::record::{Keeper, Record};
use super::request::read;
use super::tunnel::{Handshake, is_switch, open};
use crate::headers::{Name, Names};
use crate::http1::Expectation;
use crate::listener::connection::Front;
use crate::message::{self, Error, Kind, Response, SharedTime, Size};
use crate::proxy;
use crate::worker::Alarm;

/// Answers one stream, and gives what carries its tunnel, if it opened one. A stream that the client resets is left
/// where it stands.
pub(super) async fn answer(
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    front: Rc<Front>,
    alarm: Rc<Alarm>,
    time: &Rc<SharedTime>,
) -> Option<Pin<Box<impl Future<Output = ()>>>> {
    let listener = front.listener();
    let mut record = Record {
        exchange: front.begin(Kind::H2, &listener),
        kept_by: Keeper::Listener(Rc::clone(&listener)),
        outstanding: None,
        received: 0,
        is_underway: false,
        body: None,
    };
    let (parts, incoming) = request.into_parts();
    let mut incoming = Some(incoming);
    let whole = message::Answer::to(&parts.method);
    let tunnel = Handshake::begin(&parts);
    let response = match read(parts, &mut incoming, tunnel.as_ref(), &mut record, time) {
        Ok((mut request, expectation)) => {
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
                let handling = pin!(front.while_it_lasts(handling));
                unless_reset(&mut respond, expectation, handling).await?
            };
            match answer {
                Some(response) => response,
                None => proxy::refuse(Error::ShuttingDown, whole, &mut record.exchange),
            }
        }
        Err(error) => proxy::refuse(error, whole, &mut record.exchange),
    };
    let response = match (tunnel, incoming) {
        (Some(handshake), Some(incoming)) if handshake.is_agreed(&response) => {
            let idle_timeout = listener.idle_timeout;
            return open(
                response,
                respond,
                incoming,
                record,
                idle_timeout,
                front,
                alarm,
            );
        }
        // RFC 8441 §5: any success would tell the client that it has a tunnel.
        (Some(_), _) if response.status.is_success() || is_switch(&response) => {
            proxy::refuse(Error::TargetMalformedResponse, whole, &mut record.exchange)
        }
        _ => response,
    };
    reply(
        response,
        respond,
        &mut record,
        listener.idle_timeout,
        &alarm,
    )
    .await;
    None
}

/// Waits for an answer, or for the client to give up waiting for it: `None` then. A client that waits for a word before
/// it sends its body gets it, unless it has its answer at once.
async fn unless_reset<T>(
    respond: &mut SendResponse<Bytes>,
    mut expectation: Expectation,
    mut handling: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    poll_fn(|cx| {
        if let Poll::Ready(answer) = handling.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        if expectation == Expectation::Continue {
            expectation = Expectation::Nothing;
            let mut word = http::Response::new(());
            *word.status_mut() = StatusCode::CONTINUE;
            // Whoever cannot be told is gone, or so is the connection.
            let _ = respond.send_informational(word);
        }
        respond.poll_reset(cx).map(|_reset| None)
    })
    .await
}

/// Sends an answer, as its client takes it.
async fn reply(
    response: Response,
    mut respond: SendResponse<Bytes>,
    record: &mut Record,
    idle_timeout: Duration,
    alarm: &Alarm,
) {
    let Response {
        status,
        headers,
        body,
        outstanding,
    } = response;
    record.outstanding = outstanding;
    let size = headers.size();
    let is_whole = body.is_done();
    let mut head = http::Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = headers.to_map(match status {
        // RFC 9110 §8.6.
        StatusCode::NO_CONTENT => Names::of(&[Name::Connection, Name::ContentLength]),
        _ => Names::of(&[Name::Connection]),
    });
    if let Size::Known(length @ 1..) = body.size()
        && !headers.has(Name::ContentLength)
    {
        head.headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    // A long body shall not hold them.
    drop(headers);
    let Ok(mut outgoing) = respond.send_response(head, is_whole) else {
        gone(respond, record);
        return;
    };
    record.exchange.sent_bytes = size;
    if !is_whole {
        record.is_underway = true;
        let sent = body::send(&mut outgoing, body, record, idle_timeout, alarm).await;
        record.is_underway = sent == Sent::ToNobody;
    }
}

/// The client has reset the stream before it was answered.
pub(super) fn gone(mut respond: SendResponse<Bytes>, record: &mut Record) {
    proxy::client_gone(&mut record.exchange);
    respond.send_reset(Reason::INTERNAL_ERROR);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::connection::tests::size_of_future;

    #[test]
    fn what_a_stream_holds_stays_small() {
        let stream = size_of_future(|(request, respond, front, alarm, time)| {
            answer(request, respond, front, alarm, time)
        });
        assert!(stream <= 4096, "a stream has {stream} bytes");
    }
}
