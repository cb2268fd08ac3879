//! Health checks against targets that live, ail and die.

use std::net::SocketAddr;
use std::time::Duration;

use albedo::app::{Running, TargetStatus};
use albedo::model::{HealthCheckPort, TargetGroup};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::scene::{
    Conversation, SILENCE, Target, all_healthy, config, group, http, start, target_status, until,
};

/// Waits until the first target of `web` is in this state for this reason, and gives its description.
async fn becomes(running: &Running, state: &str, reason: Option<&str>) -> Option<String> {
    let now = || target_status(running, "web", 0);
    let fits = |now: &TargetStatus| now.state == state && now.reason.as_deref() == reason;
    until(format_args!("{state}, {reason:?}"), || fits(&now())).await;
    now().description
}

/// A listener before this group, which is called `web`.
async fn before(web: TargetGroup) -> Running {
    start(config([http("web")], [web])).await
}

#[tokio::test]
async fn a_target_goes_through_the_states_that_elbv2_tells() {
    let target = Target::named("web").await;
    let mut web = group("web", &[target.address]);
    web.health_check.unhealthy_threshold = 10;
    web.health_check.timeout = Duration::from_millis(200);
    target.set_status(503);
    let running = before(web).await;

    let description = becomes(&running, "initial", Some("Elb.InitialHealthChecking")).await;
    assert_eq!(description.unwrap(), "Initial health checks in progress");
    let description = becomes(&running, "unhealthy", Some("Target.ResponseCodeMismatch")).await;
    assert_eq!(
        description.unwrap(),
        "Health checks failed with these codes: [503]"
    );
    target.set_status(200);
    assert_eq!(becomes(&running, "healthy", None).await, None);
    target.set_status(SILENCE);
    let description = becomes(&running, "unhealthy", Some("Target.Timeout")).await;
    assert_eq!(description.unwrap(), "Request timed out");
    target.set_status(200);
    assert_eq!(becomes(&running, "healthy", None).await, None);
    drop(target);
    let description = becomes(&running, "unhealthy", Some("Target.FailedHealthChecks")).await;
    assert_eq!(description.unwrap(), "Health checks failed");
}

#[tokio::test]
async fn a_target_is_initial_until_its_first_probe_ends_and_one_pass_is_enough() {
    let target = Target::named("web").await;
    target.set_status(SILENCE);
    let mut web = group("web", &[target.address]);
    // Time enough to look between two probes.
    web.health_check.interval = Duration::from_millis(500);
    web.health_check.timeout = Duration::from_millis(900);
    web.health_check.healthy_threshold = 10;
    web.health_check.unhealthy_threshold = 10;
    let running = before(web).await;

    until("the first probe is there", || target.probes() == 1).await;
    let status = target_status(&running, "web", 0);
    assert_eq!(status.state, "initial");
    assert_eq!(status.reason.unwrap(), "Elb.InitialHealthChecking");
    assert_eq!(
        status.description.unwrap(),
        "Initial health checks in progress"
    );
    target.set_status(200);
    becomes(&running, "healthy", None).await;
    assert_eq!(target.probes(), 2, "one pass, after one silence");
}

#[tokio::test]
async fn a_probe_looks_as_alb_s() {
    let target = Target::named("web").await;
    let mut web = group("web", &[target.address]);
    web.health_check.path = "/ping?deep=1".into();
    let running = before(web).await;
    all_healthy(&running).await;

    let expected = format!(
        "GET /ping?deep=1 HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nUser-Agent: ELB-HealthChecker/2.0\r\n\
         Accept-Encoding: gzip, compressed",
        target.address
    );
    assert_eq!(target.seen.probes.lock().unwrap()[0], expected);
}

#[tokio::test]
async fn the_matcher_decides_and_redirects_are_not_followed() {
    let target = Target::named("web").await;
    target.set_status(301);
    let mut web = group("web", &[target.address]);
    web.health_check.matcher = "204,300-302".parse().unwrap();
    let running = before(web).await;

    becomes(&running, "healthy", None).await;
    target.set_status(200);
    let description = becomes(&running, "unhealthy", Some("Target.ResponseCodeMismatch")).await;
    assert!(description.unwrap().ends_with("[200]"));
    target.set_status(204);
    becomes(&running, "healthy", None).await;
}

#[tokio::test]
async fn a_port_of_its_own_is_probed_and_the_traffic_port_is_not() {
    let (target, health) = (Target::named("web").await, Target::named("health").await);
    let mut web = group("web", &[target.address]);
    web.health_check.port = HealthCheckPort::Port(health.address.port());
    let running = before(web).await;

    becomes(&running, "healthy", None).await;
    let probe = health.seen.probes.lock().unwrap()[0].clone();
    assert!(probe.contains(&format!("Host: {}\r\n", health.address)));
    health.set_status(500);
    becomes(&running, "unhealthy", Some("Target.ResponseCodeMismatch")).await;
    assert_eq!(target.probes(), 0);
    let mut client = Conversation::to(running.listeners()[0]).await;
    assert_eq!(client.get("/").await, "web");
}

#[tokio::test]
async fn what_is_no_http_is_no_pass() {
    let endless = "HTTP/1.1 200 OK\r\nX-Filler: ".to_owned() + &"a".repeat(1 << 20);
    for answer in ["SSH-2.0-OpenSSH_9.2\r\n", "", &endless] {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut web = group("web", &[socket.local_addr().unwrap()]);
        web.health_check.timeout = Duration::from_secs(5);
        let answer = answer.to_owned();
        let target = tokio::spawn(async move {
            loop {
                let (mut client, _) = socket.accept().await.unwrap();
                drop(client.write_all(answer.as_bytes()).await);
            }
        });
        let running = before(web).await;
        becomes(&running, "unhealthy", Some("Target.FailedHealthChecks")).await;
        target.abort();
    }
}

#[tokio::test]
async fn a_group_without_healthy_targets_sends_to_all() {
    let (one, other) = (Target::named("one").await, Target::named("other").await);
    one.set_status(500);
    other.set_status(500);
    let running = before(group("web", &[one.address, other.address])).await;
    for index in 0..2 {
        until("it is unhealthy", || {
            target_status(&running, "web", index).state == "unhealthy"
        })
        .await;
    }
    let mut client = Conversation::to(running.listeners()[0]).await;

    let mut answers = [client.get("/").await, client.get("/").await];

    answers.sort();
    assert_eq!(answers, ["one", "other"]);
}

#[tokio::test]
async fn a_group_that_no_rule_names_is_unused_and_never_probed() {
    let (used, unused) = (Target::named("used").await, Target::named("unused").await);
    let groups = [
        group("web", &[used.address]),
        group("spare", &[unused.address]),
    ];
    let running = start(config([http("web")], groups)).await;

    until("the other is probed often", || used.probes() > 5).await;

    assert_eq!(unused.probes(), 0);
    let status = target_status(&running, "spare", 0);
    assert_eq!(status.state, "unused");
    assert_eq!(status.reason.unwrap(), "Target.NotInUse");
    assert_eq!(
        status.description.unwrap(),
        "Target group is not configured to receive traffic from the load balancer"
    );
}

#[tokio::test]
async fn traffic_leaves_an_unhealthy_target_and_comes_back() {
    let (one, other) = (Target::named("one").await, Target::named("other").await);
    let running = before(group("web", &[one.address, other.address])).await;
    all_healthy(&running).await;
    let mut client = Conversation::to(running.listeners()[0]).await;
    let mut round = async || {
        let mut answers = Vec::new();
        for _ in 0..6 {
            answers.push(client.get("/").await);
        }
        answers.iter().filter(|answer| *answer == "one").count()
    };

    assert_eq!(round().await, 3);
    one.set_status(503);
    becomes(&running, "unhealthy", Some("Target.ResponseCodeMismatch")).await;
    assert_eq!(round().await, 0);
    one.set_status(200);
    becomes(&running, "healthy", None).await;
    assert_eq!(round().await, 3);
}

#[tokio::test]
async fn no_request_fails_when_a_target_dies_before_its_checks_notice() {
    let (one, other) = (Target::named("one").await, Target::named("other").await);
    let mut web = group("web", &[one.address, other.address]);
    web.health_check.interval = Duration::from_millis(200);
    let running = before(web).await;
    all_healthy(&running).await;
    drop(one);

    for _ in 0..20 {
        // A connection each, so that nothing of before is left to lean on.
        let mut client = Conversation::to(running.listeners()[0]).await;
        assert_eq!(client.get("/").await, "other");
    }
    becomes(&running, "unhealthy", Some("Target.FailedHealthChecks")).await;
}

#[tokio::test]
async fn turns_are_exact_over_the_healthy_targets_of_each_worker() {
    let targets = [
        Target::named("a").await,
        Target::named("b").await,
        Target::named("c").await,
        Target::named("ill").await,
    ];
    targets[3].set_status(500);
    let addresses: Vec<SocketAddr> = targets.iter().map(|target| target.address).collect();
    for workers in [1, 2] {
        let mut config = config([http("web")], [group("web", &addresses)]);
        config.workers = crate::scene::workers(workers);
        let running = start(config).await;
        for index in 0..4 {
            let verdict = if index == 3 { "unhealthy" } else { "healthy" };
            until(format_args!("{index} is {verdict}"), || {
                target_status(&running, "web", index).state == verdict
            })
            .await;
        }
        // One connection at a time: whichever worker has it takes its turns for it alone.
        for _ in 0..8 {
            let mut client = Conversation::to(running.listeners()[0]).await;
            let mut answers = Vec::new();
            for _ in 0..9 {
                answers.push(client.get("/").await);
            }
            let (first, rest) = answers.split_at(3);
            let mut everyone = first.to_vec();
            everyone.sort();
            assert_eq!(everyone, ["a", "b", "c"]);
            assert!(rest.chunks(3).all(|round| round == first), "{answers:?}");
        }
    }
}
