//! YAML 1.2 text as a tree whose every value knows its line and column. Never knows what the fields mean.

mod fault;

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};

use self::fault::{Fault, explain, too_deep};
use crate::worker;

/// Deepest nesting. The format's own deepest value stands at 11.
const DEPTH_MAX: usize = 32;
/// Bytes that the tree may take in memory, aliases written out. A file of 100 groups with 1000 targets each stays
/// below; a few lines of aliases to aliases do not.
const WEIGHT_MAX: usize = 64 << 20;
/// What a value takes besides its text.
const NODE_WEIGHT: usize = 64;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) position: Position,
    pub(super) value: Value,
}

/// The kinds of value. Text and numbers are one: the reader knows which it wants.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Scalar(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A key of a mapping and its value; a key may come twice.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) position: Position,
    pub(super) node: Node,
}

/// Line and column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Position {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

impl From<Marker> for Position {
    fn from(marker: Marker) -> Self {
        Self {
            line: marker.line().max(1),
            column: marker.col() + 1,
        }
    }
}

/// The one document of a text; none when the text is empty or breaks off.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) root: Option<Node>,
    pub(super) faults: Vec<Fault>,
}

/// Reads the tree and whatever is wrong with it. A syntax error ends the reading, other faults do not.
pub(super) fn parse(text: &str) -> Document {
    let mut builder = Builder {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        weight: 0,
        faults: Vec::new(),
    };
    let root = match builder.document() {
        Ok(root) => root,
        Err(fault) => {
            builder.faults.push(fault);
            None
        }
    };
    Document {
        root,
        faults: builder.faults,
    }
}

struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    /// Values that a later alias may repeat.
    anchors: HashMap<usize, Node>,
    weight: usize,
    faults: Vec<Fault>,
}

impl<'t> Builder<'t> {
    fn document(&mut self) -> Result<Option<Node>, Fault> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::Nothing
                | Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                _ if root.is_some() => {
                    return Err(Fault::new(
                        span.start.into(),
                        "a second document begins here",
                        "keep one document in the file, and remove the '---' before it",
                    ));
                }
                event => root = Some(self.node(event, span, 1)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Fault> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(explain(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Fault> {
        worker::step_aside();
        let position = Position::from(span.start);
        if depth > DEPTH_MAX {
            return Err(too_deep(position));
        }
        let (anchor, value) = match event {
            Event::Alias(anchor) => return self.alias(anchor, position, depth),
            Event::Scalar(text, style, anchor, tag) => {
                self.weigh(text.len(), position)?;
                self.check_tag(tag.as_deref(), position);
                (anchor, scalar(&text, style, tag.as_deref()))
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), position);
                (anchor, self.sequence(depth)?)
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), position);
                (anchor, self.mapping(depth)?)
            }
            _ => (0, Value::Null),
        };
        self.weigh(NODE_WEIGHT, position)?;
        let node = Node { position, value };
        if anchor > 0 {
            self.weigh(weight(&node), position)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut nodes = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd | Event::StreamEnd, _) => return Ok(Value::Sequence(nodes)),
                (event, span) => nodes.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = match self.next()? {
                (Event::MappingEnd | Event::StreamEnd, _) => return Ok(Value::Mapping(entries)),
                next => next,
            };
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let mut node = self.node(event, span, depth + 1)?;
            if node.value == Value::Null {
                // The empty value of `port:` has no place of its own.
                node.position = key.position;
            }
            match key.value {
                Value::Scalar(text) => entries.push(Entry {
                    key: text,
                    position: key.position,
                    node,
                }),
                Value::Null | Value::Sequence(_) | Value::Mapping(_) => {
                    self.faults.push(Fault::new(
                        key.position,
                        "the name of a field is missing here",
                        "write 'name: value', and put a value that begins with '{', '[' or '?' in quotes",
                    ));
                }
            }
        }
    }

    /// A copy of what an anchor marked, within the same bounds as if it were written out.
    fn alias(&mut self, anchor: usize, position: Position, depth: usize) -> Result<Node, Fault> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Fault::new(
                position,
                "this alias stands inside of what it repeats",
                "write the value out",
            ));
        };
        let (weight, height) = (weight(node), height(node));
        if depth + height > DEPTH_MAX {
            return Err(Fault::new(
                position,
                format!(
                    "with this alias written out, values nest more than {DEPTH_MAX} levels deep"
                ),
                "write the value out",
            ));
        }
        self.weigh(weight, position)?;
        Ok(self.anchors[&anchor].clone())
    }

    fn weigh(&mut self, weight: usize, position: Position) -> Result<(), Fault> {
        self.weight = self.weight.saturating_add(weight);
        if self.weight <= WEIGHT_MAX {
            return Ok(());
        }
        Err(Fault::new(
            position,
            "the file with its aliases written out is too large",
            "use fewer aliases, above all none to values that hold aliases",
        ))
    }

    fn check_tag(&mut self, tag: Option<&Tag>, position: Position) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema() && tag.handle != "!") {
            let message = format!("the tag '{tag}' means nothing here");
            self.faults.push(Fault::new(position, message, "remove it"));
        } else if let Some(tag) = tag.filter(|tag| tag.handle == "!" && !tag.suffix.is_empty()) {
            let message = format!("the tag '!{}' means nothing here", tag.suffix);
            let remedy = "remove it, or put a value that begins with '!' in quotes";
            self.faults.push(Fault::new(position, message, remedy));
        }
    }
}

/// YAML 1.2 §10.3.2: what the plain scalar says when it says nothing.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let plain = style == ScalarStyle::Plain && tag.is_none();
    match text {
        "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
        _ => Value::Scalar(text.to_owned()),
    }
}

fn weight(node: &Node) -> usize {
    let inside = match &node.value {
        Value::Null => 0,
        Value::Scalar(text) => text.len(),
        Value::Sequence(nodes) => nodes.iter().map(weight).sum(),
        Value::Mapping(entries) => {
            let each = |entry: &Entry| NODE_WEIGHT + entry.key.len() + weight(&entry.node);
            entries.iter().map(each).sum()
        }
    };
    NODE_WEIGHT + inside
}

/// Levels below this one.
fn height(node: &Node) -> usize {
    let below = match &node.value {
        Value::Null | Value::Scalar(_) => return 0,
        Value::Sequence(nodes) => nodes.iter().map(height).max(),
        Value::Mapping(entries) => entries.iter().map(|entry| height(&entry.node)).max(),
    };
    1 + below.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(text: &str) -> Fault {
        parse(text).faults.into_iter().next().unwrap()
    }

    fn root(text: &str) -> Node {
        let document = parse(text);
        assert_eq!(document.faults, vec![]);
        document.root.unwrap()
    }

    #[test]
    fn every_value_knows_its_line_and_column() {
        let Value::Mapping(entries) = root("a: 1\nb:\n  - x\n  - {c: }\n").value else {
            panic!("a mapping");
        };
        assert_eq!(entries[0].node.position, Position { line: 1, column: 4 });
        assert_eq!(entries[1].position, Position { line: 2, column: 1 });
        let Value::Sequence(nodes) = &entries[1].node.value else {
            panic!("a sequence");
        };
        assert_eq!(nodes[0].position, Position { line: 3, column: 5 });
        let Value::Mapping(inner) = &nodes[1].value else {
            panic!("a mapping");
        };
        assert_eq!(inner[0].node.value, Value::Null);
        assert_eq!(inner[0].node.position, Position { line: 4, column: 6 });
    }

    #[test]
    fn an_alias_repeats_its_anchor() {
        let aliased = root("a: &x {p: 1}\nb: *x\n");
        let Value::Mapping(entries) = aliased.value else {
            panic!("a mapping");
        };
        assert_eq!(entries[0].node.value, entries[1].node.value);
    }

    #[test]
    fn a_bomb_of_aliases_is_defused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            text += &format!("a{level}: &a{level} [{below}]\n");
        }
        assert!(fault(&text).message.contains("too large"));
        assert!(fault("a: &a [*a]").message.contains("stands inside"));
    }

    #[test]
    fn deep_nesting_is_refused_quickly() {
        assert!(
            fault(&"[".repeat(200_000))
                .message
                .contains("nested more than")
        );
        assert!(
            fault(&"- ".repeat(50_000))
                .message
                .contains("nested more than")
        );
        assert!(
            fault(&"{a: ".repeat(50_000))
                .message
                .contains("nested more than")
        );
    }

    #[test]
    fn an_empty_text_has_no_root() {
        for text in ["", "# nothing\n", "---\n...\n"] {
            let document = parse(text);
            assert!(document.faults.is_empty(), "{text:?}");
            assert!(document.root.is_none_or(|root| root.value == Value::Null));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-a-c:,\\[\\]{}#&*!|>'\"%@` \n\t?~0.]{0,60}|.{0,60}") {
            let _ = parse(&text);
        }
    }
}
