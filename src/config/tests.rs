//! Reader, checks, table and schema together.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::model;

const CONTRACT: &str = include_str!("../../tests/config/good/contract.yaml");

fn parsed(text: &str) -> Result<(Config, Vec<Problem>), Problems> {
    parse(text, Path::new("albedo.yaml"))
}

fn problems(text: &str) -> Vec<Problem> {
    match parsed(text) {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems.into_vec(),
    }
}

/// The example of the documentation, whole, with the groups that it only names.
fn whole_example() -> String {
    let rewrite = r#"        transforms: [ { url_rewrite: { regex: "^/old/(.*)$", replace: "/new/$1" } } ]
        actions: [ { forward: { target_groups: [ { name: blue, weight: 90 }, { name: green, weight: 10 } ], stickiness: 1h } } ]
"#;
    let short = "        actions: [ { forward: { target_groups: [ { name: blue } ] } } ]\n";
    assert!(CONTRACT.contains(short));
    let green = "  - { name: green, port: 80, targets: [ 10.0.0.1 ] }\n";
    CONTRACT.replace(short, rewrite) + green
}

#[test]
fn the_whole_example_is_read_and_only_what_is_not_served_refuses_it() {
    let text = whole_example();
    let reading = read::document(&text, Path::new(""));
    assert!(reading.problems.is_empty(), "{:?}", reading.problems);
    let rule = &reading.config.unwrap().listeners[0].rules[1];
    assert_eq!(rule.conditions.len(), 5);
    assert_eq!(rule.transforms.len(), 1);
    let model::Action::Forward(forward) = &rule.actions.terminal else {
        panic!("a forward");
    };
    let weights = forward.target_groups.iter().map(|group| group.weight);
    assert_eq!(weights.collect::<Vec<_>>(), [90, 10]);
    let refused = parsed(&text).unwrap_err();
    let errors = refused
        .into_iter()
        .filter(|problem| problem.severity == Severity::Error);
    let texts: Vec<&str> = errors.map(|problem| problem.message.as_str()).collect();
    assert_eq!(texts.len(), 1);
    assert!(
        texts.iter().all(|text| text.contains("is not served yet")),
        "{texts:?}"
    );
}

#[test]
fn an_error_is_not_reported_again_by_what_was_drawn_from_it() {
    let text = "
listeners:
  - { port: 80, protocol: HTTP, default_actions: [ { forward: bad_name } ] }
target_groups:
  - { name: web, port: 80, targets: [ 10.0.0.300, 10.0.0.400 ] }
";
    let paths: Vec<String> = problems(text)
        .into_iter()
        .map(|problem| problem.path)
        .collect();
    assert_eq!(
        paths,
        [
            "listeners[0].default_actions[0].forward",
            "target_groups[0].targets[0]",
            "target_groups[0].targets[1]",
        ]
    );
}

#[test]
fn a_rule_behind_a_wider_one_is_warned_about() {
    let text = "
listeners:
  - port: 80
    protocol: HTTP
    rules:
      - { priority: 3, conditions: [ { path_pattern: [/api/v2/ping] }, { http_request_method: [GET] } ], actions: [ { forward: web } ] }
      - { priority: 1, conditions: [ { path_pattern: ['/api/*'] } ], actions: [ { forward: web } ] }
      - { priority: 2, conditions: [ { path_pattern: ['/img/*', '/api/x'] } ], actions: [ { forward: web } ] }
    default_actions: [ { forward: web } ]
target_groups:
  - { name: web, port: 80, targets: [ 10.0.0.1 ] }
";
    let warnings = problems(text);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(
        warnings[0].to_string(),
        "albedo.yaml:6:36 warning: listeners[0].rules[0].conditions: rule 3 is never reached: rule 1 (rules[1]) \
         matches everything it matches; give it a smaller number than 1, narrow the earlier rule, or remove this one"
    );
}

#[test]
fn the_listeners_of_one_port_on_two_addresses_do_not_clash() {
    let text = "
listeners:
  - { port: 80, address: 10.0.0.1, protocol: HTTP, default_actions: [ { forward: web } ] }
  - { port: 80, address: 10.0.0.2, protocol: HTTP, default_actions: [ { forward: web } ] }
  - { port: 0, protocol: HTTP, default_actions: [ { forward: web } ] }
  - { port: 0, protocol: HTTP, default_actions: [ { forward: web } ] }
target_groups:
  - { name: web, port: 80, targets: [ 10.0.0.1 ] }
";
    assert!(parsed(text).is_ok());
}

/// Every field that the schema names, as the way down to it: `listeners`, `[`, `port`.
fn fields_of(schema: &Value, object: &Value, way: &[String], found: &mut Vec<Vec<String>>) {
    let properties = object["properties"].as_object().unwrap();
    for (name, property) in properties {
        let mut way = way.to_vec();
        way.push(name.clone());
        found.push(way.clone());
        descend(schema, property, &way, found);
    }
}

fn descend(schema: &Value, kind: &Value, way: &[String], found: &mut Vec<Vec<String>>) {
    if let Some(reference) = kind["$ref"].as_str() {
        let definition = schema.pointer(reference.trim_start_matches('#')).unwrap();
        fields_of(schema, definition, way, found);
    }
    if !kind["items"].is_null() {
        let way = [way, &["[".to_owned()]].concat();
        descend(schema, &kind["items"], &way, found);
    }
    for kind in kind["anyOf"].as_array().into_iter().flatten() {
        descend(schema, kind, way, found);
    }
}

/// A document that holds only this value, at this place, and how its path is shown.
fn document_with(way: &[String], value: Value) -> (String, String) {
    let document = way
        .iter()
        .rev()
        .fold(value, |inner, step| match step.as_str() {
            "[" => json!([inner]),
            name => json!({ name: inner }),
        });
    let path = way
        .iter()
        .fold(FieldPath::root(), |path, step| match step.as_str() {
            "[" => path.index(0),
            name => path.field(name),
        });
    (document.to_string(), path.to_string())
}

#[test]
fn the_reader_reads_every_field_of_the_schema_and_no_other() {
    let schema = schema();
    let mut fields = Vec::new();
    fields_of(&schema, &schema, &[], &mut fields);
    assert!(fields.len() > 80);
    for way in fields {
        // No field takes this value, so a field that is read is complained about.
        let (text, path) = document_with(&way, json!({ "zebra": { "zebra": [] } }));
        let complaints = problems(&text);
        let within = |problem: &&Problem| problem.path.starts_with(&path);
        let found: Vec<&Problem> = complaints.iter().filter(within).collect();
        assert!(!found.is_empty(), "{path} is not read");
        let known =
            |problem: &&Problem| problem.path != path || !problem.message.contains("unknown");
        assert!(found.iter().all(known), "{path}: {found:?}");
        // And a field beside it that the schema does not name is refused.
        let mut beside = way.clone();
        *beside.last_mut().unwrap() = "zebra".to_owned();
        let (text, path) = document_with(&beside, json!(1));
        let unknown =
            |problem: &Problem| problem.path == path && problem.message.contains("unknown");
        assert!(problems(&text).iter().any(unknown), "{path} is not refused");
    }
}

/// Writes every default of the schema where its field is absent.
fn with_defaults(schema: &Value, kind: &Value, value: &mut Value) {
    if let Some(reference) = kind["$ref"].as_str() {
        let definition = schema.pointer(reference.trim_start_matches('#')).unwrap();
        return with_defaults(schema, definition, value);
    }
    for kind in kind["anyOf"].as_array().into_iter().flatten() {
        with_defaults(schema, kind, value);
    }
    if let Some(elements) = value.as_array_mut() {
        for element in elements {
            with_defaults(schema, &kind["items"], element);
        }
    }
    let (Some(properties), Some(object)) = (kind["properties"].as_object(), value.as_object_mut())
    else {
        return;
    };
    let only_one = !kind["maxProperties"].is_null();
    for (name, property) in properties {
        if let Some(inner) = object.get_mut(name) {
            with_defaults(schema, property, inner);
        } else if let Some(default) = property.get("default").filter(|_| !only_one) {
            object.insert(name.clone(), default.clone());
        }
    }
}

#[test]
fn the_defaults_of_the_schema_are_those_of_the_reader() {
    let redirect =
        json!([{ "redirect": { "protocol": "HTTPS", "port": "443", "status_code": "HTTP_301" } }]);
    let mut document = json!({
        "load_balancer": { "access_log": { "path": "-" }, "cookie_keys": {} },
        "listeners": [
            { "port": 80, "protocol": "HTTP", "default_actions": redirect },
            {
                "port": 443,
                "protocol": "HTTPS",
                "certificates": [{ "certificate": "c", "key": "k" }],
                "default_actions": [{ "forward": "web" }],
            },
        ],
        "target_groups": [{
            "name": "web", "port": 80, "targets": ["10.0.0.1"], "stickiness": {}, "health_check": {},
        }],
    });
    let short = parsed(&document.to_string()).unwrap().0;
    let schema = schema();
    let mut https = document["listeners"][1].clone();
    with_defaults(&schema, &schema, &mut document);
    // An HTTP listener takes no security policy, not even the default one.
    document["listeners"][0]
        .as_object_mut()
        .unwrap()
        .remove("ssl_policy");
    with_defaults(&schema, &schema["$defs"]["listener"], &mut https);
    assert_eq!(
        https["ssl_policy"],
        "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"
    );
    assert_eq!(
        document["target_groups"][0]["health_check"]["interval"],
        "30s"
    );
    assert_eq!(parsed(&document.to_string()).unwrap().0, short);
}

#[test]
fn the_schema_names_every_object_once() {
    let schema = schema();
    let definitions: &Map<String, Value> = schema["$defs"].as_object().unwrap();
    assert!(definitions.contains_key("health_check") && definitions.contains_key("rewrite"));
    let text = schema.to_string();
    for part in text.split("\"$ref\":\"#/$defs/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(definitions.contains_key(name), "{name}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        let _ = parsed(&text);
    }

    #[test]
    fn any_change_to_a_good_file_is_read_or_refused(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "[-:,{}\\[\\]#'\"*&! \na0~]{0,4}"), 1..4),
    ) {
        let mut text: Vec<char> = whole_example().chars().collect();
        for (at, length, new) in cuts {
            let start = at.index(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, new.chars());
        }
        let text: String = text.into_iter().collect();
        for problem in problems(&text) {
            prop_assert!(!problem.message.is_empty() && !problem.remedy.is_empty());
            prop_assert!(problem.place.is_some());
        }
    }
}
