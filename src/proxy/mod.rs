//! The life of a request: admit, find the rule, act, finish. Never knows TCP, TLS, or which HTTP brought it.

mod admit;

use crate::action::Hop;
use crate::headers::Name;
use crate::message::{
    Answer, Client, ClientConnection, Error, Exchange, MatchedRule, Request, Response, headers,
};
use crate::snapshot::Listener;
use crate::worker::{self, Alarm};

/// Answers one request. Never fails: every error becomes a response. The request is borrowed all the way: it is large,
/// and handing it on by value would copy it in every room.
pub(crate) async fn handle(
    request: &mut Request,
    client: &Client,
    listener: &Listener,
    exchange: &mut Exchange,
    alarm: &Alarm,
) -> Response {
    let whole = Answer::to(&request.method);
    let answered = answer(request, client, listener, exchange, alarm).await;
    if exchange.is_kept() && exchange.trace_id.is_none() {
        // ALB traces what it answers itself, too.
        let random = [fastrand::u64(..), fastrand::u64(..)];
        exchange.is_traced(headers::trace(request, worker::epoch_seconds(), random));
    }
    match answered {
        Ok(response) => finish(response, exchange),
        Err(error) => refuse(error, whole, exchange),
    }
}

async fn answer(
    request: &mut Request,
    client: &Client,
    listener: &Listener,
    exchange: &mut Exchange,
    alarm: &Alarm,
) -> Result<Response, Error> {
    admit::admit(request, listener.desync_mitigation_mode, exchange)?;
    let matched = listener.rules.find(request, client);
    exchange.rule = match matched.priority {
        0 => MatchedRule::Default,
        priority => MatchedRule::Priority(priority),
    };
    let hop = Hop {
        client,
        forwarding: &listener.forwarding,
        cookie_keys: &listener.cookie_keys,
        idle_timeout: listener.idle_timeout,
        body_rate: listener.limits.body_rate,
        alarm,
    };
    matched.actions.run(request, hop, exchange).await
}

/// The answer to a request that cannot have another.
pub(crate) fn refuse(error: Error, answer: Answer, exchange: &mut Exchange) -> Response {
    let verdict = error.verdict();
    exchange.limit = error.limit();
    exchange.reason = Some(verdict.reason);
    tracing::debug!(%error, reason = verdict.reason, blame = verdict.blame.as_str(), "answering for ourselves");
    let mut response = finish(error.into_response(answer, &worker::date()), exchange);
    if verdict.connection == ClientConnection::Close {
        response.headers.append(Name::Connection, b"close");
    }
    response
}

/// Notes that the client left before its answer was whole.
pub(crate) fn client_gone(exchange: &mut Exchange) {
    let verdict = Error::ClientClosed.verdict();
    exchange.elb_status = Some(verdict.status);
    exchange.reason = Some(verdict.reason);
}

fn finish(mut response: Response, exchange: &mut Exchange) -> Response {
    headers::toward_client(&mut response.headers, &worker::date());
    exchange.elb_status = Some(response.status);
    // A target's answer has come just now, and nobody waited since.
    let head = exchange.response_head;
    exchange.response_started = Some(head.unwrap_or_else(|| exchange.moment()));
    response
}
