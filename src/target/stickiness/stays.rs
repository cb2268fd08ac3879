//! What is inside a cookie: where its client stays, since when, for how long. Never seals, never reads a clock.

use std::time::Duration;

use smallvec::SmallVec;

use super::mark::{MARK_LEN, Mark};

/// First byte of the content; another layout gets another number.
const VERSION: u8 = 1;

/// Mark, second of issue, seconds of validity.
pub(super) const STAY_LEN: usize = MARK_LEN + 4 + 4;

/// Most groups that one cookie remembers a place in; of more, the one not visited for longest is forgotten. With 8 a
/// cookie has 300 letters, and few sites have as many groups with sessions behind one name.
pub(super) const STAYS_MAX: usize = 8;

/// A client's place in one group, or with one of a forward's groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stay {
    mark: Mark,
    /// Seconds since 1970.
    issued: u32,
    /// Seconds; checked here, as the date that a browser is told is always the same.
    valid_for: u32,
}

/// Every place that one cookie remembers, the latest first. A site whose paths lead to several groups has one cookie
/// for all of them, and each must leave the others' places alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stays(SmallVec<[Stay; 1]>);

impl Stays {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The latest place that `belongs`.
    pub(crate) fn find(&self, belongs: impl Fn(&Mark) -> bool) -> Option<Mark> {
        let mut marks = self.0.iter().map(|stay| stay.mark);
        marks.find(belongs)
    }

    /// Puts `mark` in the place of whatever `belongs`, valid from now.
    pub(crate) fn renew(
        &mut self,
        mark: Mark,
        duration: Duration,
        now: u32,
        belongs: impl Fn(&Mark) -> bool,
    ) {
        self.forget(belongs);
        self.0.truncate(STAYS_MAX - 1);
        let stay = Stay {
            mark,
            issued: now,
            valid_for: u32::try_from(duration.as_secs()).unwrap_or(u32::MAX),
        };
        self.0.insert(0, stay);
    }

    /// Gives up whatever `belongs`.
    pub(crate) fn forget(&mut self, belongs: impl Fn(&Mark) -> bool) {
        self.0.retain(|stay| !belongs(&stay.mark));
    }

    /// Forgets what is no longer valid.
    pub(super) fn expire(&mut self, now: u32) {
        // A stay from the future was issued by a process whose clock runs ahead.
        let age = |stay: &Stay| now.saturating_sub(stay.issued);
        self.0.retain(|stay| age(stay) < stay.valid_for);
    }

    /// Appends what `read` reads.
    pub(crate) fn write(&self, content: &mut SmallVec<[u8; 256]>) {
        content.push(VERSION);
        for stay in &self.0 {
            content.extend_from_slice(&stay.mark.to_bytes());
            content.extend_from_slice(&stay.issued.to_be_bytes());
            content.extend_from_slice(&stay.valid_for.to_be_bytes());
        }
    }

    /// `None` for anything that `write` does not write.
    pub(crate) fn read(content: &[u8]) -> Option<Self> {
        let (&version, stays) = content.split_first()?;
        let (stays, rest) = stays.as_chunks::<STAY_LEN>();
        if version != VERSION || !rest.is_empty() || stays.len() > STAYS_MAX {
            return None;
        }
        stays.iter().map(|bytes| Stay::read(bytes)).collect()
    }
}

impl Stay {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (mark, rest) = bytes.split_first_chunk()?;
        let (issued, rest) = rest.split_first_chunk()?;
        Some(Self {
            mark: Mark::from_bytes(*mark),
            issued: u32::from_be_bytes(*issued),
            valid_for: u32::from_be_bytes(rest.try_into().ok()?),
        })
    }
}

impl FromIterator<Stay> for Stays {
    fn from_iter<I: IntoIterator<Item = Stay>>(stays: I) -> Self {
        Self(stays.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u32 = 1_767_323_045;

    fn mark(number: usize) -> Mark {
        Mark::of_group(&format!("group-{number}").parse().unwrap())
    }

    fn renew(stays: &mut Stays, number: usize, seconds: u64, now: u32) {
        let mark = mark(number);
        stays.renew(mark, Duration::from_secs(seconds), now, |other| {
            *other == mark
        });
    }

    fn visited(groups: impl IntoIterator<Item = usize>) -> Stays {
        let mut stays = Stays::default();
        for (second, number) in (0..).zip(groups) {
            renew(&mut stays, number, 60, NOW + second);
        }
        stays
    }

    #[test]
    fn each_group_has_its_own_place() {
        let stays = visited([1, 2, 1, 3]);
        assert_eq!(stays.0.len(), 3);
        for number in 1..=3 {
            assert!(stays.find(|found| *found == mark(number)).is_some());
        }
        assert_eq!(stays.find(|_| true), Some(mark(3)));
        assert_eq!(stays.find(|found| *found == mark(4)), None);
    }

    #[test]
    fn of_too_many_groups_the_one_not_visited_for_longest_is_forgotten() {
        let stays = visited((0..STAYS_MAX).chain([0]).chain([STAYS_MAX]));
        assert_eq!(stays.0.len(), STAYS_MAX);
        assert_eq!(stays.find(|found| *found == mark(1)), None);
        assert!(stays.find(|found| *found == mark(0)).is_some());
    }

    #[test]
    fn each_place_expires_by_itself() {
        let mut stays = Stays::default();
        renew(&mut stays, 1, 10, NOW);
        renew(&mut stays, 2, 60, NOW);
        renew(&mut stays, 1, 10, NOW + 5);
        stays.expire(NOW + 14);
        assert_eq!(stays.0.len(), 2);
        stays.expire(NOW + 15);
        assert_eq!(stays.find(|_| true), Some(mark(2)));
        stays.expire(NOW + 60);
        assert!(stays.is_empty());
    }

    #[test]
    fn another_version_is_not_read() {
        let mut content = SmallVec::new();
        visited([1]).write(&mut content);
        assert_eq!(Stays::read(&content), Some(visited([1])));
        content[0] = VERSION + 1;
        assert_eq!(Stays::read(&content), None);
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_would_be_written(
            version in prop_oneof![Just(VERSION), any::<u8>()],
            stays in prop::collection::vec(any::<u8>(), 0..240),
        ) {
            let content = [&[version], &stays[..]].concat();
            if let Some(stays) = Stays::read(&content) {
                let mut written = SmallVec::new();
                stays.write(&mut written);
                prop_assert_eq!(&written[..], &content[..]);
            }
        }
    }
}
