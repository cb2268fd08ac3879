//! Writes the header in front of a connection to a target.

use std::net::IpAddr;

use super::{Carried, FIXED_LEN, SIGNATURE};
use crate::model::ProxyProtocolVersion;

/// Bytes of the longest header that is written here, a line.
const LEN_MAX: usize = 107;

/// The header of a connection.
pub(crate) fn write(version: ProxyProtocolVersion, carried: Carried) -> Vec<u8> {
    let mut header = Vec::with_capacity(LEN_MAX);
    match version {
        ProxyProtocolVersion::V1 => write_v1(&mut header, carried),
        ProxyProtocolVersion::V2 => write_v2(&mut header, carried),
    }
    header
}

fn write_v1(header: &mut Vec<u8>, carried: Carried) {
    let line = match carried {
        Carried::Own => "PROXY UNKNOWN\r\n".to_owned(),
        Carried::For {
            source,
            destination,
        } => {
            let (family, source_ip, destination_ip) =
                match of_one_family(source.ip(), destination.ip()) {
                    (source, destination) if source.is_ipv4() => ("TCP4", source, destination),
                    (source, destination) => ("TCP6", source, destination),
                };
            let ports = (source.port(), destination.port());
            format!(
                "PROXY {family} {source_ip} {destination_ip} {} {}\r\n",
                ports.0, ports.1
            )
        }
    };
    header.extend_from_slice(line.as_bytes());
}

fn write_v2(header: &mut Vec<u8>, carried: Carried) {
    header.extend_from_slice(SIGNATURE);
    let Carried::For {
        source,
        destination,
    } = carried
    else {
        header.extend_from_slice(&[0x20, 0x00, 0, 0]);
        return;
    };
    let (source_ip, destination_ip) = of_one_family(source.ip(), destination.ip());
    let (family, length) = match source_ip {
        IpAddr::V4(_) => (0x11, 12),
        IpAddr::V6(_) => (0x21, 36),
    };
    header.extend_from_slice(&[0x21, family, 0, length]);
    for ip in [source_ip, destination_ip] {
        match ip {
            IpAddr::V4(ip) => header.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => header.extend_from_slice(&ip.octets()),
        }
    }
    for end in [source, destination] {
        header.extend_from_slice(&end.port().to_be_bytes());
    }
    debug_assert_eq!(header.len(), FIXED_LEN + usize::from(length));
}

/// The header has one family for both; an IPv4 address beside an IPv6 one is written as the latter.
fn of_one_family(source: IpAddr, destination: IpAddr) -> (IpAddr, IpAddr) {
    let mapped = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
        IpAddr::V6(_) => ip,
    };
    match source.is_ipv4() == destination.is_ipv4() {
        true => (source, destination),
        false => (mapped(source), mapped(destination)),
    }
}
