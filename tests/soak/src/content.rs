//! What bodies hold: bytes that follow from the request's id and their place, so that nobody else's can pass for them.

/// Writes the content of this id from `offset` on.
pub(crate) fn fill(id: u64, offset: usize, bytes: &mut [u8]) {
    let mut at = offset;
    let mut rest = bytes;
    while !rest.is_empty() {
        let word = word(id, at / 8).to_le_bytes();
        let begin = at % 8;
        let count = (8 - begin).min(rest.len());
        let (now, later) = rest.split_at_mut(count);
        now.copy_from_slice(&word[begin..begin + count]);
        at += count;
        rest = later;
    }
}

/// So many bytes of the content from the start.
pub(crate) fn bytes(id: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fill(id, 0, &mut bytes);
    bytes
}

/// Splitmix64 of both.
fn word(id: u64, index: usize) -> u64 {
    let mut word = (id << 32 ^ index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// Compares a body, piece by piece, with what it should be.
#[derive(Debug)]
pub(crate) struct Check {
    id: u64,
    pub(crate) size: usize,
    wrong_at: Option<usize>,
}

impl Check {
    pub(crate) fn of(id: u64) -> Self {
        Self {
            id,
            size: 0,
            wrong_at: None,
        }
    }

    pub(crate) fn take(&mut self, bytes: &[u8]) {
        let mut expected = [0; 4096];
        for piece in bytes.chunks(expected.len()) {
            let expected = &mut expected[..piece.len()];
            fill(self.id, self.size, expected);
            if self.wrong_at.is_none() && expected != piece {
                let places = expected.iter().zip(piece);
                let before = places.take_while(|(one, other)| one == other).count();
                self.wrong_at = Some(self.size + before);
            }
            self.size += piece.len();
        }
    }

    /// What is wrong with it, if it should have had this size.
    pub(crate) fn verdict(&self, size: usize) -> Result<(), String> {
        match self.wrong_at {
            Some(at) => Err(format!("byte {at} of {} is another's", self.size)),
            None if self.size != size => Err(format!("{} bytes instead of {size}", self.size)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_the_same_however_it_is_cut() {
        let whole = bytes(7, 100);
        for cut in 0..100 {
            let mut check = Check::of(7);
            check.take(&whole[..cut]);
            check.take(&whole[cut..]);
            assert_eq!(check.verdict(100), Ok(()));
        }
        let mut other = Check::of(8);
        other.take(&whole);
        assert!(other.verdict(100).is_err());
    }
}
