//! RFC 3820 proxies: from the certificate whose key was used up to the end-entity certificate.
//!
//! Each proxy is signed by the next certificate, which must have been sent and must be a proxy or an end-entity
//! certificate; rules of section 3 of the RFC, in the order of that section.

use super::{Reason, Refusal, check_critical, check_purpose, check_validity, refuse};
use crate::authn::{
    certificate::{Certificate, PolicyLanguage, ProxyCertInfo},
    trust::TrustStore,
};

/// The proxies of a chain, and the end-entity certificate that they speak for.
pub(super) struct Proxies<'a> {
    /// The first is the one whose key was used.
    pub(super) proxies: Vec<&'a Certificate>,
    pub(super) end_entity: &'a Certificate,
    pub(super) limited: bool,
}

/// Walks up from the first certificate that was sent and checks every proxy.
pub(super) fn verify<'a>(sent: &'a [Certificate], trust: &TrustStore, now: i64) -> Result<Proxies<'a>, Refusal> {
    let (mut current, _) = sent.split_first().ok_or(Refusal { subject: "(none)".into(), reason: Reason::Empty })?;
    let (mut proxies, mut limited) = (Vec::new(), false);
    while let Some((info, critical)) = &current.extensions().proxy {
        refuse_draft(current)?;
        check_proxy(current, info, *critical, now, trust.settings().skew)?;
        limited |= info.language == PolicyLanguage::Limited;
        let below = u32::try_from(proxies.len()).unwrap_or(u32::MAX);
        if info.path_length.is_some_and(|allowed| allowed < below) {
            return Err(refuse(current, Reason::ProxyPathLength));
        }
        let issuer = issuer_of(current, sent, trust)?;
        if issuer == current || proxies.contains(&issuer) {
            return Err(refuse(current, Reason::TooTangled));
        }
        if issuer.is_authority() {
            return Err(refuse(current, Reason::ProxyOfAuthority));
        }
        if !current.subject().extends_by_common_name(issuer.subject()) {
            return Err(refuse(current, Reason::ProxySubject));
        }
        if issuer.extensions().key_usage.is_some_and(|usage| !usage.digital_signature()) {
            return Err(refuse(issuer, Reason::MayNotSign));
        }
        proxies.push(current);
        current = issuer;
    }
    refuse_draft(current)?;
    if let Some(name @ ("proxy" | "limited proxy")) = current.subject().last_common_name().as_deref()
        && current.subject().extends_by_common_name(current.issuer())
    {
        return Err(refuse(current, Reason::LegacyGt2(name.to_owned())));
    }
    Ok(Proxies { proxies, end_entity: current, limited })
}

fn refuse_draft(certificate: &Certificate) -> Result<(), Refusal> {
    if certificate.extensions().draft_proxy { Err(refuse(certificate, Reason::LegacyGt3)) } else { Ok(()) }
}

/// What can be said of a proxy by itself.
fn check_proxy(proxy: &Certificate, info: &ProxyCertInfo, critical: bool, now: i64, skew: i64) -> Result<(), Refusal> {
    let extensions = proxy.extensions();
    check_critical(proxy)?;
    if !critical {
        return Err(refuse(proxy, Reason::ProxyInfoNotCritical));
    }
    match &info.language {
        PolicyLanguage::InheritAll | PolicyLanguage::Limited => {}
        PolicyLanguage::Independent => return Err(refuse(proxy, Reason::IndependentProxy)),
        PolicyLanguage::Other(language) => return Err(refuse(proxy, Reason::ProxyPolicy(language.clone()))),
    }
    if info.has_policy {
        return Err(refuse(proxy, Reason::ProxyPolicyText));
    }
    if proxy.is_authority()
        || extensions.key_usage.is_some_and(|usage| usage.certificate_sign() || usage.content_commitment())
    {
        return Err(refuse(proxy, Reason::ProxyTooPowerful));
    }
    if extensions.key_usage.is_some_and(|usage| !usage.digital_signature()) {
        return Err(refuse(proxy, Reason::MayNotSign));
    }
    if extensions.subject_alt_names.is_some() || extensions.issuer_alt_names {
        return Err(refuse(proxy, Reason::ProxyAlternativeName));
    }
    check_purpose(proxy, false)?;
    check_validity(proxy, now, skew)
}

/// The certificate among those sent that signed this proxy. Names get longer downwards, so that each certificate that was
/// sent is tried for one proxy at most.
fn issuer_of<'a>(proxy: &Certificate, sent: &'a [Certificate], trust: &TrustStore) -> Result<&'a Certificate, Refusal> {
    let mut wrong = None;
    for candidate in sent.iter().filter(|candidate| proxy.names_as_issuer(candidate)) {
        match proxy.verify_signature(candidate.key()) {
            Ok(()) => return Ok(candidate),
            Err(bad) => wrong = Some(bad),
        }
    }
    let by_authority = trust.named(proxy.issuer()).next().is_some();
    Err(refuse(
        proxy,
        match wrong {
            Some(bad) => Reason::Signature(bad),
            None if by_authority => Reason::ProxyOfAuthority,
            None => Reason::ProxyIssuerMissing,
        },
    ))
}
