//! Reads the attributes of the load balancer.

use super::Reader;
use super::fields::Fields;
use crate::config::shapes;
use crate::config::yaml::{Node, Value};
use crate::model::{AccessLog, AccessLogSink, CookieKeys, LoadBalancer};

impl Reader {
    pub(super) fn load_balancer(&mut self, parent: &Fields<'_>) -> LoadBalancer {
        let default = LoadBalancer {
            cookie_keys: Some(self.cookie_keys_beside()),
            ..LoadBalancer::default()
        };
        let Some(node) = parent.get("load_balancer") else {
            return default;
        };
        let path = parent.path_of("load_balancer");
        let fields = &self.object(node, &path, &shapes::LOAD_BALANCER);
        LoadBalancer {
            name: self.leaf(fields, "name").unwrap_or_default(),
            idle_timeout: self
                .duration(fields, "idle_timeout")
                .unwrap_or(default.idle_timeout),
            client_keep_alive: self
                .duration(fields, "client_keep_alive")
                .unwrap_or(default.client_keep_alive),
            http2: self.flag(fields, "http2").unwrap_or(default.http2),
            preserve_host_header: self
                .flag(fields, "preserve_host_header")
                .unwrap_or(default.preserve_host_header),
            drop_invalid_header_fields: self
                .flag(fields, "drop_invalid_header_fields")
                .unwrap_or(default.drop_invalid_header_fields),
            desync_mitigation_mode: self
                .leaf(fields, "desync_mitigation_mode")
                .unwrap_or_default(),
            xff_header_processing: self
                .leaf(fields, "xff_header_processing")
                .unwrap_or_default(),
            xff_client_port: self
                .flag(fields, "xff_client_port")
                .unwrap_or(default.xff_client_port),
            x_amzn_tls_version_and_cipher_suite: self
                .flag(fields, "x_amzn_tls_version_and_cipher_suite")
                .unwrap_or(default.x_amzn_tls_version_and_cipher_suite),
            access_log: self.access_log(fields),
            cookie_keys: Some(self.cookie_keys(fields)),
        }
    }

    fn access_log(&mut self, parent: &Fields<'_>) -> Option<AccessLog> {
        let node = parent.get("access_log")?;
        let path = parent.path_of("access_log");
        let fields = &self.object(node, &path, &shapes::ACCESS_LOG);
        let format = self.leaf(fields, "format").unwrap_or_default();
        let stdout = |node: &Node| matches!(&node.value, Value::Scalar(text) if text == "-");
        let sink = match fields.get("path").is_some_and(stdout) {
            true => AccessLogSink::Stdout,
            false => {
                let file = self.file(fields, "path");
                AccessLogSink::File(file.unwrap_or_default())
            }
        };
        Some(AccessLog { sink, format })
    }

    fn cookie_keys(&mut self, parent: &Fields<'_>) -> CookieKeys {
        let default = self.cookie_keys_beside();
        let Some(node) = parent.get("cookie_keys") else {
            return default;
        };
        let fields = &self.object(node, &parent.path_of("cookie_keys"), &shapes::COOKIE_KEYS);
        CookieKeys {
            path: self.file(fields, "path").unwrap_or(default.path),
            rotation: self.duration(fields, "rotation"),
        }
    }

    /// In the folder of the configuration.
    fn cookie_keys_beside(&self) -> CookieKeys {
        CookieKeys {
            path: self.folder.join(CookieKeys::FILE),
            rotation: None,
        }
    }
}
