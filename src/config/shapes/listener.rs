//! Listeners, rules and conditions as the file writes them.

use super::{ACTIONS, MANY, PROTOCOL, TEXT, VALUES, defaulted, names, optional, required};
use crate::config::shape::Keys::{Any, ExactlyOne};
use crate::config::shape::Kind::{self, Integer, List, Object, OneOf};
use crate::config::shape::Shape;
use crate::model::SslPolicy;

pub(in crate::config) static LISTENER: Shape = Shape {
    name: "listener",
    description: "A front door: port, protocol, certificates, rules.",
    keys: Any,
    fields: &[
        required(
            "port",
            Integer(0..=65535),
            "Port to listen on; 0 takes a free one.",
        ),
        optional(
            "address",
            TEXT,
            "IP address to listen on; every address when absent, IPv6 too.",
        ),
        required(
            "protocol",
            PROTOCOL,
            "HTTP, or HTTPS with at least one certificate.",
        ),
        optional(
            "proxy_protocol",
            Object(&PROXY_PROTOCOL),
            "Clients come through other load balancers that send PROXY headers; no header is taken when absent.",
        ),
        defaulted(
            "ssl_policy",
            OneOf(|| names(SslPolicy::ALL, SslPolicy::as_str)),
            "ELBSecurityPolicy-TLS13-1-2-Res-2021-06",
            "TLS versions and cipher suites; HTTPS only.",
        ),
        optional(
            "certificates",
            List {
                of: &Object(&CERTIFICATE),
                length: 1..=MANY,
            },
            "The first is the default, the others are chosen by SNI; HTTPS only.",
        ),
        optional(
            "rules",
            List {
                of: &Object(&RULE),
                length: 0..=MANY,
            },
            "Tried in ascending order of priority; the first that matches wins.",
        ),
        required(
            "default_actions",
            ACTIONS,
            "What happens when no rule matches.",
        ),
    ],
};

pub(in crate::config) static PROXY_PROTOCOL: Shape = Shape {
    name: "proxy_protocol",
    description: "Who may say whose connection it is, by the PROXY protocol, version 1 or 2.",
    keys: Any,
    fields: &[required(
        "trusted",
        VALUES,
        "Networks in CIDR notation whose headers are believed; connections from elsewhere are closed.",
    )],
};

pub(in crate::config) static CERTIFICATE: Shape = Shape {
    name: "certificate",
    description: "A certificate chain and its private key, both PEM files.",
    keys: Any,
    fields: &[
        required("certificate", TEXT, "File of the chain, leaf first."),
        required("key", TEXT, "File of the leaf's private key."),
    ],
};

pub(in crate::config) static RULE: Shape = Shape {
    name: "rule",
    description: "Conditions that must all hold, and what happens then.",
    keys: Any,
    fields: &[
        required(
            "priority",
            Integer(1..=50_000),
            "Rules are tried in ascending order; unique on the listener.",
        ),
        required(
            "conditions",
            List {
                of: &Object(&CONDITION),
                length: 1..=MANY,
            },
            "All must hold; values within one are alternatives.",
        ),
        optional(
            "transforms",
            List {
                of: &Object(&TRANSFORM),
                length: 0..=2,
            },
            "Rewrites between the match and the action; at most one of each kind.",
        ),
        required(
            "actions",
            ACTIONS,
            "What happens to a request that matches.",
        ),
    ],
};

pub(in crate::config) static CONDITION: Shape = Shape {
    name: "condition",
    description: "One condition; '*' stands for any characters, '?' for one.",
    keys: ExactlyOne,
    fields: &[
        optional(
            "host_header",
            VALUES,
            "Host names, compared without regard to case and without the port.",
        ),
        optional(
            "path_pattern",
            VALUES,
            "Paths, compared with regard to case and without the query.",
        ),
        optional(
            "http_header",
            Object(&HTTP_HEADER),
            "Values of one header, compared without regard to case.",
        ),
        optional(
            "http_request_method",
            VALUES,
            "Methods, compared with regard to case, without wildcards.",
        ),
        optional(
            "query_string",
            List {
                of: &Object(&QUERY_PAIR),
                length: 1..=MANY,
            },
            "Keys and values of the query, compared without regard to case.",
        ),
        optional(
            "source_ip",
            VALUES,
            "Networks of the client in CIDR notation; X-Forwarded-For is never looked at.",
        ),
    ],
};

pub(in crate::config) static HTTP_HEADER: Shape = Shape {
    name: "http_header",
    description: "A header and the values it is compared with.",
    keys: Any,
    fields: &[
        required(
            "name",
            TEXT,
            "Name of the header, without wildcards; never Host.",
        ),
        required("values", VALUES, "Alternatives, with wildcards."),
    ],
};

pub(in crate::config) static QUERY_PAIR: Shape = Shape {
    name: "query_pair",
    description: "A pair of the query; a literal '*' or '?' is written '\\*' or '\\?'.",
    keys: Any,
    fields: &[
        optional("key", TEXT, "Any key when absent."),
        required("value", TEXT, "The value, with wildcards."),
    ],
};

pub(in crate::config) static TRANSFORM: Shape = Shape {
    name: "transform",
    description: "A rewrite of the request between the match and the action.",
    keys: ExactlyOne,
    fields: &[
        optional("url_rewrite", Object(&REWRITE), "Rewrites path and query."),
        optional(
            "host_header_rewrite",
            Object(&REWRITE),
            "Rewrites the Host header.",
        ),
    ],
};

pub(in crate::config) static REWRITE: Shape = Shape {
    name: "rewrite",
    description: "A regular expression and what takes the place of its match.",
    keys: Any,
    fields: &[
        required(
            "regex",
            Kind::Text {
                pattern: None,
                length: 1..=1024,
            },
            "Without look-around and back references.",
        ),
        required(
            "replace",
            Kind::Text {
                pattern: None,
                length: 0..=1024,
            },
            "Replacement; $1 is the first group.",
        ),
    ],
};
