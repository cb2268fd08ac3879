//! Emptied header maps and spellings, kept by each worker for its next message: a message then allocates neither.

use std::cell::RefCell;

use http::HeaderMap;

use super::Casing;

/// Most maps that a worker keeps; as many messages are rarely in progress between two of its polls.
const SPARES_MAX: usize = 64;
/// Headers of the largest map that is kept; larger ones are rare and would pin memory.
const CAPACITY_MAX: usize = 64;

thread_local! {
    // A worker's alone, see `worker`.
    static SPARES: RefCell<Vec<(HeaderMap, Casing)>> = const { RefCell::new(Vec::new()) };
}

/// An empty map with room for `count` headers, and spellings for it.
pub(super) fn take(count: usize) -> (HeaderMap, Casing) {
    let (mut headers, casing) = SPARES.with_borrow_mut(Vec::pop).unwrap_or_default();
    headers.reserve(count);
    (headers, casing)
}

/// Takes back what a message no longer needs.
pub(crate) fn give_back(mut headers: HeaderMap, mut casing: Casing) {
    headers.clear();
    casing.clear();
    if headers.capacity() <= CAPACITY_MAX {
        SPARES.with_borrow_mut(|spares| {
            if spares.len() < SPARES_MAX {
                spares.push((headers, casing));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, HOST};

    use super::*;

    #[test]
    fn what_is_given_back_comes_again_and_empty() {
        let (mut headers, mut casing) = take(4);
        headers.insert(HOST, "a".parse().unwrap());
        casing.remember(&ACCEPT, b"ACCEPT");
        give_back(headers, casing);
        assert_eq!(SPARES.with_borrow(Vec::len), 1);
        let (headers, casing) = take(4);
        assert!(headers.is_empty());
        let mut written = Vec::new();
        casing.write(&ACCEPT, &mut 0, &mut written);
        assert_eq!(written, b"accept");
        assert_eq!(SPARES.with_borrow(Vec::len), 0);
    }

    #[test]
    fn large_maps_are_not_kept() {
        give_back(
            HeaderMap::with_capacity(CAPACITY_MAX * 4),
            Casing::default(),
        );
        assert_eq!(SPARES.with_borrow(Vec::len), 0);
    }
}
