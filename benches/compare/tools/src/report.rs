//! What a program says on standard output: one object of JSON on a line.

use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

#[derive(Debug)]
pub struct Report(String);

impl Default for Report {
    fn default() -> Self {
        Self(String::from("{"))
    }
}

impl Report {
    /// A number, or anything that is JSON already.
    pub fn say(mut self, name: &str, value: impl Display) -> Self {
        let comma = if self.0.len() > 1 { "," } else { "" };
        write!(self.0, "{comma}{}:{value}", quoted(name)).expect("memory takes every character");
        self
    }

    pub fn finish(self) -> String {
        self.0 + "}"
    }

    pub fn print(self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", self.finish())?;
        out.flush()
    }
}

pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            ' '.. => quoted.push(letter),
            _ => quoted.push(' '),
        }
    }
    quoted + "\""
}

/// Says where a server listens, which is also when.
pub fn listening(listeners: &[TcpListener]) -> io::Result<()> {
    let addresses: Vec<SocketAddr> = listeners
        .iter()
        .map(TcpListener::local_addr)
        .collect::<io::Result<_>>()?;
    let texts: Vec<String> = addresses
        .iter()
        .map(|address| quoted(&address.to_string()))
        .collect();
    Report::default()
        .say("listening", format!("[{}]", texts.join(",")))
        .print()
}

/// How much went wrong, and what first.
#[derive(Debug, Default)]
pub struct Errors {
    pub count: u64,
    pub first: Option<String>,
}

impl Errors {
    pub fn add(&mut self, error: impl Display) {
        self.count += 1;
        self.first.get_or_insert_with(|| error.to_string());
    }

    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.first = self.first.take().or(other.first);
    }
}

/// What every load says first.
pub fn outcome(load: &str, elapsed: Duration, done: u64, errors: &Errors) -> Report {
    let first = errors
        .first
        .as_deref()
        .map_or_else(|| String::from("null"), quoted);
    Report::default()
        .say("load", quoted(load))
        .say("seconds", format_args!("{:.3}", elapsed.as_secs_f64()))
        .say("done", done)
        .say("errors", errors.count)
        .say("first_error", first)
}

/// Percentiles of durations, in microseconds. Exact: it keeps them all.
pub fn percentiles(durations: &mut [Duration]) -> String {
    if durations.is_empty() {
        return String::from("null");
    }
    durations.sort_unstable();
    let micros = |duration: Duration| format!("{:.1}", duration.as_secs_f64() * 1e6);
    let mut report = Report::default();
    for (name, share) in [
        ("p50", 0.5),
        ("p90", 0.9),
        ("p99", 0.99),
        ("p99.9", 0.999),
        ("max", 1.0),
    ] {
        // The smallest that is not below this share of all.
        let at = (durations.len() as f64 * share).ceil() as usize;
        report = report.say(name, micros(durations[at.clamp(1, durations.len()) - 1]));
    }
    let mean = durations.iter().sum::<Duration>() / durations.len() as u32;
    report.say("mean", micros(mean)).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_ranks_they_say() {
        let mut durations: Vec<Duration> = (1..=1000).rev().map(Duration::from_micros).collect();
        assert_eq!(
            percentiles(&mut durations),
            r#"{"p50":500.0,"p90":900.0,"p99":990.0,"p99.9":999.0,"max":1000.0,"mean":500.5}"#
        );
        assert_eq!(percentiles(&mut []), "null");
    }

    #[test]
    fn texts_stay_json() {
        assert_eq!(quoted("a \"b\" \\ \r\nc"), r#""a \"b\" \\   c""#);
    }
}
