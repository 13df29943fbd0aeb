//! Certificate revocation lists (RFC 5280 section 5): full lists, signed by the authority itself.
//!
//! Delta lists, lists by another issuer and lists for some of the certificates announce themselves by critical extensions
//! and are refused for it.

use std::collections::HashSet;

use der::Tag;

use crate::authn::{
    fields::{Fields, Malformed, Signed, context, extensions},
    name::Name,
    signature::PublicKey,
};

/// A revocation list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Crl {
    signed: Signed,
    issuer: Name,
    this_update: i64,
    next_update: i64,
    revoked: HashSet<Vec<u8>>,
    signed_by: Vec<PublicKey>,
}

impl Crl {
    /// Parses a DER revocation list. Its signature is judged later, with the issuer's key.
    ///
    /// # Errors
    /// [`Malformed`], also for a list without nextUpdate, with an unknown critical extension, or longer than [`MAX_CRL`].
    pub fn from_der(der: &[u8]) -> Result<Self, Malformed> {
        if der.len() > MAX_CRL {
            return Err(Malformed);
        }
        let signed = Signed::read(Fields::of_sequence(der)?)?;
        let mut fields = signed.fields()?;
        let second = fields.optional(Tag::Integer)?;
        if !matches!(second, None | Some([1])) {
            return Err(Malformed);
        }
        signed.same_algorithm(&mut fields)?;
        let issuer = Name::from_der(fields.raw()?)?;
        let this_update = fields.time()?;
        let next_update = fields.time()?;
        let mut revoked = HashSet::new();
        if let Some(content) = fields.optional(Tag::Sequence)? {
            let mut list = Fields::of(content)?;
            while !list.is_finished() {
                let mut entry = list.sequence()?;
                let serial = entry.integer()?;
                entry.time()?;
                if let Some(extensions) = entry.optional(Tag::Sequence)? {
                    refuse_critical(Fields::of(extensions)?)?;
                }
                entry.finish()?;
                revoked.insert(serial.to_vec());
            }
        }
        if let Some(content) = fields.optional(context(0, true))? {
            refuse_critical(Fields::of_sequence(content)?)?;
        }
        fields.finish()?;
        Ok(Self { issuer, this_update, next_update, revoked, signed_by: Vec::new(), signed })
    }

    /// Who issued the list.
    pub fn issuer(&self) -> &Name {
        &self.issuer
    }

    /// When the next list was to come, in seconds since 1970.
    pub fn next_update(&self) -> i64 {
        self.next_update
    }

    /// Remembers by which of these keys the list is signed, so that a long list is hashed once and not at every caller.
    pub(super) fn verify_with<'a>(&mut self, keys: impl Iterator<Item = &'a PublicKey>) {
        let signed: Vec<PublicKey> = keys.filter(|key| self.verifies(key)).cloned().collect();
        self.signed_by.extend(signed);
    }

    /// Whether the list is signed by this key, or by that of a configured authority of the same name.
    pub(super) fn is_signed_by(&self, key: &PublicKey) -> bool {
        !self.signed_by.is_empty() || self.verifies(key)
    }

    fn verifies(&self, key: &PublicKey) -> bool {
        self.signed.verify(key).is_ok()
    }

    /// Whether the list is the one to ask at this time.
    pub(crate) fn is_current(&self, now: i64, skew: i64, grace: i64) -> bool {
        self.this_update.saturating_sub(skew) <= now && now <= self.next_update.saturating_add(grace)
    }

    /// Whether a certificate with this serial number is revoked.
    pub(crate) fn lists(&self, serial: &[u8]) -> bool {
        self.revoked.contains(serial)
    }
}

fn refuse_critical(list: Fields<'_>) -> Result<(), Malformed> {
    let refused = extensions(list, MAX_EXTENSIONS)?.iter().any(|extension| extension.critical);
    if refused { Err(Malformed) } else { Ok(()) }
}

const MAX_EXTENSIONS: usize = 64;
/// The longest list that is read, in bytes; the longest of the grid have a few megabytes.
pub const MAX_CRL: usize = 64 * 1024 * 1024;
