//! How header names were spelled. `HeaderMap` keeps names in lower case; ALB keeps the client's spelling toward
//! HTTP/1.1 targets and so do we, both ways.

use http::header::{self, HeaderName};

/// Spellings of one head, in the order in which its names first came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Casing(Vec<(HeaderName, u64)>);

impl Casing {
    /// Remembers where `spelled`, a valid header name, has capitals. Names longer than 64 bytes lose them beyond.
    pub(crate) fn remember(&mut self, name: &HeaderName, spelled: &[u8]) {
        let capitals = capitals_of(spelled);
        if capitals != 0 {
            self.0.push((name.clone(), capitals));
        }
    }

    /// Forgets everything and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Writes `name` as it was spelled. `hint` is where to look first and moves on, so that writing headers in the
    /// order in which they came finds each at once.
    pub(crate) fn write(&self, name: &HeaderName, hint: &mut usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(name.as_str().as_bytes());
        let Some(mut capitals) = self.find(name, hint).or_else(|| well_known(name)) else {
            return;
        };
        while capitals != 0 {
            let at = start + capitals.trailing_zeros() as usize;
            if let Some(byte) = out.get_mut(at) {
                byte.make_ascii_uppercase();
            }
            capitals &= capitals - 1;
        }
    }

    fn find(&self, name: &HeaderName, hint: &mut usize) -> Option<u64> {
        let at = match self.0.get(*hint) {
            Some((known, _)) if known == name => *hint,
            _ => self.0.iter().position(|(known, _)| known == name)?,
        };
        *hint = at + 1;
        Some(self.0[at].1)
    }
}

/// Bit n is set where byte n is a capital.
fn capitals_of(spelled: &[u8]) -> u64 {
    let mut capitals = 0;
    for (at, byte) in spelled.iter().take(64).enumerate() {
        capitals |= u64::from(byte.is_ascii_uppercase()) << at;
    }
    capitals
}

/// Names that ALB writes in mixed case whoever asked (ALB user guide, "HTTP headers").
fn well_known(name: &HeaderName) -> Option<u64> {
    const CONNECTION: u64 = 1;
    const X_FORWARDED: u64 = 1 | 1 << 2 | 1 << 12;
    match name {
        &header::HOST
        | &header::CONNECTION
        | &header::UPGRADE
        | &header::DATE
        | &header::SERVER => Some(CONNECTION),
        _ => match name.as_str() {
            "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-port" => Some(X_FORWARDED),
            "x-amzn-trace-id" => Some(1 | 1 << 2 | 1 << 7 | 1 << 13),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(casing: &Casing, name: &'static str) -> String {
        let mut out = Vec::new();
        casing.write(&HeaderName::from_static(name), &mut 0, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_are_written_as_they_were_spelled() {
        let mut casing = Casing::default();
        for spelled in ["Accept", "x-lower", "DNT", "X-cAmEl"] {
            let name = HeaderName::from_bytes(spelled.as_bytes()).unwrap();
            casing.remember(&name, spelled.as_bytes());
        }
        assert_eq!(written(&casing, "dnt"), "DNT");
        assert_eq!(written(&casing, "accept"), "Accept");
        assert_eq!(written(&casing, "x-camel"), "X-cAmEl");
        assert_eq!(written(&casing, "x-lower"), "x-lower");
    }

    #[test]
    fn well_known_names_are_mixed_case_without_a_spelling() {
        let casing = Casing::default();
        assert_eq!(written(&casing, "x-forwarded-proto"), "X-Forwarded-Proto");
        assert_eq!(written(&casing, "x-amzn-trace-id"), "X-Amzn-Trace-Id");
        assert_eq!(written(&casing, "host"), "Host");
        assert_eq!(written(&casing, "accept"), "accept");
    }

    #[test]
    fn names_past_64_bytes_keep_the_first_64_spelled() {
        let spelled = "A".repeat(70);
        let name = HeaderName::from_bytes(spelled.as_bytes()).unwrap();
        let mut casing = Casing::default();
        casing.remember(&name, spelled.as_bytes());
        let mut out = Vec::new();
        casing.write(&name, &mut 0, &mut out);
        assert_eq!(
            out,
            format!("{}{}", "A".repeat(64), "a".repeat(6)).into_bytes()
        );
    }
}
