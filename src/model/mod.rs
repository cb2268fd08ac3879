//! What the user said: ELBv2's data model as types. A value that exists is valid.
//! Never opens a file or a socket, never knows tokio or hyper.

mod action;
mod condition;
mod health_check;
mod listener;
mod load_balancer;
mod name;
mod rule;
mod target_group;

pub use action::{
    Action, Actions, FixedResponse, Forward, Redirect, RedirectStatus, WeightedTargetGroup,
};
pub use condition::{
    Condition, HeaderNamePattern, HostPattern, MethodPattern, PathPattern, QueryPattern,
    TextPattern,
};
pub use health_check::{HealthCheck, HealthCheckPort, Matcher};
pub use listener::{Certificate, Listener, Pem, Protocol, Secret, SslPolicy};
pub use load_balancer::{
    AccessLog, AccessLogFormat, AccessLogSink, AdminAddress, DesyncMitigationMode, LoadBalancer,
    Workers, XffHeaderProcessing,
};
pub use name::{Generation, LoadBalancerName, TargetGroupName};
pub use rule::{Priority, Rule, Transform};
pub use target_group::{
    Algorithm, ProtocolVersion, Stickiness, Target, TargetGroup, TargetId, UpstreamTls,
};

/// One whole configuration: what `config` reads, what `control` applies.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the operator's door opens; loopback unless said otherwise.
    pub admin: AdminAddress,
    /// How many data-plane threads run.
    pub workers: Workers,
    /// Attributes that hold for every listener.
    pub load_balancer: LoadBalancer,
    /// The front doors, one for each port.
    pub listeners: Vec<Listener>,
    /// The groups that rules forward to.
    pub target_groups: Vec<TargetGroup>,
}

impl Config {
    /// The target group of this name.
    pub fn target_group(&self, name: &TargetGroupName) -> Option<&TargetGroup> {
        self.target_groups.iter().find(|group| group.name == *name)
    }
}
