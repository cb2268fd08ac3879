//! Clients that come back to where they were, by cookies alone.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use albedo::app::Running;
use albedo::model::{
    AccessLog, AccessLogFormat, AccessLogSink, Action, Actions, Condition, Config, CookieKeys,
    Forward, Listener, Rule, Stickiness, TargetGroup, WeightedTargetGroup,
};

use crate::scene::{
    Conversation, Target, all_healthy, config, group, http, start, target_status, until,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A client that keeps cookies as browsers do, by name.
struct Browser {
    connection: Conversation,
    jar: BTreeMap<String, String>,
    /// The head of the last answer.
    head: String,
}

impl Browser {
    async fn to(address: SocketAddr) -> Self {
        Self {
            connection: Conversation::to(address).await,
            jar: BTreeMap::new(),
            head: String::new(),
        }
    }

    async fn of(running: &Running) -> Self {
        Self::to(running.listeners()[0]).await
    }

    /// Asks with every cookie it has, and gives the body.
    async fn get(&mut self, path: &str) -> String {
        self.get_with(path, "").await
    }

    async fn get_with(&mut self, path: &str, headers: &str) -> String {
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: web.example\r\n{headers}");
        let jar = self
            .jar
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let cookies: Vec<String> = jar.collect();
        if !cookies.is_empty() {
            request += &format!("Cookie: {}\r\n", cookies.join("; "));
        }
        let (head, body) = self.connection.ask(&(request + "\r\n")).await;
        self.head = head;
        for cookie in set_cookies(&self.head) {
            let pair = cookie.split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.jar.insert(name.to_owned(), value.to_owned());
        }
        body
    }

    /// Asks many times and gives who answered.
    async fn answers(&mut self, path: &str) -> HashSet<String> {
        let mut answers = HashSet::new();
        for _ in 0..20 {
            answers.insert(self.get(path).await);
        }
        answers
    }

    /// Asks many times and gives the only one who answered.
    async fn stays(&mut self, path: &str) -> String {
        let answers = self.answers(path).await;
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.into_iter().next().unwrap()
    }

    /// The names of the cookies that the last answer set.
    fn set(&self) -> Vec<&str> {
        let names = set_cookies(&self.head).map(|cookie| cookie.split('=').next().unwrap());
        names.collect()
    }
}

fn set_cookies(head: &str) -> impl Iterator<Item = &str> {
    head.split("\r\n")
        .filter_map(|line| line.strip_prefix("Set-Cookie: "))
}

/// A listener that forwards to these groups by these weights.
fn weighted(weights: &[(&str, u16)], stickiness: Option<Duration>) -> Listener {
    let mut listener = http("unused");
    listener.default_actions = forward(weights, stickiness);
    listener
}

fn forward(weights: &[(&str, u16)], stickiness: Option<Duration>) -> Actions {
    let weighted = |(name, weight): &(&str, u16)| WeightedTargetGroup {
        name: name.parse().unwrap(),
        weight: *weight,
    };
    let forward = Forward {
        target_groups: weights.iter().map(weighted).collect(),
        stickiness,
    };
    Action::Forward(forward).into()
}

/// A group whose clients are kept by AWSALB.
fn sticky(name: &str, targets: &[SocketAddr]) -> TargetGroup {
    let mut group = group(name, targets);
    group.stickiness = Some(Stickiness::LbCookie { duration: DAY });
    group
}

async fn three() -> [Target; 3] {
    [
        Target::named("one").await,
        Target::named("two").await,
        Target::named("three").await,
    ]
}

fn addresses(targets: &[Target]) -> Vec<SocketAddr> {
    targets.iter().map(|target| target.address).collect()
}

fn index(name: &str) -> usize {
    ["one", "two", "three"]
        .iter()
        .position(|one| *one == name)
        .unwrap()
}

async fn becomes(running: &Running, index: usize, state: &str) {
    until(format_args!("target {index} is {state}"), || {
        target_status(running, "web", index).state == state
    })
    .await;
}

#[tokio::test]
async fn a_client_stays_with_its_target_and_is_told_so_with_every_answer() {
    let targets = three().await;
    let running = start(config([http("web")], [sticky("web", &addresses(&targets))])).await;
    all_healthy(&running).await;

    let mut homes = HashSet::new();
    for _ in 0..3 {
        let mut browser = Browser::of(&running).await;
        homes.insert(browser.stays("/").await);
        assert_eq!(browser.set(), ["AWSALB", "AWSALBCORS"]);
    }
    assert_eq!(homes.len(), 3, "new clients take turns");
    let mut stranger = Browser::of(&running).await;
    let mut answers = HashSet::new();
    for _ in 0..3 {
        answers.insert(stranger.get("/").await);
        stranger.jar.clear();
    }
    assert_eq!(answers.len(), 3, "without cookies nobody stays");
}

#[tokio::test]
async fn either_cookie_of_the_pair_is_enough() {
    let targets = three().await;
    let running = start(config([http("web")], [sticky("web", &addresses(&targets))])).await;
    all_healthy(&running).await;

    for lost in ["AWSALB", "AWSALBCORS"] {
        let mut browser = Browser::of(&running).await;
        let home = browser.get("/").await;
        for bad in ["", "stale", &"A".repeat(76), &"A".repeat(4000)] {
            browser.jar.insert(lost.to_owned(), bad.to_owned());
            assert_eq!(browser.get("/").await, home);
        }
        browser.jar.remove(lost);
        assert_eq!(browser.get("/").await, home);
    }
}

#[tokio::test]
async fn an_unusable_cookie_counts_as_none_and_is_replaced() {
    let targets = three().await;
    let web = sticky("web", &addresses(&targets));
    let foreign = start(config([http("web")], [web.clone()])).await;
    let running = start(config([http("web")], [web])).await;
    all_healthy(&foreign).await;
    all_healthy(&running).await;

    let mut browser = Browser::of(&foreign).await;
    browser.get("/").await;
    let from_elsewhere = browser.jar["AWSALB"].clone();
    let mut browser = Browser::of(&running).await;
    browser.get("/").await;
    let good = browser.jar["AWSALB"].clone();
    let twice = format!("{good}; AWSALB={good}");
    let swapped = format!("{}{}", &good[..40], &from_elsewhere[40..]);
    let encoded = format!("%{:02X}{}", good.as_bytes()[0], &good[1..]);
    let long = good.repeat(50);
    for bad in [from_elsewhere, twice, swapped, encoded, long] {
        let mut answers = HashSet::new();
        for _ in 0..3 {
            browser.jar = BTreeMap::from([("AWSALB".to_owned(), bad.clone())]);
            answers.insert(browser.get("/").await);
            assert_eq!(browser.set(), ["AWSALB", "AWSALBCORS"]);
        }
        assert_eq!(answers.len(), 3, "{bad}");
        browser.jar.remove("AWSALB");
        browser.stays("/").await;
    }
}

#[tokio::test]
async fn a_cookie_ends_with_its_duration_though_the_browser_keeps_it() {
    let targets = three().await;
    let mut web = sticky("web", &addresses(&targets));
    web.stickiness = Some(Stickiness::LbCookie {
        duration: Duration::from_secs(1),
    });
    let running = start(config([http("web")], [web])).await;
    all_healthy(&running).await;

    let mut browser = Browser::of(&running).await;
    let home = browser.get("/").await;
    let kept = browser.jar.clone();
    let mut moved = false;
    let deadline = tokio::time::Instant::now() + crate::scene::PATIENCE;
    while !moved {
        assert!(tokio::time::Instant::now() < deadline, "still not expired");
        browser.jar.clone_from(&kept);
        moved = browser.get("/").await != home;
    }
}

#[tokio::test]
async fn a_session_moves_from_an_ailing_target_and_stays_where_it_moved() {
    let targets = three().await;
    let running = start(config([http("web")], [sticky("web", &addresses(&targets))])).await;
    all_healthy(&running).await;

    let mut browser = Browser::of(&running).await;
    let home = browser.stays("/").await;
    targets[index(&home)].set_status(503);
    becomes(&running, index(&home), "unhealthy").await;
    let refuge = browser.stays("/").await;
    assert_ne!(refuge, home);
    targets[index(&home)].set_status(200);
    becomes(&running, index(&home), "healthy").await;
    assert_eq!(browser.stays("/").await, refuge);
}

/// A target that answers with its name and closes each connection.
async fn closing(name: &'static str) -> Target {
    Target::playing(move |_, mut client| async move {
        let length = name.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close");
        client.say(format!("{head}\r\n\r\n{name}")).await;
        None
    })
    .await
}

#[tokio::test]
async fn a_session_moves_within_one_request_from_a_target_that_refuses() {
    let mut targets = [Some(closing("one").await), Some(closing("two").await)];
    let addresses: Vec<_> = targets
        .iter()
        .flatten()
        .map(|target| target.address)
        .collect();
    let mut web = sticky("web", &addresses);
    // No probe finds out first.
    web.health_check.interval = Duration::from_secs(300);
    web.health_check.timeout = Duration::from_secs(120);
    let running = start(config([http("web")], [web])).await;
    all_healthy(&running).await;

    let mut browser = Browser::of(&running).await;
    let home = browser.stays("/").await;
    targets[index(&home)] = None;
    let refuge = browser.stays("/").await;
    assert_ne!(refuge, home);
}

#[tokio::test]
async fn a_session_leaves_a_target_that_drains_and_does_not_return() {
    let targets = three().await;
    let all = config([http("web")], [sticky("web", &addresses(&targets))]);
    let running = start(all.clone()).await;
    all_healthy(&running).await;

    let mut browser = Browser::of(&running).await;
    let home = browser.stays("/").await;
    let mut without = all.clone();
    without.target_groups[0].targets.remove(index(&home));
    running.apply(without).await.unwrap();
    let refuge = browser.stays("/").await;
    assert_ne!(refuge, home);
    running.apply(all).await.unwrap();
    all_healthy(&running).await;
    assert_eq!(browser.stays("/").await, refuge);
}

#[tokio::test]
async fn sessions_of_two_groups_behind_one_name_leave_each_other_alone() {
    let targets = three().await;
    let more = three().await;
    let mut listener = http("web");
    listener.rules = vec![Rule {
        priority: 1.try_into().unwrap(),
        conditions: vec![Condition::PathPattern(vec!["/api/*".parse().unwrap()])],
        transforms: vec![],
        actions: Actions::forward("api".parse().unwrap()),
    }];
    let groups = [
        sticky("web", &addresses(&targets)),
        sticky("api", &addresses(&more)),
    ];
    let running = start(config([listener], groups)).await;
    all_healthy(&running).await;

    let mut browser = Browser::of(&running).await;
    let (web, api) = (browser.get("/").await, browser.get("/api/").await);
    for _ in 0..10 {
        assert_eq!(browser.get("/").await, web);
        assert_eq!(browser.get("/api/").await, api);
    }
}

/// Groups `blue`, with targets one and two, and `green`, with three, their clients kept with their targets.
fn blue_and_green(targets: &[Target; 3]) -> [TargetGroup; 2] {
    let [blue @ .., green] = &addresses(targets)[..] else {
        unreachable!()
    };
    [sticky("blue", blue), sticky("green", &[*green])]
}

/// Clients that were given to these groups, by who answers them.
async fn clients(running: &Running, wanted: &[&str]) -> Vec<Browser> {
    let mut found: BTreeMap<String, Browser> = BTreeMap::new();
    let deadline = tokio::time::Instant::now() + crate::scene::PATIENCE;
    while !wanted.iter().all(|name| found.contains_key(*name)) {
        assert!(
            tokio::time::Instant::now() < deadline,
            "one group gets nothing"
        );
        let mut browser = Browser::of(running).await;
        found.insert(browser.get("/").await, browser);
    }
    wanted
        .iter()
        .map(|name| found.remove(*name).unwrap())
        .collect()
}

fn shares(groups: &[TargetGroup], weights: &[(&str, u16)]) -> Config {
    config([weighted(weights, Some(DAY))], groups)
}

#[tokio::test]
async fn a_client_of_a_weighted_forward_stays_in_its_group_and_with_its_target() {
    let targets = three().await;
    let groups = blue_and_green(&targets);
    let running = start(shares(&groups, &[("blue", 1), ("green", 1)])).await;
    all_healthy(&running).await;

    for mut browser in clients(&running, &["one", "two", "three"]).await {
        browser.stays("/").await;
        let expected = ["AWSALBTG", "AWSALBTGCORS", "AWSALB", "AWSALBCORS"];
        assert_eq!(browser.set(), expected);
        // Each pair does its own part.
        browser.jar.remove("AWSALB");
        browser.jar.remove("AWSALBCORS");
        let home = browser.get("/").await;
        assert_eq!(browser.stays("/").await, home);
    }
}

#[tokio::test]
async fn the_group_cookie_alone_keeps_the_group() {
    let targets = three().await;
    let mut groups = blue_and_green(&targets);
    groups[0].stickiness = None;
    groups[1].stickiness = None;
    let running = start(shares(&groups, &[("blue", 1), ("green", 1)])).await;
    all_healthy(&running).await;

    let mut browsers = clients(&running, &["one", "three"]).await;
    let answers = browsers[0].answers("/").await;
    assert_eq!(answers, HashSet::from(["one".to_owned(), "two".to_owned()]));
    assert_eq!(browsers[1].stays("/").await, "three");
    assert_eq!(browsers[1].set(), ["AWSALBTG", "AWSALBTGCORS"]);
    // The one for other sites is enough.
    browsers[1].jar.remove("AWSALBTG");
    assert_eq!(browsers[1].stays("/").await, "three");
}

#[tokio::test]
async fn a_group_of_weight_0_keeps_its_clients_until_it_leaves_the_forward() {
    let targets = three().await;
    let groups = blue_and_green(&targets);
    let running = start(shares(&groups, &[("blue", 1), ("green", 1)])).await;
    all_healthy(&running).await;

    let mut browser = clients(&running, &["three"]).await.remove(0);
    running
        .apply(shares(&groups, &[("blue", 1), ("green", 0)]))
        .await
        .unwrap();
    assert_eq!(browser.stays("/").await, "three");
    for _ in 0..20 {
        assert_ne!(Browser::of(&running).await.get("/").await, "three");
    }
    running
        .apply(shares(&groups[..1], &[("blue", 1)]))
        .await
        .unwrap();
    assert_ne!(browser.stays("/").await, "three");
    // It stays there when the old group comes back.
    running
        .apply(shares(&groups, &[("blue", 1), ("green", 1)]))
        .await
        .unwrap();
    all_healthy(&running).await;
    assert_ne!(browser.stays("/").await, "three");
}

#[tokio::test]
async fn a_client_of_a_group_without_targets_is_not_sent_to_another() {
    let targets = three().await;
    let mut groups = blue_and_green(&targets);
    let running = start(shares(&groups, &[("blue", 1), ("green", 1)])).await;
    all_healthy(&running).await;

    let mut browser = clients(&running, &["three"]).await.remove(0);
    groups[1].targets.clear();
    running
        .apply(shares(&groups, &[("blue", 1), ("green", 1)]))
        .await
        .unwrap();
    for _ in 0..20 {
        browser.get("/").await;
        assert!(
            browser.head.starts_with("HTTP/1.1 503 "),
            "{}",
            browser.head
        );
    }
}

#[tokio::test]
async fn an_unreadable_group_cookie_is_served_and_noted_in_the_access_log() {
    let targets = three().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let groups = blue_and_green(&targets);
    let mut config = shares(&groups, &[("blue", 1), ("green", 1)]);
    config.load_balancer.access_log = Some(AccessLog {
        sink: AccessLogSink::File(path.clone()),
        format: AccessLogFormat::Json,
    });
    let running = start(config).await;
    all_healthy(&running).await;

    let mut browser = Browser::of(&running).await;
    browser.get("/good").await;
    browser.get("/good").await;
    browser
        .jar
        .insert("AWSALBTG".to_owned(), "%41bc".to_owned());
    browser.get("/other-is-good").await;
    browser
        .jar
        .insert("AWSALBTG".to_owned(), "%41bc".to_owned());
    browser.jar.remove("AWSALBTGCORS");
    browser.get("/bad").await;
    assert!(browser.head.starts_with("HTTP/1.1 200 "));
    browser.stays("/mended").await;
    let records = || -> Vec<(String, Option<String>)> {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let whole = text.lines().filter(|line| line.ends_with('}'));
        let records = whole.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let facts = records.map(|record| {
            let reason = record["error_reason"].as_str().map(str::to_owned);
            (record["request_url"].to_string(), reason)
        });
        facts.collect()
    };
    until("the log is written", || records().len() >= 24).await;
    for (request, reason) in records() {
        let expected = request.contains("/bad").then_some("AWSALBTGCookieInvalid");
        assert_eq!(reason.as_deref(), expected, "{request}");
    }
}

#[tokio::test]
async fn other_cookies_pass_untouched_both_ways() {
    const SET: [&str; 3] = [
        "SESSION=\"a b\"; Path=/x; HttpOnly",
        "AWSALBX=1",
        "__Host-a==b=c==;Secure",
    ];
    let target = Target::playing(|_, mut client| async move {
        let lines: String = SET
            .iter()
            .map(|line| format!("Set-Cookie: {line}\r\n"))
            .collect();
        client
            .say(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{lines}\r\n"
            ))
            .await;
        Some(client)
    })
    .await;
    let groups = [sticky("blue", &[target.address])];
    let running = start(shares(&groups, &[("blue", 1)])).await;
    all_healthy(&running).await;

    let mut browser = Browser::of(&running).await;
    let cookies = "SESSION=\"a b\";x; =y;  z = 1;AWSALBX=%20==; AWSALB=forged;";
    browser
        .get_with("/", &format!("Cookie: {cookies}\r\n"))
        .await;
    assert_eq!(
        crate::scene::header(&target.last_request(), "cookie"),
        Some(cookies)
    );
    let set: Vec<&str> = set_cookies(&browser.head).collect();
    assert_eq!(set[..3], SET);
    assert_eq!(set.len(), 7);
}

/// A target that begins a session of its own with whoever asks for /login.
async fn with_sessions(name: &'static str) -> Target {
    Target::playing(move |head, mut client| async move {
        let session = match head.starts_with("GET /login ") {
            true => format!("Set-Cookie: SESSION={name}; HttpOnly\r\n"),
            false => String::new(),
        };
        let length = name.len();
        client
            .say(format!(
                "HTTP/1.1 200 OK\r\n{session}Content-Length: {length}\r\n\r\n{name}"
            ))
            .await;
        Some(client)
    })
    .await
}

/// Three of these, and a load balancer that follows their sessions.
async fn following_sessions() -> ([Target; 3], Running) {
    let targets = [
        with_sessions("one").await,
        with_sessions("two").await,
        with_sessions("three").await,
    ];
    let mut web = group("web", &addresses(&targets));
    web.stickiness = Some(Stickiness::AppCookie {
        cookie_name: "SESSION".into(),
        duration: DAY,
    });
    let running = start(config([http("web")], [web])).await;
    all_healthy(&running).await;
    (targets, running)
}

#[tokio::test]
async fn a_client_stays_where_the_application_began_its_session() {
    let (targets, running) = following_sessions().await;

    let mut browser = Browser::of(&running).await;
    assert_eq!(browser.answers("/").await.len(), 3, "no session, no target");
    assert!(browser.jar.is_empty());
    let home = browser.get("/login").await;
    assert_eq!(browser.set(), ["SESSION", "AWSALBAPP-0"]);
    assert_eq!(browser.jar["SESSION"], home);
    assert_eq!(browser.stays("/").await, home);
    assert_eq!(browser.set(), ["AWSALBAPP-0"], "renewed with every answer");
    let seen = targets[index(&home)].last_request();
    assert!(seen.contains(&format!("SESSION={home}")), "{seen}");
}

#[tokio::test]
async fn both_cookies_are_needed_and_what_is_left_of_them_is_taken_back_once() {
    let (_targets, running) = following_sessions().await;

    let mut browser = Browser::of(&running).await;
    browser.get("/login").await;
    let whole = browser.jar.clone();
    let removed = ["AWSALBAPP-0", "AWSALBAPP-1", "AWSALBAPP-2", "AWSALBAPP-3"];

    // Logged out.
    browser.jar.remove("SESSION");
    browser.get("/").await;
    assert_eq!(browser.set(), removed);
    assert_eq!(browser.jar["AWSALBAPP-0"], "_remove_");
    assert_eq!(browser.answers("/").await.len(), 3);
    assert!(browser.set().is_empty());

    // Without ours, or with one that is forged.
    for (forged, set) in [(None, &[][..]), (Some("forged"), &removed)] {
        browser.jar.clone_from(&whole);
        browser.jar.remove("AWSALBAPP-0");
        let forged = forged.map(|forged| ("AWSALBAPP-0".to_owned(), forged.to_owned()));
        browser.jar.extend(forged);
        browser.get("/").await;
        assert_eq!(browser.set(), set);
        assert_eq!(browser.answers("/").await.len(), 3);
        let home = browser.get("/login").await;
        assert_eq!(browser.stays("/").await, home);
    }
}

#[tokio::test]
async fn a_session_of_the_application_moves_from_an_ailing_target_and_stays_there() {
    let (targets, running) = following_sessions().await;

    let mut browser = Browser::of(&running).await;
    let home = browser.get("/login").await;
    targets[index(&home)].set_status(503);
    becomes(&running, index(&home), "unhealthy").await;
    let refuge = browser.stays("/").await;
    assert_ne!(refuge, home);
    targets[index(&home)].set_status(200);
    becomes(&running, index(&home), "healthy").await;
    assert_eq!(browser.stays("/").await, refuge);
}

#[tokio::test]
async fn a_page_of_another_site_is_told_so_where_its_browser_asks_for_it() {
    let (_targets, running) = following_sessions().await;

    let mut browser = Browser::of(&running).await;
    let chrome = "User-Agent: Mozilla/5.0 (X11) Chrome/131.0.0.0 Safari/537.36\r\n";
    for (origin, told) in [
        ("", false),
        ("Origin: http://web.example\r\n", false),
        ("Origin: https://other.example\r\n", true),
    ] {
        browser
            .get_with("/login", &format!("{chrome}{origin}"))
            .await;
        let cookie = set_cookies(&browser.head).last().unwrap();
        assert!(cookie.starts_with("AWSALBAPP-0="));
        assert_eq!(
            cookie.ends_with("; SameSite=None; Secure"),
            told,
            "{origin}"
        );
    }
}

/// Three targets, and the configuration of a load balancer before them whose keys are in this file.
async fn with_key_file(path: &Path) -> ([Target; 3], Config) {
    let targets = three().await;
    let mut config = config([http("web")], [sticky("web", &addresses(&targets))]);
    config.load_balancer.cookie_keys = Some(CookieKeys {
        path: path.to_owned(),
        rotation: None,
    });
    (targets, config)
}

/// A line of a key file, made some minutes ago.
fn key(digits: &str, minutes: i64) -> String {
    let made = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes);
    format!("{made} {}\n", digits.repeat(32))
}

fn write_keys(path: &Path, keys: &[String]) {
    fs::write(path, keys.concat()).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn two_instances_that_share_their_keys_know_each_others_clients() {
    let folder = tempfile::tempdir().unwrap();
    let (_targets, config) = with_key_file(&folder.path().join("cookie.keys")).await;
    let (one, other) = (start(config.clone()).await, start(config).await);
    all_healthy(&one).await;
    all_healthy(&other).await;

    let mut connections = [Browser::of(&one).await, Browser::of(&other).await];
    let home = connections[0].get("/").await;
    let mut jar = connections[0].jar.clone();
    for turn in 0..40 {
        let browser = &mut connections[turn % 3 % 2];
        browser.jar = jar;
        assert_eq!(browser.get("/").await, home);
        jar = browser.jar.clone();
    }
}

#[tokio::test]
async fn sessions_outlive_the_process_and_nobody_else_reads_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cookie.keys");
    let (_targets, config) = with_key_file(&path).await;
    let running = start(config.clone()).await;
    all_healthy(&running).await;
    let mut browser = Browser::of(&running).await;
    let home = browser.get("/").await;
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    running.stop().await;

    let running = start(config).await;
    all_healthy(&running).await;
    let mut again = Browser::of(&running).await;
    again.jar = browser.jar;
    assert_eq!(again.stays("/").await, home);
}

#[tokio::test]
async fn keys_are_replaced_under_a_connection_and_older_ones_still_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cookie.keys");
    let (_targets, config) = with_key_file(&path).await;
    write_keys(&path, &[key("1a", 60)]);
    let running = start(config.clone()).await;
    all_healthy(&running).await;
    let mut browser = Browser::of(&running).await;
    let home = browser.get("/").await;
    let sealed_by_the_first = browser.jar.clone();

    // A second key: both open, the newer seals.
    write_keys(&path, &[key("2b", 10), key("1a", 60)]);
    running.apply(config.clone()).await.unwrap();
    assert_eq!(browser.stays("/").await, home);
    // Without the first: what it sealed last is worth nothing any more.
    write_keys(&path, &[key("2b", 10)]);
    running.apply(config.clone()).await.unwrap();
    assert_eq!(browser.stays("/").await, home);
    let mut answers = HashSet::new();
    for _ in 0..3 {
        browser.jar.clone_from(&sealed_by_the_first);
        answers.insert(browser.get("/").await);
    }
    assert_eq!(answers.len(), 3);
}

#[tokio::test]
async fn a_key_that_others_may_not_have_read_yet_does_not_seal() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("new"), folder.path().join("old"));
    let (_targets, ahead) = with_key_file(&path).await;
    let mut behind = ahead.clone();
    behind
        .load_balancer
        .cookie_keys
        .as_mut()
        .unwrap()
        .path
        .clone_from(&old);
    write_keys(&path, &[key("2b", 0), key("1a", 60)]);
    write_keys(&old, &[key("1a", 60)]);
    let (ahead, behind) = (start(ahead).await, start(behind).await);
    all_healthy(&ahead).await;
    all_healthy(&behind).await;

    let mut browser = Browser::of(&ahead).await;
    let home = browser.get("/").await;
    let mut other = Browser::of(&behind).await;
    other.jar = browser.jar;
    assert_eq!(other.stays("/").await, home);
}

#[tokio::test]
async fn a_key_file_that_others_can_read_is_refused_and_what_runs_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cookie.keys");
    let (_targets, config) = with_key_file(&path).await;
    let running = start(config.clone()).await;
    all_healthy(&running).await;
    let mut browser = Browser::of(&running).await;
    let home = browser.get("/").await;

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = running.apply(config.clone()).await.unwrap_err().to_string();
    let expected = format!(
        "load_balancer.cookie_keys: '{}' can be read by others",
        path.display()
    );
    assert!(refused.starts_with(&expected), "{refused}");
    assert!(refused.contains("chmod 600"), "{refused}");
    assert_eq!(browser.stays("/").await, home);
    let refused = albedo::app::start(config.clone()).await.unwrap_err();
    assert!(refused.to_string().starts_with(&expected), "{refused}");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    running.apply(config).await.unwrap();
    assert_eq!(browser.stays("/").await, home);
}

#[tokio::test]
async fn without_a_place_for_its_keys_a_load_balancer_keeps_them_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nowhere/cookie.keys");
    let (_targets, config) = with_key_file(&path).await;
    let running = start(config.clone()).await;
    all_healthy(&running).await;
    let mut browser = Browser::of(&running).await;
    let home = browser.get("/").await;
    running.apply(config).await.unwrap();
    assert_eq!(browser.stays("/").await, home);
    assert!(!path.exists());
}

#[test]
fn keys_stand_beside_the_configuration_unless_it_says_otherwise() {
    let read = |load_balancer: &str| {
        let text = format!(
            "{load_balancer}listeners: [ {{ port: 80, protocol: HTTP, default_actions: [ {{ fixed_response: \
             {{ status_code: 200 }} }} ] }} ]\n"
        );
        let (config, _) =
            albedo::config::parse(&text, Path::new("/etc/albedo/albedo.yaml")).unwrap();
        config.load_balancer.cookie_keys.unwrap()
    };
    let keys = |path: &str, rotation| CookieKeys {
        path: path.into(),
        rotation,
    };
    assert_eq!(read(""), keys("/etc/albedo/cookie.keys", None));
    let named = "load_balancer: { name: lb }\n";
    assert_eq!(read(named), keys("/etc/albedo/cookie.keys", None));
    let elsewhere = "load_balancer: { cookie_keys: { path: ../keys, rotation: 7d } }\n";
    assert_eq!(read(elsewhere), keys("/etc/albedo/../keys", Some(7 * DAY)));
}
