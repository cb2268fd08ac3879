//! What follows a head: nothing, bytes at hand, or bytes still to come.

use bytes::Bytes;

/// A message body.
#[derive(Debug, Default)]
pub(crate) enum Body {
    /// No content.
    #[default]
    Empty,
    /// Content made by albedo itself.
    Full(Bytes),
}
