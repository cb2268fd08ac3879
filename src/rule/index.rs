//! Which rules may match a request, told from how its path begins and its host ends, so that a thousand rules cost it
//! what ten do. Never decides: whatever it leaves out cannot match, and whatever it names is asked all its conditions.

use std::collections::HashMap;
use std::iter::successors;

use super::condition::{Condition, Subject};

/// So few rules are asked one after the other: nearly all fall at a few bytes of their first condition.
const FEW: usize = 8;

/// As much of a host as is looked at, from its end. ALB's patterns are no longer; longer ones are told apart by this much.
const HOST_MAX: usize = 128;

/// The rules of one listener, each at one place: under the path or the host that it shares with the fewest others.
/// Rules are numbers here, in ascending order of priority.
#[derive(Debug)]
pub(super) struct Index {
    by_path: Beginnings,
    /// Hosts are read backwards: it is their ends that patterns name.
    by_host: Beginnings,
    /// Those that may match whatever the path and the host are.
    others: Box<[u32]>,
}

/// Rules by how a text must begin for them.
#[derive(Debug, Default)]
struct Beginnings(Box<[Beginning]>);

/// In ascending order of their texts, which makes neighbours of those that begin alike.
#[derive(Debug)]
struct Beginning {
    text: Box<[u8]>,
    /// The longest of the others that this one begins with.
    shorter: Option<u32>,
    rules: Box<[u32]>,
}

/// A text that rules are found by.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Path(Box<[u8]>),
    Host(Box<[u8]>),
}

impl Index {
    /// Of the rules that have these conditions.
    pub(super) fn build<'a>(rules: impl Iterator<Item = &'a [Condition]>) -> Self {
        let rules: Vec<_> = rules.map(choices).collect();
        let mut crowds: HashMap<&Key, usize> = HashMap::new();
        for key in rules.iter().flatten().flatten() {
            *crowds.entry(key).or_default() += 1;
        }
        let (mut by_path, mut by_host) = (HashMap::new(), HashMap::new());
        let mut others = Vec::new();
        for (rule, choices) in (0..).zip(&rules) {
            let crowd = |keys: &&Vec<Key>| keys.iter().map(|key| crowds[key]).max();
            let Some(keys) = choices
                .iter()
                .min_by_key(crowd)
                .filter(|_| rules.len() > FEW)
            else {
                others.push(rule);
                continue;
            };
            for key in keys {
                let (texts, text) = match key {
                    Key::Path(text) => (&mut by_path, text),
                    Key::Host(text) => (&mut by_host, text),
                };
                let rules: &mut Vec<u32> = texts.entry(text.clone()).or_default();
                rules.push(rule);
            }
        }
        Self {
            by_path: Beginnings::of(by_path),
            by_host: Beginnings::of(by_host),
            others: others.into(),
        }
    }

    /// The first rule that holds.
    pub(super) fn first(
        &self,
        subject: &Subject<'_>,
        holds: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut first = u32::MAX;
        let mut look = |rules: &[u32]| {
            let before = rules.iter().take_while(|rule| **rule < first);
            if let Some(rule) = before.copied().find(|rule| holds(*rule as usize)) {
                first = rule;
            }
        };
        look(&self.others);
        self.by_path
            .of_those_with(subject.path())
            .for_each(&mut look);
        if !self.by_host.0.is_empty() {
            let mut buffer = [0; HOST_MAX];
            let host = backwards(subject.host(), &mut buffer);
            self.by_host.of_those_with(host).for_each(&mut look);
        }
        (first != u32::MAX).then_some(first as usize)
    }
}

/// The conditions by which a rule can be found, as the keys of their alternatives; a rule is under all of one of them.
fn choices(conditions: &[Condition]) -> Vec<Vec<Key>> {
    let keys = |condition: &Condition| -> Option<Vec<Key>> {
        let keys: Vec<Key> = match condition {
            Condition::PathPattern(paths) => {
                let beginnings = paths.iter().map(|path| path.beginning());
                beginnings.map(|text| Key::Path(text.into())).collect()
            }
            Condition::HostHeader(hosts) => {
                let ends = hosts.iter().map(|host| host.end());
                let key = |end| Key::Host(backwards(end, &mut [0; HOST_MAX]).into());
                ends.map(key).collect()
            }
            Condition::HttpHeader { .. }
            | Condition::HttpRequestMethod(_)
            | Condition::QueryString(_)
            | Condition::SourceIp(_) => return None,
        };
        // A wildcard where others have a text: it may be anything.
        let tells = |key: &Key| match key {
            Key::Path(text) | Key::Host(text) => !text.is_empty(),
        };
        keys.iter().all(tells).then_some(keys)
    };
    conditions.iter().filter_map(keys).collect()
}

/// The end of a host from its last letter on, capitals folded.
fn backwards<'b>(host: &[u8], buffer: &'b mut [u8; HOST_MAX]) -> &'b [u8] {
    let letters = host.iter().rev().map(u8::to_ascii_lowercase);
    let places = buffer.iter_mut().zip(letters);
    places.for_each(|(place, letter)| *place = letter);
    &buffer[..host.len().min(HOST_MAX)]
}

impl Beginnings {
    fn of(texts: HashMap<Box<[u8]>, Vec<u32>>) -> Self {
        let mut texts: Vec<_> = texts.into_iter().collect();
        texts.sort_unstable();
        let mut beginnings: Vec<Beginning> = Vec::with_capacity(texts.len());
        for (text, rules) in texts {
            let last = beginnings.len().checked_sub(1);
            let mut before = successors(last, |at| beginnings[*at].shorter());
            let shorter = before.find(|at| text.starts_with(&beginnings[*at].text));
            beginnings.push(Beginning {
                text,
                shorter: shorter.map(|at| u32::try_from(at).expect("rules are numbered by a u32")),
                rules: rules.into(),
            });
        }
        Self(beginnings.into())
    }

    /// The rules under everything that `text` begins with.
    fn of_those_with(&self, text: &[u8]) -> impl Iterator<Item = &[u32]> {
        // Whatever lies between a beginning of `text` and `text` itself begins so too, and the last that is not greater
        // than `text` does; so all beginnings of `text` are among its own.
        let not_greater = self.0.partition_point(|one| *one.text <= *text);
        let chain = successors(not_greater.checked_sub(1), |at| self.0[*at].shorter());
        let chain = chain.map(|at| &self.0[at]);
        chain
            .filter(|one| text.starts_with(&one.text))
            .map(|one| &*one.rules)
    }
}

impl Beginning {
    fn shorter(&self) -> Option<usize> {
        self.shorter.map(|at| at as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;
    use crate::message::Request;
    use crate::rule::condition::tests::{client, host, path};

    /// How many rules are asked for a request that none of them holds for.
    fn asked(rules: &[Vec<Condition>], target: &'static str, authority: &'static str) -> usize {
        let index = Index::build(rules.iter().map(Vec::as_slice));
        let request = Request::for_test(target, authority, &[]);
        let client = client("198.51.100.7:1000");
        let asked = Cell::new(0);
        let found = index.first(&Subject::of(&request, &client), |_| {
            asked.set(asked.get() + 1);
            false
        });
        assert_eq!(found, None);
        asked.get()
    }

    #[test]
    fn a_thousand_paths_are_told_apart() {
        let rules = |pattern: fn(usize) -> String| -> Vec<_> {
            (0..1000)
                .map(|number| vec![path(&pattern(number))])
                .collect()
        };
        let services = rules(|number| format!("/service-{number}/*"));
        assert_eq!(asked(&services, "/service-77/x", "a.com"), 1);
        assert_eq!(asked(&services, "/other", "a.com"), 0);
        let nested = rules(|number| format!("/{}*", "a/".repeat(number % 10)));
        assert_eq!(asked(&nested, "/a/a/b", "a.com"), 300);
    }

    #[test]
    fn a_thousand_hosts_are_told_apart_whatever_their_paths_share() {
        let rules: Vec<_> = (0..1000)
            .map(|number| vec![path("/api/*"), host(&format!("*.tenant-{number}.com"))])
            .collect();
        assert_eq!(asked(&rules, "/api/x", "WWW.Tenant-77.com"), 1);
        assert_eq!(asked(&rules, "/api/x", "tenant-7.org"), 0);
    }

    #[test]
    fn a_grid_of_hosts_and_paths_asks_one_row() {
        let rules: Vec<_> = (0..1000)
            .map(|number| {
                let (row, column) = (number / 25, number % 25);
                vec![
                    path(&format!("/{column:02}/*")),
                    host(&format!("{row:02}.com")),
                ]
            })
            .collect();
        assert_eq!(asked(&rules, "/07/", "08.com"), 25);
    }

    proptest! {
        #[test]
        fn all_beginnings_of_a_text_are_found(
            texts in proptest::collection::hash_set("[ab/]{1,5}", 0..40),
            text in "[ab/]{0,7}",
        ) {
            let numbered: HashMap<Box<[u8]>, Vec<u32>> = texts
                .iter()
                .zip(0..)
                .map(|(text, number)| (text.as_bytes().into(), vec![number]))
                .collect();
            let mut expected: Vec<u32> = numbered
                .iter()
                .filter(|(beginning, _)| text.as_bytes().starts_with(beginning))
                .flat_map(|(_, rules)| rules.clone())
                .collect();
            let beginnings = Beginnings::of(numbered);
            let mut found: Vec<u32> = beginnings.of_those_with(text.as_bytes()).flatten().copied().collect();
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
