//! Probes one target and feeds its health. Runs on the control side: a thousand probes never delay a request.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::health::{Failure, Outcome};
use super::{Group, Target};
use crate::model::Protocol;
use crate::tls::Stream;
use crate::upstream::{self, Tls};

/// A new target's first probe comes within this time, so that its verdict does not wait for a whole interval; the
/// offset within it is random, so that thousands of targets do not start at once.
const FIRST_PROBE_WITHIN: Duration = Duration::from_secs(1);

/// Largest head of a probe's answer that is read; ALB's limit for response heads.
const HEAD_MAX: usize = 32 * 1024;

/// What ALB's probes call themselves.
const USER_AGENT: &str = "ELB-HealthChecker/2.0";

/// Probes `target` on its group's schedule until told to stop. `offset` is a fraction of the first probe's window.
pub(super) async fn run(
    group: Arc<Group>,
    target: Arc<Target>,
    tls: Option<Tls>,
    offset: f64,
    stop: CancellationToken,
) {
    let check = &group.settings.health_check;
    let first = Instant::now() + FIRST_PROBE_WITHIN.min(check.interval).mul_f64(offset);
    // The schedule is the interval's, however long an answer takes.
    let mut schedule = interval_at(first, check.interval);
    schedule.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = schedule.tick() => {}
        }
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = timeout(check.timeout, probe(&group, &target, tls.as_ref())) => outcome,
        };
        let outcome = match outcome {
            Ok(Ok(status)) if check.matcher.matches(status.as_u16()) => Outcome::Passed,
            Ok(Ok(status)) => Outcome::Failed(Failure::ResponseCodeMismatch(status.as_u16())),
            Ok(Err(Unanswered)) => Outcome::Failed(Failure::FailedHealthChecks),
            Err(_elapsed) => Outcome::Failed(Failure::Timeout),
        };
        group.observe(&target, outcome);
    }
}

/// No connection, no handshake, or no HTTP came back. ALB says no more either.
struct Unanswered;

/// One probe: a connection of its own, one GET, the status.
async fn probe(
    group: &Group,
    target: &Target,
    tls: Option<&Tls>,
) -> Result<StatusCode, Unanswered> {
    let check = &group.settings.health_check;
    let port = check.port.resolve(target.key.port);
    let mut addresses = target.upstream.addresses().to_vec();
    addresses
        .iter_mut()
        .for_each(|address| address.set_port(port));
    let tls = tls.filter(|_| check.protocol == Protocol::Https);
    let (stream, address) = upstream::connect(&addresses, tls)
        .await
        .map_err(|_| Unanswered)?;
    match stream {
        Stream::Plain(tcp) => ask(tcp, address, &check.path).await,
        Stream::Client(tls) => ask(tls, address, &check.path).await,
        Stream::Server(_) => Err(Unanswered),
    }
}

async fn ask<S>(stream: S, address: SocketAddr, path: &str) -> Result<StatusCode, Unanswered>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = Request::get(path)
        .header(header::HOST, host(address))
        .header(header::CONNECTION, "close")
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT_ENCODING, "gzip, compressed")
        .body(NoBody)
        .map_err(|_| Unanswered)?;
    let (mut sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| Unanswered)?;
    let mut connection = pin!(connection);
    let mut response = pin!(sender.send_request(request));
    // The body is not waited for: the status line has said all.
    tokio::select! {
        biased;
        response = &mut response => response,
        _ended = &mut connection => response.await,
    }
    .map(|response| response.status())
    .map_err(|_| Unanswered)
}

/// ALB always names the port, and the address even where the target has a name.
fn host(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => format!("{ip}:{}", address.port()),
        IpAddr::V6(ip) => format!("[{ip}]:{}", address.port()),
    }
}

/// GET has none.
struct NoBody;

impl http_body::Body for NoBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}
