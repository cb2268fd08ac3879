//! WebSockets that send a message when the last one has come back.

use std::io;
use std::time::{Duration, Instant};

use tools::connection::{Connection, SCRATCH};
use tools::poll::{Poll, Ready};
use tools::report::{self, Errors};
use tools::socket::{PATIENCE, Received};
use tools::websocket;
use tools::words::{Trouble, Words};

use crate::{CONNECTIONS_MAX, Common, SECONDS_MAX, expect_status};

const MASK: [u8; 4] = [1, 2, 3, 4];

const PAYLOAD: [u8; 64] = *b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(crate) fn load(mut words: Words) -> Result<(), Trouble> {
    let connections = words.number("--connections", 64, 1..=CONNECTIONS_MAX)?;
    let time = Duration::from_secs_f64(words.number("--seconds", 8.0, 0.01..=SECONDS_MAX)?);
    let common = Common::read(&mut words)?;
    words.end()?;

    let mut poll = Poll::new()?;
    let mut scratch = vec![0; SCRATCH];
    let mut echoes = Vec::new();
    for number in 0..connections {
        let echo = Echo::open(&common, number, &mut scratch)?;
        poll.add(&echo.connection.socket, number)?;
        echoes.push(Some(echo));
    }

    let mut errors = Errors::default();
    let (sent, expected) = (
        websocket::masked(&PAYLOAD, MASK),
        websocket::unmasked(&PAYLOAD),
    );
    let began = Instant::now();
    let (mut done, mut busy) = (0, 0);
    for echo in &mut echoes {
        let echo = echo.as_mut().expect("all of them are open");
        echo.connection.send(&sent)?;
        busy += 1;
    }
    while busy > 0 {
        poll.wait(Some(PATIENCE))?;
        if poll.ready().next().is_none() {
            break;
        }
        let goes_on = began.elapsed() < time;
        for ready in poll.ready() {
            let Some(echo) = &mut echoes[ready.token] else {
                continue;
            };
            match echo.go_on(ready, &expected, &mut scratch) {
                Ok(false) => (),
                Ok(true) => {
                    done += 1;
                    if goes_on {
                        echo.connection.send(&sent)?;
                    } else {
                        busy -= 1;
                    }
                }
                Err(error) => {
                    errors.add(error);
                    echoes[ready.token] = None;
                    busy -= 1;
                }
            }
        }
    }
    for _ in 0..busy {
        errors.add("no echo in time");
    }
    Ok(report::outcome("echo", began.elapsed(), done, &errors).print()?)
}

struct Echo {
    connection: Connection,
    /// What has come of the message that is awaited.
    came: Vec<u8>,
}

impl Echo {
    fn open(common: &Common, number: usize, scratch: &mut [u8]) -> io::Result<Self> {
        let mut connection = Connection::open(&common.destination, number)?;
        let head = connection.exchange(&common.upgrade(), scratch)?;
        expect_status(head.status, 101)?;
        connection.stop_waiting()?;
        Ok(Self {
            connection,
            came: Vec::new(),
        })
    }

    /// Says whether the message has come back.
    fn go_on(&mut self, ready: Ready, expected: &[u8], scratch: &mut [u8]) -> io::Result<bool> {
        if ready.writable {
            self.connection.flush()?;
        }
        if !ready.readable {
            return Ok(false);
        }
        let received = self
            .connection
            .receive(scratch, |bytes| self.came.extend_from_slice(bytes))?;
        if received == Received::End {
            return Err(io::Error::other("the tunnel ended"));
        }
        if self.came.len() < expected.len() {
            return Ok(false);
        }
        if self.came != expected {
            return Err(io::Error::other("what came back is not what was sent"));
        }
        self.came.clear();
        Ok(true)
    }
}
