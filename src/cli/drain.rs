//! `albedo drain` and `albedo undrain`: take a target of a running instance out of its group and bring it back.

use std::io;

use http::{Method, StatusCode};

use super::{Exit, ask, out};
use crate::admin::segment;
use crate::app::SteeredStatus;
use crate::model::AdminAddress;

/// Takes it out: no new requests, and time to finish the others.
pub(super) fn drain(admin: &AdminAddress, group: &str, target: &str) -> io::Result<Exit> {
    steer(admin, group, target, "drain")
}

/// Brings it back.
pub(super) fn undrain(admin: &AdminAddress, group: &str, target: &str) -> io::Result<Exit> {
    steer(admin, group, target, "undrain")
}

/// Prints what the target is now.
fn steer(admin: &AdminAddress, group: &str, target: &str, verb: &str) -> io::Result<Exit> {
    let (group, target) = (segment::encode(group), segment::encode(target));
    let path = format!("/api/v1/target_groups/{group}/targets/{target}/{verb}");
    let Some(answer) = ask::instance(admin, Method::POST, &path)? else {
        return Ok(Exit::Refused);
    };
    if answer.status != StatusCode::OK {
        answer.complain();
        return Ok(Exit::Refused);
    }
    let Some(steered) = answer.read::<SteeredStatus>() else {
        return Ok(Exit::Refused);
    };
    if let Some(warning) = &steered.warning {
        out::complain(format_args!("warning: {}", out::harmless(warning)));
    }
    out::print(&line(&steered))?;
    Ok(Exit::Clean)
}

fn line(steered: &SteeredStatus) -> String {
    let target = &steered.target;
    let requests = match target.outstanding_requests {
        1 => "1 request".to_owned(),
        count => format!("{count} requests"),
    };
    let text = format!(
        "{} of {}: {}, {requests} in progress",
        target.address(),
        steered.group,
        target.state
    );
    out::harmless(&text) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::TargetStatus;

    #[test]
    fn the_line_says_what_is_left_to_do() {
        let mut steered = SteeredStatus {
            group: "mmqueue".to_owned(),
            target: TargetStatus {
                id: "2001:db8::1".to_owned(),
                port: 8011,
                state: "draining".to_owned(),
                reason: None,
                description: None,
                outstanding_requests: 1,
            },
            warning: None,
        };
        let expected = "[2001:db8::1]:8011 of mmqueue: draining, 1 request in progress\n";
        assert_eq!(line(&steered), expected);
        steered.target.id = "dss1.site".to_owned();
        steered.target.outstanding_requests = 12;
        let expected = "dss1.site:8011 of mmqueue: draining, 12 requests in progress\n";
        assert_eq!(line(&steered), expected);
    }
}
