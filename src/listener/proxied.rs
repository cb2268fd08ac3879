//! The PROXY header that a connection of another load balancer begins with. Takes not a byte more: what follows is the
//! client's, TLS or HTTP.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ipnet::IpNet;
use tokio::io::{AsyncRead, ReadBuf};

use super::connection::{Front, canonical};
use crate::message::{Client, Limit};
use crate::proxy_protocol::{Carried, HEADER_MAX, read};
use crate::snapshot::Listener;
use crate::tls::Socket;
use crate::worker;

/// Reads the header, and has the connection be that of the client it names; `None` when the connection is over.
pub(super) async fn meet_client(
    tcp: &mut Socket,
    front: &mut Front,
    trusted: &[IpNet],
    listener: &Listener,
) -> Option<()> {
    let metrics = &listener.ledger.metrics;
    let proxy = front.client.peer.ip();
    if !trusted.iter().any(|network| network.contains(&proxy)) {
        metrics.proxy_protocol_errors.increment(1);
        return None;
    }
    let deadline = front.handshake_deadline(listener);
    let mut gathered = Vec::new();
    let reading = |cx: &mut Context<'_>| match poll_header(tcp, &mut gathered, cx) {
        Poll::Pending if front.ends_idle() => Poll::Ready(Begun::Nothing),
        outcome => outcome,
    };
    match front.alarm.race(deadline, reading).await {
        Some(Begun::Header(carried)) => become_of(front, carried, listener),
        Some(Begun::NoHeader) => {
            metrics.proxy_protocol_errors.increment(1);
            None
        }
        Some(Begun::Nothing) => None,
        None => {
            metrics.count_limit(Limit::HandshakeTimeout);
            None
        }
    }
}

/// What a connection begins with.
enum Begun {
    Header(Carried),
    NoHeader,
    /// It ended without a word, as one that is only to see whether we listen, or is to end.
    Nothing,
}

/// Looks at what came, and takes it as far as it belongs to the header. `gathered` is what was taken before.
fn poll_header(tcp: &mut Socket, gathered: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<Begun> {
    loop {
        let looked = worker::with_scratch(|scratch| {
            let known = gathered.len();
            let room = &mut scratch[..HEADER_MAX];
            room[..known].copy_from_slice(gathered);
            let count = match ready!(tcp.poll_peek(cx, &mut room[known..])) {
                Ok(count @ 1..) => count,
                Ok(0) if known > 0 => return Poll::Ready(Err(Begun::NoHeader)),
                Ok(_) | Err(_) => return Poll::Ready(Err(Begun::Nothing)),
            };
            Poll::Ready(match read(&room[..known + count]) {
                Ok(Some((carried, length))) => Ok((length - known, Some(carried))),
                Ok(None) => Ok((count, None)),
                Err(_malformed) => Err(Begun::NoHeader),
            })
        });
        let (wanted, carried) = match ready!(looked) {
            Ok(looked) => looked,
            Err(begun) => return Poll::Ready(begun),
        };
        // They are there already, so this waits for nothing but its turn.
        let known = gathered.len();
        gathered.resize(known + wanted, 0);
        let mut room = ReadBuf::new(&mut gathered[known..]);
        let taken = Pin::new(&mut *tcp).poll_read(cx, &mut room);
        let count = room.filled().len();
        gathered.truncate(known + count);
        if ready!(taken).is_err() || count < wanted {
            return Poll::Ready(Begun::Nothing);
        }
        if let Some(carried) = carried {
            return Poll::Ready(Begun::Header(carried));
        }
    }
}

/// Has the connection be that of the client that its header names, if that one may have another.
fn become_of(front: &mut Front, carried: Carried, listener: &Listener) -> Option<()> {
    if let Carried::For {
        source,
        destination,
    } = carried
    {
        front.client = Client {
            peer: canonical(source),
            local: canonical(destination),
            tls: None,
        }
        .into();
    }
    match front.meet(listener) {
        Ok(()) => Some(()),
        Err(limit) => {
            listener.ledger.metrics.count_limit(limit);
            None
        }
    }
}
