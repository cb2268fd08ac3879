//! `albedo demo`: the DataRobot table on loopback, with nothing to prepare.

use std::fmt::Write;
use std::net::SocketAddr;

use super::{Exit, exit_of, out};
use crate::admin::Token;
use crate::app::{self, Origin, Source};
use crate::confinement;
use crate::demo;
use crate::model::{Action, Actions, AdminAddress, Condition, Config, Listener, Protocol};
use crate::telemetry::log;

pub(super) fn run(admin: AdminAddress) -> Exit {
    // No thread may run yet.
    let confinement = confinement::enter();
    let token = match Token::of_environment() {
        Ok(token) => token,
        Err(error) => {
            out::complain(&error);
            return Exit::Refused;
        }
    };
    log::start();
    confinement.log();
    let mut demo = match demo::prepare() {
        Ok(demo) => demo,
        Err(error) => {
            out::complain(&error);
            return Exit::CouldNotBind;
        }
    };
    demo.config.admin = admin;
    let config = demo.config.clone();
    let source = Source::Program(Box::new(config));
    let origin = Origin {
        token,
        ..Origin::terminal()
    };
    exit_of(app::run(source, origin, |running| {
        let text = invitation(&demo.config, &running.listeners(), running.admin());
        // The demo serves whether anybody reads this or not.
        let _ = out::print(&text);
    }))
}

/// Every URL with the group behind it, and what to try.
fn invitation(config: &Config, addresses: &[SocketAddr], admin: &AdminAddress) -> String {
    let mut text = "The DataRobot table, with targets built in. Ctrl-C ends it.\n\n".to_owned();
    for (listener, address) in config.listeners.iter().zip(addresses) {
        for (path, group) in doors(listener) {
            let url = url(listener.protocol, *address, &path);
            line(&mut text, format_args!("{url:<44} {group}"));
        }
    }
    let tried = config.listeners.first().zip(addresses.first());
    if let Some((listener, address)) = tried {
        let url = url(listener.protocol, *address, "/api/v2/hello");
        line(&mut text, format_args!("\nTry          curl -k {url}"));
    }
    match admin {
        AdminAddress::Tcp(address) => {
            line(&mut text, format_args!("Look around  http://{address}/"));
        }
        AdminAddress::Unix(path) => {
            let path = path.display();
            line(
                &mut text,
                format_args!("Look around  curl --unix-socket {path} http://localhost/"),
            );
        }
    }
    line(
        &mut text,
        format_args!("And          albedo status --admin {admin}\n"),
    );
    text
}

/// Paths of a listener's rules, then `/` for its default, each with the group that answers there.
fn doors(listener: &Listener) -> Vec<(String, String)> {
    let mut doors = Vec::new();
    for rule in &listener.rules {
        let paths = rule
            .conditions
            .iter()
            .flat_map(|condition| match condition {
                Condition::PathPattern(patterns) => patterns.as_slice(),
                Condition::HostHeader(_)
                | Condition::HttpHeader { .. }
                | Condition::HttpRequestMethod(_)
                | Condition::QueryString(_)
                | Condition::SourceIp(_) => &[],
            });
        doors.extend(paths.map(|path| {
            let prefix = path.as_str().trim_end_matches('*');
            (prefix.to_owned(), group(&rule.actions))
        }));
    }
    doors.push(("/".to_owned(), group(&listener.default_actions)));
    doors
}

fn group(actions: &Actions) -> String {
    match &actions.terminal {
        Action::Forward(forward) => {
            let names = forward
                .target_groups
                .iter()
                .map(|group| group.name.as_str());
            names.collect::<Vec<_>>().join(", ")
        }
        Action::FixedResponse(response) => response.status_code.to_string(),
        Action::Redirect(_) => "a redirect".to_owned(),
    }
}

fn url(protocol: Protocol, address: SocketAddr, path: &str) -> String {
    match protocol {
        Protocol::Http => format!("http://{address}{path}"),
        Protocol::Https => format!("https://{address}{path}"),
    }
}

fn line(text: &mut String, what: impl std::fmt::Display) {
    writeln!(text, "{what}").expect("memory takes every character");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_invitation_names_every_url_and_its_group() {
        let table = include_str!("../../config/datarobot.yaml");
        let (config, _) = config::parse(table, "config/datarobot.yaml".as_ref()).unwrap();
        let addresses = [8443, 8100, 9494].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let text = invitation(&config, &addresses, &AdminAddress::default());
        let expected = "\
The DataRobot table, with targets built in. Ctrl-C ends it.

https://127.0.0.1:8443/api/v2/               publicapi
https://127.0.0.1:8443/upload/               appupload
https://127.0.0.1:8443/socket.io-queue/      mmqueue
https://127.0.0.1:8443/api/v0/               internalapi
https://127.0.0.1:8443/                      app
https://127.0.0.1:8100/                      dss-api
https://127.0.0.1:9494/                      pngexport

Try          curl -k https://127.0.0.1:8443/api/v2/hello
Look around  http://127.0.0.1:9900/
And          albedo status --admin 127.0.0.1:9900

";
        assert_eq!(text, expected);
    }
}
