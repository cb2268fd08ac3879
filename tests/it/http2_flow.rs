//! HTTP/2 frame by frame: windows, resets and limits, of clients that go to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::access_log::{json_log, records};
use crate::http2::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, NO_ERROR, RST_STREAM, RawFrame, Scene,
    WINDOW_UPDATE, agreement, body_of, fine_or_silent, frame, literals, minimal, outstanding,
};
use crate::scene::{Conversation, Target, header, soon, until};

const CANCEL: u32 = 8;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;
/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
const INITIAL_WINDOW: u16 = 4;
const STREAMS_MAX: u32 = 128;

impl Frames {
    async fn reset(&mut self, stream: u32, reason: u32) {
        self.send(RST_STREAM, 0, stream, &reason.to_be_bytes())
            .await;
    }

    pub(crate) async fn allow(&mut self, stream: u32, bytes: u32) {
        self.send(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
            .await;
    }

    /// The head of the next answer; nothing is refused before it.
    pub(crate) async fn head_of_any(&mut self) -> RawFrame {
        loop {
            let frame = self.next().await.expect("a frame before the end");
            assert!(frame.kind != RST_STREAM && frame.kind != GOAWAY);
            if frame.kind == HEADERS {
                return frame;
            }
        }
    }

    /// The next bytes of an answer; it is not broken off before them.
    async fn data(&mut self, stream: u32) -> RawFrame {
        loop {
            let frame = self.next().await.expect("a frame before the end");
            assert!(frame.kind != RST_STREAM && frame.kind != GOAWAY);
            if frame.kind == DATA && frame.stream == stream {
                return frame;
            }
        }
    }

    async fn ask_for_a_websocket(&mut self, stream: u32) {
        let block = literals([
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":path", "/"),
            (":authority", "web.example"),
            ("sec-websocket-version", "13"),
        ]);
        self.send(HEADERS, END_HEADERS, stream, &block).await;
    }

    /// Asks and takes it back in one go.
    async fn get_and_reset(&mut self, stream: u32) {
        let block = minimal("GET", "/");
        let head = frame(HEADERS, END_STREAM | END_HEADERS, stream, &block);
        let reset = frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
        self.write(&[head, reset].concat()).await.unwrap();
    }

    /// The reason by which the load balancer resets a stream.
    async fn reason(&mut self, stream: u32) -> u32 {
        let frame = self.until(RST_STREAM, stream).await;
        u32::from_be_bytes(frame.payload.try_into().unwrap())
    }
}

/// Answers with so many bytes of a body and tells how many it could write.
async fn telling(length: usize, written: &Arc<AtomicUsize>) -> Target {
    let written = Arc::clone(written);
    Target::playing(move |_, mut client: Conversation| {
        let written = Arc::clone(&written);
        async move {
            client
                .say(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
                ))
                .await;
            let chunk = vec![b'a'; length.min(64 << 10)];
            let mut left = length;
            while left > 0 {
                let count = client.write(&chunk[..chunk.len().min(left)]).await.ok()?;
                left -= count;
                written.fetch_add(count, Ordering::Relaxed);
            }
            Some(client)
        }
    })
    .await
}

#[tokio::test]
async fn an_answer_goes_as_far_as_its_window() {
    let target = telling(100, &Arc::default()).await;
    let scene = Scene::before(&target).await;
    let mut frames = scene.frames_with(&[(INITIAL_WINDOW, 30)]).await;

    frames.get(1).await;
    frames.until(HEADERS, 1).await;
    assert_eq!(frames.until(DATA, 1).await.payload.len(), 30);
    for (step, more) in [1, 20, 48, 1].into_iter().enumerate() {
        frames.allow(1, more).await;
        let data = frames.until(DATA, 1).await;
        assert_eq!(data.payload.len(), more as usize);
        assert_eq!(data.flags & END_STREAM != 0, step == 3);
    }
    // The stream is over, the connection is not.
    frames.get(3).await;
    frames.until(HEADERS, 3).await;
}

#[tokio::test]
async fn what_is_left_of_a_window_that_others_use_goes_to_all_in_the_end() {
    const LENGTH: usize = 100_000;
    let target = telling(LENGTH, &Arc::default()).await;
    let scene = Scene::before(&target).await;
    // Streams may have more than the connection, which has 65,535 bytes as long as nobody says more.
    let mut frames = scene.frames_with(&[(INITIAL_WINDOW, 1 << 20)]).await;
    let streams = [1, 3, 5, 7];
    for stream in streams {
        frames.get(stream).await;
    }
    let mut came = [0; 4];
    let mut ended = 0;
    while ended < streams.len() {
        let frame = frames.next().await.expect("a frame before the end");
        if frame.kind == DATA {
            came[frame.stream as usize / 2] += frame.payload.len();
            ended += usize::from(frame.flags & END_STREAM != 0);
            if !frame.payload.is_empty() {
                frames.allow(0, frame.payload.len() as u32).await;
            }
        }
    }
    assert_eq!(came, [LENGTH; 4]);
}

#[tokio::test]
async fn answers_that_nobody_takes_are_held_back_at_their_targets() {
    const LENGTH: usize = 8 << 20;
    const STREAMS: u32 = 16;
    let written = Arc::new(AtomicUsize::new(0));
    let target = telling(LENGTH, &written).await;
    let scene = Scene::before(&target).await;
    let mut frames = scene.frames_with(&[(INITIAL_WINDOW, 0)]).await;
    for number in 0..STREAMS {
        frames.get(2 * number + 1).await;
    }
    for _ in 0..STREAMS {
        frames.head_of_any().await;
    }
    let before = still(&written).await;
    // Loopback sockets take some MiB each, buffers of albedo hardly anything beside them.
    assert!(before < STREAMS as usize * LENGTH * 9 / 10, "{before}");
    for number in 0..STREAMS {
        frames.reset(2 * number + 1, CANCEL).await;
    }
    until("the target is left", || target.open() == 0).await;
    until("nothing is outstanding", || {
        outstanding(&scene.running) == 0
    })
    .await;
}

/// Longer than a client in these tests is ever silent that is not meant to be.
const IDLE_TIMEOUT: Duration = Duration::from_millis(500);

#[tokio::test]
async fn the_last_piece_of_an_answer_waits_for_its_client_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let target = telling(50_000, &Arc::default()).await;
    let scene = Scene::with(&target, |config| {
        config.load_balancer.idle_timeout = IDLE_TIMEOUT;
        config.load_balancer.access_log = Some(json_log(&log));
    })
    .await;
    let mut frames = scene.frames_with(&[(INITIAL_WINDOW, 0)]).await;
    frames.get(1).await;
    frames.until(HEADERS, 1).await;

    assert_eq!(frames.reason(1).await, CANCEL);
    let record = records(&log, 1).await.remove(0);
    assert_eq!(record["elb_status_code"], 200);
    let sent = record["sent_bytes"].as_u64().unwrap();
    assert!(
        sent < 1000,
        "{sent} bytes, and not one of the body was sent"
    );
}

#[tokio::test]
async fn a_client_that_takes_little_at_a_time_has_its_whole_answer() {
    const LENGTH: usize = 100_000;
    let target = telling(LENGTH, &Arc::default()).await;
    let scene = Scene::with(&target, |config| {
        config.load_balancer.idle_timeout = IDLE_TIMEOUT;
    })
    .await;
    let mut frames = scene.frames_with(&[(INITIAL_WINDOW, 0)]).await;
    frames.allow(0, LENGTH as u32).await;
    frames.get(1).await;
    frames.until(HEADERS, 1).await;
    let mut came = 0;
    for _ in 0..10 {
        tokio::time::sleep(IDLE_TIMEOUT / 5).await;
        frames.allow(1, 100).await;
        came += frames.data(1).await.payload.len();
    }

    frames.allow(1, LENGTH as u32).await;
    loop {
        let data = frames.data(1).await;
        came += data.payload.len();
        if data.flags & END_STREAM != 0 {
            break;
        }
    }
    assert_eq!(came, LENGTH);
}

#[tokio::test]
async fn an_upload_goes_on_beside_an_answer_that_nobody_reads_yet() {
    const LENGTH: usize = 200_000;
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let target = Target::playing(move |head: String, mut client: Conversation| {
        let tell = tell.clone();
        async move {
            let body = "a".repeat(LENGTH);
            client
                .say(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n{body}"
                ))
                .await;
            let uploaded = body_of(&head, &mut client).await;
            tell.send(uploaded).await.unwrap();
            Some(client)
        }
    })
    .await;
    let scene = Scene::with(&target, |config| {
        config.load_balancer.idle_timeout = IDLE_TIMEOUT;
    })
    .await;
    let mut frames = scene.frames_with(&[(INITIAL_WINDOW, 0)]).await;
    frames.allow(0, LENGTH as u32).await;
    frames.head(1, 0, &[]).await;
    frames.until(HEADERS, 1).await;
    for _ in 0..10 {
        tokio::time::sleep(IDLE_TIMEOUT / 5).await;
        frames.send(DATA, 0, 1, b"piece").await;
    }
    frames.send(DATA, END_STREAM, 1, b"").await;

    let uploaded = soon("the whole upload", told.recv()).await.unwrap();
    assert_eq!(uploaded, b"piece".repeat(10));
    frames.allow(1, LENGTH as u32).await;
    let mut came = 0;
    while came < LENGTH {
        came += frames.data(1).await.payload.len();
    }
}

#[tokio::test]
async fn an_answer_to_a_stream_that_is_over_is_460() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let target = telling(2, &Arc::default()).await;
    let scene = Scene::with(&target, |config| {
        // So that the answer is there at once.
        config.target_groups[0].targets.clear();
        config.load_balancer.access_log = Some(json_log(&log));
    })
    .await;
    let mut frames = scene.frames().await;
    frames.get_and_reset(1).await;

    let record = records(&log, 1).await.remove(0);
    assert_eq!(record["elb_status_code"], 460);
    assert_eq!(record["sent_bytes"], 0);
}

#[tokio::test]
async fn a_client_that_leaves_in_the_midst_of_an_answer_is_460() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let target = telling(64 << 20, &Arc::default()).await;
    let scene = Scene::with(&target, |config| {
        config.load_balancer.access_log = Some(json_log(&log));
    })
    .await;
    let mut frames = scene.frames().await;
    frames.allow(0, 1 << 20).await;
    // By a reset, and with its connection.
    for stream in [1, 3] {
        frames.get(stream).await;
        frames.until(DATA, stream).await;
        if stream == 1 {
            frames.reset(stream, CANCEL).await;
        }
    }
    drop(frames);

    for record in records(&log, 2).await {
        assert_eq!(record["elb_status_code"], 460);
        assert_eq!(record["target_status_code"], 200);
        assert!(record["sent_bytes"].as_u64().unwrap() >= 16 << 10);
    }
}

#[tokio::test]
async fn an_answer_that_the_target_breaks_off_keeps_its_status() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let target = Target::playing(async |_, mut client: Conversation| {
        client
            .say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!")
            .await;
        None
    })
    .await;
    let scene = Scene::with(&target, |config| {
        config.load_balancer.access_log = Some(json_log(&log));
    })
    .await;
    let mut frames = scene.frames().await;
    frames.get(1).await;
    frames.until(RST_STREAM, 1).await;

    let record = records(&log, 1).await.remove(0);
    assert_eq!(record["elb_status_code"], 200);
}

#[tokio::test]
async fn a_client_that_leaves_its_socket_unread_stops_the_target() {
    const LENGTH: usize = 64 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let target = telling(LENGTH, &written).await;
    let scene = Scene::before(&target).await;
    let largest = i32::MAX as u32;
    let mut frames = scene.frames_with(&[(INITIAL_WINDOW, largest)]).await;
    frames.allow(0, largest - 65_535).await;
    frames.get(1).await;
    until("the target is asked", || target.requests() == 1).await;
    let before = still(&written).await;
    assert!(before < LENGTH / 2, "{before} bytes and nobody read one");

    let mut came = 0;
    while came < LENGTH {
        let data = frames.until(DATA, 1).await;
        assert!(data.payload.iter().all(|&byte| byte == b'a'));
        came += data.payload.len();
    }
    assert_eq!(came, LENGTH);
}

/// Waits until a count has moved and moves no more.
async fn still(count: &AtomicUsize) -> usize {
    let mut before = usize::MAX;
    loop {
        let now = count.load(Ordering::Relaxed);
        if now == before && now > 0 {
            return now;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn a_body_that_its_client_breaks_off_never_looks_whole() {
    // Whatever the reason: this one a client may give that has no further interest in the answer.
    for reason in [CANCEL, NO_ERROR] {
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let target = Target::playing(move |_, mut client: Conversation| {
            let tell = tell.clone();
            async move {
                drop(tell.send(client.end().await).await);
                None
            }
        })
        .await;
        let scene = Scene::before(&target).await;
        let mut frames = scene.frames().await;
        frames.head(1, 0, &[]).await;
        frames.send(DATA, 0, 1, b"begun").await;
        until("the target is asked", || target.requests() == 1).await;
        frames.reset(1, reason).await;

        let came = soon("what the target saw", told.recv()).await.unwrap();
        assert!(!came.ends_with("0\r\n\r\n"), "{came:?} after {reason}");
        frames.get(3).await;
        until("the connection goes on", || target.requests() == 2).await;
    }
}

#[tokio::test]
async fn an_answer_that_its_client_breaks_off_leaves_the_target() {
    let target = telling(64 << 20, &Arc::default()).await;
    let scene = Scene::before(&target).await;
    let mut frames = scene.frames().await;
    frames.get(1).await;
    frames.until(DATA, 1).await;

    frames.reset(1, CANCEL).await;

    until("the target is left", || target.open() == 0).await;
    until("nothing is outstanding", || {
        outstanding(&scene.running) == 0
    })
    .await;
    frames.get(3).await;
    frames.until(HEADERS, 3).await;
}

#[tokio::test]
async fn an_early_answer_ends_the_upload_without_blame() {
    let target = Target::playing(async |_, mut client: Conversation| {
        client
            .say("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            .await;
        None
    })
    .await;
    let scene = Scene::before(&target).await;
    let mut frames = scene.frames().await;
    frames.head(1, 0, &[]).await;
    frames.send(DATA, 0, 1, b"begun").await;

    frames.until(HEADERS, 1).await;
    let data = frames.until(DATA, 1).await;
    assert_eq!((&*data.payload, data.flags), (&b"no"[..], END_STREAM));
    // RFC 9113 §8.1.
    assert_eq!(frames.reason(1).await, NO_ERROR);
}

#[tokio::test]
async fn a_client_that_looks_at_no_window_is_refused() {
    let target = deaf().await;
    let scene = Scene::before(&target).await;
    let mut frames = scene.frames().await;
    frames.head(1, 0, &[]).await;
    let chunk = vec![b'a'; 16 << 10];
    let mut sent = 0;
    // What loopback sockets take, and a window more.
    while sent < 32 << 20 && frames.try_send(DATA, 0, 1, &chunk).await.is_ok() {
        sent += chunk.len();
    }
    frames.refused(1).await;
}

/// Is asked, and reads no body.
async fn deaf() -> Target {
    Target::playing(async |_, client: Conversation| {
        std::future::pending::<()>().await;
        Some(client)
    })
    .await
}

#[tokio::test]
async fn one_stream_too_many_is_refused_and_the_others_go_on() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let target = Target::playing(move |_, mut client: Conversation| {
        let opened = Arc::clone(&opened);
        async move {
            let _permit = opened.acquire().await.ok()?;
            client.answer("fine").await;
            Some(client)
        }
    })
    .await;
    let scene = Scene::before(&target).await;
    let mut frames = scene.frames().await;
    for number in 0..=STREAMS_MAX {
        frames.get(2 * number + 1).await;
    }

    assert_eq!(frames.reason(2 * STREAMS_MAX + 1).await, REFUSED_STREAM);
    gate.add_permits(1);
    for _ in 0..STREAMS_MAX {
        let answer = frames.head_of_any().await;
        assert!(answer.stream < 2 * STREAMS_MAX);
    }
}

#[tokio::test]
async fn streams_that_were_reset_leave_their_places() {
    let target = fine_or_silent().await;
    let scene = Scene::before(&target).await;
    let mut frames = scene.frames().await;
    for number in 0..STREAMS_MAX {
        frames.get(2 * number + 1).await;
    }
    until("all are with the target", || {
        target.requests() == STREAMS_MAX as usize
    })
    .await;
    for number in 0..STREAMS_MAX {
        frames.reset(2 * number + 1, CANCEL).await;
    }
    for number in STREAMS_MAX..2 * STREAMS_MAX {
        let block = minimal("GET", "/fine");
        let stream = 2 * number + 1;
        frames
            .send(HEADERS, END_STREAM | END_HEADERS, stream, &block)
            .await;
    }
    for _ in 0..STREAMS_MAX {
        let frame = frames.head_of_any().await;
        // Static table entry 8 is `:status: 200` (RFC 7541, appendix A).
        assert_eq!(frame.payload[0], 0x80 | 8);
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_told_so() {
    let target = telling(2, &Arc::default()).await;
    let scene = Scene::before(&target).await;
    let mut frames = scene.frames().await;
    let filler = "a".repeat(120);
    let lines: Vec<(&str, &str)> = (0..80).map(|_| ("x-filler", &*filler)).collect();
    let fields = literals(lines.iter().copied());
    // RFC 9113 §6.5.2 counts 32 bytes more for each line: 80 such lines are 12.8 KB, and 64 KiB are the limit.
    frames
        .send(HEADERS, END_STREAM, 1, &minimal("GET", "/"))
        .await;
    for _ in 0..5 {
        frames.send(9, 0, 1, &fields).await;
    }
    frames.send(9, END_HEADERS, 1, &fields).await;

    let answer = frames.until(HEADERS, 1).await;
    // In Huffman's code (RFC 7541, appendix B).
    let status = [0x69, 0x90, 0xff];
    assert!(answer.payload.windows(3).any(|three| three == status));
    assert_eq!(target.requests(), 0);
    frames.get(3).await;
    frames.until(HEADERS, 3).await;
    assert_eq!(target.requests(), 1);
}

#[tokio::test]
async fn a_client_that_expects_100_is_told_to_go_on() {
    let target = crate::http2::echo().await;
    let scene = Scene::before(&target).await;
    let mut frames = scene.frames().await;
    frames.head(1, 0, &[("expect", "100-continue")]).await;
    let word = frames.until(HEADERS, 1).await;
    assert_eq!(word.flags & END_STREAM, 0);
    // 100 in Huffman's code (RFC 7541, appendix B).
    assert!(word.payload.ends_with(&[0x08, 0x01]), "{:?}", word.payload);
    frames.send(DATA, END_STREAM, 1, b"hello").await;
    frames.until(HEADERS, 1).await;
    assert_eq!(frames.until(DATA, 1).await.payload, b"hello");
    assert_eq!(header(&target.last_request(), "expect"), None);
    // Who has no body waits for nothing.
    let expects = [("expect", "100-continue")];
    frames.head(3, END_STREAM, &expects).await;
    let answer = frames.until(HEADERS, 3).await;
    assert_ne!(answer.flags & END_STREAM, 0);
}

#[tokio::test]
async fn another_expectation_is_a_fault_as_it_is_over_http1() {
    let target = crate::http2::echo().await;
    let scene = Scene::before(&target).await;
    let mut frames = scene.frames().await;
    frames.head(1, END_STREAM, &[("expect", "wonders")]).await;
    let answer = frames.until(HEADERS, 1).await;
    // 400 in the static table (RFC 7541, appendix A).
    assert!(answer.payload.contains(&0x8c), "{:?}", answer.payload);
    assert_eq!(target.requests(), 0);
}

#[tokio::test]
async fn a_flood_of_empty_pieces_ends_its_connection() {
    let target = deaf().await;
    let scene = Scene::before(&target).await;
    let mut frames = scene.frames().await;
    frames.head(1, 0, &[]).await;
    for _ in 0..20_000 {
        if frames.try_send(DATA, 0, 1, &[]).await.is_err() {
            break;
        }
    }
    assert_eq!(frames.goaway().await, ENHANCE_YOUR_CALM);
    frames.end().await;
}

#[tokio::test]
async fn a_websocket_whose_client_takes_nothing_stops_its_target() {
    const LENGTH: usize = 64 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let target = Target::playing(move |head: String, mut client: Conversation| {
        let written = Arc::clone(&counter);
        async move {
            if header(&head, "upgrade").is_none() {
                client.answer("no socket").await;
                return Some(client);
            }
            client.say(agreement(&head)).await;
            let chunk = vec![b'a'; 64 << 10];
            while written.load(Ordering::Relaxed) < LENGTH {
                let count = client.write(&chunk).await.ok()?;
                written.fetch_add(count, Ordering::Relaxed);
            }
            None
        }
    })
    .await;
    let scene = Scene::before(&target).await;
    let mut frames = scene.frames_with(&[(INITIAL_WINDOW, 10)]).await;
    frames.get(1).await;
    frames.until(HEADERS, 1).await;
    frames.ask_for_a_websocket(3).await;
    frames.until(HEADERS, 3).await;
    assert_eq!(frames.until(DATA, 3).await.payload.len(), 10);
    let before = still(&written).await;
    assert!(before < LENGTH / 2, "{before} bytes and nobody took one");
    frames.allow(3, 7).await;
    assert_eq!(frames.until(DATA, 3).await.payload.len(), 7);

    frames.reset(3, CANCEL).await;
    frames.get(5).await;
    frames.until(HEADERS, 5).await;
}

#[tokio::test]
async fn a_websocket_that_its_client_resets_ends_though_its_target_takes_nothing() {
    const CHUNK: usize = 16 << 10;
    let target = Target::playing(async |head: String, mut client: Conversation| {
        if header(&head, "upgrade").is_none() {
            client.answer("no socket").await;
            return Some(client);
        }
        client.say(agreement(&head)).await;
        std::future::pending::<()>().await;
        Some(client)
    })
    .await;
    let scene = Scene::before(&target).await;
    let mut frames = scene.frames().await;
    frames.get(1).await;
    frames.until(HEADERS, 1).await;
    frames.ask_for_a_websocket(3).await;
    frames.until(HEADERS, 3).await;
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
                assert_eq!(frame.kind, WINDOW_UPDATE);
                let more = u32::from_be_bytes(frame.payload.try_into().unwrap());
                windows[usize::from(frame.stream != 0)] += more as usize;
            }
            Err(_) => break,
        }
    }
    assert_eq!(outstanding(&scene.running), 1);

    frames.reset(3, CANCEL).await;

    until("the tunnel is over", || outstanding(&scene.running) == 0).await;
}
