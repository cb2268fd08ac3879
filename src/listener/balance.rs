//! Evens out connections between workers. The kernel shares new ones by a hash that knows nothing of load; a worker
//! that has clearly more than another hands the next one over. Never moves a connection that is being served.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::Command;
use super::crowd::Visit;
use crate::snapshot::ListenerId;

/// How many connections a worker may have beyond the least busy one before it hands any over; a hand-over costs a
/// wake-up of the other worker, and small differences even out by themselves.
const SLACK: usize = 4;
/// The same as a part of the least busy one's connections: one eighth.
const SLACK_PART: usize = 8;

/// The workers of one load balancer, as each of them sees them.
#[derive(Clone, Debug)]
pub(super) struct Balance {
    workers: Arc<[Peer]>,
    me: usize,
}

#[derive(Debug)]
struct Peer {
    load: Arc<Load>,
    commands: mpsc::UnboundedSender<Command>,
}

/// Connections of one worker, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Load(AtomicUsize);

/// One connection in a worker's load, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<Load>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection on its way from the worker that accepted it to the one that will serve it.
#[derive(Debug)]
pub(super) struct HandedOver {
    pub(super) id: ListenerId,
    pub(super) tcp: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) visit: Visit,
    pub(super) counted: Counted,
}

impl Balance {
    /// What each worker gets, in their order.
    pub(super) fn of(commands: &[mpsc::UnboundedSender<Command>]) -> Vec<Self> {
        let peer = |commands: &mpsc::UnboundedSender<Command>| Peer {
            load: Arc::default(),
            commands: commands.clone(),
        };
        let workers: Arc<[Peer]> = commands.iter().map(peer).collect();
        (0..workers.len())
            .map(|me| Self {
                workers: Arc::clone(&workers),
                me,
            })
            .collect()
    }

    /// Counts a connection that was just accepted and says who should serve it.
    pub(super) fn place(&self) -> Placed {
        let load = |peer: &Peer| peer.load.0.load(Ordering::Relaxed);
        let mine = load(&self.workers[self.me]);
        // Few enough to look through; workers are as many as CPUs.
        let least = (0..self.workers.len())
            .min_by_key(|&other| load(&self.workers[other]))
            .unwrap_or(self.me);
        let fewest = load(&self.workers[least]);
        let chosen = if mine > fewest + SLACK.max(fewest / SLACK_PART) {
            least
        } else {
            self.me
        };
        let load = Arc::clone(&self.workers[chosen].load);
        load.0.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(load);
        if chosen == self.me {
            Placed::Here(counted)
        } else {
            Placed::There(chosen, counted)
        }
    }

    /// Connections of all workers.
    pub(super) fn connections(&self) -> usize {
        let loads = self.workers.iter();
        loads.map(|peer| peer.load.0.load(Ordering::Relaxed)).sum()
    }

    /// Counts a connection that stays with the worker that accepted it.
    pub(super) fn stay(&self) -> Counted {
        let load = Arc::clone(&self.workers[self.me].load);
        load.0.fetch_add(1, Ordering::Relaxed);
        Counted(load)
    }

    /// Gives a connection to another worker. One that has ended closes it.
    pub(super) fn hand_over(&self, worker: usize, connection: HandedOver) {
        let _ = self.workers[worker]
            .commands
            .send(Command::Adopt(connection));
    }
}

/// Who serves a connection.
#[derive(Debug)]
pub(super) enum Placed {
    Here(Counted),
    There(usize, Counted),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_workers() -> (Balance, Balance) {
        let (commands, _received) = mpsc::unbounded_channel();
        let mut both = Balance::of(&[commands.clone(), commands]).into_iter();
        (both.next().unwrap(), both.next().unwrap())
    }

    #[test]
    fn a_small_difference_stays_and_a_large_one_is_handed_over() {
        let (busy, idle) = two_workers();
        let mut held = Vec::new();
        for _ in 0..=SLACK {
            match busy.place() {
                Placed::Here(counted) => held.push(counted),
                Placed::There(..) => panic!("handed over within the slack"),
            }
        }
        let Placed::There(1, handed) = busy.place() else {
            panic!("kept beyond the slack")
        };
        assert!(matches!(idle.place(), Placed::Here(_)));
        drop(held);
        assert!(
            matches!(busy.place(), Placed::Here(_)),
            "connections that ended count no more"
        );
        drop(handed);
    }
}
