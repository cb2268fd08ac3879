//! C: who may change things, and what a bad change does.

use albedo::model::AdminAddress;

use crate::scene::{Conversation, config, group, http, https};

use super::{FINE, Fort};

#[tokio::test]
async fn c1_the_admin_address_and_other_sites() {
    let fort = Fort::new().await;
    let AdminAddress::Tcp(admin) = fort.running.admin() else {
        panic!("not on TCP")
    };
    // A page of another site, or a name that was made to lead here.
    for lines in [
        format!("Host: {admin}\r\nOrigin: https://evil.example"),
        "Host: evil.example".to_owned(),
        format!("Host: evil.example:{}", admin.port()),
        format!("Host: {admin}\r\nOrigin: null"),
        format!("Host: {admin}\r\nSec-Fetch-Site: cross-site"),
    ] {
        let mut door = Conversation::to(*admin).await;
        let request =
            format!("POST /api/v1/reload HTTP/1.1\r\n{lines}\r\nContent-Length: 0\r\n\r\n");
        let (head, _) = door.ask(&request).await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{lines}: {head}");
    }
    fort.serves().await;
}

#[tokio::test]
async fn c3_a_change_that_cannot_be_made() {
    let fort = Fort::new().await;
    // Somebody else's port.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let certificate = fort.authority.sign(&["web.example"]);
    let doors = || [http("web"), https("web", &[&certificate]), http("web")];
    let mut bad = config(doors(), [group("web", &[fort.target.address])]);
    bad.listeners[2].port = taken.local_addr().unwrap().port();
    let mut client = fort.clear().await;
    client.get("/before").await;
    let listeners = fort.running.listeners();
    assert!(fort.running.apply(bad.clone()).await.is_err());
    assert_eq!(fort.running.listeners(), listeners);
    client.get("/after").await;
    fort.passes(FINE).await;
    // Mended, it is taken.
    drop(taken);
    fort.running.apply(bad).await.unwrap();
    assert_eq!(fort.running.listeners().len(), 3);
    client.get("/then").await;
}

#[tokio::test]
async fn c9_cookies_that_were_not_ours() {
    let target = super::echo().await;
    let fort = Fort::with(target, |config| {
        config.target_groups[0].stickiness = Some(albedo::model::Stickiness::LbCookie {
            duration: std::time::Duration::from_secs(60),
        });
    })
    .await;
    for cookie in [
        "AWSALB=x",
        "AWSALB=",
        "AWSALB",
        "AWSALB=x; AWSALB=y; AWSALBCORS=z",
        "=; ;;; AWSALB=\u{7f6}",
        &format!("AWSALB={}", "A".repeat(8000)),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: web.example\r\nCookie: {cookie}\r\n\r\n");
        for mut client in fort.doors().await {
            let (head, _) = client.ask(&request).await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{cookie:.40}: {head}");
            // As if there had been none.
            assert!(
                head.contains("\r\nSet-Cookie: AWSALB="),
                "{cookie:.40}: {head}"
            );
        }
    }
}
