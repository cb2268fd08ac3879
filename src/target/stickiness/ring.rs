//! The keys as they are kept: when each was made, and its bytes. Says which one seals, when a new one is due, and
//! which are of no use any more. Never reads a clock, never touches a file, never shows a key.

use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

use aws_lc_rs::error::Unspecified;
use jiff::{SignedDuration, Timestamp};

use super::keys::{KEY_LEN, Keys};
use crate::handover::{KnownKey, KnownKeys};

/// Most keys that are kept. One a day leaves nine in use.
pub(crate) const KEYS_MAX: usize = 16;

/// How old a key must be before it seals. Whoever shares the file has read it by then, so that no process meets a
/// cookie whose key it has not heard of.
pub(crate) const SPREAD: SignedDuration = SignedDuration::from_secs(120);

/// How long a cookie can be of use after it was sealed: no browser keeps it longer, no duration is longer.
const LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// One key as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) made: Timestamp,
    pub(super) bytes: [u8; KEY_LEN],
}

/// One to `KEYS_MAX` keys, the newest first.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyRing(Vec<Kept>);

impl KeyRing {
    /// One key, made now.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub(crate) fn generate(now: Timestamp) -> Result<Self, Unspecified> {
        Ok(Self(vec![Kept::generate(now)?]))
    }

    /// `None` without keys, or with too many.
    pub(super) fn of(mut keys: Vec<Kept>) -> Option<Self> {
        keys.sort_by_key(|key| Reverse(key.made));
        (1..=KEYS_MAX).contains(&keys.len()).then_some(Self(keys))
    }

    /// Makes the keys ready for use. The newest seals that everybody knows; if there is none, the oldest does.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn keys(&self, now: Timestamp) -> Result<Keys, Unspecified> {
        let known = |key: &Kept| now.duration_since(key.made) >= SPREAD;
        let sealing = self.0.iter().position(known);
        let sealing = sealing.unwrap_or(self.0.len() - 1);
        Keys::new(self.0.iter().map(|key| &key.bytes), sealing)
    }

    /// Whether the newest key has been in use for so long.
    pub(crate) fn is_due(&self, rotation: Duration, now: Timestamp) -> bool {
        let made = self.0.first().map(|newest| newest.made);
        made.is_some_and(|made| made <= now && now.duration_since(made).unsigned_abs() >= rotation)
    }

    /// A new key in front, and without those that sealed nothing that is still of use.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub(super) fn renewed(&self, now: Timestamp) -> Result<Self, Unspecified> {
        let mut keys = vec![Kept::generate(now)?];
        for key in &self.0 {
            // A key seals until everybody has read the one after it.
            let after = keys.last().map_or(now, |after| after.made);
            if keys.len() < KEYS_MAX && now.duration_since(after) < LIFE + SPREAD + SPREAD {
                keys.push(key.clone());
            }
        }
        Ok(Self(keys))
    }

    /// What the next process is told.
    pub(crate) fn known(&self) -> KnownKeys {
        let known = |key: &Kept| KnownKey {
            made: key.made.as_second(),
            bytes: key.bytes,
        };
        KnownKeys(self.0.iter().map(known).collect())
    }

    /// The keys of another process; `None` where it told of none.
    pub(crate) fn inherited(known: &KnownKeys) -> Option<Self> {
        let key = |known: &KnownKey| {
            Some(Kept {
                made: Timestamp::from_second(known.made).ok()?,
                bytes: known.bytes,
            })
        };
        Self::of(known.0.iter().filter_map(key).collect())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.0.iter()
    }
}

impl Kept {
    fn generate(now: Timestamp) -> Result<Self, Unspecified> {
        let mut bytes = [0; KEY_LEN];
        aws_lc_rs::rand::fill(&mut bytes)?;
        // Whole seconds, as the file has them.
        let made = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Ok(Self { made, bytes })
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({})", self.made)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn now() -> Timestamp {
        "2026-11-21T14:00:00Z".parse().unwrap()
    }

    /// Keys made so many hours ago; the first letter of each is its place.
    fn ring(hours: &[i64]) -> KeyRing {
        let key = |(place, hours): (usize, &i64)| Kept {
            made: now() - hours.hours(),
            bytes: [place as u8; KEY_LEN],
        };
        KeyRing::of(hours.iter().enumerate().map(key).collect()).unwrap()
    }

    fn sealing(ring: &KeyRing, now: Timestamp) -> usize {
        let ready = ring.keys(now).unwrap();
        let places = 0..ring.0.len();
        let mut sealing = places.filter(|&place| {
            let one = Keys::new([&ring.0[place].bytes], 0).unwrap();
            one.sealing().hint == ready.sealing().hint
        });
        sealing.next().unwrap()
    }

    #[test]
    fn the_next_process_has_the_same_keys() {
        let ring = ring(&[0, 24, 48]);
        assert_eq!(KeyRing::inherited(&ring.known()), Some(ring));
        assert_eq!(KeyRing::inherited(&KnownKeys::default()), None);
    }

    #[test]
    fn a_new_key_seals_once_everybody_has_read_it() {
        let ring = ring(&[0, 24, 48]);
        assert_eq!(sealing(&ring, now()), 1);
        assert_eq!(sealing(&ring, now() + 119.seconds()), 1);
        assert_eq!(sealing(&ring, now() + 120.seconds()), 0);
        // Its clock runs ahead, or it was a slip of the pen.
        assert_eq!(sealing(&ring, now() - 1.hours()), 1);
    }

    #[test]
    fn an_only_key_seals_at_once() {
        assert_eq!(sealing(&ring(&[0]), now()), 0);
        assert_eq!(sealing(&ring(&[-1]), now()), 0);
        assert_eq!(sealing(&ring(&[0, 0]), now()), 1);
    }

    #[test]
    fn a_key_is_due_when_it_is_old_enough() {
        assert!(!ring(&[23, 900]).is_due(DAY, now()));
        assert!(ring(&[24, 900]).is_due(DAY, now()));
        assert!(!ring(&[-9000]).is_due(DAY, now()));
    }

    #[test]
    fn a_key_is_kept_for_as_long_as_its_cookies_live() {
        let week = 7 * 24;
        for (hours, kept) in [
            (&[0][..], 2),
            (&[week * 50], 2),
            // The second sealed until the first was made.
            (&[week - 1, week], 3),
            (&[week + 1, week + 2], 2),
            (&[24, 48, 72, 96, 120, 144, 168, 192], 8 + 1),
            (&[24, 48, 72, 96, 120, 144, 168, 192, 216], 8 + 1),
            (&[0; 16], 16),
        ] {
            let renewed = ring(hours).renewed(now()).unwrap();
            assert_eq!(renewed.0.len(), kept, "{hours:?}");
            assert_eq!(renewed.0[0].made, now());
            assert!(renewed.0[1..].iter().eq(&ring(hours).0[..kept - 1]));
        }
    }

    #[test]
    fn a_ring_holds_one_to_sixteen_keys_and_shows_none() {
        assert_eq!(KeyRing::of(vec![]), None);
        let key = ring(&[1]).0[0].clone();
        assert!(KeyRing::of(vec![key.clone(); 16]).is_some());
        assert_eq!(KeyRing::of(vec![key; 17]), None);
        let shown = format!("{:?}", ring(&[0, 1]));
        assert_eq!(
            shown,
            "[Kept(2026-11-21T14:00:00Z), Kept(2026-11-21T13:00:00Z)]"
        );
    }

    proptest! {
        #[test]
        fn a_schedule_never_drops_a_key_that_a_living_cookie_needs(
            rotation in 1..=30_u64, minutes in prop::collection::vec(1..40_000_i64, 1..60),
        ) {
            let rotation = rotation * DAY.as_secs();
            let mut ring = KeyRing::generate(now()).unwrap();
            let mut time = now();
            // When each key sealed last.
            let mut sealed: Vec<([u8; KEY_LEN], Timestamp)> = Vec::new();
            for minutes in minutes {
                time += minutes.minutes();
                let place = sealing(&ring, time);
                sealed.push((ring.0[place].bytes, time));
                if ring.is_due(Duration::from_secs(rotation), time) {
                    ring = ring.renewed(time).unwrap();
                }
                prop_assert!(ring.0.len() <= KEYS_MAX);
                for (bytes, at) in &sealed {
                    let alive = time.duration_since(*at) < LIFE;
                    let known = ring.0.iter().any(|key| key.bytes == *bytes);
                    prop_assert!(known || !alive);
                }
            }
        }
    }
}
