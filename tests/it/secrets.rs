//! What no log, metric or page shows: keys, cookies, tokens, bodies; and the token of the admin address.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::process::{BINARY, Process, config_text};
use crate::scene::{Authority, Content, Conversation, Target, connect, header, http2, read, until};

const TOKEN: &str = "token-0123456789abcdef";
const VARIABLE: &str = "ALBEDO_ADMIN_TOKEN";

/// What clients and targets say that is nobody else's.
const SECRETS: [&str; 6] = [
    "authorization-5d41402abc",
    "cookie-4b2a76b9719d9111",
    "client-body-017c59023c2a",
    "set-cookie-93b3e7f2c410",
    "target-body-ae71c6b3d909",
    TOKEN,
];

/// Runs a verb that knows the token.
async fn knowing<const N: usize>(arguments: [&str; N]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments).env(VARIABLE, TOKEN);
    let run = tokio::task::spawn_blocking(move || command.output());
    run.await.unwrap().unwrap()
}

/// A text as a log may have it: as it is, or byte by byte as numbers.
fn shows(text: &str, secret: &[u8]) -> bool {
    let numbers: Vec<_> = secret.iter().map(ToString::to_string).collect();
    let hex: Vec<_> = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let letters = std::str::from_utf8(secret).is_ok_and(|secret| text.contains(secret));
    letters || text.contains(&numbers.join(", ")) || text.contains(&hex.concat())
}

async fn target(authority: &Authority) -> Target {
    let [.., set_cookie, body, _] = SECRETS;
    let server = authority.sign(&["localhost"]).server();
    Target::serving(Some(server), move |head, mut client| async move {
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        client.body(length).await;
        let length = body.len();
        client
            .say(format!(
                "HTTP/1.1 200 OK\r\nSet-Cookie: session={set_cookie}\r\nContent-Length: {length}\r\n\r\n{body}"
            ))
            .await;
        Some(client)
    })
    .await
}

/// One request by HTTP/1.1, one that is refused, one by HTTP/2; gives the session that albedo itself keeps.
async fn converse(address: SocketAddr, authority: &Authority) -> String {
    let [authorization, cookie, body, ..] = SECRETS;
    let tls = std::sync::Arc::new(authority.client(&["http/1.1"]));
    let length = body.len();
    let head = format!(
        "POST /a HTTP/1.1\r\nHost: web.example\r\nAuthorization: Bearer {authorization}\r\n\
         Cookie: session={cookie}\r\nContent-Length: {length}\r\n"
    );
    let open = || async {
        let stream = connect(address, &tls, "web.example").await.unwrap();
        Conversation::over(stream)
    };
    let (answer, _) = open().await.ask(&format!("{head}\r\n{body}")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let session = answer
        .lines()
        .find_map(|line| line.strip_prefix("Set-Cookie: AWSALB="));
    let session = session.unwrap().split(';').next().unwrap().to_owned();
    let mut client = open().await;
    client
        .say(format!("{head}Broken header\r\n\r\n{body}"))
        .await;
    assert!(client.end().await.starts_with("HTTP/1.1 400 "));

    let mut request = crate::scene::request("POST", "/a", Content::whole(body));
    for (name, value) in [
        ("authorization", format!("Bearer {authorization}")),
        ("cookie", format!("session={cookie}; AWSALB={session}")),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let connection = http2(address, authority).await;
    let response = connection.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    read(response.into_body()).await.unwrap();
    session
}

/// The lines of a file of keys without those that are about it, and what they say.
fn keys(path: &Path) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with(['-', '#']));
    let words = lines.flat_map(|line| line.split_whitespace());
    let long = words.filter(|word| word.len() >= 32);
    long.map(|word| word.as_bytes().to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_secret_is_told_however_much_is() {
    let authority = Authority::new();
    let target = target(&authority).await;
    let listener = "port: 0, address: 127.0.0.1, protocol: HTTPS, \
                    certificates: [ { certificate: web.pem, key: web.key } ]";
    let config = config_text(&[listener], &[target.address])
        .replace(
            "    protocol: HTTP\n",
            "    protocol: HTTPS\n    stickiness: { type: lb_cookie, duration: 1d }\n",
        )
        .replace("health_check: { ", "health_check: { protocol: HTTPS, ")
        .replace(
            "listeners:",
            "load_balancer: { access_log: { path: access.log }, cookie_keys: { path: cookie.keys } }\nlisteners:",
        );
    let mut process = Process::start(&config, |command, folder| {
        authority.sign(&["web.example"]).write(folder, "web");
        command.env("ALBEDO_LOG", "trace").env(VARIABLE, TOKEN);
    });
    let address = process.listeners(1).await[0];
    let admin = process.admin().await;
    let folder = process.folder.path().to_owned();
    until("the target is asked", || target.probes() > 1).await;

    let session = converse(address, &authority).await;
    process.signal(Signal::HUP);
    process.logged(0, "\"generation\":\"2\"").await;
    let (mut told, from) = (String::new(), process.log().len());
    let upgraded = knowing(["upgrade", "--admin", &admin]).await;
    assert!(upgraded.status.success(), "{upgraded:?}");
    process.replaced(from).await;
    converse(address, &authority).await;
    for page in ["/metrics", "/api/v1/status", "/"] {
        let mut door = Conversation::to(admin.parse().unwrap()).await;
        let request = format!(
            "GET {page} HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        );
        let (head, body) = door.ask(&request).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        told += &body;
    }
    let id = process.id();
    process.signal(Signal::TERM);
    until("it has ended", || !crate::process::is_alive(id)).await;
    process.end().await;

    told += &process.log().join("\n");
    told += &std::fs::read_to_string(folder.join("access.log")).unwrap();
    assert!(told.contains("TRACE"), "there is nothing more to be told");
    let mut secrets: Vec<_> = SECRETS.map(|secret| secret.as_bytes().to_vec()).into();
    secrets.push(session.into_bytes());
    let files = ["web.key", "cookie.keys"].map(|name| keys(&folder.join(name)));
    assert!(files.iter().all(|keys| !keys.is_empty()), "{files:?}");
    secrets.extend(files.into_iter().flatten());
    for secret in &secrets {
        if shows(&told, secret) {
            let line = told.lines().find(|line| shows(line, secret));
            panic!("{}: {line:?}", secret.escape_ascii());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verbs_know_the_token_and_the_next_process_still_wants_it() {
    let target = Target::named("web").await;
    let config = config_text(
        &["port: 0, address: 127.0.0.1, protocol: HTTP"],
        &[target.address],
    );
    let process = Process::start(&config, |command, folder| {
        let file = folder.join("token");
        std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
        command.env(VARIABLE, format!("file:{}", file.display()));
    });
    let admin = process.admin().await;
    until("the target is asked", || target.probes() > 1).await;
    for _ in 0..2 {
        let (exit, text) = crate::process::verb(["status", "--admin", &admin]).await;
        assert_eq!(exit, Some(1));
        assert!(text.contains("wants a token"), "{text}");
        let known = knowing(["reload", "--admin", &admin]).await;
        assert!(known.status.success(), "{known:?}");
        let from = process.log().len();
        let known = knowing(["upgrade", "--admin", &admin]).await;
        assert!(known.status.success(), "{known:?}");
        process.replaced(from).await;
    }
}

#[tokio::test]
async fn a_token_that_could_be_guessed_starts_nothing() {
    let target = Target::named("web").await;
    let config = config_text(
        &["port: 0, address: 127.0.0.1, protocol: HTTP"],
        &[target.address],
    );
    let mut process = Process::start(&config, |command, _| {
        command.env(VARIABLE, "secret");
    });
    assert_eq!(process.end().await.code(), Some(1));
    let line = process.logged(0, VARIABLE).await;
    assert!(!line.contains("'secret'"), "{line}");
}
