//! What each ELB security policy allows: protocol versions, cipher suites in the server's order, key exchange groups.
//! Never offers a suite or a group that ALB's policy of that name lacks.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion};

use crate::model::SslPolicy;

/// The cryptography of a listener with this policy.
pub(crate) fn provider(policy: SslPolicy) -> Arc<CryptoProvider> {
    provider_of(suites(policy))
}

/// The cryptography toward targets: whatever rustls has, as ALB's own policy there is wider still
/// (`ELBSecurityPolicy-TLS13-1-0-2021-06`).
pub(crate) fn target_provider() -> Arc<CryptoProvider> {
    provider_of([TLS13_SUITES, TLS12_SUITES, TLS12_CHACHA20].concat())
}

/// The protocol versions of a policy.
pub(crate) fn versions(policy: SslPolicy) -> &'static [&'static SupportedProtocolVersion] {
    match policy {
        SslPolicy::Tls13Only => &TLS13_ALONE,
        SslPolicy::Tls13And12Restricted => &BOTH_VERSIONS,
        SslPolicy::Tls12Restricted => &TLS12_ALONE,
    }
}

/// OpenSSL's name of a suite, as ALB writes it into headers and logs; `-` for one that albedo never negotiates.
pub(crate) fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "ECDHE-ECDSA-CHACHA20-POLY1305"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "-",
    }
}

/// OpenSSL's name of a protocol version, as ALB writes it; `-` for one that albedo never negotiates.
pub(crate) fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        _ => "-",
    }
}

fn suites(policy: SslPolicy) -> Vec<SupportedCipherSuite> {
    match policy {
        SslPolicy::Tls13Only => TLS13_SUITES.to_vec(),
        SslPolicy::Tls13And12Restricted => [TLS13_SUITES, TLS12_SUITES].concat(),
        SslPolicy::Tls12Restricted => TLS12_SUITES.to_vec(),
    }
}

fn provider_of(cipher_suites: Vec<SupportedCipherSuite>) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites,
        kx_groups: GROUPS.to_vec(),
        ..aws_lc_rs::default_provider()
    })
}

static TLS13_ALONE: [&SupportedProtocolVersion; 1] = [&TLS13];
static BOTH_VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static TLS12_ALONE: [&SupportedProtocolVersion; 1] = [&TLS12];

/// Largest record that is sent, with its header of five bytes. The protocol allows 16 KiB, but rustls takes new memory
/// for every record, and the allocator has pieces of up to 10 KiB at hand that are still in the processor's cache; those
/// of 16 KiB go round in half a MiB of it, and a third of a download's time was waiting for memory.
pub(super) const RECORD_MAX: usize = 10_205;

/// In ALB's order (user guide, "Security policies for your Application Load Balancer").
const TLS13_SUITES: &[SupportedCipherSuite] = &[
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// In ALB's order: all of AES-128 before AES-256, ECDSA before RSA.
const TLS12_SUITES: &[SupportedCipherSuite] = &[
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
];

/// In no ALB policy, so only toward targets.
const TLS12_CHACHA20: &[SupportedCipherSuite] = &[
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// No post-quantum hybrid: ALB offers those only in its policies named `PQ`.
const GROUPS: &[&'static dyn SupportedKxGroup] =
    &[kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];

#[cfg(test)]
mod tests {
    use super::*;

    const POLICIES: [SslPolicy; 3] = [
        SslPolicy::Tls13Only,
        SslPolicy::Tls13And12Restricted,
        SslPolicy::Tls12Restricted,
    ];

    fn names(policy: SslPolicy) -> Vec<&'static str> {
        let provider = provider(policy);
        let suites = provider.cipher_suites.iter();
        suites.map(|suite| cipher_name(suite.suite())).collect()
    }

    #[test]
    fn suites_stand_in_the_order_of_alb() {
        let thirteen = [
            "TLS_AES_128_GCM_SHA256",
            "TLS_AES_256_GCM_SHA384",
            "TLS_CHACHA20_POLY1305_SHA256",
        ];
        let twelve = [
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
        ];
        assert_eq!(names(SslPolicy::Tls13Only), thirteen);
        assert_eq!(names(SslPolicy::Tls12Restricted), twelve);
        let both: Vec<_> = thirteen.into_iter().chain(twelve).collect();
        assert_eq!(names(SslPolicy::Tls13And12Restricted), both);
    }

    #[test]
    fn no_policy_offers_a_post_quantum_group() {
        for policy in POLICIES {
            let groups: Vec<_> = provider(policy)
                .kx_groups
                .iter()
                .map(|group| group.name())
                .collect();
            use rustls::NamedGroup::{X25519, secp256r1, secp384r1};
            assert_eq!(groups, [X25519, secp256r1, secp384r1]);
        }
    }

    #[test]
    fn every_suite_that_can_be_negotiated_has_a_name() {
        for suite in &target_provider().cipher_suites {
            assert_ne!(cipher_name(suite.suite()), "-", "{suite:?}");
        }
        assert_eq!(cipher_name(CipherSuite::TLS_NULL_WITH_NULL_NULL), "-");
    }

    #[test]
    fn versions_are_named_as_openssl_names_them() {
        assert_eq!(version_name(ProtocolVersion::TLSv1_3), "TLSv1.3");
        assert_eq!(version_name(ProtocolVersion::TLSv1_2), "TLSv1.2");
        assert_eq!(version_name(ProtocolVersion::SSLv3), "-");
    }
}
