//! A WebSocket that a client asks for by extended CONNECT (RFC 8441), from the question to the end of its tunnel.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::ext::Protocol;
use h2::server::SendResponse;
use http::Method;

use super::answer::gone;
use super::record::{Keeper, Record};
use crate::action::Tunnel;
use crate::headers::{Headers, Name, Names};
use crate::http1::{Connection, Upgrade};
use crate::listener::connection::Front;
use crate::message::websocket::Key;
use crate::message::{Body, Response};
use crate::tls::{Http2Stream, Stream};
use crate::worker::Alarm;

/// A question whose target has not agreed yet.
pub(super) struct Handshake {
    key: Key,
}

impl Handshake {
    /// `None` for any other request.
    pub(super) fn begin(head: &http::request::Parts) -> Option<Self> {
        let protocol = head.extensions.get::<Protocol>()?;
        let is_websocket = protocol.as_str().eq_ignore_ascii_case("websocket");
        (is_websocket && head.method == Method::CONNECT).then(|| Self {
            key: Key::new(fastrand::u128(..).to_ne_bytes()),
        })
    }

    /// The same question as an HTTP/1.1 target knows it (RFC 8441 §5.1).
    pub(super) fn translate(&self, headers: &mut Headers) -> (Method, Option<Upgrade>) {
        headers.set(Name::SecWebSocketKey, self.key.value());
        (Method::GET, Some(Upgrade::WebSocket))
    }

    pub(super) fn is_agreed(&self, response: &Response) -> bool {
        is_switch(response) && self.key.is_accepted(&response.headers)
    }
}

pub(super) fn is_switch(response: &Response) -> bool {
    matches!(response.body, Body::Upgraded(_))
}

/// Tells the client that it has its tunnel, and gives what carries it. An idle tunnel keeps no more than it needs, so
/// that is in a box of its own.
pub(super) fn open(
    response: Response,
    mut respond: SendResponse<Bytes>,
    incoming: RecvStream,
    mut record: Record,
    idle_timeout: Duration,
    front: Rc<Front>,
    alarm: Rc<Alarm>,
) -> Option<Pin<Box<impl Future<Output = ()>>>> {
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
    let size = headers.size();
    let Body::Upgraded(target) = body else {
        return None;
    };
    let mut agreement = http::Response::new(());
    *agreement.headers_mut() = headers.to_map(Names::NONE);
    let Ok(outgoing) = respond.send_response(agreement, false) else {
        gone(respond, &mut record);
        return None;
    };
    record.kept_by = Keeper::Ledger(Arc::clone(record.kept_by.ledger()));
    record.exchange.tunnelled();
    record.exchange.sent_bytes = size;
    record.outstanding = outstanding;
    let stream = Http2Stream::new(incoming, outgoing);
    let tunnel = Box::new(Tunnel::new(target));
    Some(Box::pin(carry(
        tunnel,
        stream,
        record,
        idle_timeout,
        front,
        alarm,
    )))
}

async fn carry(
    mut tunnel: Box<Tunnel>,
    stream: Http2Stream,
    mut record: Record,
    idle_timeout: Duration,
    front: Rc<Front>,
    alarm: Rc<Alarm>,
) {
    let stream = Stream::Http2(Box::new(stream));
    let client = Connection::new(stream, front.client.peer);
    let outstanding = record.outstanding.take();
    let ends_at = || front.tunnel_ends_at(outstanding.as_ref());
    tunnel.run(&client, idle_timeout, &alarm, ends_at).await;
    record.received += client.received();
    record.exchange.sent_bytes += client.sent();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::connection::tests::size_of_future;

    #[test]
    fn what_a_tunnel_holds_stays_small() {
        let tunnel = size_of_future(|(tunnel, stream, record, idle_timeout, front, alarm)| {
            carry(tunnel, stream, record, idle_timeout, front, alarm)
        });
        assert!(tunnel <= 1664, "what carries a tunnel has {tunnel} bytes");
        let tunnel = size_of::<Tunnel>();
        assert!(tunnel <= 160, "a tunnel has {tunnel} bytes");
    }
}
