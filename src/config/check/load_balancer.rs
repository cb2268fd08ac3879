//! Checks the attributes of the load balancer and of the process.

use super::Findings;
use crate::config::field_path::FieldPath;
use crate::model::{AdminAddress, Config, CookieKeys, LoadBalancer, Shutdown, Workers};

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
