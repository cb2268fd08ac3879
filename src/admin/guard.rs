//! Whether a request may have been made by a web page that the operator happens to look at. Such a page can send
//! requests here and, where it makes its own name point here (DNS rebinding), read the answers.

use std::net::IpAddr;

use http::header::{HOST, HeaderMap, ORIGIN};
use http::uri::Authority;
use http::{Request, Version};

/// How a client came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    Network,
    /// Browsers cannot open a socket file, and its mode says who may.
    SocketFile,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("ask by address or as localhost: another name in Host is not answered")]
    ForeignHost,
    #[error("requests from pages of another origin are not answered")]
    ForeignOrigin,
}

/// Lets a request pass whose Host is no name that somebody else could own, and whose Origin, if any, is this door.
pub(super) fn check<B>(request: &Request<B>, entrance: Entrance) -> Result<(), Refusal> {
    if entrance == Entrance::SocketFile {
        return Ok(());
    }
    let headers = request.headers();
    if headers.get(HOST).is_none() && request.version() == Version::HTTP_10 {
        // Browsers always send Host; the simplest of health checks do not.
        return Ok(());
    }
    let host = only(headers, HOST).ok_or(Refusal::ForeignHost)?;
    // RFC 9112 §3.2.2: the authority of an absolute target overrides Host.
    let asked = request.uri().authority().unwrap_or(&host);
    if !is_ours(asked.host()) || !is_ours(host.host()) {
        return Err(Refusal::ForeignHost);
    }
    match headers.get(ORIGIN).map(|origin| origin.as_bytes()) {
        None => Ok(()),
        Some(origin) if origin.strip_prefix(b"http://") == Some(host.as_str().as_bytes()) => Ok(()),
        Some(_) => Err(Refusal::ForeignOrigin),
    }
}

/// An address cannot be made to point elsewhere, and `localhost` is nobody's.
fn is_ours(host: &str) -> bool {
    let literal = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    literal.unwrap_or(host).parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

fn only(headers: &HeaderMap, name: http::HeaderName) -> Option<Authority> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    match values.next() {
        None => Authority::try_from(value.as_bytes()).ok(),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = Request::get("/api/v1/status");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap(), Entrance::Network)
    }

    #[test]
    fn addresses_and_localhost_may_ask() {
        for host in [
            "127.0.0.1:9900",
            "localhost:9900",
            "LOCALHOST",
            "[::1]:9900",
            "10.0.0.5:9900",
        ] {
            assert_eq!(verdict(&[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_name_that_points_here_may_not_ask() {
        for host in [
            "evil.example:9900",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "",
            "a b",
        ] {
            assert_eq!(
                verdict(&[("host", host)]),
                Err(Refusal::ForeignHost),
                "{host}"
            );
        }
        assert_eq!(verdict(&[]), Err(Refusal::ForeignHost));
        assert_eq!(
            verdict(&[("host", "127.0.0.1"), ("host", "evil.example")]),
            Err(Refusal::ForeignHost)
        );
    }

    #[test]
    fn an_absolute_target_does_not_hide_a_foreign_host() {
        let request = Request::get("http://evil.example/metrics").header("host", "127.0.0.1");
        let request = request.body(()).unwrap();
        assert_eq!(
            check(&request, Entrance::Network),
            Err(Refusal::ForeignHost)
        );
    }

    #[test]
    fn only_pages_of_this_door_may_ask() {
        let from = |origin| verdict(&[("host", "127.0.0.1:9900"), ("origin", origin)]);
        assert_eq!(from("http://127.0.0.1:9900"), Ok(()));
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:9901",
            "https://127.0.0.1:9900",
        ] {
            assert_eq!(from(origin), Err(Refusal::ForeignOrigin), "{origin}");
        }
    }

    #[test]
    fn a_socket_file_asks_no_questions() {
        let request = Request::get("/")
            .header("host", "whatever")
            .body(())
            .unwrap();
        assert_eq!(check(&request, Entrance::SocketFile), Ok(()));
    }

    #[test]
    fn the_oldest_clients_need_no_host() {
        let request = Request::get("/healthz")
            .version(Version::HTTP_10)
            .body(())
            .unwrap();
        assert_eq!(check(&request, Entrance::Network), Ok(()));
    }
}
