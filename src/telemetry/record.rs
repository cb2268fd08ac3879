//! One exchange as one line: ALB's, field by field, or a JSON object. Never writes it anywhere.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{StatusCode, Version};
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::message::{Asked, ConnectionId, Exchange, MatchedRule};
use crate::model::{LoadBalancerName, TargetGroupName};

/// Longest user agent in a record; ALB cuts there too.
const USER_AGENT_MAX: usize = 8 * 1024;

/// How ALB names a load balancer in a record: `app/NAME/ID`.
#[derive(Clone, Debug)]
pub(crate) struct LoadBalancerId(String);

impl LoadBalancerId {
    pub(crate) fn new(name: &LoadBalancerName) -> Self {
        Self(format!("app/{name}/{:016x}", fingerprint(name.as_str())))
    }
}

/// Appends ALB's line: 33 fields (ALB user guide, "Access log entries"), ending in a line feed.
pub(crate) fn append_alb(line: &mut Vec<u8>, load_balancer: &LoadBalancerId, exchange: &Exchange) {
    let tls = exchange.client.tls.as_ref();
    let asked = exchange.asked.as_ref();
    let times = exchange.times();

    put(line, exchange.kind.as_str());
    plain(line, Iso8601(exchange.ended_at()));
    plain(line, &load_balancer.0);
    plain(line, exchange.client.peer);
    plain(line, OrDash(exchange.target));
    plain(line, Seconds(times.request_processing));
    plain(line, Seconds(times.target_processing));
    plain(line, Seconds(times.response_processing));
    plain(line, OrDash(exchange.elb_status.map(Code)));
    plain(line, OrDash(exchange.target_status.map(Code)));
    plain(line, exchange.received_bytes);
    plain(line, exchange.sent_bytes);
    request(line, exchange);
    quoted(line, asked.and_then(user_agent));
    plain(line, OrDash(tls.map(|tls| tls.cipher)));
    plain(line, OrDash(tls.map(|tls| tls.version)));
    plain(line, OrDash(exchange.target_group.as_ref().map(Arn)));
    quoted(line, exchange.trace_id.as_deref());
    quoted(line, tls.and_then(|tls| tls.server_name.as_deref()));
    // A certificate of one's own has no ARN.
    quoted(line, NONE);
    plain(line, Rule(exchange.rule));
    plain(line, Iso8601(exchange.started_at));
    quoted(line, exchange.action.as_str());
    quoted(line, exchange.redirect_url.as_deref());
    quoted(line, exchange.error_reason);
    plain(line, Quoted(OrDash(exchange.target)));
    plain(line, Quoted(OrDash(exchange.target_status.map(Code))));
    // Desync class and its reason: no request is classified yet.
    quoted(line, NONE);
    quoted(line, NONE);
    plain(line, Tid(exchange.connection));
    // Host, URI and status of a rewrite: no transform is served yet.
    quoted(line, NONE);
    quoted(line, NONE);
    quoted(line, NONE);
    line.push(b'\n');
}

/// Appends one JSON object with ALB's field names, ending in a line feed. What does not apply is null.
pub(crate) fn append_json(line: &mut Vec<u8>, load_balancer: &LoadBalancerId, exchange: &Exchange) {
    let tls = exchange.client.tls.as_ref();
    let asked = exchange.asked.as_ref();
    let times = exchange.times();
    let record = Json {
        kind: exchange.kind.as_str(),
        time: Iso8601(exchange.ended_at()),
        elb: &load_balancer.0,
        client: exchange.client.peer,
        target: exchange.target,
        request_processing_time: times.request_processing.map(seconds),
        target_processing_time: times.target_processing.map(seconds),
        response_processing_time: times.response_processing.map(seconds),
        elb_status_code: exchange.elb_status.map(|status| status.as_u16()),
        target_status_code: exchange.target_status.map(|status| status.as_u16()),
        received_bytes: exchange.received_bytes,
        sent_bytes: exchange.sent_bytes,
        request_method: asked.map(|asked| asked.method.as_str()),
        request_url: asked.map(|asked| url_text(exchange, asked)),
        request_protocol: asked.map(|asked| version(asked.version)),
        user_agent: asked.and_then(user_agent).map(String::from_utf8_lossy),
        ssl_cipher: tls.map(|tls| tls.cipher),
        ssl_protocol: tls.map(|tls| tls.version),
        target_group: exchange.target_group.as_ref().map(TargetGroupName::as_str),
        trace_id: exchange.trace_id.as_deref().map(String::from_utf8_lossy),
        domain_name: tls.and_then(|tls| tls.server_name.as_deref()),
        matched_rule_priority: rule_number(exchange.rule),
        request_creation_time: Iso8601(exchange.started_at),
        actions_executed: exchange.action.as_str(),
        redirect_url: exchange
            .redirect_url
            .as_deref()
            .map(String::from_utf8_lossy),
        error_reason: exchange.error_reason,
        conn_trace_id: Tid(exchange.connection),
    };
    // Memory takes every byte, and no field refuses to be written.
    serde_json::to_writer(&mut *line, &record).expect("a record is always JSON");
    line.push(b'\n');
}

#[derive(Serialize)]
struct Json<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    time: Iso8601,
    elb: &'a str,
    client: SocketAddr,
    target: Option<SocketAddr>,
    request_processing_time: Option<f64>,
    target_processing_time: Option<f64>,
    response_processing_time: Option<f64>,
    elb_status_code: Option<u16>,
    target_status_code: Option<u16>,
    received_bytes: u64,
    sent_bytes: u64,
    request_method: Option<&'a str>,
    request_url: Option<String>,
    request_protocol: Option<&'static str>,
    user_agent: Option<Cow<'a, str>>,
    ssl_cipher: Option<&'static str>,
    ssl_protocol: Option<&'static str>,
    target_group: Option<&'a str>,
    trace_id: Option<Cow<'a, str>>,
    domain_name: Option<&'a str>,
    matched_rule_priority: Option<i32>,
    request_creation_time: Iso8601,
    actions_executed: Option<&'static str>,
    redirect_url: Option<Cow<'a, str>>,
    error_reason: Option<&'static str>,
    conn_trace_id: Tid,
}

/// The first field, or a part of one: without a space before it.
fn put(line: &mut Vec<u8>, value: impl Display) {
    write!(line, "{value}").expect("memory takes every byte");
}

/// A field of our own making, which needs no quotes.
fn plain(line: &mut Vec<u8>, value: impl Display) {
    line.push(b' ');
    put(line, value);
}

/// No value at all, for `quoted`.
const NONE: Option<&str> = None;

/// A field in quotes; `-` when there is nothing to say.
fn quoted(line: &mut Vec<u8>, value: Option<impl AsRef<[u8]>>) {
    line.extend_from_slice(b" \"");
    match value {
        Some(value) => escape(line, value.as_ref()),
        None => line.push(b'-'),
    }
    line.push(b'"');
}

/// `"METHOD scheme://host:port/uri HTTP/x.y"`, or what is known of it.
fn request(line: &mut Vec<u8>, exchange: &Exchange) {
    line.extend_from_slice(b" \"");
    match &exchange.asked {
        Some(asked) => {
            escape(line, asked.method.as_str().as_bytes());
            line.push(b' ');
            url(line, exchange, asked, escape);
            plain(line, version(asked.version));
        }
        None => {
            let client = &exchange.client;
            put(
                line,
                format_args!("- {}://{}- -", client.scheme(), client.local),
            );
        }
    }
    line.push(b'"');
}

/// The URL as sent, with the listener's port where the client named none.
fn url(line: &mut Vec<u8>, exchange: &Exchange, asked: &Asked, append: fn(&mut Vec<u8>, &[u8])) {
    let client = &exchange.client;
    let (host, port) = asked.host_and_port();
    put(line, format_args!("{}://", client.scheme()));
    match host {
        b"" => put(line, Host(client.local)),
        host => append(line, host),
    }
    line.push(b':');
    match port {
        None | Some(b"") => put(line, client.local.port()),
        Some(port) => append(line, port),
    }
    append(line, &asked.target);
}

fn url_text(exchange: &Exchange, asked: &Asked) -> String {
    let mut bytes = Vec::new();
    url(&mut bytes, exchange, asked, |text, piece| {
        text.extend_from_slice(piece)
    });
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Writes whatever could end a field, a line or a terminal's patience as `\xHH`, so that nobody who sends a request
/// can write a record of their own.
fn escape(line: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        match byte {
            b'"' | b'\\' | ..0x20 | 0x7f.. => {
                let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
                line.extend_from_slice(&[b'\\', b'x', HEX[high], HEX[low]]);
            }
            _ => line.push(byte),
        }
    }
}

fn user_agent(asked: &Asked) -> Option<&[u8]> {
    let value = asked.user_agent.as_deref()?;
    Some(&value[..value.len().min(USER_AGENT_MAX)])
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// 0 is the default rule. ALB's -1, an error in the evaluation, cannot happen here: finding a rule never fails.
fn rule_number(rule: MatchedRule) -> Option<i32> {
    match rule {
        MatchedRule::None => None,
        MatchedRule::Priority(priority) => Some(priority.into()),
        MatchedRule::Default => Some(0),
    }
}

/// Seconds with ALB's precision.
fn seconds(time: Duration) -> f64 {
    // A duration in a log is far below 2^53 ms.
    time.as_millis() as f64 / 1000.0
}

/// FNV-1a: 16 stable hexadecimal digits where ELB would have an id of its own.
fn fingerprint(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A moment as `2026-01-02T03:04:05.186641Z`.
struct Iso8601(SystemTime);

impl Display for Iso8601 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timestamp = Timestamp::try_from(self.0).unwrap_or(Timestamp::UNIX_EPOCH);
        write!(f, "{timestamp:.6}")
    }
}

/// A time as `0.012`; -1 for what did not take place.
struct Seconds(Option<Duration>);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => write!(f, "{}.{:03}", time.as_secs(), time.subsec_millis()),
            None => f.write_str("-1"),
        }
    }
}

/// A value, or `-`.
struct OrDash<T>(Option<T>);

impl<T: Display> Display for OrDash<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// A field of our own making, in quotes for the format's sake.
struct Quoted<T>(T);

impl<T: Display> Display for Quoted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// A status without its reason phrase.
struct Code(StatusCode);

impl Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// An address without its port, as a URL writes it.
struct Host(SocketAddr);

impl Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SocketAddr::V4(address) => address.ip().fmt(f),
            SocketAddr::V6(address) => write!(f, "[{}]", address.ip()),
        }
    }
}

/// A target group as an ARN, without the region and the account that nobody has here.
struct Arn<'a>(&'a TargetGroupName);

impl Display for Arn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = fingerprint(self.0.as_str());
        write!(
            f,
            "arn:aws:elasticloadbalancing:::targetgroup/{}/{id:016x}",
            self.0
        )
    }
}

struct Rule(MatchedRule);

impl Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        OrDash(rule_number(self.0)).fmt(f)
    }
}

/// A connection as `TID_` and 32 hexadecimal digits.
struct Tid(ConnectionId);

impl Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TID_{:032x}", u128::from_be_bytes(self.0.0))
    }
}

impl Serialize for Iso8601 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Tid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use std::time::Instant;

    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::message::{Action, Kind, TlsFacts};

    /// The fields of ALB's documentation, in its order.
    const FIELDS: [&str; 33] = [
        "type",
        "time",
        "elb",
        "client:port",
        "target:port",
        "request_processing_time",
        "target_processing_time",
        "response_processing_time",
        "elb_status_code",
        "target_status_code",
        "received_bytes",
        "sent_bytes",
        "request",
        "user_agent",
        "ssl_cipher",
        "ssl_protocol",
        "target_group_arn",
        "trace_id",
        "domain_name",
        "chosen_cert_arn",
        "matched_rule_priority",
        "request_creation_time",
        "actions_executed",
        "redirect_url",
        "error_reason",
        "target:port_list",
        "target_status_code_list",
        "classification",
        "classification_reason",
        "conn_trace_id",
        "transformed_host",
        "transformed_uri",
        "request_transform_status",
    ];

    fn forwarded() -> Exchange {
        let started = Instant::now();
        let mut exchange = Exchange::for_test(started);
        exchange.kind = Kind::Https;
        let client = Rc::make_mut(&mut exchange.client);
        client.local.set_port(443);
        client.tls = Some(TlsFacts {
            version: "TLSv1.2",
            cipher: "ECDHE-RSA-AES128-GCM-SHA256",
            server_name: Some("shop.example".into()),
        });
        exchange.asked = Some(Asked {
            method: Method::GET,
            authority: b"shop.example"[..].into(),
            target: b"/cart?id=7"[..].into(),
            version: Version::HTTP_11,
            user_agent: Some(b"curl/8.5.0"[..].into()),
        });
        exchange.trace_id = Some(b"Root=1-695735a5-0123456789abcdef01234567"[..].into());
        exchange.rule = MatchedRule::Priority(10);
        exchange.action = Action::Forward;
        exchange.target_group = Some("web".parse().unwrap());
        exchange.target = Some("10.1.2.3:8080".parse().unwrap());
        exchange.request_sent = Some(started + Duration::from_micros(1_400));
        exchange.response_head = Some(started + Duration::from_micros(13_500));
        exchange.response_started = Some(started + Duration::from_micros(13_600));
        exchange.finished = Some(started + Duration::from_micros(13_641));
        exchange.elb_status = Some(StatusCode::OK);
        exchange.target_status = Some(StatusCode::OK);
        exchange.received_bytes = 312;
        exchange.sent_bytes = 1874;
        exchange
    }

    fn load_balancer() -> LoadBalancerId {
        LoadBalancerId::new(&"shop".parse().unwrap())
    }

    fn line(exchange: &Exchange) -> String {
        let mut line = Vec::new();
        append_alb(&mut line, &load_balancer(), exchange);
        String::from_utf8(line).unwrap()
    }

    /// The line as a reader takes it apart: by spaces outside quotes.
    fn fields(exchange: &Exchange) -> Vec<String> {
        let line = line(exchange);
        let mut fields = vec![String::new()];
        let mut inside = false;
        for c in line.strip_suffix('\n').unwrap().chars() {
            match c {
                '"' => inside = !inside,
                ' ' if !inside => fields.push(String::new()),
                c => fields.last_mut().unwrap().push(c),
            }
        }
        fields
    }

    fn field(exchange: &Exchange, name: &str) -> String {
        let at = FIELDS.iter().position(|field| *field == name).unwrap();
        fields(exchange)[at].clone()
    }

    #[test]
    fn a_forwarded_request_gives_albs_line() {
        assert_eq!(
            line(&forwarded()),
            concat!(
                r#"https 2026-01-02T03:04:05.186641Z app/shop/46dc5e18e28e2409 203.0.113.9:51514 10.1.2.3:8080 "#,
                r#"0.001 0.012 0.000 200 200 312 1874 "GET https://shop.example:443/cart?id=7 HTTP/1.1" "curl/8.5.0" "#,
                r#"ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 arn:aws:elasticloadbalancing:::targetgroup/web/5ea0e11948721ef1 "#,
                r#""Root=1-695735a5-0123456789abcdef01234567" "shop.example" "-" 10 2026-01-02T03:04:05.173000Z "#,
                r#""forward" "-" "-" "10.1.2.3:8080" "200" "-" "-" TID_00112233445566778899aabbccddeeff "-" "-" "-""#,
                "\n"
            )
        );
    }

    #[test]
    fn every_field_of_a_forwarded_request_is_in_its_place() {
        let fields = fields(&forwarded());
        assert_eq!(fields.len(), FIELDS.len());
        let golden = [
            ("type", "https"),
            ("time", "2026-01-02T03:04:05.186641Z"),
            ("elb", "app/shop/46dc5e18e28e2409"),
            ("client:port", "203.0.113.9:51514"),
            ("target:port", "10.1.2.3:8080"),
            ("request_processing_time", "0.001"),
            ("target_processing_time", "0.012"),
            ("response_processing_time", "0.000"),
            ("elb_status_code", "200"),
            ("target_status_code", "200"),
            ("received_bytes", "312"),
            ("sent_bytes", "1874"),
            ("request", "GET https://shop.example:443/cart?id=7 HTTP/1.1"),
            ("user_agent", "curl/8.5.0"),
            ("ssl_cipher", "ECDHE-RSA-AES128-GCM-SHA256"),
            ("ssl_protocol", "TLSv1.2"),
            (
                "target_group_arn",
                "arn:aws:elasticloadbalancing:::targetgroup/web/5ea0e11948721ef1",
            ),
            ("trace_id", "Root=1-695735a5-0123456789abcdef01234567"),
            ("domain_name", "shop.example"),
            ("chosen_cert_arn", "-"),
            ("matched_rule_priority", "10"),
            ("request_creation_time", "2026-01-02T03:04:05.173000Z"),
            ("actions_executed", "forward"),
            ("redirect_url", "-"),
            ("error_reason", "-"),
            ("target:port_list", "10.1.2.3:8080"),
            ("target_status_code_list", "200"),
            ("classification", "-"),
            ("classification_reason", "-"),
            ("conn_trace_id", "TID_00112233445566778899aabbccddeeff"),
            ("transformed_host", "-"),
            ("transformed_uri", "-"),
            ("request_transform_status", "-"),
        ];
        for ((name, expected), (field, value)) in golden.iter().zip(FIELDS.iter().zip(fields)) {
            assert_eq!((field, value.as_str()), (name, *expected));
        }
    }

    #[test]
    fn a_request_that_nobody_took_has_dashes_and_minus_ones() {
        let mut exchange = forwarded();
        exchange.kind = Kind::Http;
        let client = Rc::make_mut(&mut exchange.client);
        client.tls = None;
        client.local.set_port(80);
        exchange.target = None;
        exchange.target_status = None;
        exchange.request_sent = None;
        exchange.response_head = None;
        exchange.elb_status = Some(StatusCode::SERVICE_UNAVAILABLE);
        exchange.rule = MatchedRule::Default;
        exchange.asked.as_mut().unwrap().user_agent = None;
        assert_eq!(
            line(&exchange),
            concat!(
                r#"http 2026-01-02T03:04:05.186641Z app/shop/46dc5e18e28e2409 203.0.113.9:51514 - -1 -1 -1 503 - 312 1874 "#,
                r#""GET http://shop.example:80/cart?id=7 HTTP/1.1" "-" - - "#,
                r#"arn:aws:elasticloadbalancing:::targetgroup/web/5ea0e11948721ef1 "#,
                r#""Root=1-695735a5-0123456789abcdef01234567" "-" "-" 0 2026-01-02T03:04:05.173000Z "#,
                r#""forward" "-" "-" "-" "-" "-" "-" TID_00112233445566778899aabbccddeeff "-" "-" "-""#,
                "\n"
            )
        );
    }

    #[test]
    fn an_unreadable_head_is_logged_without_a_method() {
        let mut exchange = Exchange::for_test(Instant::now());
        exchange.elb_status = Some(StatusCode::BAD_REQUEST);
        assert_eq!(field(&exchange, "request"), "- http://192.0.2.1:80- -");
        assert_eq!(field(&exchange, "matched_rule_priority"), "-");
        assert_eq!(field(&exchange, "actions_executed"), "-");
        assert_eq!(fields(&exchange).len(), FIELDS.len());
    }

    #[test]
    fn a_client_cannot_write_records_of_its_own() {
        let mut exchange = forwarded();
        let asked = exchange.asked.as_mut().unwrap();
        asked.target = b"/a\"b\\c\x1b[31m\x7f\xff\r\nhttp 2026"[..].into();
        asked.authority = b"a\"\n:80\""[..].into();
        asked.user_agent = Some(b"x\" 200 \"\t\\"[..].into());
        let line = line(&exchange);
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.is_ascii());
        assert_eq!(
            field(&exchange, "request"),
            r"GET https://a\x22\x0A:80\x22/a\x22b\x5Cc\x1B[31m\x7F\xFF\x0D\x0Ahttp 2026 HTTP/1.1"
        );
        assert_eq!(field(&exchange, "user_agent"), r"x\x22 200 \x22\x09\x5C");
        assert_eq!(fields(&exchange).len(), FIELDS.len());
    }

    #[test]
    fn a_long_user_agent_is_cut_at_8_kb() {
        let mut exchange = forwarded();
        let long = vec![b'u'; 20_000].into();
        exchange.asked.as_mut().unwrap().user_agent = Some(long);
        assert_eq!(field(&exchange, "user_agent").len(), 8192);
    }

    #[test]
    fn the_port_is_the_one_the_client_named() {
        let mut exchange = forwarded();
        exchange.kind = Kind::H2;
        let asked = exchange.asked.as_mut().unwrap();
        asked.version = Version::HTTP_2;
        asked.authority = b"[::1]:8443"[..].into();
        assert_eq!(
            field(&exchange, "request"),
            "GET https://[::1]:8443/cart?id=7 HTTP/2.0"
        );
        exchange.asked.as_mut().unwrap().authority = [].into();
        assert_eq!(
            field(&exchange, "request"),
            "GET https://192.0.2.1:443/cart?id=7 HTTP/2.0"
        );
    }

    #[test]
    fn a_redirect_names_where_it_sent_the_client() {
        let mut exchange = forwarded();
        exchange.action = Action::Redirect;
        exchange.redirect_url = Some(b"https://shop.example:443/login"[..].into());
        assert_eq!(field(&exchange, "actions_executed"), "redirect");
        assert_eq!(
            field(&exchange, "redirect_url"),
            "https://shop.example:443/login"
        );
    }

    #[test]
    fn a_json_record_has_numbers_and_nulls() {
        let mut line = Vec::new();
        append_json(&mut line, &load_balancer(), &forwarded());
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let record: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(record["type"], "https");
        assert_eq!(record["time"], "2026-01-02T03:04:05.186641Z");
        assert_eq!(record["target_processing_time"], json!(0.012));
        assert_eq!(record["elb_status_code"], json!(200));
        assert_eq!(record["request_url"], "https://shop.example:443/cart?id=7");
        assert_eq!(record["matched_rule_priority"], json!(10));
        assert_eq!(record["error_reason"], json!(null));
        assert_eq!(
            record["conn_trace_id"],
            "TID_00112233445566778899aabbccddeeff"
        );
    }
}
