//! Finds rules that never have their turn, because an earlier one always matches when they do.

use super::Findings;
use crate::config::field_path::FieldPath;
use crate::model::{Condition, QueryPattern, Rule, TextPattern};

/// Pairs of rules compared on one listener, so that a generated file of thousands of rules is still read at once;
/// 2,000 rules have as many.
const PAIRS_MAX: usize = 2_000_000;

pub(super) fn check(rules: &[Rule], path: &FieldPath, findings: &mut Findings) {
    let mut order: Vec<usize> = (0..rules.len()).collect();
    order.sort_by_key(|index| rules[*index].priority);
    let mut pairs = 0;
    for (turn, &later) in order.iter().enumerate() {
        pairs += turn;
        if pairs > PAIRS_MAX {
            return;
        }
        let mut earlier = order[..turn].iter();
        let Some(&first) = earlier.find(|first| shadows(&rules[**first], &rules[later])) else {
            continue;
        };
        let message = format!(
            "rule {} is never reached: rule {} (rules[{first}]) matches everything it matches",
            rules[later].priority, rules[first].priority
        );
        let remedy = format!(
            "give it a smaller number than {}, narrow the earlier rule, or remove this one",
            rules[first].priority
        );
        let grounds = [first, later].map(|index| path.index(index));
        let finding = findings.warning(&path.index(later).field("conditions"), message, remedy);
        for rule in grounds {
            finding.rests_on([rule.field("priority"), rule.field("conditions")]);
        }
    }
}

/// Whether `earlier` holds for every request for which `later` does. Says no when in doubt.
fn shadows(earlier: &Rule, later: &Rule) -> bool {
    earlier.priority != later.priority
        && !earlier.conditions.is_empty()
        && earlier.conditions.iter().all(|wide| {
            always_holds(wide) || later.conditions.iter().any(|narrow| implies(narrow, wide))
        })
}

fn always_holds(condition: &Condition) -> bool {
    match condition {
        Condition::PathPattern(values) => values
            .iter()
            .any(|value| matches!(value.as_str(), "*" | "/*")),
        Condition::SourceIp(_)
        | Condition::HostHeader(_)
        | Condition::HttpHeader { .. }
        | Condition::HttpRequestMethod(_)
        | Condition::QueryString(_) => false,
    }
}

/// Whether each alternative of `narrow` lies within one of `wide`.
fn implies(narrow: &Condition, wide: &Condition) -> bool {
    match (narrow, wide) {
        (Condition::PathPattern(narrow), Condition::PathPattern(wide)) => {
            each_within(narrow, wide, |narrow, wide| {
                covers(wide.as_str(), narrow.as_str())
            })
        }
        (Condition::HostHeader(narrow), Condition::HostHeader(wide)) => {
            each_within(narrow, wide, |narrow, wide| {
                covers_text(wide.as_str(), narrow.as_str())
            })
        }
        (
            Condition::HttpHeader {
                name: narrow_name,
                values: narrow,
            },
            Condition::HttpHeader {
                name: wide_name,
                values: wide,
            },
        ) => {
            narrow_name
                .as_str()
                .eq_ignore_ascii_case(wide_name.as_str())
                && each_within(narrow, wide, |narrow, wide| {
                    covers_text(wide.as_str(), narrow.as_str())
                })
        }
        (Condition::HttpRequestMethod(narrow), Condition::HttpRequestMethod(wide)) => {
            each_within(narrow, wide, PartialEq::eq)
        }
        (Condition::QueryString(narrow), Condition::QueryString(wide)) => {
            each_within(narrow, wide, pair_within)
        }
        (Condition::SourceIp(narrow), Condition::SourceIp(wide)) => {
            each_within(narrow, wide, |narrow, wide| wide.contains(narrow))
        }
        _ => false,
    }
}

fn each_within<T>(narrow: &[T], wide: &[T], within: impl Fn(&T, &T) -> bool) -> bool {
    !narrow.is_empty()
        && narrow
            .iter()
            .all(|narrow| wide.iter().any(|wide| within(narrow, wide)))
}

fn pair_within(narrow: &QueryPattern, wide: &QueryPattern) -> bool {
    let text = |pattern: &TextPattern| pattern.as_str().to_owned();
    let key = match (&narrow.key, &wide.key) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(narrow), Some(wide)) => covers_text(&text(wide), &text(narrow)),
    };
    key && covers_text(wide.value.as_str(), narrow.value.as_str())
}

/// As [`covers`], for patterns that are compared without regard to case and may hold escapes.
fn covers_text(wide: &str, narrow: &str) -> bool {
    let escaped = wide.contains('\\') || narrow.contains('\\');
    match escaped {
        true => wide.eq_ignore_ascii_case(narrow),
        false => covers(&wide.to_ascii_lowercase(), &narrow.to_ascii_lowercase()),
    }
}

/// Whether `wide` matches every text that `narrow` matches: `wide` is matched against the text of `narrow`, whose
/// own wildcards only a `*`, or a `?` of their like, can swallow.
fn covers(wide: &str, narrow: &str) -> bool {
    let (wide, narrow) = (wide.as_bytes(), narrow.as_bytes());
    let (mut w, mut n) = (0, 0);
    // Where to go on when a guess of how much the last `*` swallows fails.
    let mut retry: Option<(usize, usize)> = None;
    while n < narrow.len() {
        let same = wide.get(w).is_some_and(|&byte| match byte {
            b'*' => false,
            b'?' => narrow[n] != b'*',
            byte => byte == narrow[n],
        });
        if wide.get(w) == Some(&b'*') {
            retry = Some((w + 1, n));
            w += 1;
        } else if same {
            (w, n) = (w + 1, n + 1);
        } else if let Some((after_star, swallowed)) = retry {
            retry = Some((after_star, swallowed + 1));
            (w, n) = (after_star, swallowed + 1);
        } else {
            return false;
        }
    }
    wide[w..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wide_pattern_covers_a_narrow_one() {
        for (wide, narrow) in [
            ("/api/*", "/api/v2/*"),
            ("/api/*", "/api/"),
            ("*", "anything?*"),
            ("/a?c", "/abc"),
            ("/a?c", "/a?c"),
            ("/a*c", "/a?b*c"),
            ("/x", "/x"),
        ] {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in [
            ("/api/*", "/api"),
            ("/api/v2/*", "/api/*"),
            ("/a?c", "/a*c"),
            ("/x", "/*"),
            ("/a", "/A"),
        ] {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
        assert!(covers_text("*.Example.com", "www.example.COM"));
        assert!(!covers_text("a*", "a\\*"));
    }

    /// The obvious matcher.
    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => (0..=text.len()).any(|end| matches(rest, &text[end..])),
            (Some((b'?', pattern)), Some((_, text))) => matches(pattern, text),
            (Some((left, pattern)), Some((right, text))) => left == right && matches(pattern, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn what_a_covered_pattern_matches_its_cover_matches(
            wide in "[ab*?]{0,6}", narrow in "[ab*?]{0,6}", text in "[ab]{0,8}",
        ) {
            if covers(&wide, &narrow) && matches(narrow.as_bytes(), text.as_bytes()) {
                prop_assert!(matches(wide.as_bytes(), text.as_bytes()));
            }
        }
    }
}
