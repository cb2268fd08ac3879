//! Closed sets of words: one table gives an enum its names, its parser and its errors.

use super::invalid::{Invalid, quoted, snake_case};

/// Gives an enum `ALL`, `as_str`, `Display` and `FromStr` from one table of names.
macro_rules! spelled {
    ($type:ident, $what:literal, { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name as the configuration spells it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::model::Invalid;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::model::spelled::choose($what, text, Self::ALL, Self::as_str)
            }
        }
    };
}
pub(super) use spelled;

/// The value of this exact name, or an error that lists the names.
pub(super) fn choose<T: Copy>(
    what: &str,
    text: &str,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<T, Invalid> {
    if let Some(value) = all.iter().find(|value| name(**value) == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = all.iter().map(|value| name(*value)).collect();
    let same = |name: &&&str| snake_case(name) == snake_case(text);
    let remedy = match names.iter().find(same) {
        Some(name) => format!("did you mean '{name}'?"),
        None => format!("write {}", alternatives(&names)),
    };
    Err(Invalid::new(
        format_args!("{} is not {what}", quoted(text)),
        remedy,
    ))
}

/// `a`, `a or b`, `a, b or c`.
pub(crate) fn alternatives(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
