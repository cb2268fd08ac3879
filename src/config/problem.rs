//! What is wrong with a configuration, where, and how to mend it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// One thing that is wrong, or doubtful, in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it refuses the configuration.
    pub severity: Severity,
    /// Where it stands in a file; none in a configuration that came from no file.
    pub place: Option<Place>,
    /// The field, such as `listeners[0].rules[2].actions`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub remedy: String,
}

/// Whether a problem refuses the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is taken, but probably not what was meant.
    Warning,
}

/// A place in a file; line and column count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named.
    pub file: Arc<Path>,
    /// Counts from 1.
    pub line: usize,
    /// Counts from 1.
    pub column: usize,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(
                f,
                "{}:{}:{} ",
                place.file.display(),
                place.line,
                place.column
            )?;
        }
        let warning = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        write!(
            f,
            "{warning}{}: {}; {}",
            self.path, self.message, self.remedy
        )
    }
}

impl Serialize for Problem {
    /// The shape of `POST /api/v1/reload`: the message carries its remedy.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Problem", 5)?;
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        object.serialize_field("severity", severity)?;
        object.serialize_field("path", &self.path)?;
        object.serialize_field(
            "message",
            &format_args!("{}; {}", self.message, self.remedy),
        )?;
        object.serialize_field("line", &self.place.as_ref().map(|place| place.line))?;
        object.serialize_field("column", &self.place.as_ref().map(|place| place.column))?;
        object.end()
    }
}

/// Everything that is wrong with a refused configuration, warnings too, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The problems in the order of the file.
    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }

    /// The problems, given away.
    pub fn into_vec(self) -> Vec<Problem> {
        self.0
    }

    /// How many of them refuse the configuration.
    pub fn error_count(&self) -> usize {
        let errors = self
            .0
            .iter()
            .filter(|problem| problem.severity == Severity::Error);
        errors.count()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    /// One problem a line, no line feed after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let line_feed = if index == 0 { "" } else { "\n" };
            write!(f, "{line_feed}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The warnings, when nothing refuses the configuration; otherwise everything, sorted by place.
pub(super) fn judge(mut problems: Vec<Problem>) -> Result<Vec<Problem>, Problems> {
    problems.sort_by_cached_key(|problem| {
        let place = problem.place.as_ref();
        place.map(|place| (place.line, place.column))
    });
    let refused = problems
        .iter()
        .any(|problem| problem.severity == Severity::Error);
    match refused {
        true => Err(Problems(problems)),
        false => Ok(problems),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(severity: Severity, line: usize) -> Problem {
        Problem {
            severity,
            place: Some(Place {
                file: Path::new("a.yaml").into(),
                line,
                column: 7,
            }),
            path: "listeners[0].port".into(),
            message: "'x' is not a port".into(),
            remedy: "write 443".into(),
        }
    }

    #[test]
    fn a_problem_is_one_line_with_its_place() {
        assert_eq!(
            problem(Severity::Error, 3).to_string(),
            "a.yaml:3:7 listeners[0].port: 'x' is not a port; write 443"
        );
        assert_eq!(
            problem(Severity::Warning, 3).to_string(),
            "a.yaml:3:7 warning: listeners[0].port: 'x' is not a port; write 443"
        );
    }

    #[test]
    fn problems_come_in_the_order_of_the_file() {
        let error = judge(vec![
            problem(Severity::Error, 9),
            problem(Severity::Warning, 2),
        ]);
        let lines = error.unwrap_err().to_string();
        assert!(lines.starts_with("a.yaml:2:7 warning"), "{lines}");
        let warnings = judge(vec![problem(Severity::Warning, 2)]);
        assert_eq!(warnings.unwrap().len(), 1);
    }

    #[test]
    fn the_admin_address_answers_with_path_message_line_and_column() {
        assert_eq!(
            serde_json::to_string(&problem(Severity::Error, 3)).unwrap(),
            r#"{"severity":"error","path":"listeners[0].port","message":"'x' is not a port; write 443","line":3,"column":7}"#
        );
    }
}
