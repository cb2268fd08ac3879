//! The file format as JSON Schema, draft 2020-12, for editors and for people who like tables.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::shape::{Field, Keys, Kind, Presence, Shape};
use super::shapes;
use crate::model::duration;

/// JSON Schema of the configuration: every field with its type, range, default and description.
pub fn schema() -> Value {
    let mut definitions = BTreeMap::new();
    collect(&shapes::CONFIGURATION, &mut definitions);
    let definitions: Map<String, Value> = definitions
        .into_values()
        .map(|shape| (shape.name.to_owned(), object(shape)))
        .collect();
    let mut schema = object(&shapes::CONFIGURATION);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("albedo");
    schema["$defs"] = Value::Object(definitions);
    schema
}

/// Every shape below this one, by name.
fn collect(shape: &'static Shape, definitions: &mut BTreeMap<&'static str, &'static Shape>) {
    for inner in shape.fields.iter().flat_map(|field| field.kind.shapes()) {
        if definitions.insert(inner.name, inner).is_none() {
            collect(inner, definitions);
        }
    }
}

fn object(shape: &Shape) -> Value {
    let properties = shape
        .fields
        .iter()
        .map(|field| (field.name.to_owned(), property(field)));
    let required = shape
        .fields
        .iter()
        .filter(|field| matches!(field.presence, Presence::Required));
    let required: Vec<&str> = required.map(|field| field.name).collect();
    let mut object = json!({
        "type": "object",
        "description": shape.description,
        "additionalProperties": false,
        "properties": properties.collect::<Map<_, _>>(),
    });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    if shape.keys == Keys::ExactlyOne {
        object["minProperties"] = json!(1);
        object["maxProperties"] = json!(1);
    }
    object
}

fn property(field: &Field) -> Value {
    let mut property = kind(&field.kind);
    property["description"] = json!(field.description);
    if let Presence::Default(default) = field.presence {
        property["default"] = written(&field.kind, default);
    }
    property
}

/// A default as JSON has it.
fn written(kind: &Kind, default: &str) -> Value {
    match kind {
        Kind::Flag => json!(default == "true"),
        Kind::Integer(_) => default
            .parse::<u64>()
            .map_or(Value::Null, |number| json!(number)),
        _ => json!(default),
    }
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text { pattern, length } => {
            // Numbers are as good as text: `matcher: 200`.
            let mut text = json!({ "type": ["string", "number"], "minLength": length.start() });
            if *length.end() != usize::MAX {
                text["maxLength"] = json!(length.end());
            }
            if let Some(pattern) = pattern {
                text["pattern"] = json!(pattern);
            }
            text
        }
        Kind::Integer(range) => json!({
            "type": ["integer", "string"],
            "minimum": range.start(),
            "maximum": range.end(),
            "pattern": "^[0-9]+$",
        }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Duration(range) => {
            let show = |duration: &Duration| duration::format(*duration);
            json!({
                "type": "string",
                "pattern": "^[0-9]+(ms|s|m|h|d)$",
                "$comment": format!("{} to {}", show(range.start()), show(range.end())),
            })
        }
        Kind::OneOf(names) => json!({ "type": "string", "enum": names() }),
        Kind::Object(shape) => json!({ "$ref": format!("#/$defs/{}", shape.name) }),
        Kind::List { of, length } => {
            let mut list = json!({ "type": "array", "items": self::kind(of) });
            if *length.start() > 0 {
                list["minItems"] = json!(length.start());
            }
            if *length.end() != usize::MAX {
                list["maxItems"] = json!(length.end());
            }
            list
        }
        Kind::Either(kinds) => json!({ "anyOf": kinds.iter().map(self::kind).collect::<Vec<_>>() }),
    }
}
