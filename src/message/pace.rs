//! How fast a body comes, against the lowest rate that is let pass. Time in which nobody waits for the sender is not its
//! time.

use std::time::{Duration, Instant};

use crate::model::BodyRate;

/// A body's account: bytes pay in, waiting for them takes out. Who is silent is not looked at before it sends again,
/// since silence has a timeout of its own; what it sends then counts first.
#[derive(Debug)]
pub(crate) struct Pace {
    /// What a byte pays for, in nanoseconds.
    per_byte: u64,
    /// How long may be waited from here on, in nanoseconds.
    left: u64,
    waiting_since: Option<Instant>,
}

/// The account is overdrawn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooSlow;

impl Pace {
    pub(crate) fn new(rate: Option<BodyRate>) -> Self {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let second = nanos(Duration::from_secs(1));
        Self {
            per_byte: rate.map_or(0, |rate| second / u64::from(rate.bytes_per_second.get())),
            left: rate.map_or(u64::MAX, |rate| nanos(rate.grace)),
            waiting_since: None,
        }
    }

    /// Nothing is there, and more is wanted.
    pub(crate) fn waits(&mut self, now: impl FnOnce() -> Instant) {
        self.waiting_since.get_or_insert_with(now);
    }

    /// So much has come.
    pub(crate) fn came(
        &mut self,
        bytes: usize,
        now: impl FnOnce() -> Instant,
    ) -> Result<(), TooSlow> {
        let paid = self.per_byte.saturating_mul(bytes as u64);
        self.left = self.left.saturating_add(paid);
        let Some(since) = self.waiting_since.take() else {
            return Ok(());
        };
        let waited = now().saturating_duration_since(since).as_nanos();
        let waited = u64::try_from(waited).unwrap_or(u64::MAX);
        self.left = match self.left {
            u64::MAX => u64::MAX,
            left => left.checked_sub(waited).ok_or(TooSlow)?,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    fn rate(bytes_per_second: u32, grace: u64) -> Option<BodyRate> {
        Some(BodyRate {
            bytes_per_second: NonZeroU32::new(bytes_per_second).unwrap(),
            grace: Duration::from_secs(grace),
        })
    }

    /// Lets bytes come after so many seconds of waiting each; gives how many times it went well.
    fn lives(pace: &mut Pace, pieces: impl IntoIterator<Item = (u64, usize)>) -> usize {
        let start = Instant::now();
        let well = |(seconds, bytes)| {
            pace.waits(|| start);
            pace.waits(|| unreachable!("it waits already"));
            let then = start + Duration::from_secs(seconds);
            pace.came(bytes, || then).is_ok()
        };
        pieces
            .into_iter()
            .map(well)
            .take_while(|well| *well)
            .count()
    }

    #[test]
    fn a_body_that_drips_is_too_slow_after_its_grace() {
        // 5 seconds of waiting each, of which a byte pays a tenth of one.
        let drips = std::iter::repeat_n((5, 1), 100);
        assert_eq!(lives(&mut Pace::new(rate(10, 20)), drips), 4);
    }

    #[test]
    fn a_body_at_the_lowest_rate_lives_for_ever() {
        let slow = std::iter::repeat_n((5, 50), 10_000);
        assert_eq!(lives(&mut Pace::new(rate(10, 0)), slow), 10_000);
    }

    #[test]
    fn one_packet_pays_for_a_long_silence_before_it() {
        let pace = &mut Pace::new(Some(BodyRate::default()));
        assert_eq!(lives(pace, std::iter::repeat_n((59, 1460), 100)), 100);
    }

    #[test]
    fn time_in_which_nobody_waits_is_nobodys() {
        let start = Instant::now();
        let mut pace = Pace::new(rate(1000, 1));
        for hour in 0..100 {
            let now = start + Duration::from_secs(hour * 3600);
            assert_eq!(pace.came(1, || now), Ok(()));
        }
    }

    #[test]
    fn without_a_rate_nothing_is_too_slow() {
        let slow = [(u64::from(u32::MAX), 0), (u64::from(u32::MAX), usize::MAX)];
        assert_eq!(lives(&mut Pace::new(None), slow), 2);
    }

    proptest! {
        #[test]
        fn who_keeps_the_rate_in_every_stretch_is_never_too_slow(
            bytes_per_second in 1_u32..1_000_000,
            waits in proptest::collection::vec(0_u64..100, 1..50),
        ) {
            let pace = &mut Pace::new(rate(bytes_per_second, 0));
            // One more than needed, for what is lost in division.
            let fast = |seconds: &u64| (*seconds, (*seconds * u64::from(bytes_per_second + 1)) as usize * 2);
            prop_assert_eq!(lives(pace, waits.iter().map(fast)), waits.len());
        }
    }
}
