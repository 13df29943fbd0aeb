//! The extensions of certificates that path validation understands.
//!
//! An extension that is not listed in [`read`] is not understood; if it is critical, the certificate is refused. That
//! includes policyConstraints and policyMappings: nothing here builds a policy tree. certificatePolicies and
//! inhibitAnyPolicy need no work as long as no policy is asked for (RFC 5280 section 6.1.1, initial-explicit-policy false).

use der::Tag;

use super::Extensions;
use crate::authn::{
    fields::{Fields, Malformed, context},
    name::Name,
};

/// basicConstraints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BasicConstraints {
    /// Whether the subject is an authority.
    pub authority: bool,
    /// How many authorities may follow below.
    pub path_length: Option<u32>,
}

/// keyUsage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyUsage(u8);

impl KeyUsage {
    /// May sign data, such as a handshake or a proxy.
    pub fn digital_signature(self) -> bool {
        self.0 & 0x80 != 0
    }

    /// May make signatures that the subject cannot deny.
    pub fn content_commitment(self) -> bool {
        self.0 & 0x40 != 0
    }

    /// May sign certificates.
    pub fn certificate_sign(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// May sign revocation lists.
    pub fn crl_sign(self) -> bool {
        self.0 & 0x02 != 0
    }
}

/// authorityKeyIdentifier.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuthorityKeyId {
    /// The key identifier.
    pub key_id: Option<Vec<u8>>,
    /// The issuer of the issuer's certificate.
    pub issuer: Option<Name>,
    /// The serial number of the issuer's certificate.
    pub serial: Option<Vec<u8>>,
}

/// A name in one of the forms of subjectAltName.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GeneralName {
    /// A mail address.
    Email(String),
    /// A host name.
    Host(String),
    /// A distinguished name.
    Directory(Name),
    /// A URI.
    Uri(String),
    /// Another form, by its tag number.
    Other(u32),
}

/// nameConstraints.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NameConstraints {
    /// Names of these forms must lie below one of these.
    pub permitted: Vec<GeneralName>,
    /// No name may lie below one of these.
    pub excluded: Vec<GeneralName>,
}

/// What a proxy inherits (RFC 3820 section 3.8.2, and Globus' limited proxies).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PolicyLanguage {
    /// All rights of its issuer.
    InheritAll,
    /// All rights of its issuer but that of starting jobs.
    Limited,
    /// None: it is a name of its own.
    Independent,
    /// Something else, in dotted form.
    Other(String),
}

/// proxyCertInfo.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProxyCertInfo {
    /// How many proxies may follow below.
    pub path_length: Option<u32>,
    /// What the proxy inherits.
    pub language: PolicyLanguage,
    /// Whether a policy text stands beside the language.
    pub has_policy: bool,
}

/// Reads one extension into `to`; false if it is not understood.
pub(super) fn read(to: &mut Extensions, oid: &[u8], value: &[u8], critical: bool) -> Result<bool, Malformed> {
    match oid {
        [0x55, 0x1d, 0x0e] => to.subject_key_id = Some(only(value, Tag::OctetString)?.to_vec()),
        [0x55, 0x1d, 0x0f] => to.key_usage = Some(key_usage(value)?),
        [0x55, 0x1d, 0x11] => to.subject_alt_names = Some(general_names(Fields::of_sequence(value)?)?),
        [0x55, 0x1d, 0x12] => to.issuer_alt_names = true,
        [0x55, 0x1d, 0x13] => to.basic_constraints = Some(basic_constraints(value)?),
        [0x55, 0x1d, 0x1e] => to.name_constraints = Some(name_constraints(value)?),
        [0x55, 0x1d, 0x23] => to.authority_key_id = Some(authority_key_id(value)?),
        [0x55, 0x1d, 0x25] => to.extended_key_usage = Some(extended_key_usage(value)?),
        // certificatePolicies and inhibitAnyPolicy: see above.
        [0x55, 0x1d, 0x20] | [0x55, 0x1d, 0x36] => {}
        PROXY_CERT_INFO => to.proxy = Some((proxy_cert_info(value)?, critical)),
        DRAFT_PROXY_CERT_INFO => to.draft_proxy = true,
        VOMS => to.voms = Some(value.to_vec()),
        _ => return Ok(false),
    }
    Ok(true)
}

fn only(value: &[u8], tag: Tag) -> Result<&[u8], Malformed> {
    let mut fields = Fields::of(value)?;
    let content = fields.value(tag)?;
    fields.finish()?;
    Ok(content)
}

fn key_usage(value: &[u8]) -> Result<KeyUsage, Malformed> {
    match only(value, Tag::BitString)? {
        [unused @ 0..=7, bits @ ..] if bits.len() <= 2 && (*unused == 0 || !bits.is_empty()) => {
            Ok(KeyUsage(bits.first().copied().unwrap_or(0)))
        }
        _ => Err(Malformed),
    }
}

fn basic_constraints(value: &[u8]) -> Result<BasicConstraints, Malformed> {
    let mut fields = Fields::of_sequence(value)?;
    let authority = fields.default_false()?;
    let path_length = fields.optional(Tag::Integer)?.map(Fields::small).transpose()?;
    fields.finish()?;
    Ok(BasicConstraints { authority, path_length })
}

fn extended_key_usage(value: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut fields = Fields::of_sequence(value)?;
    let mut purposes = Vec::new();
    while !fields.is_finished() {
        purposes.push(fields.oid()?.to_vec());
    }
    if purposes.is_empty() { Err(Malformed) } else { Ok(purposes) }
}

/// Reads an authorityKeyIdentifier.
pub(crate) fn authority_key_id(value: &[u8]) -> Result<AuthorityKeyId, Malformed> {
    let mut fields = Fields::of_sequence(value)?;
    let key_id = fields.optional(context(0, false))?.map(<[u8]>::to_vec);
    let issuer = match fields.optional(context(1, true))? {
        None => None,
        Some(names) => general_names(Fields::of(names)?)?.into_iter().find_map(|name| match name {
            GeneralName::Directory(name) => Some(name),
            _ => None,
        }),
    };
    let serial = fields.optional(context(2, false))?.map(<[u8]>::to_vec);
    fields.finish()?;
    Ok(AuthorityKeyId { key_id, issuer, serial })
}

/// Reads the names that are left in these fields.
pub(crate) fn general_names(mut fields: Fields<'_>) -> Result<Vec<GeneralName>, Malformed> {
    let mut names = Vec::new();
    while !fields.is_finished() {
        if names.len() == MAX_NAMES {
            return Err(Malformed);
        }
        names.push(general_name(&mut fields)?);
    }
    Ok(names)
}

/// Reads one name.
pub(crate) fn general_name(fields: &mut Fields<'_>) -> Result<GeneralName, Malformed> {
    let (tag, content) = fields.any()?;
    let Tag::ContextSpecific { constructed, number } = tag else { return Err(Malformed) };
    let text = || match std::str::from_utf8(content) {
        Ok(text) if text.is_ascii() => Ok(text.to_owned()),
        _ => Err(Malformed),
    };
    Ok(match (number.value(), constructed) {
        (1, false) => GeneralName::Email(text()?),
        (2, false) => GeneralName::Host(text()?),
        (4, true) => {
            let mut inner = Fields::of(content)?;
            let name = Name::from_der(inner.raw()?)?;
            inner.finish()?;
            GeneralName::Directory(name)
        }
        (6, false) => GeneralName::Uri(text()?),
        (number @ (0 | 3 | 5), true) | (number @ (7 | 8), false) => GeneralName::Other(number),
        _ => return Err(Malformed),
    })
}

fn name_constraints(value: &[u8]) -> Result<NameConstraints, Malformed> {
    let mut fields = Fields::of_sequence(value)?;
    let mut subtrees = |number| match fields.optional(context(number, true))? {
        None => Ok(Vec::new()),
        Some(content) => {
            let mut list = Fields::of(content)?;
            let mut names = Vec::new();
            while !list.is_finished() {
                let mut subtree = list.sequence()?;
                // RFC 5280 section 4.2.1.10: minimum is zero and maximum is absent, so nothing follows the base.
                let name = general_name(&mut subtree)?;
                subtree.finish()?;
                if names.len() == MAX_NAMES {
                    return Err(Malformed);
                }
                names.push(name);
            }
            Ok(names)
        }
    };
    let constraints = NameConstraints { permitted: subtrees(0)?, excluded: subtrees(1)? };
    fields.finish()?;
    Ok(constraints)
}

fn proxy_cert_info(value: &[u8]) -> Result<ProxyCertInfo, Malformed> {
    let mut fields = Fields::of_sequence(value)?;
    let path_length = fields.optional(Tag::Integer)?.map(Fields::small).transpose()?;
    let mut policy = fields.sequence()?;
    fields.finish()?;
    let language = match policy.oid()? {
        INHERIT_ALL => PolicyLanguage::InheritAll,
        LIMITED => PolicyLanguage::Limited,
        INDEPENDENT => PolicyLanguage::Independent,
        other => PolicyLanguage::Other(crate::authn::fields::dotted(other)),
    };
    let has_policy = policy.optional(Tag::OctetString)?.is_some();
    policy.finish()?;
    Ok(ProxyCertInfo { path_length, language, has_policy })
}

const MAX_NAMES: usize = 1024;
/// anyExtendedKeyUsage 2.5.29.37.0.
pub(crate) const EKU_ANY: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
/// id-kp-clientAuth 1.3.6.1.5.5.7.3.2.
pub(crate) const EKU_CLIENT: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
/// 1.3.6.1.5.5.7.1.14.
const PROXY_CERT_INFO: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x0e];
/// 1.3.6.1.4.1.3536.1.222.
const DRAFT_PROXY_CERT_INFO: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x9b, 0x50, 0x01, 0x81, 0x5e];
/// 1.3.6.1.4.1.8005.100.100.5.
const VOMS: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xbe, 0x45, 0x64, 0x64, 0x05];
/// id-ppl-inheritAll 1.3.6.1.5.5.7.21.1.
const INHERIT_ALL: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x15, 0x01];
/// id-ppl-independent 1.3.6.1.5.5.7.21.2.
const INDEPENDENT: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x15, 0x02];
/// Globus' limited proxy 1.3.6.1.4.1.3536.1.1.1.9.
const LIMITED: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x9b, 0x50, 0x01, 0x01, 0x01, 0x09];
