//! Reads one cookie of a request or a response, where it lies. Never keeps a jar, never copies.

use std::fmt;

use crate::headers::{Headers, Name};

/// What a request carries under one cookie name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Nothing,
    /// Exactly one, as sent.
    One(&'a [u8]),
    /// More than one; which of them the application would take, nobody knows.
    Several,
}

/// How long it is: whoever knows a cookie is taken for its owner.
impl fmt::Debug for Found<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => formatter.write_str("Nothing"),
            Self::One(value) => write!(formatter, "One({} bytes)", value.len()),
            Self::Several => formatter.write_str("Several"),
        }
    }
}

/// Looks through all Cookie headers; HTTP/2 may send one for each cookie (RFC 9113 §8.2.3). Names differ by case
/// (RFC 6265 §4.1.1).
pub(crate) fn find<'a>(headers: &'a Headers, name: &str) -> Found<'a> {
    let lines = headers.all(Name::Cookie);
    let pairs = lines.flat_map(|line| line.split(|&byte| byte == b';'));
    let mut values = pairs.filter_map(|pair| {
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        let named = pair[..equals].trim_ascii() == name.as_bytes();
        named.then(|| pair[equals + 1..].trim_ascii())
    });
    match (values.next(), values.next()) {
        (None, _) => Found::Nothing,
        (Some(value), None) => Found::One(value),
        (Some(_), Some(_)) => Found::Several,
    }
}

/// Whether a response sets a cookie of this name, to whatever value (RFC 6265 §5.2).
pub(crate) fn is_set(headers: &Headers, name: &str) -> bool {
    headers.all(Name::SetCookie).any(|line| {
        let pair = line.split(|&byte| byte == b';').next();
        let mut halves = pair.unwrap_or_default().splitn(2, |&byte| byte == b'=');
        let named = halves.next().unwrap_or_default().trim_ascii();
        halves.next().is_some() && named == name.as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers<T: AsRef<[u8]>>(lines: &[T]) -> Headers {
        let mut headers = Headers::default();
        for line in lines {
            headers.append(Name::Cookie, line.as_ref());
        }
        headers
    }

    #[test]
    fn a_cookie_is_found_among_others_and_across_headers() {
        for lines in [
            &["a=1"][..],
            &["b=2; a=1; c=3"],
            &["b=2;a=1"],
            &["b=2", "a=1"],
            &["b=a=2; a=1"],
            &[" a = 1 ;"],
        ] {
            assert_eq!(find(&headers(lines), "a"), Found::One(b"1"), "{lines:?}");
        }
    }

    #[test]
    fn other_names_are_not_taken_for_it() {
        for lines in [
            &[][..],
            &["A=1"],
            &["aa=1"],
            &["a"],
            &["xa=1; =a"],
            &["b=\"; a\""],
        ] {
            assert_eq!(find(&headers(lines), "a"), Found::Nothing, "{lines:?}");
        }
    }

    #[test]
    fn a_name_given_twice_is_several() {
        assert_eq!(find(&headers(&["a=1; a=1"]), "a"), Found::Several);
        assert_eq!(find(&headers(&["a=1", "b=2; a=3"]), "a"), Found::Several);
    }

    #[test]
    fn a_response_sets_a_cookie_whatever_its_value() {
        let sets = |lines: &[&'static str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("set-cookie", *line)).collect();
            is_set(&Headers::for_test(&lines), "SID")
        };
        for line in [
            "SID=1",
            "SID=; Max-Age=0",
            " SID = a=b ;Path=/",
            "SID=\"x;y\"",
        ] {
            assert!(sets(&["a=b", line]), "{line}");
        }
        for line in [
            "sid=1",
            "SIDE=1",
            "a=SID",
            "a=b; SID=1",
            "SID",
            "SID; a=b",
            "=SID",
            "",
        ] {
            assert!(!sets(&["a=b", line]), "{line}");
        }
        assert!(!sets(&[]));
    }

    #[test]
    fn a_value_is_not_printed() {
        let found = format!("{:?}", find(&headers(&["a=secret"]), "a"));
        assert_eq!(found, "One(6 bytes)");
    }

    #[test]
    fn values_keep_their_equals_signs() {
        assert_eq!(find(&headers(&["a=b=c=="]), "a"), Found::One(b"b=c=="));
    }

    proptest! {
        #[test]
        fn a_cookie_is_found_wherever_it_stands(
            before in "([b-z]{1,5}=[a-z=]{0,5}; ?){0,5}", value in "[!-:<-~]{0,20}", after in "(; [b-z]{1,3}=x){0,5}",
        ) {
            let line = format!("{before}a={value}{after}");
            let headers = headers(&[line]);
            prop_assert_eq!(find(&headers, "a"), Found::One(value.as_bytes()));
        }

        #[test]
        fn any_bytes_are_looked_through(line in prop::collection::vec(any::<u8>(), 0..60)) {
            let line: Vec<u8> = line.into_iter().filter(|byte| !byte.is_ascii_control()).collect();
            find(&headers(&[line]), "a");
        }
    }
}
