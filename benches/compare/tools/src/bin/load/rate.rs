//! Requests that are due at even intervals, whether the ones before are answered or not.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use tools::answer::Answer;
use tools::connection::{Connection, SCRATCH};
use tools::poll::{Poll, Ready};
use tools::report::{self, Errors};
use tools::socket::{PATIENCE, Received};
use tools::words::{self, Trouble, Words};

use crate::{CONNECTIONS_MAX, Common, SECONDS_MAX, expect_status};

/// Most requests in all: each leaves two numbers.
const REQUESTS_MAX: f64 = 50e6;

const RATE_MAX: f64 = 1e6;

pub(crate) fn load(mut words: Words) -> Result<(), Trouble> {
    let rate = words.number("--rate", 0.0, 0.1..=RATE_MAX)?;
    let connections = words.number("--connections", 64, 1..=CONNECTIONS_MAX)?;
    let time = words.number("--seconds", 8.0, 0.01..=SECONDS_MAX)?;
    let warm_up = words.number("--warm-up", 1.0, 0.0..=SECONDS_MAX)?;
    let common = Common::read(&mut words)?;
    words.end()?;
    if rate == 0.0 {
        return Err(words::words("--rate is missing"));
    }
    if rate * (time + warm_up) > REQUESTS_MAX {
        return Err(words::words(format!("more than {REQUESTS_MAX} requests")));
    }
    // The kernel wakes a sleeper up to 50 µs late otherwise.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;

    let mut poll = Poll::new()?;
    let mut scratch = vec![0; SCRATCH];
    let mut lines = Vec::new();
    for number in 0..connections {
        lines.push(Line::open(&common, number, &poll)?);
    }
    let first = Instant::now();
    let counts_from = first + Duration::from_secs_f64(warm_up);
    let ends = counts_from + Duration::from_secs_f64(time);
    let mut fleet = Fleet {
        request: common.request(""),
        common,
        lines,
        idle: (0..connections).collect(),
        queue: VecDeque::new(),
        counts_from,
        tally: Tally::default(),
    };
    let mut number = 0_u64;
    loop {
        let now = Instant::now();
        let mut due = first + Duration::from_secs_f64(number as f64 / rate);
        while due <= now && due < ends {
            fleet.take_up(due);
            number += 1;
            due = first + Duration::from_secs_f64(number as f64 / rate);
        }
        if now >= ends && (fleet.waiting() == 0 || now >= ends + PATIENCE) {
            break;
        }
        let over = if now < ends { ends } else { ends + PATIENCE };
        let wakes = if due < ends { due } else { over };
        poll.wait(Some(wakes.saturating_duration_since(Instant::now())))?;
        for ready in poll.ready() {
            fleet.go_on(ready, &poll, &mut scratch);
        }
    }
    let unanswered = fleet.waiting() as u64;
    let mut tally = fleet.tally;
    for _ in 0..unanswered {
        tally.errors.add("no answer in time");
    }
    let done = tally.latencies.len() as u64;
    let report = report::outcome("rate", ends - counts_from, done, &tally.errors)
        .say("rate", rate)
        .say("sent", tally.latenesses.len())
        .say("unanswered", unanswered)
        .say("queued", tally.queued)
        .say("reopened", tally.reopened)
        .say("latency_us", report::percentiles(&mut tally.latencies))
        .say("lateness_us", report::percentiles(&mut tally.latenesses));
    Ok(report.print()?)
}

/// Of the requests due behind the warm-up, apart from the errors.
#[derive(Default)]
struct Tally {
    latencies: Vec<Duration>,
    latenesses: Vec<Duration>,
    queued: u64,
    reopened: u64,
    errors: Errors,
}

struct Fleet {
    request: Vec<u8>,
    common: Common,
    lines: Vec<Line>,
    /// Lines without a request; the one idle longest is next, so that each has its turn.
    idle: VecDeque<usize>,
    /// When the requests were due that found no line.
    queue: VecDeque<Instant>,
    counts_from: Instant,
    tally: Tally,
}

impl Fleet {
    fn waiting(&self) -> usize {
        self.queue.len() + self.lines.iter().filter(|line| line.due.is_some()).count()
    }

    fn take_up(&mut self, due: Instant) {
        let counts = due >= self.counts_from;
        if counts {
            self.tally.latenesses.push(due.elapsed());
        }
        match self.idle.pop_front() {
            Some(number) => self.ask(number, due),
            None => {
                self.tally.queued += u64::from(counts);
                self.queue.push_back(due);
            }
        }
    }

    fn ask(&mut self, number: usize, due: Instant) {
        let line = &mut self.lines[number];
        line.due = Some(due);
        // What is wrong with the connection is reported when it is read.
        let _ = line.connection.send(&self.request);
    }

    fn go_on(&mut self, ready: Ready, poll: &Poll, scratch: &mut [u8]) {
        let line = &mut self.lines[ready.token];
        let outcome = match line.go_on(ready, scratch) {
            Ok(Progress::None) => return,
            Ok(Progress::Answered { status, last }) => {
                let due = line.due.take().expect("only a request is answered");
                match expect_status(status, 200) {
                    Ok(()) if due >= self.counts_from => self.tally.latencies.push(due.elapsed()),
                    Ok(()) => (),
                    Err(error) => self.tally.errors.add(error),
                }
                if last { After::Reopen } else { After::Free }
            }
            Ok(Progress::Ended) => {
                if line.due.take().is_some() {
                    self.tally
                        .errors
                        .add("the connection ended before the answer");
                    After::Reopen
                } else {
                    After::ReopenIdle
                }
            }
            Err(error) => {
                self.tally.errors.add(error);
                if line.due.take().is_some() {
                    After::Reopen
                } else {
                    After::ReopenIdle
                }
            }
        };
        if !matches!(outcome, After::Free) {
            self.tally.reopened += 1;
            match Line::open(&self.common, ready.token, poll) {
                Ok(line) => self.lines[ready.token] = line,
                Err(error) => {
                    self.tally.errors.add(error);
                    self.idle.retain(|number| *number != ready.token);
                    return;
                }
            }
        }
        if matches!(outcome, After::ReopenIdle) {
            return;
        }
        match self.queue.pop_front() {
            Some(due) => self.ask(ready.token, due),
            None => self.idle.push_back(ready.token),
        }
    }
}

/// What becomes of a connection after an event.
enum After {
    /// Takes the next request.
    Free,
    Reopen,
    /// It had no request, and keeps its place among the idle.
    ReopenIdle,
}

enum Progress {
    None,
    Answered { status: u16, last: bool },
    Ended,
}

struct Line {
    connection: Connection,
    answer: Answer,
    /// When the request on its way was due.
    due: Option<Instant>,
}

impl Line {
    fn open(common: &Common, number: usize, poll: &Poll) -> io::Result<Self> {
        let connection = Connection::open(&common.destination, number)?;
        connection.stop_waiting()?;
        poll.add(&connection.socket, number)?;
        Ok(Self {
            connection,
            answer: Answer::default(),
            due: None,
        })
    }

    fn go_on(&mut self, ready: Ready, scratch: &mut [u8]) -> io::Result<Progress> {
        if ready.writable {
            self.connection.flush()?;
        }
        if !ready.readable {
            return Ok(Progress::None);
        }
        loop {
            let mut wrong = None;
            let received = self.connection.receive(scratch, |bytes| {
                match self.answer.take(bytes, |_| ()) {
                    Ok(count) if count < bytes.len() => {
                        wrong = Some(String::from("more came than the answer has"))
                    }
                    Ok(_) => (),
                    Err(sentence) => wrong = Some(sentence),
                }
            })?;
            if let Some(sentence) = wrong {
                return Err(io::Error::other(sentence));
            }
            if let (Some(head), Some(_)) = (self.answer.done(), self.due) {
                self.answer.clear();
                // An end right behind the answer is the same as one that was announced.
                let last = head.last || ready.ended;
                return Ok(Progress::Answered {
                    status: head.status,
                    last,
                });
            }
            match received {
                Received::Later => return Ok(Progress::None),
                Received::End => return Ok(Progress::Ended),
                Received::Bytes(count) if count < scratch.len() && !ready.ended => {
                    return Ok(Progress::None);
                }
                Received::Bytes(_) => (),
            }
        }
    }
}
