//! H again, against a process of its own: what attackers over HTTP/2 cost it in memory and in CPU time, beside what a
//! client costs that behaves, and that another client is served all the while.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use crate::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, frame, minimal,
};
use crate::process::Process;
use crate::scene::{Authority, Conversation, Http2, Target, http2, soon, until};

/// Streams of an attacker's connection; 128 is what we allow.
const STREAMS: u32 = 100;
/// Longest wait of another client for an answer: generous, since a machine may be busy with something else.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Long enough to see whether something spins.
const STILL: Duration = Duration::from_millis(500);

/// Requests before anything is measured.
const FIRST_REQUESTS: usize = 100;
const PRIORITY: u8 = 2;

/// A process before one target, and nothing else in it.
struct Siege {
    process: Process,
    address: SocketAddr,
    authority: Authority,
    target: Target,
}

impl Siege {
    async fn of(target: Target) -> Self {
        let authority = Authority::new();
        let address = target.address;
        let config = format!(
            "admin: 127.0.0.1:0\n\
             workers: 1\n\
             listeners:\n  \
             - port: 0\n    \
               address: 127.0.0.1\n    \
               protocol: HTTPS\n    \
               certificates: [ {{ certificate: web.pem, key: web.key }} ]\n    \
               default_actions: [ {{ forward: web }} ]\n\
             target_groups:\n  \
             - name: web\n    \
               protocol: HTTP\n    \
               port: 1\n    \
               health_check: {{ interval: 300s, timeout: 120s }}\n    \
               targets: [ \"{address}\" ]\n"
        );
        let process = Process::start(&config, |_, folder| {
            authority.sign(&["web.example"]).write(folder, "web");
        });
        let address = process.listeners(1).await[0];
        let siege = Self {
            process,
            address,
            authority,
            target,
        };
        // What is made at the first use.
        let client = siege.client().await;
        for _ in 0..FIRST_REQUESTS {
            assert_eq!(client.get("/fine").await.0, 200);
        }
        siege
    }

    async fn client(&self) -> Http2 {
        http2(self.address, &self.authority).await
    }

    async fn frames(&self) -> Frames {
        Frames::open(self.address, &self.authority).await
    }

    /// A connection with so many requests, none of whose answers has a window.
    async fn waiting(&self, streams: u32) -> Frames {
        let mut frames = self.frames().await;
        frames.send(SETTINGS, 0, 0, &initial_window(0)).await;
        for number in 0..streams {
            frames.get(2 * number + 1).await;
        }
        for _ in 0..streams {
            frames.head_of_any().await;
        }
        frames
    }

    fn resident_bytes(&self) -> usize {
        let path = format!("/proc/{}/statm", self.process.id());
        let pages = fs::read_to_string(path).unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    /// Nothing moves, and nothing turns either.
    async fn is_still(&self, name: &str) {
        let before = self.cpu_time();
        tokio::time::sleep(STILL).await;
        let spent = self.cpu_time() - before;
        assert!(spent < STILL / 2, "{name}: {spent:?} while nothing moves");
    }

    /// CPU time that all its threads have had.
    fn cpu_time(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let spent = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(spent.sum())
    }

    /// What one request costs of a client that behaves.
    async fn request_time(&self) -> Duration {
        const REQUESTS: u32 = 500;
        let mut frames = self.frames().await;
        let before = self.cpu_time();
        for number in 0..REQUESTS {
            let stream = 2 * number + 1;
            let request = frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                stream,
                &minimal("GET", "/fine"),
            );
            frames.write(&request).await.unwrap();
            while frames.until(DATA, stream).await.flags & END_STREAM == 0 {}
        }
        (self.cpu_time() - before) / REQUESTS
    }

    /// Attacks until another client has had some answers meanwhile.
    async fn serves_beside(&self, mut attack: impl AsyncFnMut()) {
        const ANSWERS: u32 = 20;
        let client = self.client().await;
        let attacking = async {
            loop {
                attack().await;
            }
        };
        let asking = async {
            for _ in 0..ANSWERS {
                let answer = tokio::time::timeout(ANSWER_MAX, client.get("/fine")).await;
                assert_eq!(answer.expect("an answer in time").0, 200);
            }
        };
        tokio::select! {
            () = attacking => {}
            () = asking => {}
        }
    }
}

/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2), and a size.
fn initial_window(size: u32) -> Vec<u8> {
    [&[0, 4][..], &size.to_be_bytes()].concat()
}

/// Answers `/fine`, begins an answer that is longer than any window to everybody else, and waits.
async fn target() -> Target {
    static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];
    Target::playing(async |head: String, mut client: Conversation| {
        if head.starts_with("GET /fine ") {
            client.answer("fine").await;
            return Some(client);
        }
        client
            .say("HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
            .await;
        for _ in 0..3 {
            client.say(&PIECE).await;
        }
        std::future::pending().await
    })
    .await
}

#[tokio::test]
async fn h6_a_stream_that_takes_nothing_holds_a_piece() {
    const CONNECTIONS: usize = 8;
    /// A piece is 60,000 bytes; the rest is the stream and its target's connection.
    const STREAM_MAX: usize = 80 * 1024;
    let siege = Siege::of(target().await).await;
    let before = siege.resident_bytes();
    let mut attackers = Vec::new();
    for _ in 0..CONNECTIONS {
        attackers.push(siege.waiting(STREAMS).await);
    }
    // A window of a byte is no better.
    for frames in &mut attackers {
        frames.send(SETTINGS, 0, 0, &initial_window(1)).await;
        for _ in 0..STREAMS {
            frames.data_of_any().await;
        }
    }
    let each = (siege.resident_bytes() - before) / (CONNECTIONS * STREAMS as usize);
    assert!(each < STREAM_MAX, "{each} bytes a stream");
    siege.is_still("shut windows").await;
    assert_eq!(siege.client().await.get("/fine").await.0, 200);
}

#[tokio::test]
async fn h6_a_stream_whose_connection_is_not_read_holds_two() {
    const CONNECTIONS: usize = 4;
    /// A piece with h2 (`SEND_BUFFER_MAX`), and the next one with us.
    const STREAM_MAX: usize = 160 * 1024;
    let siege = Siege::of(target().await).await;
    let before = siege.resident_bytes();
    let mut attackers = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut frames = siege.frames().await;
        frames
            .send(SETTINGS, 0, 0, &initial_window(i32::MAX as u32))
            .await;
        frames.allow(0, 1 << 30).await;
        for number in 0..STREAMS {
            frames.get(2 * number + 1).await;
        }
        attackers.push(frames);
    }
    let streams = CONNECTIONS * STREAMS as usize;
    until("all are asked", || {
        siege.target.requests() >= FIRST_REQUESTS + streams
    })
    .await;
    // All that a target has to say fits into sockets, so what is not held here is on its way no more.
    let mut each = 0;
    loop {
        siege.is_still("a connection that is not read").await;
        let now = (siege.resident_bytes() - before) / streams;
        if now <= each {
            break;
        }
        each = now;
    }
    assert!(each < STREAM_MAX, "{each} bytes a stream");
    assert_eq!(siege.client().await.get("/fine").await.0, 200);
}

#[tokio::test]
async fn h4_a_head_holds_what_it_means_and_no_more() {
    const CONNECTIONS: usize = 4;
    /// A head means up to 64 KiB.
    const HEAD_MAX: usize = 80 * 1024;
    /// Bytes for each that is sent: what RFC 7541 makes of an index.
    const GROWTH_MAX: usize = 700;
    let target = Target::playing(async |head: String, mut client: Conversation| {
        if head.starts_with("GET /fine ") {
            client.answer("fine").await;
            return Some(client);
        }
        std::future::pending().await
    })
    .await;
    let siege = Siege::of(target).await;
    let before = siege.resident_bytes();
    // `x-bomb` with 3,900 bytes, remembered (RFC 7541 §6.2.1); then it is a byte each time, sixteen times.
    let value = [&[0x7f, 0xbd, 0x1d][..], &[b'a'; 3900]].concat();
    let first = [
        minimal("GET", "/"),
        b"\x40\x06x-bomb".to_vec(),
        value,
        vec![0xbe; 14],
    ]
    .concat();
    let next = [minimal("GET", "/"), vec![0xbe; 15]].concat();
    let mut attackers = Vec::new();
    let mut sent = 0;
    for _ in 0..CONNECTIONS {
        let mut frames = siege.frames().await;
        for number in 0..STREAMS {
            let block = if number == 0 { &first } else { &next };
            let head = frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, block);
            sent += head.len();
            frames.write(&head).await.unwrap();
        }
        attackers.push(frames);
    }
    let streams = CONNECTIONS * STREAMS as usize;
    until("all are asked", || {
        siege.target.requests() >= FIRST_REQUESTS + streams
    })
    .await;
    let grown = siege.resident_bytes() - before;
    let each = grown / streams;
    assert!(each < HEAD_MAX, "{each} bytes a head");
    assert!(grown / sent < GROWTH_MAX, "{} a byte", grown / sent);
}

#[tokio::test]
async fn h5_h7_a_frame_costs_far_less_than_a_request() {
    const BATCH: u32 = 100;
    const BATCHES: u32 = 20;
    /// Measured: 0.01 to 0.06.
    const REQUESTS_MAX: f64 = 0.5;
    type Say = fn(u32) -> Vec<u8>;
    let floods: [(&str, u32, Say); 8] = [
        ("PING", 0, |_| frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", 0, |_| frame(SETTINGS, 0, 0, &[])),
        ("PRIORITY", 0, |_| frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 0])),
        ("an unknown frame", 0, |_| frame(0xbe, 0, 0, &[0; 100])),
        ("a window for all", STREAMS, |_| {
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])
        }),
        ("a byte of window", STREAMS, |turn| {
            frame(WINDOW_UPDATE, 0, 2 * (turn % STREAMS) + 1, &[0, 0, 0, 1])
        }),
        ("windows to and fro", STREAMS, |turn| {
            frame(SETTINGS, 0, 0, &initial_window(turn % 2))
        }),
        ("windows that open by a byte", STREAMS, |turn| {
            frame(SETTINGS, 0, 0, &initial_window(turn + 1))
        }),
    ];
    let siege = Siege::of(target().await).await;
    for (name, streams, say) in floods {
        let request = siege.request_time().await;
        let mut frames = siege.waiting(streams).await;
        frames.allow(0, 1 << 30).await;
        let mut turn = 0;
        let mut attack = async || {
            let said: Vec<u8> = (turn..turn + BATCH).flat_map(say).collect();
            turn += BATCH;
            frames.write(&said).await.unwrap();
            frames.pong().await;
        };
        let before = siege.cpu_time();
        for _ in 0..BATCHES {
            attack().await;
        }
        let each = (siege.cpu_time() - before) / (BATCH * BATCHES);
        let requests = each.as_secs_f64() / request.as_secs_f64();
        assert!(
            requests < REQUESTS_MAX,
            "{name}: {each:?}, a request {request:?}"
        );
        siege.serves_beside(attack).await;
        siege.is_still(name).await;
    }
}

#[tokio::test]
async fn h1_h2_h3_others_are_served_beside_connections_that_end() {
    let siege = Siege::of(target().await).await;
    let reset = |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    let nothing = |stream| frame(WINDOW_UPDATE, 0, stream, &[0; 4]);
    type Second<'a> = &'a dyn Fn(u32) -> Vec<u8>;
    let seconds: [Second<'_>; 2] = [&reset, &nothing];
    for second in seconds {
        siege
            .serves_beside(async || {
                let mut frames = siege.frames().await;
                let said: Vec<u8> = (0..1000)
                    .map(|number| 2 * number + 1)
                    .flat_map(|stream| {
                        let block = minimal("GET", "/");
                        let head = frame(HEADERS, END_STREAM | END_HEADERS, stream, &block);
                        [head, second(stream)].concat()
                    })
                    .collect();
                // It may end before it has heard all.
                drop(frames.write(&said).await);
                frames.end().await;
            })
            .await;
    }
    siege
        .serves_beside(async || {
            let mut frames = siege.frames().await;
            let more = frame(CONTINUATION, 0, 1, &[]);
            let said = [
                frame(HEADERS, 0, 1, &minimal("GET", "/")),
                more.repeat(1000),
            ];
            drop(frames.write(&said.concat()).await);
            frames.end().await;
        })
        .await;
}

impl Frames {
    /// Asks whether all was heard, and waits for the answer.
    async fn pong(&mut self) {
        self.write(&frame(PING, 0, 0, b"all said")).await.unwrap();
        loop {
            let frame = soon("a pong", self.next()).await;
            let frame = frame.expect("a frame before the end");
            if frame.kind == PING && frame.payload == b"all said" {
                return;
            }
        }
    }

    async fn data_of_any(&mut self) {
        while self.next().await.expect("a frame before the end").kind != DATA {}
    }
}
