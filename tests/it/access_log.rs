//! What is written down of a request, whichever HTTP brought it.

use std::path::Path;
use std::time::Duration;

use albedo::model::{AccessLog, AccessLogFormat, AccessLogSink};
use serde_json::Value;

use crate::lifecycle::{all_threads, alone};
use crate::scene::{
    Authority, Content, Conversation, config, group, http, http2, https, read, request, soon,
    start, until, workers,
};
use crate::support::LoadBalancer;

/// Records of a log, as many as are wanted, once they are there.
pub(crate) async fn records(file: &Path, count: usize) -> Vec<Value> {
    let lines = || std::fs::read_to_string(file).unwrap_or_default();
    until("the records are there", || lines().lines().count() >= count).await;
    lines()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub(crate) fn json_log(file: &Path) -> AccessLog {
    AccessLog {
        sink: AccessLogSink::File(file.to_owned()),
        format: AccessLogFormat::Json,
    }
}

#[tokio::test]
async fn what_no_target_sees_is_traced_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let rules = "{ priority: 1, conditions: [ { path_pattern: [ /fixed ] } ], actions: [ { fixed_response: { status_code: 200 } } ] }, \
                 { priority: 2, conditions: [ { path_pattern: [ /away ] } ], actions: [ { redirect: { path: /there, status_code: HTTP_301 } } ] }";
    let balancer = LoadBalancer::with_rules(&[], rules, |config| {
        config.load_balancer.access_log = Some(json_log(&file));
    })
    .await;
    let mut client = balancer.client().await;
    for path in ["/fixed", "/away", "/none"] {
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        client.response().await;
    }
    client
        .send("TRACE / HTTP/1.1\r\nHost: a\r\nX-Amzn-Trace-Id: Root=1-2-3\r\n\r\n")
        .await;
    client.response().await;
    let records = records(&file, 4).await;
    let trace = |record: &Value| record["trace_id"].as_str().unwrap().to_owned();
    for record in &records[..3] {
        assert!(trace(record).starts_with("Root=1-"), "{record}");
    }
    assert!(
        trace(&records[3]).ends_with(";Root=1-2-3"),
        "{}",
        records[3]
    );
}

fn number(record: &Value, field: &str) -> u64 {
    record[field].as_u64().unwrap()
}

#[tokio::test]
async fn heads_and_bodies_are_counted_over_both_http() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let target = crate::http2::echo().await;
    let authority = Authority::new();
    let certificate = authority.sign(&["web.example"]);
    let mut config = config(
        [http("web"), https("web", &[&certificate])],
        [group("web", &[target.address])],
    );
    config.target_groups[0].health_check.interval = Duration::from_secs(60);
    let (sink, format) = (AccessLogSink::File(file.clone()), AccessLogFormat::Json);
    config.load_balancer.access_log = Some(AccessLog { sink, format });
    let running = start(config).await;

    let mut plain = Conversation::to(running.listeners()[0]).await;
    let head = "POST /plain HTTP/1.1\r\nHost: web.example\r\nContent-Length: 1000\r\n\r\n";
    plain.ask(&format!("{head}{}", "x".repeat(1000))).await;
    let client = http2(running.listeners()[1], &authority).await;
    let posted = request("POST", "/h2", Content::whole("x".repeat(1000)));
    read(client.send_request(posted).await.unwrap().into_body())
        .await
        .unwrap();

    let records = records(&file, 2).await;
    assert_eq!(
        number(&records[0], "received_bytes"),
        head.len() as u64 + 1000
    );
    assert_eq!(
        (&records[0]["type"], &records[1]["type"]),
        (&"http".into(), &"h2".into())
    );
    assert!(
        number(&records[1], "received_bytes") > 1000,
        "{}",
        records[1]
    );
    for record in &records {
        assert_eq!(
            record["client"].as_str().unwrap().split(':').next(),
            Some("127.0.0.1")
        );
        assert!(
            number(record, "sent_bytes") > 3,
            "the head counts too: {record}"
        );
    }
}

#[test]
fn a_log_that_is_replaced_ends_though_nobody_asks_anything() {
    alone(
        "access_log::a_log_that_is_replaced_ends_though_nobody_asks_anything",
        async {
            let folder = tempfile::tempdir().unwrap();
            let logged_to = |name: &str| {
                let mut config = config([http("web")], [group("web", &[])]);
                config.workers = workers(2);
                config.load_balancer.access_log = Some(AccessLog {
                    sink: AccessLogSink::File(folder.path().join(name)),
                    format: AccessLogFormat::Json,
                });
                config
            };
            let running = start(logged_to("before.log")).await;
            running.apply(logged_to("after.log")).await.unwrap();
            // No worker holds on to the configuration of before.
            until("one log is open", || {
                all_threads().filter(|name| name == "access-log").count() == 1
            })
            .await;
        },
    );
}

#[tokio::test]
async fn a_request_is_recorded_where_it_began() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = ["before.log", "after.log"].map(|name| folder.path().join(name));
    let (target, go_on) = crate::lifecycle::slow().await;
    let logged_to = |file: &Path| {
        let mut config = config([http("web")], [group("web", &[target.address])]);
        let sink = AccessLogSink::File(file.to_owned());
        let format = AccessLogFormat::Json;
        config.load_balancer.access_log = Some(AccessLog { sink, format });
        config
    };
    let running = start(logged_to(&before)).await;
    let mut client = Conversation::to(running.listeners()[0]).await;
    client
        .say("GET /first HTTP/1.1\r\nHost: web.example\r\n\r\n")
        .await;
    client.head().await.unwrap();

    // The log of before has a line to come, and holds up nothing.
    running.apply(logged_to(&after)).await.unwrap();
    go_on.notify_one();
    soon("the rest", client.body(10)).await;
    go_on.notify_one();
    client.get("/second").await;

    let asked = |record: &Value| record["request_url"].as_str().unwrap().to_owned();
    assert!(asked(&records(&before, 1).await[0]).contains("/first"));
    let records = records(&after, 1).await;
    assert_eq!(records.len(), 1);
    assert!(asked(&records[0]).contains("/second"));
}
