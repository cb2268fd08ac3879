//! A simulated target: answers what it is asked, byte by byte as the request's id demands, and has every fault there is.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::clock::now;
use crate::content;
use crate::fault::Fault;
use crate::frames::{self, From};
use crate::history::SeenByChecks;
use crate::ledger::{Id, Ledger};
use crate::wire::{Framing, Head, Wire, invalid};
use crate::world::TargetId;

/// Connections that wait to be accepted; few, so that a target that stops soon takes no more.
const BACKLOG: u32 = 64;

/// The path of checks.
pub(crate) const CHECK_PATH: &str = "/ping";

/// A target.
#[derive(Clone)]
pub(crate) struct Target {
    id: TargetId,
    address: SocketAddr,
    ledger: Arc<Ledger>,
    tls: Option<Arc<ServerConfig>>,
    state: watch::Sender<State>,
}

/// What is wrong with it now.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    fault: Option<(Fault, SeenByChecks)>,
    /// Grows when every connection is to be reset.
    cuts: u32,
}

/// One of the connections that are open at any target.
pub(crate) struct Open;

static OPEN: AtomicU64 = AtomicU64::new(0);

impl Open {
    fn begin() -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Self
    }

    pub(crate) fn count() -> u64 {
        OPEN.load(Ordering::Relaxed)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What becomes of a connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    Close,
    Reset,
}

/// What a request asks for.
struct Ask {
    id: Id,
    what: String,
    size: usize,
    form: Form,
    /// Milliseconds to wait, or between two events.
    wait: u64,
    count: u64,
}

/// How an answer's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Length,
    Chunked,
    UntilClose,
}

impl Form {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Chunked => "chunked",
            Self::UntilClose => "close",
        }
    }
}

impl State {
    fn fault(&self) -> Option<Fault> {
        self.fault.map(|(fault, _)| fault)
    }

    fn is_stopped(&self) -> bool {
        self.fault() == Some(Fault::Stop)
    }

    fn refuses(&self) -> bool {
        self.fault() == Some(Fault::Refuse)
    }
}

impl Target {
    pub(crate) fn new(
        id: TargetId,
        address: SocketAddr,
        ledger: Arc<Ledger>,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        Self {
            id,
            address,
            ledger,
            tls,
            state: watch::Sender::default(),
        }
    }

    /// From now on this is wrong with it.
    pub(crate) fn suffer(&self, fault: Fault, seen: SeenByChecks) {
        self.state.send_modify(|state| {
            state.fault = Some((fault, seen));
            state.cuts += u32::from(fault.cuts_at_first());
        });
    }

    /// All is well again. What another service had goes with it.
    pub(crate) fn recover(&self) {
        self.state.send_modify(|state| {
            state.cuts += u32::from(state.fault() == Some(Fault::TakenOver));
            state.fault = None;
        });
    }

    pub(crate) fn name(&self) -> String {
        self.id.name()
    }

    /// Listens and serves.
    pub(crate) async fn run(self) -> io::Result<()> {
        let mut state = self.state.subscribe();
        loop {
            let listener = self.listen().await?;
            while !state.borrow_and_update().refuses() {
                if state.borrow().is_stopped() {
                    let _never_ends = state.changed().await;
                    continue;
                }
                tokio::select! {
                    _ = state.changed() => {}
                    accepted = listener.accept() => {
                        let (stream, _) = accepted?;
                        tokio::spawn(self.clone().connection(stream));
                    }
                }
            }
            drop(listener);
            let _never_ends = state.wait_for(|state| !state.refuses()).await;
        }
    }

    async fn listen(&self) -> io::Result<TcpListener> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        socket.listen(BACKLOG)
    }

    async fn connection(self, stream: TcpStream) {
        let _open = Open::begin();
        let mut state = self.state.subscribe();
        let cuts = state.borrow().cuts;
        let _late = stream.set_nodelay(true);
        let mut wire = match &self.tls {
            None => Wire::new(stream),
            Some(tls) => match TlsAcceptor::from(Arc::clone(tls)).accept(stream).await {
                Ok(stream) => Wire::new(stream),
                Err(_) => return,
            },
        };
        let next = {
            let mut serving = pin!(self.serve(&mut wire));
            loop {
                let told = state.wait_for(|state| state.cuts != cuts || state.is_stopped());
                tokio::select! {
                    biased;
                    told = told => {
                        let is_cut = told.is_ok_and(|state| state.cuts != cuts);
                        if is_cut {
                            break Next::Reset;
                        }
                    }
                    end = &mut serving => break end.unwrap_or(Next::Close),
                }
                let _never_ends = state.wait_for(|state| !state.is_stopped()).await;
            }
        };
        match next {
            Next::Reset => wire.reset(),
            // Under TLS an end without a word is none.
            Next::GoOn | Next::Close => drop(wire.writer.shutdown().await),
        }
    }

    /// Answers one request after another.
    async fn serve(&self, wire: &mut Wire) -> io::Result<Next> {
        if self.state.borrow().fault == Some((Fault::ResetAtOnce, SeenByChecks::Yes)) {
            return Ok(Next::Reset);
        }
        loop {
            let Some(head) = wire.reader.head().await? else {
                return Ok(Next::Close);
            };
            let next = if head.line.starts_with(&format!("GET {CHECK_PATH} ")) {
                self.check(wire).await?
            } else {
                self.request(wire, &head).await?
            };
            if next != Next::GoOn {
                return Ok(next);
            }
        }
    }

    async fn check(&self, wire: &mut Wire) -> io::Result<Next> {
        let fault = match self.state.borrow().fault {
            Some((fault, SeenByChecks::Yes)) => Some(fault),
            _ => None,
        };
        let answer = Answer {
            head: String::new(),
            id: 0,
            size: 0,
        };
        match fault {
            None => {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    .await?;
                Ok(Next::GoOn)
            }
            Some(Fault::TakenOver) => {
                wire.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                    .await?;
                Ok(Next::GoOn)
            }
            Some(fault) => self.misbehave(fault, wire, &answer).await,
        }
    }

    async fn request(&self, wire: &mut Wire, head: &Head) -> io::Result<Next> {
        let fault = self.state.borrow().fault();
        if fault == Some(Fault::TakenOver) {
            // A service of somebody else's: whatever it does with a request is not what the group would do.
            let framing = head.framing(Framing::Length(0))?;
            wire.reader.body(framing, |_| {}).await?;
            wire.send("HTTP/1.1 200 OK\r\nServer: another\r\nContent-Length: 7\r\n\r\nanother")
                .await?;
            return Ok(Next::GoOn);
        }
        if fault == Some(Fault::ResetAtOnce) {
            return Ok(Next::Reset);
        }
        let ask = Ask::read(head).ok_or_else(|| {
            self.ledger
                .violation(format!("{} was asked {:?}", self.id.name(), head.line));
            invalid("not ours")
        })?;
        self.ledger.arrived(ask.id, self.id);
        let named = format!("X-Id: {}\r\nX-Target: {}\r\n", ask.id, self.id.name());
        let mut check = content::Check::of(ask.id);
        let framing = head.framing(Framing::Length(0))?;
        wire.reader.body(framing, |piece| check.take(piece)).await?;
        let is_upload = matches!(ask.what.as_str(), "put" | "post");
        if is_upload && let Err(wrong) = check.verdict(ask.size) {
            self.ledger
                .violation(format!("id {}: the body that arrived: {wrong}", ask.id));
        }
        let answer = Answer {
            head: named,
            id: ask.id,
            size: if is_upload { 32 } else { ask.size },
        };
        let is_plain = matches!(ask.what.as_str(), "get" | "put" | "post");
        match fault {
            None | Some(Fault::Stop | Fault::Refuse) => {}
            Some(Fault::Drip | Fault::TooLong | Fault::CloseUnannounced) if !is_plain => {}
            Some(fault) => return self.misbehave(fault, wire, &answer).await,
        }
        match ask.what.as_str() {
            "events" => events(wire, &answer, &ask).await,
            "socket" => self.socket(wire, &answer, head).await,
            "poll" => {
                sleep(Duration::from_millis(ask.wait)).await;
                answer.send(wire, ask.form).await
            }
            _ => answer.send(wire, ask.form).await,
        }
    }

    /// Does what this fault does instead of answering.
    async fn misbehave(&self, fault: Fault, wire: &mut Wire, answer: &Answer) -> io::Result<Next> {
        let Answer { head, id, size } = answer;
        let whole = format!("HTTP/1.1 200 OK\r\n{head}Content-Length: {size}\r\n\r\n");
        let body = content::bytes(*id, *size);
        let half = &body[..body.len() / 2];
        match fault {
            Fault::Silence => {
                self.is_over().await;
                Ok(Next::Close)
            }
            Fault::ResetInHead => {
                wire.send(&whole[..whole.len() / 2]).await?;
                Ok(Next::Reset)
            }
            Fault::ResetInBody => {
                let longer = format!(
                    "HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n",
                    size + 1
                );
                wire.send(longer).await?;
                wire.send(half).await?;
                Ok(Next::Reset)
            }
            Fault::Drip => {
                let all = [whole.as_bytes(), &body].concat();
                for piece in all.chunks(all.len() / 40 + 1) {
                    wire.send(piece).await?;
                    sleep(Duration::from_millis(25)).await;
                }
                Ok(Next::GoOn)
            }
            Fault::HalfClose | Fault::HalfCloseInBody => {
                if fault == Fault::HalfCloseInBody {
                    let longer = format!(
                        "HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n",
                        size + 1
                    );
                    wire.send(longer).await?;
                    wire.send(half).await?;
                }
                wire.writer.shutdown().await?;
                wire.reader.rest().await?;
                Ok(Next::Close)
            }
            Fault::Garbage => {
                let garbage = content::bytes(u64::from(self.id.0) + 1, 300);
                wire.send(garbage).await?;
                wire.send("\r\n\r\n").await?;
                Ok(Next::Close)
            }
            Fault::Interim => {
                wire.send("HTTP/1.1 100 Continue\r\n\r\n".repeat(50))
                    .await?;
                wire.send(whole).await?;
                wire.send(body).await?;
                Ok(Next::GoOn)
            }
            Fault::HugeHead => {
                let long = "x".repeat(1000);
                let lines: String = (0..64).map(|n| format!("X-{n}: {long}\r\n")).collect();
                wire.send(format!(
                    "HTTP/1.1 200 OK\r\n{lines}{head}Content-Length: {size}\r\n\r\n"
                ))
                .await?;
                wire.send(body).await?;
                Ok(Next::Close)
            }
            Fault::TooShort => {
                let longer = format!(
                    "HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n",
                    size + 10
                );
                wire.send(longer).await?;
                wire.send(body).await?;
                Ok(Next::Close)
            }
            Fault::TooLong => {
                let another = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
                wire.send([whole.as_bytes(), &body, another.as_bytes()].concat())
                    .await?;
                Ok(Next::GoOn)
            }
            Fault::CloseUnannounced => {
                wire.send([whole.as_bytes(), &body].concat()).await?;
                Ok(Next::Close)
            }
            Fault::Errors => {
                let head = format!("HTTP/1.1 500 Oh\r\n{head}Content-Length: {size}\r\n\r\n");
                wire.send([head.as_bytes(), &body].concat()).await?;
                Ok(Next::GoOn)
            }
            // Those have done what they do by now.
            Fault::Refuse | Fault::ResetAtOnce | Fault::Stop | Fault::TakenOver => Ok(Next::Reset),
        }
    }

    /// Agrees, and says again whatever is said.
    async fn socket(&self, wire: &mut Wire, answer: &Answer, head: &Head) -> io::Result<Next> {
        let accept = frames::accept(head.header("sec-websocket-key").unwrap_or_default());
        wire.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{}\r\n",
            answer.head
        ))
        .await?;
        let mut unread = Vec::new();
        loop {
            while let Some((opcode, payload)) = frames::decode(&mut unread) {
                wire.send(frames::encode(From::Target, opcode, &payload))
                    .await?;
                if opcode == frames::CLOSE {
                    return Ok(Next::Close);
                }
            }
            let two = wire.reader.some().await?;
            if two.is_empty() {
                return Ok(Next::Close);
            }
            unread.extend_from_slice(&two);
        }
    }

    async fn is_over(&self) {
        let mut state = self.state.subscribe();
        let _never_ends = state.wait_for(|state| state.fault.is_none()).await;
    }
}

/// A whole answer.
struct Answer {
    /// Who it is from.
    head: String,
    id: Id,
    size: usize,
}

impl Answer {
    async fn send(&self, wire: &mut Wire, form: Form) -> io::Result<Next> {
        let Self { head, id, size } = self;
        let (framing, next) = match form {
            Form::Length => (format!("Content-Length: {size}\r\n"), Next::GoOn),
            Form::Chunked => ("Transfer-Encoding: chunked\r\n".to_owned(), Next::GoOn),
            Form::UntilClose => ("Connection: close\r\n".to_owned(), Next::Close),
        };
        let mut bytes = format!("HTTP/1.1 200 OK\r\n{head}{framing}\r\n").into_bytes();
        let mut sent = 0;
        while sent < *size {
            let count = (size - sent).min(16 * 1024);
            if form == Form::Chunked {
                bytes.extend_from_slice(format!("{count:x}\r\n").as_bytes());
            }
            let begin = bytes.len();
            bytes.resize(begin + count, 0);
            content::fill(*id, sent, &mut bytes[begin..]);
            if form == Form::Chunked {
                bytes.extend_from_slice(b"\r\n");
            }
            sent += count;
            if sent < *size {
                wire.send(&bytes).await?;
                bytes.clear();
            }
        }
        if form == Form::Chunked {
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
        wire.send(&bytes).await?;
        Ok(next)
    }
}

/// One event after another, each with the moment when it was sent.
async fn events(wire: &mut Wire, answer: &Answer, ask: &Ask) -> io::Result<Next> {
    wire.send(format!(
        "HTTP/1.1 200 OK\r\n{}Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        answer.head
    ))
    .await?;
    for number in 0..ask.count {
        sleep(Duration::from_millis(ask.wait)).await;
        let event = format!("id: {}.{number}\ndata: {}\n\n", ask.id, now());
        wire.send(format!("{:x}\r\n{event}\r\n", event.len()))
            .await?;
    }
    wire.send("0\r\n\r\n").await?;
    Ok(Next::GoOn)
}

impl Ask {
    /// `/PLACE/WHAT/ID?name=value&…`
    fn read(head: &Head) -> Option<Self> {
        let target = head.line.split(' ').nth(1)?;
        let (path, query) = target.split_once('?')?;
        let mut parts = path.split('/').skip(2);
        let (what, id) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?);
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value)
        };
        let number = |name: &str| {
            value(name)
                .and_then(|value| value.parse().ok())
                .unwrap_or(0)
        };
        Some(Self {
            id,
            what,
            size: usize::try_from(number("size")).ok()?,
            form: match value("form") {
                Some("chunked") => Form::Chunked,
                Some("close") => Form::UntilClose,
                _ => Form::Length,
            },
            wait: number("wait"),
            count: number("count"),
        })
    }
}
