//! Target groups as the file writes them.

use std::time::Duration;

use super::{MANY, NAME, PROTOCOL, TEXT, THRESHOLD, defaulted, names, optional, required, text};
use crate::config::shape::Keys::Any;
use crate::config::shape::Kind::{self, Either, Flag, Integer, List, Object, OneOf};
use crate::config::shape::Shape;
use crate::model::{
    Algorithm, HealthCheck, ProtocolVersion, ProxyProtocolVersion, Stickiness, TargetGroup,
};

pub(in crate::config) static TARGET_GROUP: Shape = Shape {
    name: "target_group",
    description: "Who may answer, how they are chosen, checked and kept.",
    keys: Any,
    fields: &[
        required(
            "name",
            NAME,
            "Unique: 1 to 32 letters, digits and single hyphens.",
        ),
        defaulted("protocol", PROTOCOL, "HTTP", "How targets are spoken to."),
        defaulted(
            "protocol_version",
            OneOf(|| names(ProtocolVersion::ALL, ProtocolVersion::as_str)),
            "HTTP1",
            "HTTP version toward the targets.",
        ),
        optional(
            "proxy_protocol",
            OneOf(|| names(ProxyProtocolVersion::ALL, ProxyProtocolVersion::as_str)),
            "PROXY header with which each connection to a target begins, health checks too; none when absent. Connections are not kept then.",
        ),
        required(
            "port",
            Integer(1..=65535),
            "Port of targets that name none.",
        ),
        defaulted(
            "algorithm",
            OneOf(|| names(Algorithm::ALL, Algorithm::as_str)),
            "round_robin",
            "How a target is chosen (load_balancing.algorithm.type; failover is albedo's own).",
        ),
        optional(
            "stickiness",
            Object(&STICKINESS),
            "Keeps users on their target; off when absent.",
        ),
        defaulted(
            "deregistration_delay",
            Kind::Duration(TargetGroup::DEREGISTRATION_DELAY),
            "300s",
            "How long a removed target may finish (deregistration_delay.timeout_seconds).",
        ),
        defaulted(
            "slow_start",
            Kind::Duration(Duration::ZERO..=*TargetGroup::SLOW_START.end()),
            "0s",
            "Ramp of a young target: 0s (off), or 30s to 900s (slow_start.duration_seconds).",
        ),
        optional(
            "health_check",
            Object(&HEALTH_CHECK),
            "How targets are probed.",
        ),
        defaulted(
            "verify",
            Flag,
            "false",
            "Check the targets' certificates against ca_file; HTTPS only. ALB never does.",
        ),
        optional("ca_file", TEXT, "PEM bundle of trusted roots, for verify."),
        optional(
            "targets",
            List {
                of: &Either(&[TEXT, Object(&TARGET)]),
                length: 0..=MANY,
            },
            "Address or name, with or without a port: 192.168.0.4, \"192.168.0.5:8080\", {id: app.site, port: 80}.",
        ),
    ],
};

pub(in crate::config) static STICKINESS: Shape = Shape {
    name: "stickiness",
    description: "How users are kept on their target.",
    keys: Any,
    fields: &[
        defaulted(
            "type",
            OneOf(|| vec!["lb_cookie", "app_cookie"]),
            "lb_cookie",
            "By albedo's own cookie, or following one of the application (stickiness.type).",
        ),
        optional(
            "cookie_name",
            TEXT,
            "The application's cookie, for app_cookie; not beginning with AWSALB.",
        ),
        defaulted(
            "duration",
            Kind::Duration(Stickiness::DURATION),
            "1d",
            "How long a user stays after the last request.",
        ),
    ],
};

pub(in crate::config) static HEALTH_CHECK: Shape = Shape {
    name: "health_check",
    description: "How targets are probed and what counts as healthy.",
    keys: Any,
    fields: &[
        defaulted(
            "protocol",
            PROTOCOL,
            "HTTP",
            "HTTP even where the group speaks HTTPS, as ALB does.",
        ),
        defaulted(
            "port",
            Either(&[OneOf(|| vec!["traffic-port"]), Integer(1..=65535)]),
            "traffic-port",
            "traffic-port is the one that takes requests.",
        ),
        defaulted(
            "path",
            Kind::Text {
                pattern: Some("^/"),
                length: 1..=HealthCheck::PATH_MAX,
            },
            "/",
            "Path, with or without a query.",
        ),
        defaulted(
            "interval",
            Kind::Duration(HealthCheck::INTERVAL),
            "30s",
            "Time between two probes; below ALB's 5s with a warning.",
        ),
        defaulted(
            "timeout",
            Kind::Duration(HealthCheck::TIMEOUT),
            "5s",
            "Longest wait for an answer, shorter than interval; below ALB's 2s with a warning.",
        ),
        defaulted(
            "healthy_threshold",
            THRESHOLD,
            "5",
            "Successes in a row until healthy.",
        ),
        defaulted(
            "unhealthy_threshold",
            THRESHOLD,
            "2",
            "Failures in a row until unhealthy.",
        ),
        defaulted(
            "matcher",
            text("^[0-9, -]+$"),
            "200",
            "Status codes that pass, within 200 to 499: 200, \"200,202\", 200-299.",
        ),
    ],
};

pub(in crate::config) static TARGET: Shape = Shape {
    name: "target",
    description: "One target.",
    keys: Any,
    fields: &[
        required("id", TEXT, "IP address or DNS name."),
        optional("port", Integer(1..=65535), "The group's port when absent."),
    ],
};
