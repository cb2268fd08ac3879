//! Waits for many sockets at once: epoll, edge-triggered.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

/// Most that one wait brings.
const EVENTS_MAX: usize = 512;

pub struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

/// What has happened to a socket since it was last spoken of.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    pub token: usize,
    pub readable: bool,
    pub writable: bool,
    /// The other side sends no more, or the connection failed: a short read is not the last one.
    pub ended: bool,
}

impl Poll {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// Speaks of both directions, once for each change.
    // A socket that takes bytes is spoken of again only after it refused some, so that watching for both costs nothing.
    pub fn add(&self, socket: impl AsFd, token: usize) -> io::Result<()> {
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        Ok(epoll::add(
            &self.epoll,
            socket,
            epoll::EventData::new_u64(token as u64),
            flags,
        )?)
    }

    /// Speaks of a listener, or of standard input, as long as something waits there.
    pub fn add_source(&self, source: impl AsFd, token: usize) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            source,
            epoll::EventData::new_u64(token as u64),
            epoll::EventFlags::IN,
        )?)
    }

    /// Waits until something happens or `timeout` is over, to the nanosecond as far as the kernel goes. A program that was
    /// halted waits anew: what came meanwhile counts.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        loop {
            self.events.clear();
            let room = rustix::buffer::spare_capacity(&mut self.events);
            match epoll::wait(&self.epoll, room, timeout.as_ref()) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => (),
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub fn ready(&self) -> impl Iterator<Item = Ready> + use<'_> {
        self.events.iter().map(|event| {
            let flags = event.flags;
            let ended = flags.intersects(
                epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR,
            );
            Ready {
                token: event.data.u64() as usize,
                readable: ended || flags.contains(epoll::EventFlags::IN),
                writable: ended || flags.contains(epoll::EventFlags::OUT),
                ended,
            }
        })
    }
}
