//! Why a certificate, a key or a bundle cannot be used: which file, what is wrong, how to mend it.
//! Never quotes what a file holds.

use std::io;

/// A failure to build one side's TLS settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{file}: cannot be read ({cause}); check the path and who may read it")]
    Unreadable { file: String, cause: io::Error },

    #[error("{file}: larger than {limit} bytes; name a PEM file")]
    TooLarge { file: String, limit: u64 },

    #[error("{file}: is empty; put PEM text into it")]
    Empty { file: String },

    #[error(
        "{file}: is not PEM; convert it with 'openssl x509 -inform der', 'openssl pkey -inform der' or 'openssl pkcs12 -nodes'"
    )]
    NotPem { file: String },

    #[error(
        "{file}: broken PEM, {problem}; copy the whole text again, with its BEGIN and END lines"
    )]
    BrokenPem { file: String, problem: &'static str },

    #[error("{file}: holds no 'BEGIN CERTIFICATE' section; put the chain here, leaf first")]
    NoCertificate { file: String },

    #[error(
        "{file}: certificate {position} is not a readable X.509 certificate; have it issued again"
    )]
    UnreadableCertificate { file: String, position: usize },

    #[error(
        "{file}: an alternative name of the certificate holds characters that no host name has; have it issued again"
    )]
    UnprintableName { file: String },

    #[error("{file}: certificate {position} repeats an earlier one; remove it")]
    RepeatedCertificate { file: String, position: usize },

    #[error(
        "{file}: the key in {key_file} belongs to certificate {position}; move that certificate, the leaf, to the top"
    )]
    LeafNotFirst {
        file: String,
        key_file: String,
        position: usize,
    },

    #[error(
        "{file}: certificate {position} did not issue the one before it, but certificate {issuer} did; order the chain leaf, intermediates, root"
    )]
    MisplacedIssuer {
        file: String,
        position: usize,
        issuer: usize,
    },

    #[error(
        "{file}: certificate {position} did not issue the one before it; order the chain leaf, intermediates, root, and remove what belongs to another"
    )]
    BrokenChain { file: String, position: usize },

    #[error(
        "{file}: holds no private key; put a 'BEGIN PRIVATE KEY', 'BEGIN EC PRIVATE KEY' or 'BEGIN RSA PRIVATE KEY' section here"
    )]
    NoKey { file: String },

    #[error(
        "{file}: the private key is encrypted; remove the pass phrase with 'openssl pkey -in OLD -out NEW'"
    )]
    EncryptedKey { file: String },

    #[error(
        "{file}: holds {count} private keys; keep only the one that belongs to the certificate"
    )]
    SeveralKeys { file: String, count: usize },

    #[error(
        "{file}: the private key is damaged or of an unknown kind; use RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519"
    )]
    UnusableKey { file: String },

    #[error(
        "{file}: does not belong to the certificate in {certificate_file}; name the key that the certificate was made with"
    )]
    KeyMismatch {
        file: String,
        certificate_file: String,
    },

    #[error("an HTTPS listener has no certificate; give it at least one under 'certificates'")]
    NoCertificates,

    #[error(
        "{file}: certificate {position} cannot serve as a trusted root; remove it or replace it with the issuer's"
    )]
    UnusableRoot { file: String, position: usize },

    #[error(
        "target '{name}' cannot be a TLS server name; use a host name of letters, digits and hyphens, or an address"
    )]
    TargetName { name: String },

    #[error("no certificate can be made for '{names}'; use host names and addresses")]
    SelfSigned { names: String },

    #[error("the system gives no random numbers for ticket keys; look after its entropy")]
    Random(#[from] aws_lc_rs::error::Unspecified),

    #[error("the TLS library refuses its settings ({0}); please report this")]
    Library(#[from] rustls::Error),
}
