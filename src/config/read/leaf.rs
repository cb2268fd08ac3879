//! Values without fields: text, numbers, switches, durations, files and lists.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::Reader;
use super::fields::{Fields, kind};
use crate::config::field_path::FieldPath;
use crate::config::shape::Kind;
use crate::config::yaml::{Node, Value};
use crate::model::{Invalid, duration, quoted};

impl Reader {
    /// The text of a value; `443` and `"443"` are the same.
    pub(super) fn text_at<'n>(&mut self, node: &'n Node, path: &FieldPath) -> Option<&'n str> {
        match &node.value {
            Value::Scalar(text) => Some(text),
            Value::Null => {
                self.problem(
                    path,
                    node.position,
                    "has no value",
                    "write one, or remove the line",
                );
                None
            }
            other @ (Value::Sequence(_) | Value::Mapping(_)) => {
                let message = format!("{} stands where a single value belongs", kind(other));
                self.problem(path, node.position, message, "write one value");
                None
            }
        }
    }

    /// A value that parses itself.
    pub(super) fn leaf_at<T>(&mut self, node: &Node, path: &FieldPath) -> Option<T>
    where
        T: FromStr<Err = Invalid>,
    {
        let text = self.text_at(node, path)?;
        self.parsed(text.parse(), node, path)
    }

    pub(super) fn leaf<T>(&mut self, fields: &Fields<'_>, name: &str) -> Option<T>
    where
        T: FromStr<Err = Invalid>,
    {
        self.leaf_at(fields.get(name)?, &fields.path_of(name))
    }

    pub(super) fn text<'n>(&mut self, fields: &Fields<'n>, name: &str) -> Option<&'n str> {
        self.text_at(fields.get(name)?, &fields.path_of(name))
    }

    pub(super) fn duration(&mut self, fields: &Fields<'_>, name: &str) -> Option<Duration> {
        let (node, path) = (fields.get(name)?, fields.path_of(name));
        let text = self.text_at(node, &path)?;
        self.parsed(duration::parse(text), node, &path)
    }

    pub(super) fn flag(&mut self, fields: &Fields<'_>, name: &str) -> Option<bool> {
        let (node, path) = (fields.get(name)?, fields.path_of(name));
        let text = self.text_at(node, &path)?;
        self.parsed(flag(text), node, &path)
    }

    /// A whole number; whether it lies in the field's range is for the checks to say.
    pub(super) fn number<T: TryFrom<u64>>(&mut self, fields: &Fields<'_>, name: &str) -> Option<T> {
        let (node, path) = (fields.get(name)?, fields.path_of(name));
        let text = self.text_at(node, &path)?;
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse::<u64>().ok()).flatten();
        if let Some(number) = number.and_then(|number| T::try_from(number).ok()) {
            return Some(number);
        }
        let message = match digits {
            true => format!("{} is too large", quoted(text)),
            false => format!("{} is not a whole number", quoted(text)),
        };
        let remedy = match fields.shape.field(name).map(|field| &field.kind) {
            Some(Kind::Integer(range)) => {
                format!("write a number from {} to {}", range.start(), range.end())
            }
            _ => "write a whole number".to_owned(),
        };
        self.problem(&path, node.position, message, remedy);
        None
    }

    /// A file; relative ones start at the folder of the configuration.
    pub(super) fn file(&mut self, fields: &Fields<'_>, name: &str) -> Option<PathBuf> {
        let (node, path) = (fields.get(name)?, fields.path_of(name));
        let text = self.text_at(node, &path)?;
        if text.is_empty() || text.contains('\0') {
            let message = format!("{} is not the path of a file", quoted(text));
            self.problem(
                &path,
                node.position,
                message,
                "write a path, relative to this file or absolute",
            );
            return None;
        }
        Some(self.folder.join(text))
    }

    /// The elements of a list and their paths.
    pub(super) fn list<'n>(
        &mut self,
        fields: &Fields<'n>,
        name: &str,
    ) -> Vec<(&'n Node, FieldPath)> {
        match fields.get(name) {
            Some(node) => self.list_at(node, &fields.path_of(name)),
            None => Vec::new(),
        }
    }

    pub(super) fn list_at<'n>(
        &mut self,
        node: &'n Node,
        path: &FieldPath,
    ) -> Vec<(&'n Node, FieldPath)> {
        let nodes = match &node.value {
            Value::Sequence(nodes) => nodes,
            other => {
                let message = format!("{} is not a list", kind(other));
                let remedy = match other {
                    Value::Scalar(text) => format!("write [{}]", yaml_quoted(text)),
                    _ => "begin each element with '-'".to_owned(),
                };
                self.problem(path, node.position, message, remedy);
                return Vec::new();
            }
        };
        let elements = nodes.iter().enumerate();
        elements
            .map(|(index, node)| (node, path.index(index)))
            .collect()
    }

    /// The elements of a list that parse themselves; the others are noted and left out.
    pub(super) fn leaves_at<T>(&mut self, node: &Node, path: &FieldPath) -> Vec<T>
    where
        T: FromStr<Err = Invalid>,
    {
        let elements = self.list_at(node, path);
        let leaves = elements
            .into_iter()
            .filter_map(|(node, path)| self.leaf_at(node, &path));
        leaves.collect()
    }

    pub(super) fn parsed<T>(
        &mut self,
        result: Result<T, Invalid>,
        node: &Node,
        path: &FieldPath,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(invalid) => {
                self.problem(path, node.position, invalid.message(), invalid.remedy());
                None
            }
        }
    }
}

/// YAML 1.2 §10.3.2; `yes` and `on` were YAML 1.1.
fn flag(text: &str) -> Result<bool, Invalid> {
    let remedy = match text {
        "true" | "True" | "TRUE" => return Ok(true),
        "false" | "False" | "FALSE" => return Ok(false),
        "yes" | "Yes" | "on" | "On" | "enabled" | "1" => "write true",
        "no" | "No" | "off" | "Off" | "disabled" | "0" => "write false",
        _ => "write true or false",
    };
    let message = format!("{} is neither true nor false", quoted(text));
    Err(Invalid::new(message, remedy))
}

fn yaml_quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("\"{}\"", quoted(text).trim_matches('\'')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_true_or_false() {
        assert_eq!(flag("true"), Ok(true));
        assert_eq!(flag("FALSE"), Ok(false));
        assert_eq!(flag("yes").unwrap_err().remedy(), "write true");
        assert_eq!(flag("off").unwrap_err().remedy(), "write false");
        assert_eq!(flag("maybe").unwrap_err().remedy(), "write true or false");
    }
}
