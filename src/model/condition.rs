//! ELB's six conditions. Values within one are alternatives.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

/// One condition of a rule (ELBv2 `RuleCondition`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The Host header without its port, compared without regard to case.
    HostHeader(Vec<HostPattern>),
    /// The raw path without the query, compared with regard to case.
    PathPattern(Vec<PathPattern>),
    /// Any value of one header, compared without regard to case.
    HttpHeader {
        /// Name, without wildcards.
        name: HeaderNamePattern,
        /// Alternatives.
        values: Vec<TextPattern>,
    },
    /// The method, compared with regard to case.
    HttpRequestMethod(Vec<MethodPattern>),
    /// Key and value pairs of the query, compared without regard to case.
    QueryString(Vec<QueryPattern>),
    /// The TCP peer's address.
    SourceIp(Vec<IpNet>),
}

macro_rules! pattern {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name(pub(super) Arc<str>);

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
    };
}

pattern! {
    /// At most 128 of `A-Z a-z 0-9 - . * ?`, at least one dot, only letters after the last dot.
    HostPattern
}
pattern! {
    /// At most 128 of ``A-Z a-z 0-9 _-.$/~"'@:+&*?``.
    PathPattern
}
pattern! {
    /// A header name: at most 40 token characters (RFC 9110 §5.6.2), never `Host`.
    HeaderNamePattern
}
pattern! {
    /// At most 128 visible characters, `*` and `?` are wildcards, `\*` and `\?` are not.
    TextPattern
}
pattern! {
    /// At most 40 of `A-Z - _`, no wildcards.
    MethodPattern
}

/// One alternative of a query-string condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryPattern {
    /// Any key when absent.
    pub key: Option<TextPattern>,
    /// The value.
    pub value: TextPattern,
}
