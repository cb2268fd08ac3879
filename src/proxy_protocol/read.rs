//! Reads the header in front of a connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Carried, FIXED_LEN, SIGNATURE};

/// Longest line of version 1 (§2.1).
const V1_MAX: usize = 107;

/// Longest header: one of version 2 with what others add to addresses, up to a client's certificate.
pub(crate) const HEADER_MAX: usize = 4096;

/// Bytes that begin no header, or one that nobody may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads the header that `bytes` begin with, and says how many of them are the header's; `None` while it is not whole.
// Of the crates that do this, one keeps every field of it on the heap, and the others take `+80` for a port, one of them
// any sixth byte for the space. What is read here is believed, so it is read to the letter.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Carried, usize)>, Malformed> {
    if bytes.first() == SIGNATURE.first() {
        read_v2(bytes)
    } else {
        read_v1(bytes)
    }
}

fn read_v1(bytes: &[u8]) -> Result<Option<(Carried, usize)>, Malformed> {
    const PREFIX: &[u8] = b"PROXY ";
    begins_as(bytes, PREFIX)?;
    let Some(end) = bytes.iter().take(V1_MAX).position(|&byte| byte == b'\r') else {
        return part_of(V1_MAX, bytes);
    };
    match bytes.get(end + 1) {
        _ if end + 2 > V1_MAX || end < PREFIX.len() => return Err(Malformed),
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(Malformed),
    }
    let line = str::from_utf8(&bytes[PREFIX.len()..end]).map_err(|_| Malformed)?;
    let mut words = line.split(' ');
    let carried = match words.next() {
        // What follows is to be ignored.
        Some("UNKNOWN") => return Ok(Some((Carried::Own, end + 2))),
        Some("TCP4") => addresses::<Ipv4Addr>(&mut words),
        Some("TCP6") => addresses::<Ipv6Addr>(&mut words),
        _ => None,
    };
    match (carried, words.next()) {
        (Some(carried), None) => Ok(Some((carried, end + 2))),
        _ => Err(Malformed),
    }
}

fn addresses<'a, A>(words: &mut impl Iterator<Item = &'a str>) -> Option<Carried>
where
    A: FromStr + Into<IpAddr>,
{
    let mut ip = || words.next()?.parse::<A>().ok().map(Into::into);
    let (source, destination) = (ip()?, ip()?);
    let mut port = || port(words.next()?);
    Some(Carried::For {
        source: SocketAddr::new(source, port()?),
        destination: SocketAddr::new(destination, port()?),
    })
}

/// Digits without a sign and without zeros before them (§2.1).
fn port(word: &str) -> Option<u16> {
    let plain = word == "0" || !word.starts_with(['0', '+']);
    word.parse().ok().filter(|_| plain)
}

fn read_v2(bytes: &[u8]) -> Result<Option<(Carried, usize)>, Malformed> {
    begins_as(bytes, SIGNATURE)?;
    let Some(fixed) = bytes.first_chunk::<FIXED_LEN>() else {
        return Ok(None);
    };
    let [.., command, family, high, low] = *fixed;
    let length = FIXED_LEN + usize::from(u16::from_be_bytes([high, low]));
    // §2.2: of LOCAL everything else is to be ignored, the family too. Only a stream can have come over TCP.
    let addresses_len = match (command, family) {
        (0x20, _) | (0x21, 0x00) => 0,
        (0x21, 0x11) => 12,
        (0x21, 0x21) => 36,
        (0x21, 0x31) => 216,
        _ => return Err(Malformed),
    };
    if length > HEADER_MAX || length < FIXED_LEN + addresses_len {
        return Err(Malformed);
    }
    let Some(rest) = bytes.get(FIXED_LEN..length) else {
        return Ok(None);
    };
    let carried = match (command, family) {
        (0x21, 0x11) => binary_addresses::<4>(rest),
        (0x21, 0x21) => binary_addresses::<16>(rest),
        _ => Some(Carried::Own),
    };
    Ok(Some((carried.ok_or(Malformed)?, length)))
}

/// Two addresses of so many bytes, then two ports. What follows are TLVs, which nobody here needs.
fn binary_addresses<const LEN: usize>(bytes: &[u8]) -> Option<Carried>
where
    IpAddr: From<[u8; LEN]>,
{
    let (source, rest) = bytes.split_first_chunk::<LEN>()?;
    let (destination, rest) = rest.split_first_chunk::<LEN>()?;
    let (source_port, rest) = rest.split_first_chunk()?;
    let (destination_port, _) = rest.split_first_chunk()?;
    let end =
        |ip: &[u8; LEN], port: &[u8; 2]| SocketAddr::new((*ip).into(), u16::from_be_bytes(*port));
    Some(Carried::For {
        source: end(source, source_port),
        destination: end(destination, destination_port),
    })
}

fn begins_as(bytes: &[u8], prefix: &[u8]) -> Result<(), Malformed> {
    let known = bytes.len().min(prefix.len());
    match bytes[..known] == prefix[..known] {
        true => Ok(()),
        false => Err(Malformed),
    }
}

/// A beginning of something that may have so many bytes.
fn part_of<T>(most: usize, bytes: &[u8]) -> Result<Option<T>, Malformed> {
    match bytes.len() < most {
        true => Ok(None),
        false => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use ppp::PartialResult;
    use proptest::prelude::*;

    use super::*;
    use crate::model::ProxyProtocolVersion::{V1, V2};
    use crate::proxy_protocol::write;

    fn carried(source: &str, destination: &str) -> Carried {
        Carried::For {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    /// A header of version 2: command, family, and what follows the length.
    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
    }

    /// Reads a header that has something behind it, and each beginning of it, which is none yet.
    fn reads(header: &[u8]) -> Carried {
        let with_more = [header, b"GET /"].concat();
        let (carried, length) = read(&with_more).unwrap().unwrap();
        assert_eq!(length, header.len());
        for part in 0..header.len() {
            assert_eq!(read(&header[..part]), Ok(None), "{part}");
        }
        carried
    }

    #[test]
    fn a_line_names_client_and_destination() {
        assert_eq!(
            reads(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"),
            carried("192.0.2.1:56324", "198.51.100.2:443")
        );
        assert_eq!(
            reads(b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n"),
            carried("[2001:db8::1]:0", "[::1]:65535")
        );
        let full = "ffff:".repeat(7) + "ffff";
        let longest = format!("PROXY TCP6 {full} {full} 65535 65535\r\n");
        reads(longest.as_bytes());
        assert_eq!(reads(b"PROXY UNKNOWN\r\n"), Carried::Own);
        let rest = format!("PROXY UNKNOWN {full} {full} 65535 65535\r\n");
        assert_eq!(rest.len(), V1_MAX);
        assert_eq!(reads(rest.as_bytes()), Carried::Own);
    }

    #[test]
    fn a_line_is_taken_to_the_letter() {
        for line in [
            "PROXYXTCP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1  198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
            "PROXY\r\n",
            "PROXY UNKNOWN\rX",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n\r\n",
            "GET / HTTP/1.1\r\n",
            "\u{16}\u{3}\u{1}",
        ] {
            assert_eq!(read(line.as_bytes()), Err(Malformed), "{line:?}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_MAX - 15));
        assert_eq!(read(long.as_bytes()), Err(Malformed));
        assert_eq!(read(&long.as_bytes()[..V1_MAX]), Err(Malformed));
        assert_eq!(read(&long.as_bytes()[..V1_MAX - 1]), Ok(None));
    }

    #[test]
    fn a_binary_header_names_them_too_and_what_follows_is_skipped() {
        let addresses = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 4, 1, 0xbb];
        let expected = carried("192.0.2.1:56324", "198.51.100.2:443");
        assert_eq!(reads(&binary(0x21, 0x11, &addresses)), expected);
        // A TLV, and one that lies about its length.
        for more in [&[4, 0, 2, 0, 0][..], &[0xea, 0xff, 0xff]] {
            let rest = [&addresses[..], more].concat();
            assert_eq!(reads(&binary(0x21, 0x11, &rest)), expected);
        }
        let mut rest = [0; 36];
        (rest[15], rest[31], rest[33], rest[35]) = (1, 2, 3, 4);
        let expected = carried("[::1]:3", "[::2]:4");
        assert_eq!(reads(&binary(0x21, 0x21, &rest)), expected);
        let largest = vec![0; HEADER_MAX - FIXED_LEN];
        reads(&binary(0x21, 0x21, &largest));
    }

    #[test]
    fn a_proxy_of_its_own_names_nobody() {
        for (command, family, length) in [
            (0x20, 0x00, 0),
            (0x20, 0x11, 12),
            (0x20, 0x77, 3),
            (0x21, 0x00, 0),
            (0x21, 0x00, 5),
            (0x21, 0x31, 216),
        ] {
            let header = binary(command, family, &vec![7; length]);
            assert_eq!(reads(&header), Carried::Own, "{command:x} {family:x}");
        }
    }

    #[test]
    fn a_binary_header_is_taken_to_the_letter() {
        for (command, family, length) in [
            (0x11, 0x11, 12),
            (0x22, 0x11, 12),
            (0x31, 0x11, 12),
            (0x01, 0x11, 12),
            (0x21, 0x10, 12),
            (0x21, 0x12, 12),
            (0x21, 0x22, 36),
            (0x21, 0x32, 216),
            (0x21, 0x41, 216),
            (0x21, 0x11, 11),
            (0x21, 0x21, 35),
            (0x21, 0x31, 215),
            (0x21, 0x11, HEADER_MAX - FIXED_LEN + 1),
            (0x20, 0x00, usize::from(u16::MAX)),
        ] {
            let header = binary(command, family, &vec![0; length]);
            assert_eq!(
                read(&header),
                Err(Malformed),
                "{command:x} {family:x} {length}"
            );
            // As soon as that can be told.
            assert_eq!(read(&header[..FIXED_LEN]), Err(Malformed));
        }
        assert_eq!(read(b"\r\n\r\n\0\r\nQUIT\r"), Err(Malformed));
        assert_eq!(read(b"\r\n\r\nGET"), Err(Malformed));
    }

    /// What the crate `ppp` makes of these bytes: the addresses and how many bytes they take; `None` while not whole.
    fn ppp(bytes: &[u8]) -> Result<Option<(Carried, usize)>, ()> {
        use ppp::{HeaderResult, v1, v2};
        let carried = |source: (IpAddr, u16), destination: (IpAddr, u16)| Carried::For {
            source: source.into(),
            destination: destination.into(),
        };
        match HeaderResult::parse(bytes) {
            parsed if parsed.is_incomplete() => Ok(None),
            HeaderResult::V1(Ok(header)) => {
                let carried = match header.addresses {
                    v1::Addresses::Unknown => Carried::Own,
                    v1::Addresses::Tcp4(ip) => carried(
                        (ip.source_address.into(), ip.source_port),
                        (ip.destination_address.into(), ip.destination_port),
                    ),
                    v1::Addresses::Tcp6(ip) => carried(
                        (ip.source_address.into(), ip.source_port),
                        (ip.destination_address.into(), ip.destination_port),
                    ),
                };
                Ok(Some((carried, header.header.len())))
            }
            HeaderResult::V2(Ok(header)) => {
                let carried = match (header.command, header.addresses) {
                    (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => carried(
                        (ip.source_address.into(), ip.source_port),
                        (ip.destination_address.into(), ip.destination_port),
                    ),
                    (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => carried(
                        (ip.source_address.into(), ip.source_port),
                        (ip.destination_address.into(), ip.destination_port),
                    ),
                    _ => Carried::Own,
                };
                Ok(Some((carried, header.header.len())))
            }
            HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Err(()),
        }
    }

    fn address() -> impl Strategy<Value = SocketAddr> {
        prop_oneof![
            any::<(Ipv4Addr, u16)>().prop_map(SocketAddr::from),
            any::<(Ipv6Addr, u16)>().prop_map(SocketAddr::from),
        ]
    }

    proptest! {
        #[test]
        fn another_reader_understands_what_we_write_as_we_do(
            source in address(),
            destination in address(),
            more in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            for version in [V1, V2] {
                for carried in [Carried::Own, Carried::For { source, destination }] {
                    let header = write(version, carried);
                    let with_more = [header.as_slice(), &more].concat();
                    let read = read(&with_more);
                    prop_assert!(matches!(read, Ok(Some((_, length))) if length == header.len()));
                    prop_assert_eq!(read.map_err(drop), ppp(&with_more));
                }
            }
        }

        /// It takes more than we do, never less and never otherwise.
        #[test]
        fn another_reader_takes_nothing_otherwise(
            source in address(),
            destination in address(),
            version in prop_oneof![Just(V1), Just(V2)],
            spoilt in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let mut bytes = write(version, Carried::For { source, destination });
            for (place, byte) in spoilt {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes.extend_from_slice(&[0; 300]);
            if let Ok(Some(read)) = read(&bytes) {
                prop_assert_eq!(ppp(&bytes), Ok(Some(read)));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let _ = read(&[SIGNATURE.as_slice(), &bytes].concat());
            let _ = read(&[b"PROXY TCP4 ", bytes.as_slice(), b"\r\n"].concat());
        }
    }
}
