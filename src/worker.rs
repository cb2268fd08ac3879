//! Data-plane threads: one `LocalRuntime` each, with a coarse clock, alarms that cost a store to move, and a scratch
//! buffer. Never knows what travels through it, and never shares anything with another worker.
//!
//! What is thread-local here belongs to one worker of one load balancer: a worker is a thread, and the thread is its
//! worker's alone.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How coarse the clock is when nothing refreshes it: idle timeouts are whole seconds, a tenth is close enough.
const TICK: Duration = Duration::from_millis(100);

/// Bytes read from a socket in one call, and sent on in one. Linux sends at most 65,483 bytes in a piece (fewer where
/// packets are small), and a second piece of the few bytes past that costs as much as the first: what is read must fit,
/// as a chunk or in six TLS records, too.
const SCRATCH_SIZE: usize = 60_000;

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(0) };
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
    static EPOCH_SECONDS: Cell<Option<u32>> = const { Cell::new(None) };
    static BOTH_CLOCKS: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
    static DATE: Cell<Option<(u32, [u8; DATE_LEN])>> = const { Cell::new(None) };
    static CALLS: Cell<u32> = const { Cell::new(0) };
    static ALARMS: RefCell<Vec<Weak<Bell>>> = const { RefCell::new(Vec::new()) };
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static OUTGOING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    // Not a worker's: what is long on the control side is spread over rooms that share nothing else.
    static STRETCH_ENDS: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Longest work of the control side in one go while a worker that has little to do waits for its CPU. A scheduler would
/// let it go on for milliseconds, and a request waits for its worker several times.
const STRETCH: Duration = Duration::from_micros(100);

/// Lets workers go first. Whatever keeps the control side busy for long calls this again and again; it costs a look at
/// the clock, and now and then a system call.
pub(crate) fn step_aside() {
    let now = Instant::now();
    if STRETCH_ENDS.get().is_some_and(|end| now < end) {
        return;
    }
    thread::yield_now();
    let back = Instant::now();
    // Beside a worker that is never done, the control side takes as long as it gave: a change that always stepped aside
    // would not come to its end.
    STRETCH_ENDS.set(Some(back + STRETCH.max(back - now)));
}

/// Which worker this is, counted from 0.
pub(crate) fn index() -> usize {
    INDEX.get()
}

/// The worker's time, at most a tick old. Good for idle times and dates, not for latencies.
pub(crate) fn now() -> Instant {
    NOW.get().unwrap_or_else(refresh_clock)
}

/// Reads the real clock and lets every later `now()` profit.
pub(crate) fn refresh_clock() -> Instant {
    let now = Instant::now();
    NOW.set(Some(now));
    now
}

/// When a silence that began at a moment of `now()` has lasted for `period`: that clock may have been a tick behind, and
/// nobody shall go too early.
pub(crate) fn silent_until(since: Instant, period: Duration) -> Instant {
    since + period + TICK
}

/// Seconds since 1970, at most a tick old.
pub(crate) fn epoch_seconds() -> u32 {
    EPOCH_SECONDS
        .get()
        .unwrap_or_else(|| note_wall_clock(read_both_clocks()).0)
}

/// A moment of now as people write it. The wall clock is read once a tick: within one, both clocks go alike.
pub(crate) fn wall_clock(moment: Instant) -> SystemTime {
    let (read_at, wall_clock) = BOTH_CLOCKS.get().unwrap_or_else(|| {
        let both = read_both_clocks();
        note_wall_clock(both);
        both
    });
    match moment.checked_duration_since(read_at) {
        Some(since) => wall_clock + since,
        None => wall_clock - (read_at - moment),
    }
}

/// How far apart readings of the two clocks may lie. Somebody else may have the CPU between them for milliseconds, and
/// every record of a tick would be off by that.
const CLOCKS_APART_MAX: Duration = Duration::from_micros(20);

/// How often both are read until they lie together.
const CLOCK_READINGS_MAX: u32 = 8;

fn read_both_clocks() -> (Instant, SystemTime) {
    read_together(Instant::now, SystemTime::now)
}

/// Reads two clocks at one moment, or as close to it as they came.
fn read_together(
    mut monotonic: impl FnMut() -> Instant,
    mut wall: impl FnMut() -> SystemTime,
) -> (Instant, SystemTime) {
    let mut best: Option<(Duration, Instant, SystemTime)> = None;
    for _ in 0..CLOCK_READINGS_MAX {
        let (before, wall_clock) = (monotonic(), wall());
        let apart = monotonic().saturating_duration_since(before);
        if best.is_none_or(|(closest, ..)| apart < closest) {
            best = Some((apart, before, wall_clock));
        }
        if apart <= CLOCKS_APART_MAX {
            break;
        }
    }
    let (_, now, wall_clock) = best.expect("there is one reading at least");
    (now, wall_clock)
}

/// Makes both readings those of this tick; gives the second.
fn note_wall_clock((now, wall_clock): (Instant, SystemTime)) -> (u32, SystemTime) {
    BOTH_CLOCKS.set(Some((now, wall_clock)));
    let seconds = wall_clock
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    // Eight hexadecimal digits in X-Amzn-Trace-Id; they last until 2106.
    let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
    EPOCH_SECONDS.set(Some(seconds));
    (seconds, wall_clock)
}

/// Length of a date as HTTP writes it.
const DATE_LEN: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();

/// The value of a Date header (RFC 9110 §5.6.7), made once a second.
pub(crate) fn date() -> [u8; DATE_LEN] {
    let now = epoch_seconds();
    if let Some((at, date)) = DATE.get()
        && at == now
    {
        return date;
    }
    let text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(now.into()));
    let mut date = [b' '; DATE_LEN];
    for (byte, letter) in date.iter_mut().zip(text.bytes()) {
        *byte = letter;
    }
    DATE.set(Some((now, date)));
    date
}

/// Lends the worker's reading buffer. It holds nothing between two calls, so it must not be lent across an await;
/// a closure cannot await.
pub(crate) fn with_scratch<R>(use_it: impl FnOnce(&mut [u8]) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.is_empty() {
            scratch.resize(SCRATCH_SIZE, 0);
        }
        use_it(scratch)
    })
}

/// Lends the worker's writing buffer, empty.
pub(crate) fn with_outgoing<R>(use_it: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    OUTGOING.with_borrow_mut(|outgoing| {
        outgoing.clear();
        use_it(outgoing)
    })
}

/// A deadline of one task. Moving it is a store; a sweep per tick looks at all of them.
#[derive(Debug)]
pub(crate) struct Alarm(Rc<Bell>);

#[derive(Debug)]
struct Bell {
    at: Cell<Option<Instant>>,
    waker: RefCell<Option<Waker>>,
}

impl Alarm {
    /// An alarm that is off.
    pub(crate) fn new() -> Self {
        let bell = Rc::new(Bell {
            at: Cell::new(None),
            waker: RefCell::new(None),
        });
        ALARMS.with_borrow_mut(|alarms| alarms.push(Rc::downgrade(&bell)));
        Self(bell)
    }

    /// Rings at `at`, not before, and at most a tick later.
    pub(crate) fn set(&self, at: Instant) {
        self.0.at.set(Some(at));
    }

    /// Never rings until set again.
    pub(crate) fn clear(&self) {
        self.0.at.set(None);
    }

    /// Ready once the alarm has rung; else the task is woken when it does.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        match self.0.at.get() {
            Some(at) if at <= now() => return Poll::Ready(()),
            Some(_) => {}
            None => return Poll::Pending,
        }
        let mut waker = self.0.waker.borrow_mut();
        match &mut *waker {
            Some(known) => known.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Polls `operation` until it is done, or gives `None` at `at`.
    pub(crate) async fn race<T>(
        &self,
        at: Instant,
        mut operation: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        self.set(at);
        let outcome = poll_fn(|cx| match operation(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => self.poll(cx).map(|()| None),
        })
        .await;
        self.clear();
        outcome
    }

    /// Polls `operation` until it is done, or gives `None` once `end()` has come. The end may move either way: it is asked
    /// for each time the task is woken.
    pub(crate) async fn until<T>(
        &self,
        end: impl Fn() -> Instant,
        mut operation: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(value) = operation(cx) {
                return Poll::Ready(Some(value));
            }
            self.set(end());
            self.poll(cx).map(|()| None)
        })
        .await;
        self.clear();
        outcome
    }

    /// Polls `operation` until it is done, or gives `None` once `period` has passed since `last_active()`, a moment of
    /// `now()`.
    /// Activity only moves what that closure returns; the alarm itself is moved when it rings.
    pub(crate) async fn while_active<T>(
        &self,
        period: Duration,
        last_active: impl Fn() -> Instant,
        mut operation: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        self.set(silent_until(last_active(), period));
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(value) = operation(cx) {
                return Poll::Ready(Some(value));
            }
            while self.poll(cx).is_ready() {
                let at = silent_until(last_active(), period);
                if at <= now() {
                    return Poll::Ready(None);
                }
                self.set(at);
            }
            Poll::Pending
        })
        .await;
        self.clear();
        outcome
    }
}

/// Refreshes the clock and rings what is due; runs on every worker for as long as it lives.
async fn sweep() {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        note_wall_clock(read_both_clocks());
        ring(refresh_clock());
    }
}

/// Wakes every task that waits with an alarm, so that it looks around: the worker is to drain.
pub(crate) fn wake_all() {
    CALLS.set(CALLS.get().wrapping_add(1));
    ALARMS.with_borrow(|alarms| {
        for bell in alarms.iter().filter_map(Weak::upgrade) {
            if let Some(waker) = bell.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    });
}

/// Waits for `work`, or gives `None` once it `is_over`. There is no timer here: whoever ends it wakes the task.
pub(crate) async fn unless_over<T>(
    mut work: Pin<&mut impl Future<Output = T>>,
    is_over: impl Fn() -> bool,
) -> Option<T> {
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending if is_over() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// How often all were woken; who remembers the number sees for the price of a comparison whether to look around.
pub(crate) fn calls() -> u32 {
    CALLS.get()
}

fn ring(now: Instant) {
    ALARMS.with_borrow_mut(|alarms| {
        alarms.retain(|bell| {
            let Some(bell) = bell.upgrade() else {
                return false;
            };
            if bell.at.get().is_some_and(|at| at <= now)
                && let Some(waker) = bell.waker.borrow_mut().take()
            {
                waker.wake();
            }
            true
        });
    });
}

/// How many workers to run when the operator does not say: the CPUs this process may use, by affinity and by
/// cgroup quota.
pub(crate) fn count() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Starts a worker thread that runs `main` to its end on a runtime of its own; tasks may be spawned locally there.
///
/// # Errors
/// When the system gives no thread or no event queue.
pub(crate) fn start<F>(
    index: usize,
    main: impl FnOnce() -> F + Send + 'static,
) -> io::Result<thread::JoinHandle<()>>
where
    F: Future<Output = ()> + 'static,
{
    let (ready, started) = std::sync::mpsc::sync_channel(1);
    let thread = thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                // Handshakes are the longest tasks; 61, the default, of them would keep sockets waiting 10 ms.
                .event_interval(31)
                .build_local(tokio::runtime::LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            drop(ready.send(Ok(())));
            INDEX.set(index);
            runtime.block_on(async {
                let sweeper = tokio::task::spawn_local(sweep());
                main().await;
                sweeper.abort();
            });
        })?;
    match started.recv() {
        Ok(outcome) => outcome.map(|()| thread),
        Err(_) => Err(io::Error::other("the worker ended before it began")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a future on a runtime whose clock only moves when nothing else can, with this module's clock on it.
    fn on_paused_clock<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(future)
    }

    async fn ticking(rounds: u32) {
        let start = Instant::now();
        for round in 1..=rounds {
            let now = start + TICK * round;
            NOW.set(Some(now));
            ring(now);
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn alarm_rings_at_its_time_and_not_before() {
        on_paused_clock(async {
            refresh_clock();
            let alarm = Alarm::new();
            let at = now() + TICK * 3;
            let (outcome, ()) = tokio::join!(
                async {
                    let none = alarm.race::<()>(at, |_| Poll::Pending).await;
                    assert!(now() >= at);
                    none
                },
                ticking(5)
            );
            assert_eq!(outcome, None);
        });
    }

    #[test]
    fn activity_puts_the_end_off() {
        on_paused_clock(async {
            let start = refresh_clock();
            let alarm = Alarm::new();
            let last_active = Cell::new(start);
            let ended = async {
                let idle = alarm
                    .while_active::<()>(TICK * 2, || last_active.get(), |_| Poll::Pending)
                    .await;
                assert_eq!(idle, None);
                now()
            };
            let active = async {
                tokio::task::yield_now().await;
                last_active.set(start + TICK * 3);
                ticking(8).await;
            };
            let (ended, ()) = tokio::join!(ended, active);
            // What was noted as the third tick may have happened just before the fourth.
            assert!(ended >= start + TICK * 6, "{:?}", ended - start);
        });
    }

    #[test]
    fn an_end_that_moves_is_followed_both_ways() {
        on_paused_clock(async {
            let start = refresh_clock();
            let alarm = Alarm::new();
            let end = Cell::new(start + TICK * 3);
            let ended = async {
                let over = alarm.until::<()>(|| end.get(), |_| Poll::Pending).await;
                assert_eq!(over, None);
                now()
            };
            let moved = async {
                tokio::task::yield_now().await;
                end.set(start + TICK * 50);
                // Rings at the old end, and waits on for the new one.
                ticking(4).await;
                end.set(start + TICK * 6);
                wake_all();
                ticking(10).await;
            };
            let (ended, ()) = tokio::join!(ended, moved);
            let after = ended - start;
            assert!((TICK * 6..TICK * 8).contains(&after), "{after:?}");
        });
    }

    #[test]
    fn both_clocks_go_alike() {
        let now = Instant::now();
        let wall_clock_now = wall_clock(now);
        assert_eq!(wall_clock(now + TICK), wall_clock_now + TICK);
        assert_eq!(wall_clock(now - TICK), wall_clock_now - TICK);
        // Somebody sets the clock, and the next tick sees it.
        let much_later = now + Duration::from_secs(3600);
        note_wall_clock((much_later, wall_clock_now));
        assert_eq!(wall_clock(much_later), wall_clock_now);
    }

    #[test]
    fn two_clocks_are_read_together() {
        let (start, day) = (Instant::now(), SystemTime::now());
        // Microseconds that pass while a clock is read: somebody else has the CPU now and then.
        let read = |steps: &[u64]| {
            let micros = Cell::new(0);
            let steps = RefCell::new(steps.iter());
            let pass = || {
                let step = steps.borrow_mut().next().copied().unwrap_or(1000);
                micros.set(micros.get() + step);
                Duration::from_micros(micros.get())
            };
            let (monotonic, wall) = read_together(|| start + pass(), || day + pass());
            let (monotonic, wall) = (monotonic - start, wall.duration_since(day).unwrap());
            (monotonic.as_micros(), wall.as_micros())
        };
        assert_eq!(read(&[1, 1, 1]), (1, 2));
        assert_eq!(read(&[1, 5000, 1, 1, 1, 1]), (5003, 5004));
        // Never close: the closest of some.
        assert_eq!(read(&[1, 900, 900, 1, 30, 40, 1, 900, 900]), (1802, 1832));
    }

    #[test]
    fn dropped_alarms_are_forgotten() {
        let alarm = Alarm::new();
        drop(alarm);
        ring(Instant::now());
        assert_eq!(ALARMS.with_borrow(Vec::len), 0);
    }
}
