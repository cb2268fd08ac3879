//! A new connection for each request. Threads that wait are enough: a handshake takes far longer than a switch between them.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use tools::connection::Connection;
use tools::report::{self, Errors};
use tools::words::{Trouble, Words};

use crate::{Common, SECONDS_MAX, expect_status};

const CONCURRENT_MAX: usize = 1_000;

/// An answer and a few records.
const SCRATCH: usize = 16 << 10;

pub(crate) fn load(mut words: Words) -> Result<(), Trouble> {
    let concurrent = words.number("--concurrent", 16, 1..=CONCURRENT_MAX)?;
    let time = Duration::from_secs_f64(words.number("--seconds", 8.0, 0.01..=SECONDS_MAX)?);
    // 0 is as fast as it goes.
    let rate = words.number("--rate", 0.0, 0.0..=1e6)?;
    let common = Common::read(&mut words)?;
    words.end()?;

    let began = Instant::now();
    let pace =
        |turn: usize| Duration::from_secs_f64(if rate > 0.0 { turn as f64 / rate } else { 0.0 });
    let one = |thread: usize| {
        let mut errors = Errors::default();
        let mut done = 0;
        let mut scratch = vec![0; SCRATCH];
        for turn in (thread..).step_by(concurrent) {
            thread::sleep(pace(turn).saturating_sub(began.elapsed()));
            if began.elapsed() >= time {
                break;
            }
            match connect(&common, &mut scratch) {
                Ok(()) => done += 1,
                Err(error) => errors.add(error),
            }
        }
        (done, errors)
    };
    let (done, errors) = crate::in_threads(concurrent, one);
    Ok(report::outcome("connect", began.elapsed(), done, &errors).print()?)
}

fn connect(common: &Common, scratch: &mut [u8]) -> io::Result<()> {
    let mut connection = Connection::open(&common.destination, 0)?;
    let head = connection.exchange(&common.request("Connection: close\r\n"), scratch)?;
    expect_status(head.status, 200)?;
    // Who ends a connection first keeps its port for a minute: that is to be the proxy.
    connection.drain(scratch)
}
