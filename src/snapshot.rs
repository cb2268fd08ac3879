//! The furniture: one generation of configuration, compiled to what a request needs. Immutable; a new one replaces it
//! whole. Never knows sockets.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use crate::action::Actions;
use crate::message::headers::Forwarding;
use crate::message::{Action, Exchange};
use crate::model::{DesyncMitigationMode, Limits};
use crate::rule::Rules;
use crate::target::stickiness::Keys;
use crate::telemetry::{AccessLog, ListenerMetrics};

/// Tells listeners apart across generations; a listener keeps its number for as long as its sockets are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ListenerId(pub(crate) u32);

/// One generation.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Longest silence on any connection; how long idle ones to targets are kept.
    pub(crate) idle_timeout: Duration,
    listeners: Box<[(ListenerId, Arc<Listener>)]>,
}

impl Snapshot {
    pub(crate) fn new(idle_timeout: Duration, listeners: Vec<(ListenerId, Arc<Listener>)>) -> Self {
        Self {
            idle_timeout,
            listeners: listeners.into(),
        }
    }

    /// Every listener.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = &Arc<Listener>> {
        self.listeners.iter().map(|(_, listener)| listener)
    }

    /// The listener of this number; few enough to look through.
    pub(crate) fn listener(&self, id: ListenerId) -> Option<&Arc<Listener>> {
        self.listeners
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, listener)| listener)
    }
}

/// Everything a request needs of the listener it came through.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) rules: Rules<Actions>,
    pub(crate) forwarding: Forwarding,
    pub(crate) desync_mitigation_mode: DesyncMitigationMode,
    /// Whose PROXY headers are believed; `None` where there are none.
    pub(crate) trusted_proxies: Option<Box<[IpNet]>>,
    /// `None` on HTTP listeners.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// Seal and open stickiness cookies. They are replaced without a new generation.
    pub(crate) cookie_keys: Arc<ArcSwap<Keys>>,
    pub(crate) limits: Limits,
    pub(crate) idle_timeout: Duration,
    pub(crate) client_keep_alive: Duration,
    pub(crate) ledger: Arc<Ledger>,
}

/// Where exchanges are counted and recorded. A tunnel keeps this alone, and not the generation that it began in.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) metrics: ListenerMetrics,
    pub(crate) access_log: Option<AccessLog>,
}

impl Ledger {
    /// Counts and records an exchange that has come to its end.
    pub(crate) fn finish(&self, exchange: &mut Exchange) {
        exchange.finished = Some(exchange.moment());
        self.count(exchange);
        if let Some(log) = &self.access_log {
            log.record(exchange);
        }
    }

    fn count(&self, exchange: &Exchange) {
        self.metrics.requests.increment(1);
        self.metrics
            .received_bytes
            .increment(exchange.received_bytes);
        self.metrics.sent_bytes.increment(exchange.sent_bytes);
        self.metrics.count_class(exchange.desync.class());
        self.metrics.count_invalid_names(exchange.invalid_names);
        if let Some(limit) = exchange.limit {
            self.metrics.count_limit(limit);
        }
        if let (Some(status), None) = (exchange.elb_status, exchange.target_status) {
            self.metrics.count_elb_response(status);
        }
        match exchange.action {
            Action::FixedResponse => self.metrics.fixed_responses.increment(1),
            Action::Redirect => self.metrics.redirects.increment(1),
            Action::Forward | Action::None => {}
        }
    }
}
