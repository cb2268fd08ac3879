//! Durations as the configuration writes them: a whole number and its unit.

use std::time::Duration;

use super::invalid::{Invalid, quoted};

const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Reads `100ms`, `5s`, `1m`, `1h` or `1d`; a bare number is refused, because nobody can tell its unit.
pub fn parse(text: &str) -> Result<Duration, Invalid> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(not_a_duration(text));
    }
    if unit.is_empty() {
        return Err(Invalid::new(
            format_args!("{} has no unit", quoted(text)),
            format_args!("write '{number}s' for seconds, or another of the units ms, s, m, h, d"),
        ));
    }
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(wrong_unit(text, number, unit));
    };
    let milliseconds = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor));
    milliseconds.map(Duration::from_millis).ok_or_else(|| {
        Invalid::new(
            format_args!("{} is longer than any clock runs", quoted(text)),
            "write a shorter duration",
        )
    })
}

/// Writes a duration the way [`parse`] reads it, in the largest unit that divides it.
pub fn format(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let (name, factor) = UNITS
        .iter()
        .rev()
        .find(|(_, factor)| milliseconds.is_multiple_of(u128::from(*factor)))
        .filter(|_| milliseconds > 0)
        .unwrap_or(&UNITS[1]);
    format!("{}{name}", milliseconds / u128::from(*factor))
}

fn not_a_duration(text: &str) -> Invalid {
    Invalid::new(
        format_args!("{} is not a duration", quoted(text)),
        "write a whole number with its unit, such as '100ms', '5s', '1m', '1h' or '1d'",
    )
}

fn wrong_unit(text: &str, number: &str, unit: &str) -> Invalid {
    if unit.starts_with('.') {
        return Invalid::new(
            format_args!("{} is not a whole number", quoted(text)),
            "write it in a smaller unit, such as '1500ms' for one and a half seconds",
        );
    }
    let word = unit.trim().to_ascii_lowercase();
    let meant = match word.as_str() {
        "ms" | "msec" | "millis" | "milliseconds" | "millisecond" => Some("ms"),
        "s" | "sec" | "secs" | "second" | "seconds" => Some("s"),
        "m" | "min" | "mins" | "minute" | "minutes" => Some("m"),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some("h"),
        "d" | "day" | "days" => Some("d"),
        _ => None,
    };
    match meant {
        Some(meant) => Invalid::new(
            format_args!("{} is not a duration", quoted(text)),
            format_args!("write '{number}{meant}'"),
        ),
        None => not_a_duration(text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_unit_is_read() {
        let milliseconds = |text: &str| parse(text).unwrap().as_millis();
        assert_eq!(milliseconds("100ms"), 100);
        assert_eq!(milliseconds("5s"), 5_000);
        assert_eq!(milliseconds("1m"), 60_000);
        assert_eq!(milliseconds("1h"), 3_600_000);
        assert_eq!(milliseconds("1d"), 86_400_000);
        assert_eq!(milliseconds("0s"), 0);
    }

    #[test]
    fn a_bare_number_is_refused_with_the_remedy() {
        let refusal = parse("60").unwrap_err().to_string();
        assert_eq!(
            refusal,
            "'60' has no unit; write '60s' for seconds, or another of the units ms, s, m, h, d"
        );
    }

    #[test]
    fn a_near_miss_is_corrected() {
        assert!(parse("5 sec").unwrap_err().remedy().contains("'5s'"));
        assert!(parse("5S").unwrap_err().remedy().contains("'5s'"));
        assert!(parse("1.5s").unwrap_err().remedy().contains("1500ms"));
        assert!(parse("-5s").is_err());
        assert!(parse("").is_err());
        assert!(parse("99999999999999999999d").is_err());
        assert!(parse("18446744073709551615d").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(milliseconds in 0_u64..1_000_000_000_000) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,20}") {
            let _ = parse(&text);
        }
    }
}
