//! Forward: choose a group and its target, send, and where that is safe choose another target. Decides what an
//! upstream's error means.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use smallvec::SmallVec;

use super::Hop;
use super::groups::Groups;
use super::session::Session;
use crate::headers::Name;
use crate::http1::{self, Malformed};
use crate::message::{self, Broken, Error, Exchange, Request, Response, headers};
use crate::model::{self, TargetGroupName};
use crate::target::{Group, Lease};
use crate::upstream::{self, Answer, Failure, PoolId, Replay, Terms};
use crate::worker;

/// Most targets one request is sent to. A dead node costs a second try; a request that kills what it meets must not
/// meet everything.
const ATTEMPTS_MAX: usize = 3;

/// Forward to a target of one group, or of several by weight.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(super) groups: Groups,
    /// How long a client stays with its group; off when absent.
    pub(super) stickiness: Option<Duration>,
}

impl Forward {
    pub(super) fn build(
        forward: &model::Forward,
        group: impl Fn(&TargetGroupName) -> Arc<Group>,
    ) -> Self {
        Self {
            groups: Groups::build(forward, group),
            stickiness: forward.stickiness,
        }
    }

    pub(super) async fn run(
        &self,
        request: &mut Request,
        hop: Hop<'_>,
        exchange: &mut Exchange,
    ) -> Result<Response, Error> {
        exchange.action = message::Action::Forward;
        let seconds = worker::epoch_seconds();
        let session = Session::open(self, request, hop.cookie_keys, seconds, exchange)?;
        let group = session.group();
        if exchange.is_kept() {
            exchange.goes_to(group.arn());
        }
        let random = [fastrand::u64(..), fastrand::u64(..)];
        exchange.invalid_names =
            headers::toward_target(request, hop.client, hop.forwarding, seconds, random)?;
        if exchange.is_kept() {
            exchange.is_traced(request.headers.get(Name::XAmznTraceId));
        }
        let mut tried: SmallVec<[PoolId; ATTEMPTS_MAX]> = SmallVec::new();
        let mut outcome = Error::NoTargets;
        let terms = Terms {
            client: hop.client,
            idle_timeout: hop.idle_timeout,
            body_rate: hop.body_rate,
            alarm: hop.alarm,
            clock: exchange.clock(),
        };
        while tried.len() < ATTEMPTS_MAX {
            let Some(lease) = session.pick(&tried) else {
                break;
            };
            tried.push(lease.pool());
            let sent = {
                let sending = pin!(upstream::send(lease.upstream(), request, &terms));
                lease.while_it_lasts(sending).await
            };
            let Some(sent) = sent else {
                exchange.target = lease.upstream().addresses().first().copied();
                outcome = Error::TargetDeregistered;
                break;
            };
            match sent {
                Ok(mut answer) => {
                    session.keep(request, &mut answer.response, &lease, hop.cookie_keys);
                    return Ok(answered(group, answer, lease, exchange));
                }
                Err(failure) => {
                    count_failure(group, &failure.error);
                    exchange.target = lease.upstream().addresses().first().copied();
                    let again = may_go_elsewhere(&failure, &request.method);
                    outcome = meaning(failure.error);
                    if !again {
                        break;
                    }
                }
            }
        }
        exchange.response_head = Some(exchange.moment());
        Err(outcome)
    }
}

fn answered(group: &Group, answer: Answer, lease: Lease, exchange: &mut Exchange) -> Response {
    let Answer {
        mut response,
        address,
        sent_at,
    } = answer;
    exchange.target = Some(address);
    exchange.request_sent = Some(sent_at);
    exchange.response_head = Some(exchange.moment());
    exchange.target_status = Some(response.status);
    group.metrics.requests.increment(1);
    group.metrics.count_response(response.status);
    response.outstanding = Some(lease.into_outstanding());
    response
}

fn count_failure(group: &Group, error: &upstream::Error) {
    match error {
        upstream::Error::Connect(_)
        | upstream::Error::ConnectTimeout
        | upstream::Error::NoAddress => {
            group.metrics.connection_errors.increment(1);
        }
        upstream::Error::Tls(_) | upstream::Error::TlsTimeout => {
            group.metrics.tls_errors.increment(1)
        }
        _ => {}
    }
}

/// Whether the request may be sent to another target: one that saw nothing of it did nothing, and an idempotent
/// method may be repeated when a target broke off without a word (RFC 9110 §9.2.2). Silence is not repeated: the
/// client has waited an idle timeout already.
fn may_go_elsewhere(failure: &Failure, method: &Method) -> bool {
    match failure.replay {
        Replay::Untouched => !matches!(
            failure.error,
            upstream::Error::Client(_)
                | upstream::Error::ClientTimeout
                | upstream::Error::ClientTooSlow
        ),
        Replay::Unanswered => {
            method.is_idempotent()
                && matches!(
                    failure.error,
                    upstream::Error::Closed | upstream::Error::Broken(_)
                )
        }
        Replay::Impossible => false,
    }
}

/// What a fact about an attempt means to the client (ALB user guide, HTTP 502, 504 and 400).
fn meaning(error: upstream::Error) -> Error {
    match error {
        upstream::Error::NoAddress => Error::TargetUnreachable,
        upstream::Error::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Error::TargetRefused
        }
        upstream::Error::Connect(_) => Error::TargetUnreachable,
        upstream::Error::ConnectTimeout => Error::ConnectTimeout,
        upstream::Error::Tls(_) => Error::TargetTls,
        upstream::Error::TlsTimeout => Error::TargetTlsTimeout,
        upstream::Error::Closed => Error::TargetClosed,
        upstream::Error::Broken(_) => Error::TargetReset,
        upstream::Error::Malformed(Malformed::HeadTooLarge) => Error::TargetHeadTooLarge,
        upstream::Error::Malformed(_) => Error::TargetMalformedResponse,
        upstream::Error::Timeout => Error::TargetTimeout,
        upstream::Error::Client(Broken::Http1(http1::Broken::Malformed(malformed))) => {
            Error::of_request(malformed)
        }
        upstream::Error::Client(_) => Error::BodyIncomplete,
        upstream::Error::ClientTimeout => Error::BodyTimeout,
        upstream::Error::ClientTooSlow => Error::BodyTooSlow,
    }
}
