//! A cookie's value: its stays, sealed under one of the keys, as text. Opens what these keys have sealed for the same
//! purpose and nothing else; never says why something does not open.

use aws_lc_rs::aead::{Aad, MAX_TAG_LEN, NONCE_LEN, Nonce};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use smallvec::SmallVec;

use super::keys::{HINT_LEN, Keys};
use super::stays::{STAY_LEN, STAYS_MAX, Stays};

/// What is around the stays: a hint at the key, the nonce, a version, the tag.
const FRAME_LEN: usize = HINT_LEN + NONCE_LEN + 1 + MAX_TAG_LEN;

/// Longest sealed value.
const SEALED_MAX: usize = FRAME_LEN + STAYS_MAX * STAY_LEN;

// Whole groups of three bytes: no bits in the text that mean nothing.
const _: () = assert!(FRAME_LEN.is_multiple_of(3) && STAY_LEN.is_multiple_of(3));

/// Where a value is sealed and opened: on the stack.
type Sealed = SmallVec<[u8; 256]>;
const _: () = assert!(SEALED_MAX <= 256);

/// Appends the text of these stays, sealed; `None` if the system gives no random numbers. It is base64url without
/// padding: cookie values hold none of `+ / =` safely everywhere.
pub(super) fn seal(keys: &Keys, purpose: &[u8], stays: &Stays, text: &mut String) -> Option<()> {
    let key = keys.sealing();
    let mut sealed = Sealed::from_slice(&key.hint);
    sealed.extend_from_slice(&[0; NONCE_LEN]);
    stays.write(&mut sealed);
    let content = &mut sealed[HINT_LEN + NONCE_LEN..];
    let sealing = key
        .aead
        .seal_in_place_separate_tag(Aad::from(purpose), content);
    let (nonce, tag) = sealing.ok()?;
    sealed[HINT_LEN..][..NONCE_LEN].copy_from_slice(nonce.as_ref());
    sealed.extend_from_slice(tag.as_ref());
    BASE64_URL_SAFE_NO_PAD.encode_string(&sealed, text);
    Some(())
}

/// The stays in a value of a client's.
pub(super) fn open(keys: &Keys, purpose: &[u8], text: &[u8]) -> Option<Stays> {
    let mut sealed = [0; SEALED_MAX];
    // Whatever is too long for this buffer is not looked at.
    let length = BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut sealed);
    let sealed = &sealed[..length.ok()?];
    let (hint, rest) = sealed.split_first_chunk::<HINT_LEN>()?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>()?;
    // Nobody can have us try every key on one cookie: hints of two keys are hardly ever alike.
    keys.hinted(hint).find_map(|key| {
        // Opening overwrites its input, also when it fails.
        let mut rest = Sealed::from_slice(rest);
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let aad = Aad::from(purpose);
        let content = key.aead.open_in_place(nonce, aad, &mut rest).ok()?;
        Stays::read(content)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::target::stickiness::Mark;

    const PURPOSE: &[u8] = b"a test";

    fn keys(newest: u8) -> Keys {
        Keys::of(&[[newest; 32]])
    }

    fn stays(count: usize) -> Stays {
        let mut stays = Stays::default();
        for number in 0..count {
            let mark = Mark::of_group(&format!("group-{number}").parse().unwrap());
            stays.renew(mark, Duration::from_secs(60), 1_767_323_045, |_| false);
        }
        stays
    }

    fn sealed(keys: &Keys, count: usize) -> Vec<u8> {
        let mut text = String::new();
        seal(keys, PURPOSE, &stays(count), &mut text).unwrap();
        text.into_bytes()
    }

    #[test]
    fn what_is_sealed_can_be_opened_and_its_length_tells_the_number_of_stays() {
        let keys = keys(1);
        for count in 0..=STAYS_MAX {
            let text = sealed(&keys, count);
            assert_eq!(text.len(), 44 + 32 * count);
            let plain = |letter: &u8| letter.is_ascii_alphanumeric() || b"-_".contains(letter);
            assert!(text.iter().all(plain));
            assert_eq!(open(&keys, PURPOSE, &text), Some(stays(count)));
        }
        let more = sealed(&keys, STAYS_MAX + 1);
        assert_eq!(more.len(), 300);
    }

    #[test]
    fn no_two_values_are_alike() {
        let keys = keys(1);
        assert_ne!(sealed(&keys, 1), sealed(&keys, 1));
    }

    #[test]
    fn what_is_sealed_for_another_purpose_is_not_taken() {
        let keys = keys(1);
        assert_eq!(open(&keys, b"another", &sealed(&keys, 1)), None);
    }

    #[test]
    fn an_older_key_still_opens_and_the_newest_seals() {
        let old = sealed(&keys(1), 1);
        let both = Keys::of(&[[2; 32], [1; 32], [3; 32]]);
        assert!(open(&both, PURPOSE, &old).is_some());
        let new = sealed(&both, 1);
        assert!(open(&keys(2), PURPOSE, &new).is_some());
        assert!(open(&keys(1), PURPOSE, &new).is_none());
    }

    proptest! {
        #[test]
        fn a_changed_letter_never_opens(count in 0..4_usize, place: prop::sample::Index, bit in 0..8_u32) {
            let keys = keys(1);
            let mut text = sealed(&keys, count);
            let place = place.index(text.len());
            text[place] ^= 1 << bit;
            prop_assert_eq!(open(&keys, PURPOSE, &text), None);
        }

        #[test]
        fn a_part_of_a_value_never_opens(count in 0..4_usize, from: prop::sample::Index, to: prop::sample::Index) {
            let keys = keys(1);
            let text = sealed(&keys, count);
            let (from, to) = (from.index(text.len()), to.index(text.len()));
            prop_assume!(from <= to);
            prop_assert_eq!(open(&keys, PURPOSE, &text[from..to]), None);
        }

        #[test]
        fn another_key_never_opens(other in any::<[u8; 32]>()) {
            prop_assume!(other != [1; 32]);
            let text = sealed(&keys(1), 1);
            prop_assert_eq!(open(&Keys::of(&[other]), PURPOSE, &text), None);
        }

        #[test]
        fn any_value_is_opened_or_counts_as_none(
            text in prop_oneof!["[A-Za-z0-9_-]{76}", "[ -~]{0,400}", "[A-Za-z0-9_-]{40,320}"],
        ) {
            prop_assert_eq!(open(&keys(1), PURPOSE, text.as_bytes()), None);
        }
    }
}
