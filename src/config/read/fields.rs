//! Opens an object of the file against its description: unknown, missing, double and empty fields are found here,
//! for every kind of object alike.

use smallvec::SmallVec;

use super::Reader;
use crate::config::field_path::FieldPath;
use crate::config::not_served;
use crate::config::shape::{Keys, Kind, Presence, Shape};
use crate::config::yaml::{Entry, Node, Position, Value};
use crate::model::{alternatives, nearest, quoted};
use crate::worker;

/// The fields of one object.
#[derive(Debug)]
pub(super) struct Fields<'n> {
    pub(super) shape: &'static Shape,
    pub(super) path: FieldPath,
    pub(super) position: Position,
    entries: &'n [Entry],
}

impl<'n> Fields<'n> {
    /// The value of a field, unless it is absent or empty.
    pub(super) fn get(&self, name: &str) -> Option<&'n Node> {
        debug_assert!(self.shape.field(name).is_some(), "{name} is in no shape");
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        (entry.node.value != Value::Null).then_some(&entry.node)
    }

    pub(super) fn path_of(&self, name: &str) -> FieldPath {
        self.path.field(name)
    }

    /// Which of the fields of an `ExactlyOne` object is there.
    pub(super) fn only(&self) -> Option<(&'static str, &'n Node)> {
        let mut names = self.shape.names();
        names.find_map(|name| Some((name, self.get(name)?)))
    }
}

impl Reader {
    /// Opens an object; of anything else it says so once and goes on as if every field were absent.
    pub(super) fn object<'n>(
        &mut self,
        node: &'n Node,
        path: &FieldPath,
        shape: &'static Shape,
    ) -> Fields<'n> {
        worker::step_aside();
        let mut fields = Fields {
            shape,
            path: path.clone(),
            position: node.position,
            entries: &[],
        };
        let Value::Mapping(entries) = &node.value else {
            let names: Vec<&str> = shape.names().collect();
            let remedy = match shape.keys {
                Keys::Any => format!("write an object with {}", and(&names)),
                Keys::ExactlyOne => format!("write an object with one of {}", and(&names)),
            };
            let message = format!("{} is not an object", kind(&node.value));
            self.problem(path, node.position, message, remedy);
            return fields;
        };
        fields.entries = entries;
        self.check_names(&fields);
        match shape.keys {
            Keys::Any => self.check_required(&fields),
            Keys::ExactlyOne => self.check_only(&fields),
        }
        fields
    }

    fn check_names(&mut self, fields: &Fields<'_>) {
        // Of the names that the shape knows, so there are few.
        let mut seen = SmallVec::<[&str; 16]>::new();
        for entry in fields.entries {
            let path = || fields.path.field(&entry.key);
            let Some(field) = fields.shape.field(&entry.key) else {
                self.unknown(fields, entry, &path());
                continue;
            };
            if seen.contains(&field.name) {
                let message = format!("'{}' is written a second time", field.name);
                self.problem(&path(), entry.position, message, "keep one of the two");
                continue;
            }
            seen.push(field.name);
            // A list whose elements are all commented out is an empty list.
            let list = matches!(field.kind, Kind::List { .. }) && fields.shape.keys == Keys::Any;
            if entry.node.value == Value::Null && !list {
                self.empty(&path(), entry, &field.presence);
            }
        }
    }

    fn unknown(&mut self, fields: &Fields<'_>, entry: &Entry, path: &FieldPath) {
        let key = entry.key.as_str();
        if not_served::FIELDS.contains(&key) {
            let message = format!("'{key}' is not served yet");
            self.problem(path, entry.position, message, "remove it");
            return;
        }
        let remedy = match key {
            "<<" => "write the fields out, or repeat a whole value with an alias: merge keys are not YAML 1.2".to_owned(),
            _ => suggestion(fields.shape, key),
        };
        if let Some(meant) = nearest(key, fields.shape.names()) {
            self.stand_in(&fields.path.field(meant));
        }
        let message = format!("unknown field {}", quoted(key));
        self.problem(path, entry.position, message, remedy);
    }

    fn empty(&mut self, path: &FieldPath, entry: &Entry, presence: &Presence) {
        // `host: #{host}` is a comment to YAML.
        let write = "write one, in quotes if it begins with '#'";
        let remedy = match presence {
            Presence::Required => write.to_owned(),
            Presence::Optional => format!("{write}, or remove the field"),
            Presence::Default(default) => format!("{write}, or remove the field for '{default}'"),
        };
        self.problem(path, entry.position, "has no value", remedy);
    }

    fn check_required(&mut self, fields: &Fields<'_>) {
        for field in fields.shape.fields {
            let entry = fields.entries.iter().find(|entry| entry.key == field.name);
            let missing = match (&field.kind, entry) {
                (_, None) => true,
                // Other empty fields were found among the names.
                (Kind::List { .. }, Some(entry)) => entry.node.value == Value::Null,
                (_, Some(_)) => false,
            };
            // A mistyped name is reported already, with the right one.
            let mistyped = |entry: &Entry| {
                let unknown = fields.shape.field(&entry.key).is_none();
                unknown && nearest(&entry.key, fields.shape.names()) == Some(field.name)
            };
            let required = matches!(field.presence, Presence::Required);
            if missing && required && !fields.entries.iter().any(mistyped) {
                let path = fields.path.field(field.name);
                let message = format!("'{}' is missing", field.name);
                self.problem(
                    &path,
                    fields.position,
                    message,
                    needed(&field.kind, field.description),
                );
            }
        }
    }

    fn check_only(&mut self, fields: &Fields<'_>) {
        let shape = fields.shape;
        let known = |entry: &&Entry| shape.field(&entry.key).is_some();
        let written = fields.entries.iter().filter(known).count();
        let unknown = fields.entries.len() - written;
        let names: Vec<&str> = shape.names().collect();
        if written == 0 && unknown == 0 {
            let message = format!("the {} is empty", shape.name);
            let remedy = format!("write one of {}", and(&names));
            self.problem(&fields.path, fields.position, message, remedy);
        }
        if written > 1 {
            let message = format!("one {} holds {written} fields", shape.name);
            let remedy = format!("begin each with its own '-', one {} an element", shape.name);
            self.problem(&fields.path, fields.position, message, remedy);
        }
    }
}

/// What to write instead of an unknown field.
fn suggestion(shape: &Shape, key: &str) -> String {
    if let Some(name) = nearest(key, shape.names()) {
        return format!("did you mean '{name}'?");
    }
    let inside = shape.fields.iter().find(|field| {
        let shapes = field.kind.shapes();
        shapes.iter().any(|inner| inner.field(key).is_some())
    });
    if let Some(field) = inside {
        return format!("it belongs under '{}'", field.name);
    }
    let names: Vec<&str> = shape.names().collect();
    format!("known here are {}", and(&names))
}

fn needed(kind: &Kind, description: &str) -> String {
    let what = match kind {
        Kind::OneOf(names) => return format!("write {}", alternatives(&names())),
        Kind::Integer(range) => format!("write a number from {} to {}", range.start(), range.end()),
        Kind::List { .. } => "write a list".to_owned(),
        Kind::Text { .. } | Kind::Flag | Kind::Duration(_) | Kind::Object(_) | Kind::Either(_) => {
            "write it".to_owned()
        }
    };
    format!("{what} ({})", clause(description))
}

/// The beginning of a sentence as part of another one; `HTTP` and the like keep their capitals.
fn clause(sentence: &str) -> String {
    let first_clause = sentence.split("; ").next().unwrap_or(sentence);
    let mut letters = first_clause.trim_end_matches('.').chars();
    let first = letters.next();
    let rest = letters.as_str();
    let word = rest.starts_with(|c: char| c.is_lowercase());
    let first = first.map(|c| if word { c.to_ascii_lowercase() } else { c });
    first.into_iter().chain(rest.chars()).collect()
}

/// How a message names a value of the wrong kind.
pub(super) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "an empty value".to_owned(),
        Value::Scalar(text) => quoted(text),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "an object".to_owned(),
    }
}

/// `'a', 'b' and 'c'`.
fn and(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    match quoted.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        other => other.concat(),
    }
}
