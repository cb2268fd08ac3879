//! Requests in progress at a target: a count, the guard that gives its one back, and the moment when those that still
//! run are to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::worker;

/// Requests in progress at one target, on a cache line of its own: every worker counts here.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct OutstandingCount {
    requests: AtomicU32,
    /// Milliseconds from `made` to the end of a drain; 0 while none is near. Written when a target leaves or comes
    /// back, read by those who are woken for it, so it disturbs nobody who counts.
    end: AtomicU64,
    made: Instant,
}

impl Default for OutstandingCount {
    fn default() -> Self {
        Self {
            requests: AtomicU32::new(0),
            end: AtomicU64::new(NO_END),
            made: Instant::now(),
        }
    }
}

/// No drain: requests take the time they need.
const NO_END: u64 = 0;

impl OutstandingCount {
    /// Requests in progress now.
    pub(crate) fn now(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests in progress may go on until `end`.
    pub(crate) fn end_at(&self, end: Instant) {
        let after = end.saturating_duration_since(self.made).as_millis();
        let after = u64::try_from(after).unwrap_or(u64::MAX).max(NO_END + 1);
        self.end.store(after, Ordering::Relaxed);
    }

    /// The target is back: requests take the time they need.
    pub(crate) fn go_on(&self) {
        self.end.store(NO_END, Ordering::Relaxed);
    }

    /// When requests that still run are to end; `None` while their target stays.
    pub(crate) fn ends_at(&self) -> Option<Instant> {
        match self.end.load(Ordering::Relaxed) {
            NO_END => None,
            after => self.made.checked_add(Duration::from_millis(after)),
        }
    }
}

/// One request in a target's count, until it is dropped.
#[derive(Debug)]
pub(crate) struct Outstanding(Arc<OutstandingCount>);

impl Outstanding {
    pub(crate) fn count(count: &Arc<OutstandingCount>) -> Self {
        count.requests.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }

    /// When this request is to end if it still runs; `None` while its target stays.
    pub(crate) fn ends_at(&self) -> Option<Instant> {
        self.0.ends_at()
    }

    /// Whether that moment has come. Whoever set it wakes those who wait, so there is no timer here.
    pub(crate) fn is_over(&self) -> bool {
        // Rarely asked about, so the clock may be exact: woken a tick early, nobody would ask again.
        self.ends_at()
            .is_some_and(|at| at <= worker::refresh_clock())
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outstanding_requests_are_given_back_when_dropped() {
        let count = Arc::default();
        let first = Outstanding::count(&count);
        let second = Outstanding::count(&count);
        assert_eq!(count.now(), 2);
        drop((first, second));
        assert_eq!(count.now(), 0);
    }

    #[test]
    fn a_request_knows_when_its_drain_ends_and_forgets_it_when_the_target_is_back() {
        let count = Arc::default();
        let request = Outstanding::count(&count);
        assert_eq!(request.ends_at(), None);
        let end = Instant::now() + Duration::from_secs(300);
        count.end_at(end);
        let told = request.ends_at().unwrap();
        assert!(told <= end && end - told <= Duration::from_millis(1));
        count.go_on();
        assert_eq!(request.ends_at(), None);
    }

    #[test]
    fn an_end_that_has_passed_is_an_end() {
        let count = OutstandingCount::default();
        count.end_at(count.made - Duration::from_secs(1));
        assert!(count.ends_at().unwrap() <= Instant::now() + Duration::from_millis(1));
    }
}
