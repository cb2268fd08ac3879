//! Who is there: client connections of all listeners and workers by address. Lets no more in than the limits say. Asked
//! when a connection comes and when it ends; a request asks its client's bucket alone, and takes no lock for that once the
//! bucket is known.

use std::cell::OnceCell;
use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use crate::message::Limit;
use crate::model::{Limits, RequestRate};
use crate::worker;

/// Pieces of the table of addresses, so that workers that accept at once seldom wait for each other.
const SHARDS: usize = 64;

/// Most addresses in a piece that are remembered though none of their connections is open: 65,536 in all, some 8 MB.
const REMEMBERED_MAX: usize = 1024;

/// How many of those are kept when there are too many: who owes most, since that is what the table is for. The others make
/// room for a while, so that looking at all of them is rare.
const REMEMBERED_LEAST: usize = REMEMBERED_MAX / 4 * 3;

/// Descriptors that are for nobody's connection: files, the admin address, health checks.
const DESCRIPTORS_KEPT: usize = 256;

/// How long a handshake keeps its place when there are no more and another client wants one. Whoever is honest has
/// answered by then from the other side of the world; a crowd that comes back all at once is still let in one by one.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(1);

/// Everybody who is connected to one load balancer.
#[derive(Debug)]
pub(super) struct Crowd {
    handshakes: Mutex<Handshakes>,
    /// What descriptors allow.
    room: usize,
    since: Instant,
    shards: Box<[Mutex<Shard>]>,
    /// Chooses the piece of an address, as nobody outside can.
    hasher: RandomState,
}

/// A piece of the table of addresses.
#[derive(Debug, Default)]
struct Shard {
    records: HashMap<IpAddr, Record>,
    /// Those without a connection.
    gone: usize,
}

/// What is known of one address. One with no connection and a full bucket is as good as unknown.
#[derive(Debug, Default)]
struct Record {
    connections: u32,
    bucket: Arc<Bucket>,
}

/// A token bucket, as the time at which it will be full again, in nanoseconds since the crowd's first.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

/// One connection of somebody, until it is dropped; empty until a limit asks for the address, which one may that came
/// with a later configuration.
// Boxed: connections are many, and most have none.
#[derive(Debug)]
pub(super) struct Visit(OnceCell<Box<Known>>);

/// Whose connection it is.
#[derive(Debug)]
struct Known {
    crowd: Arc<Crowd>,
    address: IpAddr,
    bucket: Arc<Bucket>,
}

/// Handshakes under way, by the order in which they began.
#[derive(Debug, Default)]
struct Handshakes {
    under_way: BTreeMap<u64, Begun>,
    next: u64,
}

#[derive(Debug)]
struct Begun {
    at: Instant,
    /// Wakes whoever waits for it.
    waker: Waker,
}

/// One handshake in the crowd's count, until it is dropped or has to make room.
#[derive(Debug)]
pub(super) struct Handshake<'a> {
    /// Its number in the count; none where nothing is counted, as there is no limit.
    counted: Option<(&'a Crowd, u64)>,
}

impl Crowd {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            handshakes: Mutex::default(),
            room: room(getrlimit(Resource::Nofile).current),
            since: worker::now(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        })
    }

    /// Lets a connection in, or says which limit does not. There are so many now, this one among them.
    pub(super) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        connections: usize,
        limits: &Limits,
    ) -> Result<Visit, Limit> {
        self.admit(connections, limits)?;
        self.meet(address, limits)
    }

    /// Lets a connection in whose client is not known yet.
    pub(super) fn admit(&self, connections: usize, limits: &Limits) -> Result<(), Limit> {
        let most = limits
            .connections
            .map_or(self.room, |most| self.room.min(most.get() as usize));
        if connections > most {
            return Err(Limit::Connections);
        }
        Ok(())
    }

    /// Counts a connection that was let in among its client's.
    pub(super) fn meet(self: &Arc<Self>, address: IpAddr, limits: &Limits) -> Result<Visit, Limit> {
        let visit = Visit::unknown();
        if asks_for_address(limits) {
            let most = limits.connections_per_client.map(NonZeroU32::get);
            let known = self.recognise(address, limits, most)?;
            visit.0.get_or_init(|| Box::new(known));
        }
        Ok(visit)
    }

    /// Lets a handshake begin, if there are not too many: else one that has been under way for long makes room. The task
    /// of `waker` is woken when this one has to.
    pub(super) fn begin_handshake(
        &self,
        limits: &Limits,
        now: Instant,
        waker: &Waker,
    ) -> Option<Handshake<'_>> {
        let Some(most) = limits.handshakes else {
            return Some(Handshake { counted: None });
        };
        let mut handshakes = self.handshakes();
        let Handshakes { under_way, next } = &mut *handshakes;
        let mut ousted = None;
        if under_way.len() >= most.get() as usize {
            let oldest = under_way.first_entry()?;
            if now < oldest.get().at + HANDSHAKE_PATIENCE {
                return None;
            }
            ousted = Some(oldest.remove().waker);
        }
        let (number, waker) = (*next, waker.clone());
        *next += 1;
        under_way.insert(number, Begun { at: now, waker });
        drop(handshakes);
        if let Some(ousted) = ousted {
            ousted.wake();
        }
        Some(Handshake {
            counted: Some((self, number)),
        })
    }

    fn handshakes(&self) -> MutexGuard<'_, Handshakes> {
        // Sound after every step, even if a thread died between two.
        let handshakes = self.handshakes.lock();
        handshakes.unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds or makes the record of an address and counts a connection in it, unless it has as many as it may.
    fn recognise(
        self: &Arc<Self>,
        address: IpAddr,
        limits: &Limits,
        most: Option<u32>,
    ) -> Result<Known, Limit> {
        let address = client_of(address, limits.client_ipv6_prefix);
        let mut shard = self.shard(address);
        let Shard { records, gone } = &mut *shard;
        let record = match records.entry(address) {
            Entry::Occupied(known) => {
                let record = known.into_mut();
                *gone -= usize::from(record.connections == 0);
                record
            }
            Entry::Vacant(unknown) => unknown.insert(Record::default()),
        };
        if most.is_some_and(|most| record.connections >= most) {
            return Err(Limit::ConnectionsPerClient);
        }
        record.connections += 1;
        Ok(Known {
            crowd: Arc::clone(self),
            address,
            bucket: Arc::clone(&record.bucket),
        })
    }

    fn leave(&self, address: IpAddr) {
        let now = self.time(worker::now());
        let mut shard = self.shard(address);
        let Shard { records, gone } = &mut *shard;
        let Some(record) = records.get_mut(&address) else {
            return;
        };
        record.connections -= 1;
        if record.connections > 0 {
            return;
        }
        if record.bucket.is_full(now) {
            records.remove(&address);
            return;
        }
        *gone += 1;
        if *gone > REMEMBERED_MAX {
            shard.forget(now);
        }
    }

    fn shard(&self, address: IpAddr) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[(self.hasher.hash_one(address) % SHARDS as u64) as usize];
        // A count is sound after every step, even if a thread died between two.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn time(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_nanos() as u64
    }
}

impl Shard {
    /// Forgets those without a connection of whom there is nothing to remember, and those who owe least.
    fn forget(&mut self, now: u64) {
        let without = self
            .records
            .values()
            .filter(|record| record.connections == 0);
        let mut debts: Vec<u64> = without.map(|record| record.bucket.full_at()).collect();
        let least = debts.len().saturating_sub(REMEMBERED_LEAST);
        let (_, &mut least, _) = debts.select_nth_unstable(least);
        let owes = |record: &Record| record.bucket.full_at() > least.max(now);
        self.records
            .retain(|_, record| record.connections > 0 || owes(record));
        let without = self
            .records
            .values()
            .filter(|record| record.connections == 0);
        self.gone = without.count();
    }
}

impl Visit {
    /// Of somebody who is not known yet.
    pub(super) fn unknown() -> Self {
        Self(OnceCell::new())
    }

    /// Whether the client of this address may ask once more now. One who came before there was a limit is known from its
    /// next request on.
    pub(super) fn may_ask(
        &self,
        crowd: &Arc<Crowd>,
        address: IpAddr,
        limits: &Limits,
        now: Instant,
    ) -> bool {
        if !asks_for_address(limits) {
            return true;
        }
        let known = self.0.get().or_else(|| {
            // Whoever is in stays in, and counts.
            let known = crowd.recognise(address, limits, None).ok()?;
            Some(self.0.get_or_init(|| Box::new(known)))
        });
        match (known, limits.requests_per_client) {
            (Some(known), Some(rate)) => known.bucket.take(rate, known.crowd.time(now)),
            _ => true,
        }
    }
}

/// Whether any limit counts by address.
fn asks_for_address(limits: &Limits) -> bool {
    limits.connections_per_client.is_some() || limits.requests_per_client.is_some()
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(known) = self.0.get() {
            known.crowd.leave(known.address);
        }
    }
}

impl Handshake<'_> {
    /// Whether it had to make room.
    pub(super) fn is_over(&self) -> bool {
        self.counted
            .is_some_and(|(crowd, number)| !crowd.handshakes().under_way.contains_key(&number))
    }
}

impl Drop for Handshake<'_> {
    fn drop(&mut self) {
        if let Some((crowd, number)) = self.counted {
            crowd.handshakes().under_way.remove(&number);
        }
    }
}

impl Bucket {
    /// Takes a token, if there is one. Workers that serve one client take from the same bucket.
    fn take(&self, rate: RequestRate, now: u64) -> bool {
        let token = (1_000_000_000 / u64::from(rate.per_second.get())).max(1);
        let most = token * u64::from(rate.burst.get());
        // Nobody owes more than a whole bucket, though it was larger or slower when the debt was made.
        let owed = |full_at: u64| full_at.clamp(now, now + most) - now;
        let may = |full_at: u64| owed(full_at) + token <= most;
        let taken = |full_at: u64| {
            let paid = if may(full_at) { token } else { 0 };
            Some(now + owed(full_at) + paid)
        };
        let order = Ordering::Relaxed;
        let (Ok(before) | Err(before)) = self.0.fetch_update(order, order, taken);
        may(before)
    }

    fn full_at(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn is_full(&self, now: u64) -> bool {
        self.full_at() <= now
    }
}

/// Most client connections under this limit of descriptors: each may need one toward a target, too.
fn room(descriptors: Option<u64>) -> usize {
    let Some(descriptors) = descriptors.and_then(|most| usize::try_from(most).ok()) else {
        return usize::MAX;
    };
    (descriptors - DESCRIPTORS_KEPT.min(descriptors / 2)) / 2
}

/// The address that stands for a client.
fn client_of(address: IpAddr, ipv6_prefix: u8) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - u32::from(ipv6_prefix.clamp(1, 128)));
            Ipv6Addr::from(u128::from(address) & mask).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn count(count: u32) -> Option<NonZeroU32> {
        NonZeroU32::new(count)
    }

    fn rate(per_second: u32, burst: u32) -> Option<RequestRate> {
        Some(RequestRate {
            per_second: count(per_second)?,
            burst: count(burst)?,
        })
    }

    /// Who it is where nothing was asked of that yet.
    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn asks(crowd: &Arc<Crowd>, visit: &Visit, limits: &Limits, now: Instant) -> bool {
        let known = visit.0.get().map(|known| known.address);
        let known = known.unwrap_or(CLIENT);
        visit.may_ask(crowd, known, limits, now)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn no_more_come_in_than_may() {
        let crowd = Crowd::new();
        let limits = Limits {
            connections: count(2),
            ..Limits::default()
        };
        let enter = |connections| crowd.enter(address("192.0.2.1"), connections, &limits);
        assert!(enter(2).is_ok());
        assert_eq!(enter(3).unwrap_err(), Limit::Connections);
    }

    #[test]
    fn a_client_has_its_own_number_and_leaves_nothing_behind() {
        let crowd = Crowd::new();
        let limits = Limits {
            connections_per_client: count(1),
            ..Limits::default()
        };
        let enter = |text| crowd.enter(address(text), 1, &limits);
        let visit = enter("192.0.2.1").unwrap();
        for same in ["192.0.2.1", "::ffff:192.0.2.1"] {
            assert_eq!(enter(same).unwrap_err(), Limit::ConnectionsPerClient);
        }
        let other = enter("192.0.2.2").unwrap();
        drop(visit);
        let again = enter("192.0.2.1").unwrap();
        drop((again, other));
        assert!(
            crowd
                .shards
                .iter()
                .all(|shard| shard.lock().unwrap().records.is_empty())
        );
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let crowd = Crowd::new();
        let limits = Limits {
            connections_per_client: count(1),
            ..Limits::default()
        };
        let _visit = crowd.enter(address("2001:db8::1"), 1, &limits).unwrap();
        let same = crowd.enter(address("2001:db8::2:3:4:5"), 1, &limits);
        assert_eq!(same.unwrap_err(), Limit::ConnectionsPerClient);
        assert!(crowd.enter(address("2001:db8:0:1::1"), 1, &limits).is_ok());
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_as_it_fills() {
        let (crowd, now) = (Crowd::new(), worker::now());
        let limits = Limits {
            requests_per_client: rate(10, 3),
            ..Limits::default()
        };
        let visit = crowd.enter(address("192.0.2.1"), 1, &limits).unwrap();
        let ask = |visit: &Visit, millis| {
            asks(&crowd, visit, &limits, now + Duration::from_millis(millis))
        };
        let asked = [0, 0, 0, 0, 99, 100, 101, 1000, 1000, 1000, 1000];
        let may = [
            true, true, true, false, false, true, false, true, true, true, false,
        ];
        assert_eq!(asked.map(|at| ask(&visit, at)), may);
        // A new connection brings no new bucket.
        drop(visit);
        let visit = crowd.enter(address("192.0.2.1"), 1, &limits).unwrap();
        assert!(!ask(&visit, 1000));
        assert!(ask(&visit, 1100));
    }

    #[test]
    fn nobody_is_known_before_a_limit_asks_and_whoever_is_in_then() {
        let (crowd, now) = (Crowd::new(), worker::now());
        let none = Limits::default();
        let visit = crowd.enter(address("192.0.2.1"), 1, &none).unwrap();
        assert!((0..9).all(|_| asks(&crowd, &visit, &none, now)));
        assert!(visit.0.get().is_none());
        let limits = Limits {
            requests_per_client: rate(1, 1),
            connections_per_client: count(1),
            ..none
        };
        assert!(asks(&crowd, &visit, &limits, now));
        assert!(!asks(&crowd, &visit, &limits, now));
        let other = crowd.enter(address("192.0.2.1"), 2, &limits);
        assert_eq!(other.unwrap_err(), Limit::ConnectionsPerClient);
        // Two that are in stay.
        let early = crowd.enter(address("192.0.2.1"), 2, &none).unwrap();
        assert!(asks(&crowd, &early, &limits, now + Duration::from_secs(1)));
        drop((visit, early));
        let shards = crowd.shards.iter();
        let connected = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap();
            shard.records.values().any(|record| record.connections > 0)
        };
        assert!(!shards.into_iter().any(connected));
    }

    #[test]
    fn the_table_is_bounded_whoever_comes() {
        let (crowd, now) = (Crowd::new(), worker::now());
        let limits = Limits {
            requests_per_client: rate(1, 1_000_000),
            ..Limits::default()
        };
        for client in 0..200_000_u32 {
            let visit = crowd.enter(IpAddr::V4(client.into()), 1, &limits).unwrap();
            // Leaves a bucket that is not full.
            assert!(asks(
                &crowd,
                &visit,
                &limits,
                now + Duration::from_secs(3600)
            ));
        }
        let known: usize = crowd
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap().records.len())
            .sum();
        assert!(known <= SHARDS * REMEMBERED_MAX, "{known}");
    }

    #[test]
    fn who_owes_most_is_remembered_longest() {
        let (crowd, now) = (Crowd::new(), worker::now());
        let limits = Limits {
            requests_per_client: rate(1, 2),
            ..Limits::default()
        };
        let enter = |client: u32| crowd.enter(IpAddr::V4(client.into()), 1, &limits).unwrap();
        let greedy = enter(7);
        assert!((0..2).all(|_| asks(&crowd, &greedy, &limits, now)));
        drop(greedy);
        // Connections that stay leave the table as large as it is, and count for nothing.
        let stay: Vec<_> = (1_000_000..1_100_000).map(enter).collect();
        for client in 2_000_000..2_100_000 {
            assert!(asks(&crowd, &enter(client), &limits, now));
        }
        assert!(!asks(&crowd, &enter(7), &limits, now));
        drop(stay);
    }

    #[test]
    fn a_rate_that_is_raised_forgives_what_no_longer_fits() {
        let (crowd, now) = (Crowd::new(), worker::now());
        let limits = |per_second, burst| Limits {
            requests_per_client: rate(per_second, burst),
            ..Limits::default()
        };
        let visit = crowd
            .enter(address("192.0.2.1"), 1, &limits(1, 600))
            .unwrap();
        assert!((0..500).all(|_| asks(&crowd, &visit, &limits(1, 600), now)));
        let raised = limits(100, 200);
        assert!(!asks(&crowd, &visit, &raised, now));
        assert!(asks(
            &crowd,
            &visit,
            &raised,
            now + Duration::from_millis(10)
        ));
    }

    #[test]
    fn handshakes_are_counted_while_they_last() {
        let (crowd, now) = (Crowd::new(), worker::now());
        let limits = Limits {
            handshakes: count(1),
            ..Limits::default()
        };
        let begin = || crowd.begin_handshake(&limits, now, Waker::noop());
        let begun = begin();
        assert!(begun.is_some());
        assert!(begin().is_none());
        drop(begun);
        assert!(begin().is_some());
    }

    #[test]
    fn the_oldest_handshake_makes_room_once_it_has_had_its_time() {
        let (crowd, now) = (Crowd::new(), worker::now());
        let limits = Limits {
            handshakes: count(2),
            ..Limits::default()
        };
        let begin = |millis| {
            let at = now + Duration::from_millis(millis);
            crowd.begin_handshake(&limits, at, Waker::noop())
        };
        let (first, second) = (begin(0).unwrap(), begin(500).unwrap());
        assert!(begin(999).is_none());
        let third = begin(1000).unwrap();
        assert!(first.is_over() && !second.is_over() && !third.is_over());
        assert!(begin(1499).is_none());
        // What is over gives no place back.
        drop(first);
        assert!(begin(1499).is_none());
        drop((second, third));
        assert!(crowd.handshakes().under_way.is_empty());
    }

    #[test]
    fn descriptors_are_left_for_the_other_side() {
        assert_eq!(room(Some(1024)), 384);
        assert_eq!(room(Some(65_536)), 32_640);
        assert_eq!(room(Some(20)), 5);
        assert_eq!(room(None), usize::MAX);
    }
}
