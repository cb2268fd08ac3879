//! What a verb says. A reader that has gone, as `head` does, is no failure.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Writes an answer to standard output.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Writes text as it is to standard error, whether anybody reads it or not.
pub(super) fn show(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Says in one line why there is no answer.
pub(super) fn complain(message: impl Display) {
    show(&format!("albedo: {message}\n"));
}

/// Text of somebody else, without what could steer a terminal.
pub(super) fn harmless(text: &str) -> String {
    text.replace(char::is_control, "?")
}
