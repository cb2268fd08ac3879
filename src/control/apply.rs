//! prepare → commit → retire. A configuration is applied whole or not at all.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use jiff::Timestamp;

use super::{Controller, Running, access_logs, cookie_keys, ticket_keys};
use crate::action::Actions;
use crate::config::{Problem, Severity};
use crate::listener::{BindError, Prepared};
use crate::message::headers::Forwarding;
use crate::model::{self, Config, Generation, Protocol};
use crate::rule::Rules;
use crate::snapshot::{Ledger, Listener, Snapshot};
use crate::target::{Plan, Unusable};
use crate::telemetry::AccessLog;
use crate::tls;
use crate::tls::server::{Http2Offer, Origin, Settings};

/// Why a configuration was not applied; nothing changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Rejected {
    #[error("listeners[{index}]: {error}")]
    Certificate { index: usize, error: tls::Error },
    #[error(transparent)]
    TargetGroup(#[from] Unusable),
    #[error("load_balancer.access_log: {0}")]
    AccessLog(io::Error),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("no worker can be started: {0}")]
    Workers(io::Error),
    #[error("load_balancer.cookie_keys: {0}")]
    CookieKeys(#[from] cookie_keys::Error),
}

impl Rejected {
    /// The same as a problem of the configuration, its place unknown.
    pub(super) fn problem(&self) -> Problem {
        let text = self.to_string();
        let (path, message, remedy) = match self {
            Self::Certificate { index, error } => {
                let (message, remedy) = halves(error);
                (format!("listeners[{index}].certificates"), message, remedy)
            }
            Self::TargetGroup(unusable) => {
                let (message, remedy) = halves(&unusable.problem);
                (unusable.path.clone(), message, remedy)
            }
            Self::AccessLog(error) => {
                let remedy = "check the path and who may write there";
                let path = "load_balancer.access_log.path";
                (path.to_owned(), error.to_string(), remedy.to_owned())
            }
            Self::Bind(BindError { index, .. }) => {
                let remedy = "free it, or choose another";
                (format!("listeners[{index}].port"), text, remedy.to_owned())
            }
            Self::CookieKeys(error) => {
                let (message, remedy) = halves(error);
                ("load_balancer.cookie_keys".to_owned(), message, remedy)
            }
            Self::Workers(_) => {
                let path = "configuration".to_owned();
                (path, text, "start albedo again".to_owned())
            }
        };
        Problem {
            severity: Severity::Error,
            place: None,
            path,
            message,
            remedy,
        }
    }
}

/// An error whose text says what is wrong, and behind a semicolon how to mend it.
pub(super) fn halves(error: &impl ToString) -> (String, String) {
    let text = error.to_string();
    match text.rsplit_once("; ") {
        Some((message, remedy)) => (message.to_owned(), remedy.to_owned()),
        None => (text, "mend that, or name something else".to_owned()),
    }
}

/// A configuration that can be applied. Dropping it changes nothing.
#[derive(Debug)]
pub(crate) struct Ready<'c> {
    config: &'c Config,
    plan: Plan,
    listeners: Vec<Prepared>,
    tls: Vec<Option<Settings>>,
    access_log: access_logs::Prepared,
    cookie_keys: cookie_keys::Prepared,
    snapshot: Snapshot,
}

impl Controller {
    /// Runs `config` instead of what runs now.
    ///
    /// # Errors
    /// When something it names cannot be used; then nothing has changed.
    pub(super) fn apply(&mut self, config: &Config) -> Result<Generation, Rejected> {
        let ready = self.prepare(config)?;
        Ok(self.commit(ready))
    }

    /// Everything that can fail, touching nothing that is live.
    pub(crate) fn prepare<'c>(&mut self, config: &'c Config) -> Result<Ready<'c>, Rejected> {
        // What is over has its end before its place is taken.
        self.end_drains(Instant::now());
        let plan = self.registry.plan(config, &self.metrics)?;
        let tls = self.tls_settings(config)?;
        let listeners = self.listeners.prepare(&config.listeners)?;
        // Last what may leave a new file behind, and that of keys only where the log can be had.
        self.cookie_keys.check(config)?;
        let access_log = self.access_logs.prepare(&config.load_balancer);
        let access_log = access_log.map_err(Rejected::AccessLog)?;
        let cookie_keys = self.cookie_keys.prepare(config, Timestamp::now())?;
        let snapshot = self.snapshot(config, &plan, &tls, &listeners, access_log.log());
        Ok(Ready {
            config,
            plan,
            listeners,
            tls,
            access_log,
            cookie_keys,
            snapshot,
        })
    }

    /// Runs what was prepared; this cannot fail.
    pub(crate) fn commit(&mut self, ready: Ready<'_>) -> Generation {
        let config = ready.config;
        // Members first, rules second: an old rule finds a group's new members harmless, a new rule would not find an
        // empty group so.
        let moved = self.registry.commit(ready.plan);
        self.cookie_keys.commit(ready.cookie_keys);
        let replaced = self.current.swap(Arc::new(ready.snapshot));
        self.retired.push(replaced);
        let open = ready.listeners.iter().map(Prepared::open);
        let listeners = config.listeners.iter().zip(open.clone());
        let listeners = listeners
            .map(|(listener, open)| (open.clone(), listener.protocol))
            .collect();
        let tls = open.zip(ready.tls);
        self.tls = tls
            .filter_map(|(open, tls)| Some((open.id, tls?)))
            .collect();
        self.tickets.clear();
        // Retire: closed listeners and dropped groups end on their own.
        self.listeners.commit(ready.listeners);
        let left = moved.left.iter().map(|leaving| &leaving.target);
        self.wake_busy(left.chain(&moved.back));
        self.access_logs.commit(ready.access_log);
        self.shutdown = config.shutdown;
        self.generation = self.generation.next();
        self.process.generation.set(self.generation.0 as f64);
        self.running.send_replace(Arc::new(Running {
            generation: self.generation,
            listeners,
            groups: self.registry.groups(config),
        }));
        self.generation
    }

    /// Ends when every worker has seen what was committed last.
    pub(crate) fn taken_up(&self) -> impl Future<Output = ()> + Send + 'static {
        self.listeners.refresh()
    }

    /// The TLS settings of each listener, `None` for HTTP. A listener that runs keeps what it has where nothing of it
    /// has changed.
    fn tls_settings(&self, config: &Config) -> Result<Vec<Option<Settings>>, Rejected> {
        let offer = match config.load_balancer.http2 {
            true => Http2Offer::Yes,
            false => Http2Offer::No,
        };
        let known = self.listeners.known(&config.listeners);
        let mut inherited = self.tickets.iter().collect();
        let now = Timestamp::now();
        let mut settings = Vec::with_capacity(known.len());
        for (index, (listener, id)) in config.listeners.iter().zip(known).enumerate() {
            let before = id.and_then(|id| self.tls.get(&id));
            let (certificates, policy) = (&listener.certificates, listener.ssl_policy);
            settings.push(match listener.protocol {
                Protocol::Http => None,
                Protocol::Https => {
                    let keys = ticket_keys::take(&mut inherited, listener);
                    let origin = match before {
                        Some(before) => Origin::Running(before),
                        None if keys.is_empty() => Origin::New,
                        None => Origin::Inherited(&keys),
                    };
                    let made = tls::server::settings(certificates, policy, offer, origin, now);
                    Some(made.map_err(|error| Rejected::Certificate { index, error })?)
                }
            });
        }
        Ok(settings)
    }

    fn snapshot(
        &self,
        config: &Config,
        plan: &Plan,
        tls: &[Option<Settings>],
        prepared: &[Prepared],
        access_log: Option<&AccessLog>,
    ) -> Snapshot {
        let listeners =
            config
                .listeners
                .iter()
                .zip(tls)
                .zip(prepared)
                .map(|((listener, tls), prepared)| {
                    let port = prepared.open().address.port();
                    let group = |name: &_| {
                        plan.group(name)
                            .expect("a checked configuration names only groups it has")
                    };
                    let running = Listener {
                        rules: Rules::build(listener, |actions| Actions::build(actions, group)),
                        forwarding: Forwarding::build(&config.load_balancer, port),
                        desync_mitigation_mode: config.load_balancer.desync_mitigation_mode,
                        trusted_proxies: trusted_proxies(listener),
                        tls: tls.as_ref().map(|tls| Arc::clone(&tls.config)),
                        cookie_keys: self.cookie_keys.in_use(),
                        limits: config.limits,
                        idle_timeout: config.load_balancer.idle_timeout,
                        client_keep_alive: config.load_balancer.client_keep_alive,
                        ledger: Arc::new(Ledger {
                            metrics: self.metrics.listener(port, listener.protocol),
                            access_log: access_log.cloned(),
                        }),
                    };
                    (prepared.open().id, Arc::new(running))
                });
        Snapshot::new(config.load_balancer.idle_timeout, listeners.collect())
    }
}

fn trusted_proxies(listener: &model::Listener) -> Option<Box<[IpNet]>> {
    let proxy_protocol = listener.proxy_protocol.as_ref()?;
    Some(proxy_protocol.trusted.as_slice().into())
}
