//! Idle connections, for each worker and target apart: no lock, no sharing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::http1::Home;

/// Tells the pools of targets apart; no two targets of a process share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolId(pub(crate) u64);

thread_local! {
    // A worker's alone, see `worker`.
    static HOMES: RefCell<HashMap<PoolId, Rc<Home>, BuildHasherDefault<Itself>>> = RefCell::default();
}

/// Where this worker keeps its idle connections to a target.
pub(super) fn home(pool: PoolId) -> Rc<Home> {
    HOMES.with_borrow_mut(|homes| Rc::clone(homes.entry(pool).or_default()))
}

/// Closes connections that died or were idle for `period`, and forgets targets that have none.
pub(crate) fn sweep(period: Duration, now: Instant) {
    HOMES.with_borrow_mut(|homes| {
        homes.retain(|_, home| {
            home.expire(period, now);
            Rc::strong_count(home) > 1 || !home.is_empty()
        });
    });
}

/// Hashes a number to itself: pool numbers are counted up by us, nobody can choose them to collide.
#[derive(Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0 << 8 | u64::from(byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        // hashbrown tells entries apart by the top bits, so they must differ too.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
