//! Asks a running instance at its admin address, for the verbs that need one, and says why there is no answer.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::out;
use crate::admin::{self, Token, client};
use crate::model::AdminAddress;

/// What an instance answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    body: Vec<u8>,
    from: AdminAddress,
}

/// The answer of the instance; `None` after saying why there is none.
pub(super) fn instance(
    admin: &AdminAddress,
    method: Method,
    path: &str,
) -> io::Result<Option<Answer>> {
    match Token::of_environment() {
        Ok(token) => answer(admin, client::ask(admin, token.as_ref(), method, path)),
        Err(error) => Ok(not_asked(&error)),
    }
}

/// As `instance`, for what takes longer.
pub(super) fn patiently(
    admin: &AdminAddress,
    method: Method,
    path: &str,
    limit: Duration,
) -> io::Result<Option<Answer>> {
    match Token::of_environment() {
        Ok(token) => {
            let asked = client::ask_within(limit, admin, token.as_ref(), method, path);
            answer(admin, asked)
        }
        Err(error) => Ok(not_asked(&error)),
    }
}

fn not_asked(why: &admin::Unusable) -> Option<Answer> {
    out::complain(why);
    None
}

fn answer(
    admin: &AdminAddress,
    asked: impl Future<Output = Result<(StatusCode, Bytes), client::Error>>,
) -> io::Result<Option<Answer>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match runtime.block_on(asked) {
        Ok((status, body)) => Ok(Some(Answer {
            status,
            body: body.into(),
            from: admin.clone(),
        })),
        Err(error) => {
            let remedy = remedy(&error);
            out::complain(format_args!("no answer from {admin}: {error}; {remedy}"));
            Ok(None)
        }
    }
}

fn remedy(error: &client::Error) -> &'static str {
    match error {
        client::Error::Connect(_) => {
            "is albedo running, and is this its admin address? Name another with --admin"
        }
        client::Error::Timeout(_) => "look at its log, or try again",
        client::Error::Http(_) | client::Error::TooLarge | client::Error::Path => {
            "is it albedo's admin address? Name another with --admin"
        }
    }
}

/// The form of every refusal of the admin address.
#[derive(Debug, Deserialize)]
struct Refusal {
    error: String,
}

impl Answer {
    /// The answer as it came.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The answer as it is meant; `None` after saying that it means nothing.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Option<T> {
        match serde_json::from_slice(&self.body) {
            Ok(read) => Some(read),
            Err(error) => {
                let from = &self.from;
                out::complain(format_args!(
                    "no answer from {from}: {error}; is it albedo's admin address?"
                ));
                None
            }
        }
    }

    /// Says why the instance did not do what it was asked.
    pub(super) fn complain(&self) {
        match serde_json::from_slice::<Refusal>(&self.body) {
            Ok(refusal) => {
                let lines: Vec<_> = refusal.error.lines().map(out::harmless).collect();
                out::complain(lines.join("\n"));
            }
            Err(_) => out::complain(format_args!(
                "{} answered {}; is it albedo's admin address?",
                self.from, self.status
            )),
        }
    }
}
