//! Change without a restart: files that are read again, and what of the running load balancer a change touches.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use albedo::app::{self, Error, Running};
use albedo::config::File;
use albedo::model::{
    AccessLog, AccessLogFormat, AccessLogSink, Actions, AdminAddress, Config, CookieKeys,
    Generation, Stickiness,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::lifecycle::{all_threads, alone, descriptors, resident_bytes};
use crate::scene::{
    Authority, Conversation, Target, config, connect, group, http, https, soon, start, until,
    workers,
};
use crate::support::{self, LoadBalancer, ok};

/// A load balancer that follows a file, in a folder of its own. It looks at the file on its own account, too, so a test
/// that asks for a reload must not count them.
struct Follower {
    folder: TempDir,
    running: Running,
}

/// One listener on loopback whose rules are these lines, and a group `web` with this target.
fn text(rules: &str, target: SocketAddr) -> String {
    format!(
        "admin: 127.0.0.1:0\nworkers: 2\nlisteners:\n  - port: 0\n    address: 127.0.0.1\n    protocol: HTTP\n    \
         rules: [{rules}]\n    default_actions: [ {{ forward: web }} ]\ntarget_groups:\n  - name: web\n    \
         protocol: HTTP\n    port: 80\n    health_check: {{ interval: 5s, timeout: 2s }}\n    \
         targets: [ \"{target}\" ]\n"
    )
}

/// A rule that answers `/new` with this text.
fn rule(body: &str) -> String {
    format!(
        "{{ priority: 1, conditions: [ {{ path_pattern: [ /new ] }} ], actions: [ {{ fixed_response: \
         {{ status_code: 200, content_type: text/plain, message_body: {body} }} }} ] }}"
    )
}

impl Follower {
    async fn start(text: &str) -> Self {
        Self::start_with(text, |_| {}).await
    }

    /// As `start`, with files beside the configuration.
    async fn start_with(text: &str, beside: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        beside(folder.path());
        let path = folder.path().join("albedo.yaml");
        fs::write(&path, text).unwrap();
        let running = app::start_from(File::new(path)).await.unwrap();
        Self { folder, running }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("albedo.yaml")
    }

    /// Puts this text in the file's place, as an editor does.
    fn write(&self, text: &str) {
        let new = self.folder.path().join("albedo.yaml.new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, self.path()).unwrap();
    }

    async fn client(&self) -> Conversation {
        Conversation::to(self.running.listeners()[0]).await
    }

    /// Status line and JSON of what the admin address answers.
    async fn admin(&self, request: &str) -> (String, String) {
        let AdminAddress::Tcp(address) = self.running.admin() else {
            panic!("not on TCP")
        };
        let mut door = Conversation::to(*address).await;
        let (head, body) = door
            .ask(&format!("{request} HTTP/1.1\r\nHost: {address}\r\n\r\n"))
            .await;
        (head.lines().next().unwrap().to_owned(), body)
    }

    async fn metric(&self, series: &str) -> String {
        let (_, text) = self.admin("GET /metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap_or_else(|| panic!("no {series} in {text}"))
            .trim()
            .to_owned()
    }
}

const REFUSED: &str = "albedo_config_reloads_total{load_balancer=\"albedo\",outcome=\"refused\"}";
const SUCCESSFUL: &str = "albedo_config_last_reload_successful{load_balancer=\"albedo\"}";

#[tokio::test]
async fn a_refused_file_changes_nothing_and_is_told_everywhere() {
    let target = Target::named("web").await;
    let follower = Follower::start(&text("", target.address)).await;
    let mut client = follower.client().await;
    assert_eq!(client.get("/new").await, "web");
    let before = follower.running.listeners();
    assert_eq!(follower.metric(SUCCESSFUL).await, "1");

    follower.write(&text("{ priority: 0 }", target.address));
    let (line, body) = follower.admin("POST /api/v1/reload").await;

    assert_eq!(line, "HTTP/1.1 422 Unprocessable Entity");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let problems = answer["problems"].as_array().unwrap();
    let named = |problem: &&Value| problem["path"] == "listeners[0].rules[0].priority";
    let first = problems.iter().find(named).unwrap();
    assert!(first["message"].as_str().unwrap().contains("; "), "{first}");
    assert_eq!(first["line"], 7);
    assert!(first["column"].is_number());
    let status = follower.running.status();
    assert_eq!(status.generation, 1);
    let last = status.last_reload.unwrap();
    assert_eq!((last.outcome.as_str(), last.generation), ("refused", 1));
    assert_eq!(last.problems.len(), problems.len());
    assert!(
        last.at.ends_with('Z') && last.at.contains('T'),
        "{}",
        last.at
    );
    assert_ne!(follower.metric(REFUSED).await, "0");
    assert_eq!(follower.metric(SUCCESSFUL).await, "0");
    assert_eq!(client.get("/new").await, "web");
    assert_eq!(follower.running.listeners(), before);

    // And the next good one works, on the same connection.
    follower.write(&text(&rule("changed"), target.address));
    let (line, body) = follower.admin("POST /api/v1/reload").await;
    assert_eq!(line, "HTTP/1.1 200 OK");
    let generation = follower.running.status().generation;
    assert!(generation > 1);
    assert!(
        body.starts_with(&format!("{{\"generation\":{generation},")),
        "{body}"
    );
    assert_eq!(client.get("/new").await, "changed");
    let last = follower.running.status().last_reload.unwrap();
    assert_eq!(last.outcome, "applied");
    assert_eq!(last.generation, generation);
    assert_eq!(follower.metric(SUCCESSFUL).await, "1");
    assert_eq!(follower.running.listeners(), before);
}

#[tokio::test]
async fn a_file_that_changes_is_read_again() {
    let target = Target::named("web").await;
    let follower = Follower::start(&text("", target.address)).await;
    follower.write(&text(&rule("renamed"), target.address));
    until("the new file runs", || {
        follower.running.status().generation == 2
    })
    .await;
    assert_eq!(follower.client().await.get("/new").await, "renamed");

    // Refused once, and not again and again.
    follower.write("nonsense");
    let refused = || {
        let last = follower.running.status().last_reload.unwrap();
        last.outcome == "refused"
    };
    until("the broken file is refused", refused).await;
    fs::write(follower.path(), text(&rule("mended"), target.address)).unwrap();
    until("the mended file runs", || {
        follower.running.status().generation == 3
    })
    .await;
    assert_eq!(follower.client().await.get("/new").await, "mended");
    assert_eq!(follower.metric(REFUSED).await, "1");
}

#[tokio::test]
async fn what_a_file_names_and_nobody_can_use_is_a_problem_with_its_place() {
    let target = Target::named("web").await;
    let good = text("", target.address);
    let follower = Follower::start(&good).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let second = |protocol: &str| {
        format!(
            "listeners:\n  - port: {port}\n    address: 127.0.0.1\n    protocol: {protocol}\n    \
             default_actions: [ {{ forward: web }} ]\n"
        )
    };
    let certificate = "    certificates: [ { certificate: no.pem, key: no.key } ]\n";
    let table = [
        (second("HTTP"), "listeners[0].port", 4),
        (
            second("HTTPS") + certificate,
            "listeners[0].certificates",
            8,
        ),
    ];
    for (second, path, line) in table {
        follower.write(&good.replace("listeners:\n", &second));
        let refused = follower.running.reload().await.unwrap_err();
        assert!(matches!(refused, Error::Bind(_) | Error::Refused(_)));
        let last = follower.running.status().last_reload.unwrap();
        assert_eq!(last.problems[0].path, path);
        assert_eq!(last.problems[0].line, Some(line), "{:?}", last.problems);
        assert!(last.problems[0].message.contains("; "));
    }
    follower.write(&good);
    assert!(follower.running.reload().await.unwrap() > Generation(1));
}

#[tokio::test]
async fn what_cannot_change_while_it_runs_is_told() {
    let target = Target::named("web").await;
    let good = text("", target.address);
    let follower = Follower::start(&good).await;
    let admin = follower.running.admin().clone();
    let wanted = good.replace("127.0.0.1:0\nworkers: 2", "127.0.0.1:1\nworkers: 3");
    follower.write(&format!("{wanted}load_balancer: {{ name: other }}\n"));

    let (line, body) = follower.admin("POST /api/v1/reload").await;

    assert_eq!(line, "HTTP/1.1 200 OK");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["generation"], follower.running.status().generation);
    let warnings = answer["warnings"].as_array().unwrap();
    let paths: Vec<_> = warnings.iter().map(|warning| &warning["path"]).collect();
    // Behind what the file itself is warned of.
    let [.., admin_path, workers_path, name_path] = &paths[..] else {
        panic!("{paths:?}")
    };
    assert_eq!(
        [*admin_path, workers_path, name_path],
        ["admin", "workers", "load_balancer.name"]
    );
    assert_eq!(warnings[paths.len() - 2]["line"], 2);
    assert_eq!(*follower.running.admin(), admin);
    assert_eq!(follower.admin("GET /readyz").await.0, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn without_a_file_there_is_nothing_to_read_again() {
    let running = start(config([http("web")], [group("web", &[])])).await;
    let refused = soon("an answer", running.reload()).await.unwrap_err();
    assert!(refused.to_string().contains("not started from a file"));
    assert_eq!(running.status().last_reload, None);
}

#[tokio::test]
async fn a_certificate_replaced_on_disk_is_shown_to_those_who_come() {
    let target = Target::named("web").await;
    let authority = Authority::new();
    let https = text("", target.address).replace(
        "protocol: HTTP\n    rules",
        "protocol: HTTPS\n    certificates: [ { certificate: a.pem, key: a.key } ]\n    rules",
    );
    let [first, second] = [1, 2].map(|_| authority.sign(&["web.example"]));
    let follower = Follower::start_with(&https, |folder| first.write(folder, "a")).await;
    let address = follower.running.listeners()[0];
    let shown = async || {
        // A client that has not been here: another would resume its session and be shown nothing.
        let client = Arc::new(authority.client(&[]));
        let tls = connect(address, &client, "web.example").await.unwrap();
        let leaf = tls.get_ref().1.peer_certificates().unwrap()[0].clone();
        (Conversation::over(tls), leaf)
    };
    let (mut open, leaf) = shown().await;
    assert_eq!(leaf, *first.der());
    assert_eq!(open.get("/").await, "web");

    // The file of the configuration stays as it is.
    second.write(follower.folder.path(), "a");
    until("the certificate was taken", || {
        follower.running.status().generation > 1
    })
    .await;

    let (mut fresh, leaf) = shown().await;
    assert_eq!(leaf, *second.der());
    assert_eq!(fresh.get("/").await, "web");
    assert_eq!(open.get("/").await, "web", "on the connection from before");
}

#[tokio::test]
async fn the_answer_means_that_every_worker_serves_the_new_rules() {
    let [one, two] = [Target::named("one").await, Target::named("two").await];
    let mut wanted = config([http("web")], [group("web", &[one.address])]);
    wanted.workers = workers(4);
    let running = start(wanted.clone()).await;
    let address = running.listeners()[0];
    let mut clients = Vec::new();
    for round in 0..4 {
        // More and more connections of every age, on every worker.
        for _ in 0..16 {
            clients.push(Conversation::to(address).await);
        }
        let (target, name) = match round % 2 {
            0 => (&two, "two"),
            _ => (&one, "one"),
        };
        wanted.target_groups[0] = group("web", &[target.address]);
        running.apply(wanted.clone()).await.unwrap();
        for client in &mut clients {
            assert_eq!(client.get("/").await, name);
        }
    }
}

#[tokio::test]
async fn what_has_not_changed_is_not_touched() {
    let target = support::Target::start().await;
    let mut balancer = LoadBalancer::before(&[target.address()]).await;
    let mut client = balancer.client().await;
    let get = "GET / HTTP/1.1\r\nHost: web.example\r\n\r\n";
    client.send(get).await;
    let (mut served, _) = target.serve().await;
    let changes: [fn(&mut Config); 6] = [
        |config| {
            let mut spare = config.target_groups[0].clone();
            spare.name = "spare".parse().unwrap();
            spare.targets = vec!["127.0.0.1:1".parse().unwrap()];
            config.target_groups.push(spare);
        },
        |config| {
            let mut door = http("spare");
            door.rules = config.listeners[0].rules.clone();
            config.listeners.push(door);
        },
        |config| config.target_groups[1].targets.clear(),
        |config| config.load_balancer.idle_timeout = Duration::from_secs(61),
        // The group of the very target is another; the target is not.
        |config| config.target_groups[0].deregistration_delay = Duration::from_secs(7),
        |config| config.listeners.truncate(1),
    ];
    for change in changes {
        // One request is on its way while things change, and its connections carry the next.
        let before = balancer.status().target_groups[0].targets[0].clone();
        assert_eq!(before.outstanding_requests, 1);
        balancer.apply(change).await;
        assert_eq!(balancer.status().target_groups[0].targets[0], before);
        served.send(ok("kept")).await;
        assert_eq!(client.response().await.text(), "kept");
        client.send(get).await;
        served.request().await;
    }
    assert!(target.is_left_alone().await);
}

#[test]
fn many_changes_leave_memory_threads_and_descriptors_as_they_were() {
    alone(
        "reload::many_changes_leave_memory_threads_and_descriptors_as_they_were",
        async {
            // The allocator has settled by then; what is kept of a change would be ten kilobytes and more.
            const WARM_UP: usize = 2_500;
            const CHANGES: usize = 1_500;
            const GROWTH_MAX: usize = 8 << 20;
            let folder = tempfile::tempdir().unwrap();
            let authority = Authority::new();
            let target = Target::named("web").await;
            let names: Vec<_> = (0..50).map(|last| format!("127.0.1.{last}:1")).collect();
            let names: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();
            // Series of a metric stay, so the second listener must not come to a new port each time.
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let variant = |number: usize| {
                let certificate = authority.sign(&["web.example"]);
                let doors = [http("web"), https("web", &[&certificate])];
                let others = group("others", &names[number % 2..]);
                let mut config = config(doors, [group("web", &[target.address]), others]);
                config.listeners[1].port = port;
                config.listeners.truncate(1 + number % 2);
                config.listeners[0].default_actions = Actions::forward("web".parse().unwrap());
                config.target_groups[1].deregistration_delay = Duration::ZERO;
                config.target_groups[1].health_check.interval = Duration::from_secs(300);
                let file = folder.path().join(format!("{}.log", number % 3));
                config.load_balancer.access_log = Some(AccessLog {
                    sink: AccessLogSink::File(file),
                    format: AccessLogFormat::Alb,
                });
                config
            };
            let running = start(variant(0)).await;
            let mut client = Conversation::to(running.listeners()[0]).await;
            let mut change = async |numbers: Range<usize>| {
                for number in numbers {
                    running.apply(variant(number)).await.unwrap();
                    assert_eq!(client.get("/").await, "web");
                }
            };
            change(1..WARM_UP).await;
            // On a busy machine more changes are under way at once and memory grows for that; only what is kept of each
            // grows every time.
            let mut growth = Vec::new();
            while growth.last().is_none_or(|&last| last >= GROWTH_MAX) {
                assert!(growth.len() < 3, "bytes more, each time: {growth:?}");
                let before = resident_bytes();
                let from = WARM_UP + growth.len() * CHANGES;
                change(from..from + CHANGES).await;
                growth.push(resident_bytes().saturating_sub(before));
            }
            until("one log is open", || {
                all_threads().filter(|name| name == "access-log").count() == 1
            })
            .await;
            let few = || descriptors().len() < 60;
            until("sockets of closed listeners are closed", few).await;
        },
    );
}

/// `albedo run` in a process of its own, its admin address a socket file beside its configuration.
pub(crate) struct Process {
    folder: TempDir,
    child: std::process::Child,
}

impl Process {
    pub(crate) async fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("albedo.yaml");
        fs::write(&path, text).unwrap();
        let mut run = albedo();
        run.arg("run").arg(&path).stderr(Stdio::null());
        let child = run.spawn().unwrap();
        let process = Self { folder, child };
        let socket = process.folder.path().join("admin.sock");
        until("the admin address is there", || socket.exists()).await;
        process
    }

    fn write(&self, text: &str) {
        fs::write(self.folder.path().join("albedo.yaml"), text).unwrap();
    }

    /// Exit code, standard output and standard error of a verb.
    pub(crate) fn verb(&self, verb: &str) -> (i32, String, String) {
        let socket = self.folder.path().join("admin.sock");
        let outcome = albedo()
            .args(verb.split(' '))
            .arg(format!("--admin=unix:{}", socket.display()))
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = outcome.status.code().unwrap();
        (code, text(outcome.stdout), text(outcome.stderr))
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        let outcome = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(outcome.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// As `text`, for a process.
pub(crate) fn for_process(rules: &str, target: SocketAddr) -> String {
    text(rules, target).replace("127.0.0.1:0", "unix:admin.sock")
}

fn albedo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_albedo"));
    command.stdin(Stdio::null());
    command
}

#[tokio::test]
async fn the_verb_and_the_signal_read_the_file_again() {
    let plain = |rules: &str| for_process(rules, (Ipv4Addr::LOCALHOST, 1).into());
    let mut process = Process::start(&plain("")).await;
    until("it runs", || {
        process.verb("status").1.starts_with("generation 1\n")
    })
    .await;

    process.write(&plain("{ priority: 0 }"));
    let (code, out, err) = process.verb("reload");
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.contains("7:25 listeners[0].rules[0].priority: "),
        "{err}"
    );
    assert!(
        process
            .verb("status")
            .1
            .contains("7:25 listeners[0].rules[0].priority: ")
    );

    process.write(&plain(&rule("good")));
    let (code, out, _) = process.verb("reload");
    assert_eq!(code, 0);
    let generation = |out: &str| -> u64 {
        let line = out.lines().next().unwrap_or_default();
        line.strip_prefix("generation ").unwrap().parse().unwrap()
    };
    let applied = generation(&out);
    assert!(applied > 1);

    // The file is the same, so it is the signal that makes a generation.
    process.signal("HUP");
    let heard = || generation(&process.verb("status").1) > applied;
    until("the signal was heard", heard).await;
    process.signal("TERM");
    let code = tokio::task::spawn_blocking(move || process.child.wait().unwrap().code());
    assert_eq!(soon("its end", code).await.unwrap(), Some(0));
}

#[tokio::test]
async fn a_refused_change_leaves_no_file_and_no_series_behind() {
    let folder = tempfile::tempdir().unwrap();
    let [log, keys] = ["access.log", "keys"].map(|name| folder.path().join(name));
    let target = Target::named("web").await;
    let plain = config([http("web")], [group("web", &[target.address])]);
    let running = start(plain.clone()).await;
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let wanted = |log: &Path| {
        let mut config = plain.clone();
        config.target_groups.push(group("never", &[target.address]));
        config.listeners.push(http("never"));
        config.load_balancer.access_log = Some(AccessLog {
            sink: AccessLogSink::File(log.to_owned()),
            format: AccessLogFormat::Json,
        });
        config.load_balancer.cookie_keys = Some(CookieKeys {
            path: keys.clone(),
            rotation: None,
        });
        let day = Duration::from_secs(24 * 60 * 60);
        config.target_groups[1].stickiness = Some(Stickiness::LbCookie { duration: day });
        config
    };
    let mut taken_port = wanted(&log);
    taken_port.listeners[1].port = taken.local_addr().unwrap().port();
    running.apply(taken_port).await.unwrap_err();
    let nowhere = folder.path().join("nowhere/access.log");
    running.apply(wanted(&nowhere)).await.unwrap_err();
    fs::write(&keys, "no keys").unwrap();
    running.apply(wanted(&log)).await.unwrap_err();
    fs::remove_file(&keys).unwrap();
    assert!(!log.exists() && !keys.exists());
    assert!(!metrics(&running).await.contains("\"never\""));

    // As it is wanted it makes all of them, and going back hides what is gone.
    running.apply(wanted(&log)).await.unwrap();
    assert!(log.exists() && keys.exists());
    assert!(metrics(&running).await.contains("\"never\""));
    running.apply(plain).await.unwrap();
    soon("nobody holds the group", async {
        while metrics(&running).await.contains("\"never\"") {}
    })
    .await;
    assert!(metrics(&running).await.contains("\"web\""));
}

/// What the admin address tells to Prometheus.
pub(crate) async fn metrics(running: &Running) -> String {
    let AdminAddress::Tcp(address) = running.admin() else {
        panic!("not on TCP")
    };
    let mut door = Conversation::to(*address).await;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n");
    door.ask(&request).await.1
}
