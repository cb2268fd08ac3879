//! Connections that have been used once and are then only there.

use std::io::{self, Read};
use std::time::Instant;

use tools::connection::{Connection, SCRATCH, Tls};
use tools::http2::Http2;
use tools::poll::Poll;
use tools::report::{self, Errors};
use tools::socket::Received;
use tools::words::{self, Trouble, Words};

use crate::{CONNECTIONS_MAX, Common, expect_status};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http1,
    Http2,
    Tunnel,
}

pub(crate) fn load(mut words: Words) -> Result<(), Trouble> {
    let connections = words.number("--connections", 1_000, 1..=CONNECTIONS_MAX)?;
    let (kind, protocol) = match words.text("--kind")?.as_deref().unwrap_or("plain") {
        "plain" => (Kind::Http1, None),
        "tls" => (Kind::Http1, Some("http/1.1")),
        "h2" => (Kind::Http2, Some("h2")),
        "tunnel" => (Kind::Tunnel, None),
        "tls-tunnel" => (Kind::Tunnel, Some("http/1.1")),
        _ => {
            return Err(words::words(
                "--kind is plain, tls, h2, tunnel or tls-tunnel",
            ));
        }
    };
    let mut common = Common::read(&mut words)?;
    words.end()?;
    common.destination.tls = protocol
        .map(|protocol| Tls::new(&common.host, protocol))
        .transpose()?;

    let began = Instant::now();
    let mut poll = Poll::new()?;
    // It comes after the connections.
    let input = connections;
    poll.add_source(io::stdin(), input)
        .map_err(|error| io::Error::other(format!("standard input is no pipe: {error}")))?;
    let mut scratch = vec![0; SCRATCH];
    let mut errors = Errors::default();
    let mut idle = Vec::new();
    for number in 0..connections {
        let opened = Idle::open(&common, kind, number, &mut scratch);
        let opened =
            opened.and_then(|opened| poll.add(&opened.connection.socket, number).map(|()| opened));
        idle.push(opened.map_err(|error| errors.add(error)).ok());
    }
    let open = idle.iter().flatten().count() as u64;
    let outcome =
        |errors: &Errors| report::outcome("idle", began.elapsed(), open, errors).say("open", open);
    outcome(&errors).print()?;

    let mut lost = 0;
    loop {
        poll.wait(None)?;
        for ready in poll.ready() {
            if ready.token == input {
                let mut words = [0; 256];
                if io::stdin().read(&mut words)? == 0 {
                    return Ok(outcome(&errors).say("lost", lost).print()?);
                }
                continue;
            }
            let Some(one) = &mut idle[ready.token] else {
                continue;
            };
            if let Err(error) = one.go_on(&mut scratch) {
                errors.add(error);
                lost += 1;
                idle[ready.token] = None;
            }
        }
    }
}

struct Idle {
    connection: Connection,
    http2: Option<Http2>,
}

impl Idle {
    fn open(common: &Common, kind: Kind, number: usize, scratch: &mut [u8]) -> io::Result<Self> {
        let mut connection = Connection::open(&common.destination, number)?;
        let mut http2 = None;
        match kind {
            Kind::Http1 => expect_status(
                connection.exchange(&common.request(""), scratch)?.status,
                200,
            )?,
            Kind::Tunnel => {
                expect_status(connection.exchange(&common.upgrade(), scratch)?.status, 101)?
            }
            Kind::Http2 => {
                connection.send(&Http2::hello(&common.host, &common.path))?;
                let mut one = Http2::default();
                while !one.is_answered() {
                    match receive(&mut connection, &mut one, scratch)? {
                        Received::Bytes(_) => (),
                        Received::Later => return Err(io::Error::other("no answer in time")),
                        Received::End => {
                            return Err(io::Error::other("the connection ended before the answer"));
                        }
                    }
                }
                http2 = Some(one);
            }
        }
        connection.stop_waiting()?;
        Ok(Self { connection, http2 })
    }

    /// Nothing should come, but tickets of TLS and what HTTP/2 says between requests.
    fn go_on(&mut self, scratch: &mut [u8]) -> io::Result<()> {
        self.connection.flush()?;
        loop {
            let mut more = false;
            let received = match &mut self.http2 {
                Some(http2) => receive(&mut self.connection, http2, scratch)?,
                None => self.connection.receive(scratch, |_| more = true)?,
            };
            if more {
                return Err(io::Error::other("something came that nobody asked for"));
            }
            match received {
                Received::Bytes(_) => (),
                Received::Later => return Ok(()),
                Received::End => return Err(io::Error::other("an idle connection ended")),
            }
        }
    }
}

fn receive(
    connection: &mut Connection,
    http2: &mut Http2,
    scratch: &mut [u8],
) -> io::Result<Received> {
    let (mut replies, mut wrong) = (Vec::new(), None);
    let received = connection.receive(scratch, |bytes| {
        if let Err(sentence) = http2.take(bytes, &mut replies) {
            wrong = Some(sentence);
        }
    })?;
    if let Some(sentence) = wrong {
        return Err(io::Error::other(sentence));
    }
    if !replies.is_empty() {
        connection.send(&replies)?;
    }
    Ok(received)
}
