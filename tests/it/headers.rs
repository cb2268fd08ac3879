//! What a hop does to headers, seen from both of its ends.

use albedo::model::{Config, XffHeaderProcessing};

use crate::support::{LoadBalancer, Message, Target};

/// What a target and a client see of a request with these header lines and an answer with those.
async fn exchanged(
    change: impl FnOnce(&mut Config),
    request_lines: &str,
    answer_lines: &str,
) -> (Message, Message) {
    let target = Target::start().await;
    let balancer = LoadBalancer::adjusted(&[target.address()], change).await;
    let mut client = balancer.client().await;
    client
        .send(format!("GET / HTTP/1.1\r\n{request_lines}\r\n\r\n"))
        .await;
    let (mut served, request) = target.serve().await;
    served
        .send(format!(
            "HTTP/1.1 200 OK\r\n{answer_lines}Content-Length: 0\r\n\r\n"
        ))
        .await;
    (request, client.response().await)
}

/// What a target sees of a request with these header lines.
async fn seen(request_lines: &str) -> Message {
    exchanged(|_| {}, &format!("Host: a\r\n{request_lines}"), "")
        .await
        .0
}

/// What a target sees under a changed configuration.
async fn seen_with(change: impl FnOnce(&mut Config), request_lines: &str) -> Message {
    exchanged(change, &format!("Host: a\r\n{request_lines}"), "")
        .await
        .0
}

#[tokio::test]
async fn the_clients_address_is_appended_to_those_before_it() {
    assert_eq!(
        seen("X: y").await.header("X-Forwarded-For"),
        Some("127.0.0.1")
    );
    let cases = [
        ("X-Forwarded-For: 1.2.3.4", "1.2.3.4, 127.0.0.1"),
        (
            "x-forwarded-for: 1.2.3.4, 5.6.7.8",
            "1.2.3.4, 5.6.7.8, 127.0.0.1",
        ),
        (
            "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8",
            "1.2.3.4, 5.6.7.8, 127.0.0.1",
        ),
        ("X-Forwarded-For:", "127.0.0.1"),
    ];
    for (sent, expected) in cases {
        assert_eq!(
            seen(sent).await.header("X-Forwarded-For"),
            Some(expected),
            "{sent}"
        );
    }
}

#[tokio::test]
async fn forwarded_addresses_are_preserved_or_removed_where_that_is_asked() {
    let preserve = |config: &mut Config| {
        config.load_balancer.xff_header_processing = XffHeaderProcessing::Preserve;
    };
    let remove = |config: &mut Config| {
        config.load_balancer.xff_header_processing = XffHeaderProcessing::Remove;
    };
    let sent = "X-Forwarded-For: 1.2.3.4";
    assert_eq!(
        seen_with(preserve, sent).await.header("X-Forwarded-For"),
        Some("1.2.3.4")
    );
    assert_eq!(
        seen_with(preserve, "X: y").await.header("X-Forwarded-For"),
        None
    );
    assert_eq!(
        seen_with(remove, sent).await.header("X-Forwarded-For"),
        None
    );
}

#[tokio::test]
async fn the_clients_port_is_told_where_that_is_asked() {
    let with_port = |config: &mut Config| config.load_balancer.xff_client_port = true;
    let request = seen_with(with_port, "X: y").await;
    let address: std::net::SocketAddr = request.header("X-Forwarded-For").unwrap().parse().unwrap();
    assert!(address.ip().is_loopback() && address.port() > 0);
}

#[tokio::test]
async fn more_than_thirty_forwarded_addresses_are_refused() {
    let target = Target::start().await;
    let balancer = LoadBalancer::before(&[target.address()]).await;
    let mut client = balancer.client().await;
    let addresses = |count| vec!["1.2.3.4"; count].join(", ");
    client
        .send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {}\r\n\r\n",
            addresses(31)
        ))
        .await;
    let response = client.response().await;
    assert_eq!(
        (response.status(), response.header("Connection")),
        (463, Some("keep-alive"))
    );
    assert!(target.is_left_alone().await);
    client
        .send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {}\r\n\r\n",
            addresses(30)
        ))
        .await;
    let (_served, request) = target.serve().await;
    assert_eq!(
        request
            .header("X-Forwarded-For")
            .unwrap()
            .split(", ")
            .count(),
        31
    );
}

#[tokio::test]
async fn protocol_and_port_are_those_of_the_listener_whatever_the_client_says() {
    let target = Target::start().await;
    let balancer = LoadBalancer::before(&[target.address()]).await;
    let mut client = balancer.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Port: 444\r\n\r\n").await;
    let (_served, request) = target.serve().await;
    assert_eq!(request.header("X-Forwarded-Proto"), Some("http"));
    assert_eq!(
        request.header("X-Forwarded-Port"),
        Some(&*balancer.port().to_string())
    );
}

#[tokio::test]
async fn a_trace_begins_here_or_goes_on() {
    let fresh = seen("X: y").await;
    let fresh = fresh.header("X-Amzn-Trace-Id").unwrap();
    assert!(fresh.starts_with("Root=1-") && fresh.len() == 40, "{fresh}");
    let root = "Root=1-67891233-abcdef012345678912345678";
    for sent in [
        root.to_owned(),
        format!("Self=1-67891233-000000000000000000000000;{root};x=y"),
    ] {
        let request = seen(&format!("X-Amzn-Trace-Id: {sent}")).await;
        let next = request.header("X-Amzn-Trace-Id").unwrap();
        assert!(
            next.starts_with("Self=1-") && next.contains(&format!(";{root}")),
            "{next}"
        );
        assert!(!next.contains("-000000000000000000000000"), "{next}");
        assert_eq!(next.matches("Self=").count(), 1, "{next}");
        assert_eq!(next.contains(";x=y"), sent.contains(";x=y"), "{next}");
    }
}

#[tokio::test]
async fn the_host_is_written_as_alb_writes_it() {
    let target = Target::start().await;
    let balancer = LoadBalancer::before(&[target.address()]).await;
    let port = balancer.port();
    for (sent, expected) in [
        ("App.Example.COM", format!("app.example.com:{port}")),
        ("app.example.com:9", "app.example.com:9".to_owned()),
        ("[::1]", format!("[::1]:{port}")),
        ("[::1]:9", "[::1]:9".to_owned()),
    ] {
        let mut client = balancer.client().await;
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: {sent}\r\nConnection: close\r\n\r\n"
            ))
            .await;
        let (_served, request) = target.serve().await;
        assert_eq!(request.header("Host"), Some(&*expected));
    }
}

#[tokio::test]
async fn the_host_is_preserved_where_that_is_asked() {
    let preserve = |config: &mut Config| config.load_balancer.preserve_host_header = true;
    let (request, _) = exchanged(preserve, "Host: App.Example.COM", "").await;
    assert_eq!(request.header("Host"), Some("App.Example.COM"));
}

#[tokio::test]
async fn headers_for_this_hop_end_here() {
    let request = seen(
        "Connection: keep-alive, X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: trailers\r\n\
         Trailer: X\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\nX-Kept: 1",
    )
    .await;
    let others = |name: &&str| {
        !["Host", "X-Amzn-Trace-Id"].contains(name) && !name.starts_with("X-Forwarded-")
    };
    let names: Vec<_> = request.names().into_iter().filter(others).collect();
    // Asked for by somebody behind us.
    assert_eq!(names, ["Proxy-Authorization", "X-Kept"]);
}

#[tokio::test]
async fn connection_cannot_take_away_what_the_target_relies_on() {
    let request = seen(
        "Connection: X-Forwarded-For, x-forwarded-proto, X-Amzn-Trace-Id, Host, Content-Length, close\r\n\
         X-Forwarded-For: 1.2.3.4\r\nContent-Length: 0",
    )
    .await;
    assert_eq!(
        request.header("X-Forwarded-For"),
        Some("1.2.3.4, 127.0.0.1")
    );
    assert_eq!(request.header("X-Forwarded-Proto"), Some("http"));
    assert!(request.header("X-Amzn-Trace-Id").is_some() && request.header("Host").is_some());
    assert_eq!(request.header("Connection"), None);
}

#[tokio::test]
async fn connection_cannot_take_away_a_bodys_length() {
    let target = Target::start().await;
    let balancer = LoadBalancer::before(&[target.address()]).await;
    let mut client = balancer.client().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\nhello").await;
    let (_served, request) = target.serve().await;
    assert_eq!(
        (request.header("Content-Length"), request.text()),
        (Some("5"), "hello")
    );
}

#[tokio::test]
async fn names_that_only_a_load_balancer_may_use_are_not_passed_on() {
    let request = seen(
        "X-Amzn-Oidc-Data: forged\r\nx-amzn-oidc-identity: root\r\nX-Amzn-Mtls-Clientcert: forged\r\n\
         X-Amzn-Tls-Version: forged\r\nX_Forwarded_For: 6.6.6.6\r\nx-forwarded_proto: https\r\n\
         X_Amzn_Oidc_Identity: root\r\nContent_Length: 5\r\nX-Amzn-Own: kept\r\nX_Own: kept",
    )
    .await;
    assert!(
        !request.head.contains("forged") && !request.head.contains("root"),
        "{}",
        request.head
    );
    assert!(
        !request.head.contains("6.6.6.6") && !request.head.contains("https"),
        "{}",
        request.head
    );
    assert_eq!(
        (request.header("X-Amzn-Own"), request.header("X_Own")),
        (Some("kept"), Some("kept"))
    );
    assert_eq!(request.header("Content_Length"), None);
}

#[tokio::test]
async fn names_that_are_not_plain_are_dropped_where_that_is_asked() {
    let plain = |config: &mut Config| config.load_balancer.drop_invalid_header_fields = true;
    let request = seen_with(plain, "X_Own: 1\r\nX.Own: 2\r\nX-Own: 3").await;
    assert_eq!(
        (
            request.header("X-Own"),
            request.header("X_Own"),
            request.header("X.Own")
        ),
        (Some("3"), None, None)
    );
}

#[tokio::test]
async fn names_that_are_not_plain_are_counted() {
    for (drop, dropped, forwarded) in [(true, "1", "0"), (false, "0", "1")] {
        let target = Target::start().await;
        let balancer = LoadBalancer::adjusted(&[target.address()], |config| {
            config.load_balancer.drop_invalid_header_fields = drop;
        })
        .await;
        let mut client = balancer.client().await;
        // Two such names are one such request.
        for line in ["X_Own: 1\r\nX.Own: 2\r\n", "X-Own: 3\r\n"] {
            client
                .send(format!(
                    "GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nConnection: close\r\n{line}\r\n"
                ))
                .await;
            let (mut served, _) = target.serve().await;
            served
                .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await;
            client.response().await;
            client = balancer.client().await;
        }
        for (what, count) in [("dropped", dropped), ("forwarded", forwarded)] {
            let name = format!("albedo_{what}_invalid_header_requests_total");
            assert_eq!(balancer.metric(&name, "").await, count, "{name}");
        }
    }
}

#[tokio::test]
async fn names_are_spelled_as_they_came_both_ways() {
    let lines = "dnt: 1\r\nX-cAmEl: 2\r\nACCEPT: 3\r\n";
    let (request, response) = exchanged(|_| {}, &format!("{lines}hOSt: a"), lines).await;
    for name in ["dnt", "X-cAmEl", "ACCEPT"] {
        assert!(request.names().contains(&name), "{}", request.head);
        assert!(response.names().contains(&name), "{}", response.head);
    }
    for name in [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Amzn-Trace-Id",
    ] {
        assert!(request.names().contains(&name), "{}", request.head);
    }
}

#[tokio::test]
async fn repeated_headers_stay_apart_and_in_order() {
    let lines = "Cookie: a=1\r\nX: 1\r\nCookie: b=2\r\nX: 2\r\n";
    let (request, response) = exchanged(
        |_| {},
        &format!("{lines}Host: a"),
        "Set-Cookie: a\r\nX: 1\r\nSet-Cookie: b\r\n",
    )
    .await;
    assert_eq!(
        (request.all("Cookie"), request.all("X")),
        (vec!["a=1", "b=2"], vec!["1", "2"])
    );
    assert_eq!(response.all("Set-Cookie"), ["a", "b"]);
}

#[tokio::test]
async fn values_that_are_not_ascii_pass_unchanged() {
    let request = seen("X-Name: J\u{fc}rgen\r\nX-Tab: a\tb\r\nX-Empty:\r\nX-Space: \t a \t").await;
    assert_eq!(request.header("X-Name"), Some("J\u{fc}rgen"));
    assert_eq!(
        (request.header("X-Tab"), request.header("X-Space")),
        (Some("a\tb"), Some("a"))
    );
    assert_eq!(request.header("X-Empty"), Some(""));
}

#[tokio::test]
async fn a_targets_headers_for_this_hop_end_here_and_the_others_stay() {
    let answer = "Server: mine\r\nConnection: keep-alive, X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\n\
                  Upgrade: h2c\r\nProxy-Connection: keep-alive\r\nX-Kept: 1\r\n";
    let (_, response) = exchanged(|_| {}, "Host: a", answer).await;
    assert_eq!(
        response.names(),
        ["Server", "X-Kept", "Date", "Content-Length", "Connection"]
    );
    assert_eq!(
        (response.header("Server"), response.header("Connection")),
        (Some("mine"), Some("keep-alive"))
    );
}

#[tokio::test]
async fn answers_of_our_own_have_albs_headers_in_albs_order() {
    let balancer = LoadBalancer::before(&[]).await;
    let mut client = balancer.client().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(
        response.line(),
        "HTTP/1.1 503 Service Temporarily Unavailable"
    );
    assert_eq!(
        response.names(),
        [
            "Server",
            "Date",
            "Content-Type",
            "Content-Length",
            "Connection"
        ]
    );
    assert_eq!(response.header("Server"), Some("awselb/2.0"));
    let to_head = client.response_to_head().await;
    assert_eq!(
        (to_head.status(), to_head.header("Content-Length")),
        (503, Some("162"))
    );
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.text(), response.text());
}

#[tokio::test]
async fn an_answer_may_carry_as_many_headers_as_fit() {
    let lines = "X: y\r\n".repeat(200);
    let (request, response) = exchanged(|_| {}, &format!("{lines}Host: a"), &lines).await;
    assert_eq!(
        (request.all("X").len(), response.all("X").len()),
        (200, 200)
    );
}
