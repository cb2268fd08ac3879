//! The steps of a request's way one by one, so that each can be counted alone.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;

use super::read;
use crate::headers::{Headers, Name};
use crate::http1::{
    FramingHeader, Persistence, encode_request, encode_response, parse_request, parse_response,
};
use crate::message::headers::{self, Forwarding};
use crate::message::{self, Body, Client};
use crate::rule::Rules;
use crate::target::stickiness::{KeyRing, Keys, Mark, Opened, Pair, Stays};
use crate::target::{Group, Registry};
use crate::telemetry::Metrics;
use crate::worker;

/// 2026-01-02T03:04:05Z
const NOW: u32 = 1_767_323_045;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The first listener and the first target group of a configuration, without sockets. No target is ever checked, so all
/// of them are eligible.
#[derive(Debug)]
pub struct Hallway {
    rules: Rules<()>,
    forwarding: Forwarding,
    group: Arc<Group>,
    client: Client,
    // What keeps the targets; the runtime holds their checks and never runs them.
    _registry: Registry,
    _runtime: Runtime,
}

/// What seals and opens cookies, and one place to remember.
#[derive(Debug)]
pub struct Cookies {
    keys: Keys,
    stays: Stays,
    /// What a browser sends back of them.
    returned: Headers,
}

/// A request as rules see it.
#[derive(Debug)]
pub struct Arrived(message::Request);

impl Hallway {
    /// Builds this configuration; panics where it is refused.
    pub fn build(text: &str) -> Self {
        let (config, _warnings) = read(text);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let metrics = Metrics::new(&config.load_balancer.name, 1);
        let mut registry = Registry::new(1, TaskTracker::new(), Vec::new());
        let plan = registry.plan(&config, &metrics);
        let plan = plan.expect("groups that run");
        let inside = runtime.enter();
        registry.commit(plan);
        drop(inside);
        let group = registry.groups(&config).swap_remove(0);
        let address = "127.0.0.1:8080".parse().expect("an address");
        Self {
            rules: Rules::build(&config.listeners[0], |_| ()),
            forwarding: Forwarding::build(&config.load_balancer, 8080),
            group,
            client: Client {
                peer: address,
                local: address,
                tls: None,
            },
            _registry: registry,
            _runtime: runtime,
        }
    }

    /// The priority of the rule for this request; 0 is the default.
    pub fn find_rule(&self, request: &Arrived) -> u16 {
        self.rules.find(&request.0, &self.client).priority
    }

    /// Chooses a target and gives it back.
    pub fn pick(&self) -> bool {
        self.group.pick(0, &[]).is_some()
    }

    /// A request's head from its bytes to those for a target, as a worker does it.
    pub fn pass_request(&self, bytes: &[u8]) -> usize {
        let Arrived(mut request) = arrive(bytes);
        headers::toward_target(&mut request, &self.client, &self.forwarding, NOW, [1, 2])
            .expect("headers that may pass");
        worker::with_outgoing(|out| {
            let (method, headers) = (&request.method, &request.headers);
            encode_request(out, method, request.target(), headers, FramingHeader::None);
            out.len()
        })
    }
}

impl Cookies {
    /// Under new keys.
    pub fn generate() -> Self {
        let keys = KeyRing::generate(Timestamp::UNIX_EPOCH)
            .and_then(|ring| ring.keys(Timestamp::UNIX_EPOCH));
        let mut stays = Stays::default();
        let group = "web".parse().expect("a name");
        stays.renew(Mark::of_group(&group), DAY, NOW, |_| true);
        let mut cookies = Self {
            keys: keys.expect("random numbers"),
            stays,
            returned: Headers::default(),
        };
        let sealed = cookies.seal();
        let pairs = sealed.each_ref().map(|cookie| cookie.split(';').next());
        let pairs = pairs.map(|pair| pair.expect("a first part")).join("; ");
        cookies.returned.append(Name::Cookie, pairs.as_bytes());
        cookies
    }

    /// Seals those of an answer.
    pub fn seal(&self) -> [String; 2] {
        let sealed = Pair::Target.seal(&self.keys, &self.stays, NOW);
        sealed.expect("random numbers")
    }

    /// Opens those of a request. Whether they lead somewhere.
    pub fn open(&self) -> bool {
        let opened = Pair::Target.open(&self.keys, &self.returned, NOW);
        matches!(opened, Opened::Stays(_))
    }
}

/// Reads a request without a body; panics where it is refused.
pub fn arrive(bytes: &[u8]) -> Arrived {
    let (head, _length) = parse_request(bytes).ok().flatten().expect("a whole head");
    Arrived(message::Request {
        method: head.method,
        target: head.target,
        authority: head.authority,
        version: head.version,
        headers: head.headers,
        body: Body::Empty,
        upgrade: head.upgrade,
        connections: head.persistence,
    })
}

/// A response's head from its bytes to those for a client, as a worker does it.
pub fn pass_response(bytes: &[u8]) -> usize {
    let parsed = parse_response(bytes, &Method::GET).ok().flatten();
    let (mut head, _length) = parsed.expect("a whole head");
    headers::toward_client(&mut head.headers, &worker::date());
    worker::with_outgoing(|out| {
        let (status, headers) = (head.status, &head.headers);
        let (reason, framing) = (message::reason_phrase(status), FramingHeader::Length(0));
        encode_response(
            out,
            status,
            reason,
            headers,
            framing,
            Persistence::KeepAlive,
        );
        out.len()
    })
}
