//! Targets by name.

use std::time::{Duration, Instant};

use crate::scene::{
    Conversation, Target, all_healthy, config, group, http, start, target_status, until,
};

#[tokio::test]
async fn a_target_by_name_serves_and_is_healthy() {
    let target = Target::named("web").await;
    let mut web = group("web", &[]);
    let name = format!("localhost:{}", target.address.port());
    web.targets = vec![name.parse().unwrap()];
    let running = start(config([http("web")], [web])).await;
    all_healthy(&running).await;

    let mut client = Conversation::to(running.listeners()[0]).await;
    assert_eq!(client.get("/").await, "web");

    assert_eq!(target_status(&running, "web", 0).id, "localhost");
    // Probes name the address even where the target has a name.
    let probe = target.seen.probes.lock().unwrap()[0].clone();
    assert!(
        probe.contains(&format!("Host: {}\r\n", target.address)),
        "{probe}"
    );
}

#[tokio::test]
async fn a_name_that_nobody_knows_stops_neither_the_start_nor_the_others() {
    let target = Target::named("web").await;
    let nowhere = "does-not-exist.invalid:80".parse().unwrap();
    let mut web = group("web", &[target.address]);
    web.targets.insert(0, nowhere);
    let mut alone = group("alone", &[]);
    alone.targets = vec!["does-not-exist.invalid:80".parse().unwrap()];
    let began = Instant::now();
    let running = start(config([http("web"), http("alone")], [web, alone])).await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );

    let mut client = Conversation::to(running.listeners()[0]).await;
    for _ in 0..4 {
        assert_eq!(client.get("/").await, "web");
    }
    let mut client = Conversation::to(running.listeners()[1]).await;
    let (head, _) = client
        .ask("GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
        .await;
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    until("the name is unhealthy", || {
        let status = target_status(&running, "alone", 0);
        status.reason.as_deref() == Some("Target.FailedHealthChecks")
    })
    .await;
    let began = Instant::now();
    running.shutdown().await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}
