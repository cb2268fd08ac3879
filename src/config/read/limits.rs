//! Reads the limits.

use std::num::NonZeroU32;

use super::Reader;
use super::fields::Fields;
use crate::config::shapes;
use crate::model::{BodyRate, Limits, RequestRate};

impl Reader {
    pub(super) fn limits(&mut self, parent: &Fields<'_>) -> Limits {
        let default = Limits::default();
        let Some(node) = parent.get("limits") else {
            return default;
        };
        let fields = &self.object(node, &parent.path_of("limits"), &shapes::LIMITS);
        Limits {
            connections: self.count(fields, "connections"),
            connections_per_client: self.count(fields, "connections_per_client"),
            requests_per_client: self.request_rate(fields),
            client_ipv6_prefix: self
                .number(fields, "client_ipv6_prefix")
                .unwrap_or(default.client_ipv6_prefix),
            handshakes: self.count(fields, "handshakes"),
            handshake_timeout: self
                .duration(fields, "handshake_timeout")
                .unwrap_or(default.handshake_timeout),
            header_timeout: self
                .duration(fields, "header_timeout")
                .unwrap_or(default.header_timeout),
            body_rate: self.body_rate(fields),
        }
    }

    fn request_rate(&mut self, parent: &Fields<'_>) -> Option<RequestRate> {
        let node = parent.get("requests_per_client")?;
        let path = parent.path_of("requests_per_client");
        let fields = &self.object(node, &path, &shapes::REQUEST_RATE);
        let burst = self.count(fields, "burst");
        let per_second = self.count(fields, "per_second")?;
        Some(RequestRate {
            per_second,
            burst: burst.unwrap_or(per_second),
        })
    }

    fn body_rate(&mut self, parent: &Fields<'_>) -> Option<BodyRate> {
        let default = BodyRate::default();
        let Some(node) = parent.get("body_rate") else {
            return Some(default);
        };
        let fields = &self.object(node, &parent.path_of("body_rate"), &shapes::BODY_RATE);
        let bytes_per_second = match self.number(fields, "bytes_per_second") {
            Some(number) => NonZeroU32::new(number),
            None => Some(default.bytes_per_second),
        };
        let grace = self.duration(fields, "grace").unwrap_or(default.grace);
        Some(BodyRate {
            bytes_per_second: bytes_per_second?,
            grace,
        })
    }

    /// A number above none; whether it is too large is for the checks to say.
    fn count(&mut self, fields: &Fields<'_>, name: &str) -> Option<NonZeroU32> {
        let number: u32 = self.number(fields, name)?;
        if number == 0 {
            let (path, range) = (fields.path_of(name), Limits::COUNT);
            let position = fields.get(name)?.position;
            let remedy = format!("write {} to {}", range.start(), range.end());
            self.problem(&path, position, "'0' is out of range", remedy);
        }
        NonZeroU32::new(number)
    }
}
