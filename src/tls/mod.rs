//! Keys and locks, both sides. Never knows HTTP.

mod stream;

pub(crate) use stream::Stream;
