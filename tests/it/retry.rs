//! What is sent a second time, and what never is.

use crate::support::{Client, LoadBalancer, Refusing, Served, Target, ok, pass};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";

/// A client, and a target's connection that has served it once and is idle.
async fn idle_connection(target: &Target, balancer: &LoadBalancer) -> (Client, Served) {
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    served.send(ok("first")).await;
    assert_eq!(client.response().await.text(), "first");
    (client, served)
}

async fn one_target() -> (Target, LoadBalancer) {
    let target = Target::start().await;
    let balancer = LoadBalancer::before(&[target.address()]).await;
    (target, balancer)
}

#[tokio::test]
async fn a_connection_that_its_target_closed_while_idle_is_replaced() {
    let (target, balancer) = one_target().await;
    for request in [GET, POST] {
        let (mut client, served) = idle_connection(&target, &balancer).await;
        drop(served);
        client.send(request).await;
        let (mut fresh, _) = target.serve().await;
        fresh
            .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\nsecond")
            .await;
        assert_eq!(client.response().await.text(), "second");
    }
}

#[tokio::test]
async fn a_connection_that_its_target_reset_while_idle_is_replaced() {
    let (target, balancer) = one_target().await;
    let (mut client, served) = idle_connection(&target, &balancer).await;
    served.reset();
    client.send(GET).await;
    let (mut fresh, _) = target.serve().await;
    fresh.send(ok("second")).await;
    assert_eq!(client.response().await.text(), "second");
}

#[tokio::test]
async fn a_get_that_meets_the_end_of_an_idle_connection_is_sent_again() {
    let (target, balancer) = one_target().await;
    let (mut client, mut served) = idle_connection(&target, &balancer).await;
    client.send(GET).await;
    served.request().await;
    drop(served);
    let (mut fresh, request) = target.serve().await;
    assert_eq!(request.line(), "GET / HTTP/1.1");
    fresh.send(ok("second")).await;
    assert_eq!(client.response().await.text(), "second");
}

#[tokio::test]
async fn a_post_that_meets_the_end_of_an_idle_connection_is_not_sent_again() {
    let (target, balancer) = one_target().await;
    let bodiless = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    for request in [POST, bodiless] {
        let (mut client, mut served) = idle_connection(&target, &balancer).await;
        client.send(request).await;
        served.request().await;
        drop(served);
        assert_eq!(client.response().await.status(), 502);
        assert!(target.is_left_alone().await);
    }
}

#[tokio::test]
async fn a_put_whose_body_is_gone_is_not_sent_again() {
    let (target, balancer) = one_target().await;
    let (mut client, mut served) = idle_connection(&target, &balancer).await;
    client
        .send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    served.request().await;
    drop(served);
    assert_eq!(client.response().await.status(), 502);
    assert!(target.is_left_alone().await);
}

#[tokio::test]
async fn an_answer_that_began_is_not_asked_for_again() {
    let (target, balancer) = one_target().await;
    for beginning in [
        "HTTP/1.1 200 OK\r\nX: y\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        let (mut client, mut served) = idle_connection(&target, &balancer).await;
        client.send(GET).await;
        served.request().await;
        served.send(beginning).await;
        drop(served);
        assert_eq!(client.response().await.status(), 502);
        assert!(target.is_left_alone().await);
    }
}

#[tokio::test]
async fn a_request_that_ends_every_connection_it_meets_does_not_meet_them_all() {
    let (target, balancer) = one_target().await;
    let mut clients = Vec::new();
    let mut idle = Vec::new();
    for _ in 0..4 {
        let mut client = balancer.client().await;
        client.send(GET).await;
        idle.push(target.serve().await.0);
        clients.push(client);
    }
    for (client, served) in clients.iter_mut().zip(&mut idle) {
        served.send(ok("")).await;
        client.response().await;
    }
    clients[0]
        .send("GET /poison HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let mut last = idle.pop().unwrap();
    assert_eq!(last.request().await.line(), "GET /poison HTTP/1.1");
    drop(last);
    let (fresh, _) = target.serve().await;
    drop(fresh);
    assert_eq!(clients[0].response().await.status(), 502);
    let (mut other, mut calm) = (clients.pop().unwrap(), idle.pop().unwrap());
    let (request, _) = pass(&mut other, GET, &mut calm, ok("")).await;
    assert_eq!(request.line(), "GET / HTTP/1.1");
}

#[tokio::test]
async fn a_target_that_refuses_is_passed_over() {
    let (refusing, target) = (Refusing::start(), Target::start().await);
    let balancer = LoadBalancer::before(&[refusing.address(), target.address()]).await;
    let mut client = balancer.client().await;
    client.send(POST).await;
    let (mut served, _) = target.serve().await;
    served.send(ok("fine")).await;
    assert_eq!(client.response().await.text(), "fine");
    for _ in 0..3 {
        let (request, response) = pass(&mut client, POST, &mut served, ok("fine")).await;
        assert_eq!((request.text(), response.text()), ("hello", "fine"));
    }
}

#[tokio::test]
async fn a_get_that_one_target_drops_goes_to_another() {
    let targets = [Target::start().await, Target::start().await];
    let balancer = LoadBalancer::before(&targets.each_ref().map(Target::address)).await;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let first = tokio::select! {
        _ = targets[0].serve() => 0,
        _ = targets[1].serve() => 1,
    };
    let (mut served, _) = targets[1 - first].serve().await;
    served.send(ok("fine")).await;
    assert_eq!(client.response().await.text(), "fine");
}

#[tokio::test]
async fn a_post_that_one_target_drops_goes_nowhere_else() {
    let targets = [Target::start().await, Target::start().await];
    let balancer = LoadBalancer::before(&targets.each_ref().map(Target::address)).await;
    let mut client = balancer.client().await;
    client.send(POST).await;
    tokio::select! {
        _ = targets[0].serve() => {},
        _ = targets[1].serve() => {},
    };
    assert_eq!(client.response().await.status(), 502);
    assert!(targets[0].is_left_alone().await && targets[1].is_left_alone().await);
}

#[tokio::test]
async fn targets_that_all_refuse_become_502_and_the_connection_goes_on() {
    let refusing = [Refusing::start(), Refusing::start()];
    let balancer = LoadBalancer::before(&refusing.each_ref().map(Refusing::address)).await;
    let mut client = balancer.client().await;
    for request in [GET, POST, GET] {
        client.send(request).await;
        let response = client.response().await;
        assert_eq!(
            (response.status(), response.header("Connection")),
            (502, Some("keep-alive"))
        );
    }
}

#[tokio::test]
async fn a_lone_target_that_closes_or_resets_without_an_answer_becomes_502() {
    let (target, balancer) = one_target().await;
    for how in [drop, Served::reset] {
        let mut client = balancer.client().await;
        client.send(GET).await;
        let (served, _) = target.serve().await;
        how(served);
        assert_eq!(client.response().await.status(), 502);
        assert!(target.is_left_alone().await);
    }
}

#[tokio::test]
async fn a_group_without_targets_becomes_503_and_the_body_is_read_away() {
    let balancer = LoadBalancer::before(&[]).await;
    let mut client = balancer.client().await;
    for request in [GET, POST, GET] {
        client.send(request).await;
        let response = client.response().await;
        assert_eq!((response.status(), response.body.len()), (503, 162));
        assert_eq!(response.header("Connection"), Some("keep-alive"));
    }
}

#[tokio::test]
async fn a_target_counts_what_it_is_doing_and_forgets_what_has_ended() {
    let (target, balancer) = one_target().await;
    let outstanding = || balancer.status().target_groups[0].targets[0].outstanding_requests;
    let mut client = balancer.client().await;
    client.send(GET).await;
    let (mut served, _) = target.serve().await;
    assert_eq!(outstanding(), 1);
    served
        .send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        .await;
    client.head().await;
    assert_eq!(outstanding(), 1);
    served.send("llo").await;
    client.take(5).await;
    crate::support::eventually("the end of a request", || {
        (outstanding() == 0).then_some(())
    })
    .await;
}
