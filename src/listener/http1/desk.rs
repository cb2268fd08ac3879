//! Desks: where requests are answered. What that takes is large, and a connection holds it only from a request's head to
//! the end of its answer; then the desk is free for another connection. Never knows what is done there.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::{After, Heard, work};

/// Most free desks that a listener keeps on a worker; when more requests have ended than that, and none has begun, the
/// memory is worth more than the allocations.
const FREE_MAX: usize = 64;

/// The desks of one listener on one worker that are free.
#[derive(Default)]
pub(in crate::listener) struct Desks(RefCell<Vec<Desk>>);

impl Desks {
    /// A desk with something to answer on it.
    pub(super) fn take(&self, heard: Heard) -> Desk {
        let desk = self.0.borrow_mut().pop().unwrap_or_else(Desk::new);
        desk.tray.heard.set(Some(heard));
        desk
    }

    /// Takes back a desk whose answer was given.
    pub(super) fn give_back(&self, desk: Desk) {
        let mut free = self.0.borrow_mut();
        if free.len() < FREE_MAX {
            free.push(desk);
        }
    }
}

impl fmt::Debug for Desks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Desks")
            .field(&self.0.borrow().len())
            .finish()
    }
}

/// One desk. To drop it is to drop what is under way there.
pub(super) struct Desk {
    tray: Rc<Tray>,
    // Boxed to stay where it is while desks are lent, and `dyn` since the type of an `async fn` has no name.
    clerk: Pin<Box<dyn Future<Output = Infallible>>>,
}

impl Desk {
    fn new() -> Self {
        let tray = Rc::new(Tray::default());
        Self {
            clerk: Box::pin(work(Rc::clone(&tray))),
            tray,
        }
    }

    /// Ready once the answer is given.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<After> {
        let Poll::Pending = self.clerk.as_mut().poll(cx);
        self.tray.done.take().map_or(Poll::Pending, Poll::Ready)
    }
}

/// What goes from a connection to a desk and back, one at a time.
#[derive(Default)]
pub(super) struct Tray {
    heard: Cell<Option<Heard>>,
    done: Cell<Option<After>>,
}

impl Tray {
    /// The next thing to answer; nobody is woken for it, since whoever brings it polls.
    pub(super) fn poll_next(&self) -> Poll<Heard> {
        self.heard.take().map_or(Poll::Pending, Poll::Ready)
    }

    /// Says what becomes of the connection.
    pub(super) fn done(&self, after: After) {
        self.done.set(Some(after));
    }
}
