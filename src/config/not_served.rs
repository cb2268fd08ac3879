//! What the format can say and this version does not do yet. Refused, never ignored. Each block goes when its
//! feature comes; nothing else knows this list.

use std::time::Duration;

use super::check::Findings;
use super::field_path::FieldPath;
use crate::model::{Algorithm, Config, ProtocolVersion, TargetGroup, Transform};

/// Things of ELBv2 that the format has no field for; whoever writes one reads that, and not "unknown field".
pub(super) const FIELDS: &[&str] = &[
    "authenticate_cognito",
    "authenticate_oidc",
    "connection_log",
    "jwt_validation",
    "mutual_authentication",
    "regex_values",
    "target_group_health",
];

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let root = FieldPath::root();
    for (index, listener) in config.listeners.iter().enumerate() {
        let path = root.field("listeners").index(index);
        for (index, rule) in listener.rules.iter().enumerate() {
            let path = path.field("rules").index(index);
            for (index, transform) in rule.transforms.iter().enumerate() {
                let (kind, what) = match transform {
                    Transform::UrlRewrite { .. } => ("url_rewrite", "rewriting the URL"),
                    Transform::HostHeaderRewrite { .. } => {
                        ("host_header_rewrite", "rewriting the Host header")
                    }
                };
                let path = path.field("transforms").index(index).field(kind);
                refuse(findings, &path, what, "remove it, or redirect instead");
            }
        }
    }
    for (index, group) in config.target_groups.iter().enumerate() {
        target_group(group, &root.field("target_groups").index(index), findings);
    }
}

fn target_group(group: &TargetGroup, path: &FieldPath, findings: &mut Findings) {
    if group.protocol_version != ProtocolVersion::Http1 {
        let what = format!("protocol version {} toward targets", group.protocol_version);
        refuse(
            findings,
            &path.field("protocol_version"),
            &what,
            "write HTTP1, the default",
        );
    }
    if group.algorithm != Algorithm::RoundRobin {
        let what = format!("algorithm {}", group.algorithm);
        refuse(
            findings,
            &path.field("algorithm"),
            &what,
            "write round_robin, the default",
        );
    }
    if group.slow_start != Duration::ZERO {
        refuse(
            findings,
            &path.field("slow_start"),
            "slow start",
            "write 0s, the default",
        );
    }
}

fn refuse(findings: &mut Findings, path: &FieldPath, what: &str, remedy: &str) {
    findings.error(path, format!("{what} is not served yet"), remedy);
}
