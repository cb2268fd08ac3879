//! HTTP/1.1 messages as the far ends of the load balancer see them. Reads strictly and shares no code with albedo.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::within;

/// A head, and the body behind it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Without its empty line.
    pub(crate) head: String,
    /// Without chunks.
    pub(crate) body: Vec<u8>,
    /// Every byte after the head, as it came.
    pub(crate) raw_body: Vec<u8>,
}

/// How a response's end is found where its head does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framed {
    ByHead,
    /// The answer to HEAD.
    WithoutBody,
}

impl Message {
    /// The first line.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        self.line()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .expect("a status")
    }

    /// Every value of a header, whatever its name's case.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    /// The one value of a header; a second one fails the test.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} twice in {}", self.head);
        all.first().copied()
    }

    /// Header names as they are spelled.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.fields().map(|(name, _)| name).collect()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.head.split("\r\n").skip(1).map(|line| {
            line.split_once(": ")
                .unwrap_or_else(|| panic!("no header: {line:?}"))
        })
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Reset,
}

/// A socket and what was read from it too early.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// Sends bytes; a peer that takes no more is no failure here, its answer tells.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        let _ = within("bytes to be taken", self.stream.write_all(bytes)).await;
    }

    pub(super) async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Closes so that the peer sees a reset.
    pub(super) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Reads the next message; `None` where the connection ends instead.
    pub(super) async fn message(&mut self, framed: Framed) -> Option<Message> {
        let head = self.head().await?;
        let mut message = Message {
            head,
            body: Vec::new(),
            raw_body: Vec::new(),
        };
        let is_response = message.head.starts_with("HTTP/");
        if framed == Framed::WithoutBody || is_response && is_bodiless(message.status()) {
            return Some(message);
        }
        let coding = message.header("Transfer-Encoding").map(str::to_owned);
        let length = message.header("Content-Length").map(str::to_owned);
        match (coding.as_deref(), length) {
            (Some("chunked"), None) => self.chunks(&mut message).await,
            (None, Some(length)) => {
                message.raw_body = self.take(length.parse().expect("a length")).await;
                message.body.clone_from(&message.raw_body);
            }
            (None, None) if is_response => {
                message.raw_body = self.rest().await;
                message.body.clone_from(&message.raw_body);
            }
            (None, None) => {}
            framing => panic!("{framing:?} in {}", message.head),
        }
        Some(message)
    }

    /// Reads the next head without its empty line; `None` where the connection ends before its first byte.
    pub(super) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).take(end).collect();
                return Some(String::from_utf8(head).expect("a head of text"));
            }
            match self.more("a head").await {
                Ok(0) | Err(_) if self.unread.is_empty() => return None,
                Ok(0) => panic!(
                    "a head ends early: {:?}",
                    self.unread.escape_ascii().to_string()
                ),
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn chunks(&mut self, message: &mut Message) {
        loop {
            let line = self.line(message).await;
            let size = usize::from_str_radix(&line, 16).expect("a chunk size and no extension");
            let data = self.take(size + 2).await;
            message.raw_body.extend_from_slice(&data);
            let (data, end) = data.split_at(size);
            assert_eq!(end, b"\r\n", "the end of a chunk; or a trailer");
            message.body.extend_from_slice(data);
            if size == 0 {
                return;
            }
        }
    }

    async fn line(&mut self, message: &mut Message) -> String {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                message.raw_body.extend_from_slice(&line);
                return String::from_utf8(line[..end].to_vec()).unwrap();
            }
            assert_ne!(self.more("a chunk").await.unwrap(), 0, "a body ends early");
        }
    }

    /// Reads exactly this many bytes.
    pub(super) async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            let more = self.more("the rest of a body").await.unwrap();
            assert_ne!(more, 0, "a body ends early");
        }
        self.unread.drain(..count).collect()
    }

    /// Reads to the end of the connection, by close or by reset.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        while let Ok(1..) = self.more("the end of the connection").await {}
        std::mem::take(&mut self.unread)
    }

    /// Reads to the end of the connection, and says how it came.
    pub(super) async fn end(&mut self) -> End {
        loop {
            match self.more("the end of the connection").await {
                Ok(0) => return End::Closed,
                Ok(_) => {}
                Err(_) => return End::Reset,
            }
        }
    }

    /// Whether nothing came that was not read yet.
    pub(super) async fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let peeked = poll_fn(|cx| {
            let mut byte = ReadBuf::new(&mut byte);
            Poll::Ready(self.stream.poll_peek(cx, &mut byte).is_pending())
        });
        peeked.await && self.unread.is_empty()
    }

    async fn more(&mut self, what: &str) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let count = within(what, self.stream.read(&mut buffer)).await?;
        self.unread.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

/// RFC 9112 §6.3, item 1.
fn is_bodiless(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
