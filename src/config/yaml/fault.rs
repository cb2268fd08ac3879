//! What can be wrong with a text as YAML, in words for the person who wrote it.

use saphyr_parser::ScanError;

use super::{DEPTH_MAX, Position};

/// What is wrong with the text as YAML.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::config) struct Fault {
    pub(in crate::config) position: Position,
    pub(in crate::config) message: String,
    pub(in crate::config) remedy: String,
}

impl Fault {
    pub(in crate::config) fn new(
        position: Position,
        message: impl Into<String>,
        remedy: &str,
    ) -> Self {
        Self {
            position,
            message: message.into(),
            remedy: remedy.to_owned(),
        }
    }
}

/// The scanner's words, and what usually leads to them.
pub(super) fn explain(error: &ScanError) -> Fault {
    let info = error.info();
    let position = Position::from(*error.marker());
    if info.contains("recursion limit") {
        return too_deep(position);
    }
    let remedy = if info.contains("unknown anchor") {
        "put a value that begins with '*' in quotes, such as \"*.example.com\""
    } else if info.contains("anchor or alias") {
        "put a value that begins with '*' or '&' in quotes, such as \"*\""
    } else if info.contains("tab") {
        "indent with blanks, never with tabs"
    } else if info.contains("illegal placement") || info.contains("expected node content") {
        UNCLOSED
    } else if info.contains("mapping values") || info.contains("':'") {
        "put a value that holds ': ' in quotes, and indent the fields of one object alike"
    } else if info.contains("quoted scalar") {
        "close the quotes, and in double quotes write a backslash as '\\\\', or use single quotes"
    } else if info == "invalid indentation" {
        UNCLOSED
    } else if info.contains("',' or") || info.contains("flow") || info.contains("bracket") {
        "close every '[' with ']' and every '{' with '}', put commas between, and put '#{…}' in quotes"
    } else if info.contains("unexpected character") || info.contains("next token") {
        "put a value that begins with '@', '`' or '%' in quotes"
    } else {
        "look at this line and the one above: indent alike, put special characters in quotes"
    };
    let message = format!("this is not YAML: {info}");
    Fault::new(position, message, remedy)
}

/// Seen where the scanner stumbles over the line after the slip.
const UNCLOSED: &str = "close brackets, braces and quotes on the lines above (text after ' #' is a comment), or indent alike";

pub(super) fn too_deep(position: Position) -> Fault {
    let message = format!("this is nested more than {DEPTH_MAX} levels deep");
    Fault::new(
        position,
        message,
        "write it flatter: no field stands that deep",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::parse;

    fn fault(text: &str) -> Fault {
        parse(text).faults.into_iter().next().unwrap()
    }

    #[test]
    fn usual_slips_are_explained() {
        assert!(
            fault("a: [*.example.com]")
                .remedy
                .contains("begins with '*'")
        );
        assert!(fault("a: *").remedy.contains("begins with '*'"));
        assert!(fault("a:\n\tb: 1").remedy.contains("tabs"));
        assert!(fault("a: b: c").remedy.contains("': '"));
        assert!(fault("a: \"x").remedy.contains("close the quotes"));
        assert!(fault("a: [1, 2\nb: 3").remedy.contains("close "));
        let unclosed = fault("a: {b: #{host}}");
        assert!(unclosed.remedy.contains("is a comment"), "{unclosed:?}");
        let at = fault("a: @x");
        assert!(at.remedy.contains("'@'"), "{at:?}");
        assert!(fault("a: !secret x").message.contains("tag"));
        assert!(fault("a: 1\n---\nb: 2").message.contains("second document"));
        assert!(fault("? [a]\n: b").message.contains("name of a field"));
    }
}
