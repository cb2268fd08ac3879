//! Idle connections, for each worker and target apart: no lock, no sharing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::http1::{Connection, Home};

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

/// Most connections that are closed in one go. Each takes some system calls, and everybody else whom the worker serves
/// waits meanwhile; those of a group that nobody asks any more come to their end all at once.
const CLOSED_AT_ONCE_MAX: usize = 64;

/// Takes out connections that died or were idle for `period`, and forgets targets that have none.
pub(crate) fn sweep(period: Duration, now: Instant) -> Gone {
    let mut gone = Vec::new();
    HOMES.with_borrow_mut(|homes| {
        homes.retain(|_, home| {
            home.expire(period, now, &mut gone);
            Rc::strong_count(home) > 1 || !home.is_empty()
        });
    });
    Gone(gone)
}

/// Connections that nobody will use any more.
#[derive(Debug)]
pub(crate) struct Gone(Vec<Rc<Connection>>);

impl Gone {
    /// Closes them, and lets others go on between some and some.
    pub(crate) async fn close(self) {
        let Self(mut gone) = self;
        while !gone.is_empty() {
            gone.truncate(gone.len().saturating_sub(CLOSED_AT_ONCE_MAX));
            tokio::task::yield_now().await;
        }
    }
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::rc::Weak;
    use std::task::Poll;

    use tokio::net::TcpStream;

    use super::*;
    use crate::tls::{Socket, Stream};

    #[tokio::test]
    async fn many_that_end_at_once_are_closed_some_at_a_time() {
        let far = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = far.local_addr().unwrap();
        let mut all: Vec<Weak<Connection>> = Vec::new();
        for number in 0..100 {
            let near = TcpStream::connect(address).await.unwrap();
            let connection = Rc::new(Connection::new(Stream::Plain(Socket::new(near)), address));
            all.push(Rc::downgrade(&connection));
            home(PoolId(number % 3)).put(connection);
        }
        let left = || all.iter().filter(|one| one.strong_count() > 0).count();
        let mut closing = pin!(sweep(Duration::ZERO, Instant::now()).close());
        assert_eq!(HOMES.with_borrow(HashMap::len), 0);
        for still in [36, 0] {
            let turn = poll_fn(|cx| Poll::Ready(closing.as_mut().poll(cx)));
            assert!(turn.await.is_pending());
            assert_eq!(left(), still);
        }
        closing.await;
    }
}
