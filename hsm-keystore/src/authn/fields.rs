//! Strict DER, read field by field.
//!
//! A thin cursor over the `der` crate: definite, minimal lengths only, no trailing bytes, raw slices kept so that
//! signatures and names are judged over the bytes that were received. Certificates, CRLs and attribute certificates are
//! read with it; nothing here interprets what it reads.

use der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged, asn1::AnyRef};
use eds_core::names;

use super::signature::{BadSignature, PublicKey};

/// Bytes that are not the DER structure they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not the DER structure it should be")]
pub struct Malformed;

impl From<der::Error> for Malformed {
    fn from(_: der::Error) -> Self {
        Self
    }
}

/// A context-specific tag.
pub(crate) const fn context(number: u32, constructed: bool) -> Tag {
    Tag::ContextSpecific { constructed, number: TagNumber(number) }
}

/// The fields of a DER structure, read in order.
#[derive(Clone)]
pub(crate) struct Fields<'a> {
    reader: SliceReader<'a>,
}

impl<'a> Fields<'a> {
    /// The fields in these content bytes.
    pub(crate) fn of(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Ok(Self { reader: SliceReader::new(bytes)? })
    }

    /// The fields of the one SEQUENCE that these bytes are.
    pub(crate) fn of_sequence(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut outer = Self::of(bytes)?;
        let inner = outer.sequence()?;
        outer.finish()?;
        Ok(inner)
    }

    /// The next field, whatever it is: tag and content.
    pub(crate) fn any(&mut self) -> Result<(Tag, &'a [u8]), Malformed> {
        let any = AnyRef::decode(&mut self.reader)?;
        Ok((any.tag(), any.value()))
    }

    /// The next field with tag and length, checked to be one whole DER value at this level.
    pub(crate) fn raw(&mut self) -> Result<&'a [u8], Malformed> {
        let raw = self.reader.clone().tlv_bytes()?;
        self.any()?;
        Ok(raw)
    }

    /// The tag of the next field; `None` at the end.
    pub(crate) fn peek(&self) -> Option<Tag> {
        Tag::peek(&self.reader).ok()
    }

    /// The content of the next field, which must have this tag.
    pub(crate) fn value(&mut self, tag: Tag) -> Result<&'a [u8], Malformed> {
        match self.any()? {
            (found, content) if found == tag => Ok(content),
            _ => Err(Malformed),
        }
    }

    /// The content of the next field if it has this tag.
    pub(crate) fn optional(&mut self, tag: Tag) -> Result<Option<&'a [u8]>, Malformed> {
        if self.peek() == Some(tag) { self.value(tag).map(Some) } else { Ok(None) }
    }

    /// The fields of the next field, which must be a SEQUENCE.
    pub(crate) fn sequence(&mut self) -> Result<Self, Malformed> {
        Self::of(self.value(Tag::Sequence)?)
    }

    /// The content of a BIT STRING of whole bytes.
    pub(crate) fn bits(&mut self) -> Result<&'a [u8], Malformed> {
        match self.value(Tag::BitString)?.split_first() {
            Some((0, bits)) => Ok(bits),
            _ => Err(Malformed),
        }
    }

    /// The content of an OBJECT IDENTIFIER.
    pub(crate) fn oid(&mut self) -> Result<&'a [u8], Malformed> {
        self.value(Tag::ObjectIdentifier)
    }

    /// The content of an INTEGER of any size, which has no superfluous first byte.
    pub(crate) fn integer(&mut self) -> Result<&'a [u8], Malformed> {
        match self.value(Tag::Integer)? {
            [] | [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..] => Err(Malformed),
            content => Ok(content),
        }
    }

    /// A small non-negative INTEGER.
    pub(crate) fn small_integer(&mut self) -> Result<u32, Malformed> {
        Self::small(self.value(Tag::Integer)?)
    }

    /// A small non-negative INTEGER from its content.
    pub(crate) fn small(content: &[u8]) -> Result<u32, Malformed> {
        if content.is_empty() || content.len() > 4 || content.first().is_some_and(|first| first & 0x80 != 0) {
            return Err(Malformed);
        }
        Ok(content.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// A BOOLEAN DEFAULT FALSE; an encoded FALSE is tolerated, as every verifier in the field does.
    pub(crate) fn default_false(&mut self) -> Result<bool, Malformed> {
        match self.optional(Tag::Boolean)? {
            None | Some([0]) => Ok(false),
            Some([0xff]) => Ok(true),
            Some(_) => Err(Malformed),
        }
    }

    /// A UTCTime or GeneralizedTime in the form of RFC 5280 section 4.1.2.5, as seconds since 1970.
    pub(crate) fn time(&mut self) -> Result<i64, Malformed> {
        let (tag, content) = self.any()?;
        let any = AnyRef::new(tag, content)?;
        let since = match tag {
            Tag::UtcTime => any.decode_as::<der::asn1::UtcTime>()?.to_unix_duration(),
            Tag::GeneralizedTime => any.decode_as::<der::asn1::GeneralizedTime>()?.to_unix_duration(),
            _ => return Err(Malformed),
        };
        i64::try_from(since.as_secs()).map_err(|_| Malformed)
    }

    /// Whether every field was read.
    pub(crate) fn is_finished(&self) -> bool {
        self.reader.is_finished()
    }

    /// Ends the reading; bytes that are left are an error.
    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.is_finished() { Ok(()) } else { Err(Malformed) }
    }
}

/// What every signed structure of X.509 is: the signed bytes, the algorithm, and the signature (SIGNED of X.509; RFC 5280,
/// sections 4.1.1 and 5.1.1; RFC 5755, section 4.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Signed {
    /// The signed bytes, with their tag and length.
    pub(crate) tbs: Vec<u8>,
    /// The content of the AlgorithmIdentifier.
    pub(crate) algorithm: Vec<u8>,
    /// The signature.
    pub(crate) signature: Vec<u8>,
}

impl Signed {
    /// Reads the fields of the structure, which must be these three.
    pub(crate) fn read(mut outer: Fields<'_>) -> Result<Self, Malformed> {
        let tbs = outer.raw()?.to_vec();
        let algorithm = outer.value(Tag::Sequence)?.to_vec();
        let signature = outer.bits()?.to_vec();
        outer.finish()?;
        Ok(Self { tbs, algorithm, signature })
    }

    /// The fields of what is signed.
    pub(crate) fn fields(&self) -> Result<Fields<'_>, Malformed> {
        Fields::of_sequence(&self.tbs)
    }

    /// Reads the algorithm that stands once more within what is signed, where it must be the same.
    pub(crate) fn same_algorithm(&self, fields: &mut Fields<'_>) -> Result<(), Malformed> {
        if fields.value(Tag::Sequence)? == self.algorithm { Ok(()) } else { Err(Malformed) }
    }

    /// Checks the signature with this key.
    pub(crate) fn verify(&self, key: &PublicKey) -> Result<(), BadSignature> {
        key.verify(&self.algorithm, &self.tbs, &self.signature)
    }
}

/// One extension.
pub(crate) struct Extension<'a> {
    /// The content of its identifier.
    pub(crate) oid: &'a [u8],
    /// Whether who does not understand it must refuse.
    pub(crate) critical: bool,
    /// Its value.
    pub(crate) value: &'a [u8],
}

/// Reads a list of extensions, at most `most` and none twice.
pub(crate) fn extensions(mut list: Fields<'_>, most: usize) -> Result<Vec<Extension<'_>>, Malformed> {
    let mut found: Vec<Extension<'_>> = Vec::new();
    while !list.is_finished() {
        let mut fields = list.sequence()?;
        let oid = fields.oid()?;
        let critical = fields.default_false()?;
        let value = fields.value(Tag::OctetString)?;
        fields.finish()?;
        if found.len() == most || found.iter().any(|seen| seen.oid == oid) {
            return Err(Malformed);
        }
        found.push(Extension { oid, critical, value });
    }
    Ok(found)
}

/// Dotted form of the content of an OBJECT IDENTIFIER, for messages.
pub(crate) fn dotted(oid: &[u8]) -> String {
    names::dotted(oid).unwrap_or_else(|| UNREADABLE.into())
}

/// What is shown in the place of bytes that are no identifier.
pub(crate) const UNREADABLE: &str = "an unreadable identifier";
