//! Headers as HTTP/2's library knows them, and back.

use bytes::Bytes;
use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, SERVER,
    SET_COOKIE,
};

use super::{Headers, Name, Names};

impl Headers {
    /// What came by HTTP/2.
    pub(crate) fn of_map(map: &HeaderMap) -> Self {
        let mut headers = Self::default();
        for (name, value) in map {
            let text = name.as_str().as_bytes();
            match Name::find(text) {
                // Toward targets ALB writes these in mixed case, everything else as it came.
                Some(
                    known @ (Name::XForwardedFor
                    | Name::XForwardedPort
                    | Name::XForwardedProto
                    | Name::XAmznTraceId),
                ) => headers.append(known, value.as_bytes()),
                _ => headers.append_named(text, value.as_bytes()),
            }
        }
        headers
    }

    /// What goes by HTTP/2, without the names in `except`; names in lower case (RFC 9113 §8.2). A field that the map
    /// cannot hold is left out; none is known.
    pub(crate) fn to_map(&self, except: Names) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.len());
        let Some(block) = self.0.as_deref() else {
            return map;
        };
        // One copy; every value is a slice of it.
        let text = Bytes::copy_from_slice(&block.text);
        let fields = block.fields.iter();
        for field in fields.filter(|field| !field.name.is_some_and(|name| except.has(name))) {
            let value =
                text.slice(field.value_at as usize..(field.value_at + field.value_len) as usize);
            let name = match field.name.and_then(usual) {
                Some(name) => Ok(name),
                None => HeaderName::from_bytes(field.name(&block.text)),
            };
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(value)) {
                let _ = map.try_append(name, value);
            }
        }
        map
    }

    /// Bytes of names and values.
    pub(crate) fn size(&self) -> u64 {
        let sizes = self.iter().map(|(name, value)| name.len() + value.len());
        sizes.sum::<usize>() as u64
    }
}

/// Names of nearly every answer, which need not be looked up.
fn usual(name: Name) -> Option<HeaderName> {
    Some(match name {
        Name::ContentLength => CONTENT_LENGTH,
        Name::ContentType => CONTENT_TYPE,
        Name::Date => DATE,
        Name::Location => LOCATION,
        Name::Server => SERVER,
        Name::SetCookie => SET_COOKIE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_nothing_is_lost_but_capitals() {
        let headers = Headers::for_test(&[
            ("Host", "a"),
            ("X-One", "1"),
            ("x-one", "2"),
            ("X-\u{61}", ""),
        ]);
        let map = headers.to_map(Names::of(&[Name::Host]));
        let back = Headers::of_map(&map);
        assert_eq!(back.lines("host"), [""; 0]);
        assert_eq!(back.lines("x-one"), ["1", "2"]);
        assert_eq!(back.line("x-a"), Some(""));
        assert!(
            back.iter()
                .all(|(name, _)| name.to_ascii_lowercase() == name)
        );
        assert_eq!(back.size(), 5 + 1 + 5 + 1 + 3);
    }
}
