//! Large bodies, one after the other on each connection. Threads that wait are enough.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tools::connection::{Connection, SCRATCH};
use tools::report::{self, Errors};
use tools::words::{self, Trouble, Words};

use crate::{Common, SECONDS_MAX, expect_status};

const CONNECTIONS_MAX: usize = 256;

/// Sent at once; a chunk, where there are chunks.
const PIECE: usize = 64 << 10;

const CHUNK_HEAD: &[u8] = b"10000\r\n";

/// After so many errors a connection has had its chance.
const ERRORS_MAX: u64 = 10;

enum Direction {
    Down,
    Up,
    UpInChunks,
}

struct Load {
    common: Common,
    direction: Direction,
    size: u64,
    /// What an upload sends again and again.
    piece: Vec<u8>,
}

pub(crate) fn load(mut words: Words) -> Result<(), Trouble> {
    let connections = words.number("--connections", 4, 1..=CONNECTIONS_MAX)?;
    let time = Duration::from_secs_f64(words.number("--seconds", 8.0, 0.01..=SECONDS_MAX)?);
    let chunked = words.flag("--chunked");
    let direction = match (
        words.text("--direction")?.as_deref().unwrap_or("down"),
        chunked,
    ) {
        ("down", false) => Direction::Down,
        ("up", false) => Direction::Up,
        ("up", true) => Direction::UpInChunks,
        ("down", true) => return Err(words::words("--chunked is for bodies that go up")),
        _ => return Err(words::words("--direction is down or up")),
    };
    let (size, path) = match words.text("--size")?.as_deref().unwrap_or("1m") {
        "1m" => (1 << 20, "/1m"),
        "64m" => (64 << 20, "/64m"),
        _ => return Err(words::words("--size is 1m or 64m")),
    };
    let down = matches!(direction, Direction::Down);
    let common = Common::read_with(&mut words, if down { path } else { "/" })?;
    words.end()?;

    let mut piece = b"0123456789abcdef".repeat(PIECE / 16);
    if chunked {
        piece = [CHUNK_HEAD, &piece, b"\r\n"].concat();
    }
    let load = Load {
        common,
        direction,
        size,
        piece,
    };
    let bytes = AtomicU64::new(0);
    let began = Instant::now();
    let one = |number: usize| {
        let mut errors = Errors::default();
        let mut done = 0;
        while began.elapsed() < time && errors.count < ERRORS_MAX {
            let outcome = load.bodies(number, |came| {
                done += 1;
                bytes.fetch_add(came, Ordering::Relaxed);
                began.elapsed() < time
            });
            if let Err(error) = outcome {
                errors.add(error);
            }
        }
        (done, errors)
    };
    let (done, errors) = crate::in_threads(connections, one);
    let report = report::outcome("bodies", began.elapsed(), done, &errors);
    Ok(report.say("bytes", bytes.into_inner()).print()?)
}

impl Load {
    /// Bodies on a new connection until `more` says that it is enough.
    fn bodies(&self, number: usize, mut more: impl FnMut(u64) -> bool) -> io::Result<()> {
        let mut scratch = vec![0; SCRATCH];
        let mut connection = Connection::open(&self.common.destination, number)?;
        loop {
            self.body(&mut connection, &mut scratch)?;
            if !more(self.size) {
                return Ok(());
            }
        }
    }

    fn body(&self, connection: &mut Connection, scratch: &mut [u8]) -> io::Result<()> {
        let Common { host, path, .. } = &self.common;
        let length = match self.direction {
            Direction::Down => return self.down(connection, scratch),
            Direction::Up => format!("Content-Length: {}", self.size),
            Direction::UpInChunks => String::from("Transfer-Encoding: chunked"),
        };
        connection
            .send(format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n\r\n").as_bytes())?;
        for _ in 0..self.size / PIECE as u64 {
            connection.send(&self.piece)?;
        }
        if let Direction::UpInChunks = self.direction {
            connection.send(b"0\r\n\r\n")?;
        }
        let mut text = Vec::new();
        let head = connection.answer(scratch, |piece| text.extend_from_slice(piece))?;
        expect_status(head.status, 200)?;
        if text == self.size.to_string().as_bytes() {
            return Ok(());
        }
        Err(io::Error::other("the target did not get the whole body"))
    }

    fn down(&self, connection: &mut Connection, scratch: &mut [u8]) -> io::Result<()> {
        let head = connection.exchange(&self.common.request(""), scratch)?;
        expect_status(head.status, 200)?;
        if head.length == self.size {
            return Ok(());
        }
        Err(io::Error::other(format!("a body of {} bytes", head.length)))
    }
}
