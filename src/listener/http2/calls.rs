//! Who of a connection wants a turn of its task: a bit for each stream, set by whatever it waits for. Never locks, and
//! wakes a sleeping task once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};

/// Streams at once on one connection (ALB quota: 128); the connection is one caller more.
pub(super) const STREAMS_MAX: usize = 128;

/// Who wants a turn: each stream by a bit, the connection itself by a word of its own.
#[derive(Debug)]
pub(super) struct Calls {
    streams: [AtomicU64; WORDS],
    connection: AtomicBool,
    /// Whether the task has its turn; then it looks by itself, and need not be woken.
    is_awake: AtomicBool,
    task: OnceLock<Waker>,
}

/// Streams have a bit each, in so many words.
pub(super) const BITS: usize = u64::BITS as usize;
pub(super) const WORDS: usize = STREAMS_MAX / BITS;

impl Calls {
    /// With the connection called.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            streams: Default::default(),
            connection: AtomicBool::new(true),
            is_awake: AtomicBool::new(false),
            task: OnceLock::new(),
        })
    }

    /// What calls the stream in a place.
    pub(super) fn stream(self: &Arc<Self>, number: usize) -> Waker {
        Waker::from(Arc::new(Caller {
            number: number as u8,
            calls: Arc::clone(self),
        }))
    }

    /// What calls the connection itself.
    pub(super) fn connection(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::new(ConnectionCaller(Arc::clone(self))))
    }

    /// The task has its turn. A connection is always carried by the same task.
    pub(super) fn wake_up(&self, task: &Waker) {
        let known = self.task.get_or_init(|| task.clone());
        debug_assert!(known.will_wake(task), "a connection has changed its task");
        self.is_awake.store(true, Ordering::SeqCst);
    }

    /// The task's turn is over. Whoever called too late to be heard has it woken again.
    pub(super) fn fall_asleep(&self) {
        // Either a caller sees this, or its call is seen here.
        self.is_awake.store(false, Ordering::SeqCst);
        if self.is_anyone_waiting() {
            self.wake_task();
        }
    }

    /// Whether the connection was called; it is not any more.
    pub(super) fn take_connection(&self) -> bool {
        self.connection.load(Ordering::SeqCst) && self.connection.swap(false, Ordering::SeqCst)
    }

    pub(super) fn is_anyone_waiting(&self) -> bool {
        self.connection.load(Ordering::SeqCst)
            || self
                .streams
                .iter()
                .any(|called| called.load(Ordering::SeqCst) != 0)
    }

    /// Which streams of this word were called; they are not any more.
    pub(super) fn take(&self, word: usize) -> u64 {
        match self.streams[word].load(Ordering::SeqCst) {
            0 => 0,
            _ => self.streams[word].swap(0, Ordering::SeqCst),
        }
    }

    /// Calls them again.
    pub(super) fn put_back(&self, word: usize, called: u64) {
        self.streams[word].fetch_or(called, Ordering::SeqCst);
    }

    fn wake_task(&self) {
        if !self.is_awake.load(Ordering::SeqCst)
            && let Some(task) = self.task.get()
        {
            task.wake_by_ref();
        }
    }
}

/// Calls for one stream, or for whatever lives in its place after it.
struct Caller {
    number: u8,
    calls: Arc<Calls>,
}

impl Wake for Caller {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let number = usize::from(self.number);
        let bit = 1 << (number % BITS);
        let before = self.calls.streams[number / BITS].fetch_or(bit, Ordering::SeqCst);
        // Who called before has woken the task.
        if before & bit == 0 {
            self.calls.wake_task();
        }
    }
}

struct ConnectionCaller(Arc<Calls>);

impl Wake for ConnectionCaller {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.0.connection.swap(true, Ordering::SeqCst) {
            self.0.wake_task();
        }
    }
}
