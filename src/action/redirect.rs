//! Sends the client elsewhere: the request's own URL with the parts that the configuration replaces.
//! Never puts anything of the request on the page, nor a byte into Location that could end it.

use bytes::Bytes;
use http::StatusCode;

use crate::headers::Name;
use crate::message::{Answer, HTML, own_response, page};
use crate::message::{Client, Error, Request, Response};
use crate::model;

/// Longest Location, in bytes; ALB answers 507 beyond 8 K.
const LOCATION_SIZE_MAX: usize = 8 * 1024;

/// A redirect whose templates are taken apart and whose page is written.
#[derive(Clone, Debug)]
pub(crate) struct Redirect {
    protocol: Option<model::Protocol>,
    host: Template,
    port: Option<u16>,
    path: Template,
    query: Template,
    status: StatusCode,
    page: Bytes,
}

impl Redirect {
    pub(crate) fn build(redirect: &model::Redirect) -> Self {
        let status = match redirect.status_code {
            model::RedirectStatus::MovedPermanently => StatusCode::MOVED_PERMANENTLY,
            model::RedirectStatus::Found => StatusCode::FOUND,
        };
        Self {
            protocol: redirect.protocol,
            host: Template::parse(redirect.host.as_deref().unwrap_or("#{host}")),
            port: redirect.port,
            path: Template::parse(redirect.path.as_deref().unwrap_or("/#{path}")),
            query: Template::parse(redirect.query.as_deref().unwrap_or("#{query}")),
            status,
            page: page(status),
        }
    }

    pub(crate) fn respond(
        &self,
        request: &Request,
        client: &Client,
        date: &[u8],
    ) -> Result<Response, Error> {
        let location = self.location(request, client)?;
        let answer = Answer::to(&request.method);
        let mut response = own_response(self.status, HTML, &self.page, answer, date);
        response.headers.append(Name::Location, &location);
        Ok(response)
    }

    /// ALB always names the port, also where it is the scheme's own.
    fn location(&self, request: &Request, client: &Client) -> Result<Vec<u8>, Error> {
        let asked = Asked::of(request, client)?;
        let mut location = Vec::with_capacity(request.target().len() + 128);
        let protocol = match self.protocol {
            Some(model::Protocol::Http) => "http",
            Some(model::Protocol::Https) => "https",
            None => asked.protocol,
        };
        location.extend_from_slice(protocol.as_bytes());
        location.extend_from_slice(b"://");
        self.host.write(&asked, &mut location);
        location.push(b':');
        write_port(self.port.unwrap_or(asked.port), &mut location);
        self.path.write(&asked, &mut location);
        let path_end = location.len();
        location.push(b'?');
        self.query.write(&asked, &mut location);
        if location.len() == path_end + 1 {
            location.truncate(path_end);
        }
        if location.len() > LOCATION_SIZE_MAX {
            return Err(Error::RedirectTooLong);
        }
        if location.iter().any(|byte| byte.is_ascii_control()) {
            return Err(Error::MalformedRequest("bytes that no header can hold"));
        }
        Ok(location)
    }
}

/// The URL that was asked for, in the pieces that placeholders name.
struct Asked<'a> {
    protocol: &'static str,
    host: Host<'a>,
    port: u16,
    /// Without its leading slash.
    path: &'a [u8],
    query: &'a [u8],
}

enum Host<'a> {
    Named(&'a [u8]),
    /// HTTP/1.0 without Host: the address the client came to is the one name it surely reaches us by.
    Address(std::net::IpAddr),
}

impl<'a> Asked<'a> {
    fn of(request: &'a Request, client: &Client) -> Result<Self, Error> {
        let host = match request.host() {
            b"" => Host::Address(client.local.ip().to_canonical()),
            named if named.iter().all(|&byte| is_host_byte(byte)) => Host::Named(named),
            _ => return Err(Error::MalformedRequest("host")),
        };
        Ok(Self {
            protocol: client.scheme(),
            host,
            port: client.local.port(),
            // The path of `OPTIONS *` is none.
            path: request.path().strip_prefix(b"/").unwrap_or_default(),
            query: request.query().unwrap_or_default(),
        })
    }
}

/// RFC 3986 §3.2.2 without percent-encoding of anything odd: a host of other bytes (`/`, `@`, `\`) would make the
/// client read another URL out of Location than we wrote.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

/// Text with holes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Template(Box<[Piece]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    Protocol,
    Host,
    Port,
    Path,
    Query,
}

impl Template {
    /// Which placeholder may stand where was settled when the configuration was read; unknown ones are text.
    fn parse(text: &str) -> Self {
        const PLACEHOLDERS: [(&str, Piece); 5] = [
            ("#{protocol}", Piece::Protocol),
            ("#{host}", Piece::Host),
            ("#{port}", Piece::Port),
            ("#{path}", Piece::Path),
            ("#{query}", Piece::Query),
        ];
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((at, name, piece)) = PLACEHOLDERS
            .iter()
            .filter_map(|(name, piece)| Some((rest.find(name)?, name, piece)))
            .min_by_key(|(at, ..)| *at)
        {
            if at > 0 {
                pieces.push(Piece::Literal(rest[..at].into()));
            }
            pieces.push(piece.clone());
            rest = &rest[at + name.len()..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.into()));
        }
        Self(pieces.into())
    }

    fn write(&self, asked: &Asked<'_>, location: &mut Vec<u8>) {
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => location.extend_from_slice(text.as_bytes()),
                Piece::Protocol => location.extend_from_slice(asked.protocol.as_bytes()),
                Piece::Host => write_host(&asked.host, location),
                Piece::Port => write_port(asked.port, location),
                Piece::Path => location.extend_from_slice(asked.path),
                Piece::Query => location.extend_from_slice(asked.query),
            }
        }
    }
}

fn write_host(host: &Host<'_>, location: &mut Vec<u8>) {
    match host {
        Host::Named(name) => location.extend_from_slice(name),
        Host::Address(std::net::IpAddr::V6(address)) => {
            location.extend_from_slice(format!("[{address}]").as_bytes());
        }
        Host::Address(address) => location.extend_from_slice(address.to_string().as_bytes()),
    }
}

fn write_port(port: u16, location: &mut Vec<u8>) {
    location.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Body, TlsFacts};

    /// Keeps everything; tests replace what they are about.
    const SAME: model::Redirect = model::Redirect {
        protocol: None,
        host: None,
        port: None,
        path: None,
        query: None,
        status_code: model::RedirectStatus::MovedPermanently,
    };

    fn client(local: &str) -> Client {
        Client {
            peer: "198.51.100.7:1000".parse().unwrap(),
            local: local.parse().unwrap(),
            tls: None,
        }
    }

    fn date() -> &'static [u8] {
        b"Fri, 02 Jan 2026 03:04:05 GMT"
    }

    fn respond(redirect: &model::Redirect, request: &Request) -> Result<Response, Error> {
        Redirect::build(redirect).respond(request, &client("192.0.2.1:80"), date())
    }

    fn location(
        redirect: &model::Redirect,
        target: &'static str,
        authority: &'static str,
    ) -> String {
        let response = respond(redirect, &Request::for_test(target, authority, &[])).unwrap();
        response.headers.line("Location").unwrap().to_owned()
    }

    fn to_https() -> model::Redirect {
        model::Redirect {
            protocol: Some(model::Protocol::Https),
            port: Some(443),
            ..SAME
        }
    }

    #[test]
    fn http_becomes_https_with_an_explicit_port() {
        let to_https = to_https();
        assert_eq!(location(&to_https, "/", "a.com"), "https://a.com:443/");
        assert_eq!(
            location(&to_https, "/x/y?a=1&b", "a.com:8080"),
            "https://a.com:443/x/y?a=1&b"
        );
        assert_eq!(
            location(&to_https, "/x", "[2001:db8::1]:80"),
            "https://[2001:db8::1]:443/x"
        );
    }

    #[test]
    fn parts_left_out_are_the_requests_own() {
        let elsewhere = model::Redirect {
            host: Some("b.com".into()),
            ..SAME
        };
        assert_eq!(
            location(&elsewhere, "/x?q", "a.com:9"),
            "http://b.com:80/x?q"
        );
        let mut https = client("192.0.2.1:8443");
        https.tls = Some(TlsFacts {
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
            server_name: None,
        });
        let response = Redirect::build(&elsewhere)
            .respond(&Request::for_test("/", "a.com", &[]), &https, date())
            .unwrap();
        assert_eq!(
            response.headers.line("Location"),
            Some("https://b.com:8443/")
        );
    }

    #[test]
    fn placeholders_are_replaced_and_path_comes_without_its_slash() {
        let all = model::Redirect {
            host: Some("www.#{host}".into()),
            path: Some("/#{host}/#{port}/#{path}/#{unknown}".into()),
            query: Some("from=#{protocol}-#{host}-#{port}-#{path}&#{query}".into()),
            ..SAME
        };
        assert_eq!(
            location(&all, "/x/y?q=1", "a.com"),
            "http://www.a.com:80/a.com/80/x/y/#{unknown}?from=http-a.com-80-x/y&q=1"
        );
    }

    #[test]
    fn empty_query_leaves_no_question_mark() {
        let to_https = to_https();
        assert_eq!(location(&to_https, "/x?", "a.com"), "https://a.com:443/x");
        let without = model::Redirect {
            query: Some("".into()),
            ..to_https
        };
        assert_eq!(location(&without, "/x?q=1", "a.com"), "https://a.com:443/x");
    }

    #[test]
    fn request_without_host_is_sent_to_the_address_it_came_to() {
        let request = Request::for_test("/x", "", &[]);
        for (local, expected) in [
            ("192.0.2.1:80", "https://192.0.2.1:443/x"),
            ("[::ffff:192.0.2.1]:80", "https://192.0.2.1:443/x"),
            ("[2001:db8::1]:80", "https://[2001:db8::1]:443/x"),
        ] {
            let response = Redirect::build(&to_https()).respond(&request, &client(local), date());
            assert_eq!(response.unwrap().headers.line("Location"), Some(expected));
        }
    }

    #[test]
    fn answer_is_albs() {
        let mut request = Request::for_test("/", "a.com", &[]);
        let response = respond(&to_https(), &request).unwrap();
        assert_eq!(response.status, StatusCode::MOVED_PERMANENTLY);
        let headers: Vec<_> = response
            .headers
            .iter()
            .map(|(name, value)| {
                (
                    str::from_utf8(name).unwrap(),
                    str::from_utf8(value).unwrap(),
                )
            })
            .collect();
        assert_eq!(
            headers,
            [
                ("Server", "awselb/2.0"),
                ("Date", "Fri, 02 Jan 2026 03:04:05 GMT"),
                ("Content-Type", "text/html"),
                ("Content-Length", "134"),
                ("Location", "https://a.com:443/"),
            ]
        );
        request.method = Method::HEAD;
        let found = model::Redirect {
            status_code: model::RedirectStatus::Found,
            ..to_https()
        };
        let response = respond(&found, &request).unwrap();
        assert_eq!(response.headers.line("Content-Length"), Some("110"));
        assert!(matches!(response.body, Body::Empty));
    }

    #[test]
    fn location_past_8_kib_is_refused() {
        let request = Request::for_test("/", "a.com", &[]);
        let fitting = LOCATION_SIZE_MAX - "https://a.com:443".len();
        let request = request.asks(format!("/{}", "x".repeat(fitting - 1)).as_bytes(), b"a.com");
        assert!(respond(&to_https(), &request).is_ok());
        let request = request.asks(format!("/{}", "x".repeat(fitting)).as_bytes(), b"a.com");
        assert_eq!(
            respond(&to_https(), &request).unwrap_err(),
            Error::RedirectTooLong
        );
    }

    #[test]
    fn nothing_in_a_request_ends_the_header_or_the_host() {
        for authority in ["a.com/x", "a@b.com", "a.com\\x", "a.com#", "a b"] {
            let request = Request::for_test("/", authority, &[]);
            assert!(
                matches!(
                    respond(&to_https(), &request),
                    Err(Error::MalformedRequest(_))
                ),
                "{authority}"
            );
        }
        let request = Request::for_test("/a\r\nSet-Cookie: x", "a.com", &[]);
        assert!(matches!(
            respond(&to_https(), &request),
            Err(Error::MalformedRequest(_))
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer_or_an_error(target: Vec<u8>, authority: Vec<u8>) {
            let request = Request::for_test("/", "", &[]).asks(&target, &authority);
            if let Ok(response) = respond(&to_https(), &request) {
                prop_assert!(response.headers.get(Name::Location).unwrap().starts_with(b"https://"));
            }
        }
    }
}
