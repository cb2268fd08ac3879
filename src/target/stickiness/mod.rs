//! Keeps a client on its target by ALB's cookie pair AWSALB and AWSALBCORS. The cookie itself is the only memory: it
//! is sealed, so nobody can read or make one, and any process with the same keys can open it.
//! Never decides whether a target is eligible, and an unusable cookie is never an error.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, MAX_TAG_LEN, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use http::header::{HeaderMap, HeaderValue};

use super::{Target, TargetKey};
use crate::message::cookie::{self, Found};
use crate::model::TargetGroupName;

const AWSALB: &str = "AWSALB";
/// For requests from other sites, where browsers ask for SameSite=None.
const AWSALBCORS: &str = "AWSALBCORS";

/// What a browser is told, whatever duration is configured (ALB user guide, "Sticky sessions").
const EXPIRES_AFTER: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Bound to every seal, so that nothing else sealed with these keys passes for this cookie.
const PURPOSE: &[u8] = b"albedo lb_cookie";

/// First byte of the content; another layout gets another number.
const VERSION: u8 = 1;

/// Version, mark, second of issue, seconds of validity.
const CONTENT_LEN: usize = 1 + MARK_LEN + 8 + 4;
const SEALED_LEN: usize = NONCE_LEN + CONTENT_LEN + MAX_TAG_LEN;
/// Every cookie of ours has this length; any other is turned away unread.
const VALUE_LEN: usize = SEALED_LEN / 3 * 4;
// Whole groups of three bytes: no padding, and no bits in the text that mean nothing.
const _: () = assert!(SEALED_LEN.is_multiple_of(3));

/// Half of SHA-256: as hard to hit as an AES-128 key, and a cookie stays small.
const MARK_LEN: usize = 16;

/// What a cookie says of a target: a digest of its group's name and its key, the same in every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark([u8; MARK_LEN]);

impl Mark {
    pub(super) fn of(group: &TargetGroupName, key: &TargetKey) -> Self {
        // Neither names nor addresses hold a NUL, so no two pairs read the same.
        let text = format!("{group}\0{}\0{}", key.id, key.port);
        let digest = digest(&SHA256, text.as_bytes());
        let mut mark = [0; MARK_LEN];
        mark.copy_from_slice(&digest.as_ref()[..MARK_LEN]);
        Self(mark)
    }
}

/// The keys that cookies are sealed with.
pub(crate) struct Keys {
    newest: RandomizedNonceKey,
    older: Vec<RandomizedNonceKey>,
}

impl Keys {
    /// One key made now. Cookies do not outlive the process.
    pub(crate) fn generate() -> Result<Self, Unspecified> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes)?;
        Self::new(&bytes, &[])
    }

    /// `newest` seals; the others still open what they sealed once.
    pub(crate) fn new(newest: &[u8; 32], older: &[[u8; 32]]) -> Result<Self, Unspecified> {
        let key = |bytes: &[u8; 32]| RandomizedNonceKey::new(&AES_256_GCM, bytes);
        Ok(Self {
            newest: key(newest)?,
            older: older.iter().map(key).collect::<Result<_, _>>()?,
        })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", 1 + self.older.len())
    }
}

/// The target that the client's cookie names. AWSALBCORS wins where both come; one that is forged, expired, given
/// twice or from elsewhere counts as none.
pub(crate) fn open(keys: &Keys, headers: &HeaderMap, epoch_seconds: u64) -> Option<Mark> {
    let found = match cookie::find(headers, AWSALBCORS) {
        Found::Nothing => cookie::find(headers, AWSALB),
        found => found,
    };
    let Found::One(value) = found else {
        return None;
    };
    let content = Content::open(keys, value)?;
    let age = epoch_seconds.saturating_sub(content.issued);
    (age < u64::from(content.valid_for)).then_some(content.mark)
}

/// The two Set-Cookie values that keep a client on `target`, to be sent with every response. `None` if the system
/// gives no random numbers: a response without them is better than none.
pub(crate) fn seal(
    keys: &Keys,
    target: &Target,
    duration: Duration,
    epoch_seconds: u64,
) -> Option<[HeaderValue; 2]> {
    let content = Content {
        mark: *target.mark(),
        issued: epoch_seconds,
        valid_for: u32::try_from(duration.as_secs()).unwrap_or(u32::MAX),
    };
    let value = content.seal(keys)?;
    let value = std::str::from_utf8(&value).ok()?;
    let expires = http_date(epoch_seconds.checked_add(EXPIRES_AFTER.as_secs())?)?;
    let cookie = |name, attributes| {
        let text = format!("{name}={value}; Expires={expires}; Path=/{attributes}");
        HeaderValue::try_from(text).ok()
    };
    Some([
        cookie(AWSALB, "")?,
        cookie(AWSALBCORS, "; SameSite=None; Secure")?,
    ])
}

/// RFC 9110 §5.6.7.
fn http_date(epoch_seconds: u64) -> Option<String> {
    let moment = jiff::Timestamp::from_second(epoch_seconds.try_into().ok()?).ok()?;
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    printer.timestamp_to_rfc9110_string(&moment).ok()
}

/// What is inside a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Content {
    mark: Mark,
    /// Seconds since 1970.
    issued: u64,
    /// Seconds; checked here, as the browser's date is always the same.
    valid_for: u32,
}

impl Content {
    fn seal(&self, keys: &Keys) -> Option<[u8; VALUE_LEN]> {
        let mut sealed = [0; SEALED_LEN];
        let (nonce_part, rest) = sealed.split_at_mut(NONCE_LEN);
        let (content, tag_part) = rest.split_at_mut(CONTENT_LEN);
        content.copy_from_slice(&self.to_bytes());
        let aad = Aad::from(PURPOSE);
        let (nonce, tag) = keys.newest.seal_in_place_separate_tag(aad, content).ok()?;
        nonce_part.copy_from_slice(nonce.as_ref());
        tag_part.copy_from_slice(tag.as_ref());
        Some(base64::encode(&sealed))
    }

    fn open(keys: &Keys, value: &[u8]) -> Option<Self> {
        let sealed = base64::decode(value.try_into().ok()?)?;
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut candidates = std::iter::once(&keys.newest).chain(&keys.older);
        candidates.find_map(|key| {
            // Opening overwrites its input, also when it fails.
            let mut rest: [u8; CONTENT_LEN + MAX_TAG_LEN] = rest.try_into().ok()?;
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let content = key
                .open_in_place(nonce, Aad::from(PURPOSE), &mut rest)
                .ok()?;
            Self::from_bytes((&*content).try_into().ok()?)
        })
    }

    fn to_bytes(self) -> [u8; CONTENT_LEN] {
        let mut bytes = [0; CONTENT_LEN];
        bytes[0] = VERSION;
        bytes[1..17].copy_from_slice(&self.mark.0);
        bytes[17..25].copy_from_slice(&self.issued.to_be_bytes());
        bytes[25..].copy_from_slice(&self.valid_for.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; CONTENT_LEN]) -> Option<Self> {
        let (&[version], rest) = bytes.split_first_chunk()?;
        let (mark, rest) = rest.split_first_chunk()?;
        let (issued, rest) = rest.split_first_chunk()?;
        (version == VERSION).then_some(Self {
            mark: Mark(*mark),
            issued: u64::from_be_bytes(*issued),
            valid_for: u32::from_be_bytes(rest.try_into().ok()?),
        })
    }
}

/// base64url without padding (RFC 4648 §5), of one length. Cookie values hold none of `+ / =` safely everywhere.
mod base64 {
    use super::{SEALED_LEN, VALUE_LEN};

    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    pub(super) fn encode(bytes: &[u8; SEALED_LEN]) -> [u8; VALUE_LEN] {
        let mut text = [0; VALUE_LEN];
        for (three, four) in bytes.chunks_exact(3).zip(text.chunks_exact_mut(4)) {
            let bits = three
                .iter()
                .fold(0, |bits, &byte| bits << 8 | u32::from(byte));
            for (place, letter) in four.iter_mut().rev().enumerate() {
                *letter = ALPHABET[(bits >> (6 * place) & 63) as usize];
            }
        }
        text
    }

    pub(super) fn decode(text: &[u8; VALUE_LEN]) -> Option<[u8; SEALED_LEN]> {
        let mut bytes = [0; SEALED_LEN];
        for (four, three) in text.chunks_exact(4).zip(bytes.chunks_exact_mut(3)) {
            let bits = four
                .iter()
                .try_fold(0, |bits, &letter| Some(bits << 6 | value(letter)?))?;
            three.copy_from_slice(&u32::to_be_bytes(bits)[1..]);
        }
        Some(bytes)
    }

    fn value(letter: u8) -> Option<u32> {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        Some(value.into())
    }
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;
    use proptest::prelude::*;

    use super::*;
    use crate::target::group::tests::target;

    const DAY: Duration = Duration::from_secs(86_400);
    /// 2026-01-02T03:04:05Z
    const NOW: u64 = 1_767_323_045;

    fn keys(newest: u8) -> Keys {
        Keys::new(&[newest; 32], &[]).unwrap()
    }

    fn sealed(keys: &Keys, duration: Duration) -> String {
        let [cookie, _] = seal(keys, &target("10.0.0.1:80"), duration, NOW).unwrap();
        let text = cookie.to_str().unwrap();
        let value = text.strip_prefix("AWSALB=").unwrap();
        value.split_once(';').unwrap().0.to_owned()
    }

    fn sent(cookies: &str) -> HeaderMap {
        HeaderMap::from_iter([(COOKIE, cookies.parse().unwrap())])
    }

    fn opened(keys: &Keys, cookies: &str, now: u64) -> Option<Mark> {
        open(keys, &sent(cookies), now)
    }

    fn mark() -> Option<Mark> {
        Some(*target("10.0.0.1:80").mark())
    }

    #[test]
    fn the_pair_of_cookies_has_albs_attributes() {
        let keys = keys(1);
        let [plain, cors] = seal(&keys, &target("10.0.0.1:80"), DAY, NOW).unwrap();
        let (plain, cors) = (plain.to_str().unwrap(), cors.to_str().unwrap());
        let rest = plain.strip_prefix("AWSALB=").unwrap();
        let (value, attributes) = rest.split_at(VALUE_LEN);
        assert_eq!(
            attributes,
            "; Expires=Fri, 09 Jan 2026 03:04:05 GMT; Path=/"
        );
        assert_eq!(
            cors,
            format!("AWSALBCORS={value}{attributes}; SameSite=None; Secure")
        );
    }

    #[test]
    fn a_cookie_leads_back_to_its_target() {
        let keys = keys(1);
        let value = sealed(&keys, DAY);
        for name in ["AWSALB", "AWSALBCORS"] {
            assert_eq!(opened(&keys, &format!("{name}={value}"), NOW), mark());
        }
    }

    #[test]
    fn a_cookie_ends_with_its_duration() {
        let keys = keys(1);
        let cookie = format!("AWSALB={}", sealed(&keys, DAY));
        assert_eq!(opened(&keys, &cookie, NOW + 86_399), mark());
        assert_eq!(opened(&keys, &cookie, NOW + 86_400), None);
        // The clock of the process that sealed it runs ahead.
        assert_eq!(opened(&keys, &cookie, NOW - 5), mark());
    }

    #[test]
    fn awsalbcors_wins_over_awsalb() {
        let keys = keys(1);
        let value = sealed(&keys, DAY);
        let both = format!("AWSALB=stale; AWSALBCORS={value}");
        assert_eq!(opened(&keys, &both, NOW), mark());
        let both = format!("AWSALB={value}; AWSALBCORS=stale");
        assert_eq!(opened(&keys, &both, NOW), None);
    }

    #[test]
    fn a_cookie_given_twice_counts_as_none() {
        let keys = keys(1);
        let value = sealed(&keys, DAY);
        let twice = format!("AWSALB={value}; AWSALB={value}");
        assert_eq!(opened(&keys, &twice, NOW), None);
    }

    #[test]
    fn an_older_key_still_opens_and_the_newest_seals() {
        let old = sealed(&keys(1), DAY);
        let both = Keys::new(&[2; 32], &[[1; 32], [3; 32]]).unwrap();
        assert_eq!(opened(&both, &format!("AWSALB={old}"), NOW), mark());
        let new = format!("AWSALB={}", sealed(&both, DAY));
        assert_eq!(opened(&keys(2), &new, NOW), mark());
        assert_eq!(opened(&keys(1), &new, NOW), None);
    }

    #[test]
    fn no_two_cookies_are_alike() {
        let keys = Keys::generate().unwrap();
        assert_ne!(sealed(&keys, DAY), sealed(&keys, DAY));
    }

    #[test]
    fn what_is_sealed_for_another_purpose_is_not_taken() {
        let keys = keys(1);
        let content = Content {
            mark: mark().unwrap(),
            issued: NOW,
            valid_for: 60,
        };
        let mut bytes = content.to_bytes();
        let aad = Aad::from(b"something else");
        let (nonce, tag) = keys
            .newest
            .seal_in_place_separate_tag(aad, &mut bytes)
            .unwrap();
        let sealed = [&nonce.as_ref()[..], &bytes, tag.as_ref()].concat();
        let value = base64::encode(&sealed.try_into().unwrap());
        assert_eq!(Content::open(&keys, &value), None);
        assert_eq!(Content::from_bytes(&content.to_bytes()), Some(content));
    }

    #[test]
    fn keys_never_show_themselves() {
        assert_eq!(format!("{:?}", keys(7)), "Keys(1)");
    }

    proptest! {
        #[test]
        fn a_changed_letter_never_opens(place in 0..VALUE_LEN, bit in 0..8u32) {
            let keys = keys(1);
            let mut value = sealed(&keys, DAY).into_bytes();
            value[place] ^= 1 << bit;
            prop_assert_eq!(Content::open(&keys, &value), None);
        }

        #[test]
        fn another_key_never_opens(other in any::<[u8; 32]>()) {
            prop_assume!(other != [1; 32]);
            let value = sealed(&keys(1), DAY);
            let other = Keys::new(&other, &[]).unwrap();
            prop_assert_eq!(Content::open(&other, value.as_bytes()), None);
        }

        #[test]
        fn any_value_is_opened_or_counts_as_none(
            value in prop_oneof!["[A-Za-z0-9_-]{76}", "[ -~]{0,200}", "[A-Za-z0-9_-]{70,80}"],
        ) {
            prop_assert_eq!(Content::open(&keys(1), value.as_bytes()), None);
        }

        #[test]
        fn base64_goes_there_and_back(bytes in prop::collection::vec(any::<u8>(), SEALED_LEN)) {
            let bytes: [u8; SEALED_LEN] = bytes.try_into().unwrap();
            prop_assert_eq!(base64::decode(&base64::encode(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn base64_is_the_url_safe_one() {
        let mut bytes = [0xff; SEALED_LEN];
        bytes[..3].copy_from_slice(&[0xfb, 0xef, 0xbe]);
        let text = base64::encode(&bytes);
        assert!(text.starts_with(b"----____"));
    }
}
