//! The texts that conditions compare with. Only their spelling is known here; `rule` matches them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::Invalid;
use super::invalid::quoted;

/// Longest value of a condition (ELBv2 `RuleCondition`).
const PATTERN_MAX: usize = 128;
/// Longest header name and longest method of a condition (ELBv2 `HttpHeaderConditionConfig`).
const NAME_MAX: usize = 40;

macro_rules! pattern {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }
    };
}

pattern! {
    /// At most 128 of `A-Z a-z 0-9 - . * ?`, at least one dot, only letters after the last dot.
    HostPattern, check_host
}
pattern! {
    /// At most 128 of ``A-Z a-z 0-9 _-.$/~"'@:+&*?``.
    PathPattern, check_path
}
pattern! {
    /// A header name: at most 40 token characters (RFC 9110 §5.6.2), no wildcards, never `Host`.
    HeaderNamePattern, check_header_name
}
pattern! {
    /// At most 128 visible characters or blanks; `*` and `?` are wildcards, `\*` and `\?` are not.
    TextPattern, check_text
}
pattern! {
    /// At most 40 of `A-Z - _`, no wildcards.
    MethodPattern, check_method
}

impl HostPattern {
    /// How many `*` and `?` it holds.
    pub fn wildcard_count(&self) -> usize {
        count_wildcards(&self.0)
    }
}

impl PathPattern {
    /// How many `*` and `?` it holds.
    pub fn wildcard_count(&self) -> usize {
        count_wildcards(&self.0)
    }
}

impl TextPattern {
    /// How many `*` and `?` it holds that are wildcards.
    pub fn wildcard_count(&self) -> usize {
        let literal = self.0.replace("\\*", "").replace("\\?", "");
        count_wildcards(&literal)
    }
}

fn count_wildcards(text: &str) -> usize {
    text.bytes()
        .filter(|byte| matches!(byte, b'*' | b'?'))
        .count()
}

fn check_host(text: &str) -> Result<(), Invalid> {
    let what = "host pattern";
    check_length(what, text, PATTERN_MAX)?;
    if text == "*" {
        return Err(Invalid::new(
            "host pattern '*' has no dot",
            "leave the condition out to match every host",
        ));
    }
    check_characters(
        what,
        text,
        |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '*' | '?'),
        |c| match c {
            ':' => "leave the port out: hosts are compared without it",
            '/' => "write the host alone, without scheme and path",
            _ => "use letters, digits, '-', '.', and the wildcards '*' and '?'",
        },
    )?;
    let Some((_, last)) = text.rsplit_once('.') else {
        return Err(Invalid::new(
            format_args!("host pattern {} has no dot", quoted(text)),
            "write a whole host name, such as 'www.example.com' or '*.example.com'",
        ));
    };
    if last.is_empty() || !last.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(Invalid::new(
            format_args!(
                "host pattern {} has other than letters after its last dot",
                quoted(text)
            ),
            "end it with a top-level domain, such as '.com': addresses and a last '*' are not taken",
        ));
    }
    Ok(())
}

fn check_path(text: &str) -> Result<(), Invalid> {
    let what = "path pattern";
    check_length(what, text, PATTERN_MAX)?;
    check_characters(
        what,
        text,
        |c| c.is_ascii_alphanumeric() || "_-.$/~\"'@:+&*?".contains(c),
        |c| match c {
            '=' | '#' => {
                "use a 'query_string' condition for the query: paths are compared without it"
            }
            '%' | ' ' => "write '?' in the place of one character, or '*' in the place of several",
            _ => "use letters, digits, any of _-.$/~\"'@:+& and the wildcards '*' and '?'",
        },
    )
}

fn check_header_name(text: &str) -> Result<(), Invalid> {
    let what = "header name";
    check_length(what, text, NAME_MAX)?;
    check_characters(
        what,
        text,
        |c| c.is_ascii_alphanumeric() || "!#$%&'+-.^_`|~".contains(c),
        |c| match c {
            '*' | '?' => "write the whole name: wildcards work in 'values' only",
            ':' => "write the name without the colon",
            _ => "write a header name, such as 'X-Canary'",
        },
    )?;
    if text.eq_ignore_ascii_case("host") {
        return Err(Invalid::new(
            "header name 'Host' is not for this condition",
            "use a 'host_header' condition",
        ));
    }
    Ok(())
}

fn check_text(text: &str) -> Result<(), Invalid> {
    let what = "value";
    check_length(what, text, PATTERN_MAX)?;
    check_characters(
        what,
        text,
        |c| c.is_ascii_graphic() || c == ' ',
        |_| "use visible ASCII characters: '?' stands for any one character and '*' for several",
    )
}

fn check_method(text: &str) -> Result<(), Invalid> {
    let what = "method";
    check_length(what, text, NAME_MAX)?;
    check_characters(
        what,
        text,
        |c| c.is_ascii_uppercase() || matches!(c, '-' | '_'),
        |c| match c {
            'a'..='z' => "write it in capitals: methods are compared with regard to case",
            '*' | '?' => "name each method: there are no wildcards here",
            _ => "use capital letters, '-' and '_'",
        },
    )
}

fn check_length(what: &str, text: &str, max: usize) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new(
            format_args!("the {what} is empty"),
            format_args!("write 1 to {max} characters, or leave the condition out"),
        ));
    }
    let length = text.chars().count();
    if length > max {
        return Err(Invalid::new(
            format_args!("{what} {} has {length} characters", quoted(text)),
            format_args!("shorten it to {max}, perhaps with a wildcard"),
        ));
    }
    Ok(())
}

fn check_characters(
    what: &str,
    text: &str,
    good: impl Fn(char) -> bool,
    remedy: impl Fn(char) -> &'static str,
) -> Result<(), Invalid> {
    match text.chars().find(|c| !good(*c)) {
        None => Ok(()),
        Some(c) => Err(Invalid::new(
            format_args!("{what} {} holds {}", quoted(text), quoted(&c.to_string())),
            remedy(c),
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal<T: FromStr<Err = Invalid> + fmt::Debug>(text: &str) -> String {
        text.parse::<T>().unwrap_err().to_string()
    }

    #[test]
    fn hosts_are_names_with_a_top_level_domain() {
        for good in ["*.example.com", "www.Example.COM", "a?.b-c.de", "*.com"] {
            assert!(good.parse::<HostPattern>().is_ok(), "{good}");
        }
        assert!(refusal::<HostPattern>("*").contains("leave the condition out"));
        assert!(refusal::<HostPattern>("localhost").contains("has no dot"));
        assert!(refusal::<HostPattern>("example.*").contains("after its last dot"));
        assert!(refusal::<HostPattern>("example.com.").contains("after its last dot"));
        assert!(refusal::<HostPattern>("10.0.0.1").contains("after its last dot"));
        assert!(refusal::<HostPattern>("example.com:443").contains("leave the port out"));
        assert!(refusal::<HostPattern>("https://example.com").contains("holds ':'"));
        assert!(refusal::<HostPattern>("").contains("is empty"));
    }

    #[test]
    fn paths_never_see_the_query() {
        for good in ["/api/v2/*", "/", "*", "*.png", "/~a/b'c\"d@e:f+g&h$_-."] {
            assert!(good.parse::<PathPattern>().is_ok(), "{good}");
        }
        assert!(refusal::<PathPattern>("/search?q=*").contains("query_string"));
        assert!(refusal::<PathPattern>("/a%20b").contains("holds '%'"));
        assert!(refusal::<PathPattern>(&"/x".repeat(65)).contains("130 characters"));
    }

    #[test]
    fn header_names_are_tokens_and_never_host() {
        assert!("X-Canary".parse::<HeaderNamePattern>().is_ok());
        assert!(refusal::<HeaderNamePattern>("hOst").contains("host_header"));
        assert!(refusal::<HeaderNamePattern>("X-*").contains("wildcards"));
        assert!(refusal::<HeaderNamePattern>("X-Canary:").contains("colon"));
        assert!("x".repeat(41).parse::<HeaderNamePattern>().is_err());
    }

    #[test]
    fn methods_are_capitals() {
        assert!("VERSION-CONTROL".parse::<MethodPattern>().is_ok());
        assert!(refusal::<MethodPattern>("get").contains("capitals"));
        assert!(refusal::<MethodPattern>("*").contains("no wildcards"));
    }

    #[test]
    fn an_escaped_star_is_no_wildcard() {
        let count = |text: &str| text.parse::<TextPattern>().unwrap().wildcard_count();
        assert_eq!(count("2*"), 1);
        assert_eq!(count("\\*?\\?*"), 2);
        assert_eq!(count("Mozilla/5.0 (X11)"), 0);
        assert!("caf\u{e9}".parse::<TextPattern>().is_err());
        assert!("a\tb".parse::<TextPattern>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_taken_as_written_or_refused(text in ".{0,140}") {
            if let Ok(pattern) = text.parse::<HostPattern>() { prop_assert_eq!(pattern.as_str(), &text); }
            if let Ok(pattern) = text.parse::<PathPattern>() { prop_assert_eq!(pattern.as_str(), &text); }
            if let Ok(pattern) = text.parse::<TextPattern>() { prop_assert_eq!(pattern.as_str(), &text); }
            if let Ok(pattern) = text.parse::<HeaderNamePattern>() { prop_assert_eq!(pattern.as_str(), &text); }
            if let Ok(pattern) = text.parse::<MethodPattern>() { prop_assert_eq!(pattern.as_str(), &text); }
        }
    }
}
