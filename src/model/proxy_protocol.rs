//! The PROXY protocol: who may say whose connection it carries, and how targets are told.

use ipnet::IpNet;

use super::spelled::spelled;

/// Clients of a listener come through other load balancers, each connection with a header that says whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Networks whose headers are believed; connections from elsewhere are refused.
    pub trusted: Vec<IpNet>,
}

/// Version of the header that targets get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocolVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

spelled!(ProxyProtocolVersion, "a version of the PROXY protocol", {
    V1 => "v1",
    V2 => "v2",
});
