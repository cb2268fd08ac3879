//! `albedo upgrade`: has a running instance replaced by the installed binary.

use std::io;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;

use super::{Exit, ask, out};
use crate::handover;
use crate::model::AdminAddress;

const PATH: &str = "/api/v1/upgrade";

/// What an answer may take beyond the upgrade itself.
const SLACK: Duration = Duration::from_secs(4);

/// Prints which process serves now, or why it is still the old one.
pub(super) fn run(admin: &AdminAddress) -> io::Result<Exit> {
    let limit = handover::LIMIT + SLACK;
    let Some(answer) = ask::patiently(admin, Method::POST, PATH, limit)? else {
        return Ok(Exit::Refused);
    };
    if answer.status != StatusCode::OK {
        answer.complain();
        return Ok(Exit::Refused);
    }
    let Some(upgraded) = answer.read::<Upgraded>() else {
        return Ok(Exit::Refused);
    };
    out::print(&format!("process {} serves\n", upgraded.pid))?;
    Ok(Exit::Clean)
}

/// What the admin address says of an upgrade.
#[derive(Debug, Deserialize)]
struct Upgraded {
    pid: u32,
}
