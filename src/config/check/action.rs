//! Checks what a rule does: groups that exist, shares that add up, redirects that lead somewhere else.

use super::Findings;
use crate::config::field_path::FieldPath;
use crate::model::{
    Action, Actions, Config, FixedResponse, Forward, Listener, Protocol, Redirect, Stickiness,
    TargetGroupName, WeightedTargetGroup, alternatives, nearest, quoted,
};

/// Port of HTTPS that browsers take for granted.
const HTTPS_PORT: u16 = 443;

pub(super) fn check(
    config: &Config,
    listener: &Listener,
    actions: &Actions,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let path = path.index(0);
    match &actions.terminal {
        Action::Forward(forward) => {
            check_forward(config, forward, &path.field("forward"), findings)
        }
        Action::FixedResponse(response) => {
            check_fixed_response(response, &path.field("fixed_response"), findings);
        }
        Action::Redirect(redirect) => {
            let path = path.field("redirect");
            check_destination(listener, redirect, &path, findings);
            check_parts(redirect, &path, findings);
        }
    }
}

fn check_forward(config: &Config, forward: &Forward, path: &FieldPath, findings: &mut Findings) {
    let list = path.field("target_groups");
    let groups = &forward.target_groups;
    if groups.is_empty() || groups.len() > Forward::TARGET_GROUPS_MAX {
        let message = format!("the action names {} target groups", groups.len());
        findings.error(
            &list,
            message,
            format!("name 1 to {}", Forward::TARGET_GROUPS_MAX),
        );
    }
    for (index, group) in groups.iter().enumerate() {
        let path = list.index(index);
        check_exists(config, &group.name, &path.field("name"), findings);
        findings.number(
            &path.field("weight"),
            group.weight,
            &WeightedTargetGroup::WEIGHT,
        );
        if groups[..index].iter().any(|other| other.name == group.name) {
            let message = format!("target group '{}' is named a second time", group.name);
            findings
                .error(
                    &path.field("name"),
                    message,
                    "name it once, with the sum of the weights",
                )
                .rests_on([list.clone()]);
        }
    }
    if !groups.is_empty() && groups.iter().all(|group| group.weight == 0) {
        let message = "every weight is 0, so every request is answered with 503";
        findings.warning(&list, message, "give one group a weight from 1 to 999");
    }
    if let Some(stickiness) = forward.stickiness {
        findings.duration(&path.field("stickiness"), stickiness, &Stickiness::DURATION);
    } else if groups.len() > 1 {
        let sticky = |group: &&WeightedTargetGroup| {
            let group = config.target_group(&group.name);
            group.is_some_and(|group| group.stickiness.is_some())
        };
        if let Some(group) = groups.iter().find(sticky) {
            let message = format!(
                "target group '{}' has stickiness, but clients would change between groups",
                group.name
            );
            let remedy = "write 'stickiness: 1d' beside 'target_groups'";
            findings
                .error(path, message, remedy)
                .rests_on([FieldPath::root().field("target_groups")]);
        }
    }
}

fn check_exists(
    config: &Config,
    name: &TargetGroupName,
    path: &FieldPath,
    findings: &mut Findings,
) {
    if config.target_group(name).is_some() {
        return;
    }
    let names = config.target_groups.iter().map(|group| group.name.as_str());
    let remedy = match nearest(name.as_str(), names) {
        Some(near) => format!("did you mean '{near}'?"),
        None => "write it under 'target_groups', or name one that stands there".to_owned(),
    };
    let target_groups = FieldPath::root().field("target_groups");
    let finding = findings.error(
        path,
        format!("target group '{name}' does not exist"),
        remedy,
    );
    match config.target_groups.len() {
        0 => finding.rests_on([target_groups]),
        count => finding.rests_on((0..count).map(|index| target_groups.index(index).field("name"))),
    }
}

fn check_fixed_response(response: &FixedResponse, path: &FieldPath, findings: &mut Findings) {
    if !matches!(response.status_code, 200..=299 | 400..=599) {
        let message = format!(
            "'{}' is not a status that ALB answers with",
            response.status_code
        );
        let remedy = match response.status_code {
            300..=399 => "write a redirect action for it",
            _ => "write 200 to 299 or 400 to 599",
        };
        findings.error(&path.field("status_code"), message, remedy);
    }
    if let Some(content_type) = response.content_type
        && !FixedResponse::CONTENT_TYPES.contains(&content_type)
    {
        let message = format!(
            "{} is not a media type that ALB sends",
            quoted(content_type)
        );
        let remedy = format!("write {}", alternatives(&FixedResponse::CONTENT_TYPES));
        findings.error(&path.field("content_type"), message, remedy);
    }
    let size = response.message_body.as_ref().map_or(0, |body| body.len());
    if size > FixedResponse::MESSAGE_BODY_MAX {
        let message = format!("the body has {size} bytes");
        let remedy = format!(
            "shorten it to {}, or serve the page from a target",
            FixedResponse::MESSAGE_BODY_MAX
        );
        findings.error(&path.field("message_body"), message, remedy);
    }
}

/// Where a redirect leads, seen from its listener.
fn check_destination(
    listener: &Listener,
    redirect: &Redirect,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let protocol = redirect.protocol.unwrap_or(listener.protocol);
    let port = redirect.port.unwrap_or(listener.port);
    let here = redirect.host.is_none() && redirect.path.is_none();
    if here && redirect.protocol.is_none() && redirect.port.is_none() {
        let message = "the redirect leads back to where the request came from";
        findings.error(
            path,
            message,
            "change at least one of protocol, host, port and path",
        );
        return;
    }
    if listener.protocol == Protocol::Https && protocol == Protocol::Http {
        let message = "an HTTPS listener does not redirect to HTTP";
        findings
            .error(
                &path.field("protocol"),
                message,
                "write 'protocol: HTTPS', or leave it out",
            )
            .rests_on([path.clone()]);
        return;
    }
    if here && protocol == listener.protocol && port == listener.port && port != 0 {
        let message = format!(
            "clients of this listener are sent back to it, {protocol} on port {port}, with the same path"
        );
        findings
            .warning(path, message, "change host, port or path, or move the rule to the listener that clients shall leave")
            .rests_on([path.clone()]);
    }
    let kept_port =
        redirect.port.is_none() && redirect.host.is_none() && listener.port != HTTPS_PORT;
    if listener.protocol == Protocol::Http
        && protocol == Protocol::Https
        && kept_port
        && listener.port != 0
    {
        let message = format!(
            "the redirect goes to HTTPS on port {}, where this listener speaks HTTP",
            listener.port
        );
        findings.warning(
            path,
            message,
            "write 'port: 443', or the port of the HTTPS listener",
        );
    }
}

fn check_parts(redirect: &Redirect, path: &FieldPath, findings: &mut Findings) {
    let parts = [
        ("host", &redirect.host, &["host"][..]),
        ("path", &redirect.path, &["host", "path", "port"][..]),
        (
            "query",
            &redirect.query,
            &["protocol", "host", "port", "path", "query"][..],
        ),
    ];
    for (name, part, placeholders) in parts {
        let Some(text) = part else { continue };
        let path = path.field(name);
        if let Some((message, remedy)) = bad_part(name, text, placeholders) {
            findings.error(&path, message, remedy);
        }
    }
}

fn bad_part(name: &str, text: &str, placeholders: &[&str]) -> Option<(String, String)> {
    let length = text.len();
    if length > Redirect::PART_MAX || (length == 0 && name == "host") {
        let message = format!("the {name} has {length} characters");
        return Some((message, format!("write 1 to {}", Redirect::PART_MAX)));
    }
    if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic()) {
        let message = format!("{} holds {}", quoted(text), quoted(&c.to_string()));
        return Some((message, "write it percent-encoded".to_owned()));
    }
    match name {
        "path" if !text.starts_with('/') => {
            let remedy = format!("write {}", quoted(&format!("/{text}")));
            return Some((format!("{} does not begin with '/'", quoted(text)), remedy));
        }
        "path" if text.contains('?') => {
            let remedy = "write what follows '?' under 'query'".to_owned();
            return Some((format!("{} holds a query", quoted(text)), remedy));
        }
        "query" if text.starts_with('?') => {
            let remedy = format!("write {}", quoted(&text[1..]));
            return Some((format!("{} begins with '?'", quoted(text)), remedy));
        }
        "host" if text.contains(['/', ':', '?', '@', '\\']) => {
            let remedy =
                "write the host alone: protocol, port and path have their own fields".to_owned();
            return Some((format!("{} is more than a host", quoted(text)), remedy));
        }
        _ => {}
    }
    let bad = placeholders_of(text).find(|found| !placeholders.contains(found))?;
    let known: Vec<String> = placeholders
        .iter()
        .map(|name| format!("#{{{name}}}"))
        .collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    Some((
        format!(
            "{} is no placeholder of a {name}",
            quoted(&format!("#{{{bad}}}"))
        ),
        format!("use {}", alternatives(&known)),
    ))
}

/// The names between `#{` and `}`; of one that never ends, the rest.
fn placeholders_of(text: &str) -> impl Iterator<Item = &str> {
    let after = text.split("#{").skip(1);
    after.map(|rest| rest.split('}').next().unwrap_or(rest))
}
