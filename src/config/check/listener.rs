//! Checks listeners: one for each address and port, certificates where TLS is spoken, rules that have their turn.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Findings, action, rule, shadow};
use crate::config::field_path::FieldPath;
use crate::model::{AdminAddress, Config, Listener, Protocol};
use crate::worker;

/// Rules of one load balancer without asking AWS for more; a quota that AWS raises on request.
const RULES_ALB_MAX: usize = 100;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let listeners = FieldPath::root().field("listeners");
    if config.listeners.is_empty() {
        findings.error(
            &listeners,
            "there is no listener",
            "write one with a port, a protocol and default_actions",
        );
    }
    check_addresses(config, &listeners, findings);
    for (index, listener) in config.listeners.iter().enumerate() {
        let path = listeners.index(index);
        check_certificates(listener, &path, findings);
        check_proxy_protocol(listener, &path, findings);
        check_rules(config, listener, &path, findings);
        let default = path.field("default_actions");
        action::check(
            config,
            listener,
            &listener.default_actions,
            &default,
            findings,
        );
    }
    let rules: usize = config
        .listeners
        .iter()
        .map(|listener| listener.rules.len())
        .sum();
    if rules > RULES_ALB_MAX {
        let message = format!(
            "there are {rules} rules, and an ALB has at most {RULES_ALB_MAX} unless AWS raises the quota"
        );
        findings.warning(
            &listeners,
            message,
            "keep them, and ask AWS for a higher quota before moving to an ALB",
        );
    }
}

fn check_addresses(config: &Config, listeners: &FieldPath, findings: &mut Findings) {
    let mut taken: HashMap<(Option<IpAddr>, u16), usize> = HashMap::new();
    for (index, listener) in config
        .listeners
        .iter()
        .enumerate()
        .filter(|(_, l)| l.port != 0)
    {
        let path = listeners.index(index);
        let address = listener.address.filter(|address| !address.is_unspecified());
        if let Some(first) = taken.insert((address, listener.port), index) {
            let message = format!(
                "port {} is taken by listeners[{first}] already",
                listener.port
            );
            findings
                .error(
                    &path.field("port"),
                    message,
                    "give each its own port or address, or put their rules together",
                )
                .rests_on([
                    path.field("address"),
                    listeners.index(first).field("port"),
                    listeners.index(first).field("address"),
                ]);
        }
        let AdminAddress::Tcp(admin) = config.admin else {
            continue;
        };
        let same_address =
            admin.ip().is_unspecified() || address.is_none_or(|address| address == admin.ip());
        if admin.port() == listener.port && same_address {
            findings
                .error(
                    &path.field("port"),
                    format!(
                        "port {} is taken by the admin address already",
                        listener.port
                    ),
                    "give one of them another port",
                )
                .rests_on([path.field("address"), FieldPath::root().field("admin")]);
        }
    }
}

fn check_certificates(listener: &Listener, path: &FieldPath, findings: &mut Findings) {
    let (certificates, protocol) = (path.field("certificates"), path.field("protocol"));
    match (listener.protocol, listener.certificates.is_empty()) {
        (Protocol::Https, true) => findings.error(
            &certificates,
            "an HTTPS listener needs a certificate",
            "write 'certificates: [{certificate: PEM-FILE, key: PEM-FILE}]'",
        ),
        (Protocol::Http, false) => findings.error(
            &certificates,
            "an HTTP listener has no certificates",
            "write 'protocol: HTTPS', or remove them",
        ),
        (Protocol::Https, false) | (Protocol::Http, true) => return,
    }
    .rests_on([protocol]);
}

fn check_proxy_protocol(listener: &Listener, path: &FieldPath, findings: &mut Findings) {
    let Some(proxy_protocol) = &listener.proxy_protocol else {
        return;
    };
    let path = path.field("proxy_protocol").field("trusted");
    if proxy_protocol.trusted.is_empty() {
        findings.error(
            &path,
            "nobody is trusted, so every connection is closed",
            "list the networks of the load balancers in front, or remove 'proxy_protocol'",
        );
    }
    let everybody = |network: &IpNet| network.prefix_len() == 0;
    if proxy_protocol.trusted.iter().any(everybody) {
        findings.warning(
            &path,
            "everybody may say whose connection it is",
            "list the networks of the load balancers in front alone",
        );
    }
}

fn check_rules(config: &Config, listener: &Listener, path: &FieldPath, findings: &mut Findings) {
    let rules = path.field("rules");
    let mut taken = HashMap::new();
    for (index, rule) in listener.rules.iter().enumerate() {
        worker::step_aside();
        let path = rules.index(index);
        if let Some(first) = taken.insert(rule.priority, index) {
            let message = format!(
                "priority {} is taken by rules[{first}] already",
                rule.priority
            );
            findings
                .error(
                    &path.field("priority"),
                    message,
                    "give each rule of a listener its own",
                )
                .rests_on([rules.index(first).field("priority")]);
        }
        rule::check(rule, &path, findings);
        action::check(
            config,
            listener,
            &rule.actions,
            &path.field("actions"),
            findings,
        );
    }
    shadow::check(&listener.rules, &rules, findings);
}
