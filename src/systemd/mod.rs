//! What the service manager gives and hears, where it is systemd. Without one nothing here does anything.

mod listen;
mod notify;

pub(crate) use listen::{Error, sockets};
pub(crate) use notify::{Manager, News};
