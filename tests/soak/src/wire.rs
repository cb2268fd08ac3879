//! HTTP/1.1 by hand for both ends: heads as text, bodies by their framing.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;

/// Longest head that anybody here sends or accepts.
const HEAD_MAX: usize = 64 * 1024;

/// Bytes in clear or under TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Makes the end a reset.
    fn resets(&self);
}

impl Stream for TcpStream {
    fn resets(&self) {
        // A socket that is gone cannot be reset.
        let _gone = self.set_zero_linger();
    }
}

impl Stream for tokio_rustls::client::TlsStream<TcpStream> {
    fn resets(&self) {
        self.get_ref().0.resets();
    }
}

impl Stream for tokio_rustls::server::TlsStream<TcpStream> {
    fn resets(&self) {
        self.get_ref().0.resets();
    }
}

/// A connection.
pub(crate) struct Wire {
    pub(crate) reader: Reader,
    pub(crate) writer: WriteHalf<Box<dyn Stream>>,
}

pub(crate) struct Reader {
    half: ReadHalf<Box<dyn Stream>>,
    unread: Vec<u8>,
    /// Bytes of `unread` that were taken.
    taken: usize,
}

/// A first line and headers.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) line: String,
    fields: Vec<(String, String)>,
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

impl Wire {
    pub(crate) fn new(stream: impl Stream + 'static) -> Self {
        let stream: Box<dyn Stream> = Box::new(stream);
        let (half, writer) = split(stream);
        Self {
            reader: Reader {
                half,
                unread: Vec::new(),
                taken: 0,
            },
            writer,
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.writer.write_all(bytes.as_ref()).await?;
        self.writer.flush().await
    }

    /// Ends with a reset.
    pub(crate) fn reset(self) {
        self.reader.half.unsplit(self.writer).resets();
    }
}

impl Reader {
    /// The next head; none where the connection ends before its first byte.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        let mut searched = 0;
        loop {
            let unread = &self.unread[self.taken..];
            let from = searched.min(unread.len());
            if let Some(end) = memchr::memmem::find(&unread[from..], b"\r\n\r\n") {
                let end = from + end;
                let head = Head::parse(&unread[..end]);
                self.taken += end + 4;
                return head.map(Some);
            }
            searched = unread.len().saturating_sub(3);
            if unread.len() > HEAD_MAX {
                return Err(invalid("a head without end"));
            }
            if self.more().await? == 0 {
                return match self.unread.len() - self.taken {
                    0 => Ok(None),
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// A body, handed on piece by piece.
    pub(crate) async fn body(
        &mut self,
        framing: Framing,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        match framing {
            Framing::Length(length) => self.pass(length, &mut each).await,
            Framing::Chunked => {
                while let Some(size) = self.chunk_size().await? {
                    self.pass(size, &mut each).await?;
                    self.chunk_end().await?;
                }
                Ok(())
            }
            Framing::UntilClose => loop {
                let count = self.unread.len() - self.taken;
                each(&self.unread[self.taken..]);
                self.taken += count;
                if self.more().await? == 0 {
                    return Ok(());
                }
            },
        }
    }

    /// The size of the next chunk; none at the end of the body, which is read.
    pub(crate) async fn chunk_size(&mut self) -> io::Result<Option<usize>> {
        let line = self.line().await?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(|_| invalid("no chunk size"))?;
        if size == 0 {
            self.chunk_end().await?;
            return Ok(None);
        }
        Ok(Some(size))
    }

    /// The end of a chunk.
    pub(crate) async fn chunk_end(&mut self) -> io::Result<()> {
        match self.line().await?.as_str() {
            "" => Ok(()),
            _ => Err(invalid("a chunk without end")),
        }
    }

    /// Whether anything is there that was not asked for: bytes, or the end.
    pub(crate) fn has_unread(&self) -> bool {
        self.taken < self.unread.len()
    }

    /// Reads away whatever comes, to the end.
    pub(crate) async fn rest(&mut self) -> io::Result<usize> {
        let mut count = self.unread.len() - self.taken;
        loop {
            self.taken = self.unread.len();
            match self.more().await? {
                0 => return Ok(count),
                more => count += more,
            }
        }
    }

    /// The next bytes, whatever they are; none at the end.
    pub(crate) async fn some(&mut self) -> io::Result<Vec<u8>> {
        if !self.has_unread() {
            self.more().await?;
        }
        let bytes = self.unread[self.taken..].to_vec();
        self.taken = self.unread.len();
        Ok(bytes)
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            let unread = &self.unread[self.taken..];
            if let Some(end) = memchr::memmem::find(unread, b"\r\n") {
                let line = String::from_utf8_lossy(&unread[..end]).into_owned();
                self.taken += end + 2;
                return Ok(line);
            }
            if unread.len() > HEAD_MAX {
                return Err(invalid("a line without end"));
            }
            self.must_have_more().await?;
        }
    }

    async fn pass(&mut self, count: usize, each: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let unread = &self.unread[self.taken..];
            if unread.is_empty() {
                self.must_have_more().await?;
                continue;
            }
            let now = unread.len().min(left);
            each(&unread[..now]);
            self.taken += now;
            left -= now;
        }
        Ok(())
    }

    async fn must_have_more(&mut self) -> io::Result<()> {
        match self.more().await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn more(&mut self) -> io::Result<usize> {
        self.unread.drain(..self.taken);
        self.taken = 0;
        self.unread.reserve(16 * 1024);
        self.half.read_buf(&mut self.unread).await
    }
}

impl Head {
    fn parse(bytes: &[u8]) -> io::Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_| invalid("a head that is no text"))?;
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let mut fields = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| invalid("no header"))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Self { line, fields })
    }

    /// A header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.fields.iter().filter(move |(known, _)| known == name);
        named.map(|(_, value)| value.as_str())
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> Option<u16> {
        let mut words = self.line.split(' ');
        match words.next() {
            Some("HTTP/1.1") => words.next()?.parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn closes(&self) -> bool {
        let value = self.header("connection").unwrap_or_default();
        value.eq_ignore_ascii_case("close")
    }

    /// Where the body ends that follows; `otherwise` where the head does not say.
    pub(crate) fn framing(&self, otherwise: Framing) -> io::Result<Framing> {
        match (
            self.header("transfer-encoding"),
            self.header("content-length"),
        ) {
            (Some("chunked"), None) => Ok(Framing::Chunked),
            (None, Some(length)) => length
                .parse()
                .map(Framing::Length)
                .map_err(|_| invalid("no length")),
            (None, None) => Ok(otherwise),
            _ => Err(invalid("two framings")),
        }
    }
}

pub(crate) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
