//! Who the caller is to the key servers: a certificate, its key, and the authorities that may vouch for a node.

use std::{path::Path, sync::Arc};

use eds_core::registrant::Registrant;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::KeystoreError;
use crate::config;

/// A certificate chain with its private key, and the CA bundle for the nodes' certificates.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    tls: ClientConfig,
    subject: String,
    not_after: i64,
    expires: String,
}

impl Identity {
    /// Reads certificate chain and private key of the caller, and the CAs of the nodes.
    ///
    /// # Errors
    /// [`KeystoreError`] naming the file and what is wrong with it.
    pub fn load(files: &config::Identity, tls_ca: &Path) -> Result<Self, KeystoreError> {
        let chain = certificates(&files.certificate)?;
        let first = chain.first().ok_or_else(|| credential(&files.certificate, "holds no certificate"))?;
        let (_, leaf) = X509Certificate::from_der(first)
            .map_err(|_| credential(&files.certificate, "is not an X.509 certificate"))?;
        let subject = leaf.subject().to_string();
        let not_after = leaf.validity().not_after.timestamp();
        let expires = leaf.validity().not_after.to_string();
        let private_key = PrivateKeyDer::from_pem_slice(&files.read_key()?)
            .map_err(|error| credential(&files.key, &format!("holds no readable private key: {error}")))?;
        let mut roots = RootCertStore::empty();
        for ca in certificates(tls_ca)? {
            roots.add(ca).map_err(|error| credential(tls_ca, &format!("holds an unusable CA: {error}")))?;
        }
        if roots.is_empty() {
            return Err(credential(tls_ca, "holds no certificate"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(KeystoreError::Tls)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.clone(), private_key)
            .map_err(KeystoreError::Tls)?;
        Ok(Self { chain, tls, subject, not_after, expires })
    }

    /// The subject of the certificate, for display.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// When the certificate expires, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// When the certificate expires, for display.
    pub fn expires(&self) -> &str {
        &self.expires
    }

    /// The digest that sealed registrations are bound to (`eds_core::registrant`).
    pub fn registrant(&self) -> [u8; 32] {
        // `load` has parsed this certificate already.
        let Some((_, leaf)) = self.chain.first().and_then(|der| X509Certificate::from_der(der).ok()) else {
            return [0; 32];
        };
        Registrant { kind: "x509", namespace: leaf.issuer().as_raw(), subject: leaf.subject().as_raw() }.digest()
    }

    /// DER of the name of the authority that vouches for the caller: the namespace of the names that the caller types.
    pub fn authority(&self) -> Option<Vec<u8>> {
        let (_, leaf) = X509Certificate::from_der(self.chain.first()?).ok()?;
        Some(leaf.issuer().as_raw().to_vec())
    }

    pub(super) fn tls(&self) -> ClientConfig {
        self.tls.clone()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, KeystoreError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| credential(path, &format!("cannot be read as PEM certificates: {error}")))
}

fn credential(path: &Path, problem: &str) -> KeystoreError {
    KeystoreError::Credential { path: path.display().to_string(), problem: problem.into() }
}
