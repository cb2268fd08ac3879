//! The listening sockets that a process did not bind itself, until its listeners and its admin address take them.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use crate::model::AdminAddress;

/// Listening sockets by what they are for. Those that nobody takes are closed when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) listeners: Vec<ListenerSockets>,
    pub(crate) admin: Vec<AdminSocket>,
}

/// The sockets of one listener; the kernel shares connections between them.
#[derive(Debug)]
pub(crate) struct ListenerSockets {
    pub(crate) asked: Asked,
    pub(crate) sockets: Vec<TcpListener>,
}

/// Which listener sockets are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The one for which a configuration asked for this address and port; port 0 is any.
    As(Option<IpAddr>, u16),
    /// The one that would be bound where they are.
    ByTheirAddress,
}

/// The socket of an admin address.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    /// As a configuration has it.
    pub(crate) asked: AdminAddress,
    pub(crate) socket: OwnedFd,
    pub(crate) file: SocketFile,
}

impl AdminSocket {
    /// The same once more.
    ///
    /// # Errors
    /// When the system has no more descriptors.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            asked: self.asked.clone(),
            socket: self.socket.try_clone()?,
            file: self.file,
        })
    }
}

/// Who removes a socket file at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketFile {
    /// Whoever answers there; there may be none.
    Ours,
    /// Whoever bound it.
    Theirs,
}

impl Sockets {
    /// The sockets for a listener of this address and port; none where it has to bind its own.
    pub(crate) fn take(&mut self, address: Option<IpAddr>, port: u16) -> Vec<TcpListener> {
        let exact = |listener: &ListenerSockets| listener.asked == Asked::As(address, port);
        if let Some(index) = self.listeners.iter().position(exact) {
            return self.listeners.remove(index).sockets;
        }
        let there = self
            .listeners
            .extract_if(.., |listener| listener.stands_at(address, port));
        there.flat_map(|listener| listener.sockets).collect()
    }

    /// The socket for this admin address.
    pub(crate) fn take_admin(&mut self, address: &AdminAddress) -> Option<AdminSocket> {
        let known = self.admin.iter().position(|admin| admin.asked == *address);
        if let Some(index) = known {
            return Some(self.admin.remove(index));
        }
        let AdminAddress::Tcp(wanted) = address else {
            return None;
        };
        let there =
            |listener: &ListenerSockets| listener.stands_at(Some(wanted.ip()), wanted.port());
        let index = self.listeners.iter().position(there)?;
        let sockets = self.listeners.remove(index).sockets;
        Some(AdminSocket {
            asked: address.clone(),
            socket: sockets.into_iter().next()?.into(),
            file: SocketFile::Theirs,
        })
    }

    /// Whether any of those that are left has this port, on whatever address.
    pub(crate) fn has_port(&self, port: u16) -> bool {
        self.addresses().any(|address| address.port() == port)
    }

    /// Where those of listeners that are left stand.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().filter_map(ListenerSockets::address)
    }
}

impl ListenerSockets {
    /// Whether a listener of this address and port would stand there. One for every address takes what is for every
    /// address of one family too.
    fn stands_at(&self, address: Option<IpAddr>, port: u16) -> bool {
        if self.asked != Asked::ByTheirAddress {
            return false;
        }
        self.address().is_some_and(|there| {
            there.port() == port
                && match address {
                    None => there.ip().is_unspecified(),
                    Some(address) => there.ip() == address,
                }
        })
    }

    fn address(&self) -> Option<SocketAddr> {
        self.sockets.first()?.local_addr().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn bound(address: impl Into<IpAddr>) -> TcpListener {
        TcpListener::bind((address.into(), 0)).unwrap()
    }

    fn port(socket: &TcpListener) -> u16 {
        socket.local_addr().unwrap().port()
    }

    fn of_listeners(listeners: impl Into<Vec<ListenerSockets>>) -> Sockets {
        Sockets {
            listeners: listeners.into(),
            admin: Vec::new(),
        }
    }

    fn given(socket: TcpListener) -> ListenerSockets {
        ListenerSockets {
            asked: Asked::ByTheirAddress,
            sockets: vec![socket],
        }
    }

    #[test]
    fn a_listener_takes_what_was_asked_for_in_its_words_and_once() {
        let (first, second) = (bound(LOCAL), bound(LOCAL));
        let ports = [port(&first), port(&second)];
        let any = |socket| ListenerSockets {
            asked: Asked::As(Some(LOCAL), 0),
            sockets: vec![socket],
        };
        let mut sockets = of_listeners([any(first), any(second)]);
        assert!(sockets.take(None, 0).is_empty());
        assert!(sockets.take(Some(LOCAL), ports[0]).is_empty());
        assert!(sockets.has_port(ports[0]));
        for expected in ports {
            let taken = sockets.take(Some(LOCAL), 0);
            assert_eq!(taken.iter().map(port).collect::<Vec<_>>(), [expected]);
        }
        assert!(sockets.take(Some(LOCAL), 0).is_empty());
        assert!(!sockets.has_port(ports[0]));
    }

    #[test]
    fn sockets_without_words_go_to_the_listener_of_their_address() {
        let (local, any) = (bound(LOCAL), bound(Ipv4Addr::UNSPECIFIED));
        let (of_local, of_any) = (port(&local), port(&any));
        let mut sockets = of_listeners([given(local), given(any)]);
        assert!(sockets.take(None, of_local).is_empty());
        assert_eq!(sockets.take(Some(LOCAL), of_local).len(), 1);
        assert!(sockets.take(Some(LOCAL), of_any).is_empty());
        let every = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        assert!(sockets.take(Some(every), of_any).is_empty());
        assert_eq!(sockets.take(None, of_any).len(), 1);
        assert_eq!(sockets.addresses().count(), 0);
    }

    #[test]
    fn an_admin_address_takes_its_own_or_what_stands_there() {
        let file: AdminAddress = "unix:/run/albedo.sock".parse().unwrap();
        let (there, other) = (bound(LOCAL), bound(LOCAL));
        let address = AdminAddress::Tcp(there.local_addr().unwrap());
        let mut sockets = of_listeners([given(there)]);
        sockets.admin.push(AdminSocket {
            asked: file.clone(),
            socket: other.into(),
            file: SocketFile::Ours,
        });
        assert!(sockets.take_admin(&AdminAddress::default()).is_none());
        let taken = sockets.take_admin(&file).unwrap();
        assert_eq!(taken.file, SocketFile::Ours);
        assert!(sockets.take_admin(&file).is_none());
        let taken = sockets.take_admin(&address).unwrap();
        assert_eq!((taken.asked, taken.file), (address, SocketFile::Theirs));
        assert_eq!(sockets.addresses().count(), 0);
    }
}
