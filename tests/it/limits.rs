//! What one client, and all of them, may take: what happens above each limit, and that nobody else notices.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use albedo::model::{AdminAddress, BodyRate, Limits, RequestRate};
use http_body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM, Scene,
    WINDOW_UPDATE, frame, minimal,
};
use crate::scene::{
    Authority, Content, Conversation, config, group, header, http2, https, soon, start, until,
};
use crate::support::{Client, LoadBalancer, Target, eventually, ok};

const ENHANCE_YOUR_CALM: u32 = 11;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Answers everything itself, so that limits are all that is looked at.
const HELLO: &str = "{ priority: 1, conditions: [ { path_pattern: [ \"/*\" ] } ], actions: [ { fixed_response: { status_code: 200, message_body: hello } } ] }";

async fn limited(change: impl FnOnce(&mut Limits)) -> LoadBalancer {
    LoadBalancer::with_rules(&[], HELLO, |config| change(&mut config.limits)).await
}

fn count(count: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(count)
}

fn rate(per_second: u32, burst: u32) -> Option<RequestRate> {
    let (per_second, burst) = (count(per_second)?, count(burst)?);
    Some(RequestRate { per_second, burst })
}

async fn hello(client: &mut Client) {
    client.send(GET).await;
    assert_eq!(client.response().await.text(), "hello");
}

async fn reached(balancer: &LoadBalancer, limit: &str) -> u64 {
    let label = format!("limit=\"{limit}\"");
    let counted = balancer.metric("albedo_limited_total", &label).await;
    counted.parse().unwrap()
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_the_others_go_on() {
    let balancer = limited(|limits| limits.connections = count(2)).await;
    let mut first = balancer.client().await;
    hello(&mut first).await;
    let mut second = balancer.client().await;
    hello(&mut second).await;
    let mut third = balancer.client().await;
    assert_eq!(third.rest().await, "");
    assert_eq!(reached(&balancer, "connections").await, 1);
    // Whoever was turned away was no connection.
    let accepted = balancer.metric("albedo_connections_total", "").await;
    assert_eq!(accepted, "2");
    hello(&mut first).await;

    // One leaves, and the next may come in; until that is seen others may be turned away.
    drop(second);
    let connections = || balancer.status().listeners[0].connections;
    eventually("the second to be gone", || {
        (connections() == 1).then_some(())
    })
    .await;
    hello(&mut balancer.client().await).await;
}

#[tokio::test]
async fn connections_of_one_client_have_a_limit_of_their_own() {
    let mut balancer = limited(|limits| limits.connections_per_client = count(1)).await;
    let mut first = balancer.client().await;
    hello(&mut first).await;
    let mut second = balancer.client().await;
    assert_eq!(second.rest().await, "");
    assert_eq!(reached(&balancer, "connections_per_client").await, 1);
    hello(&mut first).await;

    balancer
        .apply(|config| config.limits.connections_per_client = count(2))
        .await;
    hello(&mut balancer.client().await).await;
    hello(&mut first).await;
}

#[tokio::test]
async fn a_client_that_asks_too_often_gets_429_and_keeps_its_connection() {
    // A bucket that does not fill while the test runs.
    let balancer = limited(|limits| limits.requests_per_client = rate(1, 60)).await;
    let mut clients = [balancer.client().await, balancer.client().await];
    let (mut served, mut refused) = (0, 0);
    for turn in 0..200 {
        let client = &mut clients[turn % 2];
        client.send(GET).await;
        let response = client.response().await;
        match response.status() {
            200 => served += 1,
            429 => refused += 1,
            status => panic!("{status}"),
        }
        assert_eq!(response.header("Connection"), Some("keep-alive"));
    }
    // Its connections share a bucket; a second or so may pass meanwhile.
    assert!((60..100).contains(&served), "{served} served");
    assert_eq!(reached(&balancer, "requests_per_client").await, refused);
    // A new connection is no new client: it does not bring 60 more.
    let mut other = balancer.client().await;
    let mut more = 0;
    for _ in 0..100 {
        other.send(GET).await;
        more += usize::from(other.response().await.status() == 200);
    }
    assert!(more < 40, "{more} served");
}

#[tokio::test]
async fn a_request_that_may_be_misread_ends_its_connection_however_often_its_client_asks() {
    let balancer = limited(|limits| limits.requests_per_client = rate(1, 1)).await;
    hello(&mut balancer.client().await).await;
    // On a slow machine the bucket may have filled again, once.
    loop {
        let mut client = balancer.client().await;
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer--Encoding: chunked\r\n\r\n")
            .await;
        let response = client.response().await;
        assert_eq!(response.header("Connection"), Some("close"));
        assert_eq!(client.rest().await, "");
        if response.status() == 429 {
            break;
        }
    }
}

#[tokio::test]
async fn streams_of_http_2_are_requests_too() {
    let target = crate::http2::echo().await;
    let authority = Authority::new();
    let certificate = authority.sign(&["web.example"]);
    let mut config = config(
        [https("web", &[&certificate])],
        [group("web", &[target.address])],
    );
    config.limits.requests_per_client = rate(1, 5);
    let running = start(config).await;
    let client = http2(running.listeners()[0], &authority).await;
    let mut statuses = Vec::new();
    for _ in 0..60 {
        statuses.push(client.get("/").await.0);
    }
    assert_eq!(statuses[..5], [200; 5]);
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn a_head_that_does_not_end_gets_408() {
    let balancer = limited(|limits| limits.header_timeout = Duration::from_millis(200)).await;
    let mut slow = balancer.client().await;
    slow.send("GET / HTTP/1.1\r\nHost: a\r\nX: ").await;
    assert_eq!(slow.response().await.status(), 408);
    assert_eq!(slow.rest().await, "");
    assert_eq!(reached(&balancer, "header_timeout").await, 1);
}

#[tokio::test]
async fn a_byte_now_and_then_does_not_keep_a_head_open() {
    let balancer = limited(|limits| limits.header_timeout = Duration::from_millis(300)).await;
    let mut slow = balancer.client().await;
    slow.send("GET / HTTP/1.1\r\nHost: a\r\n").await;
    let mut beats = tokio::time::interval(Duration::from_millis(20));
    let response = loop {
        tokio::select! {
            response = slow.response() => break response,
            _ = beats.tick() => {}
        }
        slow.send("X: y\r\n").await;
    };
    assert_eq!(response.status(), 408);
}

#[tokio::test]
async fn handshakes_under_way_have_a_number() {
    let authority = Authority::new();
    let certificate = authority.sign(&["web.example"]);
    let mut config = config([https("web", &[&certificate])], [group("web", &[])]);
    config.limits.handshakes = count(1);
    let running = start(config).await;
    let address = running.listeners()[0];
    let connect = async || TcpStream::connect(address).await.unwrap();
    let tls = Arc::new(authority.client(&["h2"]));
    // Who says nothing is in nobody's way.
    let _silent = connect().await;
    crate::scene::connect(address, &tls, "web.example")
        .await
        .unwrap();
    // Nor who says little, were it the start of TLS.
    let mut little = connect().await;
    little.write_all(b"\x16\x03\x01").await.unwrap();
    for _ in 0..5 {
        crate::scene::connect(address, &tls, "web.example")
            .await
            .unwrap();
    }
    let mut halfway = connect().await;
    halfway.write_all(&hello_of(&tls)).await.unwrap();
    // Seen by the listener a little later, and its end too.
    let come_to = async |end: fn(&io::Result<_>) -> bool| loop {
        let handshake = crate::scene::connect(address, &tls, "web.example").await;
        if end(&handshake) {
            return;
        }
    };
    soon("handshakes are refused", come_to(Result::is_err)).await;
    drop(halfway);
    soon("handshakes go on", come_to(Result::is_ok)).await;
}

/// The first bytes of a client.
fn hello_of(tls: &Arc<rustls::ClientConfig>) -> Vec<u8> {
    let name = "web.example".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::clone(tls), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_makes_room() {
    let authority = Authority::new();
    let certificate = authority.sign(&["web.example"]);
    let mut config = config([https("web", &[&certificate])], [group("web", &[])]);
    config.limits.handshakes = count(2);
    config.limits.handshake_timeout = Duration::from_secs(600);
    let running = start(config).await;
    let address = running.listeners()[0];
    let tls = Arc::new(authority.client(&["h2"]));
    let mut halfway = Vec::new();
    for _ in 0..2 {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(&hello_of(&tls)).await.unwrap();
        // The listener's answer: the handshake has begun.
        soon("an answer", tcp.read(&mut [0; 1])).await.unwrap();
        halfway.push(tcp);
    }
    soon("others come in", async {
        while crate::scene::connect(address, &tls, "web.example")
            .await
            .is_err()
        {}
    })
    .await;
    let mut rest = Vec::new();
    let _end = soon("the oldest is gone", halfway[0].read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn a_limit_that_comes_with_a_change_reaches_who_is_there() {
    let mut balancer = limited(|_| {}).await;
    let mut early = balancer.client().await;
    hello(&mut early).await;
    balancer
        .apply(|config| {
            config.limits.connections_per_client = count(1);
            config.limits.requests_per_client = rate(1, 5);
        })
        .await;
    soon("it asks too often", async {
        loop {
            early.send(GET).await;
            match early.response().await.status() {
                200 => {}
                429 => break,
                status => panic!("{status}"),
            }
        }
    })
    .await;
    assert_eq!(balancer.client().await.rest().await, "");
}

#[tokio::test]
async fn a_handshake_has_one_time_for_all_of_it() {
    let authority = Authority::new();
    let certificate = authority.sign(&["web.example"]);
    let mut config = config([https("web", &[&certificate])], [group("web", &[])]);
    config.limits.handshake_timeout = Duration::from_millis(300);
    let running = start(config).await;
    // Nothing, half a record's head, half a record.
    for said in [&b""[..], b"\x16\x03", b"\x16\x03\x01\x02\x00\x01"] {
        let address = running.listeners()[0];
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said).await.unwrap();
        let end = soon("the end", stream.read(&mut [0; 64])).await;
        // An alert at most.
        assert!(end.is_err() || end.unwrap() < 10, "{said:?}");
    }
}

/// Bytes that come one by one are far too few, and soon so.
fn strict(limits: &mut Limits) {
    limits.body_rate = Some(BodyRate {
        bytes_per_second: NonZeroU32::new(1000).unwrap(),
        grace: Duration::from_millis(200),
    });
}

/// Sends a byte now and then until `event` comes.
async fn drip<T>(
    client: &mut Client,
    piece: &str,
    mut event: impl AsyncFnMut(&mut Client) -> T,
) -> T {
    let mut beats = tokio::time::interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            event = event(client) => return event,
            _ = beats.tick() => {}
        }
        client.send(piece).await;
    }
}

#[tokio::test]
async fn a_body_that_drips_gets_408_and_its_target_connection_ends() {
    let target = Target::start().await;
    let change = |config: &mut albedo::model::Config| strict(&mut config.limits);
    let balancer = LoadBalancer::adjusted(&[target.address()], change).await;
    for (framing, piece) in [
        ("Content-Length: 1000000", "x"),
        ("Transfer-Encoding: chunked", "1\r\nx\r\n"),
    ] {
        let mut client = balancer.client().await;
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
        client.send(head).await;
        let mut served = target.accept().await;
        served.head().await;
        let response = drip(&mut client, piece, Client::response).await;
        assert_eq!(
            (response.status(), response.header("Connection")),
            (408, Some("close"))
        );
        assert!(!served.rest().await.contains("0\\r\\n\\r\\n"));
    }
    assert_eq!(reached(&balancer, "body_rate").await, 2);
    assert_eq!(reached(&balancer, "body_timeout").await, 0);
}

#[tokio::test]
async fn a_body_that_comes_late_but_whole_is_not_slow() {
    let target = Target::start().await;
    let change = |config: &mut albedo::model::Config| strict(&mut config.limits);
    let balancer = LoadBalancer::adjusted(&[target.address()], change).await;
    let mut client = balancer.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        .await;
    let mut served = target.accept().await;
    served.head().await;
    // Far more than five bytes and the grace pay for.
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.send("hello").await;
    assert_eq!(served.take(5).await, b"hello");
    served.send(ok("done")).await;
    assert_eq!(client.response().await.text(), "done");
}

#[tokio::test]
async fn a_body_is_in_no_hurry_once_its_answer_has_begun() {
    let target = Target::start().await;
    let change = |config: &mut albedo::model::Config| strict(&mut config.limits);
    let balancer = LoadBalancer::adjusted(&[target.address()], change).await;
    let mut client = balancer.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n")
        .await;
    let mut served = target.accept().await;
    served.head().await;
    served
        .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        .await;
    client.head().await;
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        client.send("x").await;
    }
    assert_eq!(served.take(40).await, [b'x'; 40]);
    served.send("done").await;
    assert_eq!(client.take(4).await, b"done");
}

#[tokio::test]
async fn a_body_that_waits_for_its_target_is_not_slow() {
    let target = Target::start().await;
    let change = |config: &mut albedo::model::Config| {
        strict(&mut config.limits);
        config.limits.body_rate.as_mut().unwrap().grace = Duration::from_millis(500);
    };
    let balancer = LoadBalancer::adjusted(&[target.address()], change).await;
    let mut client = balancer.client().await;
    // More than sockets take, and sent as fast as it is taken.
    const LENGTH: usize = 24 * 1024 * 1024;
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n");
    let body = vec![b'x'; LENGTH];
    let sending = async {
        client.send(head).await;
        client.send(&body).await;
    };
    let taking = async {
        let mut served = target.accept().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        served.head().await;
        served.take(LENGTH).await;
        served.send(ok("got it")).await;
        // Where the connection ends early, so does the other side.
        served
    };
    let ((), _served) = tokio::join!(sending, taking);
    assert_eq!(client.response().await.text(), "got it");
}

#[tokio::test]
async fn a_stream_whose_body_drips_gets_408() {
    let target = crate::http2::echo().await;
    let scene = Scene::with(&target, |config| strict(&mut config.limits)).await;
    let client = scene.client().await;
    let (pieces, content) = Content::pieces();
    let dripping = tokio::spawn(async move {
        while pieces.send(Frame::data("x".into())).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let response = client.send("POST", "/", content).await.unwrap();
    assert_eq!(response.status(), 408);
    until("the target is left", || target.open() == 0).await;
    // Others on the connection go on.
    assert_eq!(client.get("/").await.0, 200);
    dripping.abort();
}

#[tokio::test]
async fn a_stream_is_not_slow_while_another_takes_from_the_window_of_both() {
    const CHUNK: usize = 16 << 10;
    let target = crate::scene::Target::playing(async |head: String, mut client: Conversation| {
        match header(&head, "x-deaf") {
            Some(_) => std::future::pending().await,
            None if head.starts_with("POST ") => client.body(10).await,
            None => Vec::new(),
        };
        client.answer("got it").await;
        Some(client)
    })
    .await;
    let scene = Scene::with(&target, |config| strict(&mut config.limits)).await;
    let mut frames = scene.frames().await;
    frames.get(1).await;
    frames.until(HEADERS, 1).await;
    frames.head(3, 0, &[("x-deaf", "very")]).await;
    // Windows of the connection and of the stream, as long as they open.
    let mut windows = [1 << 20, 256 << 10];
    loop {
        while windows.iter().all(|&window| window >= CHUNK) {
            frames.send(DATA, 0, 3, &[b'a'; CHUNK]).await;
            windows = windows.map(|window| window - CHUNK);
        }
        match tokio::time::timeout(Duration::from_millis(300), frames.next()).await {
            Ok(frame) => {
                let frame = frame.expect("a frame before the end");
                if frame.kind == WINDOW_UPDATE {
                    let more = u32::from_be_bytes(frame.payload.try_into().unwrap());
                    windows[usize::from(frame.stream != 0)] += more as usize;
                }
            }
            Err(_) => break,
        }
    }

    frames.head(5, 0, &[("content-length", "10")]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    frames.send(DATA, 0, 5, b"hello").await;
    frames.send(DATA, END_STREAM, 5, b"hello").await;
    frames.until(HEADERS, 5).await;
    assert_eq!(frames.until(DATA, 5).await.payload, b"got it");
}

#[tokio::test]
async fn a_block_of_headers_that_does_not_end_ends_its_connection() {
    let target = crate::http2::echo().await;
    let scene = Scene::with(&target, |config| {
        config.limits.header_timeout = Duration::from_millis(300);
    })
    .await;
    // Settings are agreed on first: an acknowledgement in the middle of a block would be another fault.
    let open = async || {
        let mut frames = scene.frames().await;
        frames.get(1).await;
        frames.until(HEADERS, 1).await;
        frames
    };
    let block = minimal("GET", "/");
    let whole = frame(HEADERS, END_STREAM | END_HEADERS, 3, &block);
    // A frame that stops, a block that is to go on in another frame, and a byte now and then.
    let mut frames = open().await;
    frames.write(&whole[..20]).await.unwrap();
    assert_eq!(frames.goaway().await, ENHANCE_YOUR_CALM);
    frames.end().await;
    let mut frames = open().await;
    frames.send(HEADERS, END_STREAM, 3, &block).await;
    assert_eq!(frames.goaway().await, ENHANCE_YOUR_CALM);
    frames.end().await;
    let mut frames = open().await;
    let long = frame(HEADERS, END_STREAM | END_HEADERS, 3, &[0; 16_000]);
    let mut beats = tokio::time::interval(Duration::from_millis(20));
    let mut bytes = long.chunks(1);
    while frames
        .write(bytes.next().expect("it ends early"))
        .await
        .is_ok()
    {
        beats.tick().await;
    }
    frames.end().await;
    let AdminAddress::Tcp(admin) = scene.running.admin() else {
        panic!("not on TCP")
    };
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\n\r\n");
    let (_, metrics) = Conversation::to(*admin).await.ask(&request).await;
    let counted = metrics.contains("limit=\"header_timeout\"} 3\n");
    assert!(counted, "{metrics}");
}

#[tokio::test]
async fn blocks_of_headers_that_end_in_time_end_nothing() {
    let target = crate::http2::echo().await;
    let scene = Scene::with(&target, |config| {
        config.limits.header_timeout = Duration::from_millis(300);
    })
    .await;
    let mut frames = scene.frames().await;
    for stream in (1..).step_by(2).take(40) {
        let block = minimal("GET", "/");
        let (begun, rest) = block.split_at(7);
        let mut pieces = frame(HEADERS, END_STREAM, stream, begun);
        pieces.extend(frame(CONTINUATION, END_HEADERS, stream, rest));
        let (begun, rest) = pieces.split_at(30);
        frames.write(begun).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        frames.write(rest).await.unwrap();
        frames.until(HEADERS, stream).await;
    }
}

#[tokio::test]
async fn pings_do_not_keep_a_connection_in_use() {
    let target = crate::http2::echo().await;
    let scene = Scene::with(&target, |config| {
        config.load_balancer.idle_timeout = Duration::from_millis(400);
    })
    .await;
    let mut frames = scene.frames().await;
    frames.get(1).await;
    frames.until(HEADERS, 1).await;
    let mut beats = tokio::time::interval(Duration::from_millis(20));
    loop {
        frames.send(PING, 0, 0, &[7; 8]).await;
        // Its answers, and the word to go.
        let answered = loop {
            match frames.next().await.expect("a GOAWAY before the end") {
                frame if frame.kind == GOAWAY => break None,
                frame if frame.kind == PING => break Some(()),
                _ => {}
            }
        };
        match answered {
            None => break,
            Some(()) => beats.tick().await,
        };
    }
    frames.end().await;
}

#[tokio::test]
async fn who_resets_streams_faster_than_they_begin_is_told_to_calm_down_and_counted() {
    let target = crate::http2::echo().await;
    let authority = Authority::new();
    let certificate = authority.sign(&["web.example"]);
    let config = config(
        [https("web", &[&certificate])],
        [group("web", &[target.address])],
    );
    let running = start(config).await;
    let mut frames = Frames::open(running.listeners()[0], &authority).await;
    for turn in 0..100_000_u32 {
        let stream = 2 * turn + 1;
        let reset = 8_u32.to_be_bytes();
        if frames.try_head(stream, END_STREAM).await.is_err()
            || frames
                .try_send(RST_STREAM, 0, stream, &reset)
                .await
                .is_err()
        {
            break;
        }
    }
    frames.end().await;
    soon("it is counted", async {
        while !crate::reload::metrics(&running)
            .await
            .contains("limit=\"streams\"} 1")
        {}
    })
    .await;
}
