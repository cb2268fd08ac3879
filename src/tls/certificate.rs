//! PEM text into a certificate chain with its key, ready for handshakes, with its names and its end.
//! Never judges whether clients will trust it: an expired certificate loads, as ALB serves it too.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use jiff::Timestamp;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

use super::Error;
use super::validity::Validity;
use super::x509::{self, KeyKind, NameError};
use crate::model::{self, Pem};

/// A chain and its key, checked to belong together.
pub(crate) struct Loaded {
    /// What the handshake signs with.
    pub(crate) key: Arc<CertifiedKey>,
    /// The leaf's alternative names: host names in lower case, wildcards as written, addresses.
    pub(crate) names: Vec<String>,
    /// When each certificate of the chain is good, the leaf first.
    pub(super) validity: Vec<Validity>,
    pub(super) kind: KeyKind,
    pub(super) bits: usize,
}

/// A chain and its key as they were read; nothing is known of them yet.
pub(super) struct Pair {
    file: String,
    key_file: String,
    chain: Vec<u8>,
    key: Vec<u8>,
}

/// Tells the content of one file from another's, without keeping either.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; SHA256_OUTPUT_LEN]);

impl Fingerprint {
    pub(super) fn of(content: &[u8]) -> Self {
        let mut fingerprint = [0; SHA256_OUTPUT_LEN];
        fingerprint.copy_from_slice(digest(&SHA256, content).as_ref());
        Self(fingerprint)
    }
}

impl AsRef<[u8]> for Fingerprint {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Reads a chain and its key.
pub(super) fn read_pair(certificate: &model::Certificate) -> Result<Pair, Error> {
    let file = file_of(&certificate.certificate, "the given certificate");
    let key_file = file_of(&certificate.key, "the given key");
    Ok(Pair {
        chain: read(&certificate.certificate, &file)?,
        key: read(&certificate.key, &key_file)?,
        file,
        key_file,
    })
}

impl Pair {
    /// What errors call the chain.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn fingerprints(&self) -> [Fingerprint; 2] {
        [&self.chain, &self.key].map(|content| Fingerprint::of(content))
    }

    /// Makes them ready for handshakes; every fault is named with its file.
    pub(super) fn load(&self) -> Result<Loaded, Error> {
        let Self { file, key_file, .. } = self;
        let chain = chain_of(&self.chain, file)?;
        let key = key_of(&self.key, key_file)?;
        let validity = check_order(&chain, file)?;
        check_match(&chain, key.as_ref(), file, key_file)?;

        let leaf = x509::Certificate::parse(&chain[0]).ok_or_else(|| unreadable(file, 0))?;
        let names = leaf.names().map_err(|error| match error {
            NameError::Malformed => unreadable(file, 0),
            NameError::Unprintable => Error::UnprintableName { file: file.clone() },
        })?;
        let (kind, bits) = leaf.key().ok_or_else(|| unreadable(file, 0))?;
        Ok(Loaded {
            key: Arc::new(CertifiedKey::new(chain, key)),
            names,
            validity,
            kind,
            bits,
        })
    }
}

/// Makes a certificate that vouches for itself: the PEM of the certificate, then that of its key.
pub(crate) fn self_signed(names: &[&str]) -> Result<(String, String), Error> {
    self_signed_at(names, Timestamp::now())
}

/// Every certificate of a PEM text, at least one.
pub(super) fn chain_of(text: &[u8], file: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| broken(file, &error))?;
    if chain.is_empty() {
        return Err(nothing_in(text, file, || Error::NoCertificate {
            file: file.to_owned(),
        }));
    }
    Ok(chain)
}

/// How error messages call the source of a PEM text.
pub(super) fn file_of(pem: &Pem, inline: &str) -> String {
    match pem {
        Pem::File(path) => path.display().to_string(),
        Pem::Inline(_) => inline.to_owned(),
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("names", &self.names)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

fn key_of(text: &[u8], file: &str) -> Result<Arc<dyn SigningKey>, Error> {
    // Before parsing: the legacy form has a header inside the section, which is no base64.
    if contains(text, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(text, b"Proc-Type: 4,ENCRYPTED") {
        return Err(Error::EncryptedKey {
            file: file.to_owned(),
        });
    }
    let mut keys = PrivateKeyDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| broken(file, &error))?;
    match (keys.pop(), keys.len()) {
        (None, _) => Err(nothing_in(text, file, || Error::NoKey {
            file: file.to_owned(),
        })),
        (Some(key), 0) => any_supported_type(&key).map_err(|_| Error::UnusableKey {
            file: file.to_owned(),
        }),
        (Some(_), others) => Err(Error::SeveralKeys {
            file: file.to_owned(),
            count: others + 1,
        }),
    }
}

impl Loaded {
    /// The end of the leaf's validity.
    pub(super) fn not_after(&self) -> Timestamp {
        self.validity[0].not_after
    }
}

/// Each certificate must have issued the one before it, as RFC 5246 §7.4.2 asks and older clients insist. Gives the
/// dates of each.
fn check_order(chain: &[CertificateDer<'static>], file: &str) -> Result<Vec<Validity>, Error> {
    let numbered = chain.iter().enumerate();
    let parsed = numbered
        .map(|(index, der)| x509::Certificate::parse(der).ok_or_else(|| unreadable(file, index)))
        .collect::<Result<Vec<_>, _>>()?;
    for (index, der) in chain.iter().enumerate().skip(1) {
        let (file, position) = (file.to_owned(), index + 1);
        if chain[..index].contains(der) {
            return Err(Error::RepeatedCertificate { file, position });
        }
        let before = &parsed[index - 1];
        if issued(&parsed[index], before) {
            continue;
        }
        let mut others = parsed.iter().enumerate().skip(index + 1);
        let issuer = others.find(|(_, other)| issued(other, before));
        return Err(match issuer {
            Some((issuer, _)) => Error::MisplacedIssuer {
                file,
                position,
                issuer: issuer + 1,
            },
            None => Error::BrokenChain { file, position },
        });
    }
    let dates = parsed.iter().map(x509::Certificate::validity).enumerate();
    let dates = dates.map(|(index, dates)| dates.ok_or_else(|| unreadable(file, index)));
    dates.collect()
}

/// Whether one certificate issued the other: its name stands there, and its key made the signature. What cannot be
/// verified, as it is too old or too new, is believed.
fn issued(issuer: &x509::Certificate<'_>, certificate: &x509::Certificate<'_>) -> bool {
    if issuer.subject != certificate.issuer {
        return false;
    }
    let Some((key_algorithm, key)) = x509::split_public_key(issuer.public_key) else {
        return true;
    };
    if matches!(issuer.key(), Some((KeyKind::Rsa, bits)) if !RSA_VERIFIED_BITS.contains(&bits)) {
        return true;
    }
    let signature = &certificate.signature;
    let known = default_provider().signature_verification_algorithms.all;
    let mut fitting = known.iter().filter(|algorithm| {
        algorithm.public_key_alg_id().as_ref() == key_algorithm
            && algorithm.signature_alg_id().as_ref() == signature.algorithm
    });
    fitting.next().is_none_or(|algorithm| {
        let verified = algorithm.verify_signature(key, signature.message, signature.bytes);
        verified.is_ok()
    })
}

fn check_match(
    chain: &[CertificateDer<'static>],
    key: &dyn SigningKey,
    file: &str,
    key_file: &str,
) -> Result<(), Error> {
    let public_key = key.public_key();
    let owner = chain.iter().position(|der| {
        let certificate = x509::Certificate::parse(der);
        certificate.map(|certificate| certificate.public_key) == public_key.as_deref()
    });
    match owner {
        Some(0) => Ok(()),
        Some(index) => Err(Error::LeafNotFirst {
            file: file.to_owned(),
            key_file: key_file.to_owned(),
            position: index + 1,
        }),
        None => Err(Error::KeyMismatch {
            file: key_file.to_owned(),
            certificate_file: file.to_owned(),
        }),
    }
}

/// The PEM text itself; `file` is what errors call it.
pub(super) fn read(pem: &Pem, file: &str) -> Result<Vec<u8>, Error> {
    let text = match pem {
        Pem::File(path) => read_file(path, file)?,
        Pem::Inline(secret) => secret.expose().to_vec(),
    };
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::Empty {
            file: file.to_owned(),
        });
    }
    Ok(text)
}

fn read_file(path: &Path, file: &str) -> Result<Vec<u8>, Error> {
    let unreadable = |cause| Error::Unreadable {
        file: file.to_owned(),
        cause,
    };
    let mut text = Vec::new();
    File::open(path)
        .map_err(unreadable)?
        .take(PEM_SIZE_MAX + 1)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > PEM_SIZE_MAX {
        return Err(Error::TooLarge {
            file: file.to_owned(),
            limit: PEM_SIZE_MAX,
        });
    }
    Ok(text)
}

fn unreadable(file: &str, index: usize) -> Error {
    Error::UnreadableCertificate {
        file: file.to_owned(),
        position: index + 1,
    }
}

/// The parser's own words quote lines of the file, which may be a key: ours do not.
fn broken(file: &str, error: &pem::Error) -> Error {
    let problem = match error {
        pem::Error::MissingSectionEnd { .. } => "an END line is missing or line breaks are lost",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line does not end in five hyphens",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "a section cannot be read",
    };
    Error::BrokenPem {
        file: file.to_owned(),
        problem,
    }
}

fn nothing_in(text: &[u8], file: &str, missing: impl Fn() -> Error) -> Error {
    if contains(text, b"-----BEGIN ") {
        return missing();
    }
    Error::NotPem {
        file: file.to_owned(),
    }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

fn self_signed_at(names: &[&str], now: Timestamp) -> Result<(String, String), Error> {
    let refused = |_| Error::SelfSigned {
        names: names.join(", "),
    };
    let texts: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut parameters = rcgen::CertificateParams::new(texts).map_err(refused)?;
    let name = names.first().copied().unwrap_or("albedo");
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let now = Duration::from_secs(now.as_second().unsigned_abs());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    parameters.not_before = epoch + now.saturating_sub(CLOCK_SKEW);
    parameters.not_after = epoch + now + SELF_SIGNED_LIFE;
    let key = rcgen::KeyPair::generate().map_err(refused)?;
    let certificate = parameters.self_signed(&key).map_err(refused)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Most bytes of a PEM file. A system's whole trust store has a quarter of a megabyte; a device file has no end.
const PEM_SIZE_MAX: u64 = 4 * 1024 * 1024;

/// Shorter and longer RSA keys verify nothing here.
const RSA_VERIFIED_BITS: RangeInclusive<usize> = 2048..=8192;

/// A self-signed certificate is made anew at each start, so it need not outlive the longest demonstration.
const SELF_SIGNED_LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How far a client's clock may lag behind ours.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    use super::*;
    use crate::model::Secret;

    /// Reads a chain and its key and makes them ready.
    pub(in crate::tls) fn load(certificate: &model::Certificate) -> Result<Loaded, Error> {
        read_pair(certificate)?.load()
    }

    pub(in crate::tls) fn inline(text: impl Into<String>) -> Pem {
        Pem::Inline(Secret::new(text.into().into_bytes()))
    }

    pub(in crate::tls) fn pair(chain: &str, key: &str) -> model::Certificate {
        model::Certificate {
            certificate: inline(chain),
            key: inline(key),
        }
    }

    /// A self-signed certificate of these names with a key of this algorithm, ending so many days from now.
    pub(in crate::tls) fn made(
        names: &[&str],
        algorithm: &'static rcgen::SignatureAlgorithm,
        days: i32,
    ) -> model::Certificate {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2100, 1, 1)
            + Duration::from_secs(60 * 60 * 24) * u32::try_from(days).unwrap();
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        pair(&certificate.pem(), &key.serialize_pem())
    }

    /// Root, intermediate and leaf, and the leaf's key.
    struct Chain {
        root: String,
        intermediate: String,
        leaf: String,
        key: String,
    }

    fn chain() -> Chain {
        let authority = |name: &str| {
            let mut parameters = CertificateParams::default();
            let names = &mut parameters.distinguished_name;
            names.push(rcgen::DnType::CommonName, name);
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            (parameters, KeyPair::generate().unwrap())
        };
        let (root, root_key) = authority("root");
        let (intermediate, intermediate_key) = authority("intermediate");
        let leaf = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let by_root = Issuer::from_params(&root, &root_key);
        let intermediate_pem = intermediate.signed_by(&intermediate_key, &by_root).unwrap();
        let by_intermediate = Issuer::from_params(&intermediate, &intermediate_key);
        Chain {
            root: root_pem,
            intermediate: intermediate_pem.pem(),
            leaf: leaf.signed_by(&key, &by_intermediate).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn message(certificate: &model::Certificate) -> String {
        load(certificate).unwrap_err().to_string()
    }

    fn pem_section(label: &str, der: &[u8]) -> String {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for three in der.chunks(3) {
            let value = three
                .iter()
                .fold(0u32, |value, byte| value << 8 | u32::from(*byte))
                << (8 * (3 - three.len()));
            for place in 0..4 {
                let digit = ALPHABET[(value >> (18 - 6 * place)) as usize & 63];
                text.push(if place > three.len() {
                    '='
                } else {
                    char::from(digit)
                });
            }
        }
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    }

    #[test]
    fn a_self_signed_certificate_loads_with_its_names_and_its_end() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let (chain, key) = self_signed_at(&["localhost", "127.0.0.1", "::1"], now).unwrap();
        let loaded = load(&pair(&chain, &key)).unwrap();
        assert_eq!(loaded.names, ["localhost", "127.0.0.1", "::1"]);
        assert_eq!(loaded.not_after(), "2026-04-01T00:00:00Z".parse().unwrap());
        assert_eq!((loaded.kind, loaded.bits), (KeyKind::Ecdsa, 256));
    }

    #[test]
    fn a_self_signed_certificate_for_no_host_name_is_refused() {
        let error = self_signed(&["größe.example"]).unwrap_err();
        assert!(error.to_string().contains("'größe.example'"), "{error}");
    }

    #[test]
    fn a_whole_chain_loads_from_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let made = chain();
        let text = [made.leaf, made.intermediate, made.root].concat();
        std::fs::write(path("chain.pem"), text).unwrap();
        std::fs::write(path("key.pem"), made.key).unwrap();
        let loaded = load(&model::Certificate {
            certificate: Pem::File(path("chain.pem")),
            key: Pem::File(path("key.pem")),
        })
        .unwrap();
        assert_eq!(loaded.key.cert.len(), 3);
        assert_eq!(loaded.names, ["a.example"]);
    }

    #[test]
    fn an_expired_certificate_loads_and_says_so() {
        let past: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
        let (chain, key) = self_signed_at(&["a.example"], past).unwrap();
        let loaded = load(&pair(&chain, &key)).unwrap();
        assert!(loaded.not_after() < Timestamp::now());
    }

    #[test]
    fn key_and_chain_may_share_one_text() {
        let (chain, key) = self_signed(&["a.example"]).unwrap();
        let both = format!("{key}\n{chain}");
        assert!(load(&pair(&both, &both)).is_ok());
    }

    #[test]
    fn keys_load_in_each_of_their_three_forms() {
        let forms = [
            (&rcgen::PKCS_ECDSA_P256_SHA256, "EC PRIVATE KEY"),
            (&rcgen::PKCS_RSA_SHA256, "RSA PRIVATE KEY"),
        ];
        for (algorithm, label) in forms {
            let parameters = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            let key = KeyPair::generate_for(algorithm).unwrap();
            let chain = parameters.self_signed(&key).unwrap().pem();
            let older = pem_section(label, x509::tests::inside_pkcs8(key.serialized_der()));
            assert!(load(&pair(&chain, &key.serialize_pem())).is_ok());
            assert!(load(&pair(&chain, &older)).is_ok(), "{label}");
            // `openssl ecparam -genkey` writes this section first.
            let after_parameters = pem_section("EC PARAMETERS", &[6, 0]) + &older;
            assert!(load(&pair(&chain, &after_parameters)).is_ok(), "{label}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let (_, key) = self_signed(&["a.example"]).unwrap();
        let message = message(&model::Certificate {
            certificate: Pem::File(PathBuf::from("/nowhere/chain.pem")),
            key: inline(key),
        });
        assert!(
            message.starts_with("/nowhere/chain.pem: cannot be read"),
            "{message}"
        );
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let (_, key) = self_signed(&["a.example"]).unwrap();
        let message = message(&model::Certificate {
            certificate: Pem::File(PathBuf::from("/dev/zero")),
            key: inline(key),
        });
        assert!(message.starts_with("/dev/zero: larger than"), "{message}");
    }

    #[test]
    fn every_fault_of_a_chain_says_what_is_wrong() {
        let made = chain();
        let (foreign, foreign_key) = self_signed(&["b.example"]).unwrap();
        // The same names, but other keys.
        let namesake = chain().intermediate;
        let Chain {
            root,
            intermediate,
            leaf,
            key,
        } = &made;
        let cut = &leaf[..leaf.len() / 2];
        let table = [
            (String::new(), key, "is empty"),
            (" \n\n".to_owned(), key, "is empty"),
            ("0\u{82}\u{1}".to_owned(), key, "is not PEM"),
            (key.clone(), key, "holds no 'BEGIN CERTIFICATE' section"),
            (cut.to_owned(), key, "an END line is missing"),
            (leaf.replace('\n', " "), key, "line breaks are lost"),
            (
                leaf.replacen("-----\n", "----\n", 1),
                key,
                "a BEGIN line does not end",
            ),
            (leaf.replace("MII", "M*I"), key, "a section is not base64"),
            (
                pem_section("CERTIFICATE", b"no DER"),
                key,
                "certificate 1 is not a readable",
            ),
            (
                format!("{leaf}{leaf}"),
                key,
                "certificate 2 repeats an earlier one",
            ),
            (
                format!("{leaf}{root}"),
                key,
                "certificate 2 did not issue the one before it",
            ),
            (
                format!("{intermediate}{leaf}"),
                key,
                "certificate 2 did not issue",
            ),
            (
                format!("{leaf}{root}{intermediate}"),
                key,
                "certificate 2 did not issue the one before it, but certificate 3 did",
            ),
            (
                format!("{leaf}{foreign}{intermediate}"),
                key,
                "certificate 2 did not issue the one before it, but certificate 3 did",
            ),
            (
                format!("{leaf}{intermediate}{leaf}"),
                key,
                "certificate 3 repeats an earlier one",
            ),
            (
                format!("{leaf}{namesake}"),
                key,
                "certificate 2 did not issue the one before it; order",
            ),
            (
                format!("{leaf}{foreign}"),
                key,
                "certificate 2 did not issue",
            ),
            (
                leaf.clone(),
                &foreign_key,
                "does not belong to the certificate in",
            ),
        ];
        for (text, key, expected) in table {
            let message = message(&pair(&text, key));
            assert!(message.contains(expected), "{message}, expected {expected}");
            assert!(message.contains("; "), "no remedy in {message}");
        }
    }

    #[test]
    fn a_key_that_belongs_to_a_later_certificate_tells_where_the_leaf_is() {
        let mut issuer = CertificateParams::default();
        issuer.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = issuer.self_signed(&key).unwrap();
        let leaf = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let by_root = Issuer::from_params(&issuer, &key);
        let leaf = leaf
            .signed_by(&KeyPair::generate().unwrap(), &by_root)
            .unwrap();
        let text = leaf.pem() + &root.pem();
        let message = message(&pair(&text, &key.serialize_pem()));
        assert!(message.contains("belongs to certificate 2"), "{message}");
    }

    #[test]
    fn every_fault_of_a_key_says_what_is_wrong_and_tells_no_secret() {
        let (chain, key) = self_signed(&["a.example"]).unwrap();
        let secret = key.lines().nth(1).unwrap();
        let table = [
            (String::new(), "is empty"),
            (chain.clone(), "holds no private key"),
            (secret.to_owned(), "is not PEM"),
            (key.repeat(2), "holds 2 private keys"),
            (key.replace('\n', ""), "line breaks are lost"),
            (
                key.replacen("-----\n", "----\n", 1),
                "a BEGIN line does not end",
            ),
            (key.replace("-----END", "END"), "an END line is missing"),
            (key.replace("MIG", "M*G"), "a section is not base64"),
            (key.replace("PRIVATE", "ENCRYPTED PRIVATE"), "is encrypted"),
            (
                key.replacen('\n', "\nProc-Type: 4,ENCRYPTED\n\n", 1),
                "is encrypted",
            ),
            (
                pem_section("PRIVATE KEY", b"no DER"),
                "damaged or of an unknown kind",
            ),
        ];
        for (text, expected) in table {
            let error = load(&pair(&chain, &text)).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(expected), "{message}, expected {expected}");
            assert!(message.starts_with("the given key: "), "{message}");
            assert!(message.contains("; "), "no remedy in {message}");
            assert!(!format!("{error:?} {message}").contains(secret));
        }
    }

    #[test]
    fn no_debug_text_holds_the_key() {
        let (chain, key) = self_signed(&["a.example"]).unwrap();
        let loaded = load(&pair(&chain, &key)).unwrap();
        let text = format!("{loaded:?} {:?} {:?}", loaded.key, pair(&chain, &key));
        let der = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let inside = format!("{:?}", &der.secret_der()[36..68]);
        assert!(!text.contains(key.lines().nth(1).unwrap()));
        assert!(!text.contains(inside.trim_matches(['[', ']'])));
    }
}
