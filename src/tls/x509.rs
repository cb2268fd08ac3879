//! Reads the few fields of an X.509 certificate that albedo needs (RFC 5280 §4.1): names, dates, issuer, public key.
//! Never judges trust: signatures and chains are verified by rustls.

use std::net::IpAddr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::validity::Validity;

/// The fields of one certificate, borrowed from its DER.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    pub(super) issuer: &'a [u8],
    pub(super) subject: &'a [u8],
    /// SubjectPublicKeyInfo with its own header.
    pub(super) public_key: &'a [u8],
    pub(super) signature: Signature<'a>,
    validity: &'a [u8],
    extensions: &'a [u8],
}

/// What an issuer has put under a certificate.
#[derive(Debug)]
pub(super) struct Signature<'a> {
    /// Everything but the signature, with its own header.
    pub(super) message: &'a [u8],
    /// The algorithm's identifier without header.
    pub(super) algorithm: &'a [u8],
    pub(super) bytes: &'a [u8],
}

/// A public key's kind, in the order in which ALB prefers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KeyKind {
    Ecdsa,
    Rsa,
    Other,
}

/// Why the names of a certificate cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameError {
    /// The extension is no DER.
    Malformed,
    /// A name has bytes that no host name has, such as NUL.
    Unprintable,
}

impl<'a> Certificate<'a> {
    /// `None` when the bytes are no X.509 certificate of any version.
    pub(super) fn parse(der: &'a [u8]) -> Option<Self> {
        let mut whole = Reader(Reader(der).expect(SEQUENCE)?);
        let message = whole.element()?;
        if message.tag != SEQUENCE {
            return None;
        }
        let signature = Signature {
            message: message.encoded,
            algorithm: whole.expect(SEQUENCE)?,
            // The first byte of a BIT STRING counts its unused bits.
            bytes: whole.expect(BIT_STRING)?.get(1..)?,
        };
        let mut body = Reader(message.content);
        // Absent in version 1, which old appliances still show.
        body.skip(VERSION)?;
        body.expect(INTEGER)?;
        body.expect(SEQUENCE)?;
        let issuer = body.expect(SEQUENCE)?;
        let validity = body.expect(SEQUENCE)?;
        let subject = body.expect(SEQUENCE)?;
        let public_key = body.element()?;
        if public_key.tag != SEQUENCE {
            return None;
        }
        let extensions = body.find(EXTENSIONS)?.unwrap_or_default();
        Some(Self {
            issuer,
            subject,
            public_key: public_key.encoded,
            signature,
            validity,
            extensions,
        })
    }

    /// The first and the last moment.
    pub(super) fn validity(&self) -> Option<Validity> {
        let mut validity = Reader(self.validity);
        let mut moment = || {
            let moment = validity.element()?;
            time(moment.tag, moment.content)
        };
        Some(Validity {
            not_before: moment()?,
            not_after: moment()?,
        })
    }

    /// The names for which the certificate stands: host names in lower case and addresses, in its order.
    pub(super) fn names(&self) -> Result<Vec<String>, NameError> {
        let Some(extension) = self.extension(SUBJECT_ALTERNATIVE_NAME)? else {
            return Ok(Vec::new());
        };
        let list = Reader(extension).expect(SEQUENCE);
        let mut alternatives = Reader(list.ok_or(NameError::Malformed)?);
        let mut names = Vec::new();
        while !alternatives.0.is_empty() {
            let name = alternatives.element().ok_or(NameError::Malformed)?;
            match name.tag {
                DNS_NAME => names.push(host_name(name.content)?),
                IP_ADDRESS => {
                    let address = address(name.content).ok_or(NameError::Malformed)?;
                    names.push(address.to_string());
                }
                // E-mail addresses and URIs name no server.
                _ => {}
            }
        }
        Ok(names)
    }

    /// Kind and length in bits of the public key; length 0 for kinds that are not ranked.
    pub(super) fn key(&self) -> Option<(KeyKind, usize)> {
        let mut info = Reader(Reader(self.public_key).expect(SEQUENCE)?);
        let mut algorithm = Reader(info.expect(SEQUENCE)?);
        match algorithm.expect(OBJECT_IDENTIFIER)? {
            RSA_ENCRYPTION => {
                // The first byte of a BIT STRING counts its unused bits.
                let key = info.expect(BIT_STRING)?.get(1..)?;
                let modulus = Reader(Reader(key).expect(SEQUENCE)?).expect(INTEGER)?;
                Some((KeyKind::Rsa, bits(modulus)))
            }
            EC_PUBLIC_KEY => match algorithm.expect(OBJECT_IDENTIFIER)? {
                SECP256R1 => Some((KeyKind::Ecdsa, 256)),
                SECP384R1 => Some((KeyKind::Ecdsa, 384)),
                SECP521R1 => Some((KeyKind::Ecdsa, 521)),
                _ => Some((KeyKind::Ecdsa, 0)),
            },
            _ => Some((KeyKind::Other, 0)),
        }
    }

    fn extension(&self, wanted: &[u8]) -> Result<Option<&'a [u8]>, NameError> {
        if self.extensions.is_empty() {
            return Ok(None);
        }
        let list = Reader(self.extensions).expect(SEQUENCE);
        let mut list = Reader(list.ok_or(NameError::Malformed)?);
        while !list.0.is_empty() {
            let (identifier, value) = extension(&mut list).ok_or(NameError::Malformed)?;
            if identifier == wanted {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

fn extension<'a>(list: &mut Reader<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let mut extension = Reader(list.expect(SEQUENCE)?);
    let identifier = extension.expect(OBJECT_IDENTIFIER)?;
    extension.skip(BOOLEAN)?;
    Some((identifier, extension.expect(OCTET_STRING)?))
}

/// NUL and the like once let a certificate stand for another's name, so nothing but visible ASCII passes.
fn host_name(bytes: &[u8]) -> Result<String, NameError> {
    if !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(NameError::Unprintable);
    }
    Ok(String::from_utf8_lossy(bytes).to_ascii_lowercase())
}

/// Splits a SubjectPublicKeyInfo into the identifier of its algorithm, without header, and the key's own bytes.
pub(super) fn split_public_key(info: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut info = Reader(Reader(info).expect(SEQUENCE)?);
    let algorithm = info.expect(SEQUENCE)?;
    let key = info.expect(BIT_STRING)?.get(1..)?;
    Some((algorithm, key))
}

/// UTCTime or GeneralizedTime, always in UTC with seconds (RFC 5280 §4.1.2.5).
fn time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let digits = text.strip_suffix(b"Z")?;
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => match number(&digits[..2])? {
            year @ 50.. => (1900 + year, &digits[2..]),
            year => (2000 + year, &digits[2..]),
        },
        (GENERALIZED_TIME, 14) => (number(&digits[..4])?, &digits[4..]),
        _ => return None,
    };
    let part = |index: usize| i8::try_from(number(&rest[index * 2..index * 2 + 2])?).ok();
    let moment = DateTime::new(year, part(0)?, part(1)?, part(2)?, part(3)?, part(4)?, 0).ok()?;
    // 99991231235959Z means "no end" and lies beyond what a timestamp can say.
    Some(TimeZone::UTC.to_timestamp(moment).unwrap_or(Timestamp::MAX))
}

fn number(digits: &[u8]) -> Option<i16> {
    digits.iter().try_fold(0, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + i16::from(digit - b'0'))
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn bits(integer: &[u8]) -> usize {
    let mut significant = integer;
    while let [0, rest @ ..] = significant {
        significant = rest;
    }
    significant.first().map_or(0, |first| {
        significant.len() * 8 - first.leading_zeros() as usize
    })
}

/// Reads DER elements from the front of a slice (X.690 §10.1: definite lengths alone).
struct Reader<'a>(&'a [u8]);

struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    encoded: &'a [u8],
}

impl<'a> Reader<'a> {
    fn element(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let length = match first {
            0..=0x7f => usize::from(first),
            0x81..=0x84 => {
                let (digits, content) = rest.split_at_checked(usize::from(first & 0x7f))?;
                rest = content;
                digits
                    .iter()
                    .fold(0, |length, digit| length << 8 | usize::from(*digit))
            }
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        let encoded = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some(Element {
            tag,
            content,
            encoded,
        })
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let element = self.element()?;
        (element.tag == tag).then_some(element.content)
    }

    /// Passes over an optional element; `None` when it is there and malformed.
    fn skip(&mut self, tag: u8) -> Option<()> {
        if self.0.first() == Some(&tag) {
            self.element()?;
        }
        Some(())
    }

    /// Looks for an element among the ones that remain.
    fn find(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        while !self.0.is_empty() {
            let element = self.element()?;
            if element.tag == tag {
                return Some(Some(element.content));
            }
        }
        Some(None)
    }
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]` of TBSCertificate.
const VERSION: u8 = 0xa0;
/// `[3]` of TBSCertificate.
const EXTENSIONS: u8 = 0xa3;
/// `[2]` and `[7]` of GeneralName.
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const SECP256R1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const SECP384R1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const SECP521R1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    /// The older form of a key, which PKCS#8 only wraps (RFC 5958 §2).
    pub(in crate::tls) fn inside_pkcs8(der: &[u8]) -> &[u8] {
        let mut wrapping = Reader(Reader(der).expect(SEQUENCE).unwrap());
        wrapping.find(OCTET_STRING).unwrap().unwrap()
    }

    /// The same certificate without version and extensions; its signature no longer holds.
    pub(in crate::tls) fn as_version_1(der: &[u8]) -> Vec<u8> {
        let mut whole = Reader(Reader(der).expect(SEQUENCE).unwrap());
        let mut body = Reader(whole.expect(SEQUENCE).unwrap());
        body.skip(VERSION).unwrap();
        let fields: Vec<u8> = std::iter::from_fn(|| body.element())
            .filter(|field| field.tag != EXTENSIONS)
            .flat_map(|field| field.encoded.to_vec())
            .collect();
        sequence(&[sequence(&fields), whole.0.to_vec()].concat())
    }

    fn sequence(content: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[SEQUENCE, 0x82, high, low], content].concat()
    }

    fn sample(names: &[&str]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2030, 1, 2);
        parameters.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn names_are_host_names_in_lower_case_and_addresses() {
        let der = sample(&["A.Example.com", "*.example.com", "127.0.0.1", "2001:db8::1"]);
        let names = Certificate::parse(&der).unwrap().names().unwrap();
        let expected = ["a.example.com", "*.example.com", "127.0.0.1", "2001:db8::1"];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_certificate_without_alternative_names_has_no_name() {
        assert_eq!(
            Certificate::parse(&sample(&[])).unwrap().names(),
            Ok(vec![])
        );
    }

    #[test]
    fn a_name_with_nul_is_refused() {
        let mut parameters = CertificateParams::default();
        let name = "good.example\0.evil.example".try_into().unwrap();
        parameters.subject_alt_names = vec![SanType::DnsName(name)];
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let names = Certificate::parse(certificate.der()).unwrap().names();
        assert_eq!(names, Err(NameError::Unprintable));
    }

    #[test]
    fn the_dates_are_read() {
        let der = sample(&["a.example"]);
        let validity = Certificate::parse(&der).unwrap().validity().unwrap();
        let expected = Validity {
            not_before: "2030-01-02T00:00:00Z".parse().unwrap(),
            not_after: "2031-02-03T00:00:00Z".parse().unwrap(),
        };
        assert_eq!(validity, expected);
    }

    #[test]
    fn both_forms_of_time_are_understood() {
        let parse = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let utc = |text: &str| time(UTC_TIME, text.as_bytes());
        let general = |text: &str| time(GENERALIZED_TIME, text.as_bytes());
        assert_eq!(utc("491231235959Z"), parse("2049-12-31T23:59:59Z"));
        assert_eq!(utc("500101000000Z"), parse("1950-01-01T00:00:00Z"));
        assert_eq!(general("20500101000000Z"), parse("2050-01-01T00:00:00Z"));
        assert_eq!(general("99991231235959Z"), Some(Timestamp::MAX));
        for bad in [
            "",
            "Z",
            "4912312359Z",
            "491331235959Z",
            "49123123595xZ",
            "491231235959",
        ] {
            assert_eq!(utc(bad), None, "{bad}");
        }
        assert_eq!(general("491231235959Z"), None);
    }

    #[test]
    fn keys_are_told_apart_by_kind_and_length() {
        let of = |key: &KeyPair| {
            let certificate = CertificateParams::default().self_signed(key).unwrap();
            Certificate::parse(certificate.der())
                .unwrap()
                .key()
                .unwrap()
        };
        let generate = |algorithm| KeyPair::generate_for(algorithm).unwrap();
        let p256 = generate(&rcgen::PKCS_ECDSA_P256_SHA256);
        let p384 = generate(&rcgen::PKCS_ECDSA_P384_SHA384);
        let p521 = generate(&rcgen::PKCS_ECDSA_P521_SHA512);
        let rsa = generate(&rcgen::PKCS_RSA_SHA256);
        let edwards = generate(&rcgen::PKCS_ED25519);
        assert_eq!(of(&p256), (KeyKind::Ecdsa, 256));
        assert_eq!(of(&p384), (KeyKind::Ecdsa, 384));
        assert_eq!(of(&p521), (KeyKind::Ecdsa, 521));
        assert_eq!(of(&rsa), (KeyKind::Rsa, 2048));
        assert_eq!(of(&edwards), (KeyKind::Other, 0));
    }

    fn read_everything(der: &[u8]) {
        let Some(certificate) = Certificate::parse(der) else {
            return;
        };
        let _ = (
            certificate.validity(),
            certificate.names(),
            certificate.key(),
        );
        let _ = split_public_key(certificate.public_key);
    }

    #[test]
    fn a_certificate_cut_anywhere_is_refused() {
        let der = sample(&["a.example"]);
        for length in 0..der.len() {
            assert!(Certificate::parse(&der[..length]).is_none(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read_everything(&bytes);
        }

        #[test]
        fn a_damaged_certificate_never_panics(place in 0usize..1000, value in any::<u8>()) {
            let mut der = SAMPLE.with(Clone::clone);
            let place = place % der.len();
            der[place] = value;
            read_everything(&der);
        }
    }

    thread_local! {
        static SAMPLE: Vec<u8> = sample(&["a.example", "10.0.0.1"]);
    }
}
