//! Actions as the file writes them.

use super::{NAME, PART, defaulted, names, optional, required, text};
use crate::config::shape::Keys::{Any, ExactlyOne};
use crate::config::shape::Kind::{self, Either, Integer, List, Object, OneOf};
use crate::config::shape::Shape;
use crate::model::{
    FixedResponse, Forward, Redirect, RedirectStatus, Stickiness, WeightedTargetGroup,
};

pub(in crate::config) static ACTION: Shape = Shape {
    name: "action",
    description: "What happens to a request.",
    keys: ExactlyOne,
    fields: &[
        optional(
            "forward",
            Either(&[NAME, Object(&FORWARD)]),
            "To a target of this group, or of several groups by weight.",
        ),
        optional(
            "fixed_response",
            Object(&FIXED_RESPONSE),
            "An answer written here.",
        ),
        optional("redirect", Object(&REDIRECT), "Another place to ask."),
    ],
};

pub(in crate::config) static FORWARD: Shape = Shape {
    name: "forward",
    description: "One to five groups by weight.",
    keys: Any,
    fields: &[
        required(
            "target_groups",
            List {
                of: &Object(&WEIGHTED_TARGET_GROUP),
                length: 1..=Forward::TARGET_GROUPS_MAX,
            },
            "The groups and their shares.",
        ),
        optional(
            "stickiness",
            Kind::Duration(Stickiness::DURATION),
            "How long a client stays with its group; off when absent.",
        ),
    ],
};

pub(in crate::config) static WEIGHTED_TARGET_GROUP: Shape = Shape {
    name: "weighted_target_group",
    description: "A group and its share.",
    keys: Any,
    fields: &[
        required("name", NAME, "Which group."),
        optional(
            "weight",
            Integer(0..=*WeightedTargetGroup::WEIGHT.end() as u64),
            "The share is weight by sum of weights; needed when there are several groups.",
        ),
    ],
};

pub(in crate::config) static FIXED_RESPONSE: Shape = Shape {
    name: "fixed_response",
    description: "An answer without a target.",
    keys: Any,
    fields: &[
        required("status_code", Integer(200..=599), "2xx, 4xx or 5xx."),
        optional(
            "content_type",
            OneOf(|| FixedResponse::CONTENT_TYPES.to_vec()),
            "Media type of the body.",
        ),
        optional(
            "message_body",
            Kind::Text {
                pattern: None,
                length: 0..=FixedResponse::MESSAGE_BODY_MAX,
            },
            "At most 1024 bytes.",
        ),
    ],
};

pub(in crate::config) static REDIRECT: Shape = Shape {
    name: "redirect",
    description: "What is absent stays as the request had it; protocol, host, port or path must change.",
    keys: Any,
    fields: &[
        defaulted(
            "protocol",
            OneOf(|| vec!["HTTP", "HTTPS", "#{protocol}"]),
            "#{protocol}",
            "HTTPS listeners do not redirect to HTTP.",
        ),
        defaulted("host", PART, "#{host}", "May hold #{host}."),
        defaulted(
            "port",
            text(r"^([0-9]{1,5}|#\{port\})$"),
            "#{port}",
            "1 to 65535.",
        ),
        defaulted(
            "path",
            PART,
            "/#{path}",
            "Begins with '/'; may hold #{host}, #{path}, #{port}. #{path} has no leading '/'.",
        ),
        defaulted(
            "query",
            Kind::Text {
                pattern: None,
                length: 0..=Redirect::PART_MAX,
            },
            "#{query}",
            "Without '?'; may hold every placeholder.",
        ),
        required(
            "status_code",
            OneOf(|| names(RedirectStatus::ALL, RedirectStatus::as_str)),
            "Permanent or temporary.",
        ),
    ],
};
