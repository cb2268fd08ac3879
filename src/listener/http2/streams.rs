//! The streams of one connection, all carried by the connection's own task: who is called has a turn, and what several
//! of them say leaves in one write. Ends with the connection, and every stream with it. Never knows HTTP.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::task::coop;

use super::calls::{BITS, Calls, STREAMS_MAX, WORDS};
use crate::worker::Alarm;

/// Places that a connection keeps for its next streams; more is what few clients use at once.
const SPARE_MAX: usize = 16;

/// The streams: `E` answers a request, and what it leaves behind is a tunnel `T` or nothing.
pub(super) struct Streams<E, T> {
    places: Vec<Place<E, T>>,
    /// Places without a stream.
    free: Vec<u8>,
    calls: Arc<Calls>,
}

/// Where a stream lives. The next one that lives here has the same waker and the same alarm.
struct Place<E, T> {
    work: Option<Work<E, T>>,
    waker: Waker,
    alarm: Rc<Alarm>,
}

// Boxed: futures are large, and the list of places moves when it grows.
enum Work<E, T> {
    Exchange(Pin<Box<E>>),
    Tunnel(Pin<Box<T>>),
}

/// What has become of a stream that had its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    GoesOn,
    Ended,
}

impl<E, T> Streams<E, T>
where
    E: Future<Output = Option<Pin<Box<T>>>>,
    T: Future<Output = ()>,
{
    pub(super) fn new(calls: Arc<Calls>) -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            calls,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Gives a new stream, which `begin` makes with its alarm, a place and its first turn. `None`, without having asked
    /// for it, when there is no place.
    #[must_use]
    pub(super) fn begin(&mut self, begin: impl FnOnce(Rc<Alarm>) -> E) -> Option<Turn> {
        let number = match self.free.pop() {
            Some(number) => usize::from(number),
            None if self.places.len() < STREAMS_MAX => {
                let number = self.places.len();
                self.places.push(Place {
                    work: None,
                    waker: self.calls.stream(number),
                    alarm: Rc::new(Alarm::new()),
                });
                number
            }
            None => return None,
        };
        let place = &mut self.places[number];
        let exchange = begin(Rc::clone(&place.alarm));
        place.work = Some(Work::Exchange(Box::pin(exchange)));
        Some(self.turn(number))
    }

    /// Gives a turn to each that was called; says how many of them ended.
    pub(super) fn run_called(&mut self) -> usize {
        let mut ended = 0;
        for word in 0..WORDS {
            let mut called = self.calls.take(word);
            while called != 0 {
                if !coop::has_budget_remaining() {
                    // They are heard when the task has its next turn.
                    self.calls.put_back(word, called);
                    return ended;
                }
                let number = word * BITS + called.trailing_zeros() as usize;
                called &= called - 1;
                ended += usize::from(self.turn(number) == Turn::Ended);
            }
        }
        ended
    }

    fn turn(&mut self, number: usize) -> Turn {
        // A call may come late, for a stream that is over or was forgotten with its place.
        let Some(place) = self.places.get_mut(number) else {
            return Turn::GoesOn;
        };
        let cx = &mut Context::from_waker(&place.waker);
        loop {
            let left = match &mut place.work {
                None => return Turn::GoesOn,
                Some(Work::Tunnel(tunnel)) => tunnel.as_mut().poll(cx).map(|()| None),
                Some(Work::Exchange(exchange)) => exchange.as_mut().poll(cx),
            };
            match left {
                Poll::Pending => return Turn::GoesOn,
                Poll::Ready(Some(tunnel)) => place.work = Some(Work::Tunnel(tunnel)),
                Poll::Ready(None) => break,
            }
        }
        place.work = None;
        place.alarm.clear();
        self.free.push(number as u8);
        if self.free.len() == self.places.len() && self.places.len() > SPARE_MAX {
            self.places = Vec::new();
            self.free = Vec::new();
        }
        Turn::Ended
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::{Ready, poll_fn, ready};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// A task that counts how often it is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Task {
        fn woken(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A stream that ends once it is told to, and counts its turns.
    #[derive(Clone, Default)]
    struct Told {
        turns: Rc<RefCell<usize>>,
        waker: Rc<RefCell<Option<Waker>>>,
        is_to_end: Rc<RefCell<bool>>,
    }

    impl Told {
        fn exchange<T>(&self) -> impl Future<Output = Option<T>> + use<T> {
            let told = self.clone();
            poll_fn(move |cx| {
                *told.turns.borrow_mut() += 1;
                *told.waker.borrow_mut() = Some(cx.waker().clone());
                match *told.is_to_end.borrow() {
                    true => Poll::Ready(None),
                    false => Poll::Pending,
                }
            })
        }

        fn turns(&self) -> usize {
            *self.turns.borrow()
        }

        fn waker(&self) -> Waker {
            self.waker.borrow().clone().unwrap()
        }

        fn end(&self) {
            *self.is_to_end.borrow_mut() = true;
            self.waker().wake();
        }
    }

    type NoTunnel = Option<Pin<Box<Ready<()>>>>;

    /// Calls that were made known to a task which sleeps now, with nobody calling.
    fn asleep() -> (Arc<Calls>, Arc<Task>) {
        let (calls, task) = (Calls::new(), Arc::new(Task::default()));
        assert!(calls.take_connection(), "a new connection is called");
        calls.wake_up(&Waker::from(Arc::clone(&task)));
        calls.fall_asleep();
        (calls, task)
    }

    #[test]
    fn who_is_called_has_a_turn_and_nobody_else() {
        let (calls, task) = asleep();
        let mut streams = Streams::new(Arc::clone(&calls));
        let told: Vec<Told> = (0..STREAMS_MAX).map(|_| Told::default()).collect();
        for each in &told {
            let turn = streams.begin(|_| each.exchange::<Pin<Box<Ready<()>>>>());
            assert_eq!(turn, Some(Turn::GoesOn));
        }
        assert_eq!(streams.begin(|_| told[0].exchange()), None, "no place");

        told[3].waker().wake();
        told[3].waker().wake();
        told[64].waker().wake();
        assert_eq!(task.woken(), 2, "once for each that was not waiting");
        assert_eq!(streams.run_called(), 0);

        let turns: Vec<usize> = told.iter().map(Told::turns).collect();
        let twice = |number| usize::from(number == 3 || number == 64);
        let expected: Vec<usize> = (0..STREAMS_MAX).map(|number| 1 + twice(number)).collect();
        assert_eq!(turns, expected);
        assert!(!calls.is_anyone_waiting());
    }

    #[test]
    fn a_task_that_has_its_turn_is_not_woken_but_hears_who_calls() {
        let (calls, task) = asleep();
        let mut streams = Streams::new(Arc::clone(&calls));
        let told = Told::default();
        let turn = streams.begin(|_| told.exchange::<Pin<Box<Ready<()>>>>());
        assert_eq!(turn, Some(Turn::GoesOn));

        calls.wake_up(&Waker::from(Arc::clone(&task)));
        told.waker().wake();
        calls.connection().wake();
        assert_eq!(task.woken(), 0);
        assert!(calls.take_connection());
        calls.fall_asleep();
        assert_eq!(task.woken(), 1, "somebody was not heard");

        let waker = told.waker();
        assert_eq!(streams.run_called(), 0);
        std::thread::spawn(move || waker.wake()).join().unwrap();
        assert_eq!(task.woken(), 2, "called from elsewhere");
    }

    #[test]
    fn places_are_used_again_and_a_late_call_does_no_harm() {
        let (calls, _task) = asleep();
        let mut streams = Streams::new(Arc::clone(&calls));
        let late: Vec<Waker> = (0..100)
            .flat_map(|_| {
                let told: Vec<Told> = (0..SPARE_MAX + 1).map(|_| Told::default()).collect();
                for each in &told {
                    let turn = streams.begin(|_| each.exchange::<Pin<Box<Ready<()>>>>());
                    assert_eq!(turn, Some(Turn::GoesOn));
                }
                assert_eq!(streams.len(), SPARE_MAX + 1);
                told.iter().for_each(Told::end);
                assert_eq!(streams.run_called(), SPARE_MAX + 1);
                assert_eq!((streams.len(), streams.places.len()), (0, 0));
                told.iter().map(Told::waker).collect::<Vec<_>>()
            })
            .collect();
        let told = Told::default();
        assert_eq!(streams.begin(|_| told.exchange()), Some(Turn::GoesOn));
        late.iter().for_each(Waker::wake_by_ref);
        assert_eq!(streams.run_called(), 0);
        told.end();
        assert_eq!(streams.run_called(), 1);
        assert_eq!(streams.places.len(), 1, "kept for the next");
    }

    #[test]
    fn what_an_exchange_leaves_behind_goes_on_in_its_place() {
        let (calls, _task) = asleep();
        let mut streams = Streams::new(calls);
        let tunnel = Told::default();
        let carried = tunnel.clone();
        let turn = streams.begin(|_| async move {
            let carrying: Pin<Box<_>> = Box::pin(async move {
                carried.exchange::<NoTunnel>().await;
            });
            Some(carrying)
        });
        assert_eq!((turn, streams.len()), (Some(Turn::GoesOn), 1));
        tunnel.end();
        assert_eq!((streams.run_called(), streams.len()), (1, 0));
    }

    #[test]
    fn an_alarm_is_off_for_the_next_in_its_place() {
        let (calls, _task) = asleep();
        let mut streams = Streams::new(calls);
        let turn = streams.begin(|alarm| {
            alarm.set(crate::worker::now());
            ready(NoTunnel::None)
        });
        assert_eq!(turn, Some(Turn::Ended));
        let mut first = None;
        let turn = streams.begin(|alarm| {
            first = Some(alarm);
            ready(None)
        });
        assert_eq!(turn, Some(Turn::Ended));
        let cx = Context::from_waker(Waker::noop());
        assert!(first.unwrap().poll(&cx).is_pending());
    }
}
