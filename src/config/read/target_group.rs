//! Reads target groups, their health checks and targets.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::Reader;
use super::fields::Fields;
use crate::config::field_path::FieldPath;
use crate::config::shapes;
use crate::config::yaml::{Node, Value};
use crate::model::{
    HealthCheck, Stickiness, Target, TargetGroup, TargetGroupName, TargetId, UpstreamTls, quoted,
};

impl Reader {
    pub(super) fn target_group(&mut self, node: &Node, path: &FieldPath) -> TargetGroup {
        let fields = &self.object(node, path, &shapes::TARGET_GROUP);
        let name = self
            .leaf(fields, "name")
            .unwrap_or_else(TargetGroupName::stand_in);
        let protocol = self.leaf(fields, "protocol").unwrap_or_default();
        let port = self.number(fields, "port").unwrap_or(80);
        let default = TargetGroup::new(name, protocol, port);
        let targets = self.list(fields, "targets");
        TargetGroup {
            protocol_version: self.leaf(fields, "protocol_version").unwrap_or_default(),
            proxy_protocol: self.leaf(fields, "proxy_protocol"),
            algorithm: self.leaf(fields, "algorithm").unwrap_or_default(),
            stickiness: self.stickiness(fields),
            deregistration_delay: self
                .duration(fields, "deregistration_delay")
                .unwrap_or(default.deregistration_delay),
            slow_start: self
                .duration(fields, "slow_start")
                .unwrap_or(default.slow_start),
            health_check: self.health_check(fields),
            tls: self.upstream_tls(fields),
            targets: targets
                .into_iter()
                .map(|(node, path)| self.target(node, &path))
                .collect(),
            ..default
        }
    }

    fn stickiness(&mut self, parent: &Fields<'_>) -> Option<Stickiness> {
        let (node, path) = (parent.get("stickiness")?, parent.path_of("stickiness"));
        let fields = &self.object(node, &path, &shapes::STICKINESS);
        let duration = self
            .duration(fields, "duration")
            .unwrap_or(Stickiness::DURATION_DEFAULT);
        let cookie = self.text(fields, "cookie_name");
        let lb_cookie = Stickiness::LbCookie { duration };
        match self.text(fields, "type") {
            None | Some("lb_cookie") => {
                if let Some(node) = fields.get("cookie_name") {
                    let message = "only app_cookie follows a cookie of the application";
                    let remedy = "write 'type: app_cookie', or remove the name";
                    self.problem(
                        &fields.path_of("cookie_name"),
                        node.position,
                        message,
                        remedy,
                    );
                }
                Some(lb_cookie)
            }
            Some("app_cookie") => {
                if fields.get("cookie_name").is_none() {
                    let path = fields.path_of("cookie_name");
                    let remedy = "write the name of the application's session cookie";
                    self.problem(&path, fields.position, "'cookie_name' is missing", remedy);
                }
                let cookie_name: Arc<str> = cookie.unwrap_or("missing").into();
                Some(Stickiness::AppCookie {
                    cookie_name,
                    duration,
                })
            }
            Some(other) => {
                let position = fields
                    .get("type")
                    .map_or(fields.position, |node| node.position);
                let message = format!("{} is not a type of stickiness", quoted(other));
                let remedy = "write lb_cookie or app_cookie, or leave 'stickiness' out for none";
                self.problem(&fields.path_of("type"), position, message, remedy);
                Some(lb_cookie)
            }
        }
    }

    fn health_check(&mut self, parent: &Fields<'_>) -> HealthCheck {
        let default = HealthCheck::default();
        let Some(node) = parent.get("health_check") else {
            return default;
        };
        let fields = &self.object(node, &parent.path_of("health_check"), &shapes::HEALTH_CHECK);
        HealthCheck {
            protocol: self.leaf(fields, "protocol").unwrap_or_default(),
            port: self.leaf(fields, "port").unwrap_or_default(),
            path: self.text(fields, "path").map_or(default.path, Arc::from),
            interval: self
                .duration(fields, "interval")
                .unwrap_or(default.interval),
            timeout: self.duration(fields, "timeout").unwrap_or(default.timeout),
            healthy_threshold: self
                .number(fields, "healthy_threshold")
                .unwrap_or(default.healthy_threshold),
            unhealthy_threshold: self
                .number(fields, "unhealthy_threshold")
                .unwrap_or(default.unhealthy_threshold),
            matcher: self.leaf(fields, "matcher").unwrap_or_default(),
        }
    }

    fn upstream_tls(&mut self, fields: &Fields<'_>) -> UpstreamTls {
        let verify = self.flag(fields, "verify");
        let ca_file = self.file(fields, "ca_file");
        let at = |name| {
            fields
                .get(name)
                .map_or(fields.position, |node| node.position)
        };
        match (verify.unwrap_or(false), fields.get("ca_file").is_some()) {
            (false, false) => UpstreamTls::Unverified,
            (true, true) => UpstreamTls::Verified {
                ca_file: ca_file.unwrap_or_default(),
            },
            (true, false) => {
                let remedy = "write 'ca_file: PATH', the PEM bundle of the roots to trust";
                let message = "'verify' needs 'ca_file'";
                self.problem(&fields.path_of("verify"), at("verify"), message, remedy);
                UpstreamTls::Unverified
            }
            (false, true) => {
                let remedy = "write 'verify: true' to check certificates against it, or remove it";
                let message = "'ca_file' is not looked at without 'verify'";
                self.problem(&fields.path_of("ca_file"), at("ca_file"), message, remedy);
                UpstreamTls::Unverified
            }
        }
    }

    /// `192.168.0.4`, `192.168.0.5:8080`, or an object.
    fn target(&mut self, node: &Node, path: &FieldPath) -> Target {
        let stand_in = TargetId::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        if !matches!(node.value, Value::Mapping(_)) {
            let target = self.leaf_at(node, path);
            return target.unwrap_or(Target {
                id: stand_in,
                port: None,
            });
        }
        let fields = &self.object(node, path, &shapes::TARGET);
        Target {
            id: self.leaf(fields, "id").unwrap_or(stand_in),
            port: self.number(fields, "port"),
        }
    }
}
