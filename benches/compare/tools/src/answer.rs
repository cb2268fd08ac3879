//! Reads one answer of HTTP/1.1 as a client does. Its body has a length: nothing here sends chunks to us.

/// Longest head taken.
const HEAD_MAX: usize = 16 << 10;

const HEADERS_MAX: usize = 64;

#[derive(Debug, Default)]
pub struct Answer {
    /// What of the head has come, while it is not whole.
    head: Vec<u8>,
    whole: Option<Head>,
    body: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    /// Length of the body.
    pub length: u64,
    /// Nothing follows on this connection.
    pub last: bool,
}

impl Answer {
    /// Takes what has come and hands on what is body; gives back how much belongs to this answer.
    pub fn take(&mut self, bytes: &[u8], mut body: impl FnMut(&[u8])) -> Result<usize, String> {
        let mut from = 0;
        if self.whole.is_none() {
            // Nearly every head comes in one piece, and that one is not copied.
            let (head, length) = if self.head.is_empty() {
                match parse(bytes)? {
                    Some(found) => found,
                    None => return self.wait(bytes),
                }
            } else {
                let before = self.head.len();
                self.head.extend_from_slice(bytes);
                match parse(&self.head)? {
                    Some((head, length)) => (head, length - before),
                    None => return self.wait(&[]).map(|_| bytes.len()),
                }
            };
            self.whole = Some(head);
            from = length;
        }
        let left = self.left();
        let taken = left.min((bytes.len() - from) as u64);
        self.body += taken;
        let to = from + taken as usize;
        body(&bytes[from..to]);
        Ok(to)
    }

    fn wait(&mut self, bytes: &[u8]) -> Result<usize, String> {
        self.head.extend_from_slice(bytes);
        if self.head.len() > HEAD_MAX {
            return Err(String::from("the head of an answer is too long"));
        }
        Ok(bytes.len())
    }

    fn left(&self) -> u64 {
        self.whole.map_or(0, |head| head.length - self.body)
    }

    /// The head, once the whole answer has come.
    pub fn done(&self) -> Option<Head> {
        self.whole.filter(|head| head.length == self.body)
    }

    /// Whether any of it has come.
    pub fn is_begun(&self) -> bool {
        self.whole.is_some() || !self.head.is_empty()
    }

    /// Ready for the next one.
    pub fn clear(&mut self) {
        self.head.clear();
        self.whole = None;
        self.body = 0;
    }
}

/// A head at the start of the bytes, and its length.
pub fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("an answer that is none: {error}")),
    };
    let status = response.code.unwrap_or_default();
    let mut head = Head {
        status,
        length: 0,
        last: false,
    };
    let mut has_length = status < 200 || status == 204;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            head.length = number(header.value).ok_or("a Content-Length that is no number")?;
            has_length = true;
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.last = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    if !has_length {
        return Err(format!("an answer {status} without a length"));
    }
    Ok(Some((head, length)))
}

pub fn number(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    const HEAD: Head = Head {
        status: 200,
        length: 5,
        last: true,
    };

    #[test]
    fn an_answer_may_come_in_any_pieces() {
        for piece in 1..=ANSWER.len() {
            let (mut answer, mut body) = (Answer::default(), Vec::new());
            for bytes in ANSWER.chunks(piece) {
                assert_eq!(answer.done(), None);
                assert_eq!(
                    answer.take(bytes, |piece| body.extend_from_slice(piece)),
                    Ok(bytes.len())
                );
            }
            assert_eq!(answer.done(), Some(HEAD), "pieces of {piece}");
            assert_eq!(body, b"hello");
        }
    }

    #[test]
    fn what_follows_an_answer_is_not_its_own() {
        let mut answer = Answer::default();
        assert_eq!(
            answer.take(&[ANSWER, ANSWER].concat(), |_| ()),
            Ok(ANSWER.len())
        );
        answer.clear();
        assert!(!answer.is_begun());
    }

    #[test]
    fn an_upgrade_has_no_body() {
        let mut answer = Answer::default();
        let head = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        assert_eq!(
            answer.take(&[head, &b"frame"[..]].concat(), |_| ()),
            Ok(head.len())
        );
        assert_eq!(answer.done().unwrap().status, 101);
    }

    #[test]
    fn a_body_without_length_is_refused() {
        assert!(
            Answer::default()
                .take(b"HTTP/1.1 200 OK\r\n\r\n", |_| ())
                .is_err()
        );
    }
}
