//! Real handshakes, toward clients and toward targets.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use albedo::model::{Protocol, SslPolicy, UpstreamTls};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, HandshakeKind, ProtocolVersion};

use crate::process::{Process, config_text, verb};
use crate::scene::{
    Authority, Certified, Conversation, PATIENCE, Target, all_healthy, config, connect, group,
    http, https, soon, start,
};

const HTTP: &str = "port: 0, address: 127.0.0.1, protocol: HTTP";
const HTTPS: &str = "port: 0, address: 127.0.0.1, protocol: HTTPS, \
                     certificates: [ { certificate: web.pem, key: web.key } ]";
const GET: &str = "GET / HTTP/1.1\r\nHost: web.example\r\n\r\n";

fn shown(stream: &tokio_rustls::client::TlsStream<tokio::net::TcpStream>) -> Vec<u8> {
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    chain[0].to_vec()
}

fn is(certificate: &Certified, shown: &[u8]) -> bool {
    certificate.der().as_ref() == shown
}

#[tokio::test]
async fn the_name_a_client_asks_for_chooses_the_certificate() {
    let authority = Authority::new();
    let default = authority.sign(&["default.example", "127.0.0.1"]);
    let wildcard = authority.sign(&["*.web.example"]);
    let exact = authority.sign(&["a.web.example"]);
    let listener = https("web", &[&default, &wildcard, &exact]);
    let running = start(config([listener], [group("web", &[])])).await;
    let address = running.listeners()[0];
    let client = Arc::new(authority.client(&[]));
    let asked = async |name: &str| shown(&connect(address, &client, name).await.unwrap());

    assert!(is(&exact, &asked("a.web.example").await));
    assert!(is(&wildcard, &asked("b.web.example").await));
    assert!(is(&exact, &asked("A.WEB.Example").await));
    assert!(is(&wildcard, &asked("b.web.example.").await));
    // An address is no server name (RFC 6066 §3), so there is no SNI.
    assert!(is(&default, &asked("127.0.0.1").await));
    // Nobody's name, and one a label too deep: the client sees the default and does not trust it.
    for name in ["nobody.example", "a.b.web.example"] {
        let refused = connect(address, &client, name).await.unwrap_err();
        assert!(
            refused.to_string().contains("default.example"),
            "{name}: {refused}"
        );
    }
}

#[tokio::test]
async fn http2_is_spoken_with_those_who_offer_it() {
    let authority = Authority::new();
    let certificate = authority.sign(&["web.example"]);
    let with = start(config([https("web", &[&certificate])], [group("web", &[])])).await;
    let mut without = config([https("web", &[&certificate])], [group("web", &[])]);
    without.load_balancer.http2 = false;
    let without = start(without).await;
    let agreed = async |address: SocketAddr, offer: &[&str]| {
        let client = Arc::new(authority.client(offer));
        let tls = connect(address, &client, "web.example").await?;
        std::io::Result::Ok(tls.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
    };
    let (with, without) = (with.listeners()[0], without.listeners()[0]);

    let h2 = Some(b"h2".to_vec());
    let http1 = Some(b"http/1.1".to_vec());
    assert_eq!(agreed(with, &["h2", "http/1.1"]).await.unwrap(), h2);
    assert_eq!(agreed(with, &["http/1.1", "h2"]).await.unwrap(), h2);
    assert_eq!(agreed(with, &["http/1.1"]).await.unwrap(), http1);
    assert_eq!(agreed(with, &[]).await.unwrap(), None);
    assert_eq!(agreed(without, &["h2", "http/1.1"]).await.unwrap(), http1);
    // RFC 7301 §3.2: nothing in common ends the handshake.
    assert!(agreed(without, &["h2"]).await.is_err());
}

#[tokio::test]
async fn a_policy_admits_its_versions_and_no_other() {
    let authority = Authority::new();
    let certificate = authority.sign(&["web.example"]);
    let listeners: Vec<_> = SslPolicy::ALL
        .iter()
        .map(|&policy| {
            let mut listener = https("web", &[&certificate]);
            listener.ssl_policy = policy;
            listener
        })
        .collect();
    let running = start(config(listeners, [group("web", &[])])).await;
    for (policy, address) in SslPolicy::ALL.iter().zip(running.listeners()) {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let client = Arc::new(authority.client_of(&[version]));
            let outcome = connect(address, &client, "web.example").await;
            let admitted = match policy {
                SslPolicy::Tls13Only => version.version == ProtocolVersion::TLSv1_3,
                SslPolicy::Tls12Restricted => version.version == ProtocolVersion::TLSv1_2,
                SslPolicy::Tls13And12Restricted => true,
            };
            assert_eq!(outcome.is_ok(), admitted, "{policy} {:?}", version.version);
        }
    }
}

#[test]
fn every_policy_has_a_golden_file_of_what_it_lets_in() {
    let entries = std::fs::read_dir("tests/interop/tls").unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let golden = files.filter(|file| file.extension().is_some_and(|ending| ending == "txt"));
    let stems = golden.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned());
    let policies = SslPolicy::ALL.iter().map(ToString::to_string);
    assert_eq!(BTreeSet::from_iter(stems), BTreeSet::from_iter(policies));
}

#[tokio::test]
async fn plain_http_on_an_https_port_gets_a_400_in_clear() {
    let authority = Authority::new();
    let certificate = authority.sign(&["web.example"]);
    let running = start(config([https("web", &[&certificate])], [group("web", &[])])).await;
    let mut client = Conversation::to(running.listeners()[0]).await;

    client.say(GET).await;
    let heard = client.end().await;

    assert!(
        heard.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{heard:?}"
    );
    assert!(heard.ends_with("</html>\r\n"), "{heard:?}");
}

#[tokio::test]
async fn a_client_that_sends_one_byte_is_gone_after_ten_seconds() {
    let authority = Authority::new();
    let certificate = authority.sign(&["web.example"]);
    let running = start(config([https("web", &[&certificate])], [group("web", &[])])).await;
    let began = Instant::now();
    let mut client = Conversation::to(running.listeners()[0]).await;

    client.say([0x16]).await;
    client.end().await;

    let lasted = began.elapsed();
    assert!(
        lasted >= Duration::from_secs(9) && lasted < PATIENCE,
        "{lasted:?}"
    );
}

#[tokio::test]
async fn a_session_resumes_at_its_own_listener_and_at_no_other() {
    let authority = Authority::new();
    let certificate = authority.sign(&["web.example"]);
    let target = Target::named("web").await;
    let doors = [https("web", &[&certificate]), https("web", &[&certificate])];
    let mut two_workers = config(doors, [group("web", &[target.address])]);
    two_workers.workers = crate::scene::workers(2);
    let running = start(two_workers).await;
    let (one, other) = (running.listeners()[0], running.listeners()[1]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = Arc::new(authority.client_of(&[version]));
        let kind = async |address| {
            let tls = connect(address, &client, "web.example").await.unwrap();
            let kind = tls.get_ref().1.handshake_kind();
            // In TLS 1.3 a ticket comes after the handshake, so something must be read.
            Conversation::over(tls).get("/").await;
            kind.unwrap()
        };
        assert_eq!(kind(one).await, HandshakeKind::Full);
        for _ in 0..4 {
            assert_eq!(kind(one).await, HandshakeKind::Resumed);
        }
        assert_eq!(kind(other).await, HandshakeKind::Full);
    }
}

#[tokio::test]
async fn a_hello_in_pieces_of_one_byte_is_understood() {
    let authority = Authority::new();
    let default = authority.sign(&["default.example"]);
    let certificate = authority.sign(&["web.example"]);
    let running = start(config(
        [https("web", &[&default, &certificate])],
        [group("web", &[])],
    ))
    .await;
    let address = running.listeners()[0];
    let client = Arc::new(authority.client(&["http/1.1"]));

    let handshake = tokio::task::spawn_blocking(move || {
        let name = ServerName::try_from("web.example").unwrap();
        let mut tls = ClientConnection::new(client, name).unwrap();
        let mut hello = Vec::new();
        tls.write_tls(&mut hello).unwrap();
        let (head, content) = hello.split_at(5);
        let mut tcp = std::net::TcpStream::connect(address).unwrap();
        for byte in content {
            // A record of its own: type and version as before, a length of one.
            tcp.write_all(&[head[0], head[1], head[2], 0, 1, *byte])
                .unwrap();
        }
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).unwrap();
        }
        rustls::Stream::new(&mut tls, &mut tcp)
            .write_all(GET.as_bytes())
            .unwrap();
        let mut first = [0; 12];
        rustls::Stream::new(&mut tls, &mut tcp)
            .read_exact(&mut first)
            .unwrap();
        String::from_utf8_lossy(&first).into_owned()
    });

    let heard = soon("the handshake ends", handshake).await.unwrap();
    assert_eq!(heard, "HTTP/1.1 503");
}

#[tokio::test]
async fn a_target_shows_any_certificate_and_is_believed() {
    let stranger = Authority::new().sign(&["somebody.else"]);
    let target = Target::serving(
        Some(stranger.server()),
        async |_, mut client: Conversation| {
            client.answer("secret").await;
            Some(client)
        },
    )
    .await;
    let mut web = group("web", &[target.address]);
    web.protocol = Protocol::Https;
    web.health_check.protocol = Protocol::Https;
    let running = start(config([http("web")], [web])).await;
    all_healthy(&running).await;

    let mut client = Conversation::to(running.listeners()[0]).await;

    assert_eq!(client.get("/").await, "secret");
}

#[tokio::test]
async fn a_verified_target_must_show_a_certificate_of_the_right_authority() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, authority.pem()).unwrap();
    let verified = UpstreamTls::Verified { ca_file };
    let behind = async |certificate: Certified| {
        let part = async |_, mut client: Conversation| {
            client.answer("secret").await;
            Some(client)
        };
        let target = Target::serving(Some(certificate.server()), part).await;
        let mut web = group("web", &[target.address]);
        web.protocol = Protocol::Https;
        web.tls = verified.clone();
        let running = start(config([http("web")], [web])).await;
        let mut client = Conversation::to(running.listeners()[0]).await;
        client.ask(GET).await
    };

    let (head, body) = behind(authority.sign(&["127.0.0.1"])).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, "secret");
    let (head, _) = behind(Authority::new().sign(&["127.0.0.1"])).await;
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    // The right authority, but the certificate is somebody else's.
    let (head, _) = behind(authority.sign(&["somebody.else"])).await;
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_doubtful_about_certificates_is_told_and_served() {
    let authority = Authority::new();
    let target = Target::named("web").await;
    let ended = authority.sign_with(&["web.example"], |params| {
        params.not_after = rcgen::date_time_ymd(2020, 2, 3);
    });
    let config = config_text(&[HTTP, HTTPS], &[target.address]);
    let process = Process::start(&config, |_, folder| ended.write(folder, "web"));
    let listeners = process.listeners(2).await;
    let folder = process.folder.path().to_owned();
    let file = folder.join("albedo.yaml");
    let file = file.to_str().unwrap().to_owned();
    let certificate = folder.join("web.pem");
    let expected = format!(
        "{file}:5:69 warning: listeners[1].certificates[0]: {}: certificate 1 ended on 2020-02-03, and clients refuse \
         it, though it is served; renew it",
        certificate.display()
    );

    let (code, said) = verb(["check", &file]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.lines().any(|line| line == expected), "{said}");
    let logged = process.log().join("\n");
    assert!(logged.contains(&expected), "{logged}");
    let (code, said) = verb(["reload", "--admin", &process.admin().await]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("certificate 1 ended on 2020-02-03"), "{said}");
    let tcp = tokio::net::TcpStream::connect(listeners[1]).await.unwrap();
    let refused = tokio_rustls::TlsConnector::from(Arc::new(authority.client(&[])))
        .connect(ServerName::try_from("web.example").unwrap(), tcp)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("expired"), "{refused}");
}

#[tokio::test]
async fn what_cannot_be_served_is_found_before_it_is_tried() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    authority.sign(&["web.example"]).write(folder.path(), "web");
    authority
        .sign(&["web.example"])
        .write(folder.path(), "other");
    std::fs::copy(at("other.key"), at("web.key")).unwrap();
    let verified = "    verify: true\n    ca_file: nowhere.pem\n    targets:";
    let text = config_text(&[HTTPS, HTTPS], &[]).replace("    targets:", verified);
    let text = text.replace("    protocol: HTTP\n", "    protocol: HTTPS\n");
    let text = text.replacen("web.pem", "missing.pem", 1);
    let file = at("albedo.yaml");
    std::fs::write(&file, text).unwrap();

    let (code, said) = verb(["check", file.to_str().unwrap()]).await;

    assert_eq!(code, Some(1), "{said}");
    let faults: Vec<_> = said
        .lines()
        .filter(|line| !line.contains("warning: "))
        .collect();
    let expected = [
        (
            ":4:",
            "listeners[0].certificates[0]: ",
            "missing.pem: cannot be read",
        ),
        (
            ":5:",
            "listeners[1].certificates[0]: ",
            "web.key: does not belong",
        ),
        (
            ":",
            "target_groups[0].ca_file: ",
            "nowhere.pem: cannot be read",
        ),
    ];
    assert_eq!(faults.len(), expected.len(), "{said}");
    for (fault, (place, path, what)) in faults.iter().zip(expected) {
        assert!(fault.contains(place) && fault.contains(path), "{fault}");
        assert!(fault.contains(what), "{fault}");
    }
}
