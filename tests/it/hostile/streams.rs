//! H: what HTTP/2 makes cheap to ask and dear to answer. Another client is served meanwhile and afterwards, memory
//! does not follow what the attacker sends, and what is for ever ends.

use std::time::Duration;

use crate::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, literal, minimal,
};
use crate::lifecycle::{alone, resident_bytes};
use crate::scene::{Conversation, Target, until};

use super::{Fort, echo};

const PRIORITY: u8 = 2;

/// Far more than any of these may take, far less than what they would if it piled up.
const MEMORY_MAX: usize = 24 * 1024 * 1024;

/// Says something again and again, until the other side has had enough of it or the turns are over.
async fn flood(
    frames: &mut Frames,
    turns: u32,
    mut say: impl AsyncFnMut(&mut Frames, u32) -> bool,
) {
    for turn in 0..turns {
        if !say(frames, turn).await {
            return;
        }
    }
}

/// A target that answers `/fine`, and keeps everybody else waiting.
async fn slow() -> Target {
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

#[test]
fn h1_rapid_reset() {
    alone("hostile::streams::h1_rapid_reset", async {
        let fort = Fort::with(slow().await, |_| {}).await;
        let other = fort.http2().await;
        let before = resident_bytes();
        let mut frames = fort.frames().await;
        flood(&mut frames, 100_000, async |frames, turn| {
            let stream = 2 * turn + 1;
            frames.try_head(stream, END_STREAM).await.is_ok()
                && frames
                    .try_send(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
                    .await
                    .is_ok()
        })
        .await;
        frames.end().await;
        assert_eq!(other.get("/fine").await.0, 200);
        until("targets are left", || fort.target.open() <= 1).await;
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < MEMORY_MAX, "{grown} bytes");
    });
}

#[tokio::test]
async fn h2_made_you_reset() {
    let fort = Fort::with(slow().await, |_| {}).await;
    let other = fort.http2().await;
    // CVE-2025-8671: each of these makes the server reset the stream that was just opened.
    let frames: [(u8, u8, &[u8]); 3] = [
        (WINDOW_UPDATE, 0, &[0; 4]),
        (WINDOW_UPDATE, 0, &[0x7f, 0xff, 0xff, 0xff]),
        (DATA, END_STREAM, b"x"),
    ];
    for (kind, flags, payload) in frames {
        let mut frames = fort.frames().await;
        flood(&mut frames, 50_000, async |frames, turn| {
            let stream = 2 * turn + 1;
            frames.try_head(stream, END_STREAM).await.is_ok()
                && frames.try_send(kind, flags, stream, payload).await.is_ok()
        })
        .await;
        frames.end().await;
        assert_eq!(other.get("/fine").await.0, 200, "{kind} {payload:?}");
    }
    until("targets are left", || fort.target.open() <= 1).await;
}

#[test]
fn h3_continuation_flood() {
    alone("hostile::streams::h3_continuation_flood", async {
        let fort = Fort::with(slow().await, |_| {}).await;
        let before = resident_bytes();
        for field in [
            literal("x-filler", &"a".repeat(100)).repeat(100),
            Vec::new(),
        ] {
            let mut frames = fort.frames().await;
            frames.send(HEADERS, 0, 1, &minimal("GET", "/")).await;
            flood(&mut frames, 100_000, async |frames, _| {
                frames.try_send(CONTINUATION, 0, 1, &field).await.is_ok()
            })
            .await;
            frames.end().await;
        }
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < MEMORY_MAX, "{grown} bytes");
        assert_eq!(fort.http2().await.get("/fine").await.0, 200);
        assert_eq!(fort.target.requests(), 1);
    });
}

/// A header that the table keeps (RFC 7541 §6.2.1).
fn remembered(name: &str, value: &str) -> Vec<u8> {
    let mut field = literal(name, value);
    field[0] = 0x40;
    field
}

#[test]
fn h4_bombs() {
    alone("hostile::streams::h4_bombs", async {
        let fort = Fort::with(echo().await, |_| {}).await;
        let before = resident_bytes();
        // A header of 4 KB, remembered once, then named by one byte a time: 8,000 bytes mean 30 MB.
        for name in ["x-bomb", "cookie"] {
            let mut frames = fort.frames().await;
            let mut length = vec![0x40, name.len() as u8];
            length.extend(name.as_bytes());
            // 3,900 as RFC 7541 §5.1 writes it in 7 bits and more.
            length.extend([0x7f, 0xbd, 0x1d]);
            length.extend(vec![b'a'; 3900]);
            let mut block = minimal("GET", "/");
            block.extend(length);
            block.extend(vec![0x80 | 62; 8000]);
            frames
                .send(HEADERS, END_STREAM | END_HEADERS, 1, &block)
                .await;
            frames.bombed().await;
        }
        // Crumbs of cookies, one byte each.
        let mut frames = fort.frames().await;
        let mut block = minimal("GET", "/");
        block.extend(remembered("cookie", ""));
        block.extend(vec![0x80 | 62; 15_000]);
        frames
            .send(HEADERS, END_STREAM | END_HEADERS, 1, &block)
            .await;
        frames.bombed().await;
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < MEMORY_MAX, "{grown} bytes");
        assert_eq!(fort.target.requests(), 0);
        fort.serves().await;
    });
}

#[test]
fn h5_control_floods() {
    alone("hostile::streams::h5_control_floods", async {
        let fort = Fort::with(slow().await, |_| {}).await;
        let other = fort.http2().await;
        let before = resident_bytes();
        // Nobody reads what they are answered with.
        for (kind, stream, payload) in [
            (PING, 0, &[0; 8][..]),
            (SETTINGS, 0, &[]),
            (SETTINGS, 0, &[0, 4, 0, 0, 0xff, 0xff]),
            (PRIORITY, 3, &[0, 0, 0, 1, 0]),
            (WINDOW_UPDATE, 0, &[0, 0, 0, 1]),
            (0xbe, 0, &[0; 100]),
        ] {
            let mut frames = fort.frames().await;
            let flooding = flood(&mut frames, 100_000, async |frames, _| {
                let sending = frames.try_send(kind, 0, stream, payload);
                // One that takes no more holds nothing of ours.
                let sent = tokio::time::timeout(Duration::from_secs(1), sending).await;
                matches!(sent, Ok(Ok(())))
            });
            flooding.await;
            assert_eq!(other.get("/fine").await.0, 200, "{kind}");
            let grown = resident_bytes().saturating_sub(before);
            assert!(grown < MEMORY_MAX, "{kind}: {grown} bytes");
        }
        // RUSTSEC-2026-0258: data without bytes.
        let mut frames = fort.frames().await;
        frames.head(1, 0, &[]).await;
        flood(&mut frames, 100_000, async |frames, _| {
            let sending = frames.try_send(DATA, 0, 1, &[]);
            let sent = tokio::time::timeout(Duration::from_secs(1), sending).await;
            matches!(sent, Ok(Ok(())))
        })
        .await;
        assert_eq!(other.get("/fine").await.0, 200);
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < MEMORY_MAX, "{grown} bytes");
    });
}

#[test]
fn h6_windows_that_stay_shut() {
    alone("hostile::streams::h6_windows_that_stay_shut", async {
        let target = Target::playing(async |head: String, mut client: Conversation| {
            if head.starts_with("GET /fine ") {
                client.answer("fine").await;
                return Some(client);
            }
            let piece = "x".repeat(64 * 1024);
            client
                .say("HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
                .await;
            for _ in 0..1600 {
                match client.write(piece.as_bytes()).await {
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
            None
        })
        .await;
        let fort = Fort::with(target, |config| {
            config.load_balancer.idle_timeout = Duration::from_secs(1);
        })
        .await;
        let before = resident_bytes();
        let mut frames = fort.frames().await;
        // SETTINGS_INITIAL_WINDOW_SIZE is 0.
        frames.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).await;
        for turn in 0..100 {
            frames.get(2 * turn + 1).await;
        }
        until("the target has seen all", || fort.target.requests() >= 100).await;
        assert_eq!(fort.http2().await.get("/fine").await.0, 200);
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 2 * MEMORY_MAX, "{grown} bytes");
        // Nothing moves, so each of them ends.
        until("the target is left", || fort.target.open() <= 1).await;
    });
}

#[tokio::test]
async fn h8_data_after_a_reset() {
    let fort = Fort::with(slow().await, |_| {}).await;
    let mut frames = fort.frames().await;
    for turn in 0..50_u32 {
        let stream = 2 * turn + 1;
        // Late, as if it had been on its way; the connection may end over it, and nothing worse may come of it.
        let reset = 8_u32.to_be_bytes();
        let sent = async {
            frames.try_head(stream, 0).await?;
            frames.try_send(DATA, 0, stream, b"some").await?;
            frames.try_send(RST_STREAM, 0, stream, &reset).await?;
            frames.try_send(DATA, END_STREAM, stream, b"more").await
        };
        if sent.await.is_err() {
            break;
        }
    }
    until("the target is left", || fort.target.open() == 0).await;
    assert_eq!(fort.http2().await.get("/fine").await.0, 200);
}

#[tokio::test]
async fn h10_connections_that_say_nothing_more() {
    let fort = Fort::with(echo().await, |config| {
        config.load_balancer.idle_timeout = Duration::from_secs(1);
    })
    .await;
    let mut silent = Vec::new();
    for turn in 0..50 {
        let mut frames = fort.frames().await;
        if turn % 2 == 0 {
            frames.get(1).await;
        }
        silent.push(frames);
    }
    let connections = || fort.running.status().listeners[1].connections;
    // Told to go, each of them ends; one that does not even listen is given up 30 seconds later.
    for mut frames in silent {
        assert_eq!(frames.goaway().await, 0);
        frames.end().await;
    }
    until("all have gone", || connections() == 0).await;
}

impl Frames {
    /// Waits for a stream's refusal by any means: a reset, a GOAWAY, or an answer that is an error.
    async fn bombed(&mut self) {
        while let Some(frame) = self.next().await {
            match frame.kind {
                RST_STREAM | crate::http2::GOAWAY => return,
                // Whatever it is, it is not `:status: 200`.
                HEADERS => return assert_ne!(frame.payload[0], 0x88),
                _ => {}
            }
        }
    }
}
