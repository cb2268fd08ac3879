//! Keeps a client where it is by ALB's cookies. The cookies are the only memory: they are sealed, so nobody can read
//! or make one, and any process with the same keys can open them.
//! Never decides whether a target is eligible, and an unusable cookie is never an error.

pub(crate) mod app;
pub(crate) mod key_file;
mod keys;
mod mark;
mod ring;
mod sealed;
mod stays;

pub(crate) use keys::Keys;
pub(crate) use mark::Mark;
pub(crate) use ring::{KeyRing, SPREAD};
pub(crate) use stays::Stays;

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use httpdate::HttpDate;

use crate::headers::Headers;
use crate::message::cookie::{self, Found};

/// What a browser is told, whatever duration is configured (ALB user guide, "Sticky sessions").
const EXPIRES_AFTER: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Room for a cookie that remembers two places, attributes included.
const COOKIE_SIZE: usize = 256;

/// What a pair of cookies is for. Each kind has a purpose of its own that is bound to every seal, so that no kind
/// passes for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pair {
    /// Keeps a client with its target: AWSALB.
    Target,
    /// Keeps a client with one group of a weighted forward: AWSALBTG.
    Group,
}

/// What a request's cookies say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// No such cookie came.
    Nothing,
    /// What came is forged, foreign, given twice or too long: nothing to go by.
    Unusable,
    /// What came is ours; of stays that have expired nothing is left.
    Stays(Stays),
}

impl Pair {
    fn name(self) -> &'static str {
        match self {
            Self::Target => "AWSALB",
            Self::Group => "AWSALBTG",
        }
    }

    /// The same cookie for requests from other sites, where browsers ask for SameSite=None.
    fn cors_name(self) -> &'static str {
        match self {
            Self::Target => "AWSALBCORS",
            Self::Group => "AWSALBTGCORS",
        }
    }

    fn purpose(self) -> &'static [u8] {
        match self {
            Self::Target => b"albedo AWSALB",
            Self::Group => b"albedo AWSALBTG",
        }
    }

    /// Reads what a client has of the two. As with ALB the CORS one goes first; but where it is of no use, the other
    /// one is taken: a browser may have got only one of them renewed.
    pub(crate) fn open(self, keys: &Keys, headers: &Headers, now: u32) -> Opened {
        let open = |name| open(keys, self.purpose(), cookie::find(headers, name), now);
        let cors = open(self.cors_name());
        if matches!(&cors, Opened::Stays(stays) if !stays.is_empty()) {
            return cors;
        }
        match open(self.name()) {
            Opened::Nothing => cors,
            plain => plain,
        }
    }

    /// The two Set-Cookie values that keep a client where `stays` says, to be sent with every response. `None` if the
    /// system gives no random numbers: a response without them is better than none.
    pub(crate) fn seal(self, keys: &Keys, stays: &Stays, now: u32) -> Option<[String; 2]> {
        let plain = sealed_cookie(keys, self.name(), self.purpose(), stays, now)?;
        let mut cors = String::with_capacity(COOKIE_SIZE);
        cors.push_str(self.cors_name());
        cors.push_str(&plain[self.name().len()..]);
        cors.push_str(FOR_OTHER_SITES);
        Some([plain, cors])
    }
}

impl Opened {
    /// The stays, if there are any.
    pub(crate) fn into_stays(self) -> Stays {
        match self {
            Self::Stays(stays) => stays,
            Self::Nothing | Self::Unusable => Stays::default(),
        }
    }
}

const FOR_OTHER_SITES: &str = "; SameSite=None; Secure";

fn open(keys: &Keys, purpose: &[u8], found: Found<'_>, now: u32) -> Opened {
    let value = match found {
        Found::Nothing => return Opened::Nothing,
        Found::One(value) => value,
        Found::Several => return Opened::Unusable,
    };
    match sealed::open(keys, purpose, value) {
        Some(mut stays) => {
            stays.expire(now);
            Opened::Stays(stays)
        }
        None => Opened::Unusable,
    }
}

/// `NAME=VALUE` and the attributes that all of ALB's cookies have.
fn sealed_cookie(
    keys: &Keys,
    name: &str,
    purpose: &[u8],
    stays: &Stays,
    now: u32,
) -> Option<String> {
    let mut cookie = String::with_capacity(COOKIE_SIZE);
    cookie.push_str(name);
    cookie.push('=');
    sealed::seal(keys, purpose, stays, &mut cookie)?;
    attributes(&mut cookie, now)?;
    Some(cookie)
}

fn attributes(cookie: &mut String, now: u32) -> Option<()> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.into());
    let expires = HttpDate::from(now + EXPIRES_AFTER);
    write!(cookie, "; Expires={expires}; Path=/").ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    /// 2026-01-02T03:04:05Z
    const NOW: u32 = 1_767_323_045;

    const PAIRS: [Pair; 2] = [Pair::Target, Pair::Group];

    fn keys(newest: u8) -> Keys {
        Keys::of(&[[newest; 32]])
    }

    fn mark(group: &str) -> Mark {
        Mark::of_group(&group.parse().unwrap())
    }

    fn stays(group: &str) -> Stays {
        let mut stays = Stays::default();
        stays.renew(mark(group), DAY, NOW, |_| true);
        stays
    }

    /// The value alone.
    fn sealed(keys: &Keys, pair: Pair, group: &str) -> String {
        let [cookie, _] = pair.seal(keys, &stays(group), NOW).unwrap();
        let text = cookie.as_str();
        let (_, value) = text.split_once('=').unwrap();
        value.split_once(';').unwrap().0.to_owned()
    }

    fn opened(keys: &Keys, pair: Pair, cookies: &str, now: u32) -> Opened {
        let headers = Headers::for_test(&[("Cookie", cookies)]);
        pair.open(keys, &headers, now)
    }

    #[test]
    fn both_cookies_of_a_pair_have_albs_attributes() {
        let keys = keys(1);
        for (pair, name) in [(Pair::Target, "AWSALB"), (Pair::Group, "AWSALBTG")] {
            let [plain, cors] = pair.seal(&keys, &stays("web"), NOW).unwrap();
            let (plain, cors) = (plain.as_str(), cors.as_str());
            let rest = plain.strip_prefix(name).unwrap();
            let (value, attributes) = rest.split_at("=".len() + 76);
            assert_eq!(
                attributes,
                "; Expires=Fri, 09 Jan 2026 03:04:05 GMT; Path=/"
            );
            let expected = format!("{name}CORS{value}{attributes}; SameSite=None; Secure");
            assert_eq!(cors, expected);
        }
    }

    #[test]
    fn either_cookie_of_a_pair_leads_back() {
        let keys = keys(1);
        for pair in PAIRS {
            let value = sealed(&keys, pair, "web");
            for name in [pair.name(), pair.cors_name()] {
                let opened = opened(&keys, pair, &format!("a=b; {name}={value}"), NOW);
                assert_eq!(opened, Opened::Stays(stays("web")), "{name}");
            }
        }
    }

    #[test]
    fn a_cookie_ends_with_its_duration() {
        let keys = keys(1);
        let cookie = format!("AWSALB={}", sealed(&keys, Pair::Target, "web"));
        let at = |now| opened(&keys, Pair::Target, &cookie, now).into_stays();
        assert_eq!(at(NOW + 86_399), stays("web"));
        assert!(at(NOW + 86_400).is_empty());
        // The clock of the process that sealed it runs ahead.
        assert_eq!(at(NOW - 5), stays("web"));
    }

    #[test]
    fn the_cors_cookie_wins_where_it_is_good() {
        let keys = keys(1);
        for pair in PAIRS {
            let (name, cors) = (pair.name(), pair.cors_name());
            let (one, other) = (sealed(&keys, pair, "one"), sealed(&keys, pair, "other"));
            let opened = |cookies: &str, now| opened(&keys, pair, cookies, now);
            let cookies = format!("{name}={one}; {cors}={other}");
            assert_eq!(opened(&cookies, NOW), Opened::Stays(stays("other")));
            for bad in [
                format!("{cors}=stale"),
                format!("{cors}="),
                format!("{cors}={other}; {cors}={other}"),
                format!("{cors}={}", "A".repeat(76)),
                format!("{cors}={}", "A".repeat(4000)),
            ] {
                let cookies = format!("{bad}; {name}={one}");
                assert_eq!(opened(&cookies, NOW), Opened::Stays(stays("one")), "{bad}");
                assert_eq!(opened(&bad, NOW), Opened::Unusable, "{bad}");
            }
        }
    }

    #[test]
    fn an_expired_cors_cookie_does_not_hide_the_other() {
        let keys = keys(1);
        let mut short = Stays::default();
        short.renew(mark("web"), Duration::from_secs(1), NOW, |_| true);
        let [_, cors] = Pair::Target.seal(&keys, &short, NOW).unwrap();
        let cors = cors.split(';').next().unwrap();
        let plain = sealed(&keys, Pair::Target, "web");
        let cookies = format!("AWSALB={plain}; {cors}");
        let opened = |cookies: &str| opened(&keys, Pair::Target, cookies, NOW + 1);
        assert_eq!(opened(&cookies), Opened::Stays(stays("web")));
        assert_eq!(opened(cors), Opened::Stays(Stays::default()));
    }

    #[test]
    fn what_is_given_twice_or_url_encoded_is_unusable() {
        let keys = keys(1);
        let value = sealed(&keys, Pair::Target, "web");
        for cookies in [
            format!("AWSALB={value}; AWSALB={value}"),
            format!("AWSALB=%41{}", &value[1..]),
            format!("AWSALB=\"{value}\""),
        ] {
            let opened = opened(&keys, Pair::Target, &cookies, NOW);
            assert_eq!(opened, Opened::Unusable, "{cookies}");
        }
        let none = opened(&keys, Pair::Target, &format!("awsalb={value}"), NOW);
        assert_eq!(none, Opened::Nothing);
    }

    #[test]
    fn kinds_of_cookies_cannot_be_swapped() {
        let keys = keys(1);
        let target = sealed(&keys, Pair::Target, "web");
        let swapped = opened(&keys, Pair::Group, &format!("AWSALBTG={target}"), NOW);
        assert_eq!(swapped, Opened::Unusable);
        let group = sealed(&keys, Pair::Group, "web");
        let swapped = opened(&keys, Pair::Target, &format!("AWSALB={group}"), NOW);
        assert_eq!(swapped, Opened::Unusable);
    }

    proptest! {
        #[test]
        fn any_cookies_are_opened_or_count_as_none(
            cookies in r"((AWSALB|AWSALBCORS|AWSALBTG|AWSALBTGCORS|a)=[ -~]{0,120}(; )?){0,6}", now: u32,
        ) {
            let keys = keys(1);
            for pair in PAIRS {
                let opened = opened(&keys, pair, &cookies, now);
                prop_assert!(matches!(opened, Opened::Nothing | Opened::Unusable));
            }
        }
    }
}
