//! The paths of the admin address and their answers. Knows nothing of connections.

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use serde::Serialize;

use super::body::Whole;
use super::guard::{self, Entrance};
use super::segment;
use crate::config::Problem;
use crate::control::{Applied, NotReplaced, Readiness, Refused, SteeredStatus, WeakControl};
use crate::target::Unknown;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Version 0.0.4 of Prometheus' text format.
const PROMETHEUS: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers one request; its body is not read.
pub(super) async fn answer<B>(
    request: &Request<B>,
    entrance: &Entrance,
    control: &WeakControl,
) -> Response<Whole> {
    if let Err(refusal) = guard::check(request, entrance) {
        return error(StatusCode::FORBIDDEN, refusal);
    }
    let page = page(request.uri().path());
    if !page.as_ref().is_some_and(Page::is_for_all)
        && let Err(refusal) = guard::check_token(request, entrance)
    {
        return unauthorized(refusal);
    }
    let Some(page) = page else {
        return error(StatusCode::NOT_FOUND, "there is nothing at this path");
    };
    if !page.is_for(request.method()) {
        return wrong_method(&page);
    }
    let view = &control.view;
    match page {
        Page::Index => text(StatusCode::OK, TEXT, INDEX),
        Page::Health => text(StatusCode::OK, TEXT, "ok\n"),
        Page::Ready => ready(view.readiness()),
        Page::Metrics => text(StatusCode::OK, PROMETHEUS, view.metrics()),
        Page::Status => json(StatusCode::OK, &view.status()),
        Page::Reload => reload(control).await,
        Page::Drain(named) => drain(control, named).await,
        Page::Undrain(named) => undrain(control, named).await,
        Page::Upgrade => upgrade(control).await,
        Page::NotServedYet => error(StatusCode::NOT_IMPLEMENTED, "not served yet"),
    }
}

enum Page {
    Index,
    Health,
    Ready,
    Metrics,
    Status,
    Reload,
    Drain(Named),
    Undrain(Named),
    Upgrade,
    /// Run-time verbs to come.
    NotServedYet,
}

/// A target as the path names it, decoded.
struct Named {
    group: String,
    target: String,
}

const INDEX: &str = "\
albedo, admin address

GET /healthz        200 while the process lives
GET /readyz         200 when the listeners are bound and a configuration runs, else 503
GET /metrics        Prometheus text
GET /api/v1/status  generation, listeners, target groups and their health, as JSON

POST /api/v1/reload  reads the configuration's file again; 200 when every worker runs it, 422 if it is refused
POST /api/v1/target_groups/GROUP/targets/TARGET/drain    no new requests, and time to finish the others
POST /api/v1/target_groups/GROUP/targets/TARGET/undrain  brings it back
POST /api/v1/upgrade  starts the installed binary in place of this process; 200 when it serves, else this one goes on
";

fn page(path: &str) -> Option<Page> {
    match path {
        "/" => Some(Page::Index),
        "/healthz" => Some(Page::Health),
        "/readyz" => Some(Page::Ready),
        "/metrics" => Some(Page::Metrics),
        "/api/v1/status" => Some(Page::Status),
        _ => verb(path),
    }
}

fn verb(path: &str) -> Option<Page> {
    let parts: Vec<&str> = path.strip_prefix("/api/v1/")?.split('/').collect();
    match parts[..] {
        ["reload"] => Some(Page::Reload),
        ["upgrade"] => Some(Page::Upgrade),
        ["target_groups", group, "targets", target, "drain"] => {
            Some(Page::Drain(Named::read(group, target)?))
        }
        ["target_groups", group, "targets", target, "undrain"] => {
            Some(Page::Undrain(Named::read(group, target)?))
        }
        ["target_groups", _, "switch" | "pause" | "resume"] => Some(Page::NotServedYet),
        _ => None,
    }
}

impl Named {
    fn read(group: &str, target: &str) -> Option<Self> {
        Some(Self {
            group: segment::decode(group)?,
            target: segment::decode(target)?,
        })
    }
}

impl Page {
    fn is_verb(&self) -> bool {
        match self {
            Self::Reload
            | Self::Upgrade
            | Self::Drain(_)
            | Self::Undrain(_)
            | Self::NotServedYet => true,
            Self::Index | Self::Health | Self::Ready | Self::Metrics | Self::Status => false,
        }
    }

    /// Whether it tells so little that orchestrators may ask without a token.
    fn is_for_all(&self) -> bool {
        matches!(self, Self::Health | Self::Ready)
    }

    fn is_for(&self, method: &Method) -> bool {
        match self.is_verb() {
            true => method == Method::POST,
            false => method == Method::GET || method == Method::HEAD,
        }
    }

    fn methods(&self) -> HeaderValue {
        match self.is_verb() {
            true => HeaderValue::from_static("POST"),
            false => HeaderValue::from_static("GET, HEAD"),
        }
    }
}

fn ready(readiness: Readiness) -> Response<Whole> {
    match readiness {
        Readiness::Ready => text(StatusCode::OK, TEXT, "ready\n"),
        Readiness::Starting => text(StatusCode::SERVICE_UNAVAILABLE, TEXT, "starting\n"),
        Readiness::Draining => text(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n"),
    }
}

async fn reload(control: &WeakControl) -> Response<Whole> {
    let outcome = match control.upgrade() {
        Some(control) => control.reload().await,
        None => Err(Refused::Stopped),
    };
    match outcome {
        Ok(applied) => json(StatusCode::OK, &Generation::from(&applied)),
        Err(refused @ Refused::NotFromAFile) => error(StatusCode::CONFLICT, refused),
        Err(refused @ Refused::Stopped) => error(StatusCode::SERVICE_UNAVAILABLE, refused),
        Err(refused @ (Refused::Problems(_) | Refused::Rejected(..))) => {
            let problems = refused.problems();
            json(StatusCode::UNPROCESSABLE_ENTITY, &Problems { problems })
        }
    }
}

async fn drain(control: &WeakControl, named: Named) -> Response<Whole> {
    match control.upgrade() {
        Some(control) => steered(control.drain(named.group, named.target).await),
        None => steered(None),
    }
}

async fn undrain(control: &WeakControl, named: Named) -> Response<Whole> {
    match control.upgrade() {
        Some(control) => steered(control.undrain(named.group, named.target).await),
        None => steered(None),
    }
}

/// What a target is now, or why there is none.
fn steered(outcome: Option<Result<SteeredStatus, Unknown>>) -> Response<Whole> {
    match outcome {
        Some(Ok(status)) => json(StatusCode::OK, &status),
        Some(Err(unknown @ Unknown::Ambiguous { .. })) => error(StatusCode::CONFLICT, unknown),
        Some(Err(unknown)) => error(StatusCode::NOT_FOUND, unknown),
        None => error(StatusCode::SERVICE_UNAVAILABLE, Refused::Stopped),
    }
}

/// What runs now.
#[derive(Serialize)]
struct Generation<'a> {
    generation: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [Problem],
}

impl<'a> From<&'a Applied> for Generation<'a> {
    fn from(applied: &'a Applied) -> Self {
        Self {
            generation: applied.generation.0,
            warnings: &applied.warnings,
        }
    }
}

/// Why it is not what the file says.
#[derive(Serialize)]
struct Problems<'a> {
    problems: &'a [Problem],
}

async fn upgrade(control: &WeakControl) -> Response<Whole> {
    let outcome = match control.upgrade() {
        Some(control) => control.replace().await,
        None => Err(NotReplaced::Stopping),
    };
    match outcome {
        Ok(pid) => json(StatusCode::OK, &serde_json::json!({ "pid": pid })),
        Err(stopping @ NotReplaced::Stopping) => error(StatusCode::SERVICE_UNAVAILABLE, stopping),
        Err(failed @ NotReplaced::Failed(_)) => error(StatusCode::INTERNAL_SERVER_ERROR, failed),
        Err(impossible) => error(StatusCode::CONFLICT, impossible),
    }
}

fn unauthorized(refusal: guard::Refusal) -> Response<Whole> {
    let mut response = error(StatusCode::UNAUTHORIZED, refusal);
    let challenge = HeaderValue::from_static("Bearer");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

fn wrong_method(page: &Page) -> Response<Whole> {
    let mut response = error(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path takes another method",
    );
    response.headers_mut().insert(ALLOW, page.methods());
    response
}

/// `{"error": …}`, the form of every refusal here.
fn error(status: StatusCode, message: impl ToString) -> Response<Whole> {
    json(status, &serde_json::json!({ "error": message.to_string() }))
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Whole> {
    let mut body = serde_json::to_vec(value).expect("what is told here is always JSON");
    body.push(b'\n');
    text(status, JSON, body)
}

fn text(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<bytes::Bytes>,
) -> Response<Whole> {
    let mut response = Response::new(Whole::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
