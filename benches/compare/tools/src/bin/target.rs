//! Answers what proxies pass on, as cheaply as it can: what it costs is noise in every figure.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;

use rustix::net::RecvFlags;
use tools::answer::number;
use tools::poll::{Poll, Ready};
use tools::report;
use tools::slots::Slots;
use tools::socket::{self, Received};
use tools::websocket::{self, Echo};
use tools::words::{self, Trouble, Words};

/// As in every figure we publish.
const BODY: [u8; 128] = *b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Read or written at once.
const SCRATCH: usize = 256 << 10;

/// Longest head taken, and longest line between chunks.
const HEAD_MAX: usize = 64 << 10;
const CHUNK_LINE_MAX: usize = 256;

const HEADERS_MAX: usize = 100;

const TEXT: &str = "text/plain; charset=utf-8";

fn main() -> ExitCode {
    words::run("target ADDRESS [ADDRESS…]", serve)
}

fn serve(mut words: Words) -> Result<(), Trouble> {
    let addresses: Vec<SocketAddr> = words.addresses()?;
    let listeners: Vec<TcpListener> = addresses
        .into_iter()
        .map(socket::listener)
        .collect::<io::Result<_>>()?;
    let mut poll = Poll::new()?;
    for (number, listener) in listeners.iter().enumerate() {
        poll.add_source(listener, number)?;
    }
    let mut connections: Slots<Connection> = Slots::default();
    let mut shared = Shared {
        head: head(BODY.len() as u64, TEXT, ""),
        pattern: BODY.repeat(SCRATCH / BODY.len()),
        counts: Counts::default(),
    };
    let mut scratch = vec![0; SCRATCH];
    report::listening(&listeners)?;
    loop {
        poll.wait(None)?;
        for ready in poll.ready() {
            if let Some(listener) = listeners.get(ready.token) {
                while let Some(socket) = socket::accept(listener)? {
                    shared.counts.accepted += 1;
                    shared.counts.open += 1;
                    let number = connections.put(Connection::new(socket));
                    let connection = connections.find(number).expect("it was put there just now");
                    poll.add(&connection.socket, number + listeners.len())?;
                }
                continue;
            }
            let number = ready.token - listeners.len();
            let Some(connection) = connections.find(number) else {
                continue;
            };
            if connection.go_on(ready, &mut shared, &mut scratch).is_err() {
                shared.counts.open -= 1;
                connections.take(number);
            }
        }
    }
}

#[derive(Default)]
struct Counts {
    accepted: u64,
    open: u64,
    requests: u64,
    /// Of WebSockets.
    messages: u64,
    /// Of large bodies, in both directions.
    bytes: u64,
}

struct Shared {
    /// The head of the usual answer.
    head: Vec<u8>,
    /// What large bodies are made of.
    pattern: Vec<u8>,
    counts: Counts,
}

/// The connection ends, whoever wants it.
struct End;

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl From<&'static str> for End {
    fn from(_: &'static str) -> Self {
        Self
    }
}

struct Connection {
    socket: TcpStream,
    stage: Stage,
    /// What came and could not be used yet.
    input: Vec<u8>,
    /// What the socket did not take yet: these bytes, then so many of the pattern.
    unsent: Vec<u8>,
    body: u64,
    /// The answer to come is the last one.
    closes: bool,
    /// Ends when everything is sent.
    last: bool,
}

#[derive(Clone, Copy)]
enum Stage {
    Head,
    Body {
        left: u64,
        length: u64,
    },
    /// Before a chunk's size, with as many bytes of the body so far.
    Size {
        length: u64,
    },
    /// In a chunk and the line end behind it.
    Chunk {
        left: u64,
        length: u64,
    },
    /// Behind the last chunk, in lines up to an empty one.
    Trailer {
        length: u64,
    },
    Tunnel,
}

impl Connection {
    fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            stage: Stage::Head,
            input: Vec::new(),
            unsent: Vec::new(),
            body: 0,
            closes: false,
            last: false,
        }
    }

    fn go_on(&mut self, ready: Ready, shared: &mut Shared, scratch: &mut [u8]) -> Result<(), End> {
        // An edge says what is there when it is delivered, so nothing that came while the socket took no more is missed.
        let mut dry = !ready.readable;
        loop {
            let unsent = self.body;
            let sent = self.flush(&shared.pattern)?;
            shared.counts.bytes += unsent - self.body;
            if !sent {
                return Ok(());
            }
            if self.last {
                return Err(End);
            }
            if dry {
                return Ok(());
            }
            let count = match self.read(scratch)? {
                Received::Bytes(count) => count,
                Received::Later => return Ok(()),
                Received::End => return Err(End),
            };
            dry = count < scratch.len() && !ready.ended;
            if self.input.is_empty() {
                let used = self.take(&scratch[..count], shared)?;
                self.input.extend_from_slice(&scratch[used..count]);
            } else {
                let mut input = std::mem::take(&mut self.input);
                input.extend_from_slice(&scratch[..count]);
                let used = self.take(&input, shared)?;
                input.drain(..used);
                self.input = input;
            }
        }
    }

    /// Sends what there is to send; says whether the socket took it all.
    fn flush(&mut self, pattern: &[u8]) -> Result<bool, End> {
        if !self.unsent.is_empty() {
            let count = socket::write(&self.socket, &self.unsent)?;
            if count < self.unsent.len() {
                self.unsent.drain(..count);
                return Ok(false);
            }
            self.unsent.clear();
        }
        while self.body > 0 {
            let piece = pattern.len().min(self.body as usize);
            let count = socket::write(&self.socket, &pattern[..piece])?;
            self.body -= count as u64;
            if count < piece {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read(&self, scratch: &mut [u8]) -> Result<Received, End> {
        let Stage::Body { left, .. } = self.stage else {
            return Ok(socket::read(&self.socket, scratch)?);
        };
        // Nobody looks at a body, so that the kernel need not copy it: `take` sees whatever was in the buffer before.
        let most = (left as usize).min(scratch.len());
        match rustix::net::recv(&self.socket, &mut scratch[..most], RecvFlags::TRUNC) {
            Ok((_, 0)) => Ok(Received::End),
            Ok((_, count)) => Ok(Received::Bytes(count)),
            Err(rustix::io::Errno::AGAIN) => Ok(Received::Later),
            Err(_) => Err(End),
        }
    }

    /// Goes through what has come, as far as it is whole; gives back how far that is.
    fn take(&mut self, bytes: &[u8], shared: &mut Shared) -> Result<usize, End> {
        let mut from = 0;
        while from < bytes.len() {
            // Nobody sends a request before the answer to the last one has come, if that is a large one.
            if self.body > 0 || self.last {
                return Err(End);
            }
            match self.step(&bytes[from..], shared)? {
                0 => break,
                used => from += used,
            }
        }
        Ok(from)
    }

    /// One step: a head, a piece of a body, a line, a frame. 0 when it is not whole.
    fn step(&mut self, bytes: &[u8], shared: &mut Shared) -> Result<usize, End> {
        match self.stage {
            Stage::Head => self.request(bytes, shared),
            Stage::Body { left, length } => {
                let used = left.min(bytes.len() as u64);
                shared.counts.bytes += used;
                self.stage = Stage::Body {
                    left: left - used,
                    length,
                };
                if used == left {
                    self.answer_length(length);
                }
                Ok(used as usize)
            }
            Stage::Size { length } => {
                let Some(line) = line(bytes)? else {
                    return Ok(0);
                };
                let digits = line
                    .split(|byte| *byte == b';')
                    .next()
                    .unwrap_or_default()
                    .trim_ascii();
                let size = str::from_utf8(digits)
                    .ok()
                    .and_then(|digits| u64::from_str_radix(digits, 16).ok());
                self.stage = match size.ok_or(End)? {
                    0 => Stage::Trailer { length },
                    size => Stage::Chunk {
                        left: size.checked_add(2).ok_or(End)?,
                        length: length.checked_add(size).ok_or(End)?,
                    },
                };
                Ok(line.len())
            }
            Stage::Chunk { left, length } => {
                let used = left.min(bytes.len() as u64);
                shared.counts.bytes += used;
                self.stage = match left - used {
                    0 => Stage::Size { length },
                    left => Stage::Chunk { left, length },
                };
                Ok(used as usize)
            }
            Stage::Trailer { length } => {
                let Some(line) = line(bytes)? else {
                    return Ok(0);
                };
                if line.trim_ascii().is_empty() {
                    self.answer_length(length);
                }
                Ok(line.len())
            }
            Stage::Tunnel => match websocket::echo(bytes, &mut self.unsent)? {
                Echo::Went(used) => {
                    shared.counts.messages += 1;
                    Ok(used)
                }
                Echo::Incomplete => Ok(0),
                Echo::Closed => {
                    self.last = true;
                    Ok(bytes.len())
                }
            },
        }
    }

    fn request(&mut self, bytes: &[u8], shared: &mut Shared) -> Result<usize, End> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let used = match request.parse(bytes) {
            Ok(httparse::Status::Complete(used)) => used,
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_MAX => return Ok(0),
            Ok(httparse::Status::Partial) | Err(_) => return Err(End),
        };
        shared.counts.requests += 1;
        let mut length = None;
        let (mut chunked, mut expects, mut key) = (false, false, None);
        for header in request.headers.iter() {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            // The length of a name rules out nearly all of them.
            match header.name.len() {
                6 if is("expect") => expects = true,
                10 if is("connection") => self.closes = header.value.eq_ignore_ascii_case(b"close"),
                14 if is("content-length") => length = Some(number(header.value).ok_or(End)?),
                17 if is("transfer-encoding") => {
                    chunked = header.value.eq_ignore_ascii_case(b"chunked")
                }
                17 if is("sec-websocket-key") => key = str::from_utf8(header.value).ok(),
                _ => (),
            }
        }
        if expects {
            self.unsent
                .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if let Some(key) = key {
            let accept = websocket::accept_key(key);
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            self.unsent.extend_from_slice(head.as_bytes());
            self.stage = Stage::Tunnel;
        } else if chunked {
            self.stage = Stage::Size { length: 0 };
        } else if let Some(length @ 1..) = length {
            self.stage = Stage::Body {
                left: length,
                length,
            };
        } else if length.is_some() {
            self.answer_length(0);
        } else {
            let path = request.path.unwrap_or_default();
            self.answer(path, request.method == Some("HEAD"), shared);
        }
        Ok(used)
    }

    fn answer(&mut self, path: &str, is_head: bool, shared: &Shared) {
        self.last = self.closes;
        let size: u64 = match path.split('?').next().unwrap_or_default() {
            "/1m" => 1 << 20,
            "/64m" => 64 << 20,
            "/connections" => {
                let Counts {
                    accepted,
                    open,
                    requests,
                    messages,
                    bytes,
                } = shared.counts;
                let report = report::Report::default()
                    .say("accepted", accepted)
                    .say("open", open)
                    .say("requests", requests)
                    .say("messages", messages)
                    .say("bytes", bytes)
                    .finish();
                return self.say(&report, "application/json");
            }
            _ => {
                if self.closes {
                    self.begin(BODY.len() as u64, TEXT);
                } else {
                    self.unsent.extend_from_slice(&shared.head);
                }
                if !is_head {
                    self.unsent.extend_from_slice(&BODY);
                }
                return;
            }
        };
        self.begin(size, "application/octet-stream");
        self.body = if is_head { 0 } else { size };
    }

    fn answer_length(&mut self, length: u64) {
        self.last = self.closes;
        self.stage = Stage::Head;
        self.say(&length.to_string(), TEXT);
    }

    fn begin(&mut self, length: u64, kind: &str) {
        let line = if self.closes {
            "Connection: close\r\n"
        } else {
            ""
        };
        self.unsent.extend(head(length, kind, line));
    }

    fn say(&mut self, body: &str, kind: &str) {
        self.begin(body.len() as u64, kind);
        self.unsent.extend_from_slice(body.as_bytes());
    }
}

/// A line with its end, if it is whole.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, End> {
    match bytes
        .iter()
        .take(CHUNK_LINE_MAX)
        .position(|byte| *byte == b'\n')
    {
        Some(at) => Ok(Some(&bytes[..=at])),
        None if bytes.len() < CHUNK_LINE_MAX => Ok(None),
        None => Err(End),
    }
}

/// What servers of today send, at about their length. The dates stand still: nobody reads them.
fn head(length: u64, kind: &str, line: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\n\
         Date: Fri, 20 Nov 2026 12:00:00 GMT\r\n\
         Server: target\r\n\
         Content-Type: {kind}\r\n\
         Content-Length: {length}\r\n\
         Last-Modified: Thu, 19 Nov 2026 08:30:00 GMT\r\n\
         ETag: \"691d8f28-80\"\r\n\
         Cache-Control: no-cache\r\n\
         Vary: Accept-Encoding\r\n\
         X-Content-Type-Options: nosniff\r\n{line}\r\n"
    )
    .into_bytes()
}
