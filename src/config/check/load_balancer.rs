//! Checks the attributes of the load balancer and of the process.

use super::Findings;
use crate::config::field_path::FieldPath;
use crate::model::{AdminAddress, Config, CookieKeys, Limits, LoadBalancer, Shutdown, Workers};

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let root = FieldPath::root();
    if let AdminAddress::Tcp(address) = &config.admin
        && !address.ip().is_loopback()
    {
        findings.warning(
            &root.field("admin"),
            format!("'{address}' can be reached from other machines, and the admin address asks for no password"),
            format!("write '127.0.0.1:{}', or see that a firewall guards it", address.port()),
        );
    }
    if let Workers::Count(count) = config.workers {
        findings.number(&root.field("workers"), count.get(), &Workers::COUNT);
    }
    let path = root.field("shutdown");
    findings.duration(
        &path.field("delay"),
        config.shutdown.delay,
        &Shutdown::DELAY,
    );
    findings.duration(
        &path.field("timeout"),
        config.shutdown.timeout,
        &Shutdown::TIMEOUT,
    );
    limits(&config.limits, &root.field("limits"), findings);
    let (path, attributes) = (root.field("load_balancer"), &config.load_balancer);
    findings.duration(
        &path.field("idle_timeout"),
        attributes.idle_timeout,
        &LoadBalancer::IDLE_TIMEOUT,
    );
    findings.duration(
        &path.field("client_keep_alive"),
        attributes.client_keep_alive,
        &LoadBalancer::CLIENT_KEEP_ALIVE,
    );
    if let Some(rotation) = attributes
        .cookie_keys
        .as_ref()
        .and_then(|keys| keys.rotation)
    {
        let path = path.field("cookie_keys").field("rotation");
        findings.duration(&path, rotation, &CookieKeys::ROTATION);
    }
}

fn limits(limits: &Limits, path: &FieldPath, findings: &mut Findings) {
    let rate = limits.requests_per_client;
    let rate_path = path.field("requests_per_client");
    for (path, count) in [
        (path.field("connections"), limits.connections),
        (
            path.field("connections_per_client"),
            limits.connections_per_client,
        ),
        (
            rate_path.field("per_second"),
            rate.map(|rate| rate.per_second),
        ),
        (rate_path.field("burst"), rate.map(|rate| rate.burst)),
        (path.field("handshakes"), limits.handshakes),
    ] {
        if let Some(count) = count {
            findings.number(&path, count.get(), &Limits::COUNT);
        }
    }
    let prefix = path.field("client_ipv6_prefix");
    findings.number(&prefix, limits.client_ipv6_prefix, &Limits::IPV6_PREFIX);
    let timeout = path.field("handshake_timeout");
    findings.duration(&timeout, limits.handshake_timeout, &Limits::TIMEOUT);
    let timeout = path.field("header_timeout");
    findings.duration(&timeout, limits.header_timeout, &Limits::TIMEOUT);
    if let Some(rate) = limits.body_rate {
        let path = path.field("body_rate");
        let bytes = path.field("bytes_per_second");
        findings.number(
            &bytes,
            rate.bytes_per_second.get(),
            &Limits::BYTES_PER_SECOND,
        );
        findings.duration(&path.field("grace"), rate.grace, &Limits::TIMEOUT);
    }
}
