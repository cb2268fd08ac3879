//! The limits that clients can reach, by name.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Connections of everyone.
    Connections,
    /// Connections of one address.
    ConnectionsPerClient,
    /// TLS handshakes under way.
    Handshakes,
    /// Time for a TLS handshake.
    HandshakeTimeout,
    /// Time for a head.
    HeaderTimeout,
    /// Bytes of a request line.
    RequestLine,
    /// Bytes and number of headers.
    Headers,
    /// Requests of one address in a second.
    RequestsPerClient,
    /// Silence in a body.
    BodyTimeout,
    /// Bytes of a body in a second, the lowest number.
    BodyRate,
    /// What an HTTP/2 connection may do with its streams, resets above all.
    Streams,
}

impl Limit {
    /// In the order in which they are declared.
    pub(crate) const ALL: [Self; 11] = [
        Self::Connections,
        Self::ConnectionsPerClient,
        Self::Handshakes,
        Self::HandshakeTimeout,
        Self::HeaderTimeout,
        Self::RequestLine,
        Self::Headers,
        Self::RequestsPerClient,
        Self::BodyTimeout,
        Self::BodyRate,
        Self::Streams,
    ];

    /// For metric labels; where there is a setting, its name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerClient => "connections_per_client",
            Self::Handshakes => "handshakes",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::HeaderTimeout => "header_timeout",
            Self::RequestLine => "request_line",
            Self::Headers => "headers",
            Self::RequestsPerClient => "requests_per_client",
            Self::BodyTimeout => "body_timeout",
            Self::BodyRate => "body_rate",
            Self::Streams => "streams",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Limit;

    #[test]
    fn every_limit_stands_at_its_place() {
        for (index, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, index);
        }
    }

    #[test]
    fn every_limit_is_explained_to_operators() {
        let page = include_str!("../../config/limits.md");
        for limit in Limit::ALL {
            let name = limit.as_str();
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }
}
