//! Why a value was refused, in words for the person who wrote it.

use std::fmt;

/// A value that cannot be: what is wrong with it, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct Invalid {
    message: String,
    remedy: String,
}

impl Invalid {
    pub(crate) fn new(message: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            remedy: remedy.to_string(),
        }
    }

    /// What is wrong, without a period.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// How to mend it, without a period.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

/// A value as an error quotes it: in single quotes, control characters made visible, long ones cut.
pub(crate) fn quoted(text: &str) -> String {
    /// Enough to recognise a value in one's own file.
    const SHOWN_MAX: usize = 80;
    let mut shown = String::new();
    for c in text.chars().take(SHOWN_MAX) {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    format!("'{shown}'")
}

/// The candidate that a mistyped word most likely meant, if any is near.
pub(crate) fn nearest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    /// Jaro-Winkler similarity from which a suggestion helps more than it puzzles.
    const NEAR: f64 = 0.82;
    /// Longer words are not typing errors, and comparing them costs their square.
    const TEXT_MAX: usize = 128;
    if text.len() > TEXT_MAX {
        return None;
    }
    let text = snake_case(text);
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::jaro_winkler(&text, &snake_case(candidate)),
                candidate,
            )
        })
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, candidate)| candidate)
}

/// `HealthCheckPath`, `health-check-path` and `health_check_path` are one word to a person.
pub(super) fn snake_case(text: &str) -> String {
    let mut snake = String::with_capacity(text.len() + 4);
    let mut after_lower = false;
    for c in text.chars() {
        if c.is_uppercase() && after_lower {
            snake.push('_');
        }
        after_lower = c.is_lowercase() || c.is_ascii_digit();
        match c {
            '-' | ' ' | '.' => snake.push('_'),
            _ => snake.extend(c.to_lowercase()),
        }
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_word() {
        let words = ["health_check", "protocol", "targets", "slow_start"];
        assert_eq!(nearest("protcol", words), Some("protocol"));
        assert_eq!(nearest("HealthCheck", words), Some("health_check"));
        assert_eq!(nearest("slow-start", words), Some("slow_start"));
        assert_eq!(nearest("zebra", words), None);
        assert_eq!(nearest("", words), None);
    }

    #[test]
    fn a_quoted_value_is_short_and_printable() {
        assert_eq!(quoted("a\tb"), "'a\\tb'");
        let long = "x".repeat(500);
        assert!(quoted(&long).chars().count() < 90);
        assert!(quoted(&long).ends_with("…'"));
    }
}
