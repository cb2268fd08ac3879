//! Tunnel: carries bytes both ways once a target has agreed to speak another protocol. Reads from neither side what
//! the other has not taken, and ends WebSockets with a word. Never looks into what it carries.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::http1::{Connection, Upgrade, Upgraded};
use crate::message::websocket::{self, Close, Frames};
use crate::worker::{self, Alarm};

/// Before the time of its target, or of this process, is up, a WebSocket is told to go and come back elsewhere. Those
/// that share an end are told at moments spread over this time, so that they do not all come back at once.
const CLOSE_SPREAD: Duration = Duration::from_secs(30);

/// How long after that a client has to answer, before it is cut off.
const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// The same where a target is to go at once.
const CLOSE_GRACE_MIN: Duration = Duration::from_secs(1);

/// A client and a target that speak past us.
#[derive(Debug)]
pub(crate) struct Tunnel {
    target: Upgraded,
    up: Flow,
    down: Flow,
    /// Where the frames toward the client begin; `None` where it is not WebSocket that is spoken.
    frames: Option<Frames>,
    /// The end that was told last, and when the worker's tasks were last called to look for one.
    end: Option<Instant>,
    looked: Option<u32>,
    farewell: Farewell,
    /// When the alarm rings that has this task's waker.
    rings: Option<Instant>,
}

/// How far one direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Open,
    /// What comes is of no interest to anybody any more.
    Discarding,
    /// Its source has ended; its sink is to be told.
    Ending,
    Ended,
}

/// Whether the end is in sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    None,
    /// The client is to be told at `at`.
    Planned {
        at: Instant,
        ends_at: Instant,
    },
    /// It is to be told as soon as a frame ends.
    Due {
        ends_at: Instant,
    },
    Said {
        ends_at: Instant,
    },
}

impl Tunnel {
    pub(crate) fn new(target: Upgraded) -> Self {
        Self {
            frames: match target.protocol() {
                Upgrade::WebSocket => Some(Frames::default()),
                Upgrade::Other(_) => None,
            },
            target,
            up: Flow::Open,
            down: Flow::Open,
            end: None,
            looked: None,
            farewell: Farewell::None,
            rings: None,
        }
    }

    /// Carries bytes until both sides have ended, one of them breaks, nothing has moved for `idle_timeout`, or the
    /// time is up: `ends_at` is asked when all tasks of the worker are woken, and before anything follows from it.
    pub(crate) async fn run(
        &mut self,
        client: &Connection,
        idle_timeout: Duration,
        alarm: &Alarm,
        ends_at: impl Fn() -> Option<Instant>,
    ) {
        poll_fn(|cx| {
            // Most wakings bring a few bytes; what follows is for the others, and far from the cache.
            let calls = Some(worker::calls());
            if self.looked != calls || self.rings.is_none_or(|at| at <= worker::now()) {
                self.looked = calls;
                self.rings = None;
                self.look_ahead(ends_at());
            }
            self.poll(cx, client, idle_timeout, alarm)
        })
        .await;
        alarm.clear();
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &Connection,
        idle_timeout: Duration,
        alarm: &Alarm,
    ) -> Poll<()> {
        loop {
            let up = self.poll_up(cx, client);
            let down = self.poll_down(cx, client);
            match (up, down) {
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
                (Poll::Pending, _) | (_, Poll::Pending) => {}
            }
            let now = worker::now();
            if self.rings.is_some_and(|at| now < at) {
                return Poll::Pending;
            }
            let target = self.target.connection();
            let last_active = client.last_active().max(target.last_active());
            let idle_at = worker::silent_until(last_active, idle_timeout);
            let next = self.farewell.next().map_or(idle_at, |at| at.min(idle_at));
            if now < next {
                alarm.set(next);
                self.rings = Some(next);
                ready!(alarm.poll(cx));
            }
            if idle_at <= now || self.farewell.is_over(now) {
                return Poll::Ready(());
            }
            self.farewell = match (self.farewell.begun(now), &self.frames) {
                // There is nothing to say in a protocol that we do not speak.
                (Farewell::Due { ends_at }, None) => Farewell::Said { ends_at },
                (farewell, _) => farewell,
            };
        }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>, client: &Connection) -> Poll<io::Result<()>> {
        let target = self.target.connection();
        poll_flow(cx, &mut self.up, client, target, |cx, bytes| {
            target.push(cx, &[bytes]).map(|()| Flow::Open)
        })
    }

    fn poll_down(&mut self, cx: &mut Context<'_>, client: &Connection) -> Poll<io::Result<()>> {
        let (frames, farewell) = (&mut self.frames, &mut self.farewell);
        if let (Farewell::Due { ends_at }, Some(frames)) = (*farewell, &mut *frames)
            && frames.at_boundary()
            && self.down == Flow::Open
        {
            *farewell = Farewell::Said { ends_at };
            self.down = Flow::Discarding;
            if frames.close() == Close::NotYet {
                client.push(cx, &[&websocket::CLOSE_SERVICE_RESTART])?;
            }
        }
        let target = self.target.connection();
        poll_flow(cx, &mut self.down, target, client, |cx, bytes| {
            let Some(frames) = frames else {
                return client.push(cx, &[bytes]).map(|()| Flow::Open);
            };
            let Farewell::Due { ends_at } = *farewell else {
                frames.follow(bytes);
                return client.push(cx, &[bytes]).map(|()| Flow::Open);
            };
            let last = frames.finish_frame(bytes);
            if !frames.at_boundary() {
                return client.push(cx, &[bytes]).map(|()| Flow::Open);
            }
            *farewell = Farewell::Said { ends_at };
            let close: &[u8] = match frames.close() {
                Close::NotYet => &websocket::CLOSE_SERVICE_RESTART,
                Close::Sent => b"",
            };
            client
                .push(cx, &[&bytes[..last], close])
                .map(|()| Flow::Discarding)
        })
    }

    /// Plans for an end that has come into sight, has moved, or is off.
    fn look_ahead(&mut self, end: Option<Instant>) {
        if end == self.end {
            return;
        }
        self.end = end;
        self.farewell = match (self.farewell, end) {
            (said @ Farewell::Said { .. }, _) => said,
            (_, None) => Farewell::None,
            (_, Some(at)) => Farewell::plan(at, worker::now(), fastrand::f64()),
        };
    }
}

/// Moves one direction on; ready when its sink knows that nothing more will come. `push` gives what it is handed to
/// the sink and says how to go on.
fn poll_flow(
    cx: &mut Context<'_>,
    flow: &mut Flow,
    source: &Connection,
    sink: &Connection,
    mut push: impl FnMut(&mut Context<'_>, &[u8]) -> io::Result<Flow>,
) -> Poll<io::Result<()>> {
    loop {
        match flow {
            Flow::Open => {
                ready!(sink.poll_flush(cx))?;
                let pushed =
                    ready!(source.poll_lend(cx, |cx, bytes| (bytes.len(), push(cx, bytes))));
                *flow = pushed?.unwrap_or(Ok(Flow::Ending))?;
            }
            Flow::Discarding => {
                let flushed = sink.poll_flush(cx)?;
                let read = ready!(source.poll_lend(cx, |_, bytes| (bytes.len(), ())));
                // A source that breaks off now has ended as well as any.
                if let Ok(Some(())) = read {
                    continue;
                }
                ready!(flushed);
                *flow = Flow::Ending;
            }
            Flow::Ending => {
                ready!(sink.poll_flush(cx))?;
                ready!(sink.poll_shutdown(cx))?;
                *flow = Flow::Ended;
            }
            Flow::Ended => return Poll::Ready(Ok(())),
        }
    }
}

impl Farewell {
    /// `chance` is in 0..1.
    fn plan(ends_at: Instant, now: Instant, chance: f64) -> Self {
        let left = ends_at.saturating_duration_since(now);
        let grace = CLOSE_GRACE.min(left / 4);
        let spread = CLOSE_SPREAD.min(left / 2);
        Self::Planned {
            at: ends_at - grace - spread.mul_f64(chance),
            ends_at,
        }
    }

    /// When it goes on by itself.
    fn next(self) -> Option<Instant> {
        match self {
            Self::None => None,
            Self::Planned { at, .. } => Some(at),
            Self::Due { ends_at } | Self::Said { ends_at } => Some(ends_at),
        }
    }

    /// What is planned falls due.
    fn begun(self, now: Instant) -> Self {
        match self {
            Self::Planned { at, ends_at } if at <= now => Self::Due {
                ends_at: ends_at.max(now + CLOSE_GRACE_MIN),
            },
            other => other,
        }
    }

    fn is_over(self, now: Instant) -> bool {
        match self {
            Self::None | Self::Planned { .. } => false,
            Self::Due { ends_at } | Self::Said { ends_at } => ends_at <= now,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::tls::{Socket, Stream};

    proptest! {
        #[test]
        fn a_farewell_comes_before_the_end_and_leaves_time_to_answer(
            left in 0_u64..4_000_000,
            chance in 0.0..1.0,
        ) {
            let now = Instant::now();
            let left = Duration::from_millis(left);
            let Farewell::Planned { at, ends_at } = Farewell::plan(now + left, now, chance) else {
                panic!("nothing was planned");
            };
            prop_assert_eq!(ends_at, now + left);
            prop_assert!(now <= at && at <= ends_at);
            prop_assert!(ends_at - at >= CLOSE_GRACE.min(left / 4));
            prop_assert!(ends_at - at <= CLOSE_GRACE + CLOSE_SPREAD);
        }
    }

    /// A socket, and the connection that has its other end.
    async fn side() -> (TcpStream, Rc<Connection>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap());
        let (ours, accepted) = tokio::join!(ours, listener.accept());
        let (theirs, peer) = accepted.unwrap();
        let connection = Connection::new(Stream::Plain(Socket::new(theirs)), peer);
        (ours.unwrap(), Rc::new(connection))
    }

    /// Runs a tunnel whose time is up as soon as the target has sent `before`; then the target sends `after` and both
    /// sides end. Gives what the client saw.
    async fn seen_by_client(protocol: Upgrade, before: &[u8], after: &[u8]) -> Vec<u8> {
        let (mut client, client_side) = side().await;
        let (mut target, target_side) = side().await;
        let mut tunnel = Tunnel::new(Upgraded::new(target_side, protocol));
        let ends_at = Cell::new(None);
        let alarm = Alarm::new();
        let carrying = tunnel.run(&client_side, CLOSE_GRACE * 9, &alarm, || ends_at.get());
        let telling = async {
            let mut seen = vec![0; before.len()];
            target.write_all(before).await.unwrap();
            client.read_exact(&mut seen).await.unwrap();
            ends_at.set(Some(worker::refresh_clock()));
            worker::wake_all();
            tokio::task::yield_now().await;
            target.write_all(after).await.unwrap();
            target.shutdown().await.unwrap();
            client.shutdown().await.unwrap();
            client.read_to_end(&mut seen).await.unwrap();
            seen
        };
        tokio::join!(carrying, telling).1
    }

    const HELLO: &[u8] = b"\x81\x05hello";

    #[tokio::test]
    async fn a_close_stands_between_two_frames_and_nothing_follows_it() {
        for cut in 0..=HELLO.len() {
            let (before, after) = HELLO.split_at(cut);
            let after = [after, HELLO].concat();
            let seen = seen_by_client(Upgrade::WebSocket, before, &after).await;
            let whole: &[u8] = if cut == 0 { b"" } else { HELLO };
            let expected = [whole, &websocket::CLOSE_SERVICE_RESTART].concat();
            assert_eq!(seen, expected, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_target_that_said_close_has_said_it_for_us() {
        let close = b"\x88\x02\x03\xe8";
        let seen = seen_by_client(Upgrade::WebSocket, close, HELLO).await;
        assert_eq!(seen, close);
    }

    #[tokio::test]
    async fn nothing_is_said_in_another_protocol() {
        let protocol = Upgrade::Other((*b"other").into());
        assert_eq!(seen_by_client(protocol, b"be", b"fore").await, b"before");
    }

    #[test]
    fn farewells_are_spread_over_the_last_half_minute() {
        let now = Instant::now();
        let ends_at = now + Duration::from_secs(300);
        let at = |chance| match Farewell::plan(ends_at, now, chance) {
            Farewell::Planned { at, .. } => ends_at - at,
            other => panic!("{other:?}"),
        };
        assert_eq!(at(0.0), Duration::from_secs(5));
        assert_eq!(at(0.5), Duration::from_secs(20));
    }

    #[test]
    fn an_end_that_is_now_still_leaves_time_for_a_word() {
        let now = Instant::now();
        let due = Farewell::plan(now, now, 0.5).begun(now);
        assert_eq!(
            due,
            Farewell::Due {
                ends_at: now + CLOSE_GRACE_MIN
            }
        );
        assert!(!due.is_over(now) && due.is_over(now + CLOSE_GRACE_MIN));
    }
}
