//! T: identities of TLS.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use albedo::model::{Config, Pem, Protocol, Secret, SslPolicy, UpstreamTls};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::{ClientConfig, HandshakeKind};

use crate::scene::{
    Authority, Certified, Conversation, Target, config, connect, group, http, https, start, until,
};

use super::{FINE, Fort};

/// How a client's session begins at this door, over and over, until it is told to stop.
async fn comes_again(
    door: SocketAddr,
    client: Arc<ClientConfig>,
    count: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> Vec<HandshakeKind> {
    let mut kinds = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        kinds.push(begins(door, &client).await);
        count.fetch_add(1, Ordering::Relaxed);
    }
    kinds
}

async fn begins(door: SocketAddr, client: &Arc<ClientConfig>) -> HandshakeKind {
    let tls = connect(door, client, "web.example").await.unwrap();
    let kind = tls.get_ref().1.handshake_kind().unwrap();
    // In TLS 1.3 a ticket comes after the handshake, so something must be read.
    assert_eq!(Conversation::over(tls).get("/").await, "web");
    kind
}

#[tokio::test]
async fn t1_a_ticket_of_one_listener_is_nothing_to_another() {
    let authority = Authority::new();
    let certificate = authority.sign(&["web.example"]);
    let target = Target::named("web").await;
    let doors = [https("web", &[&certificate]), https("web", &[&certificate])];
    let running = start(config(doors, [group("web", &[target.address])])).await;
    let client = Arc::new(authority.client(&["http/1.1"]));
    for (door, kind) in [
        (0, HandshakeKind::Full),
        (0, HandshakeKind::Resumed),
        (1, HandshakeKind::Full),
    ] {
        let address = running.listeners()[door];
        let tls = connect(address, &client, "web.example").await.unwrap();
        assert_eq!(tls.get_ref().1.handshake_kind(), Some(kind));
        // A ticket comes after the handshake.
        Conversation::over(tls).get("/").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t2_changes_under_load_fail_no_handshake_and_keep_the_keys() {
    let authority = Authority::new();
    let target = Target::named("web").await;
    let table = |certificate: &Certified| {
        let doors = [https("web", &[certificate])];
        let mut table = config(doors, [group("web", &[target.address])]);
        table.workers = crate::scene::workers(2);
        table
    };
    let certificate = authority.sign(&["web.example"]);
    let running = start(table(&certificate)).await;
    let door = running.listeners()[0];
    let (count, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let clients = [&rustls::version::TLS12, &rustls::version::TLS13].map(|version| {
        let client = Arc::new(authority.client_of(&[version]));
        let coming = comes_again(door, client, Arc::clone(&count), Arc::clone(&stop));
        tokio::spawn(coming)
    });
    let more_come = async || {
        let goal = count.load(Ordering::Relaxed) + 6;
        until("more have come", || {
            count.load(Ordering::Relaxed) >= goal
                || clients.iter().any(|client| client.is_finished())
        })
        .await;
    };
    more_come().await;
    for _ in 0..5 {
        // Nothing that a session was agreed on under changes: a certificate is renewed, or what is missing is refused.
        running.apply(table(&certificate)).await.unwrap();
        more_come().await;
        running
            .apply(table(&authority.sign(&["web.example"])))
            .await
            .unwrap();
        more_come().await;
        let mut missing = table(&certificate);
        missing.listeners[0].certificates[0].key = Pem::File("/nowhere/web.key".into());
        let refused = running.apply(missing).await.unwrap_err().to_string();
        assert!(refused.contains("/nowhere/web.key"), "{refused}");
        more_come().await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let kinds = client.await.unwrap();
        assert_eq!(kinds[0], HandshakeKind::Full);
        let others = &kinds[1..];
        assert!(others.iter().all(|kind| *kind == HandshakeKind::Resumed));
    }
}

#[tokio::test]
async fn t1_a_ticket_is_nothing_under_another_policy_or_for_other_names() {
    let authority = Authority::new();
    let [certificate, wider] = [
        authority.sign(&["web.example"]),
        authority.sign(&["web.example", "secret.example"]),
    ];
    let target = Target::named("web").await;
    let table = |certificate, policy| {
        let mut door = https("web", &[certificate]);
        door.ssl_policy = policy;
        config([door], [group("web", &[target.address])])
    };
    let usual = SslPolicy::default();
    let changes = [
        table(&certificate, SslPolicy::Tls13Only),
        table(&wider, usual),
    ];
    for change in changes {
        let running = start(table(&certificate, usual)).await;
        let door = running.listeners()[0];
        let client = Arc::new(authority.client(&["http/1.1"]));
        assert_eq!(begins(door, &client).await, HandshakeKind::Full);
        assert_eq!(begins(door, &client).await, HandshakeKind::Resumed);
        running.apply(change).await.unwrap();
        assert_eq!(begins(door, &client).await, HandshakeKind::Full);
        assert_eq!(begins(door, &client).await, HandshakeKind::Resumed);
    }
}

#[tokio::test]
async fn t3_authorities_that_cannot_be_read_let_nobody_in() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("empty.pem"), "").unwrap();
    std::fs::write(at("blank.pem"), "\n \n").unwrap();
    std::fs::write(at("key.pem"), Authority::new().sign(&[]).pem().1).unwrap();
    let fort = Fort::new().await;
    for name in ["missing.pem", "empty.pem", "blank.pem", "key.pem"] {
        let mut web = group("web", &[fort.target.address]);
        web.protocol = Protocol::Https;
        web.tls = UpstreamTls::Verified { ca_file: at(name) };
        let change = config([http("web")], [web]);
        let refused = fort.running.apply(change).await.unwrap_err().to_string();
        assert!(refused.contains(name), "{refused}");
        fort.passes(FINE).await;
    }
}

#[tokio::test]
async fn t4_names_that_are_spelled_otherwise() {
    let authority = Authority::new();
    let [default, exact, wild] = [
        authority.sign(&["default.example", "127.0.0.1"]),
        authority.sign(&["web.example"]),
        authority.sign(&["*.wild.example"]),
    ];
    let running = start(config(
        [https("web", &[&default, &exact, &wild])],
        [group("web", &[])],
    ))
    .await;
    let address = running.listeners()[0];
    let client = Arc::new(authority.client(&["http/1.1"]));
    let shown = async |name: &str| {
        let tls = connect(address, &client, name).await.ok()?;
        Some(tls.get_ref().1.peer_certificates()?[0].clone())
    };
    assert_eq!(shown("WEB.Example").await.as_ref(), Some(exact.der()));
    assert_eq!(shown("a.wild.example").await.as_ref(), Some(wild.der()));
    // An address is no name; the default is shown, and here it fits.
    assert_eq!(shown("127.0.0.1").await.as_ref(), Some(default.der()));
    // A wildcard is one label deep, and no name stands for another: the default is shown, which does not fit.
    for name in [
        "b.a.wild.example",
        "wild.example",
        "xweb.example",
        "web.example.evil",
    ] {
        assert_eq!(shown(name).await, None, "{name}");
    }
}

#[tokio::test]
async fn t6_early_data_is_not_taken() {
    let authority = Authority::new();
    let certificate = authority.sign(&["web.example"]);
    let target = Target::named("web").await;
    let config = config(
        [https("web", &[&certificate])],
        [group("web", &[target.address])],
    );
    let running = start(config).await;
    let mut client = authority.client(&["http/1.1"]);
    client.enable_early_data = true;
    let client = Arc::new(client);
    let address = running.listeners()[0];
    for _ in 0..2 {
        let tls = connect(address, &client, "web.example").await.unwrap();
        Conversation::over(tls).get("/").await;
    }
    // It has a ticket, and was not told that it may say anything early.
    let offered = tokio::task::spawn_blocking(move || {
        let name = rustls::pki_types::ServerName::try_from("web.example").unwrap();
        let mut connection = rustls::ClientConnection::new(client, name).unwrap();
        let early = connection
            .early_data()
            .map(|mut early| early.write(b"x").is_ok());
        early.is_some()
    });
    assert!(!offered.await.unwrap());
}

/// A change of the configuration, and what is said of it.
type Fault<'f> = (&'f dyn Fn(&mut Config), &'f str);

#[tokio::test]
async fn t7_a_bad_certificate_changes_nothing() {
    let fort = Fort::new().await;
    let other = fort.authority.sign(&["web.example"]);
    let wrong_key = |config: &mut Config| {
        config.listeners[1].certificates[0].key = other.model().key;
    };
    let nonsense = |config: &mut Config| {
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
        let pem = Pem::Inline(Secret::new(pem));
        config.listeners[1].certificates[0].certificate = pem;
    };
    let none = |config: &mut Config| {
        let pem = Pem::Inline(Secret::new(Vec::new()));
        config.listeners[1].certificates[0].certificate = pem;
    };
    let certificate = fort.authority.sign(&["web.example"]);
    let (leaf, root) = (certificate.pem().0, fort.authority.pem());
    let foreign = Authority::new().pem();
    let chain = |parts: [&String; 3]| {
        let text = parts.map(String::as_str).concat();
        move |config: &mut Config| {
            let pem = Pem::Inline(Secret::new(text.clone().into_bytes()));
            config.listeners[1].certificates[0].certificate = pem;
        }
    };
    let twice = chain([&leaf, &leaf, &root]);
    // Of the same name as the root, but it signed nothing here.
    let between = chain([&leaf, &foreign, &root]);
    let reversed = chain([&root, &root, &leaf]);
    let backwards = chain([&root, &leaf, &String::new()]);
    let changes: [Fault<'_>; 7] = [
        (&wrong_key, "does not belong to the certificate"),
        (
            &nonsense,
            "certificate 1 is not a readable X.509 certificate",
        ),
        (&none, "is empty"),
        (&twice, "certificate 2 repeats an earlier one"),
        (
            &between,
            "certificate 2 did not issue the one before it, but certificate 3 did",
        ),
        (&reversed, "certificate 2 repeats an earlier one"),
        (&backwards, "certificate 2 did not issue the one before it"),
    ];
    for (change, why) in changes {
        let mut config = config(
            [http("web"), https("web", &[&certificate])],
            [group("web", &[fort.target.address])],
        );
        change(&mut config);
        let refused = fort.running.apply(config).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}, expected {why}");
        fort.passes(FINE).await;
    }
}

#[tokio::test]
async fn t5_a_name_with_nul_is_nobodys() {
    let mut parameters = CertificateParams::default();
    let name = "web.example\0.evil.example".try_into().unwrap();
    parameters.subject_alt_names = vec![SanType::DnsName(name)];
    let key = KeyPair::generate().unwrap();
    let chain = parameters.self_signed(&key).unwrap().pem();
    let inline = |text: String| Pem::Inline(Secret::new(text.into_bytes()));
    let fort = Fort::new().await;
    let certificate = fort.authority.sign(&["web.example"]);
    let mut door = https("web", &[&certificate]);
    door.certificates[0].certificate = inline(chain);
    door.certificates[0].key = inline(key.serialize_pem());
    let change = config([door], [group("web", &[fort.target.address])]);
    let refused = fort.running.apply(change).await.unwrap_err().to_string();
    assert!(refused.contains("no host name has"), "{refused}");
    fort.passes(FINE).await;
}
