//! TLS settings of a listener: policy, certificates by SNI, ALPN, session tickets.
//! Never accepts early data, never keeps sessions in memory, never shares ticket keys between listeners.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, SignatureScheme};

use super::certificate::{Fingerprint, Loaded, Pair};
use super::tickets::{TicketKey, Tickets};
use super::validity::{self, Doubt, Validity};
use super::{Error, certificate, policy};
use crate::model;

/// Whether HTTP/2 is offered by ALPN beside HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http2Offer {
    Yes,
    No,
}

/// The settings of one listener, and what they were made of.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) config: Arc<ServerConfig>,
    tickets: Arc<Tickets>,
    /// What each chain is called, and when its certificates are good.
    dates: Arc<[(String, Vec<Validity>)]>,
    made_of: MadeOf,
}

/// Where the ticket keys of a listener come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'a> {
    /// The listener runs with these settings. They stay while the files hold the same and nothing else has changed.
    Running(&'a Settings),
    /// It ran in another process, with these keys.
    Inherited(&'a [TicketKey]),
    New,
}

impl Settings {
    /// Has another key seal tickets if it is time to.
    ///
    /// # Errors
    /// When the system gives no random numbers; nothing has changed then.
    pub(crate) fn rotate_ticket_keys(&self, now: Timestamp) -> Result<(), Error> {
        Ok(self.tickets.rotate(now)?)
    }

    /// What clients may dislike about the certificates, each by its place in the configuration.
    pub(crate) fn doubts(&self, now: Timestamp) -> impl Iterator<Item = (usize, Doubt)> {
        let dates = self.dates.iter().enumerate();
        dates.flat_map(move |(place, (file, chain))| {
            validity::doubts(file, chain, now).map(move |doubt| (place, doubt))
        })
    }

    /// The keys that another process needs to resume the sessions of this one, the newest first.
    pub(crate) fn ticket_keys(&self) -> Vec<TicketKey> {
        self.tickets.known()
    }
}

/// What makes one listener's settings differ from another's.
#[derive(Clone, PartialEq, Eq)]
struct MadeOf {
    certificates: Vec<[Fingerprint; 2]>,
    policy: model::SslPolicy,
    http2: Http2Offer,
}

impl fmt::Debug for MadeOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MadeOf").finish_non_exhaustive()
    }
}

/// The settings of one listener; the first certificate is its default.
pub(crate) fn settings(
    certificates: &[model::Certificate],
    policy: model::SslPolicy,
    http2: Http2Offer,
    origin: Origin<'_>,
    now: Timestamp,
) -> Result<Settings, Error> {
    let pairs = certificates
        .iter()
        .map(certificate::read_pair)
        .collect::<Result<Vec<_>, _>>()?;
    let made_of = MadeOf {
        certificates: pairs.iter().map(Pair::fingerprints).collect(),
        policy,
        http2,
    };
    if let Origin::Running(before) = origin
        && before.made_of == made_of
    {
        return Ok(before.clone());
    }
    let loaded = pairs
        .iter()
        .map(Pair::load)
        .collect::<Result<Vec<_>, _>>()?;
    let scope = scope(&loaded, policy);
    let tickets = match origin {
        Origin::Running(before) => Some(before.tickets.under(scope)),
        Origin::Inherited(keys) => Tickets::inherited(keys, scope),
        Origin::New => None,
    };
    let tickets = match tickets {
        Some(tickets) => Arc::new(tickets),
        None => Arc::new(Tickets::new(scope, now)?),
    };
    let dates = pairs
        .iter()
        .zip(&loaded)
        .map(|(pair, loaded)| (pair.file().to_owned(), loaded.validity.clone()))
        .collect();
    let config = config_of(loaded, policy, http2, Arc::clone(&tickets))?;
    Ok(Settings {
        config,
        tickets,
        dates,
        made_of,
    })
}

/// Whether a certificate could be served, and what clients may dislike about it.
pub(crate) fn examine(
    certificate: &model::Certificate,
    now: Timestamp,
) -> Result<Vec<Doubt>, Error> {
    let pair = certificate::read_pair(certificate)?;
    let loaded = pair.load()?;
    Ok(validity::doubts(pair.file(), &loaded.validity, now).collect())
}

/// What a session is agreed on under. It is resumed where all of that still holds: a certificate that is renewed for the
/// same names changes nothing, but whoever got in under one policy has no way into another.
fn scope(certificates: &[Loaded], policy: model::SslPolicy) -> Fingerprint {
    let mut text = policy.to_string();
    for certificate in certificates {
        // Neither character is in any name.
        text.push('\n');
        text.push_str(&certificate.names.join(" "));
    }
    Fingerprint::of(text.as_bytes())
}

fn config_of(
    certificates: Vec<Loaded>,
    policy: model::SslPolicy,
    http2: Http2Offer,
    tickets: Arc<Tickets>,
) -> Result<Arc<ServerConfig>, Error> {
    let choice = Certificates::new(certificates)?;
    let mut config = ServerConfig::builder_with_provider(policy::provider(policy))
        .with_protocol_versions(policy::versions(policy))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(choice));
    // ALB negotiates in its own order, never in the client's.
    config.ignore_client_order = true;
    config.alpn_protocols = match http2 {
        Http2Offer::Yes => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Http2Offer::No => vec![b"http/1.1".to_vec()],
    };
    config.ticketer = tickets;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
    // Early data can be replayed (RFC 8446 §8), and ALB takes none.
    config.max_early_data_size = 0;
    config.max_fragment_size = Some(policy::RECORD_MAX);
    Ok(Arc::new(config))
}

/// The settings of a listener that has none before, for tests of both sides.
#[cfg(test)]
pub(crate) fn config(
    certificates: &[model::Certificate],
    policy: model::SslPolicy,
    http2: Http2Offer,
) -> Result<Arc<ServerConfig>, Error> {
    settings(certificates, policy, http2, Origin::New, Timestamp::now())
        .map(|settings| settings.config)
}

/// What a finished handshake agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts<'a> {
    /// `TLSv1.2` or `TLSv1.3`.
    pub(crate) version: &'static str,
    /// OpenSSL's name of the suite.
    pub(crate) cipher: &'static str,
    /// The name the client asked for, in lower case, without a final dot.
    pub(crate) server_name: Option<&'a str>,
}

/// The facts of a connection; `None` before its handshake is complete.
pub(crate) fn facts(connection: &ServerConnection) -> Option<Facts<'_>> {
    if connection.is_handshaking() {
        return None;
    }
    Some(Facts {
        version: policy::version_name(connection.protocol_version()?),
        cipher: policy::cipher_name(connection.negotiated_cipher_suite()?.suite()),
        server_name: connection.server_name().map(without_final_dot),
    })
}

/// The certificates of a listener by the names they stand for.
#[derive(Debug)]
struct Certificates {
    default: Arc<CertifiedKey>,
    /// Best first.
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows `*.`; best first.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Certificates {
    fn new(mut loaded: Vec<Loaded>) -> Result<Self, Error> {
        let first = loaded.first().ok_or(Error::NoCertificates)?;
        let mut certificates = Self {
            default: Arc::clone(&first.key),
            exact: HashMap::new(),
            wildcard: HashMap::new(),
        };
        // ALB's order among certificates for one name: ECDSA, then the longest key, then the latest end
        // (user guide, "SSL certificates for your Application Load Balancer").
        loaded.sort_by(|a, b| {
            let kind = a.kind.cmp(&b.kind);
            kind.then(b.bits.cmp(&a.bits))
                .then(b.not_after().cmp(&a.not_after()))
        });
        for certificate in loaded {
            for name in &certificate.names {
                let name = without_final_dot(name);
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut certificates.wildcard, parent),
                    None => (&mut certificates.exact, name),
                };
                let candidates = names.entry(name.to_owned()).or_default();
                candidates.push(Arc::clone(&certificate.key));
            }
        }
        Ok(certificates)
    }

    /// The best certificate for a name that the client can verify, else the default.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> &Arc<CertifiedKey> {
        let usable =
            |candidate: &&Arc<CertifiedKey>| candidate.key.choose_scheme(schemes).is_some();
        let named = name.and_then(|name| self.candidates(name).find(usable));
        named.unwrap_or(&self.default)
    }

    fn candidates(&self, name: &str) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        let name = without_final_dot(name).to_ascii_lowercase();
        // A wildcard stands for exactly one label (RFC 9525 §6.3).
        let wildcard = match name.split_once('.') {
            None | Some(("", _)) => None,
            Some((_, parent)) => self.wildcard.get(parent),
        };
        let exact = self.exact.get(&name);
        exact.into_iter().chain(wildcard).flatten()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = self.choose(hello.server_name(), hello.signature_schemes());
        Some(Arc::clone(chosen))
    }
}

fn without_final_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// TLS 1.3 tickets after each full or resumed handshake. Each can be used once, and each resumption brings the next;
/// a second one would cost every handshake its sealing and its bytes.
const TICKETS_PER_HANDSHAKE: usize = 1;

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustls::client::{ClientConnection, Resumption};
    use rustls::crypto::CryptoProvider;
    use rustls::crypto::aws_lc_rs::{ALL_CIPHER_SUITES, kx_group};
    use rustls::pki_types::ServerName;
    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConfig, HandshakeKind, SupportedCipherSuite, SupportedProtocolVersion};

    use super::*;
    use crate::model::{SslPolicy, UpstreamTls};
    use crate::tls::certificate::tests::{load, made, pair};
    use crate::tls::client;
    use crate::tls::tickets::tests::rotate_now;

    const ECDSA: &rcgen::SignatureAlgorithm = &rcgen::PKCS_ECDSA_P256_SHA256;
    const RSA: &rcgen::SignatureAlgorithm = &rcgen::PKCS_RSA_SHA256;

    /// A whole handshake in memory, and one byte of data so that tickets arrive.
    pub(in crate::tls) fn handshake(
        client: &Arc<ClientConfig>,
        server: &Arc<ServerConfig>,
        name: &str,
    ) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::clone(client), name)?;
        let mut server = ServerConnection::new(Arc::clone(server))?;
        loop {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            let sent = wire.len();
            let mut unread = &wire[..];
            while !unread.is_empty() {
                server.read_tls(&mut unread).unwrap();
                server.process_new_packets()?;
            }
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            if sent == 0 && wire.is_empty() {
                assert!(!client.is_handshaking() && !server.is_handshaking());
                return Ok((client, server));
            }
            let mut unread = &wire[..];
            while !unread.is_empty() {
                client.read_tls(&mut unread).unwrap();
                client.process_new_packets()?;
            }
        }
    }

    /// A client that takes any certificate and offers what the test says, whatever the policy.
    fn offering(
        change: impl FnOnce(&mut CryptoProvider),
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let usual = client::config(&UpstreamTls::Unverified).unwrap();
        let mut provider = CryptoProvider::clone(usual.crypto_provider());
        change(&mut provider);
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(client::tests::any_certificate())
            .with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(8);
        Arc::new(config)
    }

    fn offering_suite(suite: SupportedCipherSuite) -> Arc<ClientConfig> {
        let version = suite.version();
        offering(|provider| provider.cipher_suites = vec![suite], &[version])
    }

    fn usual() -> Arc<ClientConfig> {
        offering(|_| {}, rustls::ALL_VERSIONS)
    }

    fn listener(certificates: &[model::Certificate], policy: SslPolicy) -> Arc<ServerConfig> {
        config(certificates, policy, Http2Offer::Yes).unwrap()
    }

    /// The leaf that a client with these offers is shown.
    fn shown(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, name: &str) -> Vec<u8> {
        let (client, _) = handshake(client, server, name).unwrap();
        client.peer_certificates().unwrap()[0].to_vec()
    }

    fn leaf(certificate: &model::Certificate) -> Vec<u8> {
        load(certificate).unwrap().key.cert[0].to_vec()
    }

    fn facts_of(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> (String, String) {
        let (_, server) = handshake(client, server, "a.example").unwrap();
        let facts = facts(&server).unwrap();
        (facts.version.to_owned(), facts.cipher.to_owned())
    }

    #[test]
    fn each_policy_takes_its_own_suites_and_no_other() {
        const T13: [&str; 3] = [
            "TLS_AES_128_GCM_SHA256",
            "TLS_AES_256_GCM_SHA384",
            "TLS_CHACHA20_POLY1305_SHA256",
        ];
        const T12: [&str; 4] = [
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
        ];
        let certificates = [made(&["a.example"], ECDSA, 1), made(&["a.example"], RSA, 1)];
        let both = [&T13[..], &T12[..]].concat();
        let table = [
            (SslPolicy::Tls13Only, &T13[..]),
            (SslPolicy::Tls13And12Restricted, &both[..]),
            (SslPolicy::Tls12Restricted, &T12[..]),
        ];
        for (policy, allowed) in table {
            let server = listener(&certificates, policy);
            for suite in ALL_CIPHER_SUITES {
                let name = policy::cipher_name(suite.suite());
                let outcome = handshake(&offering_suite(*suite), &server, "a.example");
                assert_eq!(
                    outcome.is_ok(),
                    allowed.contains(&name),
                    "{policy:?} {name}"
                );
                if let Ok((_, connection)) = outcome {
                    assert_eq!(facts(&connection).unwrap().cipher, name);
                }
            }
        }
    }

    #[test]
    fn each_policy_takes_its_own_versions_and_no_other() {
        let certificates = [made(&["a.example"], ECDSA, 1)];
        let table = [
            (SslPolicy::Tls13Only, true, false),
            (SslPolicy::Tls13And12Restricted, true, true),
            (SslPolicy::Tls12Restricted, false, true),
        ];
        for (policy, thirteen, twelve) in table {
            let server = listener(&certificates, policy);
            let only = |version| handshake(&offering(|_| {}, &[version]), &server, "a.example");
            assert_eq!(only(&TLS13).is_ok(), thirteen, "{policy:?}");
            assert_eq!(only(&TLS12).is_ok(), twelve, "{policy:?}");
        }
        let server = listener(&certificates, SslPolicy::Tls13And12Restricted);
        assert_eq!(facts_of(&usual(), &server).0, "TLSv1.3");
    }

    #[test]
    fn a_client_that_insists_on_a_post_quantum_group_is_refused() {
        let certificates = [made(&["a.example"], ECDSA, 1)];
        let with = |group| offering(|provider| provider.kx_groups = vec![group], &[&TLS13]);
        for policy in [SslPolicy::Tls13Only, SslPolicy::Tls13And12Restricted] {
            let server = listener(&certificates, policy);
            for group in [kx_group::X25519MLKEM768, kx_group::SECP256R1MLKEM768] {
                assert!(handshake(&with(group), &server, "a.example").is_err());
            }
            for group in [kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1] {
                assert!(handshake(&with(group), &server, "a.example").is_ok());
            }
        }
    }

    #[test]
    fn the_order_of_the_server_decides_not_that_of_the_client() {
        let certificates = [made(&["a.example"], ECDSA, 1)];
        let server = listener(&certificates, SslPolicy::Tls13And12Restricted);
        let backwards = |version| offering(|provider| provider.cipher_suites.reverse(), &[version]);
        let cipher = |version| facts_of(&backwards(version), &server).1;
        assert_eq!(cipher(&TLS13), "TLS_AES_128_GCM_SHA256");
        assert_eq!(cipher(&TLS12), "ECDHE-ECDSA-AES128-GCM-SHA256");
    }

    #[test]
    fn http2_is_offered_only_where_it_is_on() {
        let certificates = [made(&["a.example"], ECDSA, 1)];
        let speaking = |protocols: &[&[u8]]| {
            let mut client = ClientConfig::clone(&usual());
            client.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Arc::new(client)
        };
        let agreed = |http2, protocols: &[&[u8]]| {
            let server = config(&certificates, SslPolicy::default(), http2).unwrap();
            let (_, server) = handshake(&speaking(protocols), &server, "a.example").ok()?;
            server.alpn_protocol().map(<[u8]>::to_vec)
        };
        let both: [&[u8]; 2] = [b"http/1.1", b"h2"];
        assert_eq!(agreed(Http2Offer::Yes, &both).unwrap(), b"h2");
        assert_eq!(agreed(Http2Offer::No, &both).unwrap(), b"http/1.1");
        assert_eq!(
            agreed(Http2Offer::Yes, &[b"http/1.1"]).unwrap(),
            b"http/1.1"
        );
        assert_eq!(agreed(Http2Offer::Yes, &[]), None);
    }

    #[test]
    fn the_name_a_client_asks_for_picks_the_certificate() {
        let default = made(&["default.example"], ECDSA, 1);
        let exact = made(&["a.example.com"], ECDSA, 1);
        let wild = made(&["*.example.com", "192.0.2.1"], ECDSA, 1);
        let deep = made(&["*.b.example.com"], ECDSA, 1);
        let all = [default.clone(), exact.clone(), wild.clone(), deep.clone()];
        let server = listener(&all, SslPolicy::default());
        let table = [
            ("a.example.com", &exact),
            ("A.Example.COM", &exact),
            ("a.example.com.", &exact),
            ("z.example.com", &wild),
            ("Z.EXAMPLE.com", &wild),
            ("z.b.example.com", &deep),
            ("b.example.com", &wild),
            ("y.z.b.example.com", &default),
            ("example.com", &default),
            ("com", &default),
            ("aexample.com", &default),
            ("default.example", &default),
            ("unknown.example", &default),
            // An address is never sent as a name, so this client asks for none.
            ("192.0.2.1", &default),
        ];
        for (name, expected) in table {
            assert_eq!(shown(&usual(), &server, name), leaf(expected), "{name}");
        }
    }

    #[test]
    fn a_name_that_is_none_gets_the_default() {
        let default = made(&["default.example"], ECDSA, 1);
        let wild = made(&["*.example.com"], ECDSA, 1);
        let loaded = [default.clone(), wild]
            .iter()
            .map(|certificate| load(certificate).unwrap())
            .collect();
        let choice = Certificates::new(loaded).unwrap();
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
        let none = [
            "",
            ".",
            "..",
            "*.example.com.example",
            ".example.com.",
            "\0.example",
            "example.com",
        ];
        for name in none.map(Some).into_iter().chain([None]) {
            let chosen = choice.choose(name, &schemes);
            assert_eq!(chosen.cert[0].to_vec(), leaf(&default), "{name:?}");
        }
    }

    #[test]
    fn of_several_certificates_for_a_name_the_best_is_shown() {
        let name = &["a.example"];
        let default = made(&["default.example"], ECDSA, 1);
        let rsa = made(name, RSA, 9);
        let short = made(name, ECDSA, 9);
        let long = made(name, &rcgen::PKCS_ECDSA_P384_SHA384, 1);
        let later = made(name, &rcgen::PKCS_ECDSA_P384_SHA384, 2);
        let table = [
            (vec![&rsa, &short], &short),
            (vec![&short, &rsa], &short),
            (vec![&short, &long], &long),
            (vec![&later, &long], &later),
            (vec![&long, &later], &later),
        ];
        for (offered, expected) in table {
            let mut all = vec![default.clone()];
            all.extend(offered.into_iter().cloned());
            let server = listener(&all, SslPolicy::default());
            assert_eq!(shown(&usual(), &server, "a.example"), leaf(expected));
        }
    }

    #[test]
    fn a_client_without_ecdsa_is_shown_the_rsa_certificate() {
        let exact = made(&["a.example.com"], ECDSA, 1);
        let wild = made(&["*.example.com"], RSA, 1);
        let server = listener(&[exact.clone(), wild.clone()], SslPolicy::default());
        let rsa_alone = ALL_CIPHER_SUITES
            .iter()
            .find(|suite| policy::cipher_name(suite.suite()) == "ECDHE-RSA-AES128-GCM-SHA256")
            .unwrap();
        let old = offering_suite(*rsa_alone);
        assert_eq!(shown(&old, &server, "a.example.com"), leaf(&wild));
        assert_eq!(shown(&usual(), &server, "a.example.com"), leaf(&exact));
    }

    #[test]
    fn sessions_resume_by_ticket_in_both_versions() {
        let server = listener(&[made(&["a.example"], ECDSA, 1)], SslPolicy::default());
        for version in [&TLS12, &TLS13] {
            let client = offering(|_| {}, &[version]);
            let kind = || {
                let (client, _) = handshake(&client, &server, "a.example").unwrap();
                client.handshake_kind().unwrap()
            };
            assert_eq!(kind(), HandshakeKind::Full);
            assert_eq!(kind(), HandshakeKind::Resumed, "{version:?}");
            assert_eq!(kind(), HandshakeKind::Resumed, "{version:?}");
        }
    }

    #[test]
    fn a_ticket_of_one_listener_is_worth_nothing_at_another() {
        let certificates = [made(&["a.example"], ECDSA, 1)];
        let one = listener(&certificates, SslPolicy::default());
        let other = listener(&certificates, SslPolicy::default());
        for version in [&TLS12, &TLS13] {
            let client = offering(|_| {}, &[version]);
            handshake(&client, &one, "a.example").unwrap();
            let (client, _) = handshake(&client, &other, "a.example").unwrap();
            assert_eq!(
                client.handshake_kind(),
                Some(HandshakeKind::Full),
                "{version:?}"
            );
        }
    }

    #[test]
    fn a_listener_keeps_its_settings_while_its_files_hold_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = (folder.path().join("a.pem"), folder.path().join("a.key"));
        let write = |(chain_text, key_text): (String, String)| {
            std::fs::write(&chain, chain_text).unwrap();
            std::fs::write(&key, key_text).unwrap();
        };
        let certificates = [model::Certificate {
            certificate: chain.clone().into(),
            key: key.clone().into(),
        }];
        let policy = SslPolicy::default();
        let again = |before: &Settings, policy, http2| {
            let origin = Origin::Running(before);
            settings(&certificates, policy, http2, origin, Timestamp::now()).unwrap()
        };
        let same = |one: &Settings, other: &Settings| Arc::ptr_eq(&one.config, &other.config);

        let pair = certificate::self_signed(&["a.example"]).unwrap();
        write(pair.clone());
        let now = Timestamp::now();
        let first = settings(&certificates, policy, Http2Offer::Yes, Origin::New, now).unwrap();
        // Written anew, but with the same in it.
        write(pair);
        assert!(same(&first, &again(&first, policy, Http2Offer::Yes)));
        assert!(!same(&first, &again(&first, policy, Http2Offer::No)));
        assert!(!same(
            &first,
            &again(&first, SslPolicy::Tls13Only, Http2Offer::Yes)
        ));

        let client = offering(|_| {}, &[&TLS13]);
        handshake(&client, &first.config, "a.example").unwrap();
        write(certificate::self_signed(&["a.example"]).unwrap());
        let second = again(&first, policy, Http2Offer::Yes);
        assert!(!same(&first, &second));
        assert_ne!(
            shown(&usual(), &first.config, "a.example"),
            shown(&usual(), &second.config, "a.example")
        );
        // A session begun before the change goes on behind it.
        let (client, _) = handshake(&client, &second.config, "a.example").unwrap();
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Resumed));

        std::fs::write(&key, "nonsense").unwrap();
        let origin = Origin::Running(&second);
        assert!(settings(&certificates, policy, Http2Offer::Yes, origin, now).is_err());
    }

    /// How a client begins at each of these settings, one after the other.
    fn kinds(version: &'static SupportedProtocolVersion, way: &[&Settings]) -> Vec<HandshakeKind> {
        let client = offering(|_| {}, &[version]);
        let kind = |settings: &&Settings| {
            let (client, _) = handshake(&client, &settings.config, "a.example").unwrap();
            client.handshake_kind().unwrap()
        };
        way.iter().map(kind).collect()
    }

    fn made_of(
        certificates: &[model::Certificate],
        policy: SslPolicy,
        origin: Origin<'_>,
    ) -> Settings {
        settings(
            certificates,
            policy,
            Http2Offer::Yes,
            origin,
            Timestamp::now(),
        )
        .unwrap()
    }

    #[test]
    fn no_session_crosses_into_another_policy_or_to_other_names() {
        use HandshakeKind::{Full, Resumed};
        let one = made(&["a.example"], ECDSA, 1);
        let wider = made(&["a.example", "b.example"], ECDSA, 1);
        let policy = SslPolicy::default();
        let first = made_of(std::slice::from_ref(&one), policy, Origin::New);
        let again = |certificates: &[model::Certificate], policy| {
            made_of(certificates, policy, Origin::Running(&first))
        };
        let renewed = again(&[made(&["a.example"], ECDSA, 2)], policy);
        assert_eq!(
            kinds(&TLS13, &[&first, &renewed, &first]),
            [Full, Resumed, Resumed]
        );
        for (version, stricter) in [
            (&TLS12, SslPolicy::Tls12Restricted),
            (&TLS13, SslPolicy::Tls13Only),
        ] {
            let stricter = again(std::slice::from_ref(&one), stricter);
            assert_eq!(kinds(version, &[&first, &stricter]), [Full, Full]);
            assert_eq!(kinds(version, &[&stricter, &first]), [Full, Full]);
            for others in [vec![wider.clone()], vec![one.clone(), wider.clone()]] {
                assert_eq!(
                    kinds(version, &[&first, &again(&others, policy)]),
                    [Full, Full]
                );
            }
        }
    }

    #[test]
    fn sessions_outlive_one_change_of_keys_and_not_two() {
        use HandshakeKind::{Full, Resumed};
        let settings = made_of(
            &[made(&["a.example"], ECDSA, 1)],
            SslPolicy::default(),
            Origin::New,
        );
        for version in [&TLS12, &TLS13] {
            let client = offering(|_| {}, &[version]);
            let kind = || {
                let (client, _) = handshake(&client, &settings.config, "a.example").unwrap();
                client.handshake_kind().unwrap()
            };
            assert_eq!(kind(), Full);
            rotate_now(&settings.tickets);
            assert_eq!(kind(), Resumed);
            rotate_now(&settings.tickets);
            rotate_now(&settings.tickets);
            assert_eq!(kind(), Full, "{version:?}");
        }
    }

    #[test]
    fn keys_that_change_under_load_fail_no_handshake() {
        let settings = made_of(
            &[made(&["a.example"], ECDSA, 1)],
            SslPolicy::default(),
            Origin::New,
        );
        const HANDSHAKES: usize = 200;
        // Keys change once in so many handshakes of both clients together. A client's next handshake is a full one only
        // where they changed twice meanwhile.
        const PACE: usize = 10;
        let made = AtomicUsize::new(0);
        let resumed = std::thread::scope(|scope| {
            let client = |version| {
                let (made, config) = (&made, &settings.config);
                scope.spawn(move || {
                    let client = offering(|_| {}, &[version]);
                    let kinds = (0..HANDSHAKES).map(|_| {
                        let (client, _) = handshake(&client, config, "a.example").unwrap();
                        made.fetch_add(1, Ordering::Relaxed);
                        client.handshake_kind().unwrap()
                    });
                    kinds.filter(|kind| *kind == HandshakeKind::Resumed).count()
                })
            };
            let clients = [&TLS12, &TLS13].map(client);
            let mut changes = 0;
            while !clients.iter().all(|client| client.is_finished()) {
                if made.load(Ordering::Relaxed) >= (changes + 1) * PACE {
                    rotate_now(&settings.tickets);
                    changes += 1;
                }
                std::thread::yield_now();
            }
            clients.map(|client| client.join().unwrap())
        });
        let full_at_most = 1 + 2 * HANDSHAKES / PACE / 2;
        for resumed in resumed {
            assert!(resumed >= HANDSHAKES - full_at_most, "{resumed}");
        }
    }

    #[test]
    fn another_process_resumes_with_the_keys_it_was_given() {
        use HandshakeKind::{Full, Resumed};
        let certificates = [made(&["a.example"], ECDSA, 1)];
        let policy = SslPolicy::default();
        let old = made_of(&certificates, policy, Origin::New);
        let new = made_of(&certificates, policy, Origin::Inherited(&old.ticket_keys()));
        let without = made_of(&certificates, policy, Origin::Inherited(&[]));
        for version in [&TLS12, &TLS13] {
            assert_eq!(
                kinds(version, &[&old, &new, &old]),
                [Full, Resumed, Resumed]
            );
            assert_eq!(kinds(version, &[&old, &without]), [Full, Full]);
        }
    }

    #[test]
    fn no_listener_takes_early_data_or_keeps_sessions() {
        let server = listener(&[made(&["a.example"], ECDSA, 1)], SslPolicy::default());
        assert_eq!(server.max_early_data_size, 0);
        assert!(!server.session_storage.can_cache());
        assert!(server.ticketer.enabled());
    }

    #[test]
    fn facts_tell_version_suite_and_name() {
        let server = listener(&[made(&["a.example"], ECDSA, 1)], SslPolicy::default());
        let (_, connection) = handshake(&usual(), &server, "A.example.").unwrap();
        let expected = Facts {
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
            server_name: Some("a.example"),
        };
        assert_eq!(facts(&connection), Some(expected));
        let (_, connection) = handshake(&usual(), &server, "192.0.2.1").unwrap();
        assert_eq!(facts(&connection).unwrap().server_name, None);
    }

    #[test]
    fn there_are_no_facts_before_the_handshake() {
        let server = listener(&[made(&["a.example"], ECDSA, 1)], SslPolicy::default());
        assert_eq!(facts(&ServerConnection::new(server).unwrap()), None);
    }

    #[test]
    fn a_listener_without_certificates_is_refused() {
        let error = config(&[], SslPolicy::default(), Http2Offer::Yes).unwrap_err();
        assert!(matches!(error, Error::NoCertificates));
    }

    #[test]
    fn a_fault_in_any_certificate_refuses_the_listener() {
        let good = made(&["a.example"], ECDSA, 1);
        let bad = pair("", "");
        let error = config(&[good, bad], SslPolicy::default(), Http2Offer::Yes).unwrap_err();
        assert!(matches!(error, Error::Empty { .. }));
    }
}
