//! The real binary as a process of its own, for what only a process can do: signals, environment, inheritance.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use albedo::app::Status;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::scene::{PATIENCE, soon};

/// albedo, freshly built.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_albedo");

/// A process that runs a configuration, and a folder for what belongs to it. What it starts writes to the same log.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) folder: TempDir,
    log: Arc<Mutex<Vec<String>>>,
    /// Processes that took over, in their order.
    successors: Mutex<Vec<u32>>,
}

impl Process {
    /// Starts `albedo run` with a configuration, by way of whatever `prepare` makes of the command.
    pub(crate) fn start(config: &str, prepare: impl FnOnce(&mut Command, &Path)) -> Self {
        Self::start_as(Path::new(BINARY), config, prepare)
    }

    /// The same by another path.
    pub(crate) fn start_as(
        binary: &Path,
        config: &str,
        prepare: impl FnOnce(&mut Command, &Path),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(binary);
        prepare(&mut command, folder.path());
        Self::spawn(command, config, folder)
    }

    /// Starts a command that is to run albedo: `run` and the configuration follow its own arguments.
    pub(crate) fn spawn(command: Command, config: &str, folder: TempDir) -> Self {
        Self::spawn_with(command, Stdio::null(), config, folder)
    }

    /// The same with a standard input.
    pub(crate) fn spawn_with(
        mut command: Command,
        stdin: Stdio,
        config: &str,
        folder: TempDir,
    ) -> Self {
        let file = folder.path().join("albedo.yaml");
        std::fs::write(&file, config).unwrap();
        command.arg("run").arg(&file);
        let command = command.stdin(stdin).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::default();
        let (lines, kept) = (child.stderr.take().unwrap(), Arc::clone(&log));
        // Ends with the last process that writes there.
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                let kept: &Mutex<Vec<String>> = &kept;
                kept.lock().unwrap().push(line);
            }
        });
        Self {
            child,
            folder,
            log,
            successors: Mutex::default(),
        }
    }

    /// The process that serves: the newest.
    pub(crate) fn id(&self) -> u32 {
        let successors = self.successors.lock().unwrap();
        successors
            .last()
            .copied()
            .unwrap_or_else(|| self.child.id())
    }

    /// Waits until another process has taken over, by what the log says from line `from` on.
    pub(crate) async fn replaced(&self, from: usize) -> u32 {
        let line = self.logged(from, "replaced: ").await;
        let (_, pid) = line.split_once("\"pid\":").unwrap();
        let pid = pid.split([',', '}']).next().unwrap().parse().unwrap();
        self.successors.lock().unwrap().push(pid);
        pid
    }

    /// Has it replaced, by the verb, and waits until that has happened.
    pub(crate) async fn upgrade(&self) -> u32 {
        let from = self.log().len();
        let (exit, text) = verb(["upgrade", "--admin", &self.admin().await]).await;
        assert_eq!(exit, Some(0), "{text}");
        let pid = self.replaced(from).await;
        assert_eq!(text, format!("process {pid} serves\n"));
        pid
    }

    /// Writes another configuration where the first one was.
    pub(crate) fn write(&self, config: &str) {
        let new = self.folder.path().join("new.yaml");
        std::fs::write(&new, config).unwrap();
        std::fs::rename(new, self.folder.path().join("albedo.yaml")).unwrap();
    }

    /// What the newest says of itself.
    pub(crate) async fn status(&self) -> Status {
        let (_, text) = verb(["status", "--json", "--admin", &self.admin().await]).await;
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"))
    }

    /// What was logged up to now.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// The first line of the log that holds `text`, counted from line `from`.
    pub(crate) async fn logged(&self, from: usize, text: &str) -> String {
        soon(format_args!("'{text}' is logged"), async {
            loop {
                let log = self.log();
                if let Some(line) = log.iter().skip(from).find(|line| line.contains(text)) {
                    return line.clone();
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
    }

    /// Where its listeners are, in the order of the configuration.
    pub(crate) async fn listeners(&self, count: usize) -> Vec<SocketAddr> {
        self.logged(0, "admin address ").await;
        let log = self.log();
        let addresses = log.iter().filter_map(|line| after(line, "listening on "));
        let addresses: Vec<_> = addresses.map(|text| text.parse().unwrap()).collect();
        assert_eq!(addresses.len(), count, "{log:#?}");
        addresses
    }

    /// Where its admin address is.
    pub(crate) async fn admin(&self) -> String {
        let line = self.logged(0, "admin address ").await;
        after(&line, "admin address ").unwrap().to_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.id(), signal);
    }

    /// Waits until the one that was started first has ended.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, ended).await {
            Ok(status) => status,
            Err(_) => panic!("it does not end: {:#?}", self.log()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
        for pid in self.successors.lock().unwrap().drain(..) {
            if is_alive(pid) {
                send(pid, Signal::KILL);
            }
        }
        if std::thread::panicking() {
            eprintln!("{:#?}", self.log());
        }
    }
}

/// The rest of a line's word behind `mark`; lines are JSON.
fn after<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(mark)?;
    rest.split(['"', ' ']).next()
}

/// Sends a signal to a process that a test started.
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Whether a process still runs; one that has ended may wait to be noticed.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_some_and(|state| !state.starts_with('Z'))
}

/// Runs a verb of the binary to its end: exit code, and what it said.
pub(crate) async fn verb<const N: usize>(arguments: [&str; N]) -> (Option<i32>, String) {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = run.await.unwrap().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// A configuration file's text: listeners on loopback that forward to one group of these targets.
pub(crate) fn config_text(listeners: &[&str], targets: &[SocketAddr]) -> String {
    let targets: Vec<String> = targets.iter().map(|target| format!("{target:?}")).collect();
    let mut text = "admin: 127.0.0.1:0\nworkers: 2\nlisteners:\n".to_owned();
    for listener in listeners {
        text += &format!("  - {{ {listener}, default_actions: [ {{ forward: web }} ] }}\n");
    }
    text + &format!(
        "target_groups:\n  - name: web\n    protocol: HTTP\n    port: 80\n    \
         health_check: {{ interval: 200ms, timeout: 100ms, healthy_threshold: 2, unhealthy_threshold: 2 }}\n    \
         targets: [{}]\n",
        targets.join(", ")
    )
}
