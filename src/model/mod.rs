//! What the user said: ELBv2's data model as types. A value that exists is valid.
//! Never opens a file or a socket, never knows tokio or hyper.

mod action;
mod condition;
pub mod duration;
mod health_check;
mod invalid;
mod limits;
mod listener;
mod load_balancer;
mod name;
mod pattern;
mod proxy_protocol;
mod rule;
mod shutdown;
mod spelled;
mod ssl_policy;
mod target;
mod target_group;

pub use action::{
    Action, Actions, FixedResponse, Forward, Redirect, RedirectStatus, WeightedTargetGroup,
};
pub use condition::{Condition, QueryPattern};
pub use health_check::{HealthCheck, HealthCheckPort, Matcher};
pub use invalid::Invalid;
pub(crate) use invalid::{nearest, quoted};
pub use limits::{BodyRate, Limits, RequestRate};
pub use listener::{Certificate, Listener, Pem, Protocol, Secret};
pub use load_balancer::{
    AccessLog, AccessLogFormat, AccessLogSink, AdminAddress, CookieKeys, DesyncMitigationMode,
    LoadBalancer, Workers, XffHeaderProcessing,
};
pub use name::{Generation, LoadBalancerName, TargetGroupName};
pub use pattern::{HeaderNamePattern, HostPattern, MethodPattern, PathPattern, TextPattern};
pub use proxy_protocol::{ProxyProtocol, ProxyProtocolVersion};
pub use rule::{Priority, Rule, Transform};
pub use shutdown::Shutdown;
pub(crate) use spelled::alternatives;
pub use ssl_policy::SslPolicy;
pub use target::{Target, TargetId};
pub use target_group::{Algorithm, ProtocolVersion, Stickiness, TargetGroup, UpstreamTls};

/// One whole configuration: what `config` reads, what `control` applies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Where the operator's door opens; loopback unless said otherwise.
    pub admin: AdminAddress,
    /// How many data-plane threads run.
    pub workers: Workers,
    /// How it ends when it is told to.
    pub shutdown: Shutdown,
    /// What clients may take of it.
    pub limits: Limits,
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
