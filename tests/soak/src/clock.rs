//! One clock for everybody: milliseconds since the program began.

use std::sync::OnceLock;
use std::time::Instant;

/// A moment.
pub(crate) type Millis = u64;

static BEGAN: OnceLock<Instant> = OnceLock::new();

pub(crate) fn now() -> Millis {
    let elapsed = BEGAN.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_millis()).expect("no run lasts that long")
}

/// A moment for a person.
pub(crate) fn shown(at: Millis) -> String {
    format!("{:.3} s", at as f64 / 1000.0)
}
