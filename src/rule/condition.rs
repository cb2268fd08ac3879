//! One match arm for each of ELB's six conditions. Looks at the request as the client sent it and at the TCP
//! peer; never at a header that albedo adds, never at X-Forwarded-For in place of the peer.

use std::net::IpAddr;
use std::sync::Arc;

use http::Method;
use ipnet::IpNet;

use super::pattern::{Backslash, Case, Pattern};
use crate::headers::Headers;
use crate::message::{Client, Request};
use crate::model;

/// A condition ready to be asked; its values are alternatives.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    HostHeader(Box<[Pattern]>),
    PathPattern(Box<[Pattern]>),
    HttpHeader {
        name: Box<str>,
        values: Box<[Pattern]>,
    },
    HttpRequestMethod(Box<[Arc<str>]>),
    QueryString(Box<[QueryPattern]>),
    SourceIp(Box<[IpNet]>),
}

/// One alternative of a query-string condition.
#[derive(Clone, Debug)]
pub(crate) struct QueryPattern {
    /// Any key when absent.
    key: Option<Pattern>,
    value: Pattern,
}

/// What conditions look at, taken apart once for all rules.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    host: &'a [u8],
    path: &'a [u8],
    query: Option<&'a [u8]>,
    method: &'a Method,
    headers: &'a Headers,
    source: IpAddr,
}

impl Condition {
    pub(super) fn build(condition: &model::Condition) -> Self {
        match condition {
            model::Condition::HostHeader(hosts) => {
                Self::host_header(hosts.iter().map(|host| host.as_str()))
            }
            model::Condition::PathPattern(paths) => {
                Self::path_pattern(paths.iter().map(|path| path.as_str()))
            }
            model::Condition::HttpHeader { name, values } => Self::HttpHeader {
                name: name.as_str().into(),
                values: compile(values.iter().map(|value| value.as_str()), Case::Insensitive),
            },
            model::Condition::HttpRequestMethod(methods) => Self::HttpRequestMethod(
                methods
                    .iter()
                    .map(|method| method.as_str().into())
                    .collect(),
            ),
            model::Condition::QueryString(pairs) => {
                Self::QueryString(pairs.iter().map(QueryPattern::build).collect())
            }
            model::Condition::SourceIp(networks) => Self::SourceIp(networks.as_slice().into()),
        }
    }

    fn host_header<'a>(hosts: impl Iterator<Item = &'a str>) -> Self {
        Self::HostHeader(compile(hosts, Case::Insensitive))
    }

    fn path_pattern<'a>(paths: impl Iterator<Item = &'a str>) -> Self {
        Self::PathPattern(compile(paths, Case::Sensitive))
    }

    /// Whether any alternative holds.
    pub(super) fn holds(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::HostHeader(hosts) => hosts.iter().any(|host| host.matches(subject.host)),
            Self::PathPattern(paths) => paths.iter().any(|path| path.matches(subject.path)),
            Self::HttpHeader { name, values } => subject
                .headers
                .named(name.as_bytes())
                .any(|sent| values.iter().any(|value| value.matches(sent))),
            Self::HttpRequestMethod(methods) => methods
                .iter()
                .any(|method| **method == *subject.method.as_str()),
            Self::QueryString(alternatives) => subject
                .pairs()
                .any(|(key, value)| alternatives.iter().any(|pair| pair.matches(key, value))),
            Self::SourceIp(networks) => networks
                .iter()
                .any(|network| network.contains(&subject.source)),
        }
    }
}

/// Host, path and header patterns know no escapes; only query strings do (ELBv2 `QueryStringConditionConfig`).
fn compile<'a>(texts: impl Iterator<Item = &'a str>, case: Case) -> Box<[Pattern]> {
    texts
        .map(|text| Pattern::compile(text, case, Backslash::Literal))
        .collect()
}

impl QueryPattern {
    fn build(pair: &model::QueryPattern) -> Self {
        Self::compile(
            pair.key.as_ref().map(|key| key.as_str()),
            pair.value.as_str(),
        )
    }

    fn compile(key: Option<&str>, value: &str) -> Self {
        let compile = |text| Pattern::compile(text, Case::Insensitive, Backslash::Escapes);
        Self {
            key: key.map(compile),
            value: compile(value),
        }
    }

    fn matches(&self, key: &[u8], value: &[u8]) -> bool {
        self.key.as_ref().is_none_or(|pattern| pattern.matches(key)) && self.value.matches(value)
    }
}

impl<'a> Subject<'a> {
    pub(super) fn of(request: &'a Request, client: &Client) -> Self {
        let host = request.host();
        Self {
            // `a.com.` is the same host as `a.com` (RFC 1034 §3.1); a rule may not be passed by with a dot.
            host: host.strip_suffix(b".").unwrap_or(host),
            path: request.path(),
            query: request.query(),
            method: &request.method,
            headers: &request.headers,
            // A dual-stack socket shows an IPv4 peer as `::ffff:a.b.c.d`.
            source: client.peer.ip().to_canonical(),
        }
    }

    pub(super) fn host(&self) -> &'a [u8] {
        self.host
    }

    pub(super) fn path(&self) -> &'a [u8] {
        self.path
    }

    /// Key and value of each pair, neither decoded; a pair without `=` has an empty value.
    fn pairs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let query = self.query.unwrap_or_default();
        // A fragment is never part of a request (RFC 9110 §4.2.5); a client that sends one cannot hide a pair in it.
        let end = query.iter().position(|&byte| byte == b'#');
        query[..end.unwrap_or(query.len())]
            .split(|&byte| byte == b'&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| match pair.iter().position(|&byte| byte == b'=') {
                Some(equals) => (&pair[..equals], &pair[equals + 1..]),
                None => (pair, &b""[..]),
            })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::rule) fn client(peer: &str) -> Client {
        Client {
            peer: peer.parse().unwrap(),
            local: "192.0.2.1:443".parse().unwrap(),
            tls: None,
        }
    }

    pub(in crate::rule) fn path(pattern: &str) -> Condition {
        paths(&[pattern])
    }

    pub(in crate::rule) fn paths(patterns: &[&str]) -> Condition {
        Condition::path_pattern(patterns.iter().copied())
    }

    pub(in crate::rule) fn host(pattern: &str) -> Condition {
        hosts(&[pattern])
    }

    pub(in crate::rule) fn hosts(patterns: &[&str]) -> Condition {
        Condition::host_header(patterns.iter().copied())
    }

    fn header(name: &'static str, value: &str) -> Condition {
        Condition::HttpHeader {
            name: name.into(),
            values: compile([value].into_iter(), Case::Insensitive),
        }
    }

    fn query(key: Option<&str>, value: &str) -> Condition {
        Condition::QueryString([QueryPattern::compile(key, value)].into())
    }

    fn holds(condition: &Condition, request: &Request) -> bool {
        condition.holds(&Subject::of(request, &client("198.51.100.7:1000")))
    }

    fn asks(target: &'static str) -> Request {
        Request::for_test(target, "a.com", &[])
    }

    #[test]
    fn host_is_compared_without_port_case_and_final_dot() {
        for authority in [
            "www.a.com",
            "www.a.com:8443",
            "WWW.A.com",
            "www.a.com.",
            "www.a.com.:80",
        ] {
            let request = Request::for_test("/", authority, &[]);
            assert!(holds(&host("www.A.com"), &request), "{authority}");
            assert!(holds(&host("*.a.com"), &request), "{authority}");
        }
        for authority in [
            "a.com",
            "www.a.com.evil.org",
            "www.a.comx",
            "",
            "www.a.com..",
            "x@a.com",
        ] {
            let request = Request::for_test("/", authority, &[]);
            assert!(!holds(&host("www.a.com"), &request), "{authority}");
        }
    }

    #[test]
    fn path_is_compared_raw_and_without_the_query() {
        assert!(holds(&path("/api/*"), &asks("/api/x?y")));
        assert!(!holds(&path("/api/*"), &asks("/API/x")));
        assert!(!holds(&path("*y"), &asks("/api/x?y")));
        assert!(!holds(&path("/api/*"), &asks("/%61pi/x")));
        assert!(!holds(&path("/api/*"), &asks("//api/x")));
        assert!(!holds(&path("/b"), &asks("/a/../b")));
    }

    #[test]
    fn every_occurrence_of_a_header_is_tried() {
        let sent = [("X-Canary", "0"), ("x-canary", "Yes")];
        let request = Request::for_test("/", "a.com", &sent);
        assert!(holds(&header("x-canary", "yes"), &request));
        assert!(holds(&header("x-canary", "?"), &request));
        assert!(!holds(&header("x-canary", "no"), &request));
        assert!(!holds(&header("x-other", "*"), &request));
    }

    #[test]
    fn method_is_compared_with_regard_to_case() {
        let methods = Condition::HttpRequestMethod(["GET".into(), "PURGE-ALL".into()].into());
        let mut request = asks("/");
        assert!(holds(&methods, &request));
        request.method = Method::from_bytes(b"PURGE-ALL").unwrap();
        assert!(holds(&methods, &request));
        request.method = Method::from_bytes(b"get").unwrap();
        assert!(!holds(&methods, &request));
    }

    #[test]
    fn query_pairs_are_matched_one_by_one() {
        let request = asks("/?Version=2.1&flag&q=a=b&star=*&&enc=%2A#hidden=1");
        assert!(holds(&query(Some("version"), "2*"), &request));
        assert!(holds(&query(None, "2.1"), &request));
        assert!(holds(&query(Some("flag"), ""), &request));
        assert!(holds(&query(Some("Q"), "A=B"), &request));
        assert!(holds(&query(Some("star"), r"\*"), &request));
        assert!(!holds(&query(Some("enc"), r"\*"), &request), "not decoded");
        assert!(!holds(&query(Some("version"), "2"), &request));
        assert!(!holds(&query(Some("hidden"), "*"), &request));
        assert!(!holds(&query(Some("v*&*"), "*"), &request));
        assert!(!holds(&query(None, "*"), &asks("/")));
        assert!(!holds(&query(None, "*"), &asks("/?")));
    }

    #[test]
    fn source_is_the_tcp_peer_also_when_mapped() {
        let networks = Condition::SourceIp(
            [
                "10.0.0.0/8".parse().unwrap(),
                "2001:db8::/32".parse().unwrap(),
            ]
            .into(),
        );
        let spoofed = Request::for_test("/", "a.com", &[("X-Forwarded-For", "10.0.0.1")]);
        for (peer, expected) in [
            ("10.1.2.3:5", true),
            ("[::ffff:10.1.2.3]:5", true),
            ("[2001:db8::7]:5", true),
            ("11.1.2.3:5", false),
            ("[2001:db9::7]:5", false),
        ] {
            let subject_client = client(peer);
            let subject = Subject::of(&spoofed, &subject_client);
            assert_eq!(networks.holds(&subject), expected, "{peer}");
        }
    }
}
