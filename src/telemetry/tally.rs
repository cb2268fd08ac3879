//! Counters on the path of a request. Each worker counts in memory of its own, so that no worker waits for another's
//! cache; what they counted is added up when somebody asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::worker;

/// Counters that lie together; a page of memory for each worker.
const SLOTS: usize = 512;

/// One counter. Only workers may count with it.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    page: Arc<Page>,
    slot: usize,
}

/// Some counters, for each worker apart.
#[derive(Debug)]
struct Page(Box<[Share]>);

/// What one worker counted. Only that worker writes, so a load and a store do.
#[derive(Debug)]
#[repr(align(128))]
struct Share([AtomicU64; SLOTS]);

impl Tally {
    pub(crate) fn increment(&self, by: u64) {
        let shares = &self.page.0;
        let count = &shares[worker::index() % shares.len()].0[self.slot];
        count.store(
            count.load(Ordering::Relaxed).wrapping_add(by),
            Ordering::Relaxed,
        );
    }

    /// What all workers have counted.
    pub(super) fn sum(&self) -> u64 {
        let shares = self.page.0.iter();
        let counts = shares.map(|share| share.0[self.slot].load(Ordering::Relaxed));
        counts.fold(0, u64::wrapping_add)
    }
}

/// Gives out counters.
#[derive(Debug)]
pub(super) struct Tallies {
    workers: usize,
    page: Arc<Page>,
    taken: usize,
}

impl Tallies {
    pub(super) fn new(workers: usize) -> Self {
        let workers = workers.max(1);
        Self {
            workers,
            page: Page::new(workers),
            taken: 0,
        }
    }

    pub(super) fn next(&mut self) -> Tally {
        if self.taken == SLOTS {
            self.page = Page::new(self.workers);
            self.taken = 0;
        }
        let slot = self.taken;
        self.taken += 1;
        Tally {
            page: Arc::clone(&self.page),
            slot,
        }
    }
}

impl Page {
    fn new(workers: usize) -> Arc<Self> {
        let share = |_| Share([const { AtomicU64::new(0) }; SLOTS]);
        Arc::new(Self((0..workers).map(share).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_count_adds_up() {
        let mut tallies = Tallies::new(2);
        let (one, other) = (tallies.next(), tallies.next());
        let threads: Vec<_> = (0..2)
            .map(|index| {
                let (one, other) = (one.clone(), other.clone());
                let count = async move || {
                    (0..1_000).for_each(|_| one.increment(2));
                    other.increment(1);
                };
                worker::start(index, count).unwrap()
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!((one.sum(), other.sum()), (4_000, 2));
    }

    #[test]
    fn a_full_page_is_followed_by_another() {
        let mut tallies = Tallies::new(1);
        let all: Vec<_> = (0..SLOTS + 3).map(|_| tallies.next()).collect();
        for (by, tally) in (0..).zip(&all) {
            tally.increment(by);
        }
        for (by, tally) in (0..).zip(&all) {
            assert_eq!(tally.sum(), by);
        }
    }
}
