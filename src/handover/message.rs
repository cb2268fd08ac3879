//! What the two processes say to each other. A newer process must understand an older one: fields are only added, and
//! what is absent or not understood in them means "unknown".

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};
use socket2::SockRef;

use super::inheritance::{AdminSocket, Asked, ListenerSockets, SocketFile, Sockets};

/// Another form of `Will` that an older process would misread gets another number.
pub(super) const VERSION: u32 = 1;

/// Everything that a process leaves.
#[derive(Debug, Default)]
pub(crate) struct Inheritance {
    pub(crate) sockets: Sockets,
    pub(crate) known: Known,
}

/// What a process knows and the next cannot find out at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Known {
    /// Number of the configuration that ran last.
    pub(crate) generation: u64,
    pub(crate) targets: Vec<KnownTarget>,
    pub(crate) cookie_keys: KnownKeys,
    /// In the order of the listeners.
    pub(crate) tickets: Vec<KnownTickets>,
}

/// What is known of one target of one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownTarget {
    pub(crate) group: String,
    pub(crate) id: String,
    pub(crate) port: u16,
    /// Where its name led last; none for a target by address.
    #[serde(default)]
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) health: KnownHealth,
    /// None for a target that takes requests.
    #[serde(default)]
    pub(crate) drain: Option<KnownDrain>,
}

/// How far a target that was taken out by hand has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownDrain {
    /// What is left of its time; 0 when it is over.
    pub(crate) milliseconds: u64,
}

/// Health in ELBv2's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownHealth {
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// The status code of `Target.ResponseCodeMismatch`.
    #[serde(default)]
    pub(crate) code: Option<u16>,
    /// How long it has been in this state.
    #[serde(default)]
    pub(crate) milliseconds: u64,
    /// Results in a row; one of the two is 0.
    #[serde(default)]
    pub(crate) passes: u32,
    #[serde(default)]
    pub(crate) failures: u32,
}

/// The keys of session tickets of one listener, by what its configuration asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownTickets {
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) keys: KnownKeys,
}

/// Keys of stickiness cookies, of use where no file has them, or of session tickets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownKeys(pub(crate) Vec<KnownKey>);

/// One key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownKey {
    /// When it was made, in seconds since 1970.
    pub(crate) made: i64,
    pub(crate) bytes: [u8; 32],
}

impl fmt::Debug for KnownKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KnownKeys({})", self.0.len())
    }
}

/// Words of the process that is to be replaced.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromPredecessor {
    /// With the sockets.
    Inherit(Will),
    /// Accept from now on: I am about to stop.
    Serve,
}

/// Words of the process that is to replace it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromSuccessor {
    /// Everything that can fail has not.
    Prepared,
    /// It will not be.
    Refused { why: String },
    /// Connections are accepted.
    Serving,
}

/// An inheritance as JSON; sockets are numbers of descriptors that come with it, in this order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Will {
    pub(super) version: u32,
    listeners: Vec<Listener>,
    admin: Option<Admin>,
    known: Known,
}

#[derive(Debug, Serialize, Deserialize)]
struct Listener {
    address: Option<IpAddr>,
    port: u16,
    sockets: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Admin {
    address: String,
    removes_file: bool,
}

impl Inheritance {
    pub(super) fn will(&self) -> (Will, Vec<BorrowedFd<'_>>) {
        let mut descriptors = Vec::new();
        let mut listeners = Vec::new();
        for listener in &self.sockets.listeners {
            let Asked::As(address, port) = listener.asked else {
                continue;
            };
            listeners.push(Listener {
                address,
                port,
                sockets: listener.sockets.len(),
            });
            descriptors.extend(listener.sockets.iter().map(AsFd::as_fd));
        }
        let admin = self.sockets.admin.first().map(|admin| {
            descriptors.push(admin.socket.as_fd());
            Admin {
                address: admin.asked.to_string(),
                removes_file: admin.file == SocketFile::Ours,
            }
        });
        let will = Will {
            version: VERSION,
            listeners,
            admin,
            known: self.known.clone(),
        };
        (will, descriptors)
    }

    /// `None` where words and descriptors do not agree.
    pub(super) fn of(will: Will, descriptors: Vec<OwnedFd>) -> Option<Self> {
        let listening = |socket: &OwnedFd| SockRef::from(socket).is_listener().unwrap_or(false);
        if !descriptors.iter().all(listening) {
            return None;
        }
        let mut descriptors = descriptors.into_iter();
        let mut sockets = Sockets::default();
        for listener in will.listeners {
            let own = descriptors.by_ref().take(listener.sockets);
            let own: Vec<_> = own.map(Into::into).collect();
            if own.is_empty() || own.len() < listener.sockets {
                return None;
            }
            sockets.listeners.push(ListenerSockets {
                asked: Asked::As(listener.address, listener.port),
                sockets: own,
            });
        }
        if let Some(admin) = will.admin {
            sockets.admin.push(AdminSocket {
                asked: admin.address.parse().ok()?,
                socket: descriptors.next()?,
                file: match admin.removes_file {
                    true => SocketFile::Ours,
                    false => SocketFile::Theirs,
                },
            });
        }
        descriptors.next().is_none().then_some(Self {
            sockets,
            known: will.known,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn socket() -> TcpListener {
        TcpListener::bind((LOCAL, 0)).unwrap()
    }

    fn inheritance() -> Inheritance {
        let listener = |asked, count| ListenerSockets {
            asked,
            sockets: (0..count).map(|_| socket()).collect(),
        };
        let admin = AdminSocket {
            asked: "127.0.0.1:9900".parse().unwrap(),
            socket: socket().into(),
            file: SocketFile::Ours,
        };
        let health = KnownHealth {
            state: "unhealthy".to_owned(),
            reason: Some("Target.ResponseCodeMismatch".to_owned()),
            code: Some(503),
            milliseconds: 1500,
            passes: 1,
            failures: 0,
        };
        let target = KnownTarget {
            group: "web".to_owned(),
            id: "app.example".to_owned(),
            port: 80,
            addresses: vec![LOCAL],
            health,
            drain: Some(KnownDrain { milliseconds: 10 }),
        };
        let key = |letter| KnownKey {
            made: 1_795_269_600,
            bytes: [letter; 32],
        };
        Inheritance {
            sockets: Sockets {
                listeners: vec![
                    listener(Asked::As(None, 443), 2),
                    listener(Asked::As(Some(LOCAL), 0), 1),
                ],
                admin: vec![admin],
            },
            known: Known {
                generation: 7,
                targets: vec![target],
                cookie_keys: KnownKeys(vec![key(1), key(255)]),
                tickets: vec![KnownTickets {
                    address: None,
                    port: 443,
                    keys: KnownKeys(vec![key(255)]),
                }],
            },
        }
    }

    fn duplicated(descriptors: &[BorrowedFd<'_>]) -> Vec<OwnedFd> {
        let duplicate = |descriptor: &BorrowedFd<'_>| descriptor.try_clone_to_owned().unwrap();
        descriptors.iter().map(duplicate).collect()
    }

    fn by_json(will: &Will) -> Will {
        serde_json::from_str(&serde_json::to_string(will).unwrap()).unwrap()
    }

    #[test]
    fn an_inheritance_survives_the_journey() {
        let left = inheritance();
        let (will, descriptors) = left.will();
        let mut found = Inheritance::of(by_json(&will), duplicated(&descriptors)).unwrap();
        assert_eq!(found.known, left.known);
        let address = |socket: &TcpListener| socket.local_addr().unwrap();
        let sockets = found.sockets.take(None, 443);
        let expected = &left.sockets.listeners[0].sockets;
        assert!(sockets.iter().map(address).eq(expected.iter().map(address)));
        assert_eq!(found.sockets.take(Some(LOCAL), 0).len(), 1);
        let admin = found.sockets.take_admin(&"127.0.0.1:9900".parse().unwrap());
        assert_eq!(admin.unwrap().file, SocketFile::Ours);
    }

    #[test]
    fn words_and_descriptors_must_agree() {
        let left = inheritance();
        let (will, descriptors) = left.will();
        let with = |descriptors| Inheritance::of(by_json(&will), descriptors);
        assert!(
            with(duplicated(&descriptors[..3])).is_none(),
            "one is missing"
        );
        let mut more = duplicated(&descriptors);
        more.push(socket().into());
        assert!(with(more).is_none(), "one is too many");
        let mut deaf = duplicated(&descriptors);
        deaf[0] = std::fs::File::open("/dev/null").unwrap().into();
        assert!(with(deaf).is_none(), "one does not listen");
    }

    #[test]
    fn keys_stay_out_of_logs() {
        let text = format!("{:?}", inheritance());
        assert!(
            text.contains("KnownKeys(2)") && !text.contains("255"),
            "{text}"
        );
    }

    #[test]
    fn what_an_older_process_does_not_say_is_unknown() {
        let text = r#"{"version": 1, "listeners": [], "admin": null, "known": {"targets": [
            {"group": "web", "id": "10.0.0.1", "port": 80, "health": {"state": "healthy"}}
        ]}, "more": "of a newer one"}"#;
        let will: Will = serde_json::from_str(text).unwrap();
        let known = Inheritance::of(will, Vec::new()).unwrap().known;
        assert_eq!((known.generation, known.targets.len()), (0, 1));
    }
}
