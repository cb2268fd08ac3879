//! D: slowness and mass, below and in HTTP/1.1.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lifecycle::{alone, resident_bytes};
use crate::scene::{Conversation, Target, soon, until};

use super::{FINE, Fort, echo};

#[tokio::test]
async fn d1_slow_heads_bodies_and_readers() {
    let target = Target::playing(async |head: String, mut client: Conversation| {
        if head.starts_with("GET /fine ") {
            client.answer("fine").await;
            return Some(client);
        }
        if head.starts_with("POST ") {
            // Waits for all of it.
            client.end().await;
            return None;
        }
        // As much as anybody takes.
        let piece = "x".repeat(64 * 1024);
        client
            .say("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
            .await;
        while client.write(piece.as_bytes()).await.is_ok() {}
        None
    })
    .await;
    let fort = Fort::with(target, |config| {
        config.load_balancer.idle_timeout = Duration::from_secs(1);
        config.limits.header_timeout = Duration::from_millis(500);
        config.limits.body_rate.as_mut().unwrap().grace = Duration::from_millis(500);
    })
    .await;
    for mut client in fort.doors().await {
        // A byte now and then.
        client.say("GET / HTTP/1.1\r\nHost: a\r\n").await;
        let mut beats = tokio::time::interval(Duration::from_millis(50));
        let heard = loop {
            tokio::select! {
                head = client.head() => break head,
                _ = beats.tick() => {}
            }
            client.say("X: y\r\n").await;
        };
        assert!(heard.unwrap().starts_with("HTTP/1.1 408 "));
    }
    for mut client in fort.doors().await {
        // A body that does not come.
        client
            .say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello")
            .await;
        soon("the end", async { while client.skim().await > 0 {} }).await;
    }
    for mut client in fort.doors().await {
        // One that does, a byte at a time.
        client
            .say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n")
            .await;
        let mut beats = tokio::time::interval(Duration::from_millis(200));
        let heard = loop {
            tokio::select! {
                head = client.head() => break head,
                _ = beats.tick() => {}
            }
            client.say("x").await;
        };
        assert!(heard.unwrap().starts_with("HTTP/1.1 408 "));
    }
    // Answers that nobody reads.
    let mut readers = fort.doors().await;
    for client in &mut readers {
        client.say("GET /long HTTP/1.1\r\nHost: a\r\n\r\n").await;
    }
    until("the target is left", || fort.target.open() == 0).await;
    fort.passes(FINE).await;
}

#[tokio::test]
async fn d2_who_goes_on_after_a_refusal_is_not_listened_to_for_long() {
    let fort = Fort::new().await;
    for beginning in [
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx",
    ] {
        let address = fort.running.listeners()[0];
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(beginning.as_bytes()).await.unwrap();
        // As much as it takes, which is not without end.
        let chunk = "5\r\nhello\r\n".repeat(1000);
        let mut sent = 0;
        soon("it takes no more", async {
            while tcp.write_all(chunk.as_bytes()).await.is_ok() {
                sent += chunk.len();
            }
        })
        .await;
        // What it reads away, and what lies in the sockets of a loopback connection.
        assert!(sent < 32 * 1024 * 1024, "{sent}");
    }
    fort.serves().await;
}

#[tokio::test]
async fn d3_headers_of_a_hostile_target() {
    let answers = [
        format!("Set-Cookie2: x\r\nSet-Cookie: {}", "a=b; ".repeat(1000)),
        "Set-Cookie: =\r\n".repeat(200) + "X: y",
        "Connection: close, close, Set-Cookie, Connection, X\r\nX: y".to_owned(),
        format!("Connection: {}", "x,".repeat(5_000)),
        "Location: \r\nRefresh: 0\r\nDate: \r\nServer:".to_owned(),
    ];
    for lines in answers {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{lines}\r\n\r\nok");
        let target = Target::playing(move |_, mut client: Conversation| {
            let answer = answer.clone();
            async move {
                client.say(answer).await;
                None
            }
        })
        .await;
        let fort = Fort::with(target, |_| {}).await;
        for mut client in fort.doors().await {
            let (head, body) = client.ask(FINE).await;
            assert!(
                head.starts_with("HTTP/1.1 200 ") && body == "ok",
                "{head:.200}"
            );
        }
        assert_eq!(fort.http2().await.get("/fine").await.0, 200);
    }
}

#[tokio::test]
async fn d3_heads_of_targets_have_an_end() {
    for lines in [
        "X: y\r\n".repeat(257),
        format!("X: {}\r\n", "y".repeat(17 * 1024)),
        format!("X: {}\r\n", "y".repeat(1000)).repeat(33),
    ] {
        let target = Target::playing(move |_, mut client: Conversation| {
            let lines = lines.clone();
            async move {
                client.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n").await;
                // Some go on for ever.
                while client.write(lines.as_bytes()).await.is_ok() {}
                None
            }
        })
        .await;
        let fort = Fort::with(target, |_| {}).await;
        for mut client in fort.doors().await {
            let (head, _) = client.ask(FINE).await;
            assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        }
        assert_eq!(fort.http2().await.get("/fine").await.0, 502);
        until("the target is left", || fort.target.open() == 0).await;
    }
}

#[tokio::test]
async fn d4_silence_before_and_in_a_handshake() {
    let fort = Fort::with(echo().await, |config| {
        config.limits.handshake_timeout = Duration::from_millis(500);
    })
    .await;
    let began = Instant::now();
    let mut stalled = Vec::new();
    for said in [
        &b""[..],
        b"\x16",
        b"\x16\x03\x01\x02\x00",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let mut tcp = TcpStream::connect(fort.running.listeners()[1])
            .await
            .unwrap();
        tcp.write_all(said).await.unwrap();
        stalled.push(tcp);
    }
    // Postgres asks whether there is TLS; this is no TLS, and is told so in clear.
    let mut postgres = TcpStream::connect(fort.running.listeners()[1])
        .await
        .unwrap();
    postgres
        .write_all(b"\0\0\0\x08\x04\xd2\x16\x2f")
        .await
        .unwrap();
    let mut heard = [0; 12];
    soon("an answer", postgres.read_exact(&mut heard))
        .await
        .unwrap();
    assert_eq!(&heard, b"HTTP/1.1 400");
    fort.serves().await;
    for mut tcp in stalled {
        soon("the end", tcp.read(&mut [0; 64])).await.unwrap_or(0);
    }
    assert!(began.elapsed() >= Duration::from_millis(400));
    let connections = || fort.running.status().listeners[1].connections;
    until("nobody is left", || connections() == 0).await;
}

#[tokio::test]
async fn d5_hellos_in_pieces_and_hellos_without_end() {
    let fort = Fort::new().await;
    // A hello of 16 MB, in records of which each is whole.
    for record in [
        [
            &b"\x16\x03\x01\x00\x04\x01\xff\xff\xff"[..],
            &b"\x16\x03\x01\x40\x00"[..],
        ],
        [
            &b"\x16\x03\x01\x00\x01\x01"[..],
            &b"\x16\x03\x01\x00\x01\xff"[..],
        ],
        [&b"\x16\x03\x01\xff\xff"[..], &b"\x16\x03\x01\x40\x00"[..]],
    ] {
        let mut tcp = TcpStream::connect(fort.running.listeners()[1])
            .await
            .unwrap();
        tcp.write_all(record[0]).await.unwrap();
        let mut rest = record[1].to_vec();
        if rest.len() == 5 {
            rest.extend([0xff; 0x4000]);
        }
        let mut sent = 0;
        soon("it takes no more", async {
            while tcp.write_all(&rest).await.is_ok() {
                sent += rest.len();
            }
        })
        .await;
        assert!(sent < 32 * 1024 * 1024, "{sent}");
    }
    fort.serves().await;
}

#[test]
fn d6_a_health_check_that_is_answered_without_end() {
    alone(
        "hostile::floods::d6_a_health_check_that_is_answered_without_end",
        async {
            let target = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = target.local_addr().unwrap();
            let endless = tokio::spawn(async move {
                loop {
                    let (mut tcp, _) = target.accept().await.unwrap();
                    tokio::spawn(async move {
                        let _ = tcp.read(&mut [0; 4096]).await;
                        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nX: ").await;
                        while tcp.write_all(&[b'x'; 4096]).await.is_ok() {}
                    });
                }
            });
            let mut web = crate::scene::group("web", &[address]);
            web.health_check.timeout = Duration::from_millis(300);
            let config = crate::scene::config([crate::scene::http("web")], [web]);
            let before = resident_bytes();
            let running = crate::scene::start(config).await;
            until("it is unhealthy", || {
                crate::scene::target_status(&running, "web", 0).state == "unhealthy"
            })
            .await;
            let grown = resident_bytes().saturating_sub(before);
            assert!(grown < 64 * 1024 * 1024, "{grown} bytes");
            endless.abort();
        },
    );
}

#[test]
fn d7_more_connections_than_descriptors() {
    alone(
        "hostile::floods::d7_more_connections_than_descriptors",
        async {
            let limit = getrlimit(Resource::Nofile);
            // The clients are in this process, too, and take half of what there is.
            let low = Rlimit {
                current: Some(1200),
                ..limit
            };
            // What an albedo of this limit keeps for itself is reckoned when it starts.
            setrlimit(
                Resource::Nofile,
                Rlimit {
                    current: Some(600),
                    ..limit
                },
            )
            .unwrap();
            let fort = Fort::new().await;
            setrlimit(Resource::Nofile, low).unwrap();
            let mut crowd = Vec::new();
            let mut turned_away = 0;
            for _ in 0..500 {
                let mut tcp = TcpStream::connect(fort.running.listeners()[0])
                    .await
                    .unwrap();
                tcp.write_all(b"G").await.unwrap();
                crowd.push(tcp);
            }
            for tcp in &mut crowd {
                let gone =
                    tokio::time::timeout(Duration::from_millis(2), tcp.read(&mut [0; 1])).await;
                turned_away += usize::from(gone.is_ok());
            }
            // 600 descriptors are room for 172.
            assert!(turned_away >= 100, "{turned_away}");
            let albedo::model::AdminAddress::Tcp(admin) = fort.running.admin() else {
                panic!("not on TCP")
            };
            let mut door = Conversation::to(*admin).await;
            let (head, _) = door
                .ask(&format!("GET /healthz HTTP/1.1\r\nHost: {admin}\r\n\r\n"))
                .await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            drop(crowd);
            let connections = || fort.running.status().listeners[0].connections;
            until("they have gone", || connections() == 0).await;
            setrlimit(Resource::Nofile, limit).unwrap();
            fort.serves().await;
        },
    );
}
