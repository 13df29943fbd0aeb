//! X.509 certificates as they were encoded: RFC 5280 sections 4.1 and 4.2, RFC 3820 section 3.
//!
//! Parsing yields everything that path validation asks about and judges nothing, except that what it does not understand
//! is remembered if it is critical. Bytes that are signed or compared (TBS, names, serial, key) are kept as received.

use super::{
    fields::{self, Fields, Malformed, Signed, context, dotted},
    name::Name,
    signature::{BadSignature, PublicKey},
};

mod extension;

pub use extension::{
    AuthorityKeyId, BasicConstraints, GeneralName, KeyUsage, NameConstraints, PolicyLanguage, ProxyCertInfo,
};
pub(crate) use extension::{EKU_ANY, EKU_CLIENT, authority_key_id, general_name, general_names};

/// A parsed certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    der: Vec<u8>,
    signed: Signed,
    version: u8,
    serial: Vec<u8>,
    issuer: Name,
    subject: Name,
    not_before: i64,
    not_after: i64,
    key: PublicKey,
    extensions: Extensions,
}

/// The extensions of a certificate.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Extensions {
    /// basicConstraints.
    pub basic_constraints: Option<BasicConstraints>,
    /// keyUsage.
    pub key_usage: Option<KeyUsage>,
    /// extKeyUsage: contents of the identifiers.
    pub extended_key_usage: Option<Vec<Vec<u8>>>,
    /// subjectKeyIdentifier.
    pub subject_key_id: Option<Vec<u8>>,
    /// authorityKeyIdentifier.
    pub authority_key_id: Option<AuthorityKeyId>,
    /// subjectAltName.
    pub subject_alt_names: Option<Vec<GeneralName>>,
    /// Whether there is an issuerAltName.
    pub issuer_alt_names: bool,
    /// nameConstraints.
    pub name_constraints: Option<NameConstraints>,
    /// proxyCertInfo of RFC 3820, and whether it is critical.
    pub proxy: Option<(ProxyCertInfo, bool)>,
    /// Whether there is the proxyCertInfo of the draft before RFC 3820 (Globus Toolkit 3).
    pub draft_proxy: bool,
    /// The content of the VOMS extension.
    pub voms: Option<Vec<u8>>,
    /// The first critical extension that is not understood, in dotted form.
    pub unknown_critical: Option<String>,
}

impl Certificate {
    /// Parses a DER certificate.
    ///
    /// # Errors
    /// [`Malformed`] for anything but exactly one certificate of at most [`MAX_CERTIFICATE`] bytes.
    pub fn from_der(der: &[u8]) -> Result<Self, Malformed> {
        if der.len() > MAX_CERTIFICATE {
            return Err(Malformed);
        }
        let signed = Signed::read(Fields::of_sequence(der)?)?;
        let mut fields = signed.fields()?;
        let version = match fields.optional(context(0, true))? {
            None => 1,
            Some(content) => {
                let mut inner = Fields::of(content)?;
                let version = inner.small_integer()?;
                inner.finish()?;
                u8::try_from(version).ok().filter(|version| *version <= 2).ok_or(Malformed)? + 1
            }
        };
        let serial = fields.integer()?;
        if serial.len() > MAX_SERIAL {
            return Err(Malformed);
        }
        signed.same_algorithm(&mut fields)?;
        let issuer = Name::from_der(fields.raw()?)?;
        let mut validity = fields.sequence()?;
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        validity.finish()?;
        let subject = Name::from_der(fields.raw()?)?;
        let key = PublicKey::from_der(fields.raw()?)?;
        for number in [1, 2] {
            if fields.optional(context(number, false))?.is_some() && version < 2 {
                return Err(Malformed);
            }
        }
        let extensions = match fields.optional(context(3, true))? {
            None => Extensions::default(),
            Some(_) if version < 3 => return Err(Malformed),
            Some(content) => Extensions::parse(content)?,
        };
        fields.finish()?;
        let serial = serial.to_vec();
        Ok(Self { der: der.to_vec(), version, serial, issuer, subject, not_before, not_after, key, extensions, signed })
    }

    /// The whole certificate.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// The version: 1, 2 or 3.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// The content of the serial number.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// The issuer's name.
    pub fn issuer(&self) -> &Name {
        &self.issuer
    }

    /// The subject's name.
    pub fn subject(&self) -> &Name {
        &self.subject
    }

    /// The first second of validity, since 1970.
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// The last second of validity, since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// The subject's public key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The extensions.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Whether the certificate names itself as its issuer.
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// Whether `basicConstraints` says that this is an authority.
    pub fn is_authority(&self) -> bool {
        self.extensions.basic_constraints.is_some_and(|constraints| constraints.authority)
    }

    /// Whether `issuer` could have issued this by name and key identifiers; says nothing about the signature.
    pub fn names_as_issuer(&self, issuer: &Self) -> bool {
        if self.issuer != issuer.subject {
            return false;
        }
        let Some(wanted) = &self.extensions.authority_key_id else { return true };
        let key_fits = match (&wanted.key_id, &issuer.extensions.subject_key_id) {
            (Some(wanted), Some(found)) => wanted == found,
            _ => true,
        };
        let serial_fits = match (&wanted.issuer, &wanted.serial) {
            (Some(name), Some(serial)) => *name == issuer.issuer && *serial == issuer.serial,
            _ => true,
        };
        key_fits && serial_fits
    }

    /// Checks the signature with the issuer's key.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify_signature(&self, issuer: &PublicKey) -> Result<(), BadSignature> {
        self.signed.verify(issuer)
    }
}

impl Extensions {
    fn parse(content: &[u8]) -> Result<Self, Malformed> {
        let mut extensions = Self::default();
        for found in fields::extensions(Fields::of_sequence(content)?, MAX_EXTENSIONS)? {
            let understood = extension::read(&mut extensions, found.oid, found.value, found.critical)?;
            if !understood && found.critical {
                extensions.unknown_critical.get_or_insert_with(|| dotted(found.oid));
            }
        }
        Ok(extensions)
    }
}

/// The longest certificate that is read, in bytes; one with VOMS attributes has a few thousand.
pub const MAX_CERTIFICATE: usize = 64 * 1024;
/// RFC 5280 allows 20 bytes; proxies and old authorities use a little more.
const MAX_SERIAL: usize = 64;
const MAX_EXTENSIONS: usize = 64;
