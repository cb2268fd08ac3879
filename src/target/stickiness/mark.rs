//! What a cookie says of a target or of a group, without naming it. Never changes from one process to another.

use aws_lc_rs::digest::{SHA256, digest};

use crate::model::TargetGroupName;
use crate::target::TargetKey;

/// As hard to hit as an AES-128 key, and a cookie stays small.
pub(super) const MARK_LEN: usize = GROUP_LEN + REST_LEN;
/// Enough to tell the groups of one load balancer apart; two that clash share a place in a client's cookie, no more.
const GROUP_LEN: usize = 4;
const REST_LEN: usize = 12;

/// A digest of a group's name, and behind it one of a target of that group, or more of the group's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    group: [u8; GROUP_LEN],
    rest: [u8; REST_LEN],
}

impl Mark {
    pub(in crate::target) fn of(group: &TargetGroupName, key: &TargetKey) -> Self {
        // Neither names nor addresses hold a NUL, so no two pairs read the same.
        let target = format!("{group}\0{}\0{}", key.id, key.port);
        Self {
            group: Self::of_group(group).group,
            ..Self::digest(&target)
        }
    }

    pub(crate) fn of_group(group: &TargetGroupName) -> Self {
        Self::digest(group.as_str())
    }

    /// Whether it is of this group, or of a target of it.
    pub(crate) fn is_within(&self, group: &Self) -> bool {
        self.group == group.group
    }

    fn digest(text: &str) -> Self {
        let digest = digest(&SHA256, text.as_bytes());
        let mut bytes = [0; MARK_LEN];
        bytes.copy_from_slice(&digest.as_ref()[..MARK_LEN]);
        Self::from_bytes(bytes)
    }

    pub(super) fn to_bytes(self) -> [u8; MARK_LEN] {
        let mut bytes = [0; MARK_LEN];
        bytes[..GROUP_LEN].copy_from_slice(&self.group);
        bytes[GROUP_LEN..].copy_from_slice(&self.rest);
        bytes
    }

    pub(super) fn from_bytes(bytes: [u8; MARK_LEN]) -> Self {
        let (mut group, mut rest) = ([0; GROUP_LEN], [0; REST_LEN]);
        group.copy_from_slice(&bytes[..GROUP_LEN]);
        rest.copy_from_slice(&bytes[GROUP_LEN..]);
        Self { group, rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(group: &str, target: &str) -> Mark {
        let key = TargetKey::of(&target.parse().unwrap(), 80);
        Mark::of(&group.parse().unwrap(), &key)
    }

    #[test]
    fn marks_differ_by_group_address_and_port() {
        let marks = [
            of("web", "10.0.0.1:80"),
            of("web", "10.0.0.1:81"),
            of("web", "10.0.0.2:80"),
            of("app", "10.0.0.1:80"),
            Mark::of_group(&"web".parse().unwrap()),
        ];
        for (place, mark) in marks.iter().enumerate() {
            assert!(!marks[..place].contains(mark));
            assert_eq!(Mark::from_bytes(mark.to_bytes()), *mark);
        }
    }

    #[test]
    fn a_mark_lies_within_its_group_alone() {
        let web = Mark::of_group(&"web".parse().unwrap());
        assert!(web.is_within(&web));
        assert!(of("web", "10.0.0.1:80").is_within(&web));
        assert!(!of("app", "10.0.0.1:80").is_within(&web));
    }

    #[test]
    fn a_mark_is_the_same_in_every_version() {
        // Cookies outlive the process that sealed them.
        let bytes = of("web", "10.0.0.1:80").to_bytes();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "4b5e57f65bda48b1facea2f5ffd0c8b5");
    }
}
