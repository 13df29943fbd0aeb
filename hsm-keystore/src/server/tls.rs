//! TLS 1.3 and nothing older; client certificates of the configured authorities.
//!
//! A client without a certificate gets its connection, so that it can be told in words what is accepted (401), or show a
//! token. One with a certificate or proxy that is expired, not for clients or of another authority is refused in the
//! handshake by [`crate::authn`], with the alert that says so. Sessions are not resumed: a resumed one would skip that.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::NoServerSessionStorage,
};

use crate::{
    authn::{Authenticator, authenticator::ClientVerifier, certificate::Certificate},
    config::TlsConfig,
};

/// TLS files that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("{key} {file}: cannot be read as PEM\nhint: it holds -----BEGIN …----- blocks, and this user may read it")]
    Pem {
        /// The configuration key.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// A file has no block of the kind that is needed.
    #[error("{key} {file}: holds no certificate")]
    Empty {
        /// The configuration key.
        key: &'static str,
        /// The file.
        file: PathBuf,
    },
    /// Certificate and key do not go together.
    #[error(
        "tls.certificate and tls.key cannot be used together\nhint: the key must be the one of the first certificate"
    )]
    Mismatch {
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// Reads the files and makes the server's side of TLS.
///
/// # Errors
/// [`TlsError`], with the file at fault.
pub fn server_config(config: &TlsConfig, authenticator: Arc<Authenticator>) -> Result<ServerConfig, TlsError> {
    let chain = certificates("tls.certificate", &config.certificate)?;
    warn_if_public(&config.key);
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|source| TlsError::Pem {
        key: "tls.key",
        file: config.key.clone(),
        source,
    })?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(ClientVerifier::new(authenticator, provider.signature_verification_algorithms));
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| TlsError::Mismatch { source })?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|source| TlsError::Mismatch { source })?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(server)
}

/// When the node's certificate ends, in seconds since 1970, if that can be read.
pub fn certificate_end(config: &TlsConfig) -> Option<i64> {
    let first = certificates("tls.certificate", &config.certificate).ok()?.into_iter().next()?;
    Some(Certificate::from_der(&first).ok()?.not_after())
}

/// A key that every user of the machine can read is a mistake, but one that the node can live with: the key protects the
/// connection, and shares are sealed to the caller under it.
fn warn_if_public(key: &Path) {
    if std::fs::metadata(key).is_ok_and(|metadata| metadata.mode() & 0o007 != 0) {
        tracing::warn!(file = %key.display(), "tls.key can be read by every user of this machine; chmod 600");
    }
}

fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Pem { key, file: file.to_owned(), source };
    let found: Vec<_> =
        CertificateDer::pem_file_iter(file).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
    if found.is_empty() {
        return Err(TlsError::Empty { key, file: file.to_owned() });
    }
    Ok(found)
}
