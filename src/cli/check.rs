//! `albedo check`: says everything that is wrong with a configuration, one problem a line.

use std::fmt::Write;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use super::{Exit, config_file, out};
use crate::config::{self, Problem, Severity};
use crate::control;

pub(super) fn run(named: Option<PathBuf>) -> io::Result<Exit> {
    let Some(file) = config_file(named) else {
        return Ok(Exit::Refused);
    };
    let mut answer = String::new();
    let exit = match config::read(&file) {
        Ok((config, warnings)) => {
            let found = control::certificate_problems(&config, Timestamp::now());
            let found = found.into_iter().map(|mut problem| {
                problem.place = config::locate(&file, &problem.path);
                problem
            });
            let problems: Vec<Problem> = warnings.into_iter().chain(found).collect();
            for problem in &problems {
                line(&mut answer, problem);
            }
            if problems
                .iter()
                .any(|problem| problem.severity == Severity::Error)
            {
                out::print(&answer)?;
                return Ok(Exit::Refused);
            }
            let listeners = counted(config.listeners.len(), "listener");
            let groups = counted(config.target_groups.len(), "target group");
            let file = file.display();
            line(
                &mut answer,
                format_args!("{file}: valid, {listeners}, {groups}"),
            );
            Exit::Clean
        }
        Err(problems) => {
            line(&mut answer, problems.to_string().trim_end());
            Exit::Refused
        }
    };
    out::print(&answer)?;
    Ok(exit)
}

fn line(answer: &mut String, text: impl std::fmt::Display) {
    writeln!(answer, "{text}").expect("memory takes every character");
}

fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}
