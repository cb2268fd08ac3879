//! A configuration that was left and came back is as if nothing had been between.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use albedo::app::{Running, Status};
use albedo::config;
use albedo::model::Config;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::scene::{Conversation, PATIENCE, Target, start, until};

/// Cases; each starts two load balancers and waits for their health checks.
const CASES: u32 = 64;

/// Paths that rules speak of, and one that none does.
const PATHS: [&str; 4] = ["/a", "/b", "/c/d", "/other"];

/// A configuration in the small, as numbers; what does not exist is taken modulo what does.
#[derive(Clone, Debug)]
struct Sketch {
    listeners: Vec<(Vec<(usize, Act)>, Act)>,
    groups: Vec<Vec<bool>>,
    sticky: bool,
    idle_seconds: u64,
    preserve_host: bool,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Answer(u16),
    Redirect,
    Forward(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => (0..3usize).prop_map(|code| Act::Answer([200, 404, 503][code])),
        1 => Just(Act::Redirect),
        4 => (0..3usize).prop_map(Act::Forward),
    ]
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let rules = prop::collection::vec((0..3usize, act()), 0..4);
    (
        prop::collection::vec((rules, act()), 1..3),
        prop::collection::vec(prop::collection::vec(any::<bool>(), 3), 1..4),
        any::<bool>(),
        60..63u64,
        any::<bool>(),
    )
        .prop_map(
            |(listeners, groups, sticky, idle_seconds, preserve_host)| Sketch {
                listeners,
                groups,
                sticky,
                idle_seconds,
                preserve_host,
            },
        )
}

impl Sketch {
    /// The same written out, with these targets.
    fn config(&self, targets: &[SocketAddr]) -> Config {
        let mut text = format!(
            "admin: 127.0.0.1:0\nworkers: 2\nload_balancer: {{ idle_timeout: {}s, preserve_host_header: {} }}\nlisteners:\n",
            self.idle_seconds, self.preserve_host
        );
        for (rules, default) in &self.listeners {
            text += "  - { port: 0, address: 127.0.0.1, protocol: HTTP, rules: [\n";
            for (priority, (path, action)) in (1..).zip(rules) {
                let (path, action) = (PATHS[*path], self.action(*action));
                text += &format!(
                    "      {{ priority: {priority}, conditions: [ {{ path_pattern: [\"{path}\"] }} ], actions: [ {action} ] }},\n"
                );
            }
            text += &format!("    ], default_actions: [ {} ] }}\n", self.action(*default));
        }
        text += "target_groups:\n";
        for (index, members) in self.groups.iter().enumerate() {
            let members = targets.iter().zip(members).filter(|(_, member)| **member);
            let members: Vec<_> = members.map(|(target, _)| format!("\"{target}\"")).collect();
            let stickiness = match self.sticky {
                true => ", stickiness: { type: lb_cookie, duration: 1h }",
                false => "",
            };
            text += &format!(
                "  - {{ name: group-{index}, protocol: HTTP, port: 80, deregistration_delay: 1h{stickiness}, targets: [{}] }}\n",
                members.join(", ")
            );
        }
        let parsed = config::parse(&text, Path::new("sketch.yaml"));
        let (mut config, _) = parsed.unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        // A file of keys would lie beside the configuration's, and there is none.
        config.load_balancer.cookie_keys = None;
        for group in &mut config.target_groups {
            group.health_check.interval = Duration::from_millis(20);
            group.health_check.timeout = Duration::from_secs(1);
        }
        config
    }

    fn action(&self, action: Act) -> String {
        match action {
            Act::Answer(code) => format!(
                "{{ fixed_response: {{ status_code: {code}, content_type: text/plain, message_body: fixed }} }}"
            ),
            Act::Redirect => "{ redirect: { path: /moved, status_code: HTTP_302 } }".to_owned(),
            Act::Forward(group) => format!("{{ forward: group-{} }}", group % self.groups.len()),
        }
    }
}

/// What is seen from outside: the status, and for every listener and path the different answers.
#[derive(Debug, PartialEq)]
struct Seen {
    status: Status,
    answers: Vec<BTreeSet<(String, String)>>,
}

/// Waits until every target has its verdict. Those of the configuration between may still drain, which is no verdict.
async fn settled(running: &Running) -> Status {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut status = running.status();
        for group in &mut status.target_groups {
            group.targets.retain(|target| target.state != "draining");
        }
        let mut targets = status.target_groups.iter().flat_map(|group| &group.targets);
        if targets.all(|target| ["healthy", "unused"].contains(&target.state.as_str())) {
            return status;
        }
        assert!(Instant::now() < deadline, "no verdict: {status:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What differs between any two runs is left out.
async fn look(running: &Running) -> Seen {
    until("the last answer is counted", || {
        let groups = running.status().target_groups;
        let mut targets = groups.iter().flat_map(|group| &group.targets);
        targets.all(|target| target.outstanding_requests == 0)
    })
    .await;
    let mut status = settled(running).await;
    status.generation = 0;
    status.last_reload = None;
    for listener in &mut status.listeners {
        listener.port = 0;
        listener.connections = 0;
    }
    let mut answers = Vec::new();
    for address in running.listeners() {
        for path in PATHS {
            let mut client = Conversation::to(address).await;
            let mut different = BTreeSet::new();
            // Twice as many as there are targets: each has its turn.
            for _ in 0..6 {
                let request = format!("GET {path} HTTP/1.1\r\nHost: web.example\r\n\r\n");
                let (head, body) = client.ask(&request).await;
                different.insert((head.lines().next().unwrap().to_owned(), body));
            }
            answers.push(different);
        }
    }
    Seen { status, answers }
}

/// Asks the first listener again and again on one connection, each answer being one, until told to stop; once for each
/// path at least, however late it gets its turn.
async fn traffic(address: SocketAddr, stop: Arc<AtomicBool>) {
    let mut client = Conversation::to(address).await;
    loop {
        for path in PATHS {
            client.get(path).await;
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

async fn there_and_back(first: &Sketch, second: &Sketch) {
    let targets = [
        Target::named("one").await,
        Target::named("two").await,
        Target::named("three").await,
    ];
    let addresses = targets.each_ref().map(|target| target.address);
    let (first, second) = (first.config(&addresses), second.config(&addresses));

    let fresh = start(first.clone()).await;
    let expected = look(&fresh).await;
    fresh.stop().await;

    let running = start(first.clone()).await;
    let door = running.listeners()[0];
    let stop = Arc::new(AtomicBool::new(false));
    let busy = tokio::spawn(traffic(door, Arc::clone(&stop)));
    running.apply(second).await.unwrap();
    running.apply(first).await.unwrap();
    settled(&running).await;
    stop.store(true, Ordering::Relaxed);
    busy.await.unwrap();
    let seen = look(&running).await;
    assert_eq!(running.listeners()[0], door);
    running.stop().await;
    assert_eq!(seen, expected);
}

#[test]
fn there_and_back_again_equals_a_fresh_start() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let config = ProptestConfig {
        cases: CASES,
        // A smaller example costs a case each time.
        max_shrink_iters: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let outcome = TestRunner::new(config).run(&(sketch(), sketch()), |(first, second)| {
        runtime.block_on(there_and_back(&first, &second));
        Ok(())
    });
    outcome.unwrap();
}
