use std::time::Duration;

use super::*;
use crate::model::{
    Actions, Forward, Listener, LoadBalancer, Protocol, UpstreamTls, WeightedTargetGroup,
};
use crate::target::health::{Failure, Outcome, State, Unused};
use crate::telemetry::Metrics;

/// Checks that never end a test early: their first probe comes within a second, to addresses that lead nowhere, and
/// wait an hour.
fn group(name: &str, targets: &[&str]) -> model::TargetGroup {
    let mut group = model::TargetGroup::new(name.parse().unwrap(), Protocol::Http, 80);
    group.health_check.interval = Duration::from_secs(7200);
    group.health_check.timeout = Duration::from_secs(3600);
    group.targets = targets
        .iter()
        .map(|target| target.parse().unwrap())
        .collect();
    group
}

/// One listener whose default action forwards to the first of the groups.
fn config(groups: Vec<model::TargetGroup>) -> Config {
    let first = groups.first().map(|group| WeightedTargetGroup {
        name: group.name.clone(),
        weight: 1,
    });
    let terminal = model::Action::Forward(Forward {
        target_groups: first.into_iter().collect(),
        stickiness: None,
    });
    Config {
        admin: Default::default(),
        workers: Default::default(),
        shutdown: Default::default(),
        limits: model::Limits::default(),
        load_balancer: LoadBalancer::default(),
        listeners: vec![Listener::new(80, Protocol::Http, Actions { terminal })],
        target_groups: groups,
    }
}

struct House {
    registry: Registry,
    metrics: Metrics,
    tasks: TaskTracker,
    now: Instant,
}

fn house() -> House {
    house_that_inherits(Vec::new())
}

fn house_that_inherits(inherited: Vec<KnownTarget>) -> House {
    let tasks = TaskTracker::new();
    House {
        registry: Registry::new(2, tasks.clone(), inherited),
        metrics: Metrics::new(&"lb".parse().unwrap(), 1),
        tasks,
        now: Instant::now(),
    }
}

impl House {
    fn apply(&mut self, groups: Vec<model::TargetGroup>) -> Vec<Leaving> {
        let plan = self
            .registry
            .plan_at(&config(groups), &self.metrics, self.now)
            .unwrap();
        self.registry.commit_at(plan, self.now).left
    }

    fn group(&self, name: &str) -> Arc<Group> {
        let live = self.registry.live.get(&name.parse().unwrap());
        Arc::clone(&live.unwrap().group)
    }

    fn target(&self, name: &str, address: &str) -> Arc<Target> {
        let live = self.registry.live.get(&name.parse().unwrap()).unwrap();
        let mut targets = live.targets.iter().map(|live| &live.target);
        Arc::clone(
            targets
                .find(|target| target.key.to_string() == address)
                .unwrap(),
        )
    }

    fn pass(&self, name: &str, address: &str) {
        let target = self.target(name, address);
        self.group(name).observe(&target, Outcome::Passed, self.now);
        assert!(target.health().is_healthy());
    }

    /// The targets whose drain is over.
    fn ended(&mut self) -> Vec<String> {
        let ended = self.registry.end_drains(self.now);
        ended.iter().map(|target| target.key.to_string()).collect()
    }

    /// Waits until so many tasks run.
    async fn tasks_are(&self, count: usize) {
        let reached = async {
            while self.tasks.len() != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reached)
            .await
            .unwrap();
    }

    fn shown(&self, name: &str) -> Vec<(String, &'static str)> {
        let targets = self.group(name).targets_at(self.now);
        targets
            .map(|target| (target.key.to_string(), target.state().name()))
            .collect()
    }
}

fn shown(list: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
    list.iter()
        .map(|(key, state)| ((*key).to_owned(), *state))
        .collect()
}

#[tokio::test]
async fn a_plan_changes_nothing_until_it_is_committed() {
    let mut house = house();
    house.apply(vec![group("app", &["10.0.0.1"])]);
    let before = house.group("app");
    drop(
        house
            .registry
            .plan(&config(vec![group("app", &["10.0.0.2"])]), &house.metrics)
            .unwrap(),
    );
    assert!(Arc::ptr_eq(&before, &house.group("app")));
    assert_eq!(house.shown("app"), shown(&[("10.0.0.1:80", "initial")]));
}

#[tokio::test]
async fn targets_go_on_where_another_process_was() {
    let mut old = house();
    let app = || group("app", &["10.0.0.1", "10.0.0.2", "app.example"]);
    old.apply(vec![app(), group("api", &["10.0.0.1"])]);
    old.pass("app", "10.0.0.1:80");
    for _ in 0..2 {
        let target = old.target("app", "10.0.0.2:80");
        let failed = Outcome::Failed(Failure::ResponseCodeMismatch(503));
        old.group("app").observe(&target, failed, old.now);
    }
    let address = "10.0.0.3".parse().unwrap();
    let named = old.target("app", "app.example:80");
    named.set_addresses(&[address]);
    old.pass("app", "app.example:80");

    let mut new = house_that_inherits(old.registry.known(old.now));
    new.apply(vec![app(), group("api", &["10.0.0.1"])]);

    let expected = [
        ("10.0.0.1:80", "healthy"),
        ("10.0.0.2:80", "unhealthy"),
        ("app.example:80", "healthy"),
    ];
    assert_eq!(new.shown("app"), shown(&expected));
    assert_eq!(
        new.shown("api"),
        old.shown("api"),
        "another group, another verdict"
    );
    let named = new.target("app", "app.example:80");
    assert_eq!(**named.upstream().addresses(), [(address, 80).into()]);
    let pools: HashSet<_> = (0..4)
        .map(|_| new.group("app").pick(0, &[]).unwrap().pool())
        .collect();
    assert_eq!(pools.len(), 2, "the healthy ones get requests at once");

    // A target that comes later comes as a new one, whatever was known of it.
    new.apply(vec![group("app", &["10.0.0.2"])]);
    new.now += Duration::from_secs(3600);
    new.apply(vec![app()]);
    assert_eq!(new.shown("app")[0], ("10.0.0.1:80".to_owned(), "initial"));
}

#[tokio::test]
async fn what_was_taken_out_in_another_process_stays_out() {
    let mut old = house();
    let app = || group("app", &["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    old.apply(vec![app(), group("gone", &["10.0.0.1"])]);
    for address in ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"] {
        old.pass("app", address);
    }
    old.registry.drain("app", "10.0.0.1", old.now).unwrap();
    old.now += Duration::from_secs(400);
    old.ended();
    old.registry.drain("app", "10.0.0.2", old.now).unwrap();
    old.registry.drain("gone", "10.0.0.1", old.now).unwrap();

    let mut new = house_that_inherits(old.registry.known(old.now));
    new.apply(vec![app()]);

    let expected = [
        ("10.0.0.1:80", "unused"),
        ("10.0.0.2:80", "draining"),
        ("10.0.0.3:80", "healthy"),
    ];
    assert_eq!(new.shown("app"), shown(&expected));
    let target = new.target("app", "10.0.0.3:80");
    assert!((0..4).all(|_| new.group("app").pick(0, &[]).unwrap().pool() == target.pool()));
    // Brought back, it is as it was there.
    new.registry.undrain("app", "10.0.0.2", new.now).unwrap();
    assert_eq!(new.shown("app")[1], ("10.0.0.2:80".to_owned(), "healthy"));
    // And nothing is left of a group that is not here.
    assert_eq!(new.registry.next_end(), None);
}

#[tokio::test]
async fn an_unchanged_target_keeps_its_health_and_its_count() {
    let mut house = house();
    house.apply(vec![group("app", &["10.0.0.1"])]);
    house.pass("app", "10.0.0.1:80");
    let (before, target) = (house.group("app"), house.target("app", "10.0.0.1:80"));
    let lease = before.pick(0, &[]).unwrap();
    let left = house.apply(vec![group("app", &["10.0.0.2", "10.0.0.1:80"])]);
    assert!(left.is_empty());
    assert!(Arc::ptr_eq(&before, &house.group("app")));
    assert!(Arc::ptr_eq(&target, &house.target("app", "10.0.0.1:80")));
    assert_eq!(target.outstanding_requests(), 1);
    assert_eq!(
        house.shown("app"),
        shown(&[("10.0.0.2:80", "initial"), ("10.0.0.1:80", "healthy")])
    );
    drop(lease);
}

#[tokio::test]
async fn new_settings_make_a_new_group_around_the_same_targets() {
    let mut house = house();
    house.apply(vec![group("app", &["10.0.0.1"])]);
    house.pass("app", "10.0.0.1:80");
    let (before, target) = (house.group("app"), house.target("app", "10.0.0.1:80"));
    let mut changed = group("app", &["10.0.0.1"]);
    changed.deregistration_delay = Duration::ZERO;
    house.apply(vec![changed]);
    assert!(!Arc::ptr_eq(&before, &house.group("app")));
    assert!(Arc::ptr_eq(&target, &house.target("app", "10.0.0.1:80")));
    assert!(house.group("app").pick(0, &[]).is_some());
}

#[tokio::test]
async fn a_result_for_a_replaced_group_does_not_count() {
    let mut house = house();
    house.apply(vec![group("app", &["10.0.0.1", "10.0.0.2"])]);
    house.pass("app", "10.0.0.1:80");
    house.pass("app", "10.0.0.2:80");
    let replaced = house.group("app");
    let mut changed = group("app", &["10.0.0.1", "10.0.0.2"]);
    changed.deregistration_delay = Duration::ZERO;
    house.apply(vec![changed]);
    let target = house.target("app", "10.0.0.1:80");
    for _ in 0..2 {
        replaced.observe(&target, Outcome::Failed(Failure::Timeout), house.now);
    }
    assert!(target.health().is_healthy());
}

#[tokio::test]
async fn a_removed_target_drains_for_its_delay() {
    let mut house = house();
    house.apply(vec![group("app", &["10.0.0.1", "10.0.0.2"])]);
    house.pass("app", "10.0.0.1:80");
    let left = house.apply(vec![group("app", &["10.0.0.2"])]);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].target.key.to_string(), "10.0.0.1:80");
    assert_eq!(left[0].until, house.now + Duration::from_secs(300));
    assert_eq!(
        house.shown("app"),
        shown(&[("10.0.0.2:80", "initial"), ("10.0.0.1:80", "draining")])
    );
    let keys: Vec<_> = (0..4)
        .map(|_| house.group("app").pick(0, &[]).unwrap().key.clone())
        .collect();
    assert!(keys.iter().all(|key| key.to_string() == "10.0.0.2:80"));
    house.now += Duration::from_secs(300);
    assert_eq!(house.shown("app"), shown(&[("10.0.0.2:80", "initial")]));
    assert_eq!(house.ended(), ["10.0.0.1:80"]);
    assert!(house.registry.leaving.is_empty());
    assert_eq!(house.registry.next_end(), None);
}

#[tokio::test]
async fn a_removed_target_tells_its_requests_when_to_end_and_takes_it_back() {
    let mut house = house();
    house.apply(vec![group("app", &["10.0.0.1", "10.0.0.2"])]);
    let target = house.target("app", "10.0.0.1:80");
    assert_eq!(target.outstanding.ends_at(), None);
    house.apply(vec![group("app", &["10.0.0.2"])]);
    let until = house.now + Duration::from_secs(300);
    assert_eq!(house.registry.next_end(), Some(until));
    let told = target.outstanding.ends_at().unwrap();
    assert!(told <= until && until - told <= Duration::from_millis(1));
    house.apply(vec![group("app", &["10.0.0.1"])]);
    assert_eq!(target.outstanding.ends_at(), None);
    assert_eq!(house.ended(), [""; 0]);
}

/// What a pick among these targets may give.
fn picked(house: &House, group: &str) -> HashSet<String> {
    let group = house.group(group);
    let picks = (0..8).filter_map(|_| group.pick(0, &[]));
    picks.map(|lease| lease.key.to_string()).collect()
}

#[tokio::test]
async fn a_target_that_is_drained_by_hand_gets_nothing_new_until_it_is_back() {
    let mut house = house();
    let two = || vec![group("app", &["10.0.0.1", "10.0.0.2"])];
    house.apply(two());
    house.pass("app", "10.0.0.1:80");
    house.pass("app", "10.0.0.2:80");
    let target = house.target("app", "10.0.0.1:80");
    let steered = house.registry.drain("app", "10.0.0.1", house.now).unwrap();
    assert_eq!(steered.remaining, 1);
    assert_eq!(
        picked(&house, "app"),
        HashSet::from(["10.0.0.2:80".to_owned()])
    );
    let until = house.now + Duration::from_secs(300);
    assert_eq!(house.registry.next_end(), Some(until));
    assert!(target.outstanding.ends_at().is_some());

    // A second time starts nothing anew, and a change of the configuration ends nothing.
    house.now += Duration::from_secs(200);
    house
        .registry
        .drain("app", "10.0.0.1:80", house.now)
        .unwrap();
    house.apply(two());
    let mut changed = two();
    changed[0].deregistration_delay = Duration::from_secs(5);
    house.apply(changed.clone());
    let kept = [("10.0.0.1:80", "draining"), ("10.0.0.2:80", "healthy")];
    assert_eq!(house.shown("app"), shown(&kept));
    assert_eq!(house.registry.next_end(), Some(until));
    assert_eq!(
        picked(&house, "app"),
        HashSet::from(["10.0.0.2:80".to_owned()])
    );

    // It was checked all the time, so its health holds.
    house
        .registry
        .undrain("app", "10.0.0.1", house.now)
        .unwrap();
    let back = [("10.0.0.1:80", "healthy"), ("10.0.0.2:80", "healthy")];
    assert_eq!(house.shown("app"), shown(&back));
    assert_eq!(picked(&house, "app").len(), 2);
    assert_eq!(target.outstanding.ends_at(), None);
    assert_eq!(house.registry.next_end(), None);
}

#[tokio::test]
async fn a_target_that_has_drained_is_unused_and_comes_back_as_a_new_one() {
    let mut house = house();
    let two = || vec![group("app", &["10.0.0.1", "10.0.0.2"])];
    house.apply(two());
    house.pass("app", "10.0.0.1:80");
    house.registry.drain("app", "10.0.0.1", house.now).unwrap();
    house.now += Duration::from_secs(300);
    assert_eq!(house.ended(), ["10.0.0.1:80"]);
    assert_eq!(house.ended(), [""; 0]);
    house.apply(two());
    let target = house.target("app", "10.0.0.1:80");
    assert_eq!(target.state(), State::Unused(Unused::NotRegistered));
    assert_eq!(house.registry.next_end(), None);
    house.tasks_are(1).await;

    house
        .registry
        .undrain("app", "10.0.0.1", house.now)
        .unwrap();
    let back = [("10.0.0.1:80", "initial"), ("10.0.0.2:80", "initial")];
    assert_eq!(house.shown("app"), shown(&back));
    house.tasks_are(2).await;
    assert_eq!(picked(&house, "app").len(), 2);
    // Nothing is left of it.
    house
        .registry
        .undrain("app", "10.0.0.1", house.now)
        .unwrap();
    house.apply(two());
    assert_eq!(house.shown("app"), shown(&back));
}

#[tokio::test]
async fn a_drained_target_that_is_removed_has_no_second_delay() {
    let mut house = house();
    let both = || vec![group("app", &["10.0.0.1", "10.0.0.2", "10.0.0.3"])];
    house.apply(both());
    house.registry.drain("app", "10.0.0.1", house.now).unwrap();
    let until = house.now + Duration::from_secs(300);
    house.now = until;
    assert_eq!(house.ended(), ["10.0.0.1:80"]);
    house.registry.drain("app", "10.0.0.2", house.now).unwrap();
    let until = house.now + Duration::from_secs(300);
    house.now += Duration::from_secs(100);

    let left = house.apply(vec![group("app", &["10.0.0.3"])]);

    let left: Vec<_> = left
        .iter()
        .map(|left| (left.target.key.to_string(), left.until))
        .collect();
    assert_eq!(left, [("10.0.0.2:80".to_owned(), until)]);
    // Written again it is a target as any other.
    house.apply(both());
    let fresh = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"].map(|key| (key, "initial"));
    assert_eq!(house.shown("app"), shown(&fresh));
    assert!(house.registry.drains.is_empty());
}

#[tokio::test]
async fn a_target_must_be_named_so_that_there_is_one() {
    let mut house = house();
    house.apply(vec![group("app", &["10.0.0.1:80", "10.0.0.1:81", "::1"])]);
    let now = house.now;
    let mut drain = |group: &str, target: &str| {
        let steered = house.registry.drain(group, target, now);
        steered.map(|steered| (steered.target.key.to_string(), steered.remaining))
    };
    let told = |unknown: Result<_, Unknown>| unknown.unwrap_err().to_string();
    assert_eq!(
        told(drain("apq", "10.0.0.1")),
        "target group 'apq' does not exist; did you mean 'app'?"
    );
    assert_eq!(
        told(drain("app", "10.0.0.1:8")),
        "target group 'app' has no target '10.0.0.1:8'; did you mean '10.0.0.1:81'?"
    );
    assert_eq!(
        told(drain("app", "a b")),
        "target group 'app' has no target 'a b'"
    );
    assert_eq!(
        told(drain("app", "10.0.0.1")),
        "target group 'app' has several targets '10.0.0.1'; name one of 10.0.0.1:80, 10.0.0.1:81"
    );
    assert_eq!(
        drain("app", "10.0.0.1:81"),
        Ok(("10.0.0.1:81".to_owned(), 2))
    );
    assert_eq!(drain("app", "::1"), Ok(("[::1]:80".to_owned(), 1)));
    assert_eq!(drain("app", "[::1]:80"), Ok(("[::1]:80".to_owned(), 1)));
    assert_eq!(
        drain("app", "10.0.0.1:80"),
        Ok(("10.0.0.1:80".to_owned(), 0))
    );
}

#[tokio::test]
async fn a_draining_target_that_returns_starts_anew_and_keeps_its_requests() {
    let mut house = house();
    house.apply(vec![group("app", &["10.0.0.1"])]);
    house.pass("app", "10.0.0.1:80");
    let target = house.target("app", "10.0.0.1:80");
    house.apply(vec![group("app", &[])]);
    assert_eq!(house.shown("app"), shown(&[("10.0.0.1:80", "draining")]));
    assert!(house.group("app").pick(0, &[]).is_none());
    house.apply(vec![group("app", &["10.0.0.1"])]);
    assert!(Arc::ptr_eq(&target, &house.target("app", "10.0.0.1:80")));
    assert_eq!(house.shown("app"), shown(&[("10.0.0.1:80", "initial")]));
    assert!(house.group("app").pick(0, &[]).is_some());
}

#[tokio::test]
async fn a_removed_group_lets_all_its_targets_drain() {
    let mut house = house();
    house.apply(vec![
        group("app", &["10.0.0.1"]),
        group("old", &["10.0.0.1", "10.0.0.2"]),
    ]);
    let left = house.apply(vec![group("app", &["10.0.0.1"])]);
    assert_eq!(left.len(), 2);
    assert!(
        left.iter()
            .all(|left| left.target.state() == State::Draining)
    );
    assert_eq!(house.registry.live.len(), 1);
}

#[tokio::test]
async fn a_group_that_no_rule_uses_is_not_probed() {
    let mut house = house();
    house.apply(vec![group("app", &[]), group("spare", &["10.0.0.1"])]);
    assert_eq!(house.tasks.len(), 0);
    let target = house.target("spare", "10.0.0.1:80");
    assert_eq!(target.state(), State::Unused(Unused::NotInUse));
    assert!(house.group("spare").pick(0, &[]).is_none());
    house.apply(vec![group("spare", &["10.0.0.1"]), group("app", &[])]);
    assert_eq!(house.tasks.len(), 1);
    assert_eq!(house.shown("spare"), shown(&[("10.0.0.1:80", "initial")]));
}

#[tokio::test]
async fn the_same_address_has_its_own_health_in_each_group() {
    let mut house = house();
    let mut groups = vec![group("app", &["10.0.0.1"]), group("api", &["10.0.0.1"])];
    house.apply(groups.clone());
    house.pass("app", "10.0.0.1:80");
    assert_eq!(house.target("api", "10.0.0.1:80").health().passes(), 0);
    groups.reverse();
    house.apply(groups.clone());
    let running = house.registry.groups(&config(groups));
    let names: Vec<_> = running
        .iter()
        .map(|group| group.name().to_string())
        .collect();
    assert_eq!(names, ["api", "app"]);
}

#[tokio::test]
async fn another_protocol_gives_new_connections_and_keeps_the_verdict() {
    let mut house = house();
    house.apply(vec![group("app", &["10.0.0.1"])]);
    house.pass("app", "10.0.0.1:80");
    let before = house.target("app", "10.0.0.1:80");
    let lease = house.group("app").pick(0, &[]).unwrap();
    let mut https = group("app", &["10.0.0.1"]);
    https.protocol = Protocol::Https;
    assert!(house.apply(vec![https.clone()]).is_empty());
    let after = house.target("app", "10.0.0.1:80");
    assert!(!Arc::ptr_eq(&before, &after));
    assert!(after.upstream().tls().is_some());
    assert!(after.health().is_healthy());
    assert_eq!(after.outstanding_requests(), 1);
    drop(lease);
    house.apply(vec![https]);
    assert!(Arc::ptr_eq(&after, &house.target("app", "10.0.0.1:80")));
}

#[tokio::test]
async fn a_plan_that_fails_says_where_and_changes_nothing() {
    let mut house = house();
    house.apply(vec![group("app", &["10.0.0.1"])]);
    let mut bad = group("other", &["10.0.0.9"]);
    bad.protocol = Protocol::Https;
    bad.tls = UpstreamTls::Verified {
        ca_file: "/nowhere/ca.pem".into(),
    };
    let config = config(vec![group("app", &[]), bad]);
    let error = house.registry.plan(&config, &house.metrics).unwrap_err();
    assert_eq!(error.path, "target_groups[1].ca_file");
    assert!(error.to_string().contains("/nowhere/ca.pem"));
    assert_eq!(house.shown("app"), shown(&[("10.0.0.1:80", "initial")]));
}

#[tokio::test]
async fn a_rule_without_its_group_is_refused() {
    let mut house = house();
    let mut config = config(vec![group("app", &["10.0.0.1"])]);
    config.target_groups.clear();
    let error = house.registry.plan(&config, &house.metrics).unwrap_err();
    assert_eq!(error.path, "listeners");
    assert!(error.to_string().contains("target group 'app'"));
}

#[tokio::test]
async fn connections_stay_while_the_bundle_of_roots_holds_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    let bundle = || tls::certificate::self_signed(&["root.example"]).unwrap().0;
    let first = bundle();
    std::fs::write(&ca_file, &first).unwrap();
    let mut verified = group("app", &["10.0.0.1"]);
    verified.protocol = Protocol::Https;
    verified.tls = UpstreamTls::Verified {
        ca_file: ca_file.clone(),
    };
    let mut house = house();
    house.apply(vec![verified.clone()]);
    let target = house.target("app", "10.0.0.1:80");

    std::fs::write(&ca_file, &first).unwrap();
    house.apply(vec![verified.clone()]);
    assert!(Arc::ptr_eq(&target, &house.target("app", "10.0.0.1:80")));

    std::fs::write(&ca_file, bundle()).unwrap();
    house.apply(vec![verified]);
    assert_ne!(target.pool(), house.target("app", "10.0.0.1:80").pool());
}

#[tokio::test]
async fn a_target_written_twice_is_one() {
    let mut house = house();
    house.apply(vec![group("app", &["10.0.0.1", "10.0.0.1:80"])]);
    assert_eq!(house.shown("app"), shown(&[("10.0.0.1:80", "initial")]));
}

#[tokio::test]
async fn tasks_end_with_their_targets_and_with_the_registry() {
    let mut house = house();
    house.apply(vec![group("app", &["10.0.0.1", "localhost"])]);
    assert_eq!(house.tasks.len(), 3);
    house.apply(vec![group("app", &["10.0.0.1"])]);
    house.tasks_are(1).await;
    drop(house.registry);
    house.tasks.close();
    tokio::time::timeout(Duration::from_secs(20), house.tasks.wait())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_named_target_gets_its_addresses() {
    let mut house = house();
    house.apply(vec![group("app", &["localhost:8080"])]);
    let target = house.target("app", "localhost:8080");
    let found = tokio::time::timeout(Duration::from_secs(20), target.addresses())
        .await
        .unwrap();
    assert!(
        found
            .iter()
            .all(|address| address.ip().is_loopback() && address.port() == 8080)
    );
}

#[tokio::test]
async fn pools_are_never_shared() {
    let mut house = house();
    house.apply(vec![group("app", &["10.0.0.1"])]);
    house.apply(vec![group("app", &["10.0.0.2"])]);
    house.apply(vec![
        group("app", &["10.0.0.2", "10.0.0.3"]),
        group("api", &["10.0.0.1"]),
    ]);
    assert_eq!(house.registry.next_pool, 4);
}

#[tokio::test]
async fn unhealthy_targets_stay_so_over_a_reload() {
    let mut house = house();
    house.apply(vec![group("app", &["10.0.0.1", "10.0.0.2"])]);
    house.pass("app", "10.0.0.1:80");
    let target = house.target("app", "10.0.0.2:80");
    for _ in 0..2 {
        house
            .group("app")
            .observe(&target, Outcome::Failed(Failure::Timeout), house.now);
    }
    house.apply(vec![group("app", &["10.0.0.1", "10.0.0.2"])]);
    assert_eq!(
        house.shown("app"),
        shown(&[("10.0.0.1:80", "healthy"), ("10.0.0.2:80", "unhealthy")])
    );
}
