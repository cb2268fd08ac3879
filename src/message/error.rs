//! What can go wrong with a request, and the one table that says what the client is told: status, page,
//! and whether its connection lives on. Never retries, never logs.

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{Body, Limit, Response};
use crate::headers::{Headers, Name};
use crate::http1::Malformed;

/// A request that gets no answer of a target. ALB user guide, "Troubleshoot your Application Load Balancers".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The text says what is wrong with it.
    #[error("malformed request: {0}")]
    MalformedRequest(&'static str),
    #[error("refused by the desync mitigation mode")]
    Desync,
    #[error("no Host in an HTTP/1.1 request")]
    MissingHost,
    /// The client went away in the middle of its own body.
    #[error("client closed before the end of its body")]
    BodyIncomplete,
    #[error("method not allowed")]
    MethodNotAllowed,
    #[error("client began a request and fell silent")]
    RequestTimeout,
    #[error("client fell silent in the middle of its body")]
    BodyTimeout,
    #[error("client sent its body too slowly")]
    BodyTooSlow,
    #[error("more requests than one client may send")]
    TooManyRequests,
    #[error("request header too large")]
    HeadTooLarge,
    #[error("request target too long")]
    UriTooLong,
    /// Nobody is left to read the answer; the status is for the log.
    #[error("client closed before the answer")]
    ClientClosed,
    #[error("more than 30 addresses in X-Forwarded-For")]
    TooManyForwardedAddresses,
    #[error("client's protocol does not fit the target group's protocol version")]
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "464 waits for HTTP/2 target groups; the table is whole"
        )
    )]
    ProtocolMismatch,
    #[error("internal error")]
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "500 waits for transforms; the table is whole")
    )]
    Internal,
    #[error("Transfer-Encoding other than chunked")]
    TransferEncodingNotImplemented,
    #[error("target refused the connection")]
    TargetRefused,
    #[error("target unreachable")]
    TargetUnreachable,
    #[error("target closed before its answer")]
    TargetClosed,
    #[error("target reset the connection")]
    TargetReset,
    #[error("target sent a malformed answer")]
    TargetMalformedResponse,
    #[error("target sent too large a header")]
    TargetHeadTooLarge,
    #[error("TLS handshake with the target failed")]
    TargetTls,
    /// ALB user guide, "Deregistration delay": the connection is cut when the delay is over.
    #[error("target was taken out, and its deregistration delay is over")]
    TargetDeregistered,
    /// The same for all requests of a process that is to end.
    #[error("the load balancer stops, and the time for requests to finish is over")]
    ShuttingDown,
    #[error("no target to send to")]
    NoTargets,
    #[error("connecting to the target took too long")]
    ConnectTimeout,
    #[error("TLS handshake with the target took too long")]
    TargetTlsTimeout,
    #[error("target fell silent")]
    TargetTimeout,
    #[error("HTTP version not supported")]
    HttpVersionNotSupported,
    #[error("redirect URL too long")]
    RedirectTooLong,
}

/// All that follows from an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) status: StatusCode,
    pub(crate) blame: Blame,
    /// Stable, for logs and metric labels.
    pub(crate) reason: &'static str,
    pub(crate) connection: ClientConnection,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Blame {
    Client,
    LoadBalancer,
    Target,
}

impl Blame {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::LoadBalancer => "load_balancer",
            Self::Target => "target",
        }
    }
}

/// What becomes of the client's connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientConnection {
    KeepAlive,
    Close,
}

/// How much of an answer of our own is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Whole,
    /// To HEAD: Content-Length says what GET would have brought (RFC 9110 §8.6).
    HeadOnly,
}

impl Answer {
    pub(crate) fn to(method: &Method) -> Self {
        if method == Method::HEAD {
            Self::HeadOnly
        } else {
            Self::Whole
        }
    }

    pub(crate) fn body(self, content: &Bytes) -> Body {
        match self {
            Self::Whole => Body::full(content.clone()),
            Self::HeadOnly => Body::Empty,
        }
    }
}

impl Error {
    /// What it means that a client's bytes were refused. Not a `From`: a target's bytes are refused by the same names,
    /// and a `?` must not blame the client for them.
    pub(crate) fn of_request(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Syntax(what) => Self::MalformedRequest(what),
            Malformed::LineTooLong => Self::UriTooLong,
            Malformed::HeadTooLarge => Self::HeadTooLarge,
            Malformed::Version => Self::HttpVersionNotSupported,
            Malformed::TransferCoding => Self::TransferEncodingNotImplemented,
        }
    }

    /// The one table. Where the request's end is unknown or its sender is gone, the connection cannot go on
    /// (RFC 9112 §9.3).
    pub(crate) fn verdict(self) -> Verdict {
        use Blame::{Client, LoadBalancer, Target};
        use ClientConnection::{Close, KeepAlive};
        let (status, blame, reason, connection) = match self {
            Self::MalformedRequest(_) => (400, Client, "malformed_request", Close),
            Self::Desync => (400, Client, "desync", Close),
            Self::MissingHost => (400, Client, "missing_host", Close),
            Self::BodyIncomplete => (400, Client, "body_incomplete", Close),
            // What follows CONNECT is not HTTP.
            Self::MethodNotAllowed => (405, Client, "method_not_allowed", Close),
            Self::RequestTimeout => (408, Client, "request_timeout", Close),
            Self::BodyTimeout => (408, Client, "body_timeout", Close),
            Self::BodyTooSlow => (408, Client, "body_too_slow", Close),
            Self::TooManyRequests => (429, Client, "too_many_requests", KeepAlive),
            Self::HeadTooLarge => (413, Client, "head_too_large", Close),
            Self::UriTooLong => (414, Client, "uri_too_long", Close),
            Self::ClientClosed => (460, Client, "client_closed", Close),
            Self::TooManyForwardedAddresses => {
                (463, Client, "too_many_forwarded_addresses", KeepAlive)
            }
            Self::ProtocolMismatch => (464, Client, "protocol_mismatch", KeepAlive),
            Self::Internal => (500, LoadBalancer, "internal", KeepAlive),
            Self::TransferEncodingNotImplemented => {
                (501, Client, "transfer_encoding_not_implemented", Close)
            }
            Self::TargetRefused => (502, Target, "target_refused", KeepAlive),
            Self::TargetUnreachable => (502, Target, "target_unreachable", KeepAlive),
            Self::TargetClosed => (502, Target, "target_closed", KeepAlive),
            Self::TargetReset => (502, Target, "target_reset", KeepAlive),
            Self::TargetMalformedResponse => (502, Target, "target_malformed_response", KeepAlive),
            Self::TargetHeadTooLarge => (502, Target, "target_head_too_large", KeepAlive),
            Self::TargetTls => (502, Target, "target_tls", KeepAlive),
            Self::TargetDeregistered => (502, Target, "target_deregistered", KeepAlive),
            Self::ShuttingDown => (502, LoadBalancer, "shutting_down", Close),
            Self::NoTargets => (503, LoadBalancer, "no_targets", KeepAlive),
            Self::ConnectTimeout => (504, Target, "connect_timeout", KeepAlive),
            Self::TargetTlsTimeout => (504, Target, "target_tls_timeout", KeepAlive),
            Self::TargetTimeout => (504, Target, "target_timeout", KeepAlive),
            Self::HttpVersionNotSupported => (505, Client, "http_version_not_supported", Close),
            Self::RedirectTooLong => (507, LoadBalancer, "redirect_too_long", KeepAlive),
        };
        Verdict {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            blame,
            reason,
            connection,
        }
    }

    /// The limit that was reached.
    pub(crate) fn limit(self) -> Option<Limit> {
        match self {
            Self::RequestTimeout => Some(Limit::HeaderTimeout),
            Self::UriTooLong => Some(Limit::RequestLine),
            Self::HeadTooLarge => Some(Limit::Headers),
            Self::TooManyRequests => Some(Limit::RequestsPerClient),
            Self::BodyTimeout => Some(Limit::BodyTimeout),
            Self::BodyTooSlow => Some(Limit::BodyRate),
            _ => None,
        }
    }

    /// ALB's page. Nothing of the request is in it.
    pub(crate) fn into_response(self, answer: Answer, date: &[u8]) -> Response {
        let status = self.verdict().status;
        own_response(status, HTML, &page(status), answer, date)
    }
}

/// Server of every answer that no target wrote, as ALB names itself.
pub(crate) const SERVER_NAME: &str = "awselb/2.0";

/// Media type of the pages.
pub(crate) const HTML: &str = "text/html";

/// An answer of albedo's own, its headers in ALB's order. Connection is the listener's affair.
pub(crate) fn own_response(
    status: StatusCode,
    content_type: &str,
    content: &Bytes,
    answer: Answer,
    date: &[u8],
) -> Response {
    let mut headers = Headers::default();
    headers.append(Name::Server, SERVER_NAME.as_bytes());
    headers.append(Name::Date, date);
    headers.append(Name::ContentType, content_type.as_bytes());
    let mut length = itoa::Buffer::new();
    headers.append(Name::ContentLength, length.format(content.len()).as_bytes());
    Response {
        status,
        headers,
        body: answer.body(content),
        outstanding: None,
    }
}

/// The HTML of an error or a redirect, byte for byte as ALB sends it.
pub(crate) fn page(status: StatusCode) -> Bytes {
    let title = format!("{} {}", status.as_str(), reason_phrase(status));
    let lines = [
        "<html>",
        &format!("<head><title>{title}</title></head>"),
        "<body>",
        &format!("<center><h1>{title}</h1></center>"),
        "</body>",
        "</html>",
        "",
    ];
    Bytes::from(lines.join("\r\n"))
}

/// The phrase after the status, on pages and in status lines: ALB's wording, which is nginx's of old where that
/// differs from RFC 9110. For 460 and above ALB's wording is not known.
pub(crate) fn reason_phrase(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "Authorization Required",
        405 => "Not Allowed",
        408 => "Request Time-out",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Large",
        460 => "Client Closed Request",
        463 => "Too Many Forwarded Addresses",
        464 => "Incompatible Protocol Versions",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        561 => "Unauthorized",
        _ => status.canonical_reason().unwrap_or(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: [Error; 31] = [
        Error::TooManyRequests,
        Error::MalformedRequest("test"),
        Error::Desync,
        Error::MissingHost,
        Error::BodyIncomplete,
        Error::MethodNotAllowed,
        Error::RequestTimeout,
        Error::BodyTimeout,
        Error::BodyTooSlow,
        Error::HeadTooLarge,
        Error::UriTooLong,
        Error::ClientClosed,
        Error::TooManyForwardedAddresses,
        Error::ProtocolMismatch,
        Error::Internal,
        Error::TransferEncodingNotImplemented,
        Error::TargetRefused,
        Error::TargetUnreachable,
        Error::TargetClosed,
        Error::TargetReset,
        Error::TargetMalformedResponse,
        Error::TargetHeadTooLarge,
        Error::TargetTls,
        Error::TargetDeregistered,
        Error::ShuttingDown,
        Error::NoTargets,
        Error::ConnectTimeout,
        Error::TargetTlsTimeout,
        Error::TargetTimeout,
        Error::HttpVersionNotSupported,
        Error::RedirectTooLong,
    ];

    fn date() -> &'static [u8] {
        b"Fri, 02 Jan 2026 03:04:05 GMT"
    }

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).unwrap()
    }

    #[test]
    fn pages_are_as_long_as_albs() {
        for (code, length) in [
            (301, 134),
            (302, 110),
            (400, 122),
            (401, 144),
            (403, 118),
            (500, 142),
            (502, 122),
            (503, 162),
            (504, 132),
        ] {
            assert_eq!(page(status(code)).len(), length, "{code}");
        }
    }

    #[test]
    fn page_is_albs_to_the_byte() {
        assert_eq!(
            &page(status(503))[..],
            b"<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body>\r\n\
              <center><h1>503 Service Temporarily Unavailable</h1></center>\r\n</body>\r\n</html>\r\n"
        );
    }

    #[test]
    fn answer_has_albs_headers_in_albs_order() {
        let response = Error::NoTargets.into_response(Answer::Whole, date());
        let headers: Vec<_> = response
            .headers
            .iter()
            .map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii()))
            .collect();
        assert_eq!(
            headers,
            [
                "Server: awselb/2.0",
                "Date: Fri, 02 Jan 2026 03:04:05 GMT",
                "Content-Type: text/html",
                "Content-Length: 162",
            ]
        );
        assert!(matches!(response.body, Body::Full(body) if body.len() == 162));
    }

    #[test]
    fn head_is_told_the_length_and_given_no_body() {
        let response = Error::TargetTimeout.into_response(Answer::to(&Method::HEAD), date());
        assert_eq!(response.headers.line("content-length"), Some("132"));
        assert!(matches!(response.body, Body::Empty));
    }

    #[test]
    fn every_error_has_a_page_and_a_reason_of_its_own() {
        let mut reasons = std::collections::BTreeSet::new();
        for error in EVERY {
            let verdict = error.verdict();
            assert!((400..600).contains(&verdict.status.as_u16()), "{error}");
            assert_ne!(reason_phrase(verdict.status), "", "{error}");
            assert!(reasons.insert(verdict.reason), "{} twice", verdict.reason);
            assert!(
                verdict
                    .reason
                    .bytes()
                    .all(|byte| byte == b'_' || byte.is_ascii_lowercase())
            );
        }
    }

    #[test]
    fn blame_follows_the_status() {
        for error in EVERY {
            let verdict = error.verdict();
            let expected = match verdict.status.as_u16() {
                // ALB cuts what runs too long with the same status, whoever is to go.
                502 if error == Error::ShuttingDown => Blame::LoadBalancer,
                501 | 505 => Blame::Client,
                500 | 503 | 507 => Blame::LoadBalancer,
                502 | 504 => Blame::Target,
                _ => Blame::Client,
            };
            assert_eq!(verdict.blame, expected, "{error}");
        }
    }

    #[test]
    fn client_keeps_its_connection_when_only_the_target_failed() {
        for error in EVERY {
            let verdict = error.verdict();
            if verdict.blame == Blame::Target {
                assert_eq!(verdict.connection, ClientConnection::KeepAlive, "{error}");
            }
        }
        for error in [
            Error::MissingHost,
            Error::RequestTimeout,
            Error::HeadTooLarge,
            Error::UriTooLong,
        ] {
            assert_eq!(
                error.verdict().connection,
                ClientConnection::Close,
                "{error}"
            );
        }
    }
}
