//! The DataRobot table on loopback: the shipped `config/datarobot.yaml`, its ports moved above 1024, its nodes played
//! by built-in targets, its certificate made at start. Needs no root and no file.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Whole;
use crate::config;
use crate::model::{Certificate, Config, HealthCheckPort, Pem, Secret, Target, TargetId};
use crate::tls;

/// The table that the demo shows.
const TABLE: &str = include_str!("../config/datarobot.yaml");

/// The three nodes; all of 127.0.0.0/8 is this machine.
const NODES: [Ipv4Addr; 3] = [
    Ipv4Addr::new(127, 0, 1, 4),
    Ipv4Addr::new(127, 0, 1, 5),
    Ipv4Addr::new(127, 0, 1, 6),
];

/// Where the table's privileged listener goes.
const HTTPS_PORT: u16 = 8443;

/// How often a port is looked for that is free on all nodes.
const PORT_ATTEMPTS: usize = 20;

/// How long a built-in target waits when it cannot accept, say for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Why the demo cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The table that ships with this program does not fit it.
    #[error("the shipped table is refused:\n{0}")]
    Table(config::Problems),
    /// No certificate could be made.
    #[error("no certificate could be made: {0}")]
    Certificate(String),
    /// The built-in targets found no port or no thread.
    #[error("the built-in targets cannot listen: {0}")]
    Targets(#[from] io::Error),
}

/// A demo that is ready to run: its configuration, and the targets that it sends to.
#[derive(Debug)]
pub struct Demo {
    /// What `app::start` runs.
    pub config: Config,
    /// Live as long as this value does.
    _targets: Targets,
}

/// Starts the built-in targets and makes the configuration that sends to them.
///
/// # Errors
/// When no certificate can be made, or the targets find no port.
pub fn prepare() -> Result<Demo, Error> {
    let (mut config, _warnings) =
        config::parse(TABLE, Path::new("config/datarobot.yaml")).map_err(Error::Table)?;
    let (chain, key) = tls::certificate::self_signed(&["localhost", "127.0.0.1", "::1"])
        .map_err(|error| Error::Certificate(error.to_string()))?;
    let certificate = Certificate {
        certificate: inline(chain),
        key: inline(key),
    };
    // It leaves nothing behind, so sessions end with it.
    config.load_balancer.cookie_keys = None;
    for listener in &mut config.listeners {
        listener.address = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        listener.certificates = vec![certificate.clone()];
        if listener.port == 443 {
            listener.port = HTTPS_PORT;
        }
    }
    let mut sockets = Sockets::default();
    for group in &mut config.target_groups {
        group.port = sockets.stand_in(group.port)?;
        if let HealthCheckPort::Port(port) = group.health_check.port {
            group.health_check.port = HealthCheckPort::Port(sockets.stand_in(port)?);
        }
        let node = |address: &Ipv4Addr| Target {
            id: TargetId::Address(IpAddr::V4(*address)),
            port: None,
        };
        group.targets = NODES.iter().map(node).collect();
    }
    Ok(Demo {
        config,
        _targets: Targets::start(sockets)?,
    })
}

fn inline(pem: String) -> Pem {
    Pem::Inline(Secret::new(pem.into_bytes()))
}

/// Ports of the table and the free ones that stand in for them, each bound on every node.
#[derive(Debug, Default)]
struct Sockets {
    stand_ins: HashMap<u16, u16>,
    bound: Vec<(Ipv4Addr, u16, TcpListener)>,
}

impl Sockets {
    fn stand_in(&mut self, port: u16) -> io::Result<u16> {
        if let Some(found) = self.stand_ins.get(&port) {
            return Ok(*found);
        }
        let sockets = bind_everywhere()?;
        let found = sockets[0].local_addr()?.port();
        self.bound.extend(
            NODES
                .into_iter()
                .zip(sockets)
                .map(|(node, socket)| (node, port, socket)),
        );
        self.stand_ins.insert(port, found);
        Ok(found)
    }
}

/// One socket for each node, all with the same port.
fn bind_everywhere() -> io::Result<Vec<TcpListener>> {
    let mut outcome = Err(io::ErrorKind::AddrInUse.into());
    for _ in 0..PORT_ATTEMPTS {
        let first = TcpListener::bind((NODES[0], 0))?;
        let port = first.local_addr()?.port();
        let others = NODES[1..]
            .iter()
            .map(|node| TcpListener::bind((*node, port)));
        outcome = std::iter::once(Ok(first)).chain(others).collect();
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// The thread on which the built-in targets answer; it ends when this value is dropped.
#[derive(Debug)]
struct Targets {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Targets {
    fn start(sockets: Sockets) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        for (_, _, socket) in &sockets.bound {
            socket.set_nonblocking(true)?;
        }
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("demo-targets".into())
            .spawn(move || {
                runtime.block_on(async {
                    let tracker = TaskTracker::new();
                    for (node, port, socket) in sockets.bound {
                        tracker.spawn(accept(node, port, socket, tracker.clone(), stopped.clone()));
                    }
                    stopped.cancelled().await;
                });
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A target that panicked has printed why.
            drop(thread.join());
        }
    }
}

async fn accept(
    node: Ipv4Addr,
    port: u16,
    socket: TcpListener,
    tracker: TaskTracker,
    stop: CancellationToken,
) {
    let Ok(socket) = tokio::net::TcpListener::from_std(socket) else {
        return;
    };
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        let Ok((connection, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let answer =
            service_fn(
                move |request| async move { Ok::<_, Infallible>(answer(node, port, &request)) },
            );
        let connection = http1::Builder::new().serve_connection(TokioIo::new(connection), answer);
        tracker.spawn(async move {
            // A client that leaves is nothing to report.
            drop(connection.await);
        });
    }
}

/// Says which service of which node answers, and what reached it.
fn answer(node: Ipv4Addr, port: u16, request: &Request<Incoming>) -> Response<Whole> {
    let path = request.uri().path();
    let service = match port {
        8011 => "mmqueue",
        8100 => "dss-api",
        9494 => "pngexport",
        _ if path.starts_with("/api/v2/") => "publicapi",
        _ if path.starts_with("/api/v0/") => "internalapi",
        _ if path.starts_with("/upload/") => "appupload",
        _ if path.starts_with("/socket.io-queue/") => "mmqueue",
        _ => "app",
    };
    let mut text = format!(
        "{service} on node {node}\n\n{} {}\n",
        request.method(),
        request.uri()
    );
    for (name, value) in request.headers() {
        text.push_str(&format!(
            "{name}: {}\n",
            String::from_utf8_lossy(value.as_bytes())
        ));
    }
    let mut response = Response::new(Whole::new(text));
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
