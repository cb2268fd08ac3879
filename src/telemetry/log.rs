//! Our own log, to standard error: a line a record for a person, JSON for a machine. Never touches what a program
//! that embeds albedo has set up for itself.

use std::env;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Names what is logged, as `info` or `warn,albedo::target=debug`.
const FILTER_VARIABLE: &str = "ALBEDO_LOG";

/// What is logged when nobody says otherwise.
const FILTER_DEFAULT: &str = "info";

/// Starts the log of the process. Where there is one already, that one stays.
pub(crate) fn start() {
    let text = env::var(FILTER_VARIABLE).unwrap_or_default();
    let parsed = filter(&text);
    let refused = parsed.as_ref().err().map(ToString::to_string);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parsed.unwrap_or_else(|_| EnvFilter::new(FILTER_DEFAULT)))
        .with_writer(io::stderr);
    let started = if io::stderr().is_terminal() {
        builder.with_target(false).compact().finish().try_init()
    } else {
        // The code's own `target` would stand beside a target group's: one name twice in one object.
        builder
            .json()
            .flatten_event(true)
            .with_target(false)
            .finish()
            .try_init()
    };
    if let (Ok(()), Some(error)) = (started, refused) {
        tracing::warn!(
            "{FILTER_VARIABLE}='{text}' is no filter: {error}; '{FILTER_DEFAULT}' is used"
        );
    }
}

fn filter(text: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    match text.trim() {
        "" => EnvFilter::builder().parse(FILTER_DEFAULT),
        text => EnvFilter::builder().parse(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starting_twice_keeps_the_first() {
        start();
        start();
    }

    #[test]
    fn nothing_said_means_info() {
        assert_eq!(filter(" ").unwrap().to_string(), "info");
        assert_eq!(filter("warn").unwrap().to_string(), "warn");
        assert!(filter("albedo=loud").is_err());
    }
}
