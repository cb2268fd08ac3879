//! The file format as a table: every object, every field, what it may hold, what holds when it is absent.

mod action;
mod listener;
mod target_group;

pub(in crate::config) use action::{
    ACTION, FIXED_RESPONSE, FORWARD, REDIRECT, WEIGHTED_TARGET_GROUP,
};
pub(in crate::config) use listener::{
    CERTIFICATE, CONDITION, HTTP_HEADER, LISTENER, PROXY_PROTOCOL, QUERY_PAIR, REWRITE, RULE,
    TRANSFORM,
};
pub(in crate::config) use target_group::{HEALTH_CHECK, STICKINESS, TARGET, TARGET_GROUP};

use super::shape::Keys::Any;
use super::shape::Kind::{self, Either, Flag, Integer, List, Object, OneOf};
use super::shape::{Field, Presence, Shape};
use crate::model::{
    AccessLogFormat, CookieKeys, DesyncMitigationMode, HealthCheck, Limits, LoadBalancer, Protocol,
    Redirect, Shutdown, XffHeaderProcessing,
};

pub(in crate::config) static CONFIGURATION: Shape = Shape {
    name: "configuration",
    description: "Configuration of albedo, in the words of AWS ELBv2. Relative paths start at the file's folder.",
    keys: Any,
    fields: &[
        defaulted(
            "admin",
            text(r"^(unix:.+|.+:[0-9]+)$"),
            "127.0.0.1:9900",
            "Where the operator's door opens: ADDRESS:PORT, or unix:PATH for a socket file.",
        ),
        defaulted(
            "workers",
            Either(&[OneOf(|| vec!["auto"]), Integer(1..=1024)]),
            "auto",
            "Threads that carry traffic; auto is one for each CPU allowed by affinity and cgroup quota.",
        ),
        optional(
            "shutdown",
            Object(&SHUTDOWN),
            "How it ends when it is told to (SIGTERM).",
        ),
        optional("limits", Object(&LIMITS), "What clients may take of it."),
        optional(
            "load_balancer",
            Object(&LOAD_BALANCER),
            "Attributes that hold for every listener.",
        ),
        required(
            "listeners",
            List {
                of: &Object(&LISTENER),
                length: 1..=MANY,
            },
            "The front doors, one for each address and port.",
        ),
        optional(
            "target_groups",
            List {
                of: &Object(&TARGET_GROUP),
                length: 0..=MANY,
            },
            "The groups that rules forward to.",
        ),
    ],
};

pub(in crate::config) static SHUTDOWN: Shape = Shape {
    name: "shutdown",
    description: "How albedo ends when it is told to: two periods, one after the other.",
    keys: Any,
    fields: &[
        defaulted(
            "delay",
            Kind::Duration(Shutdown::DELAY),
            "0s",
            "How long it serves on while /readyz says 503, so that a load balancer in front can notice.",
        ),
        defaulted(
            "timeout",
            Kind::Duration(Shutdown::TIMEOUT),
            "300s",
            "How long requests in progress may take once nothing new is accepted.",
        ),
    ],
};

/// Numbers of connections, requests and handshakes.
const COUNT: Kind = Integer(*Limits::COUNT.start() as u64..=*Limits::COUNT.end() as u64);

pub(in crate::config) static LIMITS: Shape = Shape {
    name: "limits",
    description: "What clients may take of the load balancer.",
    keys: Any,
    fields: &[
        optional(
            "connections",
            COUNT,
            "Client connections of all listeners; as many as descriptors allow when absent.",
        ),
        optional(
            "connections_per_client",
            COUNT,
            "Client connections of one address, on all listeners; no limit when absent.",
        ),
        optional(
            "requests_per_client",
            Object(&REQUEST_RATE),
            "Requests of one address; no limit when absent.",
        ),
        defaulted(
            "client_ipv6_prefix",
            Integer(*Limits::IPV6_PREFIX.start() as u64..=*Limits::IPV6_PREFIX.end() as u64),
            "64",
            "Leading bits of an IPv6 address that make a client.",
        ),
        optional(
            "handshakes",
            COUNT,
            "TLS handshakes with clients that are under way; no limit when absent.",
        ),
        defaulted(
            "handshake_timeout",
            Kind::Duration(Limits::TIMEOUT),
            "10s",
            "How long PROXY header and TLS handshake may take, from the connection's first moment on.",
        ),
        defaulted(
            "header_timeout",
            Kind::Duration(Limits::TIMEOUT),
            "15s",
            "How long a request's head may take, from its first byte on.",
        ),
        optional(
            "body_rate",
            Object(&BODY_RATE),
            "How slowly a request's body may come.",
        ),
    ],
};

pub(in crate::config) static BODY_RATE: Shape = Shape {
    name: "body_rate",
    description: "A lowest rate of request bodies; only time in which the client is waited for counts.",
    keys: Any,
    fields: &[
        defaulted(
            "bytes_per_second",
            Integer(
                *Limits::BYTES_PER_SECOND.start() as u64..=*Limits::BYTES_PER_SECOND.end() as u64,
            ),
            "24",
            "Bytes that each second must have brought; 0 is no limit.",
        ),
        defaulted(
            "grace",
            Kind::Duration(Limits::TIMEOUT),
            "10s",
            "Time that may bring nothing.",
        ),
    ],
};

pub(in crate::config) static REQUEST_RATE: Shape = Shape {
    name: "requests_per_client",
    description: "A token bucket for each address.",
    keys: Any,
    fields: &[
        required(
            "per_second",
            COUNT,
            "How many requests a second, on the average.",
        ),
        optional(
            "burst",
            COUNT,
            "How many at once; as many as in a second when absent.",
        ),
    ],
};

pub(in crate::config) static LOAD_BALANCER: Shape = Shape {
    name: "load_balancer",
    description: "Attributes of the load balancer; every default is ALB's.",
    keys: Any,
    fields: &[
        defaulted(
            "name",
            NAME,
            "albedo",
            "Shown in logs and metrics: 1 to 32 letters, digits and hyphens.",
        ),
        defaulted(
            "idle_timeout",
            Kind::Duration(LoadBalancer::IDLE_TIMEOUT),
            "60s",
            "Longest silence on a connection, either side (idle_timeout.timeout_seconds).",
        ),
        defaulted(
            "client_keep_alive",
            Kind::Duration(LoadBalancer::CLIENT_KEEP_ALIVE),
            "1h",
            "Longest life of a client connection (client_keep_alive.seconds).",
        ),
        defaulted(
            "http2",
            Flag,
            "true",
            "Offer HTTP/2 on HTTPS listeners (routing.http2.enabled).",
        ),
        defaulted(
            "preserve_host_header",
            Flag,
            "false",
            "Send the client's Host header untouched (routing.http.preserve_host_header.enabled).",
        ),
        defaulted(
            "drop_invalid_header_fields",
            Flag,
            "false",
            "Remove request headers whose name is not [-A-Za-z0-9]+ (routing.http.drop_invalid_header_fields.enabled).",
        ),
        defaulted(
            "desync_mitigation_mode",
            OneOf(|| names(DesyncMitigationMode::ALL, DesyncMitigationMode::as_str)),
            "defensive",
            "How strictly requests of doubtful framing are treated (routing.http.desync_mitigation_mode).",
        ),
        defaulted(
            "xff_header_processing",
            OneOf(|| names(XffHeaderProcessing::ALL, XffHeaderProcessing::as_str)),
            "append",
            "What happens to X-Forwarded-For (routing.http.xff_header_processing.mode).",
        ),
        defaulted(
            "xff_client_port",
            Flag,
            "false",
            "Append the client's port in X-Forwarded-For (routing.http.xff_client_port.enabled).",
        ),
        defaulted(
            "x_amzn_tls_version_and_cipher_suite",
            Flag,
            "false",
            "Tell targets the client's TLS version and cipher suite (routing.http.x_amzn_tls_version_and_cipher_suite.enabled).",
        ),
        optional(
            "access_log",
            Object(&ACCESS_LOG),
            "Where a record of each request goes; none when absent.",
        ),
        optional(
            "cookie_keys",
            Object(&COOKIE_KEYS),
            "Where the keys of stickiness cookies are kept.",
        ),
    ],
};

pub(in crate::config) static ACCESS_LOG: Shape = Shape {
    name: "access_log",
    description: "Where records of requests go and how they look.",
    keys: Any,
    fields: &[
        required("path", TEXT, "A file, appended to; '-' is standard output."),
        defaulted(
            "format",
            OneOf(|| names(AccessLogFormat::ALL, AccessLogFormat::as_str)),
            "alb",
            "ALB's line, or one JSON object a line.",
        ),
    ],
};

pub(in crate::config) static COOKIE_KEYS: Shape = Shape {
    name: "cookie_keys",
    description: "Where the keys of stickiness cookies are kept, and how often a new one is made.",
    keys: Any,
    fields: &[
        defaulted(
            "path",
            TEXT,
            CookieKeys::FILE,
            "A file, made when it is first needed; the same one for every albedo that serves the same clients.",
        ),
        optional(
            "rotation",
            Kind::Duration(CookieKeys::ROTATION),
            "How old the newest key becomes before another is made; keys are left alone when absent.",
        ),
    ],
};

/// No limit of the format; the size of the file is one.
const MANY: usize = usize::MAX;

const TEXT: Kind = Kind::Text {
    pattern: None,
    length: 1..=MANY,
};
const PART: Kind = Kind::Text {
    pattern: None,
    length: 1..=Redirect::PART_MAX,
};
const NAME: Kind = Kind::Text {
    pattern: Some("^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$"),
    length: 1..=32,
};
const VALUES: Kind = List {
    of: &TEXT,
    length: 1..=MANY,
};
const PROTOCOL: Kind = OneOf(|| names(Protocol::ALL, Protocol::as_str));
const ACTIONS: Kind = List {
    of: &Object(&ACTION),
    length: 1..=1,
};
const THRESHOLD: Kind =
    Integer(*HealthCheck::THRESHOLD.start() as u64..=*HealthCheck::THRESHOLD.end() as u64);

const fn text(pattern: &'static str) -> Kind {
    Kind::Text {
        pattern: Some(pattern),
        length: 1..=MANY,
    }
}

fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|value| name(*value)).collect()
}

const fn required(name: &'static str, kind: Kind, description: &'static str) -> Field {
    field(name, kind, Presence::Required, description)
}

const fn optional(name: &'static str, kind: Kind, description: &'static str) -> Field {
    field(name, kind, Presence::Optional, description)
}

const fn defaulted(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    description: &'static str,
) -> Field {
    field(name, kind, Presence::Default(default), description)
}

const fn field(
    name: &'static str,
    kind: Kind,
    presence: Presence,
    description: &'static str,
) -> Field {
    Field {
        name,
        kind,
        presence,
        description,
    }
}
