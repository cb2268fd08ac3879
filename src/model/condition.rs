//! ELB's six conditions. Values within one are alternatives.

use ipnet::IpNet;

use super::{HeaderNamePattern, HostPattern, MethodPattern, PathPattern, TextPattern};

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

/// One alternative of a query-string condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryPattern {
    /// Any key when absent.
    pub key: Option<TextPattern>,
    /// The value.
    pub value: TextPattern,
}

impl Condition {
    /// The field of the configuration that holds this condition.
    pub fn field(&self) -> &'static str {
        match self {
            Self::HostHeader(_) => "host_header",
            Self::PathPattern(_) => "path_pattern",
            Self::HttpHeader { .. } => "http_header",
            Self::HttpRequestMethod(_) => "http_request_method",
            Self::QueryString(_) => "query_string",
            Self::SourceIp(_) => "source_ip",
        }
    }

    /// How many alternatives it lists.
    pub fn value_count(&self) -> usize {
        match self {
            Self::HostHeader(values) => values.len(),
            Self::PathPattern(values) => values.len(),
            Self::HttpHeader { values, .. } => values.len(),
            Self::HttpRequestMethod(values) => values.len(),
            Self::QueryString(values) => values.len(),
            Self::SourceIp(values) => values.len(),
        }
    }

    /// How many `*` and `?` its values hold.
    pub fn wildcard_count(&self) -> usize {
        match self {
            Self::HostHeader(values) => values.iter().map(HostPattern::wildcard_count).sum(),
            Self::PathPattern(values) => values.iter().map(PathPattern::wildcard_count).sum(),
            Self::HttpHeader { values, .. } => values.iter().map(TextPattern::wildcard_count).sum(),
            Self::QueryString(values) => values
                .iter()
                .map(|pair| {
                    let key = pair.key.as_ref().map_or(0, TextPattern::wildcard_count);
                    key + pair.value.wildcard_count()
                })
                .sum(),
            Self::HttpRequestMethod(_) | Self::SourceIp(_) => 0,
        }
    }
}
