//! What SECURITY.md promises: how much memory a client's bytes may hold, and how much they may make targets read. Seen
//! from outside, in the resident memory of the binary as a process.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use crate::http2::{END_HEADERS, END_STREAM, HEADERS, literal, minimal};
use crate::process::{Process, config_text, verb};
use crate::scene::{Conversation, Target, until};
use crate::upgrade::healthy;

use super::{Fort, echo};

/// Clients at once; enough to be told from what a process takes anyway.
const CLIENTS: usize = 400;

/// Clients with answers, of which the kernel keeps megabytes in its sockets.
const READERS: usize = 100;

/// What is not any client's: pages that an allocator has begun, tables that have grown.
const SLACK: usize = 6 * 1024 * 1024;

/// A connection that says nothing, or next to nothing.
const CONNECTION: usize = 4 * 1024;

/// `REQUEST_HEAD_MAX`.
const HEAD: usize = 64 * 1024;

/// `SCRATCH_SIZE`: what is read in one go and waits for who does not take it.
const SCRATCH: usize = 60_000;

/// `ROOM_FOR_OURS`, which is larger than all that is added to a head.
const OURS: usize = 256;

/// `ATTEMPTS_MAX`.
const ATTEMPTS: usize = 3;

/// A load balancer as a process, and what it weighed before anybody came.
struct Scales {
    process: Process,
    address: SocketAddr,
    before: usize,
}

impl Scales {
    async fn before(target: &Target) -> Self {
        let http = "port: 0, address: 127.0.0.1, protocol: HTTP";
        let config = config_text(&[http], &[target.address]);
        let process = Process::start(&config, |_, _| {});
        let address = process.listeners(1).await[0];
        healthy(&process, 1).await;
        let before = resident(process.id());
        Self {
            process,
            address,
            before,
        }
    }

    /// Lets clients come who say this and nothing more, and weighs what each holds, once that is `least`.
    async fn weigh(&self, count: usize, said: &[u8], least: usize) -> Load {
        let mut clients = Vec::new();
        for _ in 0..count {
            let client = TcpSocket::new_v4().unwrap();
            // What the kernel keeps for it is not what is weighed.
            client.set_recv_buffer_size(4 * 1024).unwrap();
            let mut client = client.connect(self.address).await.unwrap();
            client.write_all(said).await.unwrap();
            clients.push(client);
        }
        let mut open = 0;
        while open < count {
            let status = self.process.status().await;
            open = status.listeners[0].connections;
        }
        let grown = || resident(self.process.id()).saturating_sub(self.before);
        until(format_args!("{least} bytes each"), || {
            grown() >= count * least
        })
        .await;
        // And until no more comes, for as long as some questions take.
        let mut before = 0;
        while before < grown() {
            before = grown();
            for _ in 0..20 {
                verb(["status", "--admin", &self.process.admin().await]).await;
            }
        }
        Load {
            grown: grown(),
            count,
        }
    }
}

/// How much larger a process is, and for how many.
struct Load {
    grown: usize,
    count: usize,
}

impl Load {
    fn assert_below(&self, each: usize, what: &str) {
        let found = format!("{what}: {} bytes each", self.grown / self.count);
        eprintln!("{found}");
        assert!(self.grown <= self.count * each + SLACK, "{found}");
    }
}

fn resident(pid: u32) -> usize {
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_send_holds_no_more_than_is_promised() {
    let target = Target::playing(async |_: String, mut client: Conversation| {
        // As much as anybody takes, and more.
        let piece = "x".repeat(SCRATCH);
        client
            .say("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
            .await;
        while client.write(piece.as_bytes()).await.is_ok() {}
        None
    })
    .await;

    let scales = Scales::before(&target).await;
    let silent = scales.weigh(CLIENTS, b"G", 0).await;
    silent.assert_below(CONNECTION, "a byte");

    let mut head = b"GET / HTTP/1.1\r\nHost: web.example\r\n".to_vec();
    while head.len() < 60_000 {
        head.extend_from_slice(b"X-Long: ");
        head.resize(head.len() + 12_000, b'x');
        head.extend_from_slice(b"\r\n");
    }
    let scales = Scales::before(&target).await;
    let parts = scales.weigh(CLIENTS, &head, head.len()).await;
    parts.assert_below(CONNECTION + 2 * HEAD, "a head without its end");

    let scales = Scales::before(&target).await;
    let asked = b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n";
    let answers = scales.weigh(READERS, asked, SCRATCH / 2).await;
    // Its target's connection is another one.
    answers.assert_below(2 * CONNECTION + 2 * SCRATCH, "an answer that nobody reads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_read_no_more_than_is_promised() {
    let fort = Fort::new().await;
    // The smallest request.
    let mut client = fort.clear().await;
    let least = "GET / HTTP/1.0\r\n\r\n";
    client.say(least).await;
    client.end().await;
    let sent = fort.target.last_request().len() + 4;
    assert!(sent <= least.len() + OURS, "{sent}");

    // A header of 4 KB that the connection remembers, named by a byte each time.
    let mut frames = fort.frames().await;
    let mut first = minimal("GET", "/");
    let mut bomb = literal("x-bomb", &"a".repeat(3_900));
    bomb[0] = 0x40;
    first.extend(bomb);
    let mut second = minimal("GET", "/");
    second.extend([0x80 | 62; 15]);
    for (stream, block) in [(1, first), (3, second)] {
        let flags = END_STREAM | END_HEADERS;
        frames.send(HEADERS, flags, stream, &block).await;
        frames.until(HEADERS, stream).await;
    }
    let sent = fort.target.last_request().len() + 4;
    eprintln!("{sent} bytes by a block of some 50");
    assert!((50_000..=HEAD + OURS).contains(&sent), "{sent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_meets_no_more_targets_than_is_promised() {
    // All of them end instead of answering.
    let ending = || Target::playing(async |_: String, _: Conversation| None);
    let targets = [
        ending().await,
        ending().await,
        ending().await,
        ending().await,
        ending().await,
    ];
    let fort = Fort::with(echo().await, |config| {
        let addresses = targets.each_ref().map(|target| target.address);
        config.target_groups = vec![crate::scene::group("web", &addresses)];
    })
    .await;
    let mut client = fort.clear().await;
    let (head, _) = client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    let asked: usize = targets.iter().map(Target::requests).sum();
    assert!((1..=ATTEMPTS).contains(&asked), "{asked}");
}
