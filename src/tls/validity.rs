//! What clients will think of the dates in a chain. Only says so: a certificate that has ended is served all the same,
//! as ALB does. Never reads a clock.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// How long before its end a certificate should have been renewed. Let's Encrypt's clients do so a month before.
const RENEWED_BEFORE: SignedDuration = SignedDuration::from_hours(14 * 24);

/// One that lives for days only is renewed when so much of its life is left.
const SHARE_LEFT: i32 = 3;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// When a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

/// Why clients refuse a chain that is served, or soon will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Doubt {
    #[error(
        "{file}: certificate {position} ended on {date}, and clients refuse it, though it is served; renew it"
    )]
    Ended {
        file: String,
        position: usize,
        date: String,
    },

    #[error(
        "{file}: certificate {position} begins on {date}, and clients refuse it until then, though it is served; set the clock right, or serve the one before it until then"
    )]
    NotBegun {
        file: String,
        position: usize,
        date: String,
    },

    #[error("{file}: certificate {position} ends on {date}, {left} from now; renew it")]
    EndsSoon {
        file: String,
        position: usize,
        date: String,
        left: String,
    },
}

/// What is doubtful about the certificates of a file, leaf first.
pub(super) fn doubts<'v>(
    file: &'v str,
    chain: &'v [Validity],
    now: Timestamp,
) -> impl Iterator<Item = Doubt> + 'v {
    let numbered = chain.iter().zip(1..);
    numbered.filter_map(move |(validity, position)| doubt(file, position, *validity, now))
}

fn doubt(file: &str, position: usize, validity: Validity, now: Timestamp) -> Option<Doubt> {
    let Validity {
        not_before,
        not_after,
    } = validity;
    let file = file.to_owned();
    if now > not_after {
        return Some(Doubt::Ended {
            file,
            position,
            date: date(not_after),
        });
    }
    if now < not_before {
        return Some(Doubt::NotBegun {
            file,
            position,
            date: date(not_before),
        });
    }
    let left = not_after.duration_since(now);
    let life = not_after.duration_since(not_before);
    (left < RENEWED_BEFORE.min(life / SHARE_LEFT)).then(|| Doubt::EndsSoon {
        file,
        position,
        date: date(not_after),
        left: days(left.unsigned_abs()),
    })
}

fn days(left: Duration) -> String {
    match left.as_secs() / DAY.as_secs() {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

/// The day in UTC, as certificates have it.
fn date(moment: Timestamp) -> String {
    moment.to_zoned(TimeZone::UTC).date().to_string()
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T14:00:00Z".parse().unwrap()
    }

    /// What is said of a leaf that began and ends so many hours from now.
    fn said(begins: i64, ends: i64) -> String {
        let validity = Validity {
            not_before: now() + begins.hours(),
            not_after: now() + ends.hours(),
        };
        let said: Vec<_> = doubts("web.pem", &[validity], now()).collect();
        assert!(said.len() <= 1);
        said.first().map(ToString::to_string).unwrap_or_default()
    }

    #[test]
    fn what_is_good_for_long_enough_is_not_spoken_of() {
        for (begins, ends) in [
            (-1, 24 * 90),
            (-24 * 76, 24 * 14),
            // Renewed every few days.
            (-100, 60),
            (0, 1),
        ] {
            assert_eq!(said(begins, ends), "", "{begins} {ends}");
        }
    }

    #[test]
    fn what_ends_soon_says_when() {
        let soon = said(-24 * 300, 24 * 14 - 1);
        let expected = "web.pem: certificate 1 ends on 2026-12-05, 13 days from now; renew it";
        assert_eq!(soon, expected);
        assert!(said(-24 * 300, 47).contains(", 1 day from now; "));
        assert!(said(-110, 50).contains(", 2 days from now; "));
        assert!(said(-24 * 300, 0).contains("2026-11-21, less than a day from now; "));
    }

    #[test]
    fn what_has_ended_or_not_begun_says_so() {
        assert!(said(-24 * 90, -1).contains("certificate 1 ended on 2026-11-21, and"));
        assert!(said(-900, -25).contains("ended on 2026-11-20"));
        assert!(said(1, 24 * 90).contains("begins on 2026-11-21, and"));
    }

    #[test]
    fn each_certificate_of_a_chain_is_looked_at() {
        let good = Validity {
            not_before: now(),
            not_after: now() + (24 * 90).hours(),
        };
        let ended = Validity {
            not_after: now() - 1.hours(),
            ..good
        };
        let said: Vec<_> = doubts("web.pem", &[good, ended, good, ended], now()).collect();
        let positions = said.iter().map(|doubt| match doubt {
            Doubt::Ended { position, .. } => *position,
            other => panic!("{other}"),
        });
        assert!(positions.eq([2, 4]));
        for doubt in &said {
            assert_eq!(doubt.to_string().matches("; ").count(), 1);
        }
    }
}
