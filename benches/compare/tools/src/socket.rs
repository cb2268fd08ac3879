//! Listens and connects.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt,
};

/// As many as Linux keeps by default (net.core.somaxconn).
const BACKLOG: i32 = 4096;

/// Nothing on loopback takes longer in a good run.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Connections to one address from one address before the next one is taken; Linux has 28,000 ports for it.
const PORTS_MAX: usize = 20_000;

/// A listener that does not block, whose connections send small things at once.
pub fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    // Linux hands it down to accepted connections, which saves a call for each.
    sockopt::set_tcp_nodelay(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// A connection that waits for nothing.
pub fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(socket) => Ok(Some(TcpStream::from(socket))),
        Err(error) if error == Errno::AGAIN || error == Errno::CONNABORTED => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The `number`th connection to `address`, blocking, with an end to every wait.
pub fn connected(address: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let socket = socket(address, SocketFlags::CLOEXEC)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    for timeout in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
        sockopt::set_socket_timeout(&socket, timeout, Some(PATIENCE))?;
    }
    let turn = number / PORTS_MAX;
    if turn > 0 && address.ip().is_loopback() && address.is_ipv4() {
        let source = Ipv4Addr::new(127, 0, 1, turn.min(250) as u8);
        bind(&socket, &SocketAddr::from((source, 0)))?;
    }
    match connect(&socket, &address) {
        // Whoever halts a program and lets it go on interrupts it, but not the handshake.
        Err(Errno::INTR) => established(&socket)?,
        other => other?,
    }
    Ok(TcpStream::from(socket))
}

fn established(socket: &OwnedFd) -> io::Result<()> {
    let patience = Timespec {
        tv_sec: PATIENCE.as_secs() as i64,
        tv_nsec: 0,
    };
    match poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&patience)) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Err(Errno::INTR) => established(socket),
        Ok(_) => Ok(sockopt::socket_error(socket)??),
        Err(error) => Err(error.into()),
    }
}

fn socket(address: SocketAddr, flags: SocketFlags) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

/// What a socket that does not block had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    Bytes(usize),
    Later,
    End,
}

pub fn read(mut socket: &TcpStream, buffer: &mut [u8]) -> io::Result<Received> {
    loop {
        return match socket.read(buffer) {
            Ok(0) => Ok(Received::End),
            Ok(count) => Ok(Received::Bytes(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Later),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
    }
}

/// How many bytes the socket took; fewer than there are means that it wants no more for now.
pub fn write(mut socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        return match socket.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other,
        };
    }
}
