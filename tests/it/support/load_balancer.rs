//! A load balancer in this process, made from a configuration's text.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use albedo::app::{self, Running, Status};
use albedo::config;
use albedo::model::{AdminAddress, Config};
use tokio::net::TcpListener;

use super::{Client, within};

/// One that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct LoadBalancer {
    running: Running,
    config: Config,
    /// Where health checks go: taken, but never answered, so that targets stay as they are at a start, all eligible,
    /// and see requests of tests alone.
    _checks: TcpListener,
}

impl LoadBalancer {
    /// One that forwards everything to these targets.
    pub(crate) async fn before(targets: &[SocketAddr]) -> Self {
        Self::adjusted(targets, |_| {}).await
    }

    /// As `before`, with a configuration that is changed before it runs; so a test may go below the limits that a file
    /// must keep.
    pub(crate) async fn adjusted(targets: &[SocketAddr], change: impl FnOnce(&mut Config)) -> Self {
        Self::with_rules(targets, "", change).await
    }

    /// As `adjusted`, with rules in front of the default action, written as in a file.
    pub(crate) async fn with_rules(
        targets: &[SocketAddr],
        rules: &str,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let checks = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = checks.local_addr().unwrap().port();
        let targets: Vec<String> = targets.iter().map(|target| format!("{target:?}")).collect();
        let text = format!(
            "admin: 127.0.0.1:0\n\
             workers: 1\n\
             listeners:\n  \
             - port: 0\n    \
               address: 127.0.0.1\n    \
               protocol: HTTP\n    \
               rules: [{rules}]\n    \
               default_actions: [ {{ forward: web }} ]\n\
             target_groups:\n  \
             - name: web\n    \
               protocol: HTTP\n    \
               port: 1\n    \
               health_check: {{ port: {port}, interval: 300s, timeout: 120s }}\n    \
               targets: [{}]\n",
            targets.join(", ")
        );
        let (mut config, _warnings) = config::parse(&text, Path::new("test.yaml"))
            .unwrap_or_else(|problems| panic!("{problems}"));
        // There is no file beside which keys could lie.
        config.load_balancer.cookie_keys = None;
        change(&mut config);
        let running = within("the start", app::start(config.clone()))
            .await
            .unwrap();
        Self {
            running,
            config,
            _checks: checks,
        }
    }

    /// Runs a changed configuration from now on.
    pub(crate) async fn apply(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        let applying = self.running.apply(self.config.clone());
        within("the change", applying).await.unwrap();
    }

    /// Stops as on SIGTERM.
    pub(crate) async fn shutdown(self) {
        within("the end", self.running.shutdown()).await;
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.running.listeners()[0]).await
    }

    pub(crate) fn port(&self) -> u16 {
        self.running.listeners()[0].port()
    }

    /// The value of a metric's series that has this label, as the admin address tells it.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> String {
        let AdminAddress::Tcp(address) = self.running.admin() else {
            panic!("not on TCP")
        };
        let mut door = Client::connect(*address).await;
        door.send(format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n"))
            .await;
        let response = door.response().await;
        let series = |line: &&str| line.starts_with(name) && line.contains(label);
        let line = response.text().lines().find(series);
        let line = line.unwrap_or_else(|| panic!("no {name} with {label}"));
        line.rsplit_once(' ').unwrap().1.to_owned()
    }

    pub(crate) fn status(&self) -> Status {
        self.running.status()
    }
}

/// Waits until `look` finds something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    within(what, async {
        let mut rounds = tokio::time::interval(Duration::from_millis(5));
        loop {
            rounds.tick().await;
            if let Some(found) = look() {
                return found;
            }
        }
    })
    .await
}
