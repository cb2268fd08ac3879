//! Which door: the first rule by priority whose conditions all hold, else the default. Finding never fails,
//! never allocates and never knows what an action does.

mod condition;
mod index;
mod pattern;

pub(crate) use pattern::{Backslash, Case, Pattern};

use crate::message::{Client, Request};
use crate::{model, worker};
use condition::{Condition, Subject};
use index::Index;

/// The rules of one listener over whatever stands for actions at run time.
#[derive(Debug)]
pub(crate) struct Rules<A> {
    /// In ascending order of priority.
    rules: Box<[Rule<A>]>,
    index: Index,
    default: A,
}

#[derive(Debug)]
struct Rule<A> {
    priority: u16,
    /// All must hold.
    conditions: Box<[Condition]>,
    actions: A,
}

/// The rule that serves a request.
#[derive(Debug)]
pub(crate) struct Matched<'a, A> {
    /// As ALB logs it (`matched_rule_priority`): 0 is the default rule.
    pub(crate) priority: u16,
    pub(crate) actions: &'a A,
}

impl<A> Rules<A> {
    /// Compiles a listener's rules; `resolve` turns what was said into what runs.
    pub(crate) fn build(
        listener: &model::Listener,
        mut resolve: impl FnMut(&model::Actions) -> A,
    ) -> Self {
        let rules = listener.rules.iter().map(|rule| {
            worker::step_aside();
            Rule {
                priority: rule.priority.value(),
                conditions: rule.conditions.iter().map(Condition::build).collect(),
                actions: resolve(&rule.actions),
            }
        });
        let rules = rules.collect();
        Self::sorted(rules, resolve(&listener.default_actions))
    }

    fn sorted(mut rules: Vec<Rule<A>>, default: A) -> Self {
        rules.sort_by_key(|rule| rule.priority);
        Self {
            index: Index::build(rules.iter().map(|rule| &*rule.conditions)),
            rules: rules.into(),
            default,
        }
    }

    /// The rule for this request.
    pub(crate) fn find(&self, request: &Request, client: &Client) -> Matched<'_, A> {
        if self.rules.is_empty() {
            return Matched {
                priority: 0,
                actions: &self.default,
            };
        }
        let subject = Subject::of(request, client);
        let holds = |rule: usize| {
            let mut conditions = self.rules[rule].conditions.iter();
            conditions.all(|condition| condition.holds(&subject))
        };
        let rule = self
            .index
            .first(&subject, holds)
            .map(|rule| &self.rules[rule]);
        match rule {
            Some(rule) => Matched {
                priority: rule.priority,
                actions: &rule.actions,
            },
            None => Matched {
                priority: 0,
                actions: &self.default,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::condition::tests::{client, host, hosts, path, paths};
    use super::*;

    fn rule(priority: u16, conditions: impl IntoIterator<Item = Condition>) -> Rule<u16> {
        Rule {
            priority,
            conditions: conditions.into_iter().collect(),
            actions: priority,
        }
    }

    fn found(rules: &Rules<u16>, target: &'static str, authority: &'static str) -> u16 {
        let request = Request::for_test(target, authority, &[]);
        let matched = rules.find(&request, &client("198.51.100.7:1000"));
        assert_eq!(matched.priority, *matched.actions);
        matched.priority
    }

    #[test]
    fn lowest_priority_that_matches_wins_whatever_the_order_of_writing() {
        let rules = Rules::sorted(
            vec![
                rule(30, [path("/*")]),
                rule(10, [path("/api/*")]),
                rule(20, [path("/api/v2/*")]),
            ],
            0,
        );
        assert_eq!(found(&rules, "/api/v2/x", "a.com"), 10);
        assert_eq!(found(&rules, "/other", "a.com"), 30);
    }

    #[test]
    fn every_condition_of_a_rule_must_hold() {
        let rules = Rules::sorted(vec![rule(10, [path("/api/*"), host("*.a.com")])], 0);
        assert_eq!(found(&rules, "/api/x", "www.a.com"), 10);
        assert_eq!(found(&rules, "/api/x", "b.com"), 0);
        assert_eq!(found(&rules, "/x", "www.a.com"), 0);
    }

    #[test]
    fn default_rule_takes_what_is_left() {
        let rules = Rules::sorted(Vec::new(), 0);
        assert_eq!(found(&rules, "*", ""), 0);
    }

    #[test]
    fn default_and_rules_are_resolved_each_once() {
        let gone = model::Actions {
            terminal: model::Action::FixedResponse(model::FixedResponse {
                status_code: 410,
                content_type: None,
                message_body: None,
            }),
        };
        let listener = model::Listener {
            port: 80,
            address: None,
            protocol: model::Protocol::Http,
            proxy_protocol: None,
            ssl_policy: model::SslPolicy::default(),
            certificates: Vec::new(),
            rules: Vec::new(),
            default_actions: gone.clone(),
        };
        let rules = Rules::build(&listener, model::Actions::clone);
        let request = Request::for_test("/", "a.com", &[]);
        let matched = rules.find(&request, &client("198.51.100.7:1000"));
        assert_eq!((matched.priority, matched.actions), (0, &gone));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// The reference asks every rule and takes the smallest number among those that hold.
        #[test]
        fn find_is_the_least_matching_priority(
            written in proptest::collection::btree_map(
                1_u16..200,
                (
                    proptest::collection::vec("/[ab*?]{0,4}|[*?][ab]{0,2}|/[ab]{0,4}", 0..3),
                    proptest::collection::vec("[abA*?]{1,3}[.]a|[ab][.][*]|[ab]{1,2}[.]a", 0..3),
                ),
                0..60,
            ),
            order in any::<u64>(),
            target in "/[ab]{0,4}",
            authority in "[abB]{1,3}[.]a[.]?",
        ) {
            let texts = |texts: &[String], build: fn(&[&str]) -> Condition| {
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                (!texts.is_empty()).then(|| build(&texts))
            };
            let mut rules: Vec<_> = written
                .iter()
                .map(|(&priority, (asked_paths, asked_hosts))| {
                    let conditions = [texts(asked_paths, paths), texts(asked_hosts, hosts)];
                    rule(priority, conditions.into_iter().flatten())
                })
                .collect();
            fastrand::Rng::with_seed(order).shuffle(&mut rules);
            let request = Request::for_test(&target, &authority, &[]);
            let client = client("198.51.100.7:1000");
            let expected = rules
                .iter()
                .filter(|rule| rule.conditions.iter().all(|condition| condition.holds(&Subject::of(&request, &client))))
                .map(|rule| rule.priority)
                .min();
            let rules = Rules::sorted(rules, 0);
            prop_assert_eq!(rules.find(&request, &client).priority, expected.unwrap_or(0));
        }
    }
}
