//! Whether a request may have been made by a web page that the operator happens to look at. Such a page can send
//! requests here and, where it makes its own name point here (DNS rebinding), read the answers.

use std::net::IpAddr;

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use http::uri::Authority;
use http::{Request, Version};

use super::token::Token;

/// Where the page stands that makes a browser ask (Fetch Metadata Request Headers §2.3); browsers let no page write it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How a client came in.
#[derive(Clone, Debug)]
pub(super) enum Entrance {
    /// And the token that it has to bring.
    Network(Option<Token>),
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
    #[error("this address wants a token; name it in {}", super::token::VARIABLE)]
    NoToken,
}

/// Lets a request pass whose Host is no name that somebody else could own, and that comes from no page but of this door,
/// if from any.
pub(super) fn check<B>(request: &Request<B>, entrance: &Entrance) -> Result<(), Refusal> {
    match entrance {
        Entrance::SocketFile => Ok(()),
        Entrance::Network(token) => {
            check_page(request)?;
            // Who knows the token is no page that had a name point here, and may call the address by any name.
            match token {
                Some(token) if token.opens_for(request) => Ok(()),
                _ => check_host(request),
            }
        }
    }
}

/// Lets a request pass that brings the token, where there is one.
pub(super) fn check_token<B>(request: &Request<B>, entrance: &Entrance) -> Result<(), Refusal> {
    match entrance {
        Entrance::Network(Some(token)) if !token.opens_for(request) => Err(Refusal::NoToken),
        Entrance::Network(_) | Entrance::SocketFile => Ok(()),
    }
}

fn check_page<B>(request: &Request<B>) -> Result<(), Refusal> {
    let headers = request.headers();
    // `none`: a person wrote the address.
    let ours = |site: &HeaderValue| site == "same-origin" || site == "none";
    if !headers.get_all(SEC_FETCH_SITE).iter().all(ours) {
        return Err(Refusal::ForeignOrigin);
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(());
    };
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    match origin.as_bytes().strip_prefix(b"http://") == host {
        true => Ok(()),
        false => Err(Refusal::ForeignOrigin),
    }
}

fn check_host<B>(request: &Request<B>) -> Result<(), Refusal> {
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
    Ok(())
}

/// An address cannot be made to point elsewhere, and `localhost` is nobody's.
fn is_ours(host: &str) -> bool {
    let literal = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    literal.unwrap_or(host).parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

fn only(headers: &HeaderMap, name: HeaderName) -> Option<Authority> {
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
        check(&request.body(()).unwrap(), &Entrance::Network(None))
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
            check(&request, &Entrance::Network(None)),
            Err(Refusal::ForeignHost)
        );
    }

    #[test]
    fn a_page_elsewhere_may_not_ask_though_it_hides_its_origin() {
        let from = |sites: &[&str]| {
            let sites = sites.iter().map(|site| ("sec-fetch-site", *site));
            let headers: Vec<_> = [("host", "127.0.0.1:9900")]
                .into_iter()
                .chain(sites)
                .collect();
            verdict(&headers)
        };
        assert_eq!(from(&["same-origin"]), Ok(()));
        assert_eq!(from(&["none"]), Ok(()));
        for sites in [
            &["cross-site"][..],
            // Another port of the same machine.
            &["same-site"],
            &["none", "cross-site"],
            &["something new"],
        ] {
            assert_eq!(from(sites), Err(Refusal::ForeignOrigin), "{sites:?}");
        }
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
        assert_eq!(check(&request, &Entrance::SocketFile), Ok(()));
    }

    #[test]
    fn the_oldest_clients_need_no_host() {
        let request = Request::get("/healthz")
            .version(Version::HTTP_10)
            .body(())
            .unwrap();
        assert_eq!(check(&request, &Entrance::Network(None)), Ok(()));
    }
}
