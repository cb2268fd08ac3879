//! A target borrowed for one request. Dropping it gives it back, whatever happened to the request.

use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;

use super::Target;
use crate::message::Outstanding;
use crate::worker;

/// One target, counted as having one request more.
#[derive(Debug)]
pub(crate) struct Lease {
    target: Arc<Target>,
    outstanding: Outstanding,
}

impl Lease {
    pub(super) fn take(target: &Arc<Target>) -> Self {
        Self {
            outstanding: Outstanding::count(&target.outstanding),
            target: Arc::clone(target),
        }
    }

    /// Waits for `work`, or gives `None` once the target was taken out and the time for its requests is over. Whoever
    /// takes it out wakes the task.
    pub(crate) async fn while_it_lasts<T>(
        &self,
        work: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        worker::unless_over(work, || self.outstanding.is_over()).await
    }

    /// Keeps the count alone, for a response whose body still runs.
    pub(crate) fn into_outstanding(self) -> Outstanding {
        self.outstanding
    }
}

impl Deref for Lease {
    type Target = Arc<Target>;

    fn deref(&self) -> &Arc<Target> {
        &self.target
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::group::tests::target;

    #[test]
    fn a_lease_counts_until_it_or_what_it_left_is_dropped() {
        let target = target("10.0.0.1:80");
        let leases = [Lease::take(&target), Lease::take(&target)];
        assert_eq!(target.outstanding_requests(), 2);
        let [first, second] = leases.map(Lease::into_outstanding);
        drop(first);
        assert_eq!(target.outstanding_requests(), 1);
        drop(second);
        assert_eq!(target.outstanding_requests(), 0);
    }
}
