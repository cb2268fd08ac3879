//! Generations that run no more. They are kept until nobody looks at them, so that they end here and not on the worker
//! that happens to be the last to let go: a thousand rules are ten thousand pieces of memory, and requests would wait
//! while it gave them back.

use std::sync::Arc;

use crate::snapshot::{Listener, Snapshot};

/// What workers and requests may still look at.
#[derive(Debug, Default)]
pub(super) struct Retired {
    /// Held by workers until they look at the newest one.
    snapshots: Vec<Arc<Snapshot>>,
    /// Held by requests to their end. A long one keeps its own listener, and nothing else of its generation.
    listeners: Vec<Arc<Listener>>,
}

impl Retired {
    /// Takes what has just been replaced.
    pub(super) fn push(&mut self, snapshot: Arc<Snapshot>) {
        self.listeners.extend(snapshot.listeners().cloned());
        self.snapshots.push(snapshot);
    }

    /// Ends what nobody else holds. Nobody can come to hold it again: only from the current one can more be had.
    pub(super) fn sweep(&mut self) {
        self.snapshots
            .retain(|snapshot| Arc::strong_count(snapshot) > 1);
        self.listeners
            .retain(|listener| Arc::strong_count(listener) > 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arc_swap::ArcSwap;
    use jiff::Timestamp;

    use super::*;
    use crate::action::Actions;
    use crate::config;
    use crate::message::headers::Forwarding;
    use crate::rule::Rules;
    use crate::snapshot::{Ledger, ListenerId};
    use crate::target::stickiness::KeyRing;
    use crate::telemetry::Metrics;

    fn listener() -> Arc<Listener> {
        let text = "listeners: [ { port: 80, protocol: HTTP, default_actions: [ { fixed_response: { status_code: 200 } } ] } ]";
        let (config, _) = config::parse(text, "albedo.yaml".as_ref()).unwrap();
        let (settings, now) = (&config.listeners[0], Timestamp::UNIX_EPOCH);
        let keys = KeyRing::generate(now).unwrap().keys(now).unwrap();
        let name = &config.load_balancer.name;
        Arc::new(Listener {
            rules: Rules::build(settings, |actions| {
                Actions::build(actions, |_| unreachable!())
            }),
            forwarding: Forwarding::build(&config.load_balancer, 80),
            desync_mitigation_mode: config.load_balancer.desync_mitigation_mode,
            trusted_proxies: None,
            tls: None,
            cookie_keys: Arc::new(ArcSwap::from_pointee(keys)),
            limits: config.limits,
            idle_timeout: config.load_balancer.idle_timeout,
            client_keep_alive: config.load_balancer.client_keep_alive,
            ledger: Arc::new(Ledger {
                metrics: Metrics::new(name, 1).listener(80, settings.protocol),
                access_log: None,
            }),
        })
    }

    fn generation() -> (Arc<Snapshot>, [Arc<Listener>; 2]) {
        let listeners = [listener(), listener()];
        let known = listeners.iter().cloned();
        let known = (1..).map(ListenerId).zip(known).collect();
        let snapshot = Snapshot::new(Duration::from_secs(60), known);
        (Arc::new(snapshot), listeners)
    }

    #[test]
    fn nobody_else_ends_a_generation() {
        let mut retired = Retired::default();
        let (snapshot, [first, second]) = generation();
        let weak = [&first, &second].map(Arc::downgrade);
        let alive = || weak.each_ref().map(|listener| listener.strong_count() > 0);
        retired.push(Arc::clone(&snapshot));
        drop(second);

        retired.sweep();
        assert_eq!(alive(), [true, true], "a worker holds all of it");
        drop(snapshot);
        assert_eq!(alive(), [true, true], "the worker was the last");
        retired.sweep();
        assert_eq!(alive(), [true, false], "a request holds one listener");
        drop(first);
        assert_eq!(alive(), [true, false], "the request was the last");
        retired.sweep();
        assert_eq!(alive(), [false, false]);
    }
}
