//! `albedo completions`: what a shell needs to complete this command line.

use std::io;

use clap_complete::Shell;

use super::{Exit, out};

pub(super) fn run(shell: Shell, command: &mut clap::Command) -> io::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "albedo", &mut script);
    out::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Clean)
}
