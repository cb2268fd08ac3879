use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::config;
use crate::control::{Applied, Control, Event, NotReplaced, Readiness, Refused, View};
use crate::model::{AdminAddress, Generation, Protocol};
use crate::target::Unknown;
use crate::telemetry::Metrics;

/// A door that is open on loopback until it is closed.
struct Door {
    address: AdminAddress,
    readiness: watch::Sender<Readiness>,
    /// What the controller behind the door is asked.
    events: mpsc::Receiver<Event>,
    control: Control,
    closing: Closing,
    served: JoinHandle<()>,
}

impl Door {
    async fn open(address: &str) -> Self {
        Self::open_with(address, None).await
    }

    async fn open_with(address: &str, token: Option<Token>) -> Self {
        let metrics = Metrics::new(&"shop".parse().unwrap(), 1);
        metrics.listener(443, Protocol::Https).requests.increment(5);
        let (readiness, seen) = watch::channel(Readiness::Ready);
        let view = View::for_test(seen, metrics);
        let bound = bind(&address.parse().unwrap()).unwrap();
        let address = bound.address();
        let closing = Closing::default();
        let (control, events) = Control::new(view);
        let served = tokio::spawn(serve(bound, token, control.downgrade(), closing.clone()));
        Self {
            address,
            readiness,
            events,
            control,
            closing,
            served,
        }
    }

    async fn on_loopback() -> Self {
        Self::open("127.0.0.1:0").await
    }

    fn socket_address(&self) -> SocketAddr {
        match self.address {
            AdminAddress::Tcp(address) => address,
            AdminAddress::Unix(_) => panic!("not on TCP"),
        }
    }

    /// Sends a head with a good Host and gives the whole answer.
    async fn ask(&self, line: &str) -> String {
        let host = self.socket_address();
        self.send(&format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        ))
        .await
    }

    async fn send(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.socket_address()).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn close(self) {
        self.closing.close();
        self.served.await.unwrap();
    }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

fn status_line(answer: &str) -> &str {
    answer.lines().next().unwrap()
}

#[tokio::test]
async fn a_living_process_is_healthy() {
    let door = Door::on_loopback().await;
    let answer = door.ask("GET /healthz").await;
    assert_eq!(status_line(&answer), "HTTP/1.1 200 OK");
    assert_eq!(body(&answer), "ok\n");
    door.close().await;
}

#[tokio::test]
async fn a_draining_load_balancer_is_not_ready() {
    let door = Door::on_loopback().await;
    assert_eq!(
        status_line(&door.ask("GET /readyz").await),
        "HTTP/1.1 200 OK"
    );
    door.readiness.send(Readiness::Draining).unwrap();
    let answer = door.ask("GET /readyz").await;
    assert_eq!(status_line(&answer), "HTTP/1.1 503 Service Unavailable");
    assert_eq!(body(&answer), "draining\n");
    door.close().await;
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let door = Door::on_loopback().await;
    let answer = door.ask("GET /metrics").await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(body(&answer).contains(
        "albedo_requests_total{load_balancer=\"shop\",listener=\"443\",protocol=\"HTTPS\"} 5\n"
    ));
    door.close().await;
}

#[tokio::test]
async fn status_has_the_contracts_names() {
    let door = Door::on_loopback().await;
    let answer = door.ask("GET /api/v1/status").await;
    assert_eq!(
        body(&answer),
        "{\"generation\":1,\"listeners\":[],\"target_groups\":[],\"last_reload\":null}\n"
    );
    door.close().await;
}

#[tokio::test]
async fn what_is_not_there_is_404_in_json() {
    let door = Door::on_loopback().await;
    for path in [
        "/nothing",
        "/api/v1",
        "/api/v1/reload/now",
        "/api/v1/target_groups/a/targets/b",
    ] {
        let answer = door.ask(&format!("GET {path}")).await;
        assert_eq!(status_line(&answer), "HTTP/1.1 404 Not Found", "{path}");
        assert_eq!(
            body(&answer),
            "{\"error\":\"there is nothing at this path\"}\n"
        );
    }
    door.close().await;
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_one() {
    let door = Door::on_loopback().await;
    let answer = door.ask("POST /metrics").await;
    assert_eq!(status_line(&answer), "HTTP/1.1 405 Method Not Allowed");
    assert!(answer.contains("allow: GET, HEAD\r\n"));
    let answer = door.ask("GET /api/v1/reload").await;
    assert_eq!(status_line(&answer), "HTTP/1.1 405 Method Not Allowed");
    assert!(answer.contains("allow: POST\r\n"));
    door.close().await;
}

#[tokio::test]
async fn verbs_that_are_not_served_say_so() {
    let door = Door::on_loopback().await;
    for path in [
        "/api/v1/target_groups/app/pause",
        "/api/v1/target_groups/app/resume",
        "/api/v1/target_groups/app/switch",
    ] {
        let answer = door.ask(&format!("POST {path}")).await;
        assert_eq!(
            status_line(&answer),
            "HTTP/1.1 501 Not Implemented",
            "{path}"
        );
        assert_eq!(body(&answer), "{\"error\":\"not served yet\"}\n");
    }
    door.close().await;
}

/// Answers the reload that somebody asks for.
async fn answer_reload(door: &mut Door, outcome: Result<Applied, Refused>) {
    match door.events.recv().await {
        Some(Event::Reload(reply)) => reply.send(outcome).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_reload_answers_with_the_generation() {
    let mut door = Door::on_loopback().await;
    let address = door.address.clone();
    let asked = tokio::spawn(async move {
        client::ask(&address, None, Method::POST, "/api/v1/reload")
            .await
            .unwrap()
    });
    let applied = Applied {
        generation: Generation(7),
        warnings: Vec::new(),
    };
    answer_reload(&mut door, Ok(applied)).await;
    let (status, answer) = asked.await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(&answer[..], b"{\"generation\":7}\n");
    door.close().await;
}

#[tokio::test]
async fn a_refused_reload_answers_with_every_problem() {
    let mut door = Door::on_loopback().await;
    let address = door.address.clone();
    let ask = move || {
        let address = address.clone();
        tokio::spawn(async move {
            client::ask(&address, None, Method::POST, "/api/v1/reload")
                .await
                .unwrap()
        })
    };
    let problems = config::parse("workers: 0\n", Path::new("a.yaml")).unwrap_err();
    let count = problems.as_slice().len();
    let asked = ask();
    answer_reload(&mut door, Err(Refused::Problems(problems))).await;
    let (status, answer) = asked.await.unwrap();
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    let problems = answer["problems"].as_array().unwrap();
    assert_eq!(problems.len(), count);
    assert!(problems.iter().any(|problem| {
        problem["path"] == "workers" && problem["line"] == 1 && problem["column"] == 10
    }));

    let asked = ask();
    answer_reload(&mut door, Err(Refused::NotFromAFile)).await;
    assert_eq!(asked.await.unwrap().0, StatusCode::CONFLICT);
    door.close().await;
}

#[tokio::test]
async fn a_target_is_named_by_a_path_that_may_be_encoded() {
    let mut door = Door::on_loopback().await;
    let address = door.address.clone();
    let path = "/api/v1/target_groups/app/targets/%5B%3A%3A1%5D:80/drain";
    let asked = tokio::spawn(async move { client::ask(&address, None, Method::POST, path).await });
    let unknown = Unknown::Target {
        group: "app".parse().unwrap(),
        target: "[::1]:80".to_owned(),
        suggestion: Some("[::1]:8080".to_owned()),
    };
    match door.events.recv().await {
        Some(Event::Drain {
            group,
            target,
            reply,
        }) => {
            assert_eq!((&*group, &*target), ("app", "[::1]:80"));
            reply.send(Err(unknown)).unwrap();
        }
        other => panic!("{other:?}"),
    }
    let (status, answer) = asked.await.unwrap().unwrap();
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(
        std::str::from_utf8(&answer).unwrap(),
        "{\"error\":\"target group 'app' has no target '[::1]:80'; did you mean '[::1]:8080'?\"}\n"
    );
    door.close().await;
}

#[tokio::test]
async fn an_upgrade_answers_with_the_new_process_or_why_there_is_none() {
    let door = Door::on_loopback().await;
    let answer = door.ask("POST /api/v1/upgrade").await;
    assert_eq!(status_line(&answer), "HTTP/1.1 409 Conflict");
    assert!(body(&answer).contains("albedo run"), "{answer}");

    let mut questions = door.control.replaceable();
    for (outcome, status, text) in [
        (Ok(17), "200 OK", "{\"pid\":17}\n"),
        (
            Err(NotReplaced::UnderWay),
            "409 Conflict",
            "{\"error\":\"an upgrade is under way already\"}\n",
        ),
        (
            Err(NotReplaced::Failed("no".to_owned())),
            "500 Internal Server Error",
            "{\"error\":\"no\"}\n",
        ),
    ] {
        let answered = async {
            let reply = questions.recv().await.unwrap();
            reply.send(outcome).unwrap();
        };
        let (answer, ()) = tokio::join!(door.ask("POST /api/v1/upgrade"), answered);
        assert_eq!(status_line(&answer), format!("HTTP/1.1 {status}"));
        assert_eq!(body(&answer), text);
    }
    door.close().await;
}

#[tokio::test]
async fn a_door_that_is_passed_on_leaves_its_file_and_its_last_answers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin.sock");
    let door = Door::open(&format!("unix:{}", file.display())).await;
    let mut questions = door.control.replaceable();
    let address = door.address.clone();
    let asked = tokio::spawn(async move {
        client::ask(&address, None, Method::POST, "/api/v1/upgrade")
            .await
            .unwrap()
    });
    let reply = questions.recv().await.unwrap();

    door.closing.pass_on().await;
    reply.send(Ok(17)).unwrap();

    let (status, _) = asked.await.unwrap();
    assert_eq!(status, StatusCode::OK);
    door.served.await.unwrap();
    assert!(file.exists());
}

#[tokio::test]
async fn a_head_has_no_body() {
    let door = Door::on_loopback().await;
    let answer = door.ask("HEAD /healthz").await;
    assert!(answer.contains("content-length: 3\r\n"), "{answer}");
    assert_eq!(body(&answer), "");
    door.close().await;
}

#[tokio::test]
async fn a_page_elsewhere_gets_nothing() {
    let door = Door::on_loopback().await;
    let rebound = door
        .send("GET /api/v1/status HTTP/1.1\r\nHost: evil.example:9900\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(status_line(&rebound), "HTTP/1.1 403 Forbidden");
    assert!(!rebound.contains("generation"));
    let host = door.socket_address();
    let cross = door
        .send(&format!(
            "POST /api/v1/reload HTTP/1.1\r\nHost: {host}\r\nOrigin: http://evil.example\r\nConnection: close\r\n\r\n"
        ))
        .await;
    assert_eq!(status_line(&cross), "HTTP/1.1 403 Forbidden");
    door.close().await;
}

#[tokio::test]
async fn who_does_not_know_the_token_gets_nothing() {
    let token = Token::named("0123456789abcdef").unwrap();
    let mut door = Door::open_with("127.0.0.1:0", Some(token.clone())).await;
    for line in [
        "GET /metrics",
        "GET /api/v1/status",
        "GET /",
        "GET /nothing",
        "POST /api/v1/reload",
        "POST /api/v1/upgrade",
        "POST /api/v1/target_groups/a/targets/b/drain",
    ] {
        let answer = door.ask(line).await;
        assert_eq!(status_line(&answer), "HTTP/1.1 401 Unauthorized", "{line}");
        assert!(answer.contains("www-authenticate: Bearer\r\n"), "{answer}");
        assert!(body(&answer).contains("ALBEDO_ADMIN_TOKEN"), "{answer}");
    }
    // Whether the process lives is no secret.
    for page in ["GET /healthz", "GET /readyz"] {
        assert_eq!(status_line(&door.ask(page).await), "HTTP/1.1 200 OK");
    }
    assert!(door.events.try_recv().is_err(), "nothing was asked for");
    let answer = client::ask(&door.address, Some(&token), Method::GET, "/metrics").await;
    assert_eq!(answer.unwrap().0, StatusCode::OK);
    door.close().await;
}

#[tokio::test]
async fn who_may_open_the_socket_file_needs_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("admin.sock").display());
    let token = Token::named("0123456789abcdef").unwrap();
    let door = Door::open_with(&address, Some(token)).await;
    let answer = client::ask(&door.address, None, Method::GET, "/metrics").await;
    assert_eq!(answer.unwrap().0, StatusCode::OK);
    door.close().await;
}

#[tokio::test]
async fn a_body_is_neither_read_nor_waited_for() {
    let door = Door::on_loopback().await;
    let host = door.socket_address();
    for said in [
        "Content-Length: 1000000000000",
        "Transfer-Encoding: chunked",
    ] {
        let head = format!("POST /healthz HTTP/1.1\r\nHost: {host}\r\n{said}\r\n\r\n");
        let mut stream = TcpStream::connect(host).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // The answer, and the end.
        let mut answer = String::new();
        let read = timeout(HEAD_TIMEOUT / 2, stream.read_to_string(&mut answer));
        read.await.expect("an end").unwrap();
        assert_eq!(status_line(&answer), "HTTP/1.1 405 Method Not Allowed");
    }
    door.close().await;
}

#[tokio::test]
async fn a_head_has_its_limit() {
    let door = Door::on_loopback().await;
    let mut stream = TcpStream::connect(door.socket_address()).await.unwrap();
    let long = format!("GET /healthz HTTP/1.1\r\nX: {}", "x".repeat(HEAD_SIZE_MAX));
    stream.write_all(long.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // It may end in a reset, since there is more to read.
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    door.close().await;
}

#[tokio::test]
async fn closing_the_door_ends_idle_connections() {
    let door = Door::on_loopback().await;
    let mut idle = TcpStream::connect(door.socket_address()).await.unwrap();
    let head = format!(
        "GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n",
        door.socket_address()
    );
    idle.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    door.close().await;
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"ok\n"));
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_socket_file_is_its_owners_alone_and_goes_with_the_door() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let door = Door::open(&format!("unix:{}", path.display())).await;
    assert_eq!(mode(&path), 0o600);
    let answer = client::ask(&door.address, None, Method::GET, "/healthz").await;
    let (status, answer) = answer.unwrap();
    assert_eq!((status, &answer[..]), (StatusCode::OK, &b"ok\n"[..]));
    door.close().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn an_abandoned_socket_file_is_replaced_and_a_living_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let address = AdminAddress::Unix(path.clone());
    let other = UnixListener::bind(&path).unwrap();
    let refused = bind(&address).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
    drop(other);
    bind(&address).unwrap();
}

#[tokio::test]
async fn another_file_at_the_path_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious.txt");
    std::fs::write(&path, "precious").unwrap();
    assert!(bind(&AdminAddress::Unix(path.clone())).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn nobody_at_home_is_an_error_of_its_own() {
    let listener = bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.address();
    drop(listener);
    let error = client::ask(&address, None, Method::GET, "/api/v1/status").await;
    let error = error.unwrap_err();
    assert!(matches!(error, client::Error::Connect(_)), "{error:?}");
}
