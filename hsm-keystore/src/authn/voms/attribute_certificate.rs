//! The VOMS profile of RFC 5755 attribute certificates, parsed.
//!
//! `AC_SEQ ::= SEQUENCE { SEQUENCE OF AttributeCertificate }` is the content of the VOMS extension of a proxy. Parsing
//! judges nothing but the structure; the bytes that are signed and the names that are compared are kept as received.

use der::Tag;

use super::{MAX_ATTRIBUTE_CERTIFICATES, Refusal};
use crate::authn::{
    certificate::{AuthorityKeyId, Certificate, GeneralName, authority_key_id, general_name, general_names},
    fields::{self, Fields, Malformed, Signed, context, dotted},
    name::Name,
    signature::{BadSignature, PublicKey},
};

/// An attribute certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttributeCertificate {
    signed: Signed,
    /// The issuer of the holder's certificate.
    pub holder_issuer: Name,
    /// The content of the serial number of the holder's certificate.
    pub holder_serial: Vec<u8>,
    /// Who issued the attribute certificate.
    pub issuer: Name,
    /// The content of its serial number.
    pub serial: Vec<u8>,
    /// The first second of validity, since 1970.
    pub not_before: i64,
    /// The last second of validity, since 1970.
    pub not_after: i64,
    /// The `vo://host:port` of the policy authority.
    pub authority: String,
    /// The FQANs as they stand there.
    pub fqans: Vec<String>,
    /// Its extensions.
    pub extensions: Extensions,
}

/// The extensions of an attribute certificate.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Extensions {
    /// The signer's certificate and its chain.
    pub certificates: Option<Vec<Certificate>>,
    /// The services it is meant for.
    pub targets: Option<Vec<GeneralName>>,
    /// Whether there is noRevAvail.
    pub no_revocation: bool,
    /// authorityKeyIdentifier.
    pub authority_key_id: Option<AuthorityKeyId>,
    /// The first critical extension that is not understood, in dotted form.
    pub unknown_critical: Option<String>,
}

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Parses the content of the VOMS extension.
///
/// # Errors
/// [`Refusal::Malformed`] or [`Refusal::TooMany`].
pub fn parse_sequence(extension: &[u8]) -> Result<Vec<AttributeCertificate>, Refusal> {
    let mut outer = Fields::of_sequence(extension)?;
    let mut list = outer.sequence()?;
    outer.finish()?;
    let mut certificates = Vec::new();
    while !list.is_finished() {
        if certificates.len() == MAX_ATTRIBUTE_CERTIFICATES {
            return Err(Refusal::TooMany);
        }
        certificates.push(AttributeCertificate::parse(list.sequence()?)?);
    }
    if certificates.is_empty() { Err(Refusal::Malformed) } else { Ok(certificates) }
}

impl AttributeCertificate {
    fn parse(outer: Fields<'_>) -> Result<Self, Malformed> {
        let signed = Signed::read(outer)?;
        let mut fields = signed.fields()?;
        if fields.small_integer()? != 1 {
            return Err(Malformed);
        }
        let (holder_issuer, holder_serial) = holder(fields.sequence()?)?;
        let issuer = v2_form(Fields::of(fields.value(context(0, true))?)?)?;
        signed.same_algorithm(&mut fields)?;
        let serial = fields.integer()?.to_vec();
        if serial.len() > MAX_SERIAL {
            return Err(Malformed);
        }
        let mut validity = fields.sequence()?;
        let mut generalized = || match validity.peek() {
            Some(Tag::GeneralizedTime) => validity.time(),
            _ => Err(Malformed),
        };
        let (not_before, not_after) = (generalized()?, generalized()?);
        validity.finish()?;
        let (authority, fqans) = attributes(fields.sequence()?)?;
        fields.optional(Tag::BitString)?;
        let extensions = match fields.optional(Tag::Sequence)? {
            Some(content) => Extensions::parse(Fields::of(content)?)?,
            None => Extensions::default(),
        };
        fields.finish()?;
        Ok(Self {
            holder_issuer,
            holder_serial,
            issuer,
            serial,
            not_before,
            not_after,
            authority,
            fqans,
            extensions,
            signed,
        })
    }

    /// Checks the signature with the signer's key.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify_signature(&self, signer: &PublicKey) -> Result<(), BadSignature> {
        self.signed.verify(signer)
    }
}

/// Holder with a baseCertificateID and nothing else: issuer and serial number.
fn holder(mut fields: Fields<'_>) -> Result<(Name, Vec<u8>), Malformed> {
    let mut base = Fields::of(fields.value(context(0, true))?)?;
    fields.finish()?;
    let issuer = only_directory_name(base.sequence()?)?;
    let serial = base.integer()?.to_vec();
    // An issuerUniqueID names certificates of version 2, which no caller has here.
    base.finish()?;
    Ok((issuer, serial))
}

/// V2Form with an issuerName and nothing else.
fn v2_form(mut fields: Fields<'_>) -> Result<Name, Malformed> {
    let name = only_directory_name(fields.sequence()?)?;
    fields.finish()?;
    Ok(name)
}

fn only_directory_name(names: Fields<'_>) -> Result<Name, Malformed> {
    match general_names(names)?.as_slice() {
        [GeneralName::Directory(name)] => Ok(name.clone()),
        _ => Err(Malformed),
    }
}

/// Exactly one VOMS attribute with exactly one IetfAttrSyntax; other attributes are passed over.
fn attributes(mut list: Fields<'_>) -> Result<(String, Vec<String>), Malformed> {
    let mut found = None;
    while !list.is_finished() {
        let mut attribute = list.sequence()?;
        let kind = attribute.oid()?;
        let mut values = Fields::of(attribute.value(Tag::Set)?)?;
        attribute.finish()?;
        if kind != VOMS_ATTRIBUTE {
            continue;
        }
        let value = ietf_syntax(values.sequence()?)?;
        values.finish()?;
        if found.replace(value).is_some() {
            return Err(Malformed);
        }
    }
    found.ok_or(Malformed)
}

fn ietf_syntax(mut fields: Fields<'_>) -> Result<(String, Vec<String>), Malformed> {
    let authority = match general_names(Fields::of(fields.value(context(0, true))?)?)?.as_slice() {
        [GeneralName::Uri(uri)] => uri.clone(),
        _ => return Err(Malformed),
    };
    let mut list = fields.sequence()?;
    fields.finish()?;
    let mut fqans = Vec::new();
    while !list.is_finished() {
        let text = std::str::from_utf8(list.value(Tag::OctetString)?).map_err(|_| Malformed)?;
        if fqans.len() == MAX_FQANS {
            return Err(Malformed);
        }
        fqans.push(text.to_owned());
    }
    if fqans.is_empty() { Err(Malformed) } else { Ok((authority, fqans)) }
}

impl Extensions {
    fn parse(list: Fields<'_>) -> Result<Self, Malformed> {
        let mut extensions = Self::default();
        for fields::Extension { oid, critical, value } in fields::extensions(list, MAX_EXTENSIONS)? {
            match oid {
                CERTIFICATES => extensions.certificates = Some(certificates(value)?),
                TARGETS => extensions.targets = Some(targets(value)?),
                NO_REVOCATION => extensions.no_revocation = true,
                AUTHORITY_KEY_ID => extensions.authority_key_id = Some(authority_key_id(value)?),
                // Generic attributes: nothing here uses them.
                GENERIC_ATTRIBUTES => {}
                _ if critical => _ = extensions.unknown_critical.get_or_insert_with(|| dotted(oid)),
                _ => {}
            }
        }
        Ok(extensions)
    }
}

/// The certificates of the signer: SEQUENCE { SEQUENCE OF Certificate }.
fn certificates(value: &[u8]) -> Result<Vec<Certificate>, Malformed> {
    let mut outer = Fields::of_sequence(value)?;
    let mut list = outer.sequence()?;
    outer.finish()?;
    let mut found = Vec::new();
    while !list.is_finished() {
        if found.len() == MAX_CERTIFICATES {
            return Err(Malformed);
        }
        found.push(Certificate::from_der(list.raw()?)?);
    }
    if found.is_empty() { Err(Malformed) } else { Ok(found) }
}

/// Targets as RFC 5755 section 4.3.2 has them, and as VOMS writes them, with one more SEQUENCE around each. A target that
/// is a group or a certificate cannot be this node, and is kept as a name that never matches.
fn targets(value: &[u8]) -> Result<Vec<GeneralName>, Malformed> {
    let mut outer = Fields::of_sequence(value)?;
    let mut names = Vec::new();
    while !outer.is_finished() {
        let mut list = outer.sequence()?;
        while !list.is_finished() {
            let (tag, content) = list.any()?;
            let (tag, content) = if tag == Tag::Sequence {
                let mut inner = Fields::of(content)?;
                let target = inner.any()?;
                inner.finish()?;
                target
            } else {
                (tag, content)
            };
            let Tag::ContextSpecific { constructed: true, number } = tag else { return Err(Malformed) };
            if names.len() == MAX_TARGETS {
                return Err(Malformed);
            }
            if number.value() == 0 {
                let mut inner = Fields::of(content)?;
                names.push(general_name(&mut inner)?);
                inner.finish()?;
            } else {
                names.push(GeneralName::Other(number.value()));
            }
        }
    }
    Ok(names)
}

const MAX_SERIAL: usize = 20;
const MAX_FQANS: usize = 256;
const MAX_TARGETS: usize = 256;
const MAX_EXTENSIONS: usize = 32;
const MAX_CERTIFICATES: usize = 8;
/// 1.3.6.1.4.1.8005.100.100.4.
const VOMS_ATTRIBUTE: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xbe, 0x45, 0x64, 0x64, 0x04];
/// 1.3.6.1.4.1.8005.100.100.10.
const CERTIFICATES: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xbe, 0x45, 0x64, 0x64, 0x0a];
/// 1.3.6.1.4.1.8005.100.100.11.
const GENERIC_ATTRIBUTES: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xbe, 0x45, 0x64, 0x64, 0x0b];
/// id-ce-targetInformation 2.5.29.55.
const TARGETS: &[u8] = &[0x55, 0x1d, 0x37];
/// id-ce-noRevAvail 2.5.29.56.
const NO_REVOCATION: &[u8] = &[0x55, 0x1d, 0x38];
/// id-ce-authorityKeyIdentifier 2.5.29.35.
const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
