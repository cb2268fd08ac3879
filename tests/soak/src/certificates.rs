//! An authority that everybody trusts, and certificates that it makes anew again and again.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Names of certificates; the first is the default.
pub(crate) const NAMES: [&str; 2] = ["web.example", "other.example"];

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        Ok(Self(CertifiedIssuer::self_signed(params, key)?))
    }

    fn sign(&self, name: &str) -> Result<(rcgen::Certificate, KeyPair)> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec![name.to_owned()])?;
        Ok((params.signed_by(&key, &self.0)?, key))
    }

    /// A new certificate of this name, put where the configuration says, the key last; gives what clients will see.
    /// `announce` learns of it before anything changes.
    pub(crate) fn rotate(
        &self,
        folder: &Path,
        name: &str,
        announce: impl FnOnce(&[u8]),
    ) -> Result<()> {
        let (certificate, key) = self.sign(name)?;
        announce(certificate.der());
        for (kind, text) in [("pem", certificate.pem()), ("key", key.serialize_pem())] {
            let fresh = folder.join(format!("{name}.{kind}.new"));
            std::fs::write(&fresh, text)?;
            std::fs::rename(&fresh, folder.join(format!("{name}.{kind}")))?;
        }
        Ok(())
    }

    /// A client that speaks this protocol over TLS and remembers its sessions.
    pub(crate) fn client(&self, protocol: &str) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone())?;
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Ok(Arc::new(config))
    }

    /// A target's side.
    pub(crate) fn target(&self) -> Result<Arc<ServerConfig>> {
        let (certificate, key) = self.sign("target.example")?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let config = ServerConfig::builder().with_no_client_auth();
        Ok(Arc::new(config.with_single_cert(chain, key)?))
    }
}
