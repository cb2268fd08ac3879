//! Reads actions: forward, fixed response, redirect.

use std::sync::Arc;

use super::Reader;
use super::fields::Fields;
use crate::config::field_path::FieldPath;
use crate::config::shapes;
use crate::config::yaml::{Node, Value};
use crate::model::{
    Action, Actions, FixedResponse, Forward, Protocol, Redirect, RedirectStatus, TargetGroupName,
    WeightedTargetGroup, alternatives, quoted,
};

impl Reader {
    /// The one action of a list.
    pub(super) fn actions(&mut self, parent: &Fields<'_>, name: &str) -> Actions {
        let path = parent.path_of(name);
        let elements = self.list(parent, name);
        let written = parent
            .get(name)
            .filter(|node| matches!(node.value, Value::Sequence(_)));
        if let (Some(node), true) = (written, elements.len() != 1) {
            let message = format!("there are {} actions", elements.len());
            let remedy = "write exactly one: forward, redirect or fixed_response";
            self.problem(&path, node.position, message, remedy);
        }
        let mut actions = elements
            .into_iter()
            .map(|(node, path)| self.action(node, &path));
        let first = actions.next();
        actions.for_each(drop);
        first.unwrap_or_else(stand_in).into()
    }

    fn action(&mut self, node: &Node, path: &FieldPath) -> Action {
        let fields = self.object(node, path, &shapes::ACTION);
        let Some((name, node)) = fields.only() else {
            self.stand_in(path);
            return stand_in();
        };
        let path = &fields.path_of(name);
        match name {
            "fixed_response" => Action::FixedResponse(self.fixed_response(node, path)),
            "redirect" => Action::Redirect(self.redirect(node, path)),
            _ => Action::Forward(self.forward(node, path)),
        }
    }

    /// `forward: web`, or an object with groups and weights.
    fn forward(&mut self, node: &Node, path: &FieldPath) -> Forward {
        if let Value::Scalar(_) = node.value {
            let name = self
                .leaf_at(node, path)
                .unwrap_or_else(TargetGroupName::stand_in);
            return Forward::to(name);
        }
        let fields = &self.object(node, path, &shapes::FORWARD);
        let groups = self.list(fields, "target_groups");
        let alone = groups.len() == 1;
        Forward {
            target_groups: groups
                .into_iter()
                .map(|(node, path)| self.weighted(node, &path, alone))
                .collect(),
            stickiness: self.duration(fields, "stickiness"),
        }
    }

    fn weighted(&mut self, node: &Node, path: &FieldPath, alone: bool) -> WeightedTargetGroup {
        let fields = &self.object(node, path, &shapes::WEIGHTED_TARGET_GROUP);
        let weight = self.number(fields, "weight");
        if !alone && fields.get("weight").is_none() && matches!(node.value, Value::Mapping(_)) {
            let path = fields.path_of("weight");
            let remedy = "write 0 to 999 for each of several groups";
            self.problem(&path, node.position, "'weight' is missing", remedy);
        }
        WeightedTargetGroup {
            name: self
                .leaf(fields, "name")
                .unwrap_or_else(TargetGroupName::stand_in),
            weight: weight.unwrap_or(1),
        }
    }

    fn fixed_response(&mut self, node: &Node, path: &FieldPath) -> FixedResponse {
        let fields = &self.object(node, path, &shapes::FIXED_RESPONSE);
        FixedResponse {
            status_code: self.number(fields, "status_code").unwrap_or(503),
            content_type: self.content_type(fields),
            message_body: self.text(fields, "message_body").map(Arc::from),
        }
    }

    fn content_type(&mut self, fields: &Fields<'_>) -> Option<&'static str> {
        let (node, path) = (fields.get("content_type")?, fields.path_of("content_type"));
        let text = self.text_at(node, &path)?;
        let mut types = FixedResponse::CONTENT_TYPES.into_iter();
        let known = types.find(|known| *known == text);
        if known.is_none() {
            let message = format!("{} is not a media type that ALB sends", quoted(text));
            let remedy = format!("write {}", alternatives(&FixedResponse::CONTENT_TYPES));
            self.problem(&path, node.position, message, remedy);
        }
        known
    }

    /// A part that only repeats the request's own is the same as none.
    fn redirect(&mut self, node: &Node, path: &FieldPath) -> Redirect {
        let fields = &self.object(node, path, &shapes::REDIRECT);
        let mut part = |name: &str, same: &str| {
            let text = self.text(fields, name)?;
            (text != same).then(|| Arc::<str>::from(text))
        };
        let host = part("host", "#{host}");
        let path = part("path", "/#{path}");
        let query = part("query", "#{query}");
        Redirect {
            protocol: self.redirect_protocol(fields),
            host,
            port: self.redirect_port(fields),
            path,
            query,
            status_code: self
                .leaf(fields, "status_code")
                .unwrap_or(RedirectStatus::Found),
        }
    }

    fn redirect_protocol(&mut self, fields: &Fields<'_>) -> Option<Protocol> {
        let node = fields.get("protocol")?;
        match &node.value {
            Value::Scalar(text) if text == "#{protocol}" => None,
            _ => self.leaf(fields, "protocol"),
        }
    }

    fn redirect_port(&mut self, fields: &Fields<'_>) -> Option<u16> {
        let (node, path) = (fields.get("port")?, fields.path_of("port"));
        let text = self.text_at(node, &path)?;
        if text == "#{port}" {
            return None;
        }
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let port = digits
            .then(|| text.parse().ok())
            .flatten()
            .filter(|port| *port != 0);
        if port.is_none() {
            let message = format!("{} is not a port", quoted(text));
            let remedy = "write 1 to 65535, or leave it out to keep the request's";
            self.problem(&path, node.position, message, remedy);
        }
        port
    }
}

/// Stands for an action that could not be read.
fn stand_in() -> Action {
    Action::Forward(Forward::to(TargetGroupName::stand_in()))
}
