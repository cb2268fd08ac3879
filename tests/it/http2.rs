//! HTTP/2 toward clients, HTTP/1.1 toward targets.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use albedo::app::Running;
use albedo::model::Config;
use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Version};
use http_body::Frame;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio_rustls::client::TlsStream;

use crate::scene::{
    Authority, Content, Conversation, Http2, Target, config, connect, group, header, http2, https,
    piece, read, request, soon, start, until,
};

/// One HTTPS listener before one target.
pub(crate) struct Scene {
    pub(crate) running: Running,
    pub(crate) authority: Authority,
}

impl Scene {
    pub(crate) async fn before(target: &Target) -> Self {
        Self::with(target, |_| {}).await
    }

    pub(crate) async fn with(target: &Target, change: impl FnOnce(&mut Config)) -> Self {
        let authority = Authority::new();
        let certificate = authority.sign(&["web.example"]);
        let mut config = config(
            [https("web", &[&certificate])],
            [group("web", &[target.address])],
        );
        // Checks come once a second or so, not between the lines of these tests.
        config.target_groups[0].health_check.interval = Duration::from_secs(60);
        change(&mut config);
        let running = start(config).await;
        Self { running, authority }
    }

    pub(crate) async fn client(&self) -> Http2 {
        http2(self.running.listeners()[0], &self.authority).await
    }

    pub(crate) async fn frames(&self) -> Frames {
        Frames::open(self.running.listeners()[0], &self.authority).await
    }

    pub(crate) async fn silent(&self) -> Frames {
        Frames::silent(self.running.listeners()[0], &self.authority).await
    }

    pub(crate) async fn frames_with(&self, settings: &[(u16, u32)]) -> Frames {
        Frames::open_with(self.running.listeners()[0], &self.authority, settings).await
    }
}

/// The body of a request to a target, however it is framed.
pub(crate) async fn body_of(head: &str, client: &mut Conversation) -> Vec<u8> {
    if let Some(length) = header(head, "content-length") {
        return client.body(length.parse().unwrap()).await;
    }
    let mut body = Vec::new();
    if header(head, "transfer-encoding") == Some("chunked") {
        loop {
            let size = usize::from_str_radix(&client.line().await, 16).unwrap();
            if size == 0 {
                assert_eq!(client.line().await, "", "no trailer reaches a target");
                break;
            }
            body.append(&mut client.body(size).await);
            client.line().await;
        }
    }
    body
}

/// Answers `/fine`, and waits with everything else until its client has gone.
pub(crate) async fn fine_or_silent() -> Target {
    Target::playing(async |head: String, mut client: Conversation| {
        if head.starts_with("GET /fine ") {
            client.answer("fine").await;
            return Some(client);
        }
        client.end().await;
        None
    })
    .await
}

/// Says back what it was sent.
pub(crate) async fn echo() -> Target {
    Target::playing(async |head: String, mut client: Conversation| {
        let body = body_of(&head, &mut client).await;
        let length = body.len();
        client
            .say(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
            ))
            .await;
        if !head.starts_with("HEAD ") {
            client.say(body).await;
        }
        Some(client)
    })
    .await
}

/// Answers with these bytes, whatever is asked, and closes.
async fn saying(answer: &'static str) -> Target {
    Target::playing(move |_, mut client: Conversation| async move {
        client.say(answer).await;
        None
    })
    .await
}

#[tokio::test]
async fn get_head_and_post_reach_the_target_as_http1() {
    let target = echo().await;
    let scene = Scene::before(&target).await;
    let client = scene.client().await;

    let response = client.send("GET", "/a?b=c", Content::none()).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.version()),
        (200, Version::HTTP_2)
    );
    assert!(target.last_request().starts_with("GET /a?b=c HTTP/1.1\r\n"));
    assert_eq!(header(&target.last_request(), "transfer-encoding"), None);

    let response = client.send("HEAD", "/", Content::none()).await.unwrap();
    assert_eq!(response.headers()["content-length"], "0");
    assert_eq!(read(response.into_body()).await.unwrap(), b"");

    // Without a length the body is chunked on its way to the target, with one it keeps it.
    let response = client
        .send("POST", "/", Content::whole("hello"))
        .await
        .unwrap();
    assert_eq!(read(response.into_body()).await.unwrap(), b"hello");
    assert_eq!(
        header(&target.last_request(), "transfer-encoding"),
        Some("chunked")
    );
    let mut sized = request("POST", "/", Content::whole("hello"));
    sized
        .headers_mut()
        .insert("content-length", HeaderValue::from_static("5"));
    let response = client.send_request(sized).await.unwrap();
    assert_eq!(read(response.into_body()).await.unwrap(), b"hello");
    assert_eq!(header(&target.last_request(), "content-length"), Some("5"));
    assert_eq!(header(&target.last_request(), "transfer-encoding"), None);
}

#[tokio::test]
async fn a_head_answer_tells_the_length_of_what_get_would_bring() {
    let target = saying("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await;
    let scene = Scene::before(&target).await;

    let response = scene
        .client()
        .await
        .send("HEAD", "/", Content::none())
        .await
        .unwrap();

    assert_eq!(response.headers()["content-length"], "1234");
    assert_eq!(read(response.into_body()).await.unwrap(), b"");
}

#[tokio::test]
async fn large_bodies_pass_both_ways_on_many_streams_at_once() {
    const SIZE: usize = 3 << 20;
    let target = echo().await;
    let scene = Scene::before(&target).await;
    let client = scene.client().await;
    let body: Bytes = (0..SIZE).map(|place| (place % 251) as u8).collect();

    let mut uploads = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut sender, body) = (client.sender.clone(), body.clone());
        uploads.spawn(async move {
            let response = sender.send_request(request("POST", "/", Content::whole(body.clone())));
            let back = read(soon("an answer", response).await.unwrap().into_body()).await;
            assert!(back.unwrap() == body, "other bytes came back");
        });
    }

    while let Some(upload) = uploads.join_next().await {
        upload.unwrap();
    }
}

/// How much more than windows and buffers hold may be on its way: loopback sockets take some MiB on each side.
const IN_FLIGHT_MAX: usize = 24 << 20;
const LARGE: usize = 64 << 20;
/// Nothing moves for so long: nothing will.
const STILL: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_target_that_does_not_read_stops_the_client() {
    let read_on = Arc::new(tokio::sync::Notify::new());
    let reads = Arc::clone(&read_on);
    let target = Target::playing(move |_, mut client: Conversation| {
        let reads = Arc::clone(&reads);
        async move {
            reads.notified().await;
            client.body(LARGE).await;
            client.answer("all").await;
            Some(client)
        }
    })
    .await;
    let scene = Scene::before(&target).await;
    let (pieces, content) = Content::pieces();
    let mut upload = request("PUT", "/", content);
    upload
        .headers_mut()
        .insert("content-length", HeaderValue::from(LARGE));
    let client = scene.client().await;
    let mut sender = client.sender.clone();
    let answer = tokio::spawn(async move { sender.send_request(upload).await });

    let chunk = Bytes::from(vec![b'a'; 64 << 10]);
    let mut taken = 0;
    while let Ok(sent) = tokio::time::timeout(STILL, pieces.send(Frame::data(chunk.clone()))).await
    {
        sent.unwrap();
        taken += chunk.len();
        assert!(
            taken < IN_FLIGHT_MAX,
            "{taken} bytes were taken and nobody read one"
        );
    }
    read_on.notify_one();
    while taken < LARGE {
        soon(
            "the upload goes on",
            pieces.send(Frame::data(chunk.clone())),
        )
        .await
        .unwrap();
        taken += chunk.len();
    }
    drop(pieces);

    let response = soon("an answer", answer).await.unwrap().unwrap();
    assert_eq!(read(response.into_body()).await.unwrap(), b"all");
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_target() {
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let target = Target::playing(move |_, mut client: Conversation| {
        let written = Arc::clone(&counter);
        async move {
            client
                .say(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"
                ))
                .await;
            let chunk = vec![b'a'; 64 << 10];
            while written.load(Ordering::Relaxed) < LARGE {
                let left = LARGE - written.load(Ordering::Relaxed);
                let count = client.write(&chunk[..chunk.len().min(left)]).await.ok()?;
                written.fetch_add(count, Ordering::Relaxed);
            }
            Some(client)
        }
    })
    .await;
    let scene = Scene::before(&target).await;
    let client = scene.client().await;

    let response = client.send("GET", "/", Content::none()).await.unwrap();
    let mut before = 0;
    loop {
        tokio::time::sleep(STILL).await;
        let now = written.load(Ordering::Relaxed);
        assert!(
            now < IN_FLIGHT_MAX,
            "the target wrote {now} bytes and nobody read one"
        );
        if now == before && now > 0 {
            break;
        }
        before = now;
    }

    let mut body = response.into_body();
    let mut received = 0;
    while let Some(frame) = soon("the download goes on", piece(&mut body)).await {
        received += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    assert_eq!(received, LARGE);
}

#[tokio::test]
async fn a_hundred_streams_are_in_progress_at_once() {
    let together = Arc::new(Barrier::new(100));
    let target = Target::playing(move |head: String, mut client: Conversation| {
        let together = Arc::clone(&together);
        async move {
            together.wait().await;
            client.answer(head.split(' ').nth(1).unwrap()).await;
            Some(client)
        }
    })
    .await;
    let scene = Scene::before(&target).await;
    let client = scene.client().await;

    let mut streams = tokio::task::JoinSet::new();
    for number in 0..100 {
        let mut sender = client.sender.clone();
        streams.spawn(async move {
            let path = format!("/{number}");
            let response = sender.send_request(request("GET", &path, Content::none()));
            let body = read(soon("an answer", response).await.unwrap().into_body()).await;
            assert_eq!(body.unwrap(), path.as_bytes());
        });
    }

    while let Some(stream) = streams.join_next().await {
        stream.unwrap();
    }
    assert_eq!(target.open(), 100);
}

#[tokio::test]
async fn names_reach_the_target_in_lower_case_but_those_of_alb() {
    let target = echo().await;
    let scene = Scene::before(&target).await;
    let client = scene.client().await;
    let mut request = request("GET", "/", Content::none());
    let headers = request.headers_mut();
    headers.insert("x-custom", HeaderValue::from_static("1"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    headers.insert("x-forwarded-for", HeaderValue::from_static("1.2.3.4"));
    // RFC 9113 §8.2.3: crumbs of one cookie.
    headers.append("cookie", HeaderValue::from_static("a=1"));
    headers.append("cookie", HeaderValue::from_static("b=2"));

    client.send_request(request).await.unwrap();

    let head = target.last_request();
    let port = scene.running.listeners()[0].port();
    let trace = header(&head, "x-amzn-trace-id").unwrap();
    let mut lines: Vec<&str> = head.lines().skip(1).collect();
    lines.sort_unstable();
    let expected = [
        format!("Host: web.example:{port}"),
        format!("X-Amzn-Trace-Id: {trace}"),
        "X-Forwarded-For: 1.2.3.4, 127.0.0.1".into(),
        format!("X-Forwarded-Port: {port}"),
        "X-Forwarded-Proto: https".into(),
        "cookie: a=1; b=2".into(),
        "x-custom: 1".into(),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn two_opinions_about_the_host_are_refused() {
    let target = echo().await;
    let scene = Scene::before(&target).await;
    let client = scene.client().await;
    let with_host = |method: &str, host: &'static str| {
        let mut request = request(method, "/", Content::none());
        request
            .headers_mut()
            .insert("host", HeaderValue::from_static(host));
        request
    };

    let same = client
        .send_request(with_host("GET", "WEB.example"))
        .await
        .unwrap();
    assert_eq!(same.status(), 200);
    let other = client
        .send_request(with_host("GET", "evil.example"))
        .await
        .unwrap();
    assert_eq!(other.status(), 400);
    let head = client
        .send_request(with_host("HEAD", "evil.example"))
        .await
        .unwrap();
    assert_eq!(head.status(), 400);
    assert_eq!(read(head.into_body()).await.unwrap(), b"");
    assert_eq!(target.requests(), 1);
}

#[tokio::test]
async fn trailers_end_here() {
    let target = Target::playing(async |head: String, mut client: Conversation| {
        assert_eq!(body_of(&head, &mut client).await, b"hello");
        client
            .say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")
            .await;
        Some(client)
    })
    .await;
    let scene = Scene::before(&target).await;
    let client = scene.client().await;
    let (pieces, content) = Content::pieces();
    let mut sender = client.sender.clone();
    let answer =
        tokio::spawn(async move { sender.send_request(request("POST", "/", content)).await });

    pieces.send(Frame::data("hello".into())).await.unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-forwarded-for", HeaderValue::from_static("6.6.6.6"));
    pieces.send(Frame::trailers(trailers)).await.unwrap();
    drop(pieces);

    let response = soon("an answer", answer).await.unwrap().unwrap();
    let mut body = response.into_body();
    let first = piece(&mut body).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "abc");
    while let Some(frame) = piece(&mut body).await {
        let more = frame.unwrap().into_data();
        assert_eq!(more.expect("no trailers reach a client"), "");
    }
    assert_eq!(
        header(&target.last_request(), "x-forwarded-for"),
        Some("127.0.0.1")
    );
}

#[tokio::test]
async fn headers_of_the_target_s_connection_stay_there() {
    let target = saying(
        "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
         Upgrade: h2c\r\nTransfer-Encoding: chunked\r\nServer: mine\r\n\r\n0\r\n\r\n",
    )
    .await;
    let scene = Scene::before(&target).await;

    let response = scene
        .client()
        .await
        .send("GET", "/", Content::none())
        .await
        .unwrap();

    let mut names: Vec<_> = response
        .headers()
        .keys()
        .map(|name| name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["date", "server"]);
}

#[tokio::test]
async fn a_stream_that_is_reset_closes_its_target_connection() {
    let target = Target::playing(async |_, mut client: Conversation| {
        client
            .say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!")
            .await;
        client.end().await;
        None
    })
    .await;
    let scene = Scene::before(&target).await;
    let client = scene.client().await;

    let response = client.send("GET", "/", Content::none()).await.unwrap();
    assert_eq!(target.open(), 1);
    assert_eq!(outstanding(&scene.running), 1);
    drop(response);

    until("the target is left", || target.open() == 0).await;
    until("nothing is outstanding", || {
        outstanding(&scene.running) == 0
    })
    .await;
    assert!(
        !client.connection.is_finished(),
        "the other streams live on"
    );
}

pub(crate) fn outstanding(running: &Running) -> u32 {
    crate::scene::target_status(running, "web", 0).outstanding_requests
}

#[tokio::test]
async fn failures_are_answered_and_the_connection_lives_on() {
    let target = Target::playing(async |head: String, mut client: Conversation| {
        match head.split(' ').nth(1).unwrap() {
            "/closes" => None,
            "/nonsense" => {
                client.say("SSH-2.0-OpenSSH\r\n\r\n").await;
                None
            }
            "/silent" => {
                client.end().await;
                None
            }
            _ => {
                client.answer("fine").await;
                Some(client)
            }
        }
    })
    .await;
    let scene = Scene::with(&target, |config| {
        config.load_balancer.idle_timeout = Duration::from_millis(600);
        config.target_groups.push(group("nobody", &[]));
        let mut nobody = https("nobody", &[]);
        nobody.certificates = config.listeners[0].certificates.clone();
        config.listeners.push(nobody);
    })
    .await;
    let client = scene.client().await;
    let status = async |request| {
        client
            .send_request(request)
            .await
            .unwrap()
            .status()
            .as_u16()
    };

    let post = |path| request("POST", path, Content::whole("x"));
    assert_eq!(status(post("/closes")).await, 502);
    assert_eq!(status(post("/nonsense")).await, 502);
    assert_eq!(
        status(request("GET", "/silent", Content::none())).await,
        504
    );
    assert_eq!(status(request("TRACE", "/", Content::none())).await, 405);
    let mut far = request("GET", "/", Content::none());
    let addresses = vec!["10.0.0.1"; 31].join(", ");
    far.headers_mut()
        .insert("x-forwarded-for", addresses.parse().unwrap());
    assert_eq!(status(far).await, 463);
    assert_eq!(client.get("/").await, (200, "fine".into()));

    let nobody = http2(scene.running.listeners()[1], &scene.authority).await;
    let response = nobody.send("GET", "/", Content::none()).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["server"], "awselb/2.0");
    assert_eq!(response.headers().get("connection"), None);
    let page = read(response.into_body()).await.unwrap();
    assert!(page.starts_with(b"<html>\r\n<head><title>503 Service Temporarily Unavailable"));
    assert_eq!(nobody.get("/").await.0, 503);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_whole_answer() {
    let target = saying("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!").await;
    let scene = Scene::before(&target).await;

    // The reset may overtake the head.
    if let Ok(response) = scene.client().await.send("GET", "/", Content::none()).await {
        assert!(read(response.into_body()).await.is_err());
    }
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_is_heard() {
    let target =
        saying("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
    let scene = Scene::before(&target).await;
    let client = scene.client().await;
    let (pieces, content) = Content::pieces();

    pieces.send(Frame::data("begun".into())).await.unwrap();
    let response = client.send("POST", "/", content).await.unwrap();

    assert_eq!(response.status(), 403);
    assert_eq!(read(response.into_body()).await.unwrap(), b"no");
    assert_eq!(client.get("/").await.0, 403);
}

#[tokio::test]
async fn a_client_that_falls_silent_in_its_body_gets_a_408() {
    let target = Target::playing(async |_, mut client: Conversation| {
        client.end().await;
        None
    })
    .await;
    let scene = Scene::with(&target, |config| {
        config.load_balancer.idle_timeout = Duration::from_millis(300);
    })
    .await;
    let (pieces, content) = Content::pieces();

    pieces.send(Frame::data("begun".into())).await.unwrap();
    let response = scene
        .client()
        .await
        .send("POST", "/", content)
        .await
        .unwrap();

    assert_eq!(response.status(), 408);
    until("the target is left", || target.open() == 0).await;
}

#[tokio::test]
async fn a_response_nobody_takes_ends_after_the_idle_timeout() {
    let target = Target::playing(async |_, mut client: Conversation| {
        client
            .say(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"
            ))
            .await;
        while client.write(&[b'a'; 16 << 10]).await.is_ok() {}
        None
    })
    .await;
    let scene = Scene::with(&target, |config| {
        config.load_balancer.idle_timeout = Duration::from_millis(300);
    })
    .await;
    let client = scene.client().await;
    let response = client.send("GET", "/", Content::none()).await.unwrap();

    until("the target is left", || target.open() == 0).await;
    until("nothing is outstanding", || {
        outstanding(&scene.running) == 0
    })
    .await;
    assert!(read(response.into_body()).await.is_err());
}

#[tokio::test]
async fn an_answer_that_does_not_go_on_is_cut_off() {
    let target = Target::playing(async |_, mut client: Conversation| {
        client
            .say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!")
            .await;
        client.end().await;
        None
    })
    .await;
    let scene = Scene::with(&target, |config| {
        config.load_balancer.idle_timeout = Duration::from_millis(300);
    })
    .await;
    let client = scene.client().await;
    let response = client.send("GET", "/", Content::none()).await.unwrap();

    let cut_off = soon("the end of the answer", read(response.into_body())).await;
    assert!(cut_off.is_err());
    until("the target is left", || target.open() == 0).await;
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go_and_closed() {
    let target = Target::named("web").await;
    let scene = Scene::with(&target, |config| {
        config.load_balancer.idle_timeout = Duration::from_millis(300);
    })
    .await;
    let mut frames = scene.frames().await;

    frames.get(1).await;
    frames.until(HEADERS, 1).await;

    assert_eq!(frames.goaway().await, NO_ERROR);
    frames.end().await;
    until("the connection is gone", || {
        scene.running.status().listeners[0].connections == 0
    })
    .await;
}

#[tokio::test]
async fn answers_that_wait_for_nobody_keep_their_connection_in_use() {
    let target = Target::named("web").await;
    let scene = Scene::with(&target, |config| {
        config.target_groups[0].targets.clear();
        config.load_balancer.idle_timeout = Duration::from_millis(500);
    })
    .await;
    let mut frames = scene.frames().await;

    for number in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        frames.get(2 * number + 1).await;
        loop {
            let frame = frames.next().await.expect("a frame before the end");
            assert!(frame.kind != GOAWAY, "told to go at request {number}");
            if frame.flags & END_STREAM != 0 && frame.stream == 2 * number + 1 {
                break;
            }
        }
    }

    assert_eq!(target.requests(), 0);
    assert_eq!(frames.goaway().await, NO_ERROR);
}

#[tokio::test]
async fn an_idle_timeout_that_changes_holds_for_open_connections() {
    let target = Target::named("web").await;
    let mut wanted = None;
    let scene = Scene::with(&target, |config| wanted = Some(config.clone())).await;
    let mut frames = scene.frames().await;
    frames.get(1).await;
    frames.until(HEADERS, 1).await;

    let mut wanted = wanted.unwrap();
    wanted.load_balancer.idle_timeout = Duration::from_millis(300);
    scene.running.apply(wanted).await.unwrap();
    frames.get(3).await;
    frames.until(HEADERS, 3).await;

    assert_eq!(frames.goaway().await, NO_ERROR);
    frames.end().await;
}

#[tokio::test]
async fn a_connection_past_its_time_answers_once_more_and_goes() {
    let target = Target::named("web").await;
    let scene = Scene::with(&target, |config| {
        config.load_balancer.client_keep_alive = Duration::from_millis(150);
    })
    .await;
    let mut frames = scene.frames().await;

    frames.get(1).await;
    frames.until(HEADERS, 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    frames.get(3).await;

    let mut seen = (false, false);
    while let Some(frame) = frames.next().await {
        seen.0 |= frame.kind == HEADERS && frame.stream == 3;
        seen.1 |= frame.kind == GOAWAY;
    }
    assert_eq!(seen, (true, true), "an answer and a GOAWAY");
}

#[tokio::test]
async fn a_drain_says_goaway_and_finishes_what_is_in_flight() {
    let go_on = Arc::new(tokio::sync::Notify::new());
    let gate = Arc::clone(&go_on);
    let target = Target::playing(move |_, mut client: Conversation| {
        let gate = Arc::clone(&gate);
        async move {
            client
                .say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!")
                .await;
            gate.notified().await;
            client.say("five.").await;
            Some(client)
        }
    })
    .await;
    let scene = Scene::before(&target).await;
    let mut frames = scene.frames().await;
    let mut idle = scene.frames().await;
    frames.get(1).await;
    frames.until(DATA, 1).await;

    let shutdown = tokio::spawn(scene.running.shutdown());

    assert_eq!(idle.goaway().await, NO_ERROR);
    idle.end().await;
    assert_eq!(frames.goaway().await, NO_ERROR);
    assert!(!shutdown.is_finished());
    go_on.notify_one();
    let rest = frames.until(DATA, 1).await;
    assert_eq!(rest.payload, b"five.");
    frames.end().await;
    soon("the load balancer is down", shutdown).await.unwrap();
}

#[tokio::test]
async fn a_length_that_its_data_do_not_keep_is_a_stream_error() {
    let target = echo().await;
    let scene = Scene::before(&target).await;
    let mut frames = scene.frames().await;

    frames.head(1, 0, &[("content-length", "10")]).await;
    frames.send(DATA, END_STREAM, 1, b"short").await;

    frames.until(RST_STREAM, 1).await;
    until("the target is left", || target.open() == 0).await;
    frames.get(3).await;
    frames.until(HEADERS, 3).await;
}

#[tokio::test]
async fn what_http2_forbids_never_reaches_a_target() {
    let target = echo().await;
    let scene = Scene::before(&target).await;
    let forbidden = [
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("X-Upper", "1"),
        ("x space", "1"),
        ("x-value", "a\r\nb: c"),
        ("x-value", "a\0b"),
        ("x-value", " a"),
        ("x-value", "a\t"),
        (":path", "/twice"),
        (":unknown", "1"),
        ("", "1"),
    ];
    for (name, value) in forbidden {
        let mut frames = scene.frames().await;
        frames.head(1, END_STREAM, &[(name, value)]).await;
        frames.refused(1).await;
    }
    assert_eq!(target.requests(), 0);
}

#[tokio::test]
async fn targets_and_hosts_that_http1_would_refuse_are_refused() {
    let target = echo().await;
    let scene = Scene::before(&target).await;
    for (path, authority) in [
        ("?query", "web.example"),
        ("*", "web.example"),
        ("path", "web.example"),
        ("http://evil.example/", "web.example"),
        ("/", "user@web.example"),
        ("/", "web.example:port"),
        ("/", "[web]"),
    ] {
        let mut frames = scene.frames().await;
        let block = literals([
            (":method", "GET"),
            (":scheme", "https"),
            (":path", path),
            (":authority", authority),
        ]);
        frames
            .send(HEADERS, END_STREAM | END_HEADERS, 1, &block)
            .await;
        frames.refused(1).await;
    }
    // Without `:authority`, Host says it all (RFC 9113 §8.3.1).
    for hosts in [&["a b"][..], &["a/b"], &["web.example", "evil.example"]] {
        let mut frames = scene.frames().await;
        let pseudo = [(":method", "GET"), (":scheme", "https"), (":path", "/")];
        let hosts = hosts.iter().map(|host| ("host", *host));
        let block = literals(pseudo.into_iter().chain(hosts));
        frames
            .send(HEADERS, END_STREAM | END_HEADERS, 1, &block)
            .await;
        frames.refused(1).await;
    }
    assert_eq!(target.requests(), 0);
}

#[tokio::test]
async fn floods_end_their_own_connection_and_harm_no_other() {
    let target = fine_or_silent().await;
    let scene = Scene::before(&target).await;
    let other = scene.client().await;

    // CVE-2023-44487: opened and reset at once, again and again.
    let mut resets = scene.frames().await;
    for round in 0..20_000u32 {
        let stream = 2 * round + 1;
        let sent = resets.try_head(stream, END_STREAM).await;
        if sent.is_err()
            || resets
                .try_send(RST_STREAM, 0, stream, &8u32.to_be_bytes())
                .await
                .is_err()
        {
            break;
        }
    }
    resets.end().await;

    // CVE-2024-27316: a head that never ends.
    let mut endless = scene.frames().await;
    endless.send(HEADERS, 0, 1, &minimal("GET", "/")).await;
    for _ in 0..20_000 {
        let field = literal("x-filler", &"a".repeat(100)).repeat(100);
        if endless.try_send(CONTINUATION, 0, 1, &field).await.is_err() {
            break;
        }
    }
    endless.end().await;

    // CVE-2025-8671: errors that make the server reset.
    let mut made = scene.frames().await;
    for round in 0..20_000u32 {
        let stream = 2 * round + 1;
        let sent = made.try_head(stream, END_STREAM).await;
        if sent.is_err()
            || made
                .try_send(WINDOW_UPDATE, 0, stream, &[0; 4])
                .await
                .is_err()
        {
            break;
        }
    }
    made.end().await;

    assert_eq!(other.get("/fine").await, (200, "fine".into()));
    until("the target is left by the others", || target.open() <= 1).await;
}

// HTTP/2 as frames (RFC 9113 §6), for what no well-behaved client says.

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const NO_ERROR: u32 = 0;

/// How a client begins (RFC 9113 §3.4), before its SETTINGS.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) struct Frames(TlsStream<TcpStream>);

#[derive(Debug)]
pub(crate) struct RawFrame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frames {
    pub(crate) async fn open(address: std::net::SocketAddr, authority: &Authority) -> Self {
        Self::open_with(address, authority, &[]).await
    }

    /// Opens with these SETTINGS (RFC 9113 §6.5.1).
    async fn open_with(
        address: std::net::SocketAddr,
        authority: &Authority,
        settings: &[(u16, u32)],
    ) -> Self {
        let mut frames = Self::silent(address, authority).await;
        frames.write(PREFACE).await.unwrap();
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        frames.send(SETTINGS, 0, 0, &settings).await;
        frames
    }

    /// A connection on which nothing of HTTP/2 was said.
    async fn silent(address: std::net::SocketAddr, authority: &Authority) -> Self {
        let client = Arc::new(authority.client(&["h2"]));
        Self(connect(address, &client, "web.example").await.unwrap())
    }

    pub(crate) async fn get(&mut self, stream: u32) {
        self.head(stream, END_STREAM, &[]).await;
    }

    /// A request for `/` with these headers besides.
    pub(crate) async fn head(&mut self, stream: u32, flags: u8, headers: &[(&str, &str)]) {
        let mut block = minimal(if flags == END_STREAM { "GET" } else { "POST" }, "/");
        block.extend(literals(headers.iter().copied()));
        self.send(HEADERS, flags | END_HEADERS, stream, &block)
            .await;
    }

    pub(crate) async fn try_head(&mut self, stream: u32, flags: u8) -> io::Result<()> {
        self.try_send(HEADERS, flags | END_HEADERS, stream, &minimal("GET", "/"))
            .await
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.try_send(kind, flags, stream, payload).await.unwrap();
    }

    pub(crate) async fn try_send(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> io::Result<()> {
        self.write(&frame(kind, flags, stream, payload)).await
    }

    /// Sends frames in one piece.
    pub(crate) async fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        self.0.write_all(frames).await?;
        self.0.flush().await
    }

    /// The next frame; `None` at the end. What the protocol wants answered is answered.
    pub(crate) async fn next(&mut self) -> Option<RawFrame> {
        loop {
            let frame = soon("a frame or the end", self.read()).await.ok()?;
            match frame.kind {
                SETTINGS | PING if frame.flags & ACK == 0 => {
                    let payload = if frame.kind == PING {
                        &frame.payload[..]
                    } else {
                        &[]
                    };
                    drop(self.try_send(frame.kind, ACK, 0, payload).await);
                }
                _ => return Some(frame),
            }
        }
    }

    /// The next frame whatever it is.
    pub(crate) async fn read(&mut self) -> io::Result<RawFrame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await?;
        Ok(RawFrame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        })
    }

    /// The next frame of this kind on this stream.
    pub(crate) async fn until(&mut self, kind: u8, stream: u32) -> RawFrame {
        loop {
            let frame = self.next().await.expect("a frame before the end");
            if frame.kind == kind && frame.stream == stream {
                return frame;
            }
        }
    }

    /// Waits for GOAWAY and gives its error.
    pub(crate) async fn goaway(&mut self) -> u32 {
        let frame = self.until(GOAWAY, 0).await;
        u32::from_be_bytes(frame.payload[4..8].try_into().unwrap())
    }

    /// Waits for this stream or the whole connection to be refused: by a reset, a GOAWAY or a 400.
    pub(crate) async fn refused(&mut self, stream: u32) {
        while let Some(frame) = self.next().await {
            match frame.kind {
                RST_STREAM | GOAWAY => return,
                // Static table entry 12 is `:status: 400` (RFC 7541, appendix A).
                HEADERS if frame.stream == stream => {
                    assert_eq!(frame.payload[0], 0x80 | 12, "only a 400 will do");
                    return;
                }
                _ => {}
            }
        }
    }

    /// Waits for the connection's end.
    pub(crate) async fn end(&mut self) {
        while self.next().await.is_some() {}
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field that no table remembers (RFC 7541 §6.2.2).
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    [&[0], &*string(name), &*string(value)].concat()
}

/// A string as it stands, behind its length in seven bits and more (RFC 7541 §5.1, §5.2).
fn string(text: &str) -> Vec<u8> {
    const PREFIX: usize = 0x7f;
    let mut string = vec![text.len().min(PREFIX) as u8];
    if text.len() >= PREFIX {
        let mut left = text.len() - PREFIX;
        while left >= 0x80 {
            string.push(left as u8 | 0x80);
            left >>= 7;
        }
        string.push(left as u8);
    }
    string.extend(text.as_bytes());
    string
}

/// Such fields, one behind the other.
pub(crate) fn literals<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let fields = fields.into_iter();
    fields
        .flat_map(|(name, value)| literal(name, value))
        .collect()
}

/// A request's pseudo-headers.
pub(crate) fn minimal(method: &str, path: &str) -> Vec<u8> {
    literals([
        (":method", method),
        (":scheme", "https"),
        (":path", path),
        (":authority", "web.example"),
    ])
}

/// Asks for a WebSocket by extended CONNECT; gives the answer.
async fn ask_for_a_websocket(client: &Http2) -> http::Response<hyper::body::Incoming> {
    // The server's settings, which allow the question, come before its first answer.
    client.get("/settings").await;
    let mut question = request("CONNECT", "/socket", Content::none());
    question
        .extensions_mut()
        .insert(Protocol::from_static("websocket"));
    let headers = question.headers_mut();
    headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
    headers.insert("sec-websocket-protocol", HeaderValue::from_static("chat"));
    client.send_request(question).await.unwrap()
}

/// The answer by which a target agrees (RFC 6455 §4.2.2).
pub(crate) fn agreement(head: &str) -> String {
    let key = header(head, "sec-websocket-key").unwrap();
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        text.as_bytes(),
    );
    let accept = BASE64_STANDARD.encode(digest);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )
}

/// A target that agrees to WebSockets and then sends back what it gets, to the end; it answers anything else.
async fn echoing() -> Target {
    Target::playing(|head, mut client| async move {
        if header(&head, "upgrade").is_none() {
            client.answer("no socket").await;
            return Some(client);
        }
        client.say(agreement(&head)).await;
        loop {
            let piece = client.piece().await;
            if piece.is_empty() {
                return None;
            }
            client.say(piece).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_websocket_over_http2_is_asked_for_as_http1_knows_it() {
    let target = echoing().await;
    let scene = Scene::before(&target).await;
    let client = scene.client().await;
    let answer = ask_for_a_websocket(&client).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!answer.headers().contains_key(name), "{name}");
    }
    let asked = target.last_request();
    assert!(asked.starts_with("GET /socket HTTP/1.1\r\n"), "{asked}");
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        (
            "host",
            &*format!("web.example:{}", scene.running.listeners()[0].port()),
        ),
    ] {
        assert_eq!(header(&asked, name), Some(value));
    }
}

#[tokio::test]
async fn bytes_of_a_websocket_over_http2_go_both_ways_beside_other_streams() {
    let target = echoing().await;
    let scene = Scene::before(&target).await;
    let client = scene.client().await;
    let answer = ask_for_a_websocket(&client).await;
    let stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    let (mut reading, mut writing) = tokio::io::split(stream);
    let anything: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    let sending = async {
        writing.write_all(&anything).await.unwrap();
        assert_eq!(client.get("/beside").await.1, "no socket");
        writing.shutdown().await.unwrap();
    };
    let mut came = Vec::new();
    let receiving = reading.read_to_end(&mut came);
    let ((), received) = soon("all comes back", async { tokio::join!(sending, receiving) }).await;
    received.unwrap();
    assert!(came == anything);
    until("the target's connection ends", || target.open() <= 1).await;
}

#[tokio::test]
async fn a_websocket_over_http2_is_refused_by_any_answer_but_the_right_one() {
    let target = Target::playing(|head, mut client| async move {
        let answer = match header(&head, "sec-websocket-key") {
            None => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
            Some(_) => {
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: c29tZXRoaW5nIGVsc2U=\r\n\r\n"
                    .to_owned()
            }
        };
        client.say(answer).await;
        Some(client)
    })
    .await;
    let scene = Scene::before(&target).await;
    let answer = ask_for_a_websocket(&scene.client().await).await;
    assert_eq!(answer.status(), 502);

    let target = Target::named("not a socket").await;
    let scene = Scene::before(&target).await;
    let answer = ask_for_a_websocket(&scene.client().await).await;
    assert_eq!(answer.status(), 502, "a success would open a tunnel");

    let target = Target::playing(|head, mut client| async move {
        let status = match header(&head, "upgrade") {
            None => "200 OK",
            Some(_) => "403 Forbidden",
        };
        client
            .say(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno"))
            .await;
        Some(client)
    })
    .await;
    let scene = Scene::before(&target).await;
    let answer = ask_for_a_websocket(&scene.client().await).await;
    assert_eq!(answer.status(), 403);
    assert_eq!(read(answer.into_body()).await.unwrap(), b"no");
}

#[tokio::test]
async fn a_websocket_over_http2_lives_as_long_as_either_side_speaks() {
    let ticks = 8;
    let target = Target::playing(move |head, mut client| async move {
        if header(&head, "upgrade").is_none() {
            client.answer("no socket").await;
            return Some(client);
        }
        client.say(agreement(&head)).await;
        client.body(ticks * 4).await;
        client.say("thanks").await;
        client.end().await;
        None
    })
    .await;
    let idle = Duration::from_secs(1);
    let scene = Scene::with(&target, |config| config.load_balancer.idle_timeout = idle).await;
    let client = scene.client().await;
    let answer = ask_for_a_websocket(&client).await;
    let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    // The target says nothing for longer than any other stream may be silent.
    for _ in 0..ticks {
        tokio::time::sleep(idle / 2).await;
        stream.write_all(b"tick").await.unwrap();
    }
    let mut came = Vec::new();
    let ended = soon("the end of a silent tunnel", stream.read_to_end(&mut came));
    let ended = ended.await;
    assert_eq!(String::from_utf8(came).unwrap(), "thanks", "{ended:?}");
}
