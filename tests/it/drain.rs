//! Targets taken out by hand and brought back.

use std::time::Duration;

use albedo::app::Running;
use albedo::model::{AdminAddress, Stickiness};
use serde_json::Value;

use crate::lifecycle::slow;
use crate::reload::{Process, for_process};
use crate::scene::{
    Conversation, Target, all_healthy, config, group, header, http, soon, start, target_status,
    until,
};

/// Status code and JSON that a verb is answered with.
async fn verb(running: &Running, group: &str, target: &str, verb: &str) -> (u16, Value) {
    let AdminAddress::Tcp(address) = running.admin() else {
        panic!("not on TCP")
    };
    let path = format!("/api/v1/target_groups/{group}/targets/{target}/{verb}");
    let mut door = Conversation::to(*address).await;
    let (head, body) = door
        .ask(&format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(&body).unwrap())
}

fn state(running: &Running, index: usize) -> (String, Option<String>) {
    let status = target_status(running, "web", index);
    (status.state, status.reason)
}

const DRAINING: &str = "Target.DeregistrationInProgress";
const GONE: &str = "Target.NotRegistered";

#[tokio::test]
async fn a_drained_target_finishes_its_requests_and_gets_no_more() {
    let (drained, go_on) = slow().await;
    let other = Target::named("other").await;
    let mut wanted = config(
        [http("web")],
        [group("web", &[drained.address, other.address])],
    );
    wanted.workers = crate::scene::workers(2);
    let running = start(wanted.clone()).await;
    all_healthy(&running).await;
    let address = running.listeners()[0];
    let name = drained.address.to_string();
    // Whichever turn it is.
    let mut busy = Conversation::to(address).await;
    while drained.requests() == 0 {
        busy = Conversation::to(address).await;
        busy.say("GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
            .await;
        busy.head().await.unwrap();
    }

    let (code, answer) = verb(&running, "web", &name, "drain").await;

    assert_eq!(code, 200);
    assert_eq!(answer["group"], "web");
    assert_eq!(answer["port"], drained.address.port());
    assert_eq!(answer["state"], "draining");
    assert_eq!(answer["outstanding_requests"], 1);
    assert_eq!(answer["warning"], Value::Null);
    let draining = ("draining".to_owned(), Some(DRAINING.to_owned()));
    assert_eq!(state(&running, 0), draining);
    let mut client = Conversation::to(address).await;
    for _ in 0..6 {
        assert_eq!(client.get("/").await, "other");
    }
    // A change of the configuration does not end it.
    wanted.target_groups[0]
        .targets
        .push("127.0.0.1:1".parse().unwrap());
    running.apply(wanted).await.unwrap();
    assert_eq!(state(&running, 0), draining);
    go_on.notify_one();
    assert_eq!(soon("the rest", busy.body(10)).await, b"five!five.");
    assert_eq!(drained.requests(), 1);

    // Its checks went on, so it is as healthy as it is.
    let (code, answer) = verb(&running, "web", &name, "undrain").await;
    assert_eq!((code, &answer["state"]), (200, &"healthy".into()));
    go_on.notify_one();
    until("it has its turn again", || drained.requests() == 1).await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        go_on.notify_one();
        answers.push(client.get("/").await);
    }
    assert!(answers.contains(&"five!five.".to_owned()), "{answers:?}");
}

#[tokio::test]
async fn when_the_delay_is_over_a_request_is_cut_off_and_the_target_unused() {
    let (drained, _never) = slow().await;
    let silent = Target::playing(async |_, mut client: Conversation| {
        client.end().await;
        None
    })
    .await;
    let mut wanted = config(
        [http("web")],
        [group("web", &[drained.address, silent.address])],
    );
    wanted.target_groups[0].deregistration_delay = Duration::from_millis(300);
    let running = start(wanted).await;
    all_healthy(&running).await;
    let address = running.listeners()[0];
    let mut clients = Vec::new();
    while drained.requests() == 0 || silent.requests() == 0 {
        let mut client = Conversation::to(address).await;
        client
            .say("GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
            .await;
        clients.push(client);
        let sent = clients.len();
        until("the request has come", || {
            drained.requests() + silent.requests() == sent
        })
        .await;
    }

    for target in [&drained, &silent] {
        let name = target.address.to_string();
        assert_eq!(verb(&running, "web", &name, "drain").await.0, 200);
    }

    let mut told = Vec::new();
    for client in &mut clients {
        let head = soon("an answer", client.head()).await.unwrap();
        told.push(match head.split(' ').nth(1) {
            // Its answer had begun, so its end is all that can be told.
            Some("200") => client.end().await,
            other => other.unwrap().to_owned(),
        });
    }
    told.sort();
    told.dedup();
    assert_eq!(told, ["502", "five!"]);
    let gone = ("unused".to_owned(), Some(GONE.to_owned()));
    until("both are unused", || {
        (0..2).all(|index| state(&running, index) == gone)
    })
    .await;
    let probes = silent.probes();
    assert_eq!(
        Conversation::to(address)
            .await
            .ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .0
            .split(' ')
            .nth(1),
        Some("503")
    );

    let name = silent.address.to_string();
    let (code, answer) = verb(&running, "web", &name, "undrain").await;
    assert_eq!((code, &answer["state"]), (200, &"initial".into()));
    until("it is checked again", || silent.probes() > probes).await;
    until("it is healthy again", || state(&running, 1).0 == "healthy").await;
}

#[tokio::test]
async fn a_sticky_client_moves_and_stays_where_it_moved() {
    let (one, two) = (Target::named("one").await, Target::named("two").await);
    let mut wanted = config([http("web")], [group("web", &[one.address, two.address])]);
    wanted.target_groups[0].stickiness = Some(Stickiness::LbCookie {
        duration: Duration::from_secs(3600),
    });
    let running = start(wanted).await;
    all_healthy(&running).await;
    let mut client = Conversation::to(running.listeners()[0]).await;
    let mut cookie = String::new();
    let mut ask = async || {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
        let (head, body) = client.ask(&request).await;
        let set = header(&head, "set-cookie").unwrap();
        cookie = set.split(';').next().unwrap().to_owned();
        body
    };
    let first = ask().await;
    assert_eq!(ask().await, first);
    let (here, there) = match first.as_str() {
        "one" => (one.address, "two"),
        _ => (two.address, "one"),
    };

    verb(&running, "web", &here.to_string(), "drain").await;

    assert_eq!(ask().await, there);
    verb(&running, "web", &here.to_string(), "undrain").await;
    until("both are healthy", || {
        (0..2).all(|index| state(&running, index).0 == "healthy")
    })
    .await;
    for _ in 0..4 {
        assert_eq!(ask().await, there);
    }
}

#[tokio::test]
async fn a_target_that_cannot_be_told_is_refused() {
    let targets = ["127.0.0.1:81", "127.0.0.1:82"].map(|address| address.parse().unwrap());
    let running = start(config([http("web")], [group("web", &targets)])).await;

    let (code, answer) = verb(&running, "webb", "127.0.0.1", "drain").await;
    assert_eq!(code, 404);
    assert_eq!(
        answer["error"],
        "target group 'webb' does not exist; did you mean 'web'?"
    );
    assert_eq!(verb(&running, "web", "127.0.0.2", "drain").await.0, 404);
    let (code, answer) = verb(&running, "web", "127.0.0.1", "drain").await;
    assert_eq!(code, 409);
    let error = answer["error"].as_str().unwrap();
    assert!(error.contains("127.0.0.1:81, 127.0.0.1:82"), "{error}");

    // The last one may go, but not unnoticed.
    let (code, answer) = verb(&running, "web", "127.0.0.1%3A81", "drain").await;
    assert_eq!((code, &answer["warning"]), (200, &Value::Null));
    let (code, answer) = verb(&running, "web", "127.0.0.1%3A82", "drain").await;
    assert_eq!(code, 200);
    assert_eq!(
        answer["warning"],
        "no target of 'web' takes requests any more"
    );
    let client = &mut Conversation::to(running.listeners()[0]).await;
    let head = client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.0;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
}

#[tokio::test]
async fn the_verbs_say_what_became_of_it() {
    let target = Target::named("web").await;
    let process = Process::start(&for_process("", target.address)).await;
    until("it is healthy", || {
        process.verb("status").1.contains(" healthy ")
    })
    .await;
    let address = target.address;

    let (code, out, err) = process.verb("drain web 127.0.0.1");
    assert_eq!(code, 0);
    assert_eq!(
        out,
        format!("{address} of web: draining, 0 requests in progress\n")
    );
    assert_eq!(
        err,
        "albedo: warning: no target of 'web' takes requests any more\n"
    );
    assert!(process.verb("status").1.contains(DRAINING));

    let (code, out, _) = process.verb(&format!("undrain web {address}"));
    assert_eq!(code, 0);
    assert_eq!(
        out,
        format!("{address} of web: healthy, 0 requests in progress\n")
    );

    let (code, out, err) = process.verb("drain web [::1]:80");
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(err, "albedo: target group 'web' has no target '[::1]:80'\n");
}
