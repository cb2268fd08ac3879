//! How fast a body comes, against the lowest rate that is let pass. Time in which nobody waits for the sender is not its
//! time.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::model::BodyRate;
use crate::worker;

/// A body's account: bytes pay in, waiting for them takes out. Who is silent is not looked at before it sends again,
/// since silence has a timeout of its own; what it sends then counts first.
#[derive(Debug)]
pub(crate) struct Pace {
    /// What a byte pays for, in nanoseconds.
    per_byte: u64,
    /// How long may be waited from here on, in nanoseconds.
    left: u64,
    pub(super) waiting_since: Option<Instant>,
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

/// The time of a client whose bodies share one connection: it stands still while any of them is kept waiting here. What
/// has come of that one takes from the window through which all of them are sent, so silence is nobody's fault then.
#[derive(Debug)]
pub(crate) struct SharedTime {
    /// Bodies that are kept waiting.
    held: Cell<usize>,
    /// Since when there is one, if there is.
    since: Cell<Instant>,
    /// How long the time has stood still before.
    stood: Cell<Duration>,
}

impl SharedTime {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            held: Cell::new(0),
            since: Cell::new(worker::now()),
            stood: Cell::new(Duration::ZERO),
        })
    }

    fn stood(&self, now: Instant) -> Duration {
        let current = match self.held.get() {
            0 => Duration::ZERO,
            _ => now.saturating_duration_since(self.since.get()),
        };
        self.stood.get() + current
    }
}

/// One body's part in it: kept waiting, or waited for.
#[derive(Debug)]
pub(super) struct Turn {
    time: Rc<SharedTime>,
    is_held: bool,
}

impl Turn {
    /// Of a body that nobody has asked for yet.
    pub(super) fn new(time: Rc<SharedTime>) -> Self {
        let mut turn = Self {
            time,
            is_held: false,
        };
        turn.hold(worker::now);
        turn
    }

    /// What comes is kept waiting.
    pub(super) fn hold(&mut self, now: impl FnOnce() -> Instant) {
        if std::mem::replace(&mut self.is_held, true) {
            return;
        }
        if self.time.held.get() == 0 {
            self.time.since.set(now());
        }
        self.time.held.update(|held| held + 1);
    }

    /// All that came is taken.
    pub(super) fn release(&mut self, now: impl FnOnce() -> Instant) {
        if !std::mem::replace(&mut self.is_held, false) {
            return;
        }
        if self.time.held.get() == 1 {
            self.time.stood.set(self.time.stood(now()));
        }
        self.time.held.update(|held| held - 1);
    }

    /// What time it is for the client.
    pub(super) fn clients_time(&self, now: Instant) -> Instant {
        // It cannot have stood still for longer than there has been time; whoever doubts that gets no time at all.
        now.checked_sub(self.time.stood(now)).unwrap_or(now)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.release(worker::now);
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
    fn time_in_which_another_body_is_held_is_nobodys() {
        let start = worker::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let time = SharedTime::new();
        let [mut one, mut other, mut third] = [(); 3].map(|()| Turn::new(Rc::clone(&time)));
        for turn in [&mut one, &mut other, &mut third] {
            turn.release(|| start);
        }
        let passed = |turn: &Turn, seconds| turn.clients_time(at(seconds)) - start;
        assert_eq!(passed(&one, 1).as_secs(), 1);
        other.hold(|| at(1));
        other.hold(|| unreachable!("it is held already"));
        third.hold(|| at(2));
        assert_eq!(passed(&one, 3).as_secs(), 1);
        other.release(|| at(4));
        assert_eq!(passed(&one, 5).as_secs(), 1);
        third.release(|| at(6));
        third.release(|| unreachable!("it is not held"));
        assert_eq!(passed(&one, 9).as_secs(), 4);
        // One that takes what comes as it comes holds nobody up.
        for seconds in 9..20 {
            other.hold(|| at(seconds));
            other.release(|| at(seconds));
        }
        assert_eq!(passed(&one, 20).as_secs(), 15);
        other.hold(|| at(20));
        drop(other);
        assert_eq!(time.held.get(), 0);
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
