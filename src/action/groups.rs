//! The target groups of a forward, and which of them gets a request. Never looks at targets: as with ALB, a group that
//! has none to give keeps its share, and its requests are answered with 503.

use std::sync::Arc;

use crate::model::{self, TargetGroupName};
use crate::target::Group;
use crate::target::stickiness::Mark;

/// One group, or several by weight.
#[derive(Debug)]
pub(super) enum Groups {
    One(Arc<Group>),
    Several(Box<[Share]>),
}

/// A group and where its share of all requests ends.
#[derive(Debug)]
pub(super) struct Share {
    group: Arc<Group>,
    /// The sum of the weights up to this one; a weight of 0 leaves nothing between two ends.
    end: u32,
}

impl Groups {
    pub(super) fn build(
        forward: &model::Forward,
        group: impl Fn(&TargetGroupName) -> Arc<Group>,
    ) -> Self {
        if let [only] = &forward.target_groups[..]
            && only.weight > 0
        {
            return Self::One(group(&only.name));
        }
        let mut end = 0;
        let shares = forward.target_groups.iter().map(|weighted| {
            end += u32::from(weighted.weight);
            Share {
                group: group(&weighted.name),
                end,
            }
        });
        Self::Several(shares.collect())
    }

    /// The group of a new client; `below` gives a random number below the one it is asked for. `None` when every weight
    /// is 0.
    pub(super) fn draw(&self, below: impl FnOnce(u32) -> u32) -> Option<&Arc<Group>> {
        let shares = match self {
            Self::One(group) => return Some(group),
            Self::Several(shares) => shares,
        };
        let sum = shares.last()?.end;
        if sum == 0 {
            return None;
        }
        let drawn = below(sum);
        // At most five.
        let share = shares.iter().find(|share| drawn < share.end);
        share.map(|share| &share.group)
    }

    /// The group that a cookie names, whatever its weight: a weight of 0 lets the clients go that it has.
    pub(super) fn find(&self, mark: &Mark) -> Option<&Arc<Group>> {
        match self {
            Self::One(group) => (group.mark() == mark).then_some(group),
            Self::Several(shares) => {
                let mut groups = shares.iter().map(|share| &share.group);
                groups.find(|group| group.mark() == mark)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::WeightedTargetGroup;

    fn groups(weights: &[u16]) -> Groups {
        let weighted = |(index, &weight): (usize, &u16)| WeightedTargetGroup {
            name: format!("group-{index}").parse().unwrap(),
            weight,
        };
        let forward = model::Forward {
            target_groups: weights.iter().enumerate().map(weighted).collect(),
            stickiness: None,
        };
        Groups::build(&forward, |name| Arc::new(Group::for_test(name.as_str())))
    }

    fn drawn(groups: &Groups, number: u32) -> Option<&str> {
        groups.draw(|_| number).map(|group| group.name().as_str())
    }

    #[test]
    fn one_group_gets_everything_without_a_draw() {
        let one = groups(&[7]);
        assert!(matches!(one, Groups::One(_)));
        let group = one.draw(|_| unreachable!()).unwrap();
        assert_eq!(group.name().as_str(), "group-0");
    }

    #[test]
    fn weights_of_0_alone_give_nobody() {
        for weights in [&[0][..], &[0, 0], &[]] {
            assert_eq!(drawn(&groups(weights), 0), None);
        }
    }

    #[test]
    fn a_cookie_finds_its_group_whatever_the_weight() {
        let mark = |name: &str| Mark::of_group(&name.parse().unwrap());
        for weights in [&[1][..], &[0], &[1, 0]] {
            let groups = groups(weights);
            let last = format!("group-{}", weights.len() - 1);
            let found = groups.find(&mark(&last)).unwrap();
            assert_eq!(found.name().as_str(), last);
            assert!(groups.find(&mark("group-7")).is_none());
        }
    }

    proptest! {
        #[test]
        fn every_group_gets_exactly_its_weight(weights in prop::collection::vec(0..=999_u16, 2..=5)) {
            prop_assume!(weights.iter().any(|&weight| weight > 0));
            let groups = groups(&weights);
            let sum: u32 = weights.iter().map(|&weight| u32::from(weight)).sum();
            groups.draw(|asked| { assert_eq!(asked, sum); 0 });
            let mut counts = vec![0; weights.len()];
            for number in 0..sum {
                let name = drawn(&groups, number).unwrap();
                counts[name["group-".len()..].parse::<usize>().unwrap()] += 1;
            }
            prop_assert_eq!(counts, weights);
        }
    }
}
