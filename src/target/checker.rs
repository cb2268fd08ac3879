//! Probes one target of one group, again and again, as ALB does, and tells the group what it found. Runs on the
//! control runtime. Never follows a redirect, never keeps a connection, never decides what a result means for routing.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONNECTION, HOST, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Request, StatusCode, Uri};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use super::health::{Failure, Outcome};
use super::{Group, Target};
use crate::model::ProxyProtocolVersion;
use crate::proxy_protocol::{Carried, write};
use crate::upstream::Tls;

/// Most bytes of a probe's response head, and most of its body that are in memory at a time. A status line with a
/// page of headers fits; hyper asks for 8 KiB at least.
const HEAD_MAX: usize = 16 * 1024;

/// Most bytes of a probe's response body that are read, and thrown away, so that a target that answers with a page
/// does not log a broken connection for each probe.
const BODY_MAX: usize = 64 * 1024;

/// Latest start of a new target's first probe: it gets its verdict soon, and 2,000 targets that come at once are still
/// not asked in the same moment.
const FIRST_PROBE_WITHIN: Duration = Duration::from_secs(1);

// There is no limit to the probes under way at once: each target has one at most, and a target that hangs would keep
// a place from one that answers for the length of a timeout, which delays verdicts just when they matter.

/// What is asked of one target, and where.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    path: Uri,
    port: u16,
    /// How targets are told whose connection it is: ours.
    proxy_protocol: Option<ProxyProtocolVersion>,
    tls: Option<Tls>,
}

impl Probe {
    pub(super) fn new(
        path: Uri,
        port: u16,
        proxy_protocol: Option<ProxyProtocolVersion>,
        tls: Option<Tls>,
    ) -> Self {
        Self {
            path,
            port,
            proxy_protocol,
            tls,
        }
    }
}

/// A health check path as a request's target; `None` if it cannot be one.
pub(super) fn path(path: &str) -> Option<Uri> {
    let parsed = PathAndQuery::from_str(path).ok();
    parsed.filter(|_| path.starts_with('/')).map(Uri::from)
}

/// When one target is probed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// From the start to the first probe.
    first: Duration,
    /// From the first to the second; all others follow at the interval.
    second: Duration,
}

impl Schedule {
    /// The first probe comes soon. The second falls anywhere in the later half of the interval, never beyond it:
    /// if all kept the distance of their first probes, 2,000 targets would share the same second for ever.
    pub(super) fn draw(interval: Duration, chance: &mut fastrand::Rng) -> Self {
        Self {
            first: interval.min(FIRST_PROBE_WITHIN).mul_f64(chance.f64()),
            second: interval.mul_f64(1.0 - chance.f64() / 2.0),
        }
    }
}

/// Probes until told to stop.
pub(super) async fn run(
    group: Arc<Group>,
    target: Arc<Target>,
    probe: Probe,
    schedule: Schedule,
    stop: CancellationToken,
) {
    // Cancelling loses a probe under way, whose result nobody would read.
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = probe_for_ever(&group, &target, &probe, schedule) => {}
    }
}

async fn probe_for_ever(group: &Group, target: &Arc<Target>, probe: &Probe, schedule: Schedule) {
    let first = Instant::now() + schedule.first;
    group.checking(target, std::time::Instant::now());
    // The schedule stands on its own: however long an answer takes, the next probe comes when it would have come.
    let mut ticks = interval_at(first + schedule.second, group.health_check().interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    sleep_until(first).await;
    loop {
        check(group, target, probe).await;
        ticks.tick().await;
    }
}

/// One probe, from the connection to the verdict.
async fn check(group: &Group, target: &Arc<Target>, probe: &Probe) {
    let settings = group.health_check();
    let deadline = Instant::now() + settings.timeout;
    let answer = timeout_at(deadline, ask(target, probe)).await;
    let outcome = match &answer {
        Ok(Ok(answer)) if settings.matcher.matches(answer.status.as_u16()) => Outcome::Passed,
        Ok(Ok(answer)) => Outcome::Failed(Failure::ResponseCodeMismatch(answer.status.as_u16())),
        Ok(Err(Fault::Ours(error))) => {
            tracing::warn!(group = %group.name(), target = %target.key, %error, "no health check possible");
            return;
        }
        Ok(Err(Fault::Target(error))) => {
            tracing::debug!(group = %group.name(), target = %target.key, %error, "health check failed");
            Outcome::Failed(Failure::FailedHealthChecks)
        }
        // The wait was for DNS, and no request was made that could have timed out.
        Err(_) if target.upstream().addresses().is_empty() => {
            Outcome::Failed(Failure::FailedHealthChecks)
        }
        Err(_) => Outcome::Failed(Failure::Timeout),
    };
    group.observe(target, outcome, std::time::Instant::now());
    if let Ok(Ok(answer)) = answer {
        // The verdict is out, so neither how the body ends nor whether it does in time is of interest.
        let _ = timeout_at(deadline, answer.finish()).await;
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum Fault {
    /// This process has no descriptor left, which says nothing of the target. Counting it would turn one overload
    /// into a cluster full of sick targets.
    Ours(io::Error),
    Target(Box<dyn std::error::Error + Send + Sync>), // only ever printed
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        /// Too many open files in the system, and in this process; the same numbers on every Unix.
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        match error.raw_os_error() {
            Some(ENFILE | EMFILE) => Self::Ours(error),
            _ => Self::Target(error.into()),
        }
    }
}

impl From<hyper::Error> for Fault {
    fn from(error: hyper::Error) -> Self {
        Self::Target(error.into())
    }
}

type Stream = Either<TcpStream, TlsStream<TcpStream>>;
type Connection = http1::Connection<TokioIo<Stream>, String>;

/// A response whose head has come.
struct Answer {
    status: StatusCode,
    body: Incoming,
    /// `None` once the target has closed it.
    connection: Option<Connection>,
}

/// Sends the request on a connection of its own and waits for the response's head.
async fn ask(target: &Target, probe: &Probe) -> Result<Answer, Fault> {
    let (mut tcp, address) = connect(&target.addresses().await, probe.port).await?;
    if let Some(version) = probe.proxy_protocol {
        tcp.write_all(&write(version, Carried::Own)).await?;
    }
    let stream = match &probe.tls {
        None => Either::Left(tcp),
        Some(tls) => {
            let connector = TlsConnector::from(Arc::clone(&tls.config));
            Either::Right(connector.connect(tls.name.clone(), tcp).await?)
        }
    };
    let (mut sender, mut connection) = http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    let mut response = pin!(sender.send_request(request(probe, address)));
    let mut open = true;
    let response = tokio::select! {
        biased;
        response = &mut response => response,
        // Its end brought the response, or says why there is none; either way the response knows.
        _ = &mut connection => { open = false; response.await }
    }?;
    Ok(Answer {
        status: response.status(),
        body: response.into_body(),
        connection: open.then_some(connection),
    })
}

/// The first of the addresses that takes a connection.
async fn connect(addresses: &[SocketAddr], port: u16) -> io::Result<(TcpStream, SocketAddr)> {
    let mut failure = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        let address = SocketAddr::new(address.ip(), port);
        match TcpStream::connect(address).await {
            Ok(tcp) => return Ok((tcp, address)),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// ALB's probe, header by header.
fn request(probe: &Probe, address: SocketAddr) -> Request<String> {
    let host = HeaderValue::try_from(address.to_string());
    let mut request = Request::new(String::new());
    *request.uri_mut() = probe.path.clone();
    let headers = request.headers_mut();
    headers.insert(HOST, host.expect("an address is visible ASCII"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static("ELB-HealthChecker/2.0"),
    );
    headers.insert(
        ACCEPT_ENCODING,
        HeaderValue::from_static("gzip, compressed"),
    );
    request
}

impl Answer {
    /// Reads the rest, up to a bound, and lets the connection close in order.
    async fn finish(self) {
        let Self {
            body, connection, ..
        } = self;
        let connection = async {
            if let Some(connection) = connection {
                // However it ends, it has ended.
                let _ = connection.await;
            }
        };
        tokio::join!(throw_away(body), connection);
    }
}

async fn throw_away(mut body: Incoming) {
    let mut left = BODY_MAX;
    while left > 0 {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let Some(Ok(frame)) = frame else { break };
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
    }
}

#[cfg(test)]
mod tests;
