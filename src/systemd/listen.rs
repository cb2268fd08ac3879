//! Socket activation (sd_listen_fds(3)): systemd binds, we take what it passes.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use socket2::SockRef;

use crate::handover::{AdminSocket, Asked, ListenerSockets, SocketFile, Sockets};
use crate::model::AdminAddress;

/// Most sockets of a socket unit; each needs a line in it.
const SOCKETS_MAX: usize = 1024;

/// Why a passed socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("LISTEN_FDS='{0}' is no number from 0 to {SOCKETS_MAX}")]
    Count(String),
    #[error("socket {0} of LISTEN_FDS is neither for TCP nor a socket file")]
    Kind(usize),
    #[error("socket {0} of LISTEN_FDS does not listen; use ListenStream= and Accept=no")]
    NotListening(usize),
    #[error("socket {0} of LISTEN_FDS: {1}")]
    Io(usize, #[source] io::Error),
}

/// The sockets that were passed to this process. To be asked once, before any thread runs: the variables that pass
/// them are taken away then.
///
/// # Errors
/// When what was passed is nothing to accept from.
pub(crate) fn sockets() -> Result<Sockets, Error> {
    let mut sockets = Sockets::default();
    // The variables of another process, inherited by mistake, say nothing of our descriptors.
    let pid = std::env::var("LISTEN_PID").unwrap_or_default();
    if pid != std::process::id().to_string() {
        return Ok(sockets);
    }
    let count = std::env::var("LISTEN_FDS").unwrap_or_default();
    if !count.parse().is_ok_and(|count: usize| count <= SOCKETS_MAX) {
        return Err(Error::Count(count));
    }
    let mut passed = ListenFd::from_env();
    for index in 0..passed.len() {
        if let Ok(Some(socket)) = passed.take_tcp_listener(index) {
            sockets.listeners.push(listener(index, socket)?);
        } else if let Ok(Some(socket)) = passed.take_unix_listener(index) {
            sockets.admin.push(admin(index, socket)?);
        } else {
            return Err(Error::Kind(index));
        }
    }
    Ok(sockets)
}

fn listener(index: usize, socket: TcpListener) -> Result<ListenerSockets, Error> {
    listens(index, SockRef::from(&socket))?;
    Ok(ListenerSockets {
        asked: Asked::ByTheirAddress,
        sockets: vec![socket],
    })
}

/// A socket file can only be for the admin address.
fn admin(index: usize, socket: UnixListener) -> Result<AdminSocket, Error> {
    listens(index, SockRef::from(&socket))?;
    let address = socket
        .local_addr()
        .map_err(|error| Error::Io(index, error))?;
    let path = address.as_pathname().ok_or(Error::Kind(index))?;
    Ok(AdminSocket {
        asked: AdminAddress::Unix(path.to_owned()),
        socket: socket.into(),
        file: SocketFile::Theirs,
    })
}

fn listens(index: usize, socket: SockRef<'_>) -> Result<(), Error> {
    match socket.is_listener() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::NotListening(index)),
        Err(error) => Err(Error::Io(index, error)),
    }
}
