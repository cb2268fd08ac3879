//! Where a configuration comes from: reads a YAML file into the model, or says everything that is wrong with it,
//! each with its place and its remedy. Knows nothing that runs, and opens no file but the one it is given; of those that
//! it names it only notices that they change.

mod check;
mod field_path;
mod file;
mod not_served;
mod problem;
mod read;
mod schema;
mod shape;
mod shapes;
mod yaml;

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

pub use file::File;
pub(crate) use file::LOOK_EVERY;
pub use problem::{Place, Problem, Problems, Severity};
pub use schema::schema;

use self::check::{Finding, StandIns};
use self::field_path::FieldPath;
use self::read::{Places, Reading};
use self::yaml::Position;
use crate::model::Config;

/// Largest file: 100 target groups with 1,000 targets each fit in.
const SIZE_MAX: u64 = 4 << 20;

/// Reads a file. Gives the configuration and its warnings, or everything that is wrong.
pub fn read(path: &Path) -> Result<(Config, Vec<Problem>), Problems> {
    match text_of(path) {
        Ok(text) => parse(&text, path),
        Err((message, remedy)) => {
            let place = place(&Arc::from(path), Position::START);
            Err(refusal(place, message, remedy))
        }
    }
}

/// Reads a text as if it stood in `file`, whose folder is where relative paths start.
pub fn parse(text: &str, file: &Path) -> Result<(Config, Vec<Problem>), Problems> {
    let folder = file.parent().unwrap_or_else(|| Path::new(""));
    let Reading {
        config,
        problems: found,
        places,
        stand_ins,
    } = read::document(text, folder);
    let findings = config.as_ref().map(check::findings).unwrap_or_default();
    let file = Arc::from(file);
    let stand_ins = StandIns::new(stand_ins);
    let sound = |finding: &Finding| !stand_ins.touch(finding);
    let mut problems: Vec<Problem> = findings
        .into_iter()
        .filter(sound)
        .map(|finding| placed(finding, &places, &file))
        .collect();
    problems.extend(found.into_iter().map(|found| Problem {
        severity: found.severity,
        place: Some(place(&file, found.position)),
        path: found.path.to_string(),
        message: found.message,
        remedy: found.remedy,
    }));
    let warnings = problem::judge(problems)?;
    let mut config = config.unwrap_or_default();
    for listener in &mut config.listeners {
        listener.rules.sort_by_key(|rule| rule.priority);
    }
    Ok((config, warnings))
}

/// Checks a configuration that came from no file. Gives its warnings, or everything that is wrong.
pub fn check(config: &Config) -> Result<Vec<Problem>, Problems> {
    let problems = check::findings(config).into_iter().map(|finding| Problem {
        severity: finding.severity,
        place: None,
        path: finding.path.to_string(),
        message: finding.message,
        remedy: finding.remedy,
    });
    problem::judge(problems.collect())
}

/// Where the value of this path stands in a file, or what would hold it; none when the file cannot be read any more.
pub(crate) fn locate(file: &Path, path: &str) -> Option<Place> {
    let text = text_of(file).ok()?;
    let folder = file.parent().unwrap_or_else(|| Path::new(""));
    let reading = read::document(&text, folder);
    let (_written, position) = reading.places.find(&FieldPath::written(path));
    Some(place(&Arc::from(file), position))
}

fn placed(finding: Finding, places: &Places, file: &Arc<Path>) -> Problem {
    let (path, position) = places.find(&finding.path);
    Problem {
        severity: finding.severity,
        place: Some(place(file, position)),
        path: path.to_string(),
        message: finding.message,
        remedy: finding.remedy,
    }
}

fn place(file: &Arc<Path>, position: Position) -> Place {
    Place {
        file: Arc::clone(file),
        line: position.line,
        column: position.column,
    }
}

fn refusal(place: Place, message: String, remedy: &str) -> Problems {
    let problem = Problem {
        severity: Severity::Error,
        place: Some(place),
        path: FieldPath::root().to_string(),
        message,
        remedy: remedy.to_owned(),
    };
    Problems::from(problem)
}

fn text_of(path: &Path) -> Result<String, (String, &'static str)> {
    let mut bytes = Vec::new();
    let opened =
        fs::File::open(path).and_then(|file| file.take(SIZE_MAX + 1).read_to_end(&mut bytes));
    match opened {
        Err(error) => Err(unreadable(&error)),
        Ok(_) if bytes.len() as u64 > SIZE_MAX => Err((
            format!("the file is larger than {} MiB", SIZE_MAX >> 20),
            "name a configuration file of albedo",
        )),
        Ok(_) => String::from_utf8(bytes).map_err(|_| {
            let message = "the file is not UTF-8 text".to_owned();
            (message, "save it as UTF-8")
        }),
    }
}

fn unreadable(error: &io::Error) -> (String, &'static str) {
    let (message, remedy) = match error.kind() {
        io::ErrorKind::NotFound => ("there is no such file", "name one that exists"),
        io::ErrorKind::PermissionDenied => {
            ("the file may not be read", "let albedo's user read it")
        }
        io::ErrorKind::IsADirectory => ("this is a folder", "name the file in it"),
        _ => {
            return (
                format!("the file cannot be read: {error}"),
                "mend that, or name another file",
            );
        }
    };
    (message.to_owned(), remedy)
}

#[cfg(test)]
mod tests;
