//! The keys that cookies are sealed with. Never shows them.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, RandomizedNonceKey};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::error::Unspecified;

/// Bytes at the front of a value that hint at its key.
pub(super) const HINT_LEN: usize = 4;

/// A key as it is kept: 256 random bits.
pub(super) const KEY_LEN: usize = 32;

/// Keys that are ready for use: one seals, all of them open.
pub(crate) struct Keys {
    keys: Box<[Key]>,
    sealing: usize,
}

/// One key.
///
/// Nonces are random, and a busy site that never changes its key draws one twice in the end: with AES-GCM that would
/// give the key away, so no key could seal more than 2^32 cookies (NIST SP 800-38D §8.3), a day's worth. With
/// AES-GCM-SIV it only shows that two cookies hold the same (RFC 8452 §1), which nobody gains by.
pub(super) struct Key {
    pub(super) hint: [u8; HINT_LEN],
    pub(super) aead: RandomizedNonceKey,
}

impl Keys {
    /// The key at this place seals.
    pub(super) fn new<'k>(
        keys: impl IntoIterator<Item = &'k [u8; KEY_LEN]>,
        sealing: usize,
    ) -> Result<Self, Unspecified> {
        let keys: Box<[Key]> = keys.into_iter().map(Key::new).collect::<Result<_, _>>()?;
        match keys.get(sealing) {
            Some(_) => Ok(Self { keys, sealing }),
            None => Err(Unspecified),
        }
    }

    pub(super) fn sealing(&self) -> &Key {
        &self.keys[self.sealing]
    }

    /// The keys that may have sealed a value with this hint; one or none but for an accident.
    pub(super) fn hinted(&self, hint: &[u8; HINT_LEN]) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.hint == *hint)
    }
}

impl Key {
    fn new(bytes: &[u8; KEY_LEN]) -> Result<Self, Unspecified> {
        let mut context = Context::new(&SHA256);
        context.update(b"albedo cookie key\0");
        context.update(bytes);
        let mut hint = [0; HINT_LEN];
        hint.copy_from_slice(&context.finish().as_ref()[..HINT_LEN]);
        Ok(Self {
            hint,
            aead: RandomizedNonceKey::new(&AES_256_GCM_SIV, bytes)?,
        })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.keys.len())
    }
}

#[cfg(test)]
impl Keys {
    /// The first seals.
    pub(super) fn of(keys: &[[u8; KEY_LEN]]) -> Self {
        Self::new(keys, 0).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_never_show_themselves() {
        assert_eq!(format!("{:?}", Keys::of(&[[7; 32], [8; 32]])), "Keys(2)");
    }

    #[test]
    fn a_hint_finds_its_key() {
        let keys = Keys::of(&[[7; 32], [8; 32]]);
        let hint = keys.sealing().hint;
        assert_eq!(keys.hinted(&hint).count(), 1);
        let hint = Keys::of(&[[8; 32]]).sealing().hint;
        assert_eq!(keys.hinted(&hint).count(), 1);
        assert_eq!(keys.hinted(&[0; 4]).count(), 0);
    }
}
