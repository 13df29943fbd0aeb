//! Distinguished names: compared by their encoded bytes, shown in the slash form of the grid.
//!
//! Two names are one name only if their DER is. The slash form (`/DC=org/CN=Alice`) is ambiguous: a `/` inside of a value
//! looks like the start of another attribute. It is therefore for people, and [`Name::matching`] gives it for the places
//! where files speak it (`.lsc`, `.signing_policy`, the original's commands) only if it can be read in one way.

use std::{fmt, fmt::Write};

use der::Tag;
use eds_core::names::attribute_label;

use super::fields::{Fields, Malformed, UNREADABLE};
use crate::hex;

/// A distinguished name, as it was encoded.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Vec<u8>);

/// A name that has no unambiguous slash form.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the name {0:?} has a value that the slash form cannot tell apart from several values")]
pub struct Ambiguous(pub String);

/// One attribute of a name: type and value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: &'a [u8],
    pub(crate) tag: Tag,
    pub(crate) value: &'a [u8],
}

impl Name {
    /// The name in these bytes: an RDNSequence with its tag and length.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not exactly one name.
    pub fn from_der(der: &[u8]) -> Result<Self, Malformed> {
        let name = Self(der.to_vec());
        name.attributes()?;
        Ok(name)
    }

    /// The encoded name.
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }

    /// Whether the name says nothing.
    pub fn is_empty(&self) -> bool {
        self.relative_names().is_ok_and(|names| names.is_empty())
    }

    /// The encoded relative distinguished names, in order.
    pub(crate) fn relative_names(&self) -> Result<Vec<&[u8]>, Malformed> {
        let mut names = Vec::new();
        let mut fields = Fields::of_sequence(&self.0)?;
        while !fields.is_finished() {
            if names.len() == MAX_RELATIVE_NAMES {
                return Err(Malformed);
            }
            names.push(fields.raw()?);
        }
        Ok(names)
    }

    /// The attributes of each relative distinguished name, in order.
    pub(crate) fn attributes(&self) -> Result<Vec<Vec<Attribute<'_>>>, Malformed> {
        self.relative_names()?.into_iter().map(attributes_of).collect()
    }

    /// Whether this name is `issuer` followed by exactly one more relative name that is a single common name.
    pub(crate) fn extends_by_common_name(&self, issuer: &Self) -> bool {
        let (Ok(own), Ok(parent)) = (self.relative_names(), issuer.relative_names()) else { return false };
        let Some((last, start)) = own.split_last() else { return false };
        start == parent.as_slice()
            && attributes_of(last)
                .is_ok_and(|attributes| matches!(attributes.as_slice(), [one] if one.kind == COMMON_NAME))
    }

    /// The value of the last relative name, when that is a single common name.
    pub(crate) fn last_common_name(&self) -> Option<String> {
        let attributes = self.attributes().ok()?;
        match attributes.last()?.as_slice() {
            [one] if one.kind == COMMON_NAME => Some(one.text()),
            _ => None,
        }
    }

    /// The slash form as the grid's files write it (OpenSSL's `X509_NAME_oneline`), if it can be read in one way only.
    ///
    /// # Errors
    /// [`Ambiguous`] for a `/`, a backslash or a control character inside of a value, an empty value, and for a relative
    /// name with several attributes.
    pub fn matching(&self) -> Result<String, Ambiguous> {
        let refuse = || Ambiguous(self.to_string());
        let mut text = String::new();
        for attributes in self.attributes().map_err(|_| refuse())? {
            let [one] = attributes.as_slice() else { return Err(refuse()) };
            let value = one.text();
            if value.is_empty() || value.contains(['/', '\\']) || value.chars().any(char::is_control) {
                return Err(refuse());
            }
            let _ = write!(text, "/{}=", one.label());
            for byte in value.bytes() {
                match byte {
                    0x20..=0x7e => text.push(char::from(byte)),
                    _ => _ = write!(text, "\\x{byte:02X}"),
                }
            }
        }
        if text.is_empty() { Err(refuse()) } else { Ok(text) }
    }
}

fn attributes_of(relative: &[u8]) -> Result<Vec<Attribute<'_>>, Malformed> {
    let mut outer = Fields::of(relative)?;
    let mut set = Fields::of(outer.value(Tag::Set)?)?;
    outer.finish()?;
    let mut attributes = Vec::new();
    while !set.is_finished() {
        let mut attribute = set.sequence()?;
        let kind = attribute.oid()?;
        let (tag, value) = attribute.any()?;
        attribute.finish()?;
        attributes.push(Attribute { kind, tag, value });
    }
    if attributes.is_empty() { Err(Malformed) } else { Ok(attributes) }
}

impl Attribute<'_> {
    /// The value as text; what is not text is shown as hexadecimal digits after a `#`.
    pub(crate) fn text(&self) -> String {
        let hexadecimal = || format!("#{}", hex::encode(self.value));
        match self.tag {
            Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::VisibleString | Tag::NumericString => {
                std::str::from_utf8(self.value).map_or_else(|_| hexadecimal(), str::to_owned)
            }
            Tag::TeletexString => self.value.iter().map(|byte| char::from(*byte)).collect(),
            Tag::BmpString => {
                let units: Vec<u16> =
                    self.value.chunks(2).map(|pair| pair.iter().fold(0, |n, b| n << 8 | u16::from(*b))).collect();
                String::from_utf16(&units).unwrap_or_else(|_| hexadecimal())
            }
            _ => hexadecimal(),
        }
    }

    /// The short name of the type as OpenSSL prints it, or its dotted form.
    fn label(&self) -> String {
        attribute_label(self.kind).unwrap_or_else(|| UNREADABLE.into())
    }
}

/// The slash form for people: unicode as it is, several attributes of one relative name joined by `+`; a `/`, a backslash
/// or a control character inside of a value is shown escaped, so that no name can look like another. Never compared.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(names) = self.attributes() else { return f.write_str("(unreadable name)") };
        if names.is_empty() {
            return f.write_str("(empty name)");
        }
        for attributes in names {
            for (position, one) in attributes.iter().enumerate() {
                f.write_str(if position == 0 { "/" } else { "+" })?;
                write!(f, "{}=", one.label())?;
                for character in one.text().chars() {
                    if matches!(character, '/' | '\\') || character.is_control() {
                        write!(f, "\\x{:02X}", u32::from(character))?;
                    } else {
                        f.write_char(character)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

/// More relative names than any real name has.
const MAX_RELATIVE_NAMES: usize = 64;
/// id-at-commonName 2.5.4.3.
pub(crate) const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// emailAddress 1.2.840.113549.1.9.1.
pub(crate) const EMAIL_ADDRESS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01];
