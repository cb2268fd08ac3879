//! Reads rules, conditions and transforms.

use ipnet::IpNet;

use super::Reader;
use super::fields::Fields;
use crate::config::field_path::FieldPath;
use crate::config::shapes;
use crate::config::yaml::Node;
use crate::model::{
    Condition, Invalid, Priority, QueryPattern, Rule, TextPattern, Transform, quoted,
};

impl Reader {
    pub(super) fn rule(&mut self, node: &Node, path: &FieldPath) -> Rule {
        let fields = &self.object(node, path, &shapes::RULE);
        let conditions = self.list(fields, "conditions");
        let transforms = self.list(fields, "transforms");
        Rule {
            priority: self.leaf(fields, "priority").unwrap_or(Priority::LAST),
            conditions: conditions
                .into_iter()
                .map(|(node, path)| self.condition(node, &path))
                .collect(),
            transforms: transforms
                .into_iter()
                .filter_map(|(node, path)| self.transform(node, &path))
                .collect(),
            actions: self.actions(fields, "actions"),
        }
    }

    fn condition(&mut self, node: &Node, path: &FieldPath) -> Condition {
        let fields = self.object(node, path, &shapes::CONDITION);
        let Some((name, node)) = fields.only() else {
            self.stand_in(path);
            return Condition::PathPattern(Vec::new());
        };
        let path = &fields.path_of(name);
        match name {
            "host_header" => Condition::HostHeader(self.leaves_at(node, path)),
            "http_request_method" => Condition::HttpRequestMethod(self.leaves_at(node, path)),
            "source_ip" => Condition::SourceIp(self.networks(node, path)),
            "query_string" => Condition::QueryString(self.query(node, path)),
            "http_header" => self.http_header(node, path).unwrap_or_else(|| {
                self.stand_in(&fields.path);
                Condition::PathPattern(Vec::new())
            }),
            _ => Condition::PathPattern(self.leaves_at(node, path)),
        }
    }

    fn http_header(&mut self, node: &Node, path: &FieldPath) -> Option<Condition> {
        let fields = &self.object(node, path, &shapes::HTTP_HEADER);
        let values = match fields.get("values") {
            Some(node) => self.leaves_at(node, &fields.path_of("values")),
            None => Vec::new(),
        };
        let name = self.leaf(fields, "name")?;
        Some(Condition::HttpHeader { name, values })
    }

    fn query(&mut self, node: &Node, path: &FieldPath) -> Vec<QueryPattern> {
        let elements = self.list_at(node, path);
        let pair = |(node, path): (&Node, FieldPath)| {
            let fields = &self.object(node, &path, &shapes::QUERY_PAIR);
            let key: Option<TextPattern> = self.leaf(fields, "key");
            let value = self.leaf(fields, "value")?;
            Some(QueryPattern { key, value })
        };
        elements.into_iter().filter_map(pair).collect()
    }

    pub(super) fn networks(&mut self, node: &Node, path: &FieldPath) -> Vec<IpNet> {
        let elements = self.list_at(node, path);
        let network = |(node, path): (&Node, FieldPath)| {
            let text = self.text_at(node, &path)?;
            self.parsed(network(text), node, &path)
        };
        elements.into_iter().filter_map(network).collect()
    }

    fn transform(&mut self, node: &Node, path: &FieldPath) -> Option<Transform> {
        let fields = self.object(node, path, &shapes::TRANSFORM);
        let (name, node) = fields.only()?;
        let rewrite = &self.object(node, &fields.path_of(name), &shapes::REWRITE);
        let (regex, replace) = self.rewrite(rewrite)?;
        Some(match name {
            "host_header_rewrite" => Transform::HostHeaderRewrite { regex, replace },
            _ => Transform::UrlRewrite { regex, replace },
        })
    }

    fn rewrite(&mut self, fields: &Fields<'_>) -> Option<(String, String)> {
        let regex = self.text(fields, "regex");
        let replace = self.text(fields, "replace");
        Some((regex?.to_owned(), replace?.to_owned()))
    }
}

/// A network in CIDR notation, its host bits cleared.
fn network(text: &str) -> Result<IpNet, Invalid> {
    if let Ok(network) = text.parse::<IpNet>() {
        return match text {
            // ELBv2 refuses the broadcast address.
            "255.255.255.255/32" => Err(Invalid::new(
                "'255.255.255.255/32' is no client's address",
                "remove it",
            )),
            _ => Ok(network.trunc()),
        };
    }
    let remedy = match text.parse::<std::net::IpAddr>() {
        Ok(address) => format!("write '{}' for this one address", IpNet::from(address)),
        Err(_) => {
            "write an address and the length of its prefix, such as '10.0.0.0/8' or '2001:db8::/32'"
                .to_owned()
        }
    };
    Err(Invalid::new(
        format!("{} is not a network", quoted(text)),
        remedy,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_written_with_their_prefix() {
        assert_eq!(network("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert!(network("2001:db8::/32").is_ok());
        let refusal = |text: &str| network(text).unwrap_err().to_string();
        assert!(refusal("10.0.0.1").contains("'10.0.0.1/32'"));
        assert!(refusal("::1").contains("'::1/128'"));
        assert!(refusal("10.0.0.0/33").contains("not a network"));
        assert!(refusal("255.255.255.255/32").contains("no client's"));
    }
}
