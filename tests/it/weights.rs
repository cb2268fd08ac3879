//! Forwards to several groups by weight.

use std::net::IpAddr;

use albedo::model::{Action, Forward, Listener, Protocol, TargetGroup, WeightedTargetGroup};

use crate::scene::{Conversation, Target, all_healthy, config, group, soon, start};

/// A listener that forwards to these groups by these weights.
fn weighted(weights: &[(&str, u16)]) -> Listener {
    let weighted = |(name, weight): &(&str, u16)| WeightedTargetGroup {
        name: name.parse().unwrap(),
        weight: *weight,
    };
    let forward = Forward {
        target_groups: weights.iter().map(weighted).collect(),
        stickiness: None,
    };
    let mut listener = Listener::new(0, Protocol::Http, Action::Forward(forward).into());
    listener.address = Some(IpAddr::from([127, 0, 0, 1]));
    listener
}

/// Two targets and the groups `blue` and `green` around them.
async fn blue_and_green() -> ([Target; 2], [TargetGroup; 2]) {
    let targets = [Target::named("blue").await, Target::named("green").await];
    let groups = [
        group("blue", &[targets[0].address]),
        group("green", &[targets[1].address]),
    ];
    (targets, groups)
}

#[tokio::test]
async fn every_group_with_a_weight_gets_requests() {
    let (_targets, groups) = blue_and_green().await;
    let running = start(config([weighted(&[("blue", 1), ("green", 999)])], groups)).await;
    all_healthy(&running).await;

    let mut client = Conversation::to(running.listeners()[0]).await;
    for wanted in ["blue", "green"] {
        soon(wanted, async { while client.get("/").await != wanted {} }).await;
    }
}

#[tokio::test]
async fn a_weight_of_0_gets_nothing_and_weights_change_under_a_connection() {
    let (targets, groups) = blue_and_green().await;
    let shares = |blue, green| {
        config(
            [weighted(&[("blue", blue), ("green", green)])],
            groups.clone(),
        )
    };
    let running = start(shares(1, 0)).await;
    all_healthy(&running).await;

    let mut client = Conversation::to(running.listeners()[0]).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await, "blue");
    }
    running.apply(shares(0, 1)).await.unwrap();
    for _ in 0..20 {
        assert_eq!(client.get("/").await, "green");
    }
    assert_eq!((targets[0].requests(), targets[1].requests()), (20, 20));
}

#[tokio::test]
async fn a_group_without_targets_keeps_its_share_and_answers_503() {
    let (targets, [_, green]) = blue_and_green().await;
    let groups = [group("blue", &[]), green];
    let running = start(config([weighted(&[("blue", 1), ("green", 0)])], groups)).await;
    all_healthy(&running).await;

    let mut client = Conversation::to(running.listeners()[0]).await;
    let request = "GET / HTTP/1.1\r\nHost: web.example\r\n\r\n";
    assert!(client.ask(request).await.0.starts_with("HTTP/1.1 503 "));
    assert_eq!(targets[1].requests(), 0);
}

#[tokio::test]
async fn weights_of_0_alone_answer_503() {
    let (targets, groups) = blue_and_green().await;
    let running = start(config([weighted(&[("blue", 0), ("green", 0)])], groups)).await;
    all_healthy(&running).await;

    let mut client = Conversation::to(running.listeners()[0]).await;
    let request = "GET / HTTP/1.1\r\nHost: web.example\r\n\r\n";
    assert!(client.ask(request).await.0.starts_with("HTTP/1.1 503 "));
    assert_eq!((targets[0].requests(), targets[1].requests()), (0, 0));
}
