//! Every program against the target, directly and through the relays; TLS needs a proxy that has it.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// A program that ends with the test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(program: &str, words: &[&str]) -> Self {
        let mut command = Command::new(program);
        let mut child = command.args(words).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let address = line.split('"').nth(3).unwrap_or_default().to_owned();
        Self { child, address }
    }

    fn target() -> Self {
        Self::start(env!("CARGO_BIN_EXE_target"), &["127.0.0.1:0"])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn load(address: &str, words: &str) -> String {
    let (kind, rest) = words.split_once(' ').unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_load"));
    command.args([kind, address]).args(rest.split(' '));
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn expect_good(server: &Server, words: &str) {
    let text = load(&server.address, words);
    assert!(
        text.contains(r#""errors":0,"first_error":null"#),
        "{words}: {text}"
    );
    assert!(!text.contains(r#""done":0,"#), "{words}: {text}");
}

const PLAIN: [&str; 4] = [
    "rate --rate 500 --seconds 0.3 --warm-up 0.1 --connections 4",
    "connect --seconds 0.2 --concurrent 3",
    "bodies --seconds 0.1 --connections 2",
    "bodies --seconds 0.1 --direction up",
];

const OF_ANY_KIND: [&str; 3] = [
    "echo --seconds 0.2 --connections 5",
    "bodies --seconds 0.1 --direction up --chunked",
    "bodies --seconds 0.01 --size 64m --connections 2",
];

#[test]
fn the_target_takes_every_load() {
    let target = Server::target();
    for words in PLAIN.iter().chain(&OF_ANY_KIND) {
        expect_good(&target, words);
    }
}

#[test]
fn the_floor_passes_everything_on() {
    let target = Server::target();
    let relay = Server::start(
        env!("CARGO_BIN_EXE_relay4"),
        &["127.0.0.1:0", &target.address, "--connections", "2"],
    );
    for words in PLAIN.iter().chain(&OF_ANY_KIND) {
        expect_good(&relay, words);
    }
}

#[test]
fn the_floor_of_http_keeps_its_target_connections() {
    let (target, other) = (Server::target(), Server::target());
    let relay = Server::start(
        env!("CARGO_BIN_EXE_relay7"),
        &["127.0.0.1:0", &target.address, &other.address],
    );
    for words in PLAIN {
        expect_good(&relay, words);
    }
    let mut asking = TcpStream::connect(&target.address).unwrap();
    let request = b"GET /connections HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    asking.write_all(request).unwrap();
    let mut answer = String::new();
    asking.read_to_string(&mut answer).unwrap();
    let accepted = answer.split(r#""accepted":"#).nth(1).unwrap();
    let accepted: u32 = accepted.split(',').next().unwrap().parse().unwrap();
    // No more than there were requests at once, though there were hundreds of connections.
    assert!(accepted < 20, "{answer}");
}

#[test]
fn idle_connections_are_held_until_standard_input_ends() {
    let target = Server::target();
    for kind in ["plain", "tunnel"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_load"));
        command.args([
            "idle",
            &target.address,
            "--connections",
            "20",
            "--kind",
            kind,
        ]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert!(
            line.contains(r#""errors":0,"first_error":null,"open":20"#),
            "{line}"
        );
        drop(child.stdin.take());
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert!(rest.contains(r#""lost":0"#), "{rest}");
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn what_goes_wrong_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut head = [0; 1024];
            let _ = socket.read(&mut head).unwrap();
            let _ = socket
                .write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    for words in [
        "connect --seconds 0.05",
        "bodies --seconds 0.05",
        "rate --rate 100 --seconds 0.2 --warm-up 0",
    ] {
        let text = load(&address, words);
        assert!(text.contains(r#""done":0,"#), "{words}: {text}");
        assert!(
            text.contains("status 503 instead of 200"),
            "{words}: {text}"
        );
    }
}
