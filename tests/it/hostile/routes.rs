//! P: paths and hosts that lead elsewhere than they seem to.

use crate::support::{LoadBalancer, Target, ok};

/// Which of two answers a request gets: that of the rule, or that of the target; and what the target saw.
async fn led(rule: &str, line: &str, host: &str) -> (String, Option<String>) {
    let target = Target::start().await;
    let rule = format!(
        "{{ priority: 1, conditions: [ {rule} ], actions: [ {{ fixed_response: {{ status_code: 200, message_body: ruled }} }} ] }}"
    );
    let balancer = LoadBalancer::with_rules(&[target.address()], &rule, |_| {}).await;
    let mut client = balancer.client().await;
    client
        .send(format!("GET {line} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        .await;
    tokio::select! {
        response = client.response() => (response.text().to_owned(), None),
        (mut served, seen) = target.serve() => {
            served.send(ok("target")).await;
            let response = client.response().await;
            (response.text().to_owned(), Some(seen.line().to_owned()))
        }
    }
}

#[tokio::test]
async fn p1_a_rule_sees_what_the_target_sees() {
    // Nothing is decoded or folded, for rules or for targets: what is not under the path as it is written is not.
    let rule = "{ path_pattern: [ /admin/* ] }";
    for path in [
        "/x/../admin/y",
        "/%61dmin/y",
        "/admin%2Fy",
        "//admin/y",
        "/./admin/y",
        "/x/%2e%2e/admin/y",
        "/ADMIN/y",
        "/x;/../admin/y",
        "/x\\..\\admin/y",
        "/x%5c../admin/y",
        "/%252e%252e/admin/y",
        "/%00/admin/y",
        "/\u{e9}/admin/y",
    ] {
        let (answer, seen) = led(rule, path, "a").await;
        assert_eq!(answer, "target", "{path}");
        assert_eq!(seen.unwrap(), format!("GET {path} HTTP/1.1"));
    }
    for path in ["/admin/", "/admin/../x", "/admin/%2e%2e/x", "/admin//"] {
        assert_eq!(led(rule, path, "a").await.0, "ruled", "{path}");
    }
}

#[tokio::test]
async fn p2_many_hosts_and_one_host_alike() {
    for count in [0, 4, 101] {
        let mut hosts: Vec<String> = (0..count).map(|host| format!("h{host}.example")).collect();
        hosts.push("Web.Example".to_owned());
        // ELB allows five values in a rule; more rules than one share them.
        let target = Target::start().await;
        let rules: Vec<String> = hosts
            .iter()
            .enumerate()
            .map(|(index, host)| {
                format!(
                    "{{ priority: {}, conditions: [ {{ host_header: [ {host} ] }} ], actions: [ {{ fixed_response: {{ status_code: 200, message_body: \"{host}\" }} }} ] }}",
                    index + 1
                )
            })
            .collect();
        let balancer =
            LoadBalancer::with_rules(&[target.address()], &rules.join(", "), |_| {}).await;
        let mut client = balancer.client().await;
        for host in ["web.example", "WEB.EXAMPLE", "wEb.eXample:80"] {
            client
                .send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
                .await;
            assert_eq!(
                client.response().await.text(),
                "Web.Example",
                "{count} {host}"
            );
        }
    }
}

#[tokio::test]
async fn p3_patterns_of_hosts_have_both_ends() {
    let rule = "{ host_header: [ app.example.com, \"*.wild.example.com\" ] }";
    for host in [
        "evil-app.example.com",
        "app.example.com.evil",
        "app.example.comx",
        "appXexample.com",
        "wild.example.com",
        "a.wild.example.com.evil",
    ] {
        assert_eq!(led(rule, "/", host).await.0, "target", "{host}");
    }
    for host in ["app.example.com", "a.wild.example.com"] {
        assert_eq!(led(rule, "/", host).await.0, "ruled", "{host}");
    }
}

#[tokio::test]
async fn p4_forms_of_a_host() {
    let rule = "{ host_header: [ a.com ] }";
    // The dot of DNS's root changes nothing for rules; the target sees it as it came.
    for host in ["a.com", "A.com:443", "a.com:", "a.com."] {
        assert_eq!(led(rule, "/", host).await.0, "ruled", "{host}");
    }
    let fort = super::Fort::new().await;
    for host in [
        "user@a.com",
        "a.com, b.com",
        "a.com:80:80",
        "[::1",
        "a.com/x",
        "%61.com",
        "",
    ] {
        fort.refuses(400, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
    }
    fort.refuses(400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        .await;
    fort.refuses(400, "GET / HTTP/1.1\r\n\r\n").await;
    let absolute = "GET http://%61.com/ HTTP/1.1\r\nHost: b\r\n\r\n";
    fort.refuses(400, absolute).await;
}

#[tokio::test]
async fn c8_patterns_and_templates_that_grow() {
    let rules = "{ priority: 1, conditions: [ { path_pattern: [ \"/*a*a*a*a*b\" ] } ], actions: [ { fixed_response: { status_code: 200 } } ] }, \
                 { priority: 2, conditions: [ { path_pattern: [ /grow/* ] } ], actions: [ { redirect: { path: \"/#{path}/#{path}/#{path}\", query: \"#{query}&#{query}\", status_code: HTTP_302 } } ] }";
    let balancer = LoadBalancer::with_rules(&[], rules, |_| {}).await;
    let mut client = balancer.client().await;
    // All ways to share these letters out among the stars are more than anybody can try.
    let path = format!("/{}", "a".repeat(15_000));
    for (path, status) in [(format!("{path}b"), 200), (format!("{path}c"), 503)] {
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        assert_eq!(client.response().await.status(), status);
    }
    // What is put in is not read again, and no Location passes 8 KiB.
    for (length, status) in [(10, 302), (2_000, 302), (3_000, 507), (12_000, 507)] {
        let path = format!("/grow/%23{{host}}{}", "x".repeat(length));
        client
            .send(format!(
                "GET {path}?%23{{query}} HTTP/1.1\r\nHost: a\r\n\r\n"
            ))
            .await;
        let response = client.response().await;
        assert_eq!(response.status(), status, "{length}");
        let location = response.header("Location").unwrap_or_default();
        assert!(location.len() <= 8 * 1024, "{}", location.len());
        if status == 302 {
            assert!(location.contains("%23{host}") && location.ends_with("?%23{query}&%23{query}"));
        }
    }
}
