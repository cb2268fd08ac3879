//! `albedo status`: what a running instance says of itself, as a table or as its own JSON.

use std::io;

use http::{Method, StatusCode};

use super::{Exit, ask, out, reload};
use crate::app::{GroupStatus, Status, TargetStatus};
use crate::model::AdminAddress;

const STATUS_PATH: &str = "/api/v1/status";

/// Prints the instance's own JSON.
pub(super) fn print_json(admin: &AdminAddress) -> io::Result<Exit> {
    let Some((text, status)) = ask(admin)? else {
        return Ok(Exit::Refused);
    };
    out::print(&text)?;
    Ok(verdict(&status))
}

/// Prints generation, listeners, and every target with its health in ELBv2's words.
pub(super) fn print_table(admin: &AdminAddress) -> io::Result<Exit> {
    let Some((_, status)) = ask(admin)? else {
        return Ok(Exit::Refused);
    };
    out::print(&report(&status))?;
    Ok(verdict(&status))
}

/// The answer of the instance as it came and as it is meant; `None` after saying why there is none.
fn ask(admin: &AdminAddress) -> io::Result<Option<(String, Status)>> {
    let Some(answer) = ask::instance(admin, Method::GET, STATUS_PATH)? else {
        return Ok(None);
    };
    if answer.status != StatusCode::OK {
        answer.complain();
        return Ok(None);
    }
    Ok(answer.read().map(|status| (answer.text(), status)))
}

fn verdict(status: &Status) -> Exit {
    match status.target_groups.iter().all(has_healthy_target) {
        true => Exit::Clean,
        false => Exit::Refused,
    }
}

fn has_healthy_target(group: &GroupStatus) -> bool {
    group.targets.iter().any(|target| target.state == "healthy")
}

fn report(status: &Status) -> String {
    let mut listeners = vec![["LISTENER", "PROTOCOL", "CONNECTIONS"].map(str::to_owned)];
    for listener in &status.listeners {
        listeners.push([
            listener.port.to_string(),
            listener.protocol.to_string(),
            listener.connections.to_string(),
        ]);
    }
    let mut targets = vec![
        [
            "TARGET GROUP",
            "TARGET",
            "STATE",
            "REASON",
            "OUTSTANDING",
            "DESCRIPTION",
        ]
        .map(str::to_owned),
    ];
    for group in &status.target_groups {
        targets.extend(group.targets.iter().map(|target| row(&group.name, target)));
        if group.targets.is_empty() {
            targets
                .push([group.name.as_str(), "-", "-", "-", "-", "no targets"].map(str::to_owned));
        }
    }
    format!(
        "generation {}\n{}\n{}\n{}",
        status.generation,
        refusal(status),
        table(&listeners),
        table(&targets)
    )
}

/// Why the newest configuration does not run, if it does not.
fn refusal(status: &Status) -> String {
    let last = status.last_reload.as_ref();
    let refused = last.filter(|last| last.outcome == "refused");
    refused.map_or_else(String::new, |refused| {
        let at = out::harmless(&refused.at);
        let lines = reload::lines(&refused.problems);
        format!("\na newer configuration was refused at {at}:\n{lines}")
    })
}

fn row(group: &str, target: &TargetStatus) -> [String; 6] {
    [
        group.to_owned(),
        target.address(),
        target.state.to_string(),
        target.reason.as_deref().unwrap_or("-").to_owned(),
        target.outstanding_requests.to_string(),
        target.description.as_deref().unwrap_or("-").to_owned(),
    ]
}

/// Columns as wide as their widest cell, two spaces between them. Control characters, should an instance send any,
/// do not reach the terminal.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    });
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{:width$}", out::harmless(cell)))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::admin;
    use crate::app::{LastReload, ListenerStatus, ProblemStatus};
    use crate::control::{Control, Readiness, View};
    use crate::telemetry::Metrics;

    /// A group that works, one whose only target fails, and one without targets.
    fn status() -> Status {
        let listener = |port, protocol: &str, connections| ListenerStatus {
            port,
            protocol: protocol.to_owned(),
            connections,
        };
        let group = |name: &str, targets| GroupStatus {
            name: name.to_owned(),
            targets,
        };
        let busy = TargetStatus {
            id: "127.0.1.4".to_owned(),
            port: 8080,
            state: "healthy".to_owned(),
            reason: None,
            description: None,
            outstanding_requests: 12,
        };
        let failing = TargetStatus {
            id: "dss1.site".to_owned(),
            port: 11200,
            state: "unhealthy".to_owned(),
            reason: Some("Target.ResponseCodeMismatch".to_owned()),
            description: Some("Health checks failed with these codes: [503]".to_owned()),
            outstanding_requests: 0,
        };
        Status {
            generation: 3,
            listeners: vec![listener(443, "HTTPS", 1042), listener(8100, "HTTP", 0)],
            target_groups: vec![
                group("app", vec![busy, failing.clone()]),
                group("publicapi", vec![failing]),
                group("empty", Vec::new()),
            ],
            last_reload: None,
        }
    }

    #[test]
    fn the_table_speaks_elbv2() {
        let expected = [
            "generation 3",
            "",
            "LISTENER  PROTOCOL  CONNECTIONS",
            "443       HTTPS     1042",
            "8100      HTTP      0",
            "",
            "TARGET GROUP  TARGET           STATE      REASON                       OUTSTANDING  DESCRIPTION",
            "app           127.0.1.4:8080   healthy    -                            12           -",
            "app           dss1.site:11200  unhealthy  Target.ResponseCodeMismatch  0            Health checks failed with these codes: [503]",
            "publicapi     dss1.site:11200  unhealthy  Target.ResponseCodeMismatch  0            Health checks failed with these codes: [503]",
            "empty         -                -          -                            -            no targets",
            "",
        ];
        assert_eq!(report(&status()), expected.join("\n"));
    }

    #[test]
    fn a_configuration_that_does_not_run_is_told_on_top() {
        let mut status = status();
        status.last_reload = Some(LastReload {
            outcome: "refused".to_owned(),
            generation: 3,
            at: "2026-01-02T03:04:05.678Z".to_owned(),
            problems: vec![ProblemStatus {
                severity: "error".to_owned(),
                path: "listeners[0].port".to_owned(),
                message: "'x' is not a port; write 443".to_owned(),
                line: Some(3),
                column: Some(7),
            }],
        });
        let expected = "generation 3\n\na newer configuration was refused at 2026-01-02T03:04:05.678Z:\n\
            3:7 listeners[0].port: 'x' is not a port; write 443\n\nLISTENER ";
        let report = report(&status);
        assert!(report.starts_with(expected), "{report}");
    }

    #[test]
    fn a_terminal_is_safe_from_what_an_instance_sends() {
        let mut status = status();
        status.target_groups[0].name = "a\x1b[2J\n".to_owned();
        let report = report(&status);
        assert!(report.contains("a?[2J?"));
        assert!(!report.contains('\x1b'));
    }

    #[test]
    fn an_ipv6_target_is_told_from_its_port() {
        let mut status = status();
        status.target_groups[0].targets[0].id = "2001:db8::1".to_owned();
        assert!(report(&status).contains(" [2001:db8::1]:8080 "));
    }

    #[test]
    fn a_group_without_a_healthy_target_fails_the_verb() {
        let mut status = status();
        assert_eq!(verdict(&status), Exit::Refused);
        status.target_groups.truncate(1);
        assert_eq!(verdict(&status), Exit::Clean);
        status.target_groups.clear();
        assert_eq!(verdict(&status), Exit::Clean);
    }

    #[test]
    fn status_is_asked_over_the_wire() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (_readiness, seen) = watch::channel(Readiness::Ready);
        let view = View::for_test(seen, Metrics::new(&"shop".parse().unwrap(), 1));
        let expected = view.status();
        let entered = runtime.enter();
        let bound = admin::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        drop(entered);
        let address = bound.address();
        let closing = admin::Closing::default();
        let (control, _events) = Control::new(view);
        let served = runtime.spawn(admin::serve(
            bound,
            None,
            control.downgrade(),
            closing.clone(),
        ));
        let (text, status) = ask(&address).unwrap().unwrap();
        assert_eq!(status, expected);
        assert!(text.starts_with("{\"generation\":1,"));
        closing.close();
        runtime.block_on(served).unwrap();
        assert_eq!(ask(&address).unwrap(), None);
    }
}
