//! Answers with what the configuration says. Never looks at the request beyond its method.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use crate::headers::Name;
use crate::message::{Answer, own_response};
use crate::message::{Request, Response};
use crate::model;

/// A fixed answer, made once.
#[derive(Clone, Debug)]
pub(crate) struct FixedResponse {
    status: StatusCode,
    content_type: Box<str>,
    content: Bytes,
}

/// Where the configuration names no media type.
const TEXT: &str = "text/plain";

impl FixedResponse {
    pub(crate) fn build(fixed: &model::FixedResponse) -> Self {
        let media_type = fixed.content_type.unwrap_or(TEXT);
        let content = match &fixed.message_body {
            Some(body) if may_have_content(fixed.status_code) => {
                Bytes::from_owner(Text(Arc::clone(body)))
            }
            _ => Bytes::new(),
        };
        Self {
            status: StatusCode::from_u16(fixed.status_code)
                .expect("a fixed response has a status of 200 to 599"),
            content_type: format!("{media_type}; charset=utf-8").into(),
            content,
        }
    }

    pub(crate) fn respond(&self, request: &Request, date: &[u8]) -> Response {
        let answer = Answer::to(&request.method);
        let mut response =
            own_response(self.status, &self.content_type, &self.content, answer, date);
        if self.status == StatusCode::NO_CONTENT {
            // RFC 9110 §8.6: not even a length of nothing.
            response.headers.remove(Name::ContentLength);
        }
        response
    }
}

/// RFC 9110 §15.3.5, §15.3.6: these two end with their head.
fn may_have_content(status_code: u16) -> bool {
    !matches!(status_code, 204 | 205)
}

/// Shares the configuration's text instead of copying it.
struct Text(Arc<str>);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::message::Body;

    fn respond(
        status_code: u16,
        content_type: Option<&'static str>,
        message_body: Option<&str>,
        method: Method,
    ) -> (Vec<String>, Body) {
        let fixed = FixedResponse::build(&model::FixedResponse {
            status_code,
            content_type,
            message_body: message_body.map(Into::into),
        });
        let mut request = Request::for_test("/", "a.com", &[]);
        request.method = method;
        let date = b"Fri, 02 Jan 2026 03:04:05 GMT";
        let response = fixed.respond(&request, date);
        assert_eq!(response.status.as_u16(), status_code);
        let headers = response.headers.iter();
        let headers = headers.map(|(name, value)| {
            let name = name.to_ascii_lowercase();
            format!("{}: {}", name.escape_ascii(), value.escape_ascii())
        });
        (headers.collect(), response.body)
    }

    #[test]
    fn answer_is_as_written_with_albs_headers() {
        let (headers, body) = respond(410, Some("text/html"), Some("gone"), Method::POST);
        assert_eq!(
            headers,
            [
                "server: awselb/2.0",
                "date: Fri, 02 Jan 2026 03:04:05 GMT",
                "content-type: text/html; charset=utf-8",
                "content-length: 4",
            ]
        );
        assert!(matches!(body, Body::Full(content) if content == "gone"));
    }

    #[test]
    fn head_is_told_the_length_alone() {
        let (headers, body) = respond(200, Some("application/json"), Some("{}"), Method::HEAD);
        assert_eq!(headers[3], "content-length: 2");
        assert!(matches!(body, Body::Empty));
    }

    #[test]
    fn no_body_is_a_length_of_zero() {
        let (headers, body) = respond(503, None, None, Method::GET);
        assert_eq!(
            headers[2..],
            [
                "content-type: text/plain; charset=utf-8",
                "content-length: 0"
            ]
        );
        assert!(matches!(body, Body::Empty));
    }

    #[test]
    fn no_content_means_none() {
        let (headers, body) = respond(204, None, Some("ignored"), Method::GET);
        assert!(
            !headers
                .iter()
                .any(|header| header.starts_with("content-length"))
        );
        assert!(matches!(body, Body::Empty));
        let (headers, body) = respond(205, None, Some("ignored"), Method::GET);
        assert_eq!(headers[3], "content-length: 0");
        assert!(matches!(body, Body::Empty));
    }
}
