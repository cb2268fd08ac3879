//! What becomes of requests and tunnels whose target is taken out, or whose load balancer is to end.

use std::time::{Duration, Instant};

use albedo::model::{self, Config};

use crate::support::{Client, LoadBalancer, Served, Target, ok};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const ASK: &str =
    "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const AGREE: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A text frame of a server.
const HELLO: &[u8] = b"\x81\x05hello";
/// Close with 1012, and a client's masked answer to it.
const GO: &[u8] = b"\x88\x02\x03\xf4";
const GOING: &[u8] = b"\x88\x82\0\0\0\0\x03\xf4";

/// Long enough to be seen to go on, short enough to wait for.
const DELAY: Duration = Duration::from_secs(2);

/// One target, and the time it has once it is taken out.
async fn one_target(delay: Duration) -> (Target, LoadBalancer) {
    let target = Target::start().await;
    let balancer = LoadBalancer::adjusted(&[target.address()], |config| {
        config.target_groups[0].deregistration_delay = delay;
    })
    .await;
    (target, balancer)
}

fn nobody(config: &mut Config) {
    config.target_groups[0].targets.clear();
}

async fn tunnel(target: &Target, balancer: &LoadBalancer, protocol: &str) -> (Client, Served) {
    let mut client = balancer.client().await;
    client.send(ASK.replace("websocket", protocol)).await;
    let mut served = target.accept().await;
    served.head().await;
    served.send(AGREE.replace("websocket", protocol)).await;
    client.head().await;
    (client, served)
}

#[tokio::test]
async fn a_request_that_outlives_the_deregistration_delay_is_answered_502() {
    let (target, mut balancer) = one_target(DELAY).await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    balancer.apply(nobody).await;
    let began = Instant::now();
    let response = client.response().await;
    assert_eq!(response.status(), 502);
    assert_eq!(response.header("Connection"), Some("keep-alive"));
    assert!(began.elapsed() >= DELAY / 2);
    assert_eq!(served.rest().await, "");
    client.send(GET).await;
    assert_eq!(client.response().await.status(), 503);
}

#[tokio::test]
async fn an_answer_that_outlives_the_deregistration_delay_is_cut_off() {
    let (target, mut balancer) = one_target(DELAY).await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    served
        .send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        .await;
    client.head().await;
    assert_eq!(client.take(4).await, b"half");
    balancer.apply(nobody).await;
    assert_eq!(client.rest().await, "");
    assert_eq!(served.rest().await, "");
}

#[tokio::test]
async fn a_request_that_ends_in_time_does_not_notice() {
    let (target, mut balancer) = one_target(Duration::from_secs(3600)).await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    balancer.apply(nobody).await;
    served.send(ok("in time")).await;
    assert_eq!(client.response().await.text(), "in time");
}

#[tokio::test]
async fn a_websocket_is_told_to_come_back_elsewhere() {
    let (target, mut balancer) = one_target(DELAY).await;
    let (mut client, mut served) = tunnel(&target, &balancer, "websocket").await;
    balancer.apply(nobody).await;
    served.send(HELLO).await;
    assert_eq!(
        client.take(HELLO.len()).await,
        HELLO,
        "it goes on until then"
    );
    assert_eq!(client.take(GO.len()).await, GO);
    served.send(HELLO).await;
    client.send(GOING).await;
    assert_eq!(
        served.take(GOING.len()).await,
        GOING,
        "the target learns of it"
    );
    drop(served);
    assert_eq!(client.rest().await, "", "nothing follows a Close");
}

#[tokio::test]
async fn a_tunnel_of_another_protocol_is_cut_off_without_a_word() {
    let (target, mut balancer) = one_target(DELAY).await;
    let (mut client, mut served) = tunnel(&target, &balancer, "other").await;
    balancer.apply(nobody).await;
    let began = Instant::now();
    served.send("goes on").await;
    assert_eq!(client.take(7).await, b"goes on");
    assert_eq!(client.rest().await, "");
    assert!(began.elapsed() >= DELAY / 2);
}

#[tokio::test]
async fn a_target_that_comes_back_keeps_its_tunnels() {
    let (target, mut balancer) = one_target(DELAY).await;
    let (mut client, mut served) = tunnel(&target, &balancer, "websocket").await;
    let address = target.address();
    balancer.apply(nobody).await;
    balancer
        .apply(|config| config.target_groups[0].targets = vec![model::Target::from(address)])
        .await;
    let began = Instant::now();
    while began.elapsed() < DELAY * 2 {
        tokio::time::sleep(DELAY / 10).await;
        served.send(HELLO).await;
        assert_eq!(client.take(HELLO.len()).await, HELLO);
    }
}

/// One that has this long to finish when it is told to stop.
async fn stopping(target: &Target, timeout: Duration) -> LoadBalancer {
    LoadBalancer::adjusted(&[target.address()], |config| {
        config.shutdown.timeout = timeout;
    })
    .await
}

#[tokio::test]
async fn a_request_that_outlives_its_load_balancer_is_answered_502() {
    let target = Target::start().await;
    let balancer = stopping(&target, DELAY).await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    let began = Instant::now();
    let watching = async {
        let response = client.response().await;
        let connection = response.header("Connection");
        assert_eq!((response.status(), connection), (502, Some("close")));
        assert!(began.elapsed() >= DELAY / 2);
        assert_eq!(served.rest().await, "");
    };
    tokio::join!(balancer.shutdown(), watching);
}

#[tokio::test]
async fn a_websocket_is_told_that_its_load_balancer_stops() {
    let target = Target::start().await;
    let balancer = stopping(&target, DELAY).await;
    let (mut client, mut served) = tunnel(&target, &balancer, "websocket").await;
    let watching = async {
        assert_eq!(client.take(GO.len()).await, GO);
        client.send(GOING).await;
        assert_eq!(served.take(GOING.len()).await, GOING);
        drop(served);
        assert_eq!(client.rest().await, "");
    };
    tokio::join!(balancer.shutdown(), watching);
}
