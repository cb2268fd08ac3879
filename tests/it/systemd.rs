//! What systemd gives a service and hears from it; systemd itself is played.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::process::{BINARY, Process, config_text, verb};
use crate::scene::{Conversation, Target, soon};

const ANY_PORT: &str = "port: 0, address: 127.0.0.1, protocol: HTTP";

/// A service manager that is told things.
struct Manager(tokio::net::UnixDatagram);

impl Manager {
    fn of(command: &mut Command, folder: &std::path::Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        command.env("NOTIFY_SOCKET", path);
        Self(tokio::net::UnixDatagram::from_std(socket).unwrap())
    }

    async fn hears(&self) -> String {
        let mut buffer = [0; 1024];
        let length = soon("news", self.0.recv(&mut buffer)).await.unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

#[tokio::test]
async fn the_service_manager_hears_of_the_beginning_and_the_end() {
    let target = Target::named("web").await;
    let mut manager = None;
    let mut process = Process::start(
        &config_text(&[ANY_PORT], &[target.address]),
        |command, folder| manager = Some(Manager::of(command, folder)),
    );
    let manager = manager.unwrap();
    assert_eq!(manager.hears().await, "READY=1");
    assert_eq!(manager.hears().await, "STATUS=generation 1");
    let address = process.listeners(1).await[0];
    assert_eq!(Conversation::to(address).await.get("/").await, "web");
    process.signal(Signal::TERM);
    assert_eq!(manager.hears().await, "STOPPING=1");
    assert_eq!(process.end().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_manager_hears_of_reloads_and_of_the_next_process() {
    let target = Target::named("web").await;
    let config = config_text(&[ANY_PORT], &[target.address]);
    let mut manager = None;
    let mut process = Process::start(&config, |command, folder| {
        manager = Some(Manager::of(command, folder));
    });
    let manager = manager.unwrap();
    for news in ["READY=1", "STATUS=generation 1"] {
        assert_eq!(manager.hears().await, news);
    }

    process.signal(Signal::HUP);
    let news = manager.hears().await;
    assert!(news.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{news}");
    for news in ["READY=1", "STATUS=generation 2"] {
        assert_eq!(manager.hears().await, news);
    }

    // Said by the process that is still the service; the new one says nothing before.
    let pid = process.upgrade().await;
    assert_eq!(manager.hears().await, format!("MAINPID={pid}\nREADY=1"));
    assert_eq!(process.end().await.code(), Some(0));
    process.signal(Signal::HUP);
    let news = manager.hears().await;
    assert!(news.starts_with("RELOADING=1\n"), "{news}");
    for news in ["READY=1", "STATUS=generation 4"] {
        assert_eq!(manager.hears().await, news);
    }
}

/// Starts albedo with these as descriptors 3 and 4, by way of a shell, which can place them.
fn start_with(
    sockets: [OwnedFd; 2],
    pid: &str,
    config: &str,
    folder: tempfile::TempDir,
) -> Process {
    const PLACE: &str = r#"exec "$@" 3<&0 4<&1 </dev/null >/dev/null"#;
    let mut command = Command::new("sh");
    let [first, second] = sockets;
    let script = format!("export LISTEN_FDS=2 LISTEN_PID={pid}; {PLACE}");
    command.args(["-c", &script, "sh", BINARY]);
    command.stdout(Stdio::from(second));
    Process::spawn_with(command, Stdio::from(first), config, folder)
}

#[tokio::test]
async fn sockets_of_a_socket_unit_are_taken_with_who_waits_there() {
    let target = Target::named("web").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin.sock");
    let admin = format!("unix:{}", file.display());
    let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = door.local_addr().unwrap();
    let listener = format!(
        "port: {}, address: 127.0.0.1, protocol: HTTP",
        address.port()
    );
    let config = config_text(&[&listener], &[target.address]).replace("127.0.0.1:0", &admin);
    // Nobody serves yet.
    let mut early = Conversation::to(address).await;
    early
        .say("GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
        .await;

    let sockets = [door.into(), UnixListener::bind(&file).unwrap().into()];
    let mut process = start_with(sockets, "$$", &config, folder);

    assert!(soon("an answer", early.head()).await.is_some());
    assert_eq!(process.listeners(1).await, [address]);
    assert_eq!(process.admin().await, admin);
    for _ in 0..4 {
        assert_eq!(Conversation::to(address).await.get("/").await, "web");
    }
    let (_, status) = verb(["status", "--json", "--admin", &admin]).await;
    assert!(status.contains("\"generation\":1"), "{status}");
    process.signal(Signal::TERM);
    assert_eq!(process.end().await.code(), Some(0));
    assert!(
        file.exists(),
        "the socket unit's file is not ours to remove"
    );
}

#[tokio::test]
async fn sockets_for_another_process_are_left_alone() {
    let target = Target::named("web").await;
    let any = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (first, second) = (any(), any());
    let theirs = first.local_addr().unwrap();
    let listener = format!(
        "port: {}, address: 127.0.0.1, protocol: HTTP",
        theirs.port()
    );
    let config = config_text(&[&listener], &[target.address]);
    let folder = tempfile::tempdir().unwrap();

    let sockets = [first.into(), second.into()];
    let mut process = start_with(sockets, "1", &config, folder);

    assert_eq!(process.end().await.code(), Some(3), "{:#?}", process.log());
}
