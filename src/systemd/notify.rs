//! What systemd is told (sd_notify(3)). Never waits for it: a manager that does not read loses what it is told.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};

/// The service manager, if there is one that wants to be told.
#[derive(Debug)]
pub(crate) struct Manager(Option<Listening>);

#[derive(Debug)]
struct Listening {
    socket: UnixDatagram,
    address: SocketAddr,
}

/// What can happen to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News<'a> {
    /// It serves.
    Ready,
    /// It reads its configuration again; `Ready` follows, whatever comes of it.
    Reloading,
    /// Another process, which is ready, is the service from now on.
    ReplacedBy(u32),
    /// It ends.
    Stopping,
    /// A line for `systemctl status`.
    Status(&'a str),
}

impl Manager {
    /// Nobody is told anything.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// The one that `NOTIFY_SOCKET` names.
    pub(crate) fn of_environment() -> Self {
        match env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) {
            Some(name) => Self::at(&name),
            None => Self::none(),
        }
    }

    fn at(name: &OsStr) -> Self {
        let listening = address(name).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok(Listening { socket, address })
        });
        if let Err(error) = &listening {
            let name = name.display();
            tracing::warn!(%error, "the service manager cannot be told anything at NOTIFY_SOCKET='{name}'");
        }
        Self(listening.ok())
    }

    /// Tells it something. What cannot be said at once is not said.
    pub(crate) fn tell(&self, news: News<'_>) {
        let Some(Listening { socket, address }) = &self.0 else {
            return;
        };
        if let Err(error) = socket.send_to_addr(news.message().as_bytes(), address) {
            tracing::warn!(%error, ?news, "the service manager could not be told");
        }
    }
}

/// A path, or an abstract name behind an `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(OsString::from(name)),
    }
}

impl News<'_> {
    fn message(self) -> String {
        match self {
            Self::Ready => "READY=1".to_owned(),
            // Type=notify-reload tells by this time which of its SIGHUPs is meant.
            Self::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_microseconds()),
            Self::ReplacedBy(pid) => format!("MAINPID={pid}\nREADY=1"),
            Self::Stopping => "STOPPING=1".to_owned(),
            // A line break would begin another assignment.
            Self::Status(line) => format!("STATUS={}", line.replace('\n', " ")),
        }
    }
}

fn monotonic_microseconds() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_hears_what_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = Manager::at(path.as_os_str());
        for (news, message) in [
            (News::Ready, "READY=1"),
            (News::ReplacedBy(17), "MAINPID=17\nREADY=1"),
            (News::Stopping, "STOPPING=1"),
            (News::Status("one\nline"), "STATUS=one line"),
        ] {
            manager.tell(news);
            assert_eq!(heard(&socket), message);
        }
        let before = monotonic_microseconds();
        manager.tell(News::Reloading);
        let heard = heard(&socket);
        let time = heard.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!((before..=monotonic_microseconds()).contains(&time.parse().unwrap()));
    }

    #[test]
    fn an_abstract_name_is_an_address_too() {
        let name = format!("albedo-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Manager::at(OsStr::new(&format!("@{name}"))).tell(News::Ready);
        assert_eq!(heard(&socket), "READY=1");
    }

    #[test]
    fn nobody_is_waited_for() {
        Manager::none().tell(News::Ready);
        Manager::at(OsStr::new("/nowhere/at/all")).tell(News::Ready);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let manager = Manager::at(path.as_os_str());
        // Far more than a socket's queue holds.
        for _ in 0..10_000 {
            manager.tell(News::Ready);
        }
    }
}
