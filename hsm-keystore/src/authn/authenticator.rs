//! Authentication at work in a node: what is configured, loaded; and loaded again while the node runs.
//!
//! Authorities, revocation lists and `vomsdir` change under a running node (fetch-crl, new servers of a VO): [`reload`]
//! reads them again and replaces them as one. Files that cannot be used leave what was loaded before, and are told in the
//! log; a list that grows old in the meantime closes its authority by itself.
//!
//! [`reload`]: Authenticator::reload

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, PeerIncompatible, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::{
    AuthnError, Principal,
    certificate::Certificate,
    chain::{self, Reason},
    jwt::{
        Issuer,
        issuers::{Fetch, Issuers},
    },
    setup::SetupError,
    signature::BadSignature,
    trust::{
        Settings, TrustStore,
        directory::{LoadError, Sources, load},
    },
    voms::{self, VomsDirectory},
    x509,
};
use crate::node::Clock;

/// What is accepted as proof.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Accepted {
    /// Where authorities are found.
    pub authorities: Sources,
    /// How strict they are.
    pub settings: Settings,
    /// The `vomsdir`; without one no VOMS attributes are believed, and proxies that carry some are refused.
    pub vomsdir: Option<PathBuf>,
    /// The host names under which VOMS attributes may target this node.
    pub host_names: Vec<String>,
    /// The issuers of tokens.
    pub issuers: Vec<Issuer>,
}

/// Decides who a caller is.
pub struct Authenticator {
    accepted: Accepted,
    loaded: RwLock<Arc<Loaded>>,
    issuers: Option<Issuers<Box<dyn Fetch>>>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Loaded {
    generation: u64,
    trust: TrustStore,
    vomsdir: VomsDirectory,
}

impl Authenticator {
    /// Loads what is accepted; `fetch` gets the documents of token issuers.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(accepted: Accepted, fetch: Box<dyn Fetch>, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        let loaded = RwLock::new(Arc::new(Loaded::from_files(&accepted, 0)?));
        let issuers = match accepted.issuers.as_slice() {
            [] => None,
            list => Some(Issuers::new(list.to_vec(), fetch)?),
        };
        Ok(Self { accepted, loaded, issuers, clock })
    }

    /// Reads authorities, revocation lists and `vomsdir` again.
    ///
    /// # Errors
    /// [`LoadError`]; what was loaded before stays in use.
    pub fn reload(&self) -> Result<(), LoadError> {
        let loaded = Arc::new(Loaded::from_files(&self.accepted, self.generation().wrapping_add(1))?);
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// Counts the reloads: what was proven under an older generation must be proven again.
    pub fn generation(&self) -> u64 {
        self.loaded().generation
    }

    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The principal of the certificates that a caller sent, leaf first.
    ///
    /// # Errors
    /// [`AuthnError`].
    pub fn by_certificates<B: AsRef<[u8]>>(&self, sent: &[B]) -> Result<Principal, AuthnError> {
        let (loaded, now) = (self.loaded(), self.now());
        let proven = chain::verify(sent, &loaded.trust, now)?;
        let attested = voms::verify(&proven, &loaded.trust, &loaded.vomsdir, &self.accepted.host_names, now)?;
        Ok(x509::principal(&proven, attested))
    }

    /// The principal of a bearer token.
    ///
    /// # Errors
    /// [`AuthnError`].
    pub async fn by_token(&self, token: &str) -> Result<Principal, AuthnError> {
        let issuers = self.issuers.as_ref().ok_or(AuthnError::NoTokens)?;
        Ok(Principal::of_token(issuers.authenticate(token, self.now()).await?))
    }

    /// What is accepted, in words for a caller who proved nothing.
    pub fn told(&self) -> String {
        let mut text = "a client certificate or an RFC 3820 proxy of an authority that this node accepts (TLS client authentication)".to_owned();
        if let Some(issuers) = &self.issuers {
            let urls: Vec<&str> = issuers.urls().collect();
            text.push_str(", or a bearer token of ");
            text.push_str(&urls.join(" or "));
        }
        text
    }

    /// Whether tokens are accepted.
    pub fn accepts_tokens(&self) -> bool {
        self.issuers.is_some()
    }

    fn now(&self) -> i64 {
        // A clock before 1970 or far in the future makes everything invalid, which is what it should.
        i64::try_from(self.clock.now()).unwrap_or(i64::MAX)
    }
}

impl Loaded {
    fn from_files(accepted: &Accepted, generation: u64) -> Result<Self, LoadError> {
        let (trust, mut warnings) = load(&accepted.authorities, accepted.settings.clone())?;
        let vomsdir = match &accepted.vomsdir {
            None => VomsDirectory::default(),
            Some(path) => {
                let (vomsdir, more) = VomsDirectory::load(path)?;
                warnings.extend(more);
                vomsdir
            }
        };
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(authorities = trust.authorities().len(), "authorities loaded");
        Ok(Self { generation, trust, vomsdir })
    }
}

/// The verifier of client certificates for rustls, whose own refuses proxies.
///
/// The whole path is decided in the handshake, so that a bad certificate gets the alert that says so; VOMS attributes are
/// judged afterwards, so that what is wrong with them can be told in words. Handshake signatures are checked by rustls
/// with the raw key of the leaf.
pub struct ClientVerifier {
    authenticator: Arc<Authenticator>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientVerifier {
    /// A verifier by this authenticator, with the signature algorithms of the provider.
    pub fn new(authenticator: Arc<Authenticator>, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { authenticator, algorithms }
    }
}

impl std::fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientVerifier")
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: the issuer of a proxy is a person, whom no list of authorities names, and clients choose by this list.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let sent: Vec<&[u8]> = std::iter::once(end_entity).chain(intermediates).map(AsRef::as_ref).collect();
        let loaded = self.authenticator.loaded();
        match chain::verify(&sent, &loaded.trust, self.authenticator.now()) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refusal) => {
                tracing::info!(reason = refusal.reason.word(), "a client certificate is refused");
                Err(rustls::Error::InvalidCertificate(alert(&refusal.reason)))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let certificate = Certificate::from_der(certificate)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let key = SubjectPublicKeyInfoDer::from(certificate.key().as_der());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The error that makes rustls send the alert that fits.
fn alert(reason: &Reason) -> CertificateError {
    match reason {
        Reason::Malformed(_) | Reason::Empty | Reason::TooLong => CertificateError::BadEncoding,
        Reason::Expired => CertificateError::Expired,
        Reason::NotYetValid => CertificateError::NotValidYet,
        Reason::Revoked => CertificateError::Revoked,
        Reason::NoCrl | Reason::CrlNotGenuine | Reason::CrlNotCurrent => CertificateError::UnknownRevocationStatus,
        Reason::Signature(BadSignature::Wrong) => CertificateError::BadSignature,
        Reason::UnknownIssuer(_) | Reason::UnlistedIssuer(_) | Reason::UnusableAuthority(_) => {
            CertificateError::UnknownIssuer
        }
        Reason::NotForClients | Reason::MayNotSign | Reason::IsAnAuthority => CertificateError::InvalidPurpose,
        // Without the reason: rustls would write it, and the names in it, wherever the error is logged.
        _ => CertificateError::ApplicationVerificationFailure,
    }
}
