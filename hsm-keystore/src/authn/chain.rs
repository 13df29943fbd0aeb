//! Who a chain of certificates speaks for: RFC 5280 path validation, and RFC 3820 proxies on top.
//!
//! [`verify`] is a pure function over the bytes that the caller sent, the configured authorities and a time. The answer
//! names the end-entity certificate, whose encoded subject, within the namespace of its encoded issuer, is the caller;
//! proxies add nothing to the name. See [`crate::authn::trust`] for why the issuer's name is enough of a namespace.
//!
//! Stricter than the RFCs where nobody needs the laxness: version 3 only, extKeyUsage must hold clientAuth where it is
//! present, no policy constraints, no proxies of the time before RFC 3820, no independent proxies (they carry none of their
//! issuer's rights, so there is nobody to speak for), no proxy policy in a language that is not known.

use std::fmt;

use super::{certificate::Certificate, name::Name, signature::BadSignature, trust::TrustStore};

mod constraints;
mod path;
mod proxy;

/// The caller that a chain proves.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The certificate of the person or service.
    pub end_entity: Certificate,
    /// The proxies below it; the first is the one whose key was used.
    pub proxies: Vec<Certificate>,
    /// Whether a limited proxy is in the chain.
    pub limited: bool,
    /// The authority at the end of the path.
    pub root: Name,
    /// The second up to which everything in the chain is valid, since 1970.
    pub valid_until: i64,
}

/// A chain that proves nobody: which certificate is at fault, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("certificate {subject}: {reason}")]
pub struct Refusal {
    /// The subject of the certificate at fault, in slash form.
    pub subject: String,
    /// Why it is refused.
    #[source]
    pub reason: Reason,
}

/// Why a chain is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// No certificates.
    #[error("no certificate was sent")]
    Empty,
    /// Too many certificates or bytes.
    #[error("more than {MAX_CERTIFICATES} certificates, or more than {MAX_BYTES} bytes of them, were sent")]
    TooLong,
    /// Not a certificate.
    #[error("cannot be parsed as DER certificate of RFC 5280 (position {0} of those sent)")]
    Malformed(usize),
    /// Version 1 or 2.
    #[error("is of version {0}; version 3 is needed")]
    Version(u8),
    /// Not valid yet.
    #[error("is not valid yet")]
    NotYetValid,
    /// Not valid any more.
    #[error("has expired; renew it (a proxy: make a new one)")]
    Expired,
    /// The signature is wrong.
    #[error("not signed by the issuer that it names: {0}")]
    Signature(BadSignature),
    /// Nobody known issued it.
    #[error("its issuer {0} is not an authority that this node knows, nor was it sent along")]
    UnknownIssuer(String),
    /// A critical extension that is not understood.
    #[error("has the critical extension {0}, which is not understood")]
    CriticalExtension(String),
    /// The issuer is not an authority.
    #[error("issued a certificate without being an authority (basicConstraints)")]
    NotAnAuthority,
    /// The issuer may not sign certificates.
    #[error("issued a certificate, which its keyUsage does not allow")]
    MayNotSignCertificates,
    /// Too many authorities below.
    #[error("has more authorities below it than its path length allows")]
    PathLength,
    /// The path is longer than any real one.
    #[error("its path to an authority is too long or too tangled")]
    TooTangled,
    /// Outside of the name constraints of an authority above.
    #[error("is outside of the name constraints of an authority above it: {0}")]
    NameConstraints(String),
    /// Outside of the signing policy of its issuer.
    #[error("is outside of the signing policy of its issuer")]
    SigningPolicy,
    /// Revoked.
    #[error("was revoked by its issuer")]
    Revoked,
    /// There is no revocation list, and one is required.
    #[error("its issuer has no revocation list, and this node requires one")]
    NoCrl,
    /// No genuine revocation list.
    #[error("the revocation list of its issuer is not signed by the issuer's key, or the issuer may not sign one")]
    CrlNotGenuine,
    /// The revocation list is out of date.
    #[error("the revocation list of its issuer is out of date (or from the future); fetch a new one")]
    CrlNotCurrent,
    /// The issuer is configured but cannot be used.
    #[error("its issuer cannot be used: {0}")]
    UnusableAuthority(String),
    /// An issuing authority that must be configured.
    #[error(
        "its issuer {0} is not configured; with several roots only configured authorities may give names. Add the issuer's \
         certificate to the directory or bundle of authorities"
    )]
    UnlistedIssuer(String),
    /// An authority is not a caller.
    #[error("belongs to an authority, which is not a caller")]
    IsAnAuthority,
    /// No subject.
    #[error("has an empty subject")]
    NoSubject,
    /// keyUsage lacks digitalSignature.
    #[error("its keyUsage does not allow digital signatures")]
    MayNotSign,
    /// extKeyUsage lacks clientAuth.
    #[error("its extended key usage does not include client authentication")]
    NotForClients,
    /// Globus Toolkit 2.
    #[error(
        "is a legacy proxy of Globus Toolkit 2 (CN={0}), which has no limits that can be checked; make one with `voms-proxy-init -rfc`"
    )]
    LegacyGt2(String),
    /// Globus Toolkit 3.
    #[error("is a legacy proxy of Globus Toolkit 3 (before RFC 3820); make one with `voms-proxy-init -rfc`")]
    LegacyGt3,
    /// proxyCertInfo is not critical.
    #[error("is a proxy whose proxyCertInfo is not critical")]
    ProxyInfoNotCritical,
    /// An independent proxy.
    #[error("is an independent proxy: it carries none of its issuer's rights")]
    IndependentProxy,
    /// Another policy language.
    #[error("is a proxy with a policy in the language {0}, which is not understood")]
    ProxyPolicy(String),
    /// A policy beside a language that has none.
    #[error("is a proxy with a policy text, which its policy language does not allow")]
    ProxyPolicyText,
    /// A proxy with the powers of an authority.
    #[error("is a proxy that claims to be an authority, or may sign certificates or commitments")]
    ProxyTooPowerful,
    /// A proxy with other names.
    #[error("is a proxy with an alternative name")]
    ProxyAlternativeName,
    /// The subject is not issuer + CN.
    #[error("is a proxy whose subject is not that of its issuer and one common name")]
    ProxySubject,
    /// Issued by an authority.
    #[error("is a proxy issued by an authority")]
    ProxyOfAuthority,
    /// Too many proxies below.
    #[error("has more proxies below it than its proxy path length allows")]
    ProxyPathLength,
    /// The issuer of a proxy was not sent.
    #[error("is a proxy whose issuer was not sent along")]
    ProxyIssuerMissing,
}

/// Verifies the certificates that a caller sent, leaf first.
///
/// # Errors
/// [`Refusal`].
pub fn verify<B: AsRef<[u8]>>(sent: &[B], trust: &TrustStore, now: i64) -> Result<Proven, Refusal> {
    let unnamed = |reason| Refusal { subject: "(none)".into(), reason };
    if sent.is_empty() {
        return Err(unnamed(Reason::Empty));
    }
    if sent.len() > MAX_CERTIFICATES || sent.iter().map(|der| der.as_ref().len()).sum::<usize>() > MAX_BYTES {
        return Err(unnamed(Reason::TooLong));
    }
    let parse = |(position, der): (usize, &B)| {
        Certificate::from_der(der.as_ref()).map_err(|_| unnamed(Reason::Malformed(position)))
    };
    let certificates = sent.iter().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?;
    verify_parsed(&certificates, trust, now)
}

fn verify_parsed(sent: &[Certificate], trust: &TrustStore, now: i64) -> Result<Proven, Refusal> {
    let proxy::Proxies { proxies, end_entity, limited } = proxy::verify(sent, trust, now)?;
    let path = path::find(end_entity, sent, trust, now)?;
    check_end_entity(end_entity)?;
    if let Some(issuer) = path.issuers.first()
        && !path.issuer_is_configured
        && !trust.unlisted_may_speak(issuer)
    {
        return Err(refuse(end_entity, Reason::UnlistedIssuer(issuer.subject().to_string())));
    }
    let ends = path.issuers.iter().copied().chain(proxies.iter().copied()).map(Certificate::not_after);
    let valid_until = ends.fold(end_entity.not_after(), i64::min);
    let root = path.issuers.last().map_or_else(|| end_entity.issuer().clone(), |root| root.subject().clone());
    Ok(Proven {
        end_entity: end_entity.clone(),
        proxies: proxies.into_iter().cloned().collect(),
        limited,
        root,
        valid_until,
    })
}

/// Verifies the signer of a document, such as of an attribute certificate: path validation without the rules for callers.
///
/// # Errors
/// [`Refusal`].
pub(crate) fn verify_signer(
    signer: &Certificate,
    sent: &[Certificate],
    trust: &TrustStore,
    now: i64,
) -> Result<i64, Refusal> {
    let path = path::find(signer, sent, trust, now)?;
    if signer.is_authority() {
        return Err(refuse(signer, Reason::IsAnAuthority));
    }
    if signer.extensions().key_usage.is_some_and(|usage| !usage.digital_signature()) {
        return Err(refuse(signer, Reason::MayNotSign));
    }
    if let Some(issuer) = path.issuers.first()
        && !path.issuer_is_configured
        && !trust.unlisted_may_speak(issuer)
    {
        return Err(refuse(signer, Reason::UnlistedIssuer(issuer.subject().to_string())));
    }
    Ok(path.issuers.iter().fold(signer.not_after(), |end, issuer| end.min(issuer.not_after())))
}

fn check_end_entity(certificate: &Certificate) -> Result<(), Refusal> {
    let extensions = certificate.extensions();
    if certificate.is_authority() {
        return Err(refuse(certificate, Reason::IsAnAuthority));
    }
    if certificate.subject().is_empty() {
        return Err(refuse(certificate, Reason::NoSubject));
    }
    if extensions.key_usage.is_some_and(|usage| !usage.digital_signature()) {
        return Err(refuse(certificate, Reason::MayNotSign));
    }
    check_purpose(certificate, false)
}

/// extKeyUsage, where present, must hold clientAuth; for an authority, whose list limits those below, "any" does too.
fn check_purpose(certificate: &Certificate, authority: bool) -> Result<(), Refusal> {
    use super::certificate::{EKU_ANY, EKU_CLIENT};
    match &certificate.extensions().extended_key_usage {
        Some(list) if !list.iter().any(|oid| oid == EKU_CLIENT || (authority && oid == EKU_ANY)) => {
            Err(refuse(certificate, Reason::NotForClients))
        }
        _ => Ok(()),
    }
}

fn check_validity(certificate: &Certificate, now: i64, skew: i64) -> Result<(), Refusal> {
    if now.saturating_add(skew) < certificate.not_before() {
        return Err(refuse(certificate, Reason::NotYetValid));
    }
    if now > certificate.not_after() {
        return Err(refuse(certificate, Reason::Expired));
    }
    Ok(())
}

fn check_critical(certificate: &Certificate) -> Result<(), Refusal> {
    if certificate.version() != 3 {
        return Err(refuse(certificate, Reason::Version(certificate.version())));
    }
    match &certificate.extensions().unknown_critical {
        Some(oid) => Err(refuse(certificate, Reason::CriticalExtension(oid.clone()))),
        None => Ok(()),
    }
}

fn refuse(certificate: &Certificate, reason: Reason) -> Refusal {
    Refusal { subject: certificate.subject().to_string(), reason }
}

impl Reason {
    /// The reason in one word without names, for logs.
    pub fn word(&self) -> String {
        let text = format!("{self:?}");
        text.split('(').next().unwrap_or_default().to_owned()
    }
}

impl Proven {
    /// How it was proven, for the audit log.
    pub fn how(&self) -> impl fmt::Display {
        let kind = match (self.proxies.len(), self.limited) {
            (0, _) => "certificate",
            (_, false) => "proxy",
            (_, true) => "limited proxy",
        };
        format!(
            "{kind}, serial {} of {}, root {}",
            crate::hex::encode(self.end_entity.serial()),
            self.end_entity.issuer(),
            self.root
        )
    }
}

/// The most certificates of one chain.
pub const MAX_CERTIFICATES: usize = 16;
/// The most bytes of one chain.
pub const MAX_BYTES: usize = 256 * 1024;
