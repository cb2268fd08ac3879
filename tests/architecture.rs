//! Keeps the law of direction: a room names only rooms that stand above it in `src/lib.rs`.
//! Reads the sources as text, tests and comments left out. Never needs a parser: rustfmt gives the shape.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Names that would become a drawer for everything.
const DRAWERS: [&str; 7] = [
    "common", "globals", "helpers", "misc", "types", "util", "utils",
];

/// What may stand at the top; what the build and the version control make is not ours.
const FOLDERS: [&str; 5] = ["benches", "config", "fuzz", "src", "tests"];

#[test]
fn rooms_name_only_rooms_above_them() {
    let rooms = rooms();
    let place = |name: &str| rooms.iter().position(|room| room == name);
    let mut violations = Vec::new();
    for (file, text) in sources() {
        let room = room_of(&file);
        let own = place(room).unwrap_or_else(|| panic!("lib.rs has no `mod {room};`"));
        for named in named_rooms(&text) {
            match place(&named) {
                Some(other) if other <= own => {}
                Some(_) => violations.push(format!("{file}: `{room}` reaches up to `{named}`")),
                None => violations.push(format!("{file}: `crate::{named}` is no room")),
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn nobody_climbs_twice_and_no_name_is_a_drawer() {
    let mut violations = Vec::new();
    for (file, text) in sources() {
        // In a room's first file `super` is the crate itself, and hides a room's name from the law.
        let hidden = (is_first_file(&file) && outside_inline_modules(&text).contains("super::"))
            .then_some("super::");
        let forbidden = ["super::super::", "use super::*"];
        let climbing = forbidden.into_iter().filter(|words| text.contains(words));
        let names = file.trim_end_matches(".rs").split('/');
        let drawers = names.filter(|name| DRAWERS.contains(name));
        for found in hidden.into_iter().chain(climbing).chain(drawers) {
            violations.push(format!("{file}: `{found}`"));
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn five_folders_stand_at_the_top() {
    let folders = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap());
    let unexpected: Vec<String> = folders
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && name != "target")
        .filter(|name| !FOLDERS.contains(&name.as_str()))
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}

#[test]
fn the_room_table_of_architecture_md_has_the_order_of_lib_rs() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows: Vec<(&str, &str)> = rows.filter_map(|row| row.split_once("` |")).collect();
    let rooms = rooms();
    let names = rows.iter().map(|(name, _)| *name);
    let standing: Vec<&str> = names
        .filter(|name| rooms.iter().any(|room| room == name))
        .collect();
    assert_eq!(standing, rooms, "rows of the table, `mod` lines");
    let absent = rows.iter().filter(|(_, rest)| rest.contains("absent"));
    let early: Vec<_> = absent.filter(|(name, _)| standing.contains(name)).collect();
    assert!(early.is_empty(), "called absent but standing: {early:?}");
}

#[test]
fn every_dependency_is_justified_in_contributing_md() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let page = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let mut named = false;
    let mut missing = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            named = line.ends_with("dependencies]");
        }
        let name = line.split([' ', '=', '.']).next().unwrap_or_default();
        let is_crate = named && !name.is_empty() && !name.starts_with(['[', '#']);
        if is_crate && !page.contains(&format!("| `{name}` | ")) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_figures_of_security_md_are_those_of_the_sources() {
    let page = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let figures = rows.filter_map(|row| row.strip_suffix(" |")?.split_once("` | "));
    let sources = sources();
    let mut held = 0;
    for (name, figure) in figures {
        let mark = format!("const {name}: ");
        let values: Vec<u64> = sources
            .iter()
            .flat_map(|(_, text)| text.split(&mark).skip(1).map(product))
            .collect();
        assert_eq!(values, [figure.parse().unwrap()], "{name}");
        held += 1;
    }
    assert_eq!(held, 12);
}

/// The value of a constant from behind its name: a product of numbers.
fn product(definition: &str) -> u64 {
    let (_, value) = definition.split_once(" = ").unwrap();
    let (value, _) = value.split_once(';').unwrap();
    let factors = value
        .split('*')
        .map(|factor| factor.trim().replace('_', ""));
    factors
        .map(|factor| factor.parse::<u64>().unwrap())
        .product()
}

#[test]
fn the_law_sees_through_groups_and_not_into_tests() {
    let source = "use crate::{model, rule::{self, Rule}};\nlet a = crate::tls::load(); // crate::app\n\
        #[cfg(test)]\nmod tests {\n    use super::*;\n    use crate::proxy;\n}\n";
    assert_eq!(named_rooms(&code(source)), ["model", "rule", "tls"]);
    assert!(!code(source).contains("use super::*"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Names of the `mod` lines of lib.rs, in their order.
fn rooms() -> Vec<String> {
    let text = code(&fs::read_to_string(root().join("src/lib.rs")).unwrap());
    let lines = text
        .lines()
        .map(|line| line.trim().trim_start_matches("pub "));
    let names = lines.filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    names.map(str::to_owned).collect()
}

/// Every file of every room: its path below src/ and its code. lib.rs and main.rs stand outside of all.
fn sources() -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> = vec![root().join("src")];
    let mut files = Vec::new();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = path.strip_prefix(root().join("src")).unwrap();
            let file = file.to_str().unwrap().to_owned();
            files.push((file, code(&fs::read_to_string(path).unwrap())));
        }
    }
    files.retain(|(file, _)| file != "lib.rs" && file != "main.rs" && !file.ends_with("tests.rs"));
    files.sort();
    files
}

fn room_of(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

fn is_first_file(file: &str) -> bool {
    !file.contains('/') || (file.matches('/').count() == 1 && file.ends_with("/mod.rs"))
}

/// Lines that are not inside an inline module.
fn outside_inline_modules(text: &str) -> String {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        inside = (inside || (line.contains("mod ") && line.ends_with('{'))) && line != "}";
        if !inside {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// Source without line comments and without the tests, which stand at the foot of a file.
fn code(source: &str) -> String {
    let marks = source.match_indices("#[cfg(test)]\n");
    let end = marks
        .map(|(at, mark)| (at, source[at + mark.len()..].lines().next()))
        .find(|(_, item)| item.is_some_and(|item| item.ends_with("mod tests {")))
        .map(|(at, _)| at);
    let lines = source[..end.unwrap_or(source.len())].lines();
    let lines = lines.map(|line| line.split("//").next().unwrap_or("").trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

/// First names after `crate::`; of `crate::{a::b, c::{d}}` these are `a` and `c`.
fn named_rooms(text: &str) -> Vec<String> {
    let paths = text
        .match_indices("crate::")
        .map(|(at, found)| &text[at + found.len()..]);
    paths.flat_map(first_names).collect()
}

fn first_names(path: &str) -> Vec<String> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let Some(group) = path.strip_prefix('{') else {
        return vec![path.chars().take_while(|c| word(*c)).collect()];
    };
    let mut depth = 1;
    let mut flat = String::new();
    for character in group.chars().take_while(|c| *c != ';') {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ if depth == 1 => flat.push(character),
            _ => {}
        }
    }
    let names = flat
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    names
        .map(|name| name.chars().take_while(|c| word(*c)).collect())
        .collect()
}
