//! The word that whoever comes to the admin address over the network has to know, where an operator asks for one. Never
//! shown, and compared in a time that tells nothing of it but its length.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::Request;
use http::header::{AUTHORIZATION, HeaderValue};

/// Holds the token, or `file:PATH` of a file that does. Both the load balancer and the verbs read it.
pub(crate) const VARIABLE: &str = "ALBEDO_ADMIN_TOKEN";

/// Before the path of a file: processes of the same user can read each other's environment.
const FILE: &str = "file:";

/// Shortest token, in bytes: nobody guesses 16 letters of chance, however often they ask.
const LENGTH_MIN: usize = 16;

/// Longest token, in bytes; a head of the admin address has room for many times as much.
const LENGTH_MAX: usize = 1024;

/// As requests bring it: `Bearer`, a space, the token (RFC 6750 §2.1).
#[derive(Clone, Debug)]
pub(crate) struct Token(HeaderValue);

/// Why there is no token though one is asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("{VARIABLE}: '{}' cannot be read: {error}", .path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error(
        "{VARIABLE}: a token has {LENGTH_MIN} to {LENGTH_MAX} visible ASCII characters and no \
         space; make one with 'openssl rand -hex 32'"
    )]
    NoToken,
}

impl Token {
    /// The one that the environment names, if it names one.
    ///
    /// # Errors
    /// When that cannot be read or is no token.
    pub(crate) fn of_environment() -> Result<Option<Self>, Unusable> {
        let Some(value) = env::var_os(VARIABLE).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let value = value.into_string().map_err(|_| Unusable::NoToken)?;
        Self::named(&value).map(Some)
    }

    pub(super) fn named(value: &str) -> Result<Self, Unusable> {
        match value.strip_prefix(FILE) {
            Some(path) => {
                let text = read(path.as_ref()).map_err(|error| Unusable::Unreadable {
                    path: path.into(),
                    error,
                })?;
                Self::new(text.trim())
            }
            None => Self::new(value),
        }
    }

    fn new(token: &str) -> Result<Self, Unusable> {
        let fits = (LENGTH_MIN..=LENGTH_MAX).contains(&token.len());
        if !fits || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Unusable::NoToken);
        }
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| Unusable::NoToken)?;
        // Such a value is not printed, whoever prints the headers around it.
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// The value of `Authorization`.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// Whether a request brings it.
    pub(super) fn opens_for<B>(&self, request: &Request<B>) -> bool {
        let mut brought = request.headers().get_all(AUTHORIZATION).iter();
        match (brought.next(), brought.next()) {
            (Some(one), None) => verify_slices_are_equal(one.as_bytes(), self.0.as_bytes()).is_ok(),
            _ => false,
        }
    }
}

/// No more than a token and the line end behind it: a device file has no end.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let most = LENGTH_MAX as u64 + 2;
    File::open(path)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn opens(values: &[&str]) -> bool {
        let mut request = Request::get("/metrics");
        for value in values {
            request = request.header(AUTHORIZATION, *value);
        }
        let request = request.body(()).unwrap();
        Token::named(TOKEN).unwrap().opens_for(&request)
    }

    #[test]
    fn only_the_whole_token_opens() {
        assert!(opens(&["Bearer 0123456789abcdef"]));
        for other in [
            &["Bearer 0123456789abcdeF"][..],
            &["Bearer 0123456789abcde"],
            &["Bearer 0123456789abcdef0"],
            &["0123456789abcdef"],
            &["Basic 0123456789abcdef"],
            &[""],
            &[],
            &["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"],
        ] {
            assert!(!opens(other), "{other:?}");
        }
    }

    #[test]
    fn what_could_be_guessed_or_sent_by_nobody_is_refused() {
        let long = "x".repeat(LENGTH_MAX + 1);
        for value in [
            "0123456789abcde",
            "0123456789 abcdef",
            "0123456789\nabcdef",
            "0123456789äbcdef",
            &long,
        ] {
            assert!(
                matches!(Token::named(value), Err(Unusable::NoToken)),
                "{value}"
            );
        }
    }

    #[test]
    fn a_file_may_hold_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let value = format!("file:{}", path.display());
        let missing = Token::named(&value).unwrap_err().to_string();
        assert!(missing.contains("/token' cannot be read: "), "{missing}");
        std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
        assert_eq!(Token::named(&value).unwrap().0, "Bearer 0123456789abcdef");
        assert!(Token::named("file:/dev/zero").is_err());
    }

    #[test]
    fn it_is_not_printed() {
        let token = Token::named(TOKEN).unwrap();
        assert!(!format!("{token:?}").contains(TOKEN));
        let short = Token::named("secret").unwrap_err();
        assert!(!format!("{short} {short:?}").contains("secret"));
    }
}
