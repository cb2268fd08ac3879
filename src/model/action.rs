//! What a rule does: exactly one routing action ends every list of actions.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::spelled::spelled;
use super::{Protocol, TargetGroupName};

/// The actions of a rule or of a listener's default.
#[derive(Clone, Debug, PartialEq)]
pub struct Actions {
    /// The one routing action, always last.
    pub terminal: Action,
}

impl Actions {
    /// Everything to one group.
    pub fn forward(name: TargetGroupName) -> Self {
        Action::Forward(Forward::to(name)).into()
    }
}

impl From<Action> for Actions {
    fn from(terminal: Action) -> Self {
        Self { terminal }
    }
}

/// A routing action (ELBv2 `Action`).
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// To a target of a group.
    Forward(Forward),
    /// An answer written in the configuration.
    FixedResponse(FixedResponse),
    /// Another place to ask.
    Redirect(Redirect),
}

/// Forward to one to five groups by weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// At least one, at most five.
    pub target_groups: Vec<WeightedTargetGroup>,
    /// How long a client stays with its group; off when absent.
    pub stickiness: Option<Duration>,
}

impl Forward {
    /// Target groups of one action (ELB quota, fixed).
    pub const TARGET_GROUPS_MAX: usize = 5;

    /// To one group alone.
    pub fn to(name: TargetGroupName) -> Self {
        let only = WeightedTargetGroup { name, weight: 1 };
        Self {
            target_groups: vec![only],
            stickiness: None,
        }
    }
}

/// A group and its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedTargetGroup {
    /// Which group.
    pub name: TargetGroupName,
    /// 0 to 999; the share is weight by sum.
    pub weight: u16,
}

impl WeightedTargetGroup {
    /// ELBv2 `TargetGroupTuple`, Weight.
    pub const WEIGHT: RangeInclusive<u16> = 0..=999;
}

/// An answer without a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedResponse {
    /// 2xx, 4xx or 5xx.
    pub status_code: u16,
    /// One of ALB's five media types.
    pub content_type: Option<&'static str>,
    /// At most 1024 bytes.
    pub message_body: Option<Arc<str>>,
}

impl FixedResponse {
    /// The media types that ALB sends.
    pub const CONTENT_TYPES: [&'static str; 5] = [
        "text/plain",
        "text/css",
        "text/html",
        "application/javascript",
        "application/json",
    ];
    /// `MessageBody`, in bytes.
    pub const MESSAGE_BODY_MAX: usize = 1024;
}

/// A redirect; `None` keeps that part of the request's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `HTTP`, `HTTPS` or as asked.
    pub protocol: Option<Protocol>,
    /// 1 to 128 characters, may hold `#{host}`.
    pub host: Option<Arc<str>>,
    /// A port, or as asked.
    pub port: Option<u16>,
    /// Starts with `/`, may hold `#{host} #{path} #{port}`.
    pub path: Option<Arc<str>>,
    /// Without `?`, may hold any placeholder.
    pub query: Option<Arc<str>>,
    /// 301 or 302.
    pub status_code: RedirectStatus,
}

impl Redirect {
    /// `Host`, `Path` and `Query`, in bytes as written.
    pub const PART_MAX: usize = 128;
}

/// `HTTP_301` or `HTTP_302`; ALB knows no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectStatus {
    /// 301 Moved Permanently.
    MovedPermanently,
    /// 302 Found.
    Found,
}

spelled!(RedirectStatus, "a redirect status", {
    MovedPermanently => "HTTP_301",
    Found => "HTTP_302",
});
