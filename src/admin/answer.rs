//! The paths of the admin address and their answers. Knows nothing of connections.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use serde::Serialize;

use super::body::Whole;
use super::guard::{self, Entrance};
use crate::config::Problem;
use crate::control::{Applied, Readiness, Refused, WeakControl};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Version 0.0.4 of Prometheus' text format.
const PROMETHEUS: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers one request; its body is not read.
pub(super) async fn answer<B>(
    request: &Request<B>,
    entrance: Entrance,
    control: &WeakControl,
) -> Response<Whole> {
    if let Err(refusal) = guard::check(request, entrance) {
        return error(StatusCode::FORBIDDEN, refusal);
    }
    let Some(page) = page(request.uri().path()) else {
        return error(StatusCode::NOT_FOUND, "there is nothing at this path");
    };
    if !page.is_for(request.method()) {
        return wrong_method(page);
    }
    let view = &control.view;
    match page {
        Page::Index => text(StatusCode::OK, TEXT, INDEX),
        Page::Health => text(StatusCode::OK, TEXT, "ok\n"),
        Page::Ready => ready(view.readiness()),
        Page::Metrics => text(StatusCode::OK, PROMETHEUS, view.metrics()),
        Page::Status => json(StatusCode::OK, &view.status()),
        Page::Reload => reload(control).await,
        Page::NotServedYet => error(StatusCode::NOT_IMPLEMENTED, "not served yet"),
    }
}

#[derive(Clone, Copy)]
enum Page {
    Index,
    Health,
    Ready,
    Metrics,
    Status,
    Reload,
    /// Run-time verbs to come.
    NotServedYet,
}

const INDEX: &str = "\
albedo, admin address

GET /healthz        200 while the process lives
GET /readyz         200 when the listeners are bound and a configuration runs, else 503
GET /metrics        Prometheus text
GET /api/v1/status  generation, listeners, target groups and their health, as JSON

POST /api/v1/reload  reads the configuration's file again; 200 when every worker runs it, 422 if it is refused
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
    let mut parts = path.strip_prefix("/api/v1/")?.split('/');
    let parts: [Option<&str>; 6] = std::array::from_fn(|_| parts.next());
    match parts {
        [Some("reload"), None, ..] => Some(Page::Reload),
        [
            Some("target_groups"),
            Some(_),
            Some("targets"),
            Some(_),
            Some("drain" | "undrain"),
            None,
        ]
        | [
            Some("target_groups"),
            Some(_),
            Some("switch" | "pause" | "resume"),
            None,
            ..,
        ] => Some(Page::NotServedYet),
        _ => None,
    }
}

impl Page {
    fn is_for(self, method: &Method) -> bool {
        match self {
            Self::Reload | Self::NotServedYet => method == Method::POST,
            _ => method == Method::GET || method == Method::HEAD,
        }
    }

    fn methods(self) -> HeaderValue {
        match self {
            Self::Reload | Self::NotServedYet => HeaderValue::from_static("POST"),
            _ => HeaderValue::from_static("GET, HEAD"),
        }
    }
}

fn ready(readiness: Readiness) -> Response<Whole> {
    match readiness {
        Readiness::Ready => text(StatusCode::OK, TEXT, "ready\n"),
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

fn wrong_method(page: Page) -> Response<Whole> {
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
