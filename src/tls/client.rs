//! TLS settings toward targets: any certificate as ALB takes it, or one that a bundle of roots vouches for.
//! Never falls back from the second to the first, never sends early data, never offers HTTP/2.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, PeerMisbehaved, RootCertStore,
    SignatureScheme,
};

use super::certificate::Fingerprint;
use super::{Error, certificate, policy, x509};
use crate::model::{Pem, TargetId, UpstreamTls};

/// The settings of one target group, and what they were made of.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) config: Arc<ClientConfig>,
    /// Of the bundle of roots; `None` where any certificate is taken.
    bundle: Option<Fingerprint>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

/// The settings of one target group. `before` are those that it has now: they stay while the bundle holds the same,
/// and with them connections and sessions.
pub(crate) fn settings(tls: &UpstreamTls, before: Option<&Settings>) -> Result<Settings, Error> {
    let bundle = match tls {
        UpstreamTls::Unverified => None,
        UpstreamTls::Verified { ca_file } => Some(Bundle::read(ca_file)?),
    };
    let fingerprint = bundle.as_ref().map(|bundle| Fingerprint::of(&bundle.text));
    if let Some(before) = before.filter(|before| before.bundle == fingerprint) {
        return Ok(before.clone());
    }
    Ok(Settings {
        config: config_of(bundle.as_ref())?,
        bundle: fingerprint,
    })
}

/// Settings that take any certificate, and belong to nobody in particular.
pub(crate) fn unverified() -> Result<Arc<ClientConfig>, Error> {
    config_of(None)
}

/// A bundle of roots as it was read.
struct Bundle {
    text: Vec<u8>,
    file: String,
}

impl Bundle {
    fn read(ca_file: &Path) -> Result<Self, Error> {
        let file = ca_file.display().to_string();
        let text = certificate::read(&Pem::File(ca_file.to_owned()), &file)?;
        Ok(Self { text, file })
    }
}

fn config_of(bundle: Option<&Bundle>) -> Result<Arc<ClientConfig>, Error> {
    let provider = policy::target_provider();
    let verifier: Arc<dyn ServerCertVerifier> = match bundle {
        None => Arc::new(AnyCertificate {
            algorithms: provider.signature_verification_algorithms,
        }),
        Some(bundle) => trusting(bundle, &provider)?,
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.max_fragment_size = Some(policy::RECORD_MAX);
    config.resumption = Resumption::in_memory_sessions(REMEMBERED_TARGETS);
    Ok(Arc::new(config))
}

/// The settings of a group that has none before, for tests of both sides.
#[cfg(test)]
pub(crate) fn config(tls: &UpstreamTls) -> Result<Arc<ClientConfig>, Error> {
    settings(tls, None).map(|settings| settings.config)
}

/// The name to ask a target for: a host name goes into SNI, an address does not (RFC 6066 §3).
pub(crate) fn server_name(target: &TargetId) -> Result<ServerName<'static>, Error> {
    match target {
        TargetId::Address(address) => Ok(ServerName::from(*address)),
        TargetId::Name(name) => {
            ServerName::try_from(name.to_string()).map_err(|_| Error::TargetName {
                name: name.to_string(),
            })
        }
    }
}

/// A verifier with the roots of a bundle; no bundle or an unusable root in it is an error, never an empty trust.
fn trusting(
    bundle: &Bundle,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let file = &bundle.file;
    let mut roots = RootCertStore::empty();
    for (index, root) in certificate::chain_of(&bundle.text, file)?
        .into_iter()
        .enumerate()
    {
        roots.add(root).map_err(|_| Error::UnusableRoot {
            file: file.clone(),
            position: index + 1,
        })?;
    }
    let builder =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    // No revocation lists are given, so the only complaint of the builder is a store without roots.
    let verifier = builder
        .build()
        .map_err(|_| Error::NoCertificate { file: file.clone() })?;
    Ok(verifier)
}

/// Takes whatever certificate a target shows, as ALB does (user guide, "Target groups": targets' certificates are
/// not validated), but still asks for proof that the target holds its key.
#[derive(Debug)]
struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let (algorithm, key) =
            x509::split_public_key(public_key(certificate)?).ok_or_else(unreadable)?;
        let schemes = self.algorithms.mapping.iter();
        // In TLS 1.2 a scheme fixes the hash but not the curve, so the key says which algorithm is meant.
        schemes
            .filter(|(scheme, _)| *scheme == signed.scheme)
            .flat_map(|(_, candidates)| candidates.iter())
            .find(|candidate| *candidate.public_key_alg_id() == *algorithm)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?
            .verify_signature(key, message, signed.signature())
            .map_err(|_| CertificateError::BadSignature)?;
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(public_key(certificate)?);
        rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The public key of a certificate of any version: rustls itself reads version 3 alone, and many an appliance still
/// shows a certificate of version 1 that it made for itself.
fn public_key<'a>(certificate: &'a CertificateDer<'_>) -> Result<&'a [u8], rustls::Error> {
    let certificate = x509::Certificate::parse(certificate).ok_or_else(unreadable)?;
    Ok(certificate.public_key)
}

fn unreadable() -> rustls::Error {
    CertificateError::BadEncoding.into()
}

/// Server names whose sessions a group remembers: as many as ALB lets a target group have targets (quotas, "Targets
/// per target group").
const REMEMBERED_TARGETS: usize = 1000;

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::version::{TLS12, TLS13};
    use rustls::{HandshakeKind, ServerConfig};

    use super::*;
    use crate::model::{self, SslPolicy};
    use crate::tls::certificate::tests::{load, made, pair};
    use crate::tls::server::{self, Http2Offer, tests::handshake};

    pub(in crate::tls) fn any_certificate() -> Arc<dyn ServerCertVerifier> {
        Arc::new(AnyCertificate {
            algorithms: policy::target_provider().signature_verification_algorithms,
        })
    }

    fn target(certificate: &model::Certificate) -> Arc<ServerConfig> {
        let certificates = std::slice::from_ref(certificate);
        server::config(certificates, SslPolicy::default(), Http2Offer::Yes).unwrap()
    }

    fn verified(bundle: &str) -> Result<Arc<ClientConfig>, Error> {
        let directory = tempfile::tempdir().unwrap();
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, bundle).unwrap();
        config(&UpstreamTls::Verified { ca_file })
    }

    /// A root, and a certificate for `a.example` and 127.0.0.1 that it issued.
    fn issued() -> (String, model::Certificate) {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_key = KeyPair::generate().unwrap();
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let names = vec!["a.example".to_owned(), "127.0.0.1".to_owned()];
        let leaf = CertificateParams::new(names).unwrap();
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&root, &root_key);
        let leaf = leaf.signed_by(&key, &issuer).unwrap().pem();
        (root_pem, pair(&leaf, &key.serialize_pem()))
    }

    #[test]
    fn unverified_takes_any_certificate_in_both_versions() {
        let algorithms: [&'static rcgen::SignatureAlgorithm; 4] = [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_RSA_SHA256,
            &rcgen::PKCS_ED25519,
        ];
        let client = config(&UpstreamTls::Unverified).unwrap();
        for algorithm in algorithms {
            let certificate = made(&["other.example"], algorithm, 1);
            for policy in [SslPolicy::Tls12Restricted, SslPolicy::Tls13Only] {
                let certificates = std::slice::from_ref(&certificate);
                let server = server::config(certificates, policy, Http2Offer::No).unwrap();
                for name in ["a.example", "127.0.0.1"] {
                    let outcome = handshake(&client, &server, name);
                    assert!(
                        outcome.is_ok(),
                        "{algorithm:?} {policy:?} {:?}",
                        outcome.err()
                    );
                }
            }
        }
    }

    #[test]
    fn unverified_still_asks_for_proof_of_the_key() {
        // A target that shows one certificate and signs with another's key.
        let shown = load(&made(&["a.example"], &rcgen::PKCS_ECDSA_P256_SHA256, 1));
        let held = load(&made(&["a.example"], &rcgen::PKCS_ECDSA_P256_SHA256, 1));
        let (shown, held) = (shown.unwrap().key, held.unwrap().key);
        let mixed = rustls::sign::CertifiedKey::new(shown.cert.clone(), Arc::clone(&held.key));
        let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(mixed));
        let client = config(&UpstreamTls::Unverified).unwrap();
        for version in [&TLS12, &TLS13] {
            let server = ServerConfig::builder_with_provider(policy::target_provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(resolver.clone());
            let error = handshake(&client, &Arc::new(server), "a.example").err();
            let expected = CertificateError::BadSignature;
            assert_eq!(error, Some(expected.into()), "{version:?}");
        }
    }

    #[test]
    fn unverified_reads_the_key_of_a_version_1_certificate() {
        // The same certificate without its version and extensions, as old appliances make them.
        let certificate = made(&["a.example"], &rcgen::PKCS_ECDSA_P256_SHA256, 1);
        let loaded = load(&certificate).unwrap();
        let first = x509::tests::as_version_1(&loaded.key.cert[0]);
        let key = rustls::sign::CertifiedKey::new(vec![first.into()], Arc::clone(&loaded.key.key));
        let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(key));
        let client = config(&UpstreamTls::Unverified).unwrap();
        for version in [&TLS12, &TLS13] {
            let server = ServerConfig::builder_with_provider(policy::target_provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(resolver.clone());
            let outcome = handshake(&client, &Arc::new(server), "a.example");
            assert!(outcome.is_ok(), "{version:?} {:?}", outcome.err());
        }
    }

    #[test]
    fn verified_takes_what_its_roots_issued_under_the_right_name() {
        let (root, certificate) = issued();
        let client = verified(&root).unwrap();
        let server = target(&certificate);
        for (name, taken) in [
            ("a.example", true),
            ("127.0.0.1", true),
            ("b.example", false),
            ("127.0.0.2", false),
        ] {
            assert_eq!(handshake(&client, &server, name).is_ok(), taken, "{name}");
        }
    }

    #[test]
    fn verified_refuses_a_self_signed_certificate() {
        let (root, _) = issued();
        let (chain, key) = certificate::self_signed(&["a.example"]).unwrap();
        let server = target(&pair(&chain, &key));
        let error = handshake(&verified(&root).unwrap(), &server, "a.example").err();
        let expected = CertificateError::UnknownIssuer;
        assert_eq!(error, Some(expected.into()));
    }

    #[test]
    fn verified_takes_a_self_signed_certificate_that_is_in_the_bundle() {
        let (chain, key) = certificate::self_signed(&["a.example"]).unwrap();
        let client = verified(&chain).unwrap();
        assert!(handshake(&client, &target(&pair(&chain, &key)), "a.example").is_ok());
    }

    #[test]
    fn verified_without_a_usable_bundle_is_refused() {
        let (root, certificate) = issued();
        let Pem::Inline(key) = &certificate.key else {
            unreachable!("made inline");
        };
        let key = std::str::from_utf8(key.expose()).unwrap();
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let table = [
            (String::new(), "is empty"),
            ("roots".to_owned(), "is not PEM"),
            (key.to_owned(), "holds no 'BEGIN CERTIFICATE' section"),
            (
                format!("{root}{no_certificate}"),
                "certificate 2 cannot serve",
            ),
        ];
        for (bundle, expected) in table {
            let message = verified(&bundle).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}, expected {expected}");
        }
        let ca_file = "/nowhere/ca.pem".into();
        let error = config(&UpstreamTls::Verified { ca_file }).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("/nowhere/ca.pem: cannot be read")
        );
    }

    #[test]
    fn targets_are_spoken_to_in_http_1_1_alone() {
        let (_, certificate) = issued();
        let client = config(&UpstreamTls::Unverified).unwrap();
        let (client, _) = handshake(&client, &target(&certificate), "a.example").unwrap();
        assert_eq!(client.alpn_protocol(), Some(&b"http/1.1"[..]));
    }

    #[test]
    fn sessions_with_targets_resume() {
        let (root, certificate) = issued();
        let client = verified(&root).unwrap();
        let server = target(&certificate);
        handshake(&client, &server, "127.0.0.1").unwrap();
        let (client, _) = handshake(&client, &server, "127.0.0.1").unwrap();
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Resumed));
    }

    #[test]
    fn names_go_into_sni_and_addresses_do_not() {
        let (_, certificate) = issued();
        let client = config(&UpstreamTls::Unverified).unwrap();
        let asked = |id: &TargetId| {
            let name = server_name(id).unwrap().to_str().into_owned();
            let (_, server) = handshake(&client, &target(&certificate), &name).unwrap();
            server.server_name().map(str::to_owned)
        };
        let name = TargetId::Name("my_app.example".into());
        assert_eq!(asked(&name).as_deref(), Some("my_app.example"));
        assert_eq!(asked(&TargetId::Address([127, 0, 0, 1].into())), None);
    }

    #[test]
    fn a_target_name_that_tls_cannot_ask_for_is_refused() {
        for name in ["a b", "", "-a", "a..b"] {
            let error = server_name(&TargetId::Name(name.into())).unwrap_err();
            assert!(error.to_string().contains("cannot be a TLS server name"));
        }
    }
}
