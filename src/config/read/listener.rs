//! Reads listeners and their certificates.

use std::net::IpAddr;

use super::Reader;
use super::fields::Fields;
use crate::config::field_path::FieldPath;
use crate::config::shapes;
use crate::config::yaml::Node;
use crate::model::{Certificate, Listener, Pem, Protocol, ProxyProtocol, quoted};

impl Reader {
    pub(super) fn listener(&mut self, node: &Node, path: &FieldPath) -> Listener {
        let fields = &self.object(node, path, &shapes::LISTENER);
        let protocol = self.leaf(fields, "protocol");
        if let (Some(Protocol::Http), Some(policy)) = (protocol, fields.get("ssl_policy")) {
            self.problem(
                &fields.path_of("ssl_policy"),
                policy.position,
                "an HTTP listener has no security policy",
                "remove it, or write 'protocol: HTTPS'",
            );
        }
        let certificates = self.list(fields, "certificates");
        let rules = self.list(fields, "rules");
        Listener {
            port: self.listener_port(fields),
            address: self.address(fields),
            protocol: protocol.unwrap_or_default(),
            proxy_protocol: self.proxy_protocol(fields),
            ssl_policy: self.leaf(fields, "ssl_policy").unwrap_or_default(),
            certificates: certificates
                .into_iter()
                .map(|(node, path)| self.certificate(node, &path))
                .collect(),
            rules: rules
                .into_iter()
                .map(|(node, path)| self.rule(node, &path))
                .collect(),
            default_actions: self.actions(fields, "default_actions"),
        }
    }

    fn listener_port(&mut self, fields: &Fields<'_>) -> u16 {
        let port = self.number(fields, "port");
        if let (Some(0), Some(node)) = (port, fields.get("port")) {
            self.warning(
                &fields.path_of("port"),
                node.position,
                "port 0 takes any free port, another one at every start",
                "write the port that clients ask",
            );
        }
        port.unwrap_or(0)
    }

    fn address(&mut self, fields: &Fields<'_>) -> Option<IpAddr> {
        let (node, path) = (fields.get("address")?, fields.path_of("address"));
        let text = self.text_at(node, &path)?;
        let address = text.trim_matches(['[', ']']).parse().ok();
        if address.is_none() {
            let remedy = match text {
                "*" => "leave it out to listen on every address",
                _ => {
                    "write an IP address of this machine without a port, or leave it out for all of them"
                }
            };
            let message = format!("{} is not an IP address", quoted(text));
            self.problem(&path, node.position, message, remedy);
        }
        address
    }

    fn proxy_protocol(&mut self, parent: &Fields<'_>) -> Option<ProxyProtocol> {
        let node = parent.get("proxy_protocol")?;
        let path = parent.path_of("proxy_protocol");
        let fields = &self.object(node, &path, &shapes::PROXY_PROTOCOL);
        let trusted = match fields.get("trusted") {
            Some(node) => self.networks(node, &fields.path_of("trusted")),
            None => Vec::new(),
        };
        Some(ProxyProtocol { trusted })
    }

    fn certificate(&mut self, node: &Node, path: &FieldPath) -> Certificate {
        let fields = &self.object(node, path, &shapes::CERTIFICATE);
        Certificate {
            certificate: Pem::File(self.file(fields, "certificate").unwrap_or_default()),
            key: Pem::File(self.file(fields, "key").unwrap_or_default()),
        }
    }
}
