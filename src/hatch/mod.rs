//! A hatch into private rooms for fuzz targets, benches and the test against another parser. Promises nothing to
//! anyone else.

mod hallway;
mod http2;

pub use hallway::{Arrived, Cookies, Hallway, arrive, pass_response};
pub use http2::Http2Server;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use jiff::Timestamp;
use smallvec::SmallVec;
use tokio::runtime::Runtime;

use crate::config;
use crate::control::Controller;
use crate::handover::Inheritance;
use crate::headers::{Headers, Name, Names};
use crate::http1::desync;
use crate::http1::{
    self, Completeness, Malformed, Persistence, parse_request, parse_response, read_body,
};
use crate::message::cookie;
use crate::model::ProxyProtocolVersion;
use crate::proxy_protocol::{self, Carried};
use crate::rule::{Backslash, Case, Pattern};
use crate::target::stickiness::{self, KeyRing, Opened, Pair, Stays};

/// A request as it was read, body and all.
#[derive(Debug)]
pub struct Request {
    /// GET and so on.
    pub method: Method,
    /// Path and query, as a target would see them.
    pub target: Vec<u8>,
    /// Every header, framing headers too.
    pub headers: HeaderMap,
    /// Without chunks.
    pub body: Vec<u8>,
}

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The bytes ended where a request ended.
    Clean,
    /// The bytes ended in the middle of a request.
    Incomplete,
    /// A request said that it is the last.
    Closed,
    /// What comes next is no request.
    Refused,
}

/// Reads requests from the start of `bytes` for as long as a connection would.
pub fn read_requests(mut bytes: &[u8]) -> (Vec<Request>, End) {
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        match read_request(bytes) {
            Err(_) => return (requests, End::Refused),
            Ok(None) => return (requests, End::Incomplete),
            Ok(Some((request, length, persistence))) => {
                bytes = &bytes[length..];
                // What follows CONNECT is not HTTP.
                let is_last =
                    persistence == Persistence::Close || request.method == Method::CONNECT;
                requests.push(request);
                if is_last {
                    return (requests, End::Closed);
                }
            }
        }
    }
    (requests, End::Clean)
}

fn read_request(bytes: &[u8]) -> Result<Option<(Request, usize, Persistence)>, Malformed> {
    let Some((head, length)) = parse_request(bytes)? else {
        return Ok(None);
    };
    let (body, used, completeness) = read_body(head.framing, &bytes[length..], usize::MAX)?;
    if completeness == Completeness::Part {
        return Ok(None);
    }
    let request = Request {
        method: head.method,
        target: head.headers.text(head.target).to_vec(),
        headers: head.headers.to_map(Names::NONE),
        body,
    };
    Ok(Some((request, length + used, head.persistence)))
}

/// Reads one response to `method` and its body; gives how many bytes they take. `None` where it is refused or
/// incomplete.
pub fn read_response(bytes: &[u8], method: &Method) -> Option<(Vec<u8>, usize)> {
    read_response_by(bytes, method, usize::MAX)
}

/// The same with a body of which at most `piece_max` bytes, 1 at least, come at once.
pub fn read_response_by(
    bytes: &[u8],
    method: &Method,
    piece_max: usize,
) -> Option<(Vec<u8>, usize)> {
    let (head, length) = parse_response(bytes, method).ok()??;
    let (body, used, completeness) = read_body(head.framing, &bytes[length..], piece_max).ok()?;
    (completeness == Completeness::Whole).then_some((body, length + used))
}

/// Reads a chunked body; gives it and how many bytes it takes. `None` where it is refused or incomplete.
pub fn read_chunked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (body, used, completeness) = read_body(http1::Framing::Chunked, bytes, usize::MAX).ok()?;
    (completeness == Completeness::Whole).then_some((body, used))
}

/// What our desync mitigation says of a request that the reader takes, class and reason, and the bytes of its head. Of
/// other bytes it says something, too.
pub fn judge_request(bytes: &[u8]) -> Option<(&[u8], &'static str, &'static str)> {
    let Ok(Some((head, length))) = parse_request(bytes) else {
        let _ = desync::of_bytes(bytes);
        return None;
    };
    let read = &bytes[..length];
    let reason = head.verdict.reason();
    Some((
        // The reader forgives an empty line before a head.
        read.strip_prefix(b"\r\n").unwrap_or(read),
        head.verdict.class().as_str(),
        reason.map_or("Compliant", desync::Reason::as_str),
    ))
}

/// A client, and where it connected to.
pub type Named = Option<(SocketAddr, SocketAddr)>;

/// Reads a PROXY header: whom it names, and how many bytes it takes; `None` while it is not whole.
#[expect(clippy::result_unit_err, reason = "there is one way to be wrong")]
pub fn read_proxy_header(bytes: &[u8]) -> Result<Option<(Named, usize)>, ()> {
    let read = proxy_protocol::read(bytes).map_err(drop)?;
    Ok(read.map(|(carried, length)| match carried {
        Carried::Own => (None, length),
        Carried::For {
            source,
            destination,
        } => (Some((source, destination)), length),
    }))
}

/// Writes PROXY headers of both versions.
pub fn write_proxy_headers(named: Named) -> [Vec<u8>; 2] {
    let carried = named.map_or(Carried::Own, |(source, destination)| Carried::For {
        source,
        destination,
    });
    [ProxyProtocolVersion::V1, ProxyProtocolVersion::V2]
        .map(|version| proxy_protocol::write(version, carried))
}

/// Whether a path pattern fits.
pub fn path_pattern_matches(pattern: &str, path: &[u8]) -> bool {
    Pattern::compile(pattern, Case::Sensitive, Backslash::Literal).matches(path)
}

/// What a client's Cookie header has under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cookie {
    /// No such cookie.
    Nothing,
    /// One with this value.
    One(Vec<u8>),
    /// More than one.
    Several,
}

/// Looks for a cookie.
pub fn find_cookie(header: &[u8], name: &str) -> Cookie {
    let mut headers = Headers::default();
    headers.append(Name::Cookie, header);
    match cookie::find(&headers, name) {
        cookie::Found::Nothing => Cookie::Nothing,
        cookie::Found::One(value) => Cookie::One(value.to_vec()),
        cookie::Found::Several => Cookie::Several,
    }
}

/// Opens a client's stickiness cookies of every kind, under keys that have sealed none of them. Whether one opens.
pub fn opens_stickiness_cookie(header: &[u8]) -> bool {
    if header.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return false;
    }
    let mut headers = Headers::default();
    headers.append(Name::Cookie, header);
    let Ok(keys) =
        KeyRing::generate(Timestamp::UNIX_EPOCH).and_then(|ring| ring.keys(Timestamp::UNIX_EPOCH))
    else {
        return false;
    };
    let opened = [
        Pair::Target.open(&keys, &headers, 0),
        Pair::Group.open(&keys, &headers, 0),
        stickiness::app::open(&keys, &headers, 0),
    ];
    opened
        .iter()
        .any(|opened| matches!(opened, Opened::Stays(_)))
}

/// Reads what stands inside a sealed cookie and writes it again. `None` where it is refused.
pub fn reread_stays(content: &[u8]) -> Option<Vec<u8>> {
    let mut written = SmallVec::new();
    Stays::read(content)?.write(&mut written);
    Some(written.to_vec())
}

/// A load balancer whose configuration is changed step by step.
#[derive(Debug)]
pub struct Changing {
    runtime: Runtime,
    controller: Controller,
}

/// How long each step of a change took.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// From text to model, every check included.
    pub read: Duration,
    /// From model to what runs.
    pub prepare: Duration,
    /// The change itself.
    pub commit: Duration,
    /// Until every worker has seen it.
    pub taken_up: Duration,
}

impl Changing {
    /// Runs this configuration; panics where it is refused.
    pub fn start(text: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let controller = runtime.block_on(async {
            let (config, _warnings) = read(text);
            let started = Controller::start(&config, None, Inheritance::default());
            started.expect("a configuration that runs").0
        });
        Self {
            runtime,
            controller,
        }
    }

    /// Runs this one instead; panics where it is refused.
    pub fn change(&mut self, text: &str) -> Steps {
        let controller = &mut self.controller;
        self.runtime.block_on(async {
            let start = Instant::now();
            let (config, _warnings) = read(text);
            let read = start.elapsed();
            let ready = controller.prepare(&config);
            let ready = ready.expect("a configuration that runs");
            let prepare = start.elapsed() - read;
            controller.commit(ready);
            let commit = start.elapsed() - read - prepare;
            controller.taken_up().await;
            Steps {
                read,
                prepare,
                commit,
                taken_up: start.elapsed() - read - prepare - commit,
            }
        })
    }

    /// Ends it.
    pub fn stop(self) {
        self.runtime.block_on(self.controller.stop());
    }
}

fn read(text: &str) -> (crate::model::Config, Vec<config::Problem>) {
    config::parse(text, Path::new("bench.yaml")).expect("a configuration without errors")
}
