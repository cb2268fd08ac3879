//! T: identities of TLS.

use std::io::Write;
use std::sync::Arc;

use albedo::model::Config;
use rustls::HandshakeKind;

use crate::scene::{Authority, Conversation, Target, config, connect, group, https, start};

use super::{FINE, Fort};

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

#[tokio::test]
async fn t7_a_bad_certificate_changes_nothing() {
    let fort = Fort::new().await;
    let other = fort.authority.sign(&["web.example"]);
    let wrong_key = |config: &mut Config| {
        config.listeners[1].certificates[0].key = other.model().key;
    };
    let nonsense = |config: &mut Config| {
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
        let pem = albedo::model::Pem::Inline(albedo::model::Secret::new(pem));
        config.listeners[1].certificates[0].certificate = pem;
    };
    let none = |config: &mut Config| {
        let pem = albedo::model::Pem::Inline(albedo::model::Secret::new(Vec::new()));
        config.listeners[1].certificates[0].certificate = pem;
    };
    let changes: [&dyn Fn(&mut Config); 3] = [&wrong_key, &nonsense, &none];
    let certificate = fort.authority.sign(&["web.example"]);
    for change in changes {
        let mut config = config(
            [crate::scene::http("web"), https("web", &[&certificate])],
            [group("web", &[fort.target.address])],
        );
        change(&mut config);
        let refused = fort.running.apply(config).await.unwrap_err();
        assert!(
            refused.to_string().contains("certificate") || refused.to_string().contains("key"),
            "{refused}"
        );
        fort.passes(FINE).await;
    }
}
