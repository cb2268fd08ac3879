//! Where the admin door stands: a TCP address, or a socket file that only its owner may open.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::handover::{self, AdminSocket};
use crate::model::AdminAddress;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Only the owner may open the socket file: whoever can, may steer the load balancer.
const SOCKET_FILE_MODE: u32 = 0o600;

/// Binds the address; needs a runtime. A socket file that nobody answers at any more is replaced.
///
/// # Errors
/// When the address is taken, is not this machine's, or is not ours to bind.
pub(crate) fn bind(address: &AdminAddress) -> io::Result<Bound> {
    match address {
        AdminAddress::Tcp(address) => bind_tcp(*address),
        AdminAddress::Unix(path) => bind_socket_file(path),
    }
}

/// Stands at a socket that somebody else bound; needs a runtime.
///
/// # Errors
/// When it is not what the address says, or its file has gone.
pub(crate) fn adopt(admin: AdminSocket) -> io::Result<Bound> {
    match admin.asked {
        AdminAddress::Tcp(_) => listen_tcp(admin.socket.into()),
        AdminAddress::Unix(path) => {
            let listener = std::os::unix::net::UnixListener::from(admin.socket);
            listener.set_nonblocking(true)?;
            let file = SocketFile {
                device_and_inode: device_and_inode(&path)?,
                path,
                removed_by: admin.file,
                door: Door::StillTheirs,
            };
            Ok(Bound::Unix(UnixListener::from_std(listener)?, file))
        }
    }
}

/// A bound admin address.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
}

/// An accepted connection.
pub(super) enum Visitor {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Bound {
    /// Where the door really is: port 0 has become a port.
    pub(crate) fn address(&self) -> AdminAddress {
        match self {
            Self::Tcp(_, address) => AdminAddress::Tcp(*address),
            Self::Unix(_, file) => AdminAddress::Unix(file.path.clone()),
        }
    }

    /// The same socket once more, for another process. `asked` is its address in the configuration's words.
    ///
    /// # Errors
    /// When the system has no more descriptors.
    pub(crate) fn leave(&self, asked: &AdminAddress) -> io::Result<AdminSocket> {
        let (socket, file) = match self {
            Self::Tcp(listener, _) => (listener.as_fd(), handover::SocketFile::Ours),
            Self::Unix(listener, file) => (listener.as_fd(), file.removed_by),
        };
        Ok(AdminSocket {
            asked: asked.clone(),
            socket: socket.try_clone_to_owned()?,
            file,
        })
    }

    /// Answers from now on, and so takes the socket file away in the end where that is this process's affair.
    pub(super) fn take_over(&mut self) {
        match self {
            Self::Tcp(..) => {}
            Self::Unix(_, file) => file.door = Door::Ours,
        }
    }

    /// Leaves a socket file where it is: another process answers there.
    pub(super) fn leave_file(&mut self) {
        match self {
            Self::Tcp(..) => {}
            Self::Unix(_, file) => file.removed_by = handover::SocketFile::Theirs,
        }
    }

    /// A descriptor that is good for nothing but to be closed.
    pub(super) fn spare(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(listener, _) => listener.as_fd().try_clone_to_owned(),
            Self::Unix(listener, _) => listener.as_fd().try_clone_to_owned(),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Visitor> {
        match self {
            Self::Tcp(listener, _) => Ok(Visitor::Tcp(listener.accept().await?.0)),
            Self::Unix(listener, _) => Ok(Visitor::Unix(listener.accept().await?.0)),
        }
    }
}

/// A socket file that is removed with its listener, unless another process has put its own there or answers at it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
    removed_by: handover::SocketFile,
    door: Door,
}

/// Who answers at a socket file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Ours,
    /// The process that is to be replaced. Should that come to nothing, it needs its file.
    StillTheirs,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = self.removed_by == handover::SocketFile::Ours && self.door == Door::Ours;
        if ours && device_and_inode(&self.path).is_ok_and(|there| there == self.device_and_inode) {
            // If it cannot be removed, the next start finds it abandoned.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Bound> {
    // The standard library sets SO_REUSEADDR: a restart need not wait for old connections.
    listen_tcp(std::net::TcpListener::bind(address)?)
}

fn listen_tcp(listener: std::net::TcpListener) -> io::Result<Bound> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok(Bound::Tcp(TcpListener::from_std(listener)?, address))
}

fn bind_socket_file(path: &Path) -> io::Result<Bound> {
    remove_abandoned(path)?;
    let socket = private_socket()?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile {
        path: path.to_owned(),
        device_and_inode: device_and_inode(path)?,
        removed_by: handover::SocketFile::Ours,
        door: Door::Ours,
    };
    // A umask may have taken the owner's part, too.
    fs::set_permissions(path, Permissions::from_mode(SOCKET_FILE_MODE))?;
    socket.listen(BACKLOG)?;
    let listener = UnixListener::from_std(std::os::unix::net::UnixListener::from(socket))?;
    Ok(Bound::Unix(listener, file))
}

/// The kernel makes its file with the mode that the socket has, less the umask: it is never open to others, not for the
/// moment in which a mode is changed.
fn private_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    let socket = File::from(OwnedFd::from(socket));
    socket.set_permissions(Permissions::from_mode(SOCKET_FILE_MODE))?;
    Ok(OwnedFd::from(socket).into())
}

/// Removes a socket file whose process is gone. Whatever else is there stays, and binding says so.
fn remove_abandoned(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Ok(()),
    }
}

fn device_and_inode(path: &Path) -> io::Result<(u64, u64)> {
    let there = fs::symlink_metadata(path)?;
    Ok((there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_file_is_private_from_its_first_moment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let socket = private_socket().unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }
}
