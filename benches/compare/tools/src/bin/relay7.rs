//! The floor of a proxy that speaks HTTP/1.1: one header more or less is all it knows of a request.
//!
//! It takes no chunked bodies, no upgrades, no HEAD, and no request before the answer to the last one. A client that asks for
//! the end of its connection gets it, unannounced.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;

use tools::answer;
use tools::poll::{Poll, Ready};
use tools::report;
use tools::slots::Slots;
use tools::socket::{self, Received};
use tools::words::{self, Trouble, Words};

/// Passed on at once; the longest head.
const SCRATCH: usize = 64 << 10;

const HEADERS_MAX: usize = 100;

const LISTENER: usize = 0;

/// Length of CR LF.
const LINE_END: usize = 2;

fn main() -> ExitCode {
    words::run("relay7 ADDRESS TARGET [TARGET…]", relay)
}

fn relay(mut words: Words) -> Result<(), Trouble> {
    let (address, targets) = (words.address()?, words.addresses()?);
    let listener = [socket::listener(address)?];
    let port = listener[0].local_addr()?.port();
    let mut poll = Poll::new()?;
    poll.add_source(&listener[0], LISTENER)?;
    let mut relay = Relay {
        clients: Slots::default(),
        servers: Slots::default(),
        idle: vec![Vec::new(); targets.len()],
        targets,
        turn: 0,
    };
    let mut scratch = vec![0; SCRATCH];
    report::listening(&listener)?;
    loop {
        poll.wait(None)?;
        for ready in poll.ready() {
            if ready.token == LISTENER {
                while let Some(socket) = socket::accept(&listener[0])? {
                    let number = relay.clients.put(Client::new(socket, port)?);
                    let client = relay
                        .clients
                        .find(number)
                        .expect("it was put there just now");
                    poll.add(&client.socket, client_token(number))?;
                }
                continue;
            }
            let number = (ready.token - 1) / 2;
            if ready.token == client_token(number) {
                relay.client_ready(number, ready, &poll, &mut scratch);
            } else {
                relay.server_ready(number, ready, &poll, &mut scratch);
            }
        }
    }
}

fn client_token(number: usize) -> usize {
    1 + 2 * number
}

fn server_token(number: usize) -> usize {
    2 + 2 * number
}

/// The connection ends, and the other one with it.
struct End;

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self
    }
}

struct Client {
    socket: TcpStream,
    /// What is added to each of its heads, and the end of the head.
    lines: Vec<u8>,
    /// What came of a head that is not whole.
    head: Vec<u8>,
    /// What it has not taken yet.
    unsent: Vec<u8>,
    /// Who answers its request.
    server: Option<usize>,
    /// What of the request's body is still to come.
    left: u64,
    /// Nothing is to be read until it is spoken of again.
    dry: bool,
    ended: bool,
    /// It asked for an end behind its answer.
    last: bool,
}

struct Server {
    socket: TcpStream,
    target: usize,
    client: Option<usize>,
    head: Vec<u8>,
    unsent: Vec<u8>,
    /// What of the answer's body is still to come, once its head has.
    left: Option<u64>,
    /// The answer is the last one on this connection.
    last: bool,
}

impl Client {
    fn new(socket: TcpStream, port: u16) -> io::Result<Self> {
        let ip = socket.peer_addr()?.ip();
        let lines = format!(
            "X-Forwarded-For: {ip}\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: {port}\r\n\r\n"
        )
        .into_bytes();
        Ok(Self {
            socket,
            lines,
            head: Vec::new(),
            unsent: Vec::new(),
            server: None,
            left: 0,
            dry: true,
            ended: false,
            last: false,
        })
    }
}

struct Relay {
    clients: Slots<Client>,
    servers: Slots<Server>,
    /// Connections without a client, by target; the one used last is used next.
    idle: Vec<Vec<usize>>,
    targets: Vec<SocketAddr>,
    turn: usize,
}

impl Relay {
    fn client_ready(&mut self, number: usize, ready: Ready, poll: &Poll, scratch: &mut [u8]) {
        let Some(client) = self.clients.find(number) else {
            return;
        };
        client.dry &= !ready.readable;
        client.ended |= ready.ended;
        let server = client.server;
        let resumed = ready.writable && !client.unsent.is_empty();
        let mut outcome = if resumed {
            flush(&client.socket, &mut client.unsent)
        } else {
            Ok(())
        };
        match (resumed && outcome.is_ok(), server) {
            (true, Some(server)) => outcome = self.pass_back(server, true, scratch),
            (true, None) if client.last && client.unsent.is_empty() => outcome = Err(End),
            _ => (),
        }
        if outcome
            .and_then(|()| self.pass_forward(number, poll, scratch))
            .is_err()
        {
            self.close(number);
        }
    }

    fn server_ready(&mut self, number: usize, ready: Ready, poll: &Poll, scratch: &mut [u8]) {
        let Some(server) = self.servers.find(number) else {
            return;
        };
        let Some(client) = server.client else {
            // The first edge of a connection says that it may be written to; anything else is its end.
            if ready.readable {
                let target = server.target;
                self.idle[target].retain(|idle| *idle != number);
                self.servers.take(number);
            }
            return;
        };
        let mut outcome = Ok(());
        if ready.writable && !server.unsent.is_empty() {
            outcome = flush(&server.socket, &mut server.unsent);
        }
        if ready.readable && outcome.is_ok() {
            outcome = self.pass_back(number, ready.ended, scratch);
        }
        // A body that waited for this server goes on, or the request that came behind the answer.
        if outcome
            .and_then(|()| self.pass_forward(client, poll, scratch))
            .is_err()
        {
            self.close(client);
        }
    }

    fn close(&mut self, client: usize) {
        let server = self.clients.take(client).and_then(|client| client.server);
        if let Some(server) = server {
            self.servers.take(server);
        }
    }

    /// From the client to the server.
    fn pass_forward(&mut self, number: usize, poll: &Poll, scratch: &mut [u8]) -> Result<(), End> {
        loop {
            let client = self.clients.find(number).ok_or(End)?;
            if client.dry {
                return Ok(());
            }
            let mut most = scratch.len();
            if let Some(server) = client.server {
                let server = self.servers.find(server).ok_or(End)?;
                match client.left {
                    0 if client.ended => return Err(End),
                    0 => return Ok(()),
                    _ if !server.unsent.is_empty() => return Ok(()),
                    left => most = most.min(left as usize),
                }
            }
            let count = match socket::read(&client.socket, &mut scratch[..most])? {
                Received::Bytes(count) => count,
                Received::End => return Err(End),
                Received::Later => {
                    client.dry = true;
                    return Ok(());
                }
            };
            client.dry = count < most && !client.ended;
            if let Some(server) = client.server {
                let server = self.servers.find(server).ok_or(End)?;
                client.left -= count as u64;
                send(&server.socket, &scratch[..count], &mut server.unsent)?;
            } else if client.head.is_empty() {
                self.begin(number, &scratch[..count], poll)?;
            } else {
                let mut bytes = std::mem::take(&mut client.head);
                bytes.extend_from_slice(&scratch[..count]);
                self.begin(number, &bytes, poll)?;
            }
        }
    }

    /// Sends a request on, if its head is whole, with as much of its body as is there.
    fn begin(&mut self, number: usize, bytes: &[u8], poll: &Poll) -> Result<(), End> {
        let client = self.clients.find(number).ok_or(End)?;
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() < SCRATCH => {
                client.head = bytes.to_vec();
                return Ok(());
            }
            Ok(httparse::Status::Partial) | Err(_) => return Err(End),
        };
        let mut body = 0;
        // Its own connection is nothing to the target, whose connection stays.
        let mut left_out = 0..0;
        for header in request.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                body = answer::number(header.value).ok_or(End)?;
            } else if header.name.eq_ignore_ascii_case("connection") {
                client.last = header.value.eq_ignore_ascii_case(b"close");
                let at = |part: &[u8]| part.as_ptr() as usize - bytes.as_ptr() as usize;
                left_out =
                    at(header.name.as_bytes())..at(header.value) + header.value.len() + LINE_END;
            }
        }
        let here = bytes.len() - length;
        client.left = body.checked_sub(here as u64).ok_or(End)?;

        let number_of_server = self.server(number, poll)?;
        let client = self.clients.find(number).ok_or(End)?;
        client.server = Some(number_of_server);
        let server = self.servers.find(number_of_server).ok_or(End)?;
        // The lines stand before the empty line that ends the head, and bring their own.
        let pieces = [
            &bytes[..left_out.start],
            &bytes[left_out.end..length - LINE_END],
            &client.lines,
            &bytes[length..],
        ];
        let mut sent =
            rustix::io::writev(&server.socket, &pieces.map(IoSlice::new)).map_err(|_| End)?;
        for piece in pieces {
            let skipped = sent.min(piece.len());
            server.unsent.extend_from_slice(&piece[skipped..]);
            sent -= skipped;
        }
        Ok(())
    }

    /// A connection to the target whose turn it is, for this client.
    fn server(&mut self, client: usize, poll: &Poll) -> Result<usize, End> {
        self.turn = (self.turn + 1) % self.targets.len();
        let number = match self.idle[self.turn].pop() {
            Some(number) => number,
            None => {
                let socket = socket::connected(self.targets[self.turn], 0)?;
                socket.set_nonblocking(true)?;
                let number = self.servers.put(Server {
                    socket,
                    target: self.turn,
                    client: None,
                    head: Vec::new(),
                    unsent: Vec::new(),
                    left: None,
                    last: false,
                });
                let server = self.servers.find(number).ok_or(End)?;
                poll.add(&server.socket, server_token(number))?;
                number
            }
        };
        self.servers.find(number).ok_or(End)?.client = Some(client);
        Ok(number)
    }

    /// From the server to its client, up to the end of the answer.
    fn pass_back(
        &mut self,
        number: usize,
        to_the_end: bool,
        scratch: &mut [u8],
    ) -> Result<(), End> {
        loop {
            let server = self.servers.find(number).ok_or(End)?;
            let client = self.clients.find(server.client.ok_or(End)?).ok_or(End)?;
            if !client.unsent.is_empty() {
                return Ok(());
            }
            let count = match socket::read(&server.socket, scratch)? {
                Received::Bytes(count) => count,
                Received::Later => return Ok(()),
                Received::End => return Err(End),
            };
            server.follow(&scratch[..count])?;
            send(&client.socket, &scratch[..count], &mut client.unsent)?;
            if server.left == Some(0) {
                client.server = None;
                server.client = None;
                server.left = None;
                if server.last {
                    self.servers.take(number);
                } else {
                    self.idle[server.target].push(number);
                }
                let client_ends = client.last && client.unsent.is_empty();
                return if client_ends { Err(End) } else { Ok(()) };
            }
            if count < scratch.len() && !to_the_end {
                return Ok(());
            }
        }
    }
}

impl Server {
    /// Keeps count of the answer.
    fn follow(&mut self, bytes: &[u8]) -> Result<(), End> {
        let Some(left) = self.left else {
            self.head.extend_from_slice(bytes);
            if let Some((head, length)) = answer::parse(&self.head).map_err(|_| End)? {
                let here = (self.head.len() - length) as u64;
                self.left = Some(head.length.checked_sub(here).ok_or(End)?);
                self.last = head.last;
                self.head.clear();
            }
            return Ok(());
        };
        self.left = Some(left.checked_sub(bytes.len() as u64).ok_or(End)?);
        Ok(())
    }
}

fn flush(socket: &TcpStream, unsent: &mut Vec<u8>) -> Result<(), End> {
    let count = socket::write(socket, unsent)?;
    unsent.drain(..count);
    Ok(())
}

fn send(socket: &TcpStream, bytes: &[u8], unsent: &mut Vec<u8>) -> Result<(), End> {
    let count = socket::write(socket, bytes)?;
    unsent.extend_from_slice(&bytes[count..]);
    Ok(())
}
