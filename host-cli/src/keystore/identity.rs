//! Who the caller is to the key servers: a proof, and the authorities that may vouch for a node.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
    sign::SingleCertAndKey,
};

use super::KeystoreError;
use crate::{
    config::Config,
    credentials::{self, Credential, in_words},
};

/// What proves who the caller is, and the TLS configuration made of it and of the CA bundle for the nodes' certificates.
pub struct Identity {
    proof: Arc<Credential>,
    tls: ClientConfig,
}

impl Identity {
    /// Loads the proof that the configuration asks for, or the first that there is, and the CAs of the nodes.
    ///
    /// # Errors
    /// [`KeystoreError`] naming the file and what is wrong with it.
    pub fn load(config: &Config) -> Result<Self, KeystoreError> {
        Self::new(Credential::load(config)?, &config.tls_ca)
    }

    /// The identity that this proof gives, before nodes that these CAs vouch for.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn new(proof: Credential, tls_ca: &Path) -> Result<Self, KeystoreError> {
        let mut roots = RootCertStore::empty();
        if tls_ca.is_dir() {
            for file in hashed(tls_ca)? {
                // Of many authorities, one that cannot be used vouches for nobody.
                certificates(&file).into_iter().flatten().for_each(|ca| drop(roots.add(ca)));
            }
        } else {
            for ca in certificates(tls_ca)? {
                roots.add(ca).map_err(|error| credential(tls_ca, &format!("holds an unusable CA: {error}")))?;
            }
        }
        if roots.is_empty() {
            return Err(credential(tls_ca, "holds no certificate"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(KeystoreError::Tls)?
            .with_root_certificates(roots);
        let tls = match &proof {
            Credential::Chain(chain) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(chain.certified_key())))
            }
            Credential::Token(_) => builder.with_no_client_auth(),
        };
        Ok(Self { proof: Arc::new(proof), tls })
    }

    /// The proof.
    pub fn proof(&self) -> Arc<Credential> {
        Arc::clone(&self.proof)
    }

    /// The digest that sealed registrations are bound to (`eds_core::registrant`).
    pub fn registrant(&self) -> [u8; 32] {
        match self.proof.as_ref() {
            Credential::Chain(chain) => chain.registrant(),
            Credential::Token(source) => source.claims().registrant(),
        }
    }

    /// The caller, for display.
    pub fn subject(&self) -> String {
        match self.proof.as_ref() {
            Credential::Chain(chain) => chain.subject(),
            Credential::Token(source) => source.claims().name(),
        }
    }

    /// DER of the name of the authority that vouches for the caller: the namespace of the names that the caller types.
    pub fn authority(&self) -> Option<Vec<u8>> {
        match self.proof.as_ref() {
            Credential::Chain(chain) => Some(chain.authority_der().to_vec()),
            Credential::Token(_) => None,
        }
    }

    /// The caller and the proof in one line, if its time is not over.
    ///
    /// # Errors
    /// [`credentials::Error::Expired`].
    pub fn described(&self, now: i64) -> Result<String, credentials::Error> {
        match self.proof.as_ref() {
            Credential::Chain(chain) => {
                chain.check_time(now)?;
                let (subject, until) = (chain.subject(), in_words(chain.not_after()));
                Ok(format!("{subject}  {} valid until {until}", chain.kind()))
            }
            Credential::Token(source) => {
                let claims = source.claims();
                Ok(format!("{}  token valid until {}", claims.name(), in_words(claims.expires)))
            }
        }
    }

    pub(super) fn tls(&self) -> ClientConfig {
        self.tls.clone()
    }
}

/// The certificates of a directory of authorities as grids have it: `HASH.0`, `HASH.1`, …, by OpenSSL's hash of the name.
fn hashed(directory: &Path) -> Result<Vec<PathBuf>, KeystoreError> {
    let is_hashed = |name: &str| {
        let hash = name.split_once('.').filter(|(hash, number)| {
            hash.len() == 8
                && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
                && !number.is_empty()
                && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        hash.is_some()
    };
    let listed = std::fs::read_dir(directory)
        .map_err(|error| credential(directory, &format!("cannot be read as a directory of authorities: {error}")))?;
    let named =
        |entry: std::fs::DirEntry| Some(entry.path()).filter(|_| entry.file_name().to_str().is_some_and(is_hashed));
    let mut files: Vec<PathBuf> = listed.flatten().filter_map(named).collect();
    files.sort();
    Ok(files)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, KeystoreError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| credential(path, &format!("cannot be read as PEM certificates: {error}")))
}

fn credential(path: &Path, problem: &str) -> KeystoreError {
    KeystoreError::Credential { path: path.display().to_string(), problem: problem.into() }
}
