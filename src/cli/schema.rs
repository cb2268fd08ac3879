//! `albedo schema`: the JSON Schema of the configuration, for editors.

use std::io;

use super::{Exit, out};
use crate::config;

pub(super) fn run() -> io::Result<Exit> {
    out::print(&format!("{:#}\n", config::schema()))?;
    Ok(Exit::Clean)
}
