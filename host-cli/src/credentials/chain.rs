//! A certificate chain with its private key: a person's own, or an RFC 3820 proxy of it.
//!
//! A proxy file is one PEM file: the proxy, its key, and the certificates that vouch for it, down to the person's. The
//! person is the first certificate that is no proxy; its names are what the nodes know the caller by.

use std::{fmt, path::Path, sync::Arc};

use eds_core::{names, registrant::Registrant};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::{CertifiedKey, SigningKey},
};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroize as _;

use super::{Attested, Error, ProofKind, attributes, in_words, now, unusable};
use crate::config::{self, Pair};

/// Certificates, leaf first, and the key of the leaf.
pub struct Chain {
    place: String,
    certificates: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
    /// DER of the person's names: of the authority, and of the person.
    issuer: Vec<u8>,
    subject: Vec<u8>,
    proxies: usize,
    limited: bool,
    not_after: i64,
    attested: Vec<Attested>,
}

impl Chain {
    /// The certificate of the configuration. Whether its time is over is the nodes' to say: their clock counts.
    ///
    /// # Errors
    /// [`Error`].
    pub fn of_certificate(files: &Pair) -> Result<Self, Error> {
        let certificates = files.read_certificate()?;
        let key = files.read_key()?;
        let chain = Self::read(&files.certificate, &certificates, &files.key, &key)?;
        if chain.proxies > 0 {
            return Err(unusable(&files.certificate, "is a proxy: name its file with identity.proxy"));
        }
        Ok(chain)
    }

    /// The proxy in this file.
    ///
    /// # Errors
    /// [`Error`], also when its time, or that of what it is made from, is over.
    pub fn of_proxy(file: &Path) -> Result<Self, Error> {
        let text = config::read_private(file)?;
        let chain = Self::read(file, &text, file, &text)?;
        if chain.proxies == 0 {
            return Err(unusable(file, "holds no RFC 3820 proxy, as voms-proxy-init -rfc makes it"));
        }
        chain.check_time(now())?;
        Ok(chain)
    }

    fn read(file: &Path, certificates: &[u8], key_file: &Path, key: &[u8]) -> Result<Self, Error> {
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .map_err(|error| unusable(file, format!("cannot be read as PEM certificates: {error}")))?;
        let parsed = certificates.iter().map(|der| X509Certificate::from_der(der).map(|(_, certificate)| certificate));
        let parsed: Vec<X509Certificate<'_>> =
            parsed.collect::<Result<_, _>>().map_err(|_| unusable(file, "holds something that is no certificate"))?;
        let leaf = parsed.first().ok_or_else(|| unusable(file, "holds no certificate"))?;
        let proxies = parsed.iter().take_while(|certificate| attributes::proxy(certificate).is_some()).count();
        let person = parsed
            .get(proxies)
            .ok_or_else(|| unusable(file, "holds a proxy without the certificate that it is made from"))?;
        let unreadable = |error| unusable(key_file, format!("holds no readable private key: {error}"));
        let mut der = PrivateKeyDer::from_pem_slice(key).map_err(|error| unreadable(error.to_string()))?;
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der);
        der.zeroize();
        let signing = signing.map_err(|error| unreadable(error.to_string()))?;
        if signing.public_key().is_some_and(|key| key.as_ref() != leaf.public_key().raw) {
            return Err(Error::OtherKey { path: key_file.into() });
        }
        let until = |certificate: &X509Certificate<'_>| certificate.validity().not_after.timestamp();
        let above = parsed.iter().take(proxies);
        Ok(Self {
            place: file.display().to_string(),
            issuer: person.issuer().as_raw().to_vec(),
            subject: person.subject().as_raw().to_vec(),
            proxies,
            limited: above.clone().any(|proxy| attributes::proxy(proxy) == Some(attributes::Proxy::Limited)),
            not_after: parsed.iter().take(proxies + 1).map(until).min().unwrap_or(i64::MIN),
            // The first that a proxy carries, from the leaf on: those are the ones that nodes look at.
            attested: above.filter_map(attributes::attested).next().unwrap_or_default(),
            certificates,
            key: signing,
        })
    }

    /// Whether this is a person's own certificate, or a proxy of it.
    pub fn kind(&self) -> ProofKind {
        if self.proxies > 0 { ProofKind::Proxy } else { ProofKind::Certificate }
    }

    /// Where it was found.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The person's name, for people.
    pub fn subject(&self) -> String {
        names::display(&self.subject)
    }

    /// The name of the authority that vouches for the person, for people.
    pub fn authority(&self) -> String {
        names::display(&self.issuer)
    }

    /// DER of that name.
    pub fn authority_der(&self) -> &[u8] {
        &self.issuer
    }

    /// The digest that sealed registrations are bound to.
    pub fn registrant(&self) -> [u8; 32] {
        Registrant { kind: "x509", namespace: &self.issuer, subject: &self.subject }.digest()
    }

    /// Whether a proxy of it is limited.
    pub fn is_limited(&self) -> bool {
        self.limited
    }

    /// What a VOMS server says of the person, according to the proxy.
    pub fn attested(&self) -> &[Attested] {
        &self.attested
    }

    /// When it expires: the first of its certificates.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Refuses a chain whose time is over.
    ///
    /// # Errors
    /// [`Error::Expired`].
    pub fn check_time(&self, now: i64) -> Result<(), Error> {
        if self.not_after >= now {
            return Ok(());
        }
        Err(Error::Expired {
            kind: self.kind(),
            subject: self.subject(),
            place: self.place.clone(),
            when: in_words(self.not_after),
        })
    }

    /// What TLS needs. The certificates are not parsed for it: rustls knows no proxies.
    pub(crate) fn certified_key(&self) -> CertifiedKey {
        CertifiedKey::new(self.certificates.clone(), Arc::clone(&self.key))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({}, key <redacted>)", self.subject())
    }
}
