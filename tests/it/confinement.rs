//! What the process gives up at its start, seen in `/proc`, and by those that it starts; and that all it lives by still
//! works.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::process::{BINARY, Process, config_text, verb};
use crate::scene::{Conversation, Target, until};
use crate::upgrade::{healthy, put};

const HTTP: &str = "port: 0, address: 127.0.0.1, protocol: HTTP";

const VARIABLE: &str = "ALBEDO_CONFINEMENT";
const BOTH: [Confined; 2] = [Confined::Freely, Confined::Fully];

/// `CAP_NET_BIND_SERVICE`, as a bit of the sets in `/proc/PID/status`.
const LOW_PORTS: u64 = 1 << 10;

/// A line of `/proc/PID/status`, or of a thread's.
fn line(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {status}"))
        .trim_matches([':', '\t'])
        .to_owned()
}

fn capabilities(status: &str, name: &str) -> u64 {
    u64::from_str_radix(&line(status, name), 16).unwrap()
}

/// Those of every thread.
fn threads(pid: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path.join("status")).unwrap();
    tasks.map(|task| read(task.unwrap().path())).collect()
}

/// What this test's process holds, and a process that it starts to begin with.
fn own() -> String {
    std::fs::read_to_string("/proc/thread-self/status").unwrap()
}

/// How many lists of denied calls hold.
fn lists(status: &str) -> usize {
    line(status, "Seccomp_filters").parse().unwrap()
}

/// Whether the process denies itself system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confined {
    /// Unless somebody else does already: that costs each call something.
    Freely,
    Fully,
}

fn assert_confined(pid: u32, confined: Confined) {
    let own = own();
    let kept = capabilities(&own, "CapPrm") & LOW_PORTS;
    let expected = match (confined, lists(&own)) {
        (Confined::Freely, 0) => 0,
        (_, lists) => lists + 1,
    };
    let threads = threads(pid);
    assert!(threads.len() > 3, "workers and the control side");
    for status in threads {
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(capabilities(&status, set), kept, "{set} in {status}");
        }
        assert_eq!(line(&status, "NoNewPrivs"), "1", "{status}");
        assert_eq!(lists(&status), expected, "{status}");
    }
}

/// Starts one, and gives where it listens.
async fn start(confined: Confined, config: &str) -> (Process, SocketAddr) {
    let process = Process::start(config, |command, _| wish(command, confined));
    let address = process.listeners(1).await[0];
    healthy(&process, 1).await;
    (process, address)
}

fn wish(command: &mut Command, confined: Confined) {
    match confined {
        Confined::Freely => command.env_remove(VARIABLE),
        Confined::Fully => command.env(VARIABLE, "full"),
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_thread_keeps_what_no_proxy_needs() {
    let target = Target::named("web").await;
    let config = config_text(&[HTTP], &[target.address]);
    for confined in BOTH {
        let (process, address) = start(confined, &config).await;
        let line = process.logged(0, "confined: ").await;
        assert!(line.contains("\"INFO\""), "{line}");
        assert!(line.contains("; no new privileges; "), "{line}");
        if confined == Confined::Fully {
            assert!(line.contains(" system calls denied"), "{line}");
        }
        assert_confined(process.id(), confined);
        assert_eq!(Conversation::to(address).await.get("/").await, "web");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_loosens_nothing_and_piles_nothing_up() {
    let target = Target::named("web").await;
    let config = config_text(&[HTTP], &[target.address]);
    for confined in BOTH {
        let (process, address) = start(confined, &config).await;
        // More often than Landlock would bear.
        for _ in 0..18 {
            let from = process.log().len();
            process.upgrade().await;
            let line = process.logged(from, "confined: ").await;
            assert!(line.contains("\"INFO\""), "{line}");
            assert_confined(process.id(), confined);
        }
        assert_eq!(Conversation::to(address).await.get("/").await, "web");
    }
}

/// What somebody would do who has broken in, with the word for each thing that came off.
const BREAK_IN: &str = "
cat /proc/self/status
unshare --user true && echo came-off-user
unshare --user --map-root-user --mount mount -t tmpfs none /mnt && echo came-off-mount
chroot / true && echo came-off-chroot
mknod null c 1 3 && echo came-off-device
kill -0 $VICTIM && echo came-off-signal
cat /proc/$VICTIM/environ >/dev/null && echo came-off-reading
echo done
exit 7";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_starts_can_do_no_more_than_itself() {
    let target = Target::named("web").await;
    let mut victim = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    for confined in BOTH {
        let installed = tempfile::tempdir().unwrap();
        let binary = installed.path().join("albedo");
        symlink(BINARY, &binary).unwrap();
        let config = config_text(&[HTTP], &[target.address]);
        let process = Process::start_as(&binary, &config, |command, _| wish(command, confined));
        let address = process.listeners(1).await[0];

        let folder = installed.path().display();
        let script = BREAK_IN.replace("$VICTIM", &victim.id().to_string());
        put(&format!("cd {folder}; exec >said 2>&1; {script}"), &binary);
        let (exit, text) = verb(["upgrade", "--admin", &process.admin().await]).await;

        assert_eq!(exit, Some(1));
        assert!(text.contains("exit status: 7"), "{text}");
        let said = std::fs::read_to_string(installed.path().join("said")).unwrap();
        assert!(said.ends_with("done\n"), "{said}");
        assert_eq!(line(&said, "NoNewPrivs"), "1");
        assert_eq!(capabilities(&said, "CapEff") & !LOW_PORTS, 0);
        let came_off = said.lines().filter(|line| line.starts_with("came-off-"));
        // A user namespace of its own is what only the list of calls denies.
        let allowed = match confined {
            Confined::Freely => &["came-off-user"][..],
            Confined::Fully => &[],
        };
        let more: Vec<_> = came_off.filter(|line| !allowed.contains(line)).collect();
        assert!(more.is_empty(), "{said}");
        assert_eq!(Conversation::to(address).await.get("/").await, "web");
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
}

/// A port below 1024 that is free, where this test may open one.
fn low_port() -> Option<u16> {
    let bind = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (600..1024).rev().find(bind)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_and_upgrades_still_open_ports_below_1024() {
    let Some(port) = low_port() else {
        eprintln!("no port below 1024 may be opened here: nothing is shown");
        return;
    };
    let target = Target::named("web").await;
    let config = config_text(&[HTTP], &[target.address]);
    let (process, _) = start(Confined::Fully, &config).await;
    let low = format!("port: {port}, address: 127.0.0.1, protocol: HTTP");
    process.write(&config_text(&[HTTP, &low], &[target.address]));
    let (exit, text) = verb(["reload", "--admin", &process.admin().await]).await;
    assert_eq!(exit, Some(0), "{text}");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    assert_eq!(Conversation::to(address).await.get("/").await, "web");

    // The next process opens one of its own.
    process.write(&config);
    let (exit, text) = verb(["reload", "--admin", &process.admin().await]).await;
    assert_eq!(exit, Some(0), "{text}");
    process.upgrade().await;
    process.write(&config_text(&[HTTP, &low], &[target.address]));
    let (exit, text) = verb(["reload", "--admin", &process.admin().await]).await;
    assert_eq!(exit, Some(0), "{text}");
    assert_eq!(Conversation::to(address).await.get("/").await, "web");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_names_are_as_near_as_before() {
    let target = Target::named("web").await;
    let name = format!("{{ id: localhost, port: {} }}", target.address.port());
    let config = config_text(&[HTTP], &[target.address])
        .replace(&target.address.to_string(), &name)
        .replace(
            "listeners:",
            "load_balancer: { access_log: { path: access.log }, cookie_keys: { path: cookie.keys } }\nlisteners:",
        )
        .replace(
            "    protocol: HTTP\n",
            "    protocol: HTTP\n    stickiness: { type: lb_cookie, duration: 1d }\n",
        );
    let (process, address) = start(Confined::Fully, &config).await;
    let log = process.folder.path().join("access.log");
    let lines = |path: &std::path::Path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().count()
    };
    assert_eq!(Conversation::to(address).await.get("/").await, "web");
    until("a line", || lines(&log) == 1).await;
    assert!(process.folder.path().join("cookie.keys").exists());

    let old = log.with_extension("1");
    std::fs::rename(&log, &old).unwrap();
    process.signal(Signal::HUP);
    process.logged(0, "\"generation\":\"2\"").await;
    assert_eq!(
        process.status().await.target_groups[0].targets[0].id,
        "localhost"
    );
    assert_eq!(Conversation::to(address).await.get("/").await, "web");
    until("a line in a new file", || lines(&log) == 1).await;
    process.upgrade().await;
    assert_eq!(Conversation::to(address).await.get("/").await, "web");
    until("a line of the next process", || lines(&log) == 2).await;
    assert_eq!(lines(&old), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_may_do_without() {
    let target = Target::named("web").await;
    let config = config_text(&[HTTP], &[target.address]);
    let process = Process::start(&config, |command, _| {
        command.env(VARIABLE, "off");
    });
    let line = process.logged(0, "not confined: ").await;
    assert!(line.contains("\"WARN\""), "{line}");
    process.listeners(1).await;
    for status in threads(process.id()) {
        assert_eq!(
            capabilities(&status, "CapEff"),
            capabilities(&own(), "CapEff")
        );
        assert_eq!(lists(&status), lists(&own()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_that_is_not_known_turns_nothing_off() {
    let target = Target::named("web").await;
    let config = config_text(&[HTTP], &[target.address]);
    let process = Process::start(&config, |command, _| {
        command.env(VARIABLE, "perhaps");
    });
    process.logged(0, "ALBEDO_CONFINEMENT='perhaps'").await;
    process.listeners(1).await;
    assert_confined(process.id(), Confined::Freely);
}
