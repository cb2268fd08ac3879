//! The load balancer under test: the real binary, its file, its verbs, its processes and what they hold.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::certificates::NAMES;
use crate::clock::now;
use crate::ledger::Ledger;
use crate::target::CHECK_PATH;
use crate::world::{Addresses, CLEAR_PORT, Group, TLS_PORT, TargetId};

/// How long a process that was replaced, or told to stop, may finish; longer than any request but WebSockets takes.
const SHUTDOWN: Duration = Duration::from_secs(12);

/// How much longer than that nobody lives.
const SLACK: Duration = Duration::from_secs(10);

/// Rules, groups and targets that no request needs; each reload moves them.
const FILLER_RULES: usize = 40;
const FILLER_GROUPS: usize = 6;

pub(crate) struct Balancer {
    pub(crate) folder: TempDir,
    binary: PathBuf,
    addresses: Addresses,
    /// The one that was started; the others are its descendants.
    _first: Child,
    serving: AtomicU32,
}

/// What the file says now.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) turn: usize,
    pub(crate) switch: Group,
    /// Targets that are not in it.
    pub(crate) removed: Vec<TargetId>,
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holds {
    pub(crate) memory: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

impl Balancer {
    /// Makes a folder with a copy of the binary, which upgrades will start.
    pub(crate) fn prepare(binary: &Path) -> Result<(TempDir, PathBuf)> {
        let folder = tempfile::Builder::new().prefix("albedo-soak-").tempdir()?;
        let copy = folder.path().join("albedo");
        fs::copy(binary, &copy).with_context(|| format!("no binary at {}", binary.display()))?;
        // What an upgrade leaves behind becomes a child of ours, so that it can be found and ended.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(
            CWD,
            folder.path().join("access.log"),
            FileType::Fifo,
            mode,
            0,
        )?;
        Ok((folder, copy))
    }

    pub(crate) fn start(
        folder: TempDir,
        binary: PathBuf,
        addresses: Addresses,
        table: &Table,
    ) -> Result<Self> {
        fs::write(
            folder.path().join("albedo.yaml"),
            configuration(addresses, table),
        )?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.path().join("albedo.log"))?;
        let first = Command::new(&binary)
            .arg("run")
            .arg(folder.path().join("albedo.yaml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Self {
            serving: AtomicU32::new(first.id()),
            folder,
            binary,
            addresses,
            _first: first,
        })
    }

    /// Waits until every target is healthy.
    pub(crate) async fn settled(&self) -> Result<()> {
        for _ in 0..200 {
            if let Ok(status) = self.status().await
                && states(&status).all(|state| state == "healthy")
            {
                return Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
        bail!(
            "it does not start, or its targets are not healthy: {}",
            self.log()
        )
    }

    /// Puts a file in the place of the one that is read.
    pub(crate) fn write(&self, text: &str) -> Result<()> {
        let fresh = self.folder.path().join("albedo.yaml.new");
        fs::write(&fresh, text)?;
        fs::rename(fresh, self.folder.path().join("albedo.yaml"))?;
        Ok(())
    }

    pub(crate) fn configuration(&self, table: &Table) -> String {
        configuration(self.addresses, table)
    }

    /// Runs a verb to its end: whether it succeeded, and what it said.
    pub(crate) async fn verb(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let mut command = Command::new(&self.binary);
        let admin = format!("unix:{}/admin.sock", self.folder.path().display());
        command.args(arguments).arg("--admin").arg(admin);
        let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output());
        let output = output.await??;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Ok((output.status.success(), text))
    }

    pub(crate) async fn status(&self) -> Result<Value> {
        let (_, text) = self.verb(&["status", "--json"]).await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Names a target as the verbs do.
    pub(crate) fn name(&self, target: TargetId) -> String {
        self.addresses.target(target).to_string()
    }

    /// Has another process take over; gives the one that was replaced.
    pub(crate) async fn upgrade(&self) -> Result<u32> {
        let old = self.serving.load(Ordering::Relaxed);
        let (done, text) = self.verb(&["upgrade"]).await?;
        let mut words = text.split(' ');
        match (done, words.nth(1).and_then(|word| word.parse().ok())) {
            (true, Some(fresh)) => self.serving.store(fresh, Ordering::Relaxed),
            _ => bail!("the upgrade failed: {text}"),
        }
        Ok(old)
    }

    /// Whether a process ends in its time.
    pub(crate) async fn goes(pid: u32) -> bool {
        let deadline = now() + (SHUTDOWN + SLACK).as_millis() as u64;
        while is_alive(pid) {
            if now() > deadline {
                return false;
            }
            sleep(Duration::from_millis(20)).await;
        }
        reap(pid);
        true
    }

    pub(crate) fn serving(&self) -> u32 {
        self.serving.load(Ordering::Relaxed)
    }

    pub(crate) fn holds(&self) -> Option<Holds> {
        let folder = PathBuf::from(format!("/proc/{}", self.serving()));
        let status = fs::read_to_string(folder.join("status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        Some(Holds {
            memory: field("VmRSS:")? * 1024,
            descriptors: fs::read_dir(folder.join("fd")).ok()?.count() as u64,
            threads: field("Threads:")?,
        })
    }

    /// Tells it to stop; whether it did in time and as it should.
    pub(crate) async fn stop(&self) -> Result<(), String> {
        let pid = self.serving();
        signal(pid, Signal::TERM);
        let deadline = now() + (SHUTDOWN + SLACK).as_millis() as u64;
        while is_alive(pid) {
            if now() > deadline {
                return Err("it does not stop".into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        match reap(pid) {
            Some(0) => Ok(()),
            other => Err(format!("it stopped with {other:?}")),
        }
    }

    /// Processes of ours that run.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| {
            fs::read_link(format!("/proc/{pid}/exe"))
                .is_ok_and(|exe| exe.starts_with(self.folder.path()))
        })
        .collect()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("albedo.log")).unwrap_or_default()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        for pid in self.processes() {
            signal(pid, Signal::KILL);
        }
    }
}

/// The state of every target that is part of its group.
pub(crate) fn states(status: &Value) -> impl Iterator<Item = &str> {
    let groups = status["target_groups"].as_array().into_iter().flatten();
    groups
        .filter(|group| {
            !group["name"]
                .as_str()
                .unwrap_or_default()
                .starts_with("filler")
        })
        .flat_map(|group| group["targets"].as_array().into_iter().flatten())
        .filter_map(|target| target["state"].as_str())
}

/// Connections of clients and requests in progress.
pub(crate) fn busy(status: &Value) -> (u64, u64) {
    let listeners = status["listeners"].as_array().into_iter().flatten();
    let connections = listeners
        .filter_map(|one| one["connections"].as_u64())
        .sum();
    let groups = status["target_groups"].as_array().into_iter().flatten();
    let targets = groups.flat_map(|group| group["targets"].as_array().into_iter().flatten());
    let requests = targets
        .filter_map(|one| one["outstanding_requests"].as_u64())
        .sum();
    (connections, requests)
}

/// Reads the access log to its end and enters its lines into the ledger. The log is a pipe: it needs no disk, however
/// long the run.
pub(crate) fn read_access_log(folder: &Path, ledger: &Arc<Ledger>) -> Result<()> {
    // For both, so that it neither waits for a writer nor ends with one.
    let pipe: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open(folder.join("access.log"))?;
    let _larger = rustix::pipe::fcntl_setpipe_size(&pipe, 1 << 20);
    let ledger = Arc::clone(ledger);
    std::thread::spawn(move || {
        let mut lines = BufReader::with_capacity(1 << 16, pipe);
        let mut line = Vec::new();
        loop {
            line.clear();
            match lines.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => enter(&line, &ledger),
            }
        }
    });
    Ok(())
}

fn enter(line: &[u8], ledger: &Ledger) {
    let record: Value = match serde_json::from_slice(line) {
        Ok(record) => record,
        Err(error) => {
            let text = String::from_utf8_lossy(line);
            return ledger.violation(format!("the access log has {text:?}: {error}"));
        }
    };
    let Some(url) = record["request_url"].as_str() else {
        return ledger.note("lines of the access log without a request", 1);
    };
    let status = record["elb_status_code"].as_u64().unwrap_or(0);
    let id = url
        .split('?')
        .next()
        .and_then(|path| path.rsplit('/').next());
    match id.and_then(|id| id.parse().ok()) {
        Some(id) => ledger.logged(id, u16::try_from(status).unwrap_or(0)),
        None => ledger.violation(format!("the access log has {url}")),
    }
}

fn configuration(addresses: Addresses, table: &Table) -> String {
    let mut text = format!(
        "admin: unix:admin.sock\n\
         workers: 2\n\
         shutdown: {{ delay: 0s, timeout: {}s }}\n\
         load_balancer:\n  \
           name: soak\n  \
           idle_timeout: 5s\n  \
           access_log: {{ path: access.log, format: json }}\n\
         listeners:\n",
        SHUTDOWN.as_secs()
    );
    let front = addresses.front();
    let certificates = NAMES.map(|name| format!("{{ certificate: {name}.pem, key: {name}.key }}"));
    let tls = format!("certificates: [ {} ]", certificates.join(", "));
    for (port, protocol, tls) in [(CLEAR_PORT, "HTTP", ""), (TLS_PORT, "HTTPS", tls.as_str())] {
        let _always = write!(
            text,
            "  - port: {port}\n    address: {front}\n    protocol: {protocol}\n    {tls}\n    rules:\n"
        );
        // Rules that no request needs change their places with every turn, and those that are needed with them.
        let mut rules: Vec<(String, String)> = (0..FILLER_RULES)
            .map(|number| {
                let number = (number + table.turn) % FILLER_RULES;
                (
                    format!("/filler/{number}/*"),
                    format!("filler-{}", number % FILLER_GROUPS),
                )
            })
            .collect();
        let mut needed: Vec<_> = Group::ALL
            .iter()
            .map(|group| (format!("/{}/*", group.name()), group.name().to_owned()))
            .collect();
        needed.push(("/switch/*".to_owned(), table.switch.name().to_owned()));
        for (number, rule) in needed.into_iter().enumerate() {
            let at = (number * 7 + table.turn * 5) % rules.len();
            rules.insert(at, rule);
        }
        for (priority, (path, group)) in rules.iter().enumerate() {
            let _always = writeln!(
                text,
                "      - {{ priority: {}, conditions: [ {{ path_pattern: [\"{path}\"] }} ], actions: [ {{ forward: {group} }} ] }}",
                priority + 1
            );
        }
        text += "    default_actions: [ { fixed_response: { status_code: 404 } } ]\n";
    }
    text += "target_groups:\n";
    for group in Group::ALL {
        let targets: Vec<_> = group
            .targets()
            .filter(|target| !table.removed.contains(target))
            .map(|target| format!("\"{}\"", addresses.target(target)))
            .collect();
        let more = match group {
            Group::Secure => "    protocol: HTTPS\n",
            Group::Sticky => "    stickiness: { type: lb_cookie, duration: 1h }\n",
            _ => "",
        };
        let check = match group {
            Group::Secure => "HTTPS",
            _ => "HTTP",
        };
        let _always = write!(
            text,
            "  - name: {}\n    port: 80\n{more}    deregistration_delay: 8s\n    health_check: {{ protocol: {check}, \
             path: {CHECK_PATH}, interval: 1s, timeout: 800ms, healthy_threshold: 2, unhealthy_threshold: 2 }}\n    \
             targets: [ {} ]\n",
            group.name(),
            targets.join(", ")
        );
    }
    for number in 0..FILLER_GROUPS {
        let count = 1 + (number + table.turn) % 5;
        let targets: Vec<_> = Group::Calm
            .targets()
            .chain(Group::Sticky.targets())
            .take(count)
            .map(|target| format!("\"{}\"", addresses.target(target)))
            .collect();
        let _always = write!(
            text,
            "  - name: filler-{number}\n    port: 80\n    health_check: {{ path: {CHECK_PATH}, interval: 2s, timeout: 1s }}\n    targets: [ {} ]\n",
            targets.join(", ")
        );
    }
    text
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_some_and(|state| !state.starts_with('Z'))
}

/// The exit code of a child that has ended.
fn reap(pid: u32) -> Option<i32> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let (_, status) = waitpid(Some(pid), WaitOptions::NOHANG).ok()??;
    status.exit_status()
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _gone = kill_process(pid, signal);
    }
}
