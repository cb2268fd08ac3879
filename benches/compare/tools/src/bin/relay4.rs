//! The floor of every proxy: passes bytes on between two connections and looks at none of them.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;

use tools::poll::{Poll, Ready};
use tools::report;
use tools::slots::Slots;
use tools::socket::{self, Received};
use tools::words::{self, Trouble, Words};

/// Passed on at once.
const SCRATCH: usize = 64 << 10;

const LISTENER: usize = 0;

fn main() -> ExitCode {
    words::run("relay4 ADDRESS TARGET [--connections 64]", relay)
}

fn relay(mut words: Words) -> Result<(), Trouble> {
    let spare_connections = words.number("--connections", 64, 0..=10_000)?;
    let (address, target) = (words.address()?, words.address()?);
    words.end()?;
    let listener = [socket::listener(address)?];
    let mut poll = Poll::new()?;
    poll.add_source(&listener[0], LISTENER)?;
    let mut spare: VecDeque<TcpStream> = VecDeque::new();
    for _ in 0..spare_connections {
        spare.push_back(connect(target)?);
    }
    let mut pairs: Slots<Pair> = Slots::default();
    let mut scratch = vec![0; SCRATCH];
    report::listening(&listener)?;
    loop {
        poll.wait(None)?;
        for ready in poll.ready() {
            if ready.token == LISTENER {
                while let Some(client) = socket::accept(&listener[0])? {
                    // A new one takes the place of the one taken, so that as many are ready for those who come next.
                    spare.push_back(connect(target)?);
                    let server = spare.pop_front().expect("one was put there just now");
                    let number = pairs.put(Pair::new([client, server]));
                    let pair = pairs.find(number).expect("it was put there just now");
                    for (side, socket) in pair.sockets.iter().enumerate() {
                        poll.add(socket, 1 + 2 * number + side)?;
                    }
                }
                continue;
            }
            let (number, side) = ((ready.token - 1) / 2, (ready.token - 1) % 2);
            let Some(pair) = pairs.find(number) else {
                continue;
            };
            if !matches!(pair.go_on(side, ready, &mut scratch), Ok(Flow::Open)) {
                pairs.take(number);
            }
        }
    }
}

fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket::connected(target, 0)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

enum Flow {
    Open,
    Ended,
}

/// A client and its target.
struct Pair {
    sockets: [TcpStream; 2],
    /// What each of them has not taken yet; as long as there is any, nothing is read for it.
    unsent: [Vec<u8>; 2],
}

impl Pair {
    fn new(sockets: [TcpStream; 2]) -> Self {
        Self {
            sockets,
            unsent: [Vec::new(), Vec::new()],
        }
    }

    fn go_on(&mut self, side: usize, ready: Ready, scratch: &mut [u8]) -> io::Result<Flow> {
        let other = 1 - side;
        if ready.writable && !self.unsent[side].is_empty() {
            let count = socket::write(&self.sockets[side], &self.unsent[side])?;
            self.unsent[side].drain(..count);
            if !self.unsent[side].is_empty() {
                return Ok(Flow::Open);
            }
            // What came from the other side meanwhile was left there, and nobody speaks of it again.
            if let Flow::Ended = self.pass_on(other, true, scratch)? {
                return Ok(Flow::Ended);
            }
        }
        if ready.readable {
            self.pass_on(side, ready.ended, scratch)
        } else {
            Ok(Flow::Open)
        }
    }

    fn pass_on(&mut self, from: usize, to_the_end: bool, scratch: &mut [u8]) -> io::Result<Flow> {
        let to = 1 - from;
        while self.unsent[to].is_empty() {
            let count = match socket::read(&self.sockets[from], scratch)? {
                Received::Bytes(count) => count,
                Received::Later => return Ok(Flow::Open),
                Received::End => return Ok(Flow::Ended),
            };
            let sent = socket::write(&self.sockets[to], &scratch[..count])?;
            self.unsent[to].extend_from_slice(&scratch[sent..count]);
            if count < scratch.len() && !to_the_end {
                return Ok(Flow::Open);
            }
        }
        Ok(Flow::Open)
    }
}
