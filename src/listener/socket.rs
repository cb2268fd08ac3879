//! Listening sockets: bound, tuned, one for each worker.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Binds `count` sockets to one port, which the kernel shares between workers by connection. Port 0 takes a free one.
///
/// # Errors
/// What the system says, for the first socket that could not be had; none is kept then.
pub(super) fn bind(
    address: Option<IpAddr>,
    port: u16,
    count: usize,
) -> io::Result<Vec<TcpListener>> {
    let first = match address {
        Some(address) => open(SocketAddr::new(address, port))?,
        // One socket for IPv6 and IPv4; a system without IPv6 serves IPv4.
        None => match open((Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(error) if error.raw_os_error() == Some(ADDRESS_FAMILY_UNSUPPORTED) => {
                open((Ipv4Addr::UNSPECIFIED, port).into())?
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

/// `EAFNOSUPPORT` on Linux.
const ADDRESS_FAMILY_UNSUPPORTED: i32 = 97;

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it: one system call less for each connection.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
