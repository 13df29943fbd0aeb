//! The authorities whose certificates count, their revocation lists and their signing policies.
//!
//! # Who may speak for a name
//! A caller's name lives in the namespace of the authority that issued the end-entity certificate: the encoded issuer
//! name. So that this is enough to tell two people apart, an issuer name must belong to one authority only:
//! * two configured authorities of one name and different keys are refused when they are loaded, unless the officer states
//!   by fingerprint that the newer one continues the older one (a re-keyed authority);
//! * an issuing authority that is not configured itself, but sent by the caller, is accepted only if everything configured
//!   hangs under one root name, which then answers for all names below it; with several roots it must be configured too,
//!   as the grid's CA directories do. Otherwise one root could make an intermediate with the name of another's.
//!
//! Revocation fails closed: a list that is there must be genuine and current, an unreadable list or signing policy makes
//! its authority unusable. Whether every authority must have a list is the officer's choice ([`Settings::require_crl`]).

use std::collections::HashMap;

use super::{certificate::Certificate, name::Name, signature::PublicKey};

pub mod crl;
pub mod directory;
pub mod signing_policy;

pub use self::{crl::Crl, signing_policy::SigningPolicy};

/// An authority as it was configured.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Its certificate.
    pub certificate: Certificate,
    /// What it may sign, where a signing policy is present.
    pub policy: Option<SigningPolicy>,
    /// Why nothing it issued counts, such as an unreadable revocation list.
    pub unusable: Option<String>,
    /// The file it came from, for messages.
    pub source: String,
}

/// How strict the store is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Whether an authority without a revocation list is refused. Default: no, as in the grid.
    pub require_crl: bool,
    /// For how many seconds after its nextUpdate a list still counts. Default: none.
    pub crl_grace: i64,
    /// How many seconds a clock may be behind that of an issuer. Extends the start of validity only, never its end.
    pub skew: i64,
    /// SHA-256 fingerprints of certificates whose authority continues, with a new key, another one of the same name.
    pub rekeyed: Vec<[u8; 32]>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { require_crl: false, crl_grace: 0, skew: 300, rekeyed: Vec::new() }
    }
}

/// Authorities that cannot be used together.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TrustError {
    /// Not the certificate of an authority.
    #[error("{source_file}: the certificate of {subject} is not that of an authority (basicConstraints, keyUsage)")]
    NotAnAuthority {
        /// The file.
        source_file: String,
        /// The subject.
        subject: String,
    },
    /// Two authorities with one name.
    #[error(
        "{first} and {second} hold two authorities with different keys and the one name {name}, so that either could speak \
         for the other's people\nhint: remove one; if the newer one continues the older one, list the fingerprint {fingerprint} under `rekeyed`"
    )]
    SameName {
        /// One file.
        first: String,
        /// The other file.
        second: String,
        /// The name.
        name: String,
        /// SHA-256 of the second certificate.
        fingerprint: String,
    },
    /// One certificate with two signing policies.
    #[error("{first} and {second} hold the same authority with different signing policies")]
    TwoPolicies {
        /// One file.
        first: String,
        /// The other file.
        second: String,
    },
}

/// Authorities, their revocation lists and signing policies.
#[derive(Clone, Debug, Default)]
pub struct TrustStore {
    authorities: Vec<Authority>,
    by_name: HashMap<Name, Vec<usize>>,
    crls: HashMap<Name, Vec<Crl>>,
    roots: usize,
    settings: Settings,
}

impl TrustStore {
    /// Puts authorities and revocation lists together.
    ///
    /// # Errors
    /// [`TrustError`] when they cannot be used together.
    pub fn new(authorities: Vec<Authority>, crls: Vec<Crl>, settings: Settings) -> Result<Self, TrustError> {
        let mut store = Self { settings, ..Self::default() };
        for authority in authorities {
            store.add(authority)?;
        }
        for mut crl in crls {
            let keys = store.named(crl.issuer()).map(|authority| authority.certificate.key());
            crl.verify_with(keys);
            store.crls.entry(crl.issuer().clone()).or_default().push(crl);
        }
        let mut roots: Vec<&Name> = store
            .authorities
            .iter()
            .filter(|authority| store.is_root(&authority.certificate))
            .map(|authority| authority.certificate.subject())
            .collect();
        roots.sort();
        roots.dedup();
        store.roots = roots.len();
        Ok(store)
    }

    fn add(&mut self, authority: Authority) -> Result<(), TrustError> {
        let certificate = &authority.certificate;
        let old_root = certificate.version() < 3 && certificate.is_self_issued();
        let signs = certificate.extensions().key_usage.is_none_or(|usage| usage.certificate_sign());
        if !(certificate.is_authority() || old_root) || !signs || certificate.subject().is_empty() {
            let subject = certificate.subject().to_string();
            return Err(TrustError::NotAnAuthority { source_file: authority.source, subject });
        }
        for position in self.by_name.get(certificate.subject()).cloned().unwrap_or_default() {
            let Some(other) = self.authorities.get_mut(position) else { continue };
            if other.certificate.as_der() == certificate.as_der() {
                if let (Some(one), Some(two)) = (&other.policy, &authority.policy)
                    && one != two
                {
                    return Err(TrustError::TwoPolicies { first: other.source.clone(), second: authority.source });
                }
                // Found twice, such as in a directory and in a bundle: what limits it in one place does so in both.
                other.policy = other.policy.take().or(authority.policy);
                other.unusable = other.unusable.take().or(authority.unusable);
                return Ok(());
            }
            let stated = |certificate: &Certificate| self.settings.rekeyed.contains(&fingerprint(certificate));
            if other.certificate.key() != certificate.key() && !stated(certificate) && !stated(&other.certificate) {
                return Err(TrustError::SameName {
                    first: other.source.clone(),
                    second: authority.source.clone(),
                    name: certificate.subject().to_string(),
                    fingerprint: crate::hex::encode(&fingerprint(certificate)),
                });
            }
        }
        self.by_name.entry(certificate.subject().clone()).or_default().push(self.authorities.len());
        self.authorities.push(authority);
        Ok(())
    }

    /// The authorities.
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// How strict the store is.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The authorities of this name.
    pub(crate) fn named<'a>(&'a self, name: &Name) -> impl Iterator<Item = &'a Authority> + use<'a> {
        let positions = self.by_name.get(name).map_or(&[][..], Vec::as_slice);
        positions.iter().filter_map(|position| self.authorities.get(*position))
    }

    /// Whether a path may end at this configured certificate: it names itself as issuer, or its issuer is not configured.
    pub(crate) fn is_root(&self, certificate: &Certificate) -> bool {
        certificate.is_self_issued() || self.named(certificate.issuer()).next().is_none()
    }

    /// Whether an issuer that only the caller sent may give names: see the head of this file.
    pub(crate) fn unlisted_may_speak(&self, issuer: &Certificate) -> bool {
        let mut named = self.named(issuer.subject()).peekable();
        match named.peek() {
            Some(_) => named.any(|authority| authority.certificate.key() == issuer.key()),
            None => self.roots == 1,
        }
    }

    /// The revocation lists of the issuer with this name, and whether each is signed by its key (or by another key of the
    /// same name, which the officer stated to be the same authority).
    pub(crate) fn crls_of<'a>(
        &'a self,
        issuer: &'a Name,
        key: &'a PublicKey,
    ) -> impl Iterator<Item = (&'a Crl, bool)> + use<'a> {
        self.crls.get(issuer).into_iter().flatten().map(move |crl| (crl, crl.is_signed_by(key)))
    }
}

/// SHA-256 of the certificate.
pub fn fingerprint(certificate: &Certificate) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(certificate.as_der()).into()
}
