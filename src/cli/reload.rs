//! `albedo reload`: has a running instance read its file again.

use std::io;

use http::{Method, StatusCode};
use serde::Deserialize;

use super::{Exit, ask, out};
use crate::app::ProblemStatus;
use crate::model::AdminAddress;

const PATH: &str = "/api/v1/reload";

/// Prints the generation that every worker runs now, or why it is still the old one.
pub(super) fn run(admin: &AdminAddress) -> io::Result<Exit> {
    let Some(answer) = ask::instance(admin, Method::POST, PATH)? else {
        return Ok(Exit::Refused);
    };
    match answer.status {
        StatusCode::OK => {
            let Some(applied) = answer.read::<Applied>() else {
                return Ok(Exit::Refused);
            };
            out::show(&lines(&applied.warnings));
            out::print(&format!("generation {}\n", applied.generation))?;
            return Ok(Exit::Clean);
        }
        StatusCode::UNPROCESSABLE_ENTITY => {
            if let Some(refused) = answer.read::<Refused>() {
                out::show(&lines(&refused.problems));
            }
        }
        _ => answer.complain(),
    }
    Ok(Exit::Refused)
}

/// What the admin address says of a configuration that was applied.
#[derive(Debug, Deserialize)]
struct Applied {
    generation: u64,
    #[serde(default)]
    warnings: Vec<ProblemStatus>,
}

/// What it says of one that was not.
#[derive(Debug, Deserialize)]
struct Refused {
    problems: Vec<ProblemStatus>,
}

/// A line a problem, its place in front.
pub(super) fn lines(problems: &[ProblemStatus]) -> String {
    problems.iter().map(line).collect()
}

fn line(problem: &ProblemStatus) -> String {
    let place = match (problem.line, problem.column) {
        (Some(line), Some(column)) => format!("{line}:{column} "),
        _ => String::new(),
    };
    let warning = match problem.severity.as_str() {
        "warning" => "warning: ",
        _ => "",
    };
    let (path, message) = (&problem.path, &problem.message);
    let text = format!("{place}{warning}{path}: {message}");
    out::harmless(&text) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_a_line_with_its_place() {
        let mut problem = ProblemStatus {
            severity: "error".into(),
            path: "listeners[0].port".into(),
            message: "'x' is not a port; write 443".into(),
            line: Some(3),
            column: Some(7),
        };
        assert_eq!(
            line(&problem),
            "3:7 listeners[0].port: 'x' is not a port; write 443\n"
        );
        problem.severity = "warning".into();
        problem.line = None;
        problem.message = "bell\u{7}".into();
        assert_eq!(line(&problem), "warning: listeners[0].port: bell?\n");
    }
}
