//! How the file format is described: objects, their fields, and what each may hold. The reader refuses what the
//! description does not name, and the schema is written from it, so the two cannot part.

use std::ops::RangeInclusive;
use std::time::Duration;

/// One kind of object in the file.
#[derive(Debug)]
pub(super) struct Shape {
    /// What messages and the schema call it.
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) fields: &'static [Field],
    pub(super) keys: Keys,
}

/// How many of its fields an object may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    Any,
    /// The one field says which kind of thing it is: conditions, transforms, actions.
    ExactlyOne,
}

/// One field of an object.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) presence: Presence,
    pub(super) description: &'static str,
}

/// Whether a field must be there, and what holds when it is not.
#[derive(Debug)]
pub(super) enum Presence {
    Required,
    Optional,
    /// As it would be written.
    Default(&'static str),
}

/// What a field may hold.
#[derive(Debug)]
pub(super) enum Kind {
    /// Text; the pattern, when there is one, is a regular expression for the schema.
    Text {
        pattern: Option<&'static str>,
        length: RangeInclusive<usize>,
    },
    Integer(RangeInclusive<u64>),
    Flag,
    Duration(RangeInclusive<Duration>),
    OneOf(fn() -> Vec<&'static str>),
    Object(&'static Shape),
    List {
        of: &'static Self,
        length: RangeInclusive<usize>,
    },
    /// A short form or an object.
    Either(&'static [Self]),
}

impl Shape {
    pub(super) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|field| field.name)
    }
}

impl Kind {
    /// The objects that a value of this kind may be or hold.
    pub(super) fn shapes(&self) -> Vec<&'static Shape> {
        match self {
            Self::Object(shape) => vec![shape],
            Self::List { of, .. } => of.shapes(),
            Self::Either(kinds) => kinds.iter().flat_map(Self::shapes).collect(),
            Self::Text { .. }
            | Self::Integer(_)
            | Self::Flag
            | Self::Duration(_)
            | Self::OneOf(_) => Vec::new(),
        }
    }
}
