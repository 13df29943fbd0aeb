//! One attribute certificate, judged.

use super::{
    Attested, Refusal,
    attribute_certificate::AttributeCertificate,
    directory::{ListedChain, VomsDirectory},
    fqan::{is_vo_name, is_within, normalise},
};
use crate::authn::{
    certificate::{Certificate, GeneralName},
    chain,
    trust::TrustStore,
};

/// Verifies one attribute certificate for this end-entity certificate.
pub(super) fn verify(
    attributes: &AttributeCertificate,
    end_entity: &Certificate,
    trust: &TrustStore,
    vomsdir: &VomsDirectory,
    names: &[String],
    now: i64,
) -> Result<Attested, Refusal> {
    if attributes.holder_issuer != *end_entity.issuer() || attributes.holder_serial != end_entity.serial() {
        return Err(Refusal::OtherHolder);
    }
    let (vo, host) = authority(&attributes.authority).ok_or(Refusal::NoVo)?;
    let (signer, sent) = signer(attributes, vo, host, vomsdir)?;
    if attributes.issuer != *signer.subject() {
        return Err(Refusal::OtherIssuer);
    }
    attributes.verify_signature(signer.key()).map_err(|_| Refusal::Signature)?;
    let signer_end =
        chain::verify_signer(signer, sent, trust, now).map_err(|refusal| Refusal::Signer(Box::new(refusal)))?;
    if now.saturating_add(trust.settings().skew) < attributes.not_before {
        return Err(Refusal::NotYetValid);
    }
    if now > attributes.not_after {
        return Err(Refusal::Expired);
    }
    check_extensions(attributes, signer, names)?;
    let outside = || Refusal::OutsideOfVo { vo: vo.to_owned() };
    let base = format!("/{vo}");
    let mut fqans = Vec::with_capacity(attributes.fqans.len());
    for fqan in &attributes.fqans {
        fqans.push(normalise(fqan).filter(|normal| is_within(normal, &base)).ok_or_else(outside)?);
    }
    let source = format!("VO {vo}, server {host}, serial {}", crate::hex::encode(&attributes.serial));
    Ok(Attested { fqans, sources: vec![source], valid_until: attributes.not_after.min(signer_end) })
}

/// VO and host of `vo://host:port`.
fn authority(uri: &str) -> Option<(&str, &str)> {
    let (vo, rest) = uri.split_once("://")?;
    let (host, port) = rest.split_once(':')?;
    let host_fits = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    let port_fits = !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    if is_vo_name(vo) && host_fits && port_fits { Some((vo, host)) } else { None }
}

/// The certificate that signed, and those sent with it: listed in the `.lsc` of this server of this VO, or pinned for it.
fn signer<'a>(
    attributes: &'a AttributeCertificate,
    vo: &str,
    host: &str,
    vomsdir: &'a VomsDirectory,
) -> Result<(&'a Certificate, &'a [Certificate]), Refusal> {
    let name = || (vo.to_owned(), host.to_owned());
    let sent = attributes.extensions.certificates.as_deref().unwrap_or(&[]);
    let listed = vomsdir.chains(vo, host);
    if let (Some(chains), Some(signer)) = (listed, sent.first())
        && chains.iter().any(|chain| fits(chain, sent))
    {
        return Ok((signer, sent));
    }
    let named = vomsdir.pinned(vo).filter(|pinned| *pinned.subject() == attributes.issuer);
    for pinned in named {
        if attributes.verify_signature(pinned.key()).is_ok() {
            return Ok((pinned, sent));
        }
    }
    let (vo, host) = name();
    if listed.is_some() { Err(Refusal::NotListed { vo, host }) } else { Err(Refusal::UnknownServer { vo, host }) }
}

/// Whether these certificates are those of the chain, one by one.
fn fits(chain: &ListedChain, sent: &[Certificate]) -> bool {
    let is = |name: &crate::authn::name::Name, listed: &String| name.matching().is_ok_and(|name| name == *listed);
    chain.len() == sent.len()
        && chain.iter().zip(sent).all(|((subject, issuer), certificate)| {
            is(certificate.subject(), subject) && is(certificate.issuer(), issuer)
        })
}

fn check_extensions(attributes: &AttributeCertificate, signer: &Certificate, names: &[String]) -> Result<(), Refusal> {
    let extensions = &attributes.extensions;
    if let Some(oid) = &extensions.unknown_critical {
        return Err(Refusal::CriticalExtension(oid.clone()));
    }
    if !extensions.no_revocation {
        return Err(Refusal::Revocable);
    }
    let key_id = extensions.authority_key_id.as_ref().ok_or(Refusal::KeyIdentifier)?;
    let sha1 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, signer.key().bits());
    let fits = match (&key_id.key_id, &key_id.issuer, &key_id.serial) {
        (Some(id), ..) => id == sha1.as_ref() || Some(id) == signer.extensions().subject_key_id.as_ref(),
        (None, Some(issuer), Some(serial)) => issuer == signer.issuer() && serial == signer.serial(),
        _ => false,
    };
    if !fits {
        return Err(Refusal::KeyIdentifier);
    }
    match &extensions.targets {
        None => Ok(()),
        Some(targets) if targets.iter().any(|target| is_this_node(target, names)) => Ok(()),
        Some(_) => Err(Refusal::OtherTarget),
    }
}

/// VOMS writes a bare host name as URI; the host of a real URI and a host name count as well.
fn is_this_node(target: &GeneralName, names: &[String]) -> bool {
    let host = match target {
        GeneralName::Host(host) => host.as_str(),
        GeneralName::Uri(uri) => {
            let rest = uri.split_once("://").map_or(uri.as_str(), |(_, rest)| rest);
            rest.split(['/', ':', '?', '#']).next().unwrap_or_default()
        }
        _ => return false,
    };
    !host.is_empty() && names.iter().any(|name| name.eq_ignore_ascii_case(host))
}
