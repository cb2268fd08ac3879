//! Who is there: groups, their targets, and the places on the way to them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A target group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Group {
    /// Nothing ever happens to its targets.
    Calm,
    /// The same, with targets that speak TLS.
    Secure,
    /// The same, with clients that come back to their target.
    Sticky,
    /// Its targets come and go, by drains and by reloads.
    Moving,
    /// One of these two has what is asked of `/switch`.
    Red,
    Blue,
    /// One target after another fails.
    Stormy,
    Gusty,
}

/// The first part of a request's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Place {
    Of(Group),
    Switch,
}

/// A target, by its place in the table of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TargetId(pub(crate) u16);

impl Group {
    pub(crate) const ALL: [Self; 8] = [
        Self::Calm,
        Self::Secure,
        Self::Sticky,
        Self::Moving,
        Self::Red,
        Self::Blue,
        Self::Stormy,
        Self::Gusty,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Secure => "secure",
            Self::Sticky => "sticky",
            Self::Moving => "moving",
            Self::Red => "red",
            Self::Blue => "blue",
            Self::Stormy => "stormy",
            Self::Gusty => "gusty",
        }
    }

    /// How many targets it has at most.
    fn size(self) -> u16 {
        match self {
            Self::Red | Self::Blue => 1,
            Self::Secure => 2,
            Self::Moving => 4,
            Self::Calm | Self::Sticky | Self::Stormy | Self::Gusty => 3,
        }
    }

    pub(crate) fn targets(self) -> impl Iterator<Item = TargetId> {
        let before = Self::ALL.iter().take_while(|group| **group != self);
        let first: u16 = before.map(|group| group.size()).sum();
        (first..first + self.size()).map(TargetId)
    }
}

impl Place {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Of(group) => group.name(),
            Self::Switch => "switch",
        }
    }

    /// One for a request; most of all those where something happens.
    pub(crate) fn any(random: &mut fastrand::Rng) -> Self {
        match random.u32(..100) {
            0..20 => Self::Of(Group::Calm),
            20..30 => Self::Of(Group::Secure),
            30..45 => Self::Of(Group::Moving),
            45..60 => Self::Switch,
            60..80 => Self::Of(Group::Stormy),
            _ => Self::Of(Group::Gusty),
        }
    }
}

impl TargetId {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Group::ALL.into_iter().flat_map(Group::targets)
    }

    pub(crate) fn group(self) -> Group {
        let mut groups = Group::ALL.into_iter();
        let found = groups.find(|group| group.targets().any(|target| target == self));
        found.expect("every target is in a group")
    }

    /// As reports and answers name it.
    pub(crate) fn name(self) -> String {
        let group = self.group();
        let mut targets = group.targets();
        let index = targets
            .position(|target| target == self)
            .unwrap_or_default();
        format!("{}/{index}", group.name())
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::all().find(|target| target.name() == name)
    }
}

/// Addresses of loopback that are this run's own, so that whatever ends leaves a port that nobody else takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    second: u8,
    third: u8,
}

/// Every target's port.
const TARGET_PORT: u16 = 8000;
pub(crate) const CLEAR_PORT: u16 = 8080;
pub(crate) const TLS_PORT: u16 = 8443;

impl Addresses {
    pub(crate) fn of_this_process() -> Self {
        let id = std::process::id();
        Self {
            second: 64 + (id >> 8 & 63) as u8,
            third: id as u8,
        }
    }

    pub(crate) fn front(self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, self.third, 1)
    }

    pub(crate) fn target(self, target: TargetId) -> SocketAddr {
        let last = 10 + u8::try_from(target.0).expect("few targets");
        let address = Ipv4Addr::new(127, self.second, self.third, last);
        SocketAddr::new(IpAddr::V4(address), TARGET_PORT)
    }
}
