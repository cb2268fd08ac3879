//! Requests in progress at a target: a count, and the guard that gives its one back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Requests in progress at one target, on a cache line of its own: every worker counts here.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct OutstandingCount(AtomicU32);

impl OutstandingCount {
    /// Requests in progress now.
    pub(crate) fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One request in a target's count, until it is dropped.
#[derive(Debug)]
pub(crate) struct Outstanding(Arc<OutstandingCount>);

impl Outstanding {
    pub(crate) fn count(count: &Arc<OutstandingCount>) -> Self {
        count.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
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
}
