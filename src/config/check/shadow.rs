//! Finds rules that never have their turn, because an earlier one always matches when they do.

use std::collections::{BTreeSet, HashMap};

use super::Findings;
use crate::config::field_path::FieldPath;
use crate::model::{Condition, QueryPattern, Rule, TextPattern};
use crate::worker;

/// Pairs of rules compared on one listener. Paths and hosts choose few to compare; a generated file of thousands of rules
/// that have neither, or all begin with a wildcard, is still read at once.
const PAIRS_MAX: usize = 2_000_000;

pub(super) fn check(rules: &[Rule], path: &FieldPath, findings: &mut Findings) {
    let mut order: Vec<usize> = (0..rules.len()).collect();
    order.sort_by_key(|index| rules[*index].priority);
    let mut earlier = Earlier::default();
    let mut pairs = 0;
    for (turn, &later) in order.iter().enumerate() {
        worker::step_aside();
        let candidates = earlier.candidates(&rules[later]);
        pairs += candidates.len();
        if pairs > PAIRS_MAX {
            return;
        }
        let first = candidates
            .into_iter()
            .filter(|turn| shadows(&rules[order[*turn]], &rules[later]))
            .min();
        earlier.insert(turn, &rules[later]);
        let Some(first) = first.map(|turn| order[turn]) else {
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

/// Rules by what another must have to lie within them, so that not every one is compared with every other.
#[derive(Debug, Default)]
struct Earlier {
    /// A pattern of theirs begins or ends with this text, and so does every pattern within it.
    by_end: HashMap<Side, Ends>,
    /// Those that have no path and no host to tell.
    others: Vec<usize>,
}

/// Which end of which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Side {
    PathFront,
    PathBack,
    HostFront,
    HostBack,
}

/// Rules by one end of a pattern.
#[derive(Debug, Default)]
struct Ends {
    rules: HashMap<Vec<u8>, Vec<usize>>,
    /// Lengths of the texts; there are few.
    lengths: BTreeSet<usize>,
}

impl Earlier {
    fn insert(&mut self, turn: usize, rule: &Rule) {
        let telling = rule.conditions.iter().filter(|one| !always_holds(one));
        let Some(texts) = telling.filter_map(texts).next() else {
            self.others.push(turn);
            return;
        };
        let [front, back] = texts.sides;
        for text in &texts.values {
            let wildcard = |byte: &u8| matches!(byte, b'*' | b'?');
            let begins = text.iter().take_while(|byte| !wildcard(byte)).count();
            let ends = text.iter().rev().take_while(|byte| !wildcard(byte)).count();
            let (side, end) = match begins >= ends {
                true => (front, &text[..begins]),
                false => (back, &text[text.len() - ends..]),
            };
            let ends = self.by_end.entry(side).or_default();
            ends.lengths.insert(end.len());
            ends.rules.entry(end.to_owned()).or_default().push(turn);
        }
    }

    /// Every rule that may match all that this one matches, and some others; none twice.
    fn candidates(&self, rule: &Rule) -> BTreeSet<usize> {
        let mut found = BTreeSet::from_iter(self.others.iter().copied());
        for texts in rule.conditions.iter().filter_map(texts) {
            // Whoever matches all that this rule matches matches what its first value does.
            let Some(text) = texts.values.first() else {
                continue;
            };
            for side in texts.sides {
                let Some(ends) = self.by_end.get(&side) else {
                    continue;
                };
                for length in ends.lengths.range(..=text.len()) {
                    let end = match side {
                        Side::PathFront | Side::HostFront => &text[..*length],
                        Side::PathBack | Side::HostBack => &text[text.len() - length..],
                    };
                    found.extend(ends.rules.get(end).into_iter().flatten());
                }
            }
        }
        found
    }
}

/// The patterns of one condition, as they are compared.
struct Texts {
    sides: [Side; 2],
    values: Vec<Vec<u8>>,
}

/// The patterns of a condition that has any by which rules can be told apart.
fn texts(condition: &Condition) -> Option<Texts> {
    match condition {
        Condition::PathPattern(values) => Some(Texts {
            sides: [Side::PathFront, Side::PathBack],
            values: values.iter().map(|value| value.as_str().into()).collect(),
        }),
        Condition::HostHeader(values) => Some(Texts {
            sides: [Side::HostFront, Side::HostBack],
            values: values
                .iter()
                .map(|value| value.as_str().to_ascii_lowercase().into())
                .collect(),
        }),
        Condition::SourceIp(_)
        | Condition::HttpHeader { .. }
        | Condition::HttpRequestMethod(_)
        | Condition::QueryString(_) => None,
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
    use crate::model::Actions;

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

    fn condition() -> impl Strategy<Value = Condition> {
        let values = |pattern| prop::collection::vec(pattern, 1..3);
        prop_oneof![
            values("/[ab*?]{0,3}").prop_map(|values| Condition::PathPattern(parsed(&values))),
            values("[aB*?.]{1,4}").prop_map(|values| Condition::HostHeader(parsed(&values))),
            values("[AB]").prop_map(|values| Condition::HttpRequestMethod(parsed(&values))),
        ]
    }

    fn parsed<T: std::str::FromStr>(values: &[String]) -> Vec<T> {
        let parsed = |value: &String| value.parse().ok();
        values.iter().filter_map(parsed).collect()
    }

    fn rules() -> impl Strategy<Value = Vec<Rule>> {
        let conditions = prop::collection::vec(condition(), 1..3);
        prop::collection::vec(conditions, 0..12).prop_map(|rules| {
            let rule = |(priority, conditions): (u16, Vec<Condition>)| Rule {
                priority: priority.to_string().parse().unwrap(),
                conditions,
                transforms: Vec::new(),
                actions: Actions::forward("web".parse().unwrap()),
            };
            (1..).zip(rules).map(rule).collect()
        })
    }

    proptest! {
        #[test]
        fn whoever_is_chosen_for_comparison_includes_whoever_shadows(rules in rules()) {
            let mut findings = Findings::default();
            check(&rules, &FieldPath::root(), &mut findings);
            let found: Vec<&str> = findings.0.iter().map(|one| one.message.as_str()).collect();
            let mut expected = Vec::new();
            for (later, rule) in rules.iter().enumerate() {
                if let Some(first) = rules[..later].iter().find(|first| shadows(first, rule)) {
                    expected.push(format!("rule {} is never reached: rule {} ", rule.priority, first.priority));
                }
            }
            prop_assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!(found.starts_with(expected.as_str()), "{} {}", found, expected);
            }
        }

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
