//! What a proxy says of itself: whether it is one, and the VOMS attributes in it. Read for display, never verified.
//!
//! A proxy is told by its ProxyCertInfo (RFC 3820, section 3.8); VOMS attributes are attribute certificates (RFC 5755) in
//! an extension of it. The nodes verify all of it; here it only says what they will see.

use eds_core::names;
use x509_parser::{
    asn1_rs::{Any, FromDer as _, Tag},
    certificate::X509Certificate,
    time::ASN1Time,
};

/// Groups that a VOMS server attested.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attested {
    /// The groups and roles, the primary one first.
    pub fqans: Vec<String>,
    /// When the attestation expires, in seconds since 1970.
    pub not_after: i64,
}

/// What a proxy may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Proxy {
    Full,
    Limited,
}

/// Whether the certificate is a proxy.
pub(super) fn proxy(certificate: &X509Certificate<'_>) -> Option<Proxy> {
    let information = extension(certificate, PROXY_CERT_INFO)?;
    let language = || {
        let mut fields = content(information, Tag::Sequence)?;
        let mut policy = next(&mut fields)?;
        if policy.tag() == Tag::Integer {
            policy = next(&mut fields)?;
        }
        let mut policy = policy.data;
        Some(next(&mut policy)?.data)
    };
    Some(if language() == Some(LIMITED) { Proxy::Limited } else { Proxy::Full })
}

/// The VOMS attributes of a proxy, if it has any that can be read.
pub(super) fn attested(certificate: &X509Certificate<'_>) -> Option<Vec<Attested>> {
    let mut list = content(content(extension(certificate, VOMS)?, Tag::Sequence)?, Tag::Sequence)?;
    let mut found = Vec::new();
    while !list.is_empty() {
        found.push(attribute_certificate(next(&mut list)?.data)?);
    }
    Some(found)
}

fn attribute_certificate(bytes: &[u8]) -> Option<Attested> {
    let mut fields = content(bytes, Tag::Sequence)?;
    // version, holder, issuer, signature, serialNumber
    for _ in 0..5 {
        next(&mut fields)?;
    }
    let validity = next(&mut fields)?.data;
    let (rest, _) = ASN1Time::from_der(validity).ok()?;
    let (_, not_after) = ASN1Time::from_der(rest).ok()?;
    let mut attributes = next(&mut fields)?.data;
    let mut fqans = Vec::new();
    while !attributes.is_empty() {
        let mut attribute = next(&mut attributes)?.data;
        if next(&mut attribute)?.data != VOMS_ATTRIBUTE {
            continue;
        }
        let mut syntax = content(content(attribute, Tag::Set)?, Tag::Sequence)?;
        // policyAuthority
        next(&mut syntax)?;
        let mut values = content(syntax, Tag::Sequence)?;
        while !values.is_empty() {
            let text = std::str::from_utf8(next(&mut values)?.data).ok()?;
            fqans.push(names::group(text)?);
        }
    }
    Some(Attested { fqans, not_after: not_after.timestamp() })
}

fn extension<'a>(certificate: &'a X509Certificate<'_>, oid: &[u8]) -> Option<&'a [u8]> {
    certificate.extensions().iter().find(|extension| extension.oid.as_bytes() == oid).map(|extension| extension.value)
}

/// The next DER value.
fn next<'a>(input: &mut &'a [u8]) -> Option<Any<'a>> {
    let (rest, value) = Any::from_der(input).ok()?;
    *input = rest;
    Some(value)
}

/// The content of the DER value at the start, which must have this tag.
fn content(mut input: &[u8], tag: Tag) -> Option<&[u8]> {
    next(&mut input).filter(|value| value.tag() == tag).map(|value| value.data)
}

/// id-pe-proxyCertInfo 1.3.6.1.5.5.7.1.14.
const PROXY_CERT_INFO: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x0e];
/// Globus' limited proxy 1.3.6.1.4.1.3536.1.1.1.9.
const LIMITED: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x9b, 0x50, 0x01, 0x01, 0x01, 0x09];
/// The VOMS extension 1.3.6.1.4.1.8005.100.100.5.
const VOMS: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xbe, 0x45, 0x64, 0x64, 0x05];
/// The VOMS attribute 1.3.6.1.4.1.8005.100.100.4.
const VOMS_ATTRIBUTE: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xbe, 0x45, 0x64, 0x64, 0x04];
