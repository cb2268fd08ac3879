//! The header names that the load balancer itself looks at or writes. Any other name is text to it.

/// One of them. They are told apart as numbers, once, when a head is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Name {
    Connection,
    ContentLength,
    ContentType,
    Cookie,
    Date,
    Expect,
    Host,
    Http2Settings,
    KeepAlive,
    Location,
    Origin,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    SecWebSocketAccept,
    SecWebSocketKey,
    Server,
    SetCookie,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    XAmznTlsCipherSuite,
    XAmznTlsVersion,
    XAmznTraceId,
    XForwardedFor,
    XForwardedPort,
    XForwardedProto,
}

impl Name {
    /// As we write it (ALB user guide, "HTTP headers").
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "Connection",
            Self::ContentLength => "Content-Length",
            Self::ContentType => "Content-Type",
            Self::Cookie => "Cookie",
            Self::Date => "Date",
            Self::Expect => "Expect",
            Self::Host => "Host",
            Self::Http2Settings => "HTTP2-Settings",
            Self::KeepAlive => "Keep-Alive",
            Self::Location => "Location",
            Self::Origin => "Origin",
            Self::ProxyAuthenticate => "Proxy-Authenticate",
            Self::ProxyAuthorization => "Proxy-Authorization",
            Self::ProxyConnection => "Proxy-Connection",
            Self::SecWebSocketAccept => "Sec-WebSocket-Accept",
            Self::SecWebSocketKey => "Sec-WebSocket-Key",
            Self::Server => "Server",
            Self::SetCookie => "Set-Cookie",
            Self::Te => "TE",
            Self::Trailer => "Trailer",
            Self::TransferEncoding => "Transfer-Encoding",
            Self::Upgrade => "Upgrade",
            Self::UserAgent => "User-Agent",
            Self::XAmznTlsCipherSuite => "X-Amzn-Tls-Cipher-Suite",
            Self::XAmznTlsVersion => "X-Amzn-Tls-Version",
            Self::XAmznTraceId => "X-Amzn-Trace-Id",
            Self::XForwardedFor => "X-Forwarded-For",
            Self::XForwardedPort => "X-Forwarded-Port",
            Self::XForwardedProto => "X-Forwarded-Proto",
        }
    }

    /// Which of them `text`, a token, is in whatever case. Its length and one letter leave one to compare with.
    pub(super) fn find(text: &[u8]) -> Option<Self> {
        let candidate = match (text.len(), text.first()? | CASE) {
            (2, b't') => Self::Te,
            (4, b'h') => Self::Host,
            (4, b'd') => Self::Date,
            (6, b'c') => Self::Cookie,
            (6, b's') => Self::Server,
            (6, b'o') => Self::Origin,
            (6, b'e') => Self::Expect,
            (7, b'u') => Self::Upgrade,
            (7, b't') => Self::Trailer,
            (8, b'l') => Self::Location,
            (10, b'c') => Self::Connection,
            (10, b'u') => Self::UserAgent,
            (10, b's') => Self::SetCookie,
            (10, b'k') => Self::KeepAlive,
            (12, b'c') => Self::ContentType,
            (14, b'c') => Self::ContentLength,
            (14, b'h') => Self::Http2Settings,
            (15, b'x') if text[2] | CASE == b'f' => Self::XForwardedFor,
            (15, b'x') => Self::XAmznTraceId,
            (16, b'x') => Self::XForwardedPort,
            (16, b'p') => Self::ProxyConnection,
            (17, b'x') => Self::XForwardedProto,
            (17, b't') => Self::TransferEncoding,
            (17, b's') => Self::SecWebSocketKey,
            (18, b'x') => Self::XAmznTlsVersion,
            (18, b'p') => Self::ProxyAuthenticate,
            (19, b'p') => Self::ProxyAuthorization,
            (20, b's') => Self::SecWebSocketAccept,
            (23, b'x') => Self::XAmznTlsCipherSuite,
            _ => return None,
        };
        // A token has no control characters, so setting this bit can make no other byte into one of a name.
        let differ =
            |differ, (&sent, &known): (&u8, &u8)| differ | ((sent | CASE) ^ (known | CASE));
        let known = candidate.as_str().as_bytes();
        (text.iter().zip(known).fold(0, differ) == 0).then_some(candidate)
    }
}

/// What tells a small letter from its capital.
const CASE: u8 = 0x20;

/// A set of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names(u32);

impl Names {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn of(names: &[Name]) -> Self {
        let mut set = 0;
        let mut at = 0;
        while at < names.len() {
            set |= 1 << names[at] as u8;
            at += 1;
        }
        Self(set)
    }

    pub(crate) fn has(self, name: Name) -> bool {
        self.0 & 1 << name as u8 != 0
    }

    pub(super) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn insert(&mut self, name: Name) {
        self.0 |= 1 << name as u8;
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Name; 29] = [
        Name::Connection,
        Name::ContentLength,
        Name::ContentType,
        Name::Cookie,
        Name::Date,
        Name::Expect,
        Name::Host,
        Name::Http2Settings,
        Name::KeepAlive,
        Name::Location,
        Name::Origin,
        Name::ProxyAuthenticate,
        Name::ProxyAuthorization,
        Name::ProxyConnection,
        Name::SecWebSocketAccept,
        Name::SecWebSocketKey,
        Name::Server,
        Name::SetCookie,
        Name::Te,
        Name::Trailer,
        Name::TransferEncoding,
        Name::Upgrade,
        Name::UserAgent,
        Name::XAmznTlsCipherSuite,
        Name::XAmznTlsVersion,
        Name::XAmznTraceId,
        Name::XForwardedFor,
        Name::XForwardedPort,
        Name::XForwardedProto,
    ];

    #[test]
    fn every_name_is_found_in_any_case() {
        assert_eq!(ALL.len(), Name::XForwardedProto as usize + 1);
        for name in ALL {
            let text = name.as_str();
            assert_eq!(Name::find(text.as_bytes()), Some(name));
            assert_eq!(Name::find(text.to_lowercase().as_bytes()), Some(name));
            assert_eq!(Name::find(text.to_uppercase().as_bytes()), Some(name));
            for at in 0..text.len() {
                let mut other = text.as_bytes().to_vec();
                other[at] = b'_';
                assert_eq!(Name::find(&other), None, "{text} with another byte at {at}");
            }
        }
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut names = Names::of(&[Name::Te, Name::XForwardedProto]);
        assert!(names.has(Name::Te) && names.has(Name::XForwardedProto) && !names.has(Name::Host));
        names.insert(Name::Host);
        assert!(names.meets(Names::of(&[Name::Host, Name::Date])));
        assert!(!names.meets(Names::of(&[Name::Date])));
        assert!(!names.without(Names::of(&[Name::Te])).has(Name::Te));
    }
}
