//! One exchange as one line: ALB's, field by field, or a JSON object. Never writes it anywhere.
//!
//! Every request may end here, so nothing is allocated for ALB's line, and nothing goes by way of the formatter.

use std::borrow::Cow;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{StatusCode, Version};
use jiff::Timestamp;
use serde::Serialize;

use crate::http1::desync::Reason;
use crate::message::headers::write_address;
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

/// A target group as an ARN, without the region and the account that nobody has here.
pub(crate) fn target_group_arn(name: &TargetGroupName) -> String {
    let id = fingerprint(name.as_str());
    format!("arn:aws:elasticloadbalancing:::targetgroup/{name}/{id:016x}")
}

/// Appends ALB's line: 33 fields (ALB user guide, "Access log entries"), ending in a line feed.
pub(crate) fn append_alb(
    line: &mut Vec<u8>,
    load_balancer: &LoadBalancerId,
    second: &mut Second,
    exchange: &Exchange,
) {
    let tls = exchange.client.tls.as_ref();
    let times = exchange.times();
    let target_status = exchange.target_status.as_ref();

    line.extend_from_slice(exchange.kind.as_str().as_bytes());
    bytes(line, &second.moment(exchange.ended_at()));
    word(line, &load_balancer.0);
    address(line, exchange.client.peer);
    let target = line.len();
    match exchange.target {
        Some(target) => address(line, target),
        None => word(line, "-"),
    }
    let target = target + 1..line.len();
    seconds(line, times.request_processing);
    seconds(line, times.target_processing);
    seconds(line, times.response_processing);
    or_dash(line, exchange.elb_status.as_ref().map(StatusCode::as_str));
    or_dash(line, target_status.map(StatusCode::as_str));
    number(line, exchange.received_bytes);
    number(line, exchange.sent_bytes);
    request(line, exchange);
    quoted(line, user_agent(exchange));
    or_dash(line, tls.map(|tls| tls.cipher));
    or_dash(line, tls.map(|tls| tls.version));
    bytes(
        line,
        exchange.target_group.map_or(b"-", |arn| exchange.text(arn)),
    );
    quoted(line, exchange.trace_id.map(|id| exchange.text(id)));
    quoted(line, tls.and_then(|tls| tls.server_name.as_deref()));
    // A certificate of one's own has no ARN.
    word(line, r#""-""#);
    match rule_number(exchange.rule) {
        Some(priority) => number(line, priority.into()),
        None => word(line, "-"),
    }
    bytes(line, &second.moment(exchange.began_at()));
    or_dash_quoted(line, exchange.action.as_str());
    quoted(line, exchange.redirect_url.as_deref());
    or_dash_quoted(line, exchange.error_reason);
    line.extend_from_slice(b" \"");
    line.extend_from_within(target);
    line.push(b'"');
    or_dash_quoted(line, target_status.map(StatusCode::as_str));
    or_dash_quoted(line, classification(exchange));
    or_dash_quoted(line, exchange.desync.reason().map(Reason::as_str));
    bytes(line, &tid(exchange.connection));
    // Host, URI and status of a rewrite: no transform is served yet.
    word(line, r#""-" "-" "-""#);
    line.push(b'\n');
}

/// Appends one JSON object with ALB's field names, ending in a line feed. What does not apply is null. `elb_reason` is
/// albedo's own: ALB does not say why it answers with 502.
pub(crate) fn append_json(
    line: &mut Vec<u8>,
    load_balancer: &LoadBalancerId,
    second: &mut Second,
    exchange: &Exchange,
) {
    let tls = exchange.client.tls.as_ref();
    let asked = exchange.asked.as_ref();
    let times = exchange.times();
    let (ended_at, started_at) = (exchange.ended_at(), exchange.began_at());
    let (ended_at, started_at) = (second.moment(ended_at), second.moment(started_at));
    let connection = tid(exchange.connection);
    let record = Json {
        kind: exchange.kind.as_str(),
        time: ascii(&ended_at),
        elb: &load_balancer.0,
        client: exchange.client.peer,
        target: exchange.target,
        request_processing_time: times.request_processing.map(fraction),
        target_processing_time: times.target_processing.map(fraction),
        response_processing_time: times.response_processing.map(fraction),
        elb_status_code: exchange.elb_status.map(|status| status.as_u16()),
        target_status_code: exchange.target_status.map(|status| status.as_u16()),
        received_bytes: exchange.received_bytes,
        sent_bytes: exchange.sent_bytes,
        request_method: asked.map(|asked| asked.method.as_str()),
        request_url: asked.map(|asked| url_text(exchange, asked)),
        request_protocol: asked.map(|asked| version(asked.version)),
        user_agent: user_agent(exchange).map(String::from_utf8_lossy),
        ssl_cipher: tls.map(|tls| tls.cipher),
        ssl_protocol: tls.map(|tls| tls.version),
        target_group: exchange
            .target_group
            .and_then(|arn| name_in(exchange.text(arn))),
        trace_id: exchange
            .trace_id
            .map(|id| String::from_utf8_lossy(exchange.text(id))),
        domain_name: tls.and_then(|tls| tls.server_name.as_deref()),
        matched_rule_priority: rule_number(exchange.rule),
        request_creation_time: ascii(&started_at),
        actions_executed: exchange.action.as_str(),
        redirect_url: exchange
            .redirect_url
            .as_deref()
            .map(String::from_utf8_lossy),
        error_reason: exchange.error_reason,
        elb_reason: exchange.reason,
        classification: classification(exchange),
        classification_reason: exchange.desync.reason().map(Reason::as_str),
        conn_trace_id: ascii(&connection),
    };
    // Memory takes every byte, and no field refuses to be written.
    serde_json::to_writer(&mut *line, &record).expect("a record is always JSON");
    line.push(b'\n');
}

#[derive(Serialize)]
struct Json<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    time: &'a str,
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
    matched_rule_priority: Option<u16>,
    request_creation_time: &'a str,
    actions_executed: Option<&'static str>,
    redirect_url: Option<Cow<'a, str>>,
    error_reason: Option<&'static str>,
    elb_reason: Option<&'static str>,
    classification: Option<&'static str>,
    classification_reason: Option<&'static str>,
    conn_trace_id: &'a str,
}

/// A field of our own making, which needs no quotes, or brings them.
fn word(line: &mut Vec<u8>, value: &str) {
    bytes(line, value.as_bytes());
}

fn bytes(line: &mut Vec<u8>, value: &[u8]) {
    line.push(b' ');
    line.extend_from_slice(value);
}

fn or_dash(line: &mut Vec<u8>, value: Option<&str>) {
    word(line, value.unwrap_or("-"));
}

/// The same in quotes, for the format's sake.
fn or_dash_quoted(line: &mut Vec<u8>, value: Option<&str>) {
    line.extend_from_slice(b" \"");
    line.extend_from_slice(value.unwrap_or("-").as_bytes());
    line.push(b'"');
}

fn number(line: &mut Vec<u8>, value: u64) {
    word(line, itoa::Buffer::new().format(value));
}

fn address(line: &mut Vec<u8>, address: SocketAddr) {
    line.push(b' ');
    match address {
        SocketAddr::V4(_) => {
            host(line, address);
            line.push(b':');
            port(line, address);
        }
        // Perhaps with a scope.
        SocketAddr::V6(_) => write!(line, "{address}").expect("memory takes every byte"),
    }
}

/// An address without its port, as a URL writes it.
fn host(line: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(_) => write_address(line, address.ip()),
        SocketAddr::V6(_) => {
            line.push(b'[');
            write_address(line, address.ip());
            line.push(b']');
        }
    }
}

fn port(line: &mut Vec<u8>, address: SocketAddr) {
    line.extend_from_slice(itoa::Buffer::new().format(address.port()).as_bytes());
}

/// A time as `0.012`; -1 for what did not take place.
fn seconds(line: &mut Vec<u8>, time: Option<Duration>) {
    match time {
        Some(time) => {
            let mut fraction = *b".000";
            write_digits(&mut fraction[1..], time.subsec_millis());
            match time.as_secs() {
                0 => word(line, "0"),
                whole => number(line, whole),
            }
            line.extend_from_slice(&fraction);
        }
        None => word(line, "-1"),
    }
}

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
            // A token, which holds nothing to escape.
            line.extend_from_slice(asked.method.as_str().as_bytes());
            line.push(b' ');
            url(line, exchange, asked, escape);
            word(line, version(asked.version));
        }
        None => {
            let client = &exchange.client;
            line.extend_from_slice(b"- ");
            line.extend_from_slice(client.scheme().as_bytes());
            line.extend_from_slice(b"://");
            host(line, client.local);
            line.push(b':');
            port(line, client.local);
            line.extend_from_slice(b"- -");
        }
    }
    line.push(b'"');
}

/// The URL as sent, with the listener's port where the client named none.
fn url(line: &mut Vec<u8>, exchange: &Exchange, asked: &Asked, append: fn(&mut Vec<u8>, &[u8])) {
    let client = &exchange.client;
    line.extend_from_slice(client.scheme().as_bytes());
    line.extend_from_slice(b"://");
    let (name, named_port) = exchange.host_and_port(asked);
    match name {
        b"" => host(line, client.local),
        name => append(line, name),
    }
    line.push(b':');
    match named_port {
        None | Some(b"") => port(line, client.local),
        Some(port) => append(line, port),
    }
    append(line, exchange.text(asked.target));
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
    if is_plain(bytes) {
        return line.extend_from_slice(bytes);
    }
    for &byte in bytes {
        if is_refused(byte) {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            line.extend_from_slice(&[b'\\', b'x', HEX[high], HEX[low]]);
        } else {
            line.push(byte);
        }
    }
}

fn is_refused(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | ..0x20 | 0x7f..)
}

/// Whether none of them is refused, as nearly always. Eight at a time, and the last eight once more where they are not
/// eight.
fn is_plain(bytes: &[u8]) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let Some(last) = bytes.last_chunk() else {
        return !bytes.iter().any(|byte| is_refused(*byte));
    };
    let (words, _) = bytes.as_chunks::<8>();
    let words = words.iter().chain([last]);
    let found = words.fold(0, |found, word| {
        let word = u64::from_ne_bytes(*word);
        // A high bit where a byte has become less than 0, or 0 has.
        let less = word.wrapping_sub(EACH * 0x20);
        let quote = (word ^ (EACH * u64::from(b'"'))).wrapping_sub(EACH);
        let backslash = (word ^ (EACH * u64::from(b'\\'))).wrapping_sub(EACH);
        let delete = (word ^ (EACH * 0x7f)).wrapping_sub(EACH);
        found | word | less | quote | backslash | delete
    });
    found & (EACH << 7) == 0
}

/// What is compliant is not told.
fn classification(exchange: &Exchange) -> Option<&'static str> {
    let reason = exchange.desync.reason()?;
    Some(reason.class().as_str())
}

fn user_agent(exchange: &Exchange) -> Option<&[u8]> {
    let value = exchange.text(exchange.asked.as_ref()?.user_agent?);
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
fn rule_number(rule: MatchedRule) -> Option<u16> {
    match rule {
        MatchedRule::None => None,
        MatchedRule::Priority(priority) => Some(priority),
        MatchedRule::Default => Some(0),
    }
}

/// The group's name, of its ARN.
fn name_in(arn: &[u8]) -> Option<&str> {
    let name = arn.rsplit(|byte| *byte == b'/').nth(1)?;
    str::from_utf8(name).ok()
}

/// Seconds with ALB's precision.
fn fraction(time: Duration) -> f64 {
    // A duration in a log is far below 2^53 ms.
    time.as_millis() as f64 / 1000.0
}

/// FNV-1a: 16 stable hexadecimal digits where ELB would have an id of its own.
fn fingerprint(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Length of a moment as `2026-01-02T03:04:05.186641Z`.
const MOMENT_LEN: usize = "2026-01-02T03:04:05.186641Z".len();

/// Makes text of moments, and keeps that of the second that was last: most records are of the same.
#[derive(Debug)]
pub(crate) struct Second {
    /// Since 1970.
    number: u64,
    /// Its beginning.
    text: [u8; MOMENT_LEN],
}

impl Default for Second {
    fn default() -> Self {
        Self {
            number: 0,
            text: *b"1970-01-01T00:00:00.000000Z",
        }
    }
}

impl Second {
    fn moment(&mut self, moment: SystemTime) -> [u8; MOMENT_LEN] {
        let since = moment.duration_since(SystemTime::UNIX_EPOCH);
        let since = since.unwrap_or_default();
        if since.as_secs() != self.number {
            *self = Self::of(since.as_secs()).unwrap_or_default();
        }
        let mut text = self.text;
        write_digits(
            &mut text[MOMENT_LEN - 7..MOMENT_LEN - 1],
            since.subsec_micros(),
        );
        text
    }

    /// `None` past the year 9999.
    fn of(number: u64) -> Option<Self> {
        let beginning = Timestamp::from_second(number.try_into().ok()?).ok()?;
        let text = format!("{beginning:.6}").into_bytes().try_into().ok()?;
        Some(Self { number, text })
    }
}

/// Fills `digits` with the low end of `number`.
fn write_digits(digits: &mut [u8], mut number: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// A connection as `TID_` and 32 hexadecimal digits.
fn tid(connection: ConnectionId) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut tid = *b"TID_00000000000000000000000000000000";
    for (digits, byte) in tid[4..].chunks_exact_mut(2).zip(connection.0) {
        digits[0] = HEX[usize::from(byte >> 4)];
        digits[1] = HEX[usize::from(byte & 15)];
    }
    tid
}

/// Text of our own making.
fn ascii(text: &[u8]) -> &str {
    str::from_utf8(text).expect("digits and letters")
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use std::time::Instant;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::http1::desync;
    use crate::message::{Action, Kind, Request, TlsFacts};

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

    fn asked() -> Request {
        Request::for_test(
            "/cart?id=7",
            "shop.example",
            &[("User-Agent", "curl/8.5.0")],
        )
    }

    fn forwarded() -> Exchange {
        forwarded_as(&asked())
    }

    fn forwarded_as(request: &Request) -> Exchange {
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
        exchange.asked(request);
        exchange.is_traced(Some(b"Root=1-695735a5-0123456789abcdef01234567"));
        exchange.rule = MatchedRule::Priority(10);
        exchange.action = Action::Forward;
        exchange.goes_to(target_group_arn(&"web".parse().unwrap()).as_bytes());
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
        append_alb(
            &mut line,
            &load_balancer(),
            &mut Second::default(),
            exchange,
        );
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
        let without_user_agent = Request::for_test("/cart?id=7", "shop.example", &[]);
        let mut exchange = forwarded_as(&without_user_agent);
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
    fn a_doubtful_request_has_its_class_and_reason() {
        let mut exchange = forwarded();
        assert_eq!(field(&exchange, "classification"), "-");
        assert_eq!(field(&exchange, "classification_reason"), "-");
        exchange.desync = desync::of_bytes(b"GET / HTTP/1.1\r\n: x\r\n\r\n");
        assert_eq!(field(&exchange, "classification"), "Ambiguous");
        assert_eq!(field(&exchange, "classification_reason"), "EmptyHeader");
    }

    #[test]
    fn a_client_cannot_write_records_of_its_own() {
        let evil = Request::for_test("", "", &[("User-Agent", "x\" 200 \"\t\\")]);
        let exchange =
            forwarded_as(&evil.asks(b"/a\"b\\c\x1b[31m\x7f\xff\r\nhttp 2026", b"a\"\n:80\""));
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
        let long = "u".repeat(20_000);
        let exchange = forwarded_as(&Request::for_test("/", "a", &[("User-Agent", &long)]));
        assert_eq!(field(&exchange, "user_agent").len(), 8192);
    }

    #[test]
    fn the_port_is_the_one_the_client_named() {
        let request = |authority: &str| {
            let mut request = asked().asks(b"/cart?id=7", authority.as_bytes());
            request.version = Version::HTTP_2;
            field(&forwarded_as(&request), "request")
        };
        assert_eq!(
            request("[::1]:8443"),
            "GET https://[::1]:8443/cart?id=7 HTTP/2.0"
        );
        assert_eq!(request(""), "GET https://192.0.2.1:443/cart?id=7 HTTP/2.0");
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
        append_json(
            &mut line,
            &load_balancer(),
            &mut Second::default(),
            &forwarded(),
        );
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
    #[test]
    fn addresses_of_both_kinds_are_written_as_they_are_known() {
        let mut exchange = forwarded();
        for address in ["255.1.20.0:1", "[2001:db8::1]:8080", "[fe80::1%3]:65535"] {
            let address: SocketAddr = address.parse().unwrap();
            exchange.target = Some(address);
            assert_eq!(field(&exchange, "target:port"), address.to_string());
            assert_eq!(field(&exchange, "target:port_list"), address.to_string());
        }
    }

    #[test]
    fn every_byte_that_is_refused_is_seen_wherever_it_stands() {
        for byte in 0..=255 {
            for at in 0..13 {
                let mut text = *b"thirteen long";
                text[at] = byte;
                assert_eq!(is_plain(&text), !is_refused(byte), "{byte} at {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn moments_are_what_the_calendar_says(
            seconds in prop::collection::vec(prop_oneof![0..4_000_000_000_u64, 1_767_323_040..1_767_323_050_u64], 1..10),
            micros in 0..1_000_000_u64,
        ) {
            let mut second = Second::default();
            for seconds in seconds {
                let since = Duration::from_secs(seconds) + Duration::from_micros(micros);
                let moment = SystemTime::UNIX_EPOCH + since;
                let expected = format!("{:.6}", Timestamp::try_from(moment).unwrap());
                let written = second.moment(moment);
                prop_assert_eq!(ascii(&written), expected);
            }
        }

        #[test]
        fn what_is_escaped_depends_on_each_byte_alone(
            bytes in prop::collection::vec(prop_oneof![20 => b' '..=b'~', 1 => any::<u8>()], 0..40),
        ) {
            let escaped = |bytes: &[u8]| {
                let mut line = Vec::new();
                escape(&mut line, bytes);
                line
            };
            let apart: Vec<u8> = bytes.iter().flat_map(|byte| escaped(&[*byte])).collect();
            prop_assert_eq!(escaped(&bytes), apart);
        }
    }
}
