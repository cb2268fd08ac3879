//! AWSALBAPP: keeps a client with its target for as long as a cookie of the application comes along. Reads no value
//! of the application's; whether its cookie is there is for others to see.

use super::{FOR_OTHER_SITES, Keys, Opened, Stays, attributes, sealed_cookie};
use crate::headers::{Headers, Name};
use crate::message::Request;
use crate::message::cookie::{self, Found};

/// ALB cuts a long value into up to four of 4 KB. Ours has 300 letters at most, so the first holds all of it; the
/// others are only taken back from clients that come from an ALB.
const NAMES: [&str; 4] = ["AWSALBAPP-0", "AWSALBAPP-1", "AWSALBAPP-2", "AWSALBAPP-3"];

const PURPOSE: &[u8] = b"albedo AWSALBAPP";

/// What ALB writes over a value that it takes back. It means as much as no cookie.
const REMOVED: &str = "_remove_";

/// First version of Chromium that sends no cookie to other sites unless it is told SameSite=None.
const CHROMIUM_SAMESITE: u32 = 80;

/// Whether the page that asks is of the site that it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Site {
    Same,
    Other,
}

/// Reads what a client has.
pub(crate) fn open(keys: &Keys, headers: &Headers, now: u32) -> Opened {
    let [first, rest @ ..] = NAMES.map(|name| match cookie::find(headers, name) {
        Found::One(value) if value == REMOVED.as_bytes() => Found::Nothing,
        found => found,
    });
    match super::open(keys, PURPOSE, first, now) {
        Opened::Nothing if rest.iter().any(|found| *found != Found::Nothing) => Opened::Unusable,
        opened => opened,
    }
}

/// The Set-Cookie value that keeps the client of `request` where `stays` says. `None` if the system gives no random
/// numbers.
pub(crate) fn seal(keys: &Keys, stays: &Stays, now: u32, request: &Request) -> Option<String> {
    let mut cookie = sealed_cookie(keys, NAMES[0], PURPOSE, stays, now)?;
    // ALB tells Chromium alone: Safari on iOS 12 takes SameSite=None for Strict.
    if site(request) == Site::Other && chromium(&request.headers) >= Some(CHROMIUM_SAMESITE) {
        cookie.push_str(FOR_OTHER_SITES);
    }
    Some(cookie)
}

/// The Set-Cookie values that take back what a client has.
pub(crate) fn removal(now: u32) -> impl Iterator<Item = String> {
    NAMES.into_iter().filter_map(move |name| {
        let mut cookie = format!("{name}={REMOVED}");
        attributes(&mut cookie, now)?;
        Some(cookie)
    })
}

/// By Origin, which browsers send with every request that CORS is about. That of a page of ours names us.
fn site(request: &Request) -> Site {
    let Some(origin) = request.headers.get(Name::Origin) else {
        return Site::Same;
    };
    let scheme_end = origin.windows(3).position(|three| three == b"://");
    let authority = scheme_end.map(|at| &origin[at + 3..]);
    match authority.is_some_and(|authority| authority.eq_ignore_ascii_case(request.authority())) {
        true => Site::Same,
        false => Site::Other,
    }
}

/// The version of Chromium that the client is, or is made of.
fn chromium(headers: &Headers) -> Option<u32> {
    let agent = str::from_utf8(headers.get(Name::UserAgent)?).ok()?;
    let mut products = agent.split_ascii_whitespace();
    let version = products.find_map(|product| {
        let chrome = product.strip_prefix("Chrome/");
        chrome.or_else(|| product.strip_prefix("Chromium/"))
    })?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::target::stickiness::{Mark, Pair};

    /// 2026-01-02T03:04:05Z
    const NOW: u32 = 1_767_323_045;

    fn keys() -> Keys {
        Keys::of(&[[1; 32]])
    }

    fn stays() -> Stays {
        let mut stays = Stays::default();
        let mark = Mark::of_group(&"web".parse().unwrap());
        stays.renew(mark, Duration::from_secs(60), NOW, |_| true);
        stays
    }

    fn opened(cookies: &str) -> Opened {
        let headers = Headers::for_test(&[("Cookie", cookies)]);
        open(&keys(), &headers, NOW)
    }

    fn sealed(headers: &[(&str, &str)]) -> String {
        let request = Request::for_test("/", "web.example:8443", headers);
        seal(&keys(), &stays(), NOW, &request).unwrap()
    }

    fn sealed_value() -> String {
        let cookie = sealed(&[]);
        let (_, value) = cookie.split_once('=').unwrap();
        value.split_once(';').unwrap().0.to_owned()
    }

    #[test]
    fn the_cookie_has_albs_attributes_and_leads_back() {
        let cookie = sealed(&[]);
        let rest = cookie.strip_prefix("AWSALBAPP-0=").unwrap();
        let (value, attributes) = rest.split_at(76);
        assert_eq!(
            attributes,
            "; Expires=Fri, 09 Jan 2026 03:04:05 GMT; Path=/"
        );
        let back = opened(&format!("AWSALBAPP-0={value}; AWSALBAPP-1=_remove_"));
        assert_eq!(back, Opened::Stays(stays()));
    }

    #[test]
    fn what_is_removed_counts_as_none_and_what_is_not_ours_as_unusable() {
        let value = sealed_value();
        let removed = "AWSALBAPP-0=_remove_; AWSALBAPP-1=_remove_";
        assert_eq!(opened(removed), Opened::Nothing);
        assert_eq!(opened("AWSALBAPP=1; AWSALBAPP-4=1"), Opened::Nothing);
        for cookies in [
            "AWSALBAPP-0=stale".to_owned(),
            "AWSALBAPP-3=stale".to_owned(),
            format!("AWSALBAPP-1={value}"),
            format!("AWSALBAPP-0={value}; AWSALBAPP-0={value}"),
        ] {
            assert_eq!(opened(&cookies), Opened::Unusable, "{cookies}");
        }
    }

    #[test]
    fn kinds_of_cookies_cannot_be_swapped() {
        let [pair, _] = Pair::Target.seal(&keys(), &stays(), NOW).unwrap();
        let pair = pair.replace("AWSALB=", "AWSALBAPP-0=");
        assert_eq!(opened(pair.split(';').next().unwrap()), Opened::Unusable);
        let app = format!("AWSALB={}", sealed_value());
        let headers = Headers::for_test(&[("Cookie", &app)]);
        assert_eq!(Pair::Target.open(&keys(), &headers, NOW), Opened::Unusable);
    }

    #[test]
    fn removal_is_albs() {
        let removal: Vec<_> = removal(NOW).collect();
        assert_eq!(removal.len(), 4);
        assert_eq!(
            removal[3],
            "AWSALBAPP-3=_remove_; Expires=Fri, 09 Jan 2026 03:04:05 GMT; Path=/"
        );
    }

    #[test]
    fn chromium_is_told_same_site_none_when_another_site_asks() {
        let chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";
        let old = "Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) Ubuntu Chromium/79.0.1 Chrome/79.0.1 Safari/537.36";
        let new = "Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) Ubuntu Chromium/80.0.1 Chrome/80.0.1 Safari/537.36";
        let safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 12_0) AppleWebKit/605.1 (KHTML, like Gecko) Version/12.0 Mobile Safari/604.1";
        let elsewhere = "https://other.example";
        for (origin, agent, expected) in [
            (elsewhere, chrome, true),
            (elsewhere, new, true),
            ("null", chrome, true),
            ("https://web.example", chrome, true),
            ("https://WEB.example:8443", chrome, false),
            (elsewhere, old, false),
            (elsewhere, safari, false),
            (elsewhere, "Chrome/", false),
            (elsewhere, "Chrome/99999999999", false),
        ] {
            let cookie = sealed(&[("Origin", origin), ("User-Agent", agent)]);
            let told = cookie.ends_with("; Path=/; SameSite=None; Secure");
            assert_eq!(told, expected, "{origin} {agent}");
        }
        assert!(sealed(&[("User-Agent", chrome)]).ends_with("; Path=/"));
        assert!(sealed(&[("Origin", elsewhere)]).ends_with("; Path=/"));
    }

    proptest! {
        #[test]
        fn any_headers_are_taken(
            cookies in r"(AWSALBAPP-[0-4]=[ -~]{0,90}(; )?){0,6}", origin in "[ -~]{0,30}",
            agent in "(Chrom(e|ium)/)?[ -~]{0,20}",
        ) {
            prop_assert!(!matches!(opened(&cookies), Opened::Stays(_)));
            sealed(&[("Origin", origin.trim()), ("User-Agent", agent.trim())]);
        }
    }
}
