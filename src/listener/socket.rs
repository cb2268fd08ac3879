//! Listening sockets: bound or taken over, tuned, shared out to workers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Whether somebody may have the port already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nobody may.
    Sole,
    /// This load balancer itself has it, on another address or in a listener that is closing.
    Shared,
}

/// Binds `count` sockets to one port, which the kernel shares between workers by connection. Port 0 takes a free one.
/// Nobody can connect yet.
///
/// # Errors
/// What the system says, for the first socket that could not be had; none is kept then.
pub(super) fn bind(
    address: Option<IpAddr>,
    port: u16,
    count: usize,
    claim: Claim,
) -> io::Result<Vec<TcpListener>> {
    let first = match address {
        Some(address) => open_first(SocketAddr::new(address, port), claim)?,
        // One socket for IPv6 and IPv4; a system without IPv6 serves IPv4.
        None => match open_first((Ipv6Addr::UNSPECIFIED, port).into(), claim) {
            Err(error) if error.raw_os_error() == Some(ADDRESS_FAMILY_UNSUPPORTED) => {
                open_first((Ipv4Addr::UNSPECIFIED, port).into(), claim)?
            }
            outcome => outcome?,
        },
    };
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    while sockets.len() < count {
        sockets.push(open(bound)?);
    }
    Ok(sockets)
}

/// What lets workers share a port would let another albedo of the same user share it, too, and each would serve some
/// of the other's clients. So a socket that shares nothing asks first; it is gone before ours listen.
fn open_first(address: SocketAddr, claim: Claim) -> io::Result<TcpListener> {
    if claim == Claim::Sole {
        socket(address)?.bind(&address.into())?;
    }
    open(address)
}

/// Makes sockets that another process bound fit for use.
///
/// # Errors
/// What the system says; none should be left then.
pub(super) fn adopt(sockets: &[TcpListener]) -> io::Result<()> {
    sockets.iter().try_for_each(|socket| {
        SockRef::from(socket).set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)
    })
}

/// Lets clients connect; whoever does waits until a worker accepts.
///
/// # Errors
/// When somebody else began to listen there first.
pub(super) fn listen(sockets: &[TcpListener]) -> io::Result<()> {
    sockets
        .iter()
        .try_for_each(|socket| SockRef::from(socket).listen(BACKLOG))
}

/// Gives each of `workers` a socket to accept from, and each socket a worker: the one at place `i` is for worker
/// `i % workers`. Where sockets are too few several workers share one.
///
/// # Errors
/// When the system has no more descriptors.
pub(super) fn share_out(sockets: &[TcpListener], workers: usize) -> io::Result<Vec<TcpListener>> {
    let count = workers.max(sockets.len());
    let shares = sockets.iter().cycle().take(count);
    shares.map(TcpListener::try_clone).collect()
}

/// `EAFNOSUPPORT` on Linux.
const ADDRESS_FAMILY_UNSUPPORTED: i32 = 97;

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it: one system call less for each connection.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // Connections of a process that has ended must not keep the port.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(sockets: &[TcpListener]) -> Vec<SocketAddr> {
        let local = sockets.iter().map(|socket| socket.local_addr().unwrap());
        local.collect()
    }

    #[test]
    fn every_worker_gets_a_socket_and_every_socket_a_worker() {
        let any = || TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets = [any(), any(), any()];
        let [a, b, c] = local(&sockets)[..] else {
            panic!("three sockets")
        };
        let shared = |workers| local(&share_out(&sockets, workers).unwrap());
        assert_eq!(shared(1), [a, b, c]);
        assert_eq!(shared(3), [a, b, c]);
        assert_eq!(shared(5), [a, b, c, a, b]);
    }

    #[test]
    fn nobody_connects_before_listening_begins() {
        let sockets = bind(Some(Ipv4Addr::LOCALHOST.into()), 0, 2, Claim::Sole).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert!(std::net::TcpStream::connect(address).is_err());
        listen(&sockets).unwrap();
        assert!(std::net::TcpStream::connect(address).is_ok());
    }
}
