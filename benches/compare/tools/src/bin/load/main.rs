//! The loads that other people's tools do not offer. Each counts everything that goes wrong, and ends.

mod bodies;
mod connect;
mod echo;
mod idle;
mod rate;

use std::io;
use std::process::ExitCode;
use std::thread;

use tools::connection::{Destination, Tls};
use tools::report::Errors;
use tools::words::{self, Trouble, Words};

/// Longest load: a day.
const SECONDS_MAX: f64 = 86_400.0;

const CONNECTIONS_MAX: usize = 1_000_000;

fn main() -> ExitCode {
    words::run(
        "load echo|rate|idle|connect|bodies ADDRESS …; README.md says what each takes",
        load,
    )
}

fn load(mut words: Words) -> Result<(), Trouble> {
    match words.first().as_deref() {
        Some("echo") => echo::load(words),
        Some("rate") => rate::load(words),
        Some("idle") => idle::load(words),
        Some("connect") => connect::load(words),
        Some("bodies") => bodies::load(words),
        _ => Err(words::words("which load?")),
    }
}

/// What every load takes.
struct Common {
    destination: Destination,
    host: String,
    path: String,
}

impl Common {
    fn read(words: &mut Words) -> Result<Self, Trouble> {
        Self::read_with(words, "/")
    }

    fn read_with(words: &mut Words, path: &str) -> Result<Self, Trouble> {
        let host = words
            .text("--host")?
            .unwrap_or_else(|| String::from("localhost"));
        let path = words.text("--path")?.unwrap_or_else(|| String::from(path));
        let tls = words.flag("--tls");
        let destination = Destination {
            address: words.address()?,
            tls: tls.then(|| Tls::new(&host, "http/1.1")).transpose()?,
        };
        Ok(Self {
            destination,
            host,
            path,
        })
    }

    /// A request without a body, with `lines` of its own in its head.
    fn request(&self, lines: &str) -> Vec<u8> {
        format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n",
            self.path, self.host
        )
        .into_bytes()
    }

    fn upgrade(&self) -> Vec<u8> {
        // The key is the one of RFC 6455: nobody here depends on a new one.
        self.request(
            "Upgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        )
    }
}

fn expect_status(status: u16, expected: u16) -> io::Result<()> {
    if status == expected {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "status {status} instead of {expected}"
    )))
}

/// Runs `one` as often at once; adds up what was done and what went wrong.
fn in_threads(count: usize, one: impl Fn(usize) -> (u64, Errors) + Sync) -> (u64, Errors) {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                scope.spawn({
                    let one = &one;
                    move || one(number)
                })
            })
            .collect();
        let mut sum = (0, Errors::default());
        for thread in threads {
            let (done, errors) = thread.join().expect("a load counts what goes wrong");
            sum.0 += done;
            sum.1.merge(errors);
        }
        sum
    })
}
