//! Checks target groups: names, targets, health checks, and settings that exclude each other.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::Findings;
use crate::config::field_path::FieldPath;
use crate::model::{
    Action, Algorithm, Config, HealthCheck, Protocol, Stickiness, TargetGroup, TargetGroupName,
    TargetId, UpstreamTls, duration, quoted,
};

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let groups = FieldPath::root().field("target_groups");
    let used = used(config);
    let mut taken = HashMap::new();
    for (index, group) in config.target_groups.iter().enumerate() {
        let path = groups.index(index);
        if let Some(first) = taken.insert(&group.name, index) {
            let message = format!(
                "target group '{}' exists already, as target_groups[{first}]",
                group.name
            );
            findings
                .error(
                    &path.field("name"),
                    message,
                    "give each group its own name, or put their targets together",
                )
                .rests_on([groups.index(first).field("name")]);
        }
        if !used.contains(&group.name) {
            let message = format!("no rule forwards to target group '{}'", group.name);
            findings
                .warning(
                    &path.field("name"),
                    message,
                    "forward to it, or remove it: its targets are not even probed",
                )
                .rests_on([FieldPath::root().field("listeners")]);
        }
        check_group(group, &path, findings);
        check_targets(group, &path, findings);
        check_health_check(&group.health_check, &path.field("health_check"), findings);
    }
}

fn used(config: &Config) -> HashSet<&TargetGroupName> {
    let actions = config.listeners.iter().flat_map(|listener| {
        let rules = listener.rules.iter().map(|rule| &rule.actions);
        rules.chain([&listener.default_actions])
    });
    let forwards = actions.filter_map(|actions| match &actions.terminal {
        Action::Forward(forward) => Some(&forward.target_groups),
        Action::FixedResponse(_) | Action::Redirect(_) => None,
    });
    forwards.flatten().map(|group| &group.name).collect()
}

fn check_group(group: &TargetGroup, path: &FieldPath, findings: &mut Findings) {
    findings.number(&path.field("port"), group.port, &(1..=u16::MAX));
    let delay = group.deregistration_delay;
    findings.duration(
        &path.field("deregistration_delay"),
        delay,
        &TargetGroup::DEREGISTRATION_DELAY,
    );
    let slow_start = path.field("slow_start");
    if group.slow_start != Duration::ZERO {
        if !TargetGroup::SLOW_START.contains(&group.slow_start) {
            let message = format!("'{}' is out of range", duration::format(group.slow_start));
            findings.error(&slow_start, message, "write 30s to 15m, or 0s for none");
        }
        if group.algorithm != Algorithm::RoundRobin {
            let message = format!("slow start does not go together with {}", group.algorithm);
            findings
                .error(
                    &slow_start,
                    message,
                    "write 'slow_start: 0s' or 'algorithm: round_robin'",
                )
                .rests_on([path.field("algorithm")]);
        }
    }
    if let Some(stickiness) = &group.stickiness {
        check_stickiness(group, stickiness, path, findings);
    }
    if group.protocol == Protocol::Http && group.tls != UpstreamTls::Unverified {
        findings
            .error(
                &path.field("verify"),
                "an HTTP group has no certificates to verify",
                "write 'protocol: HTTPS', or remove it",
            )
            .rests_on([path.field("protocol"), path.field("ca_file")]);
    }
}

fn check_stickiness(
    group: &TargetGroup,
    stickiness: &Stickiness,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let here = path.field("stickiness");
    let duration = match stickiness {
        Stickiness::LbCookie { duration } => duration,
        Stickiness::AppCookie {
            cookie_name,
            duration,
        } => {
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if cookie_name.is_empty() || !cookie_name.chars().all(token) {
                let message = format!("{} is not the name of a cookie", quoted(cookie_name));
                findings.error(
                    &here.field("cookie_name"),
                    message,
                    "write the name that the application sets",
                );
            } else if cookie_name.starts_with("AWSALB") {
                let message = format!("{} is a name that load balancers set", quoted(cookie_name));
                findings.error(
                    &here.field("cookie_name"),
                    message,
                    "write the name that the application sets",
                );
            }
            duration
        }
    };
    findings.duration(&here.field("duration"), *duration, &Stickiness::DURATION);
    if group.algorithm == Algorithm::WeightedRandom {
        findings
            .error(
                &here,
                "stickiness does not go together with weighted_random",
                "remove it, or write 'algorithm: round_robin'",
            )
            .rests_on([path.field("algorithm")]);
    }
}

fn check_targets(group: &TargetGroup, path: &FieldPath, findings: &mut Findings) {
    let targets = path.field("targets");
    if group.targets.is_empty() {
        let message = format!(
            "target group '{}' has no targets, so every request to it is answered with 503",
            group.name
        );
        findings.warning(&targets, message, "list its targets");
    }
    let mut taken = HashMap::new();
    for (index, target) in group.targets.iter().enumerate() {
        let path = targets.index(index);
        if matches!(&target.id, TargetId::Address(address) if address.is_unspecified()) {
            findings.error(
                &path,
                "nothing can be connected to at this address",
                "write the target's own",
            );
        }
        if target.port == Some(0) {
            findings.error(
                &path.field("port"),
                "'0' is out of range",
                "write 1 to 65535, or leave it out",
            );
        }
        let port = target.port.unwrap_or(group.port);
        if let Some(first) = taken.insert((&target.id, port), index) {
            let message = format!(
                "target '{}' with port {port} is listed already, as targets[{first}]",
                target.id
            );
            findings
                .error(&path, message, "list it once")
                .rests_on([targets.index(first), path.field("port")]);
        }
    }
}

fn check_health_check(check: &HealthCheck, path: &FieldPath, findings: &mut Findings) {
    let (interval, timeout) = (path.field("interval"), path.field("timeout"));
    findings.duration(&interval, check.interval, &HealthCheck::INTERVAL);
    findings.duration(&timeout, check.timeout, &HealthCheck::TIMEOUT);
    if check.timeout >= check.interval {
        let message = format!(
            "'{}' is not smaller than the interval, '{}'",
            duration::format(check.timeout),
            duration::format(check.interval)
        );
        findings
            .error(&timeout, message, "make it smaller, or the interval longer")
            .rests_on([interval.clone()]);
    }
    let mut below = |path: &FieldPath, value: Duration, least: Duration, range_start: Duration| {
        if (range_start..least).contains(&value) {
            let least = duration::format(least);
            let message = format!(
                "'{}' is below ALB's minimum of {least}",
                duration::format(value)
            );
            findings.warning(
                path,
                message,
                format!("keep it for faster failover, or write {least}"),
            );
        }
    };
    below(
        &interval,
        check.interval,
        HealthCheck::INTERVAL_ALB_MIN,
        *HealthCheck::INTERVAL.start(),
    );
    below(
        &timeout,
        check.timeout,
        HealthCheck::TIMEOUT_ALB_MIN,
        *HealthCheck::TIMEOUT.start(),
    );
    findings.number(
        &path.field("healthy_threshold"),
        check.healthy_threshold,
        &HealthCheck::THRESHOLD,
    );
    findings.number(
        &path.field("unhealthy_threshold"),
        check.unhealthy_threshold,
        &HealthCheck::THRESHOLD,
    );
    check_path(&check.path, &path.field("path"), findings);
}

fn check_path(text: &str, path: &FieldPath, findings: &mut Findings) {
    if !text.starts_with('/') {
        let remedy = match text.contains("://") {
            true => "write the path alone: each target is asked at its own address".to_owned(),
            false => format!("write {}", quoted(&format!("/{text}"))),
        };
        findings.error(
            path,
            format!("{} does not begin with '/'", quoted(text)),
            remedy,
        );
    } else if text.len() > HealthCheck::PATH_MAX {
        let message = format!("the path has {} bytes", text.len());
        findings.error(
            path,
            message,
            format!("shorten it to {}", HealthCheck::PATH_MAX),
        );
    } else if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        let message = format!("{} holds {}", quoted(text), quoted(&c.to_string()));
        findings.error(path, message, "write it percent-encoded");
    }
}
