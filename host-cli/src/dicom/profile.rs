//! The first de-identification profile: what is not known to be harmless goes.
//!
//! It works from lists of what is *kept* ([`rules`]); an element that no rule names is removed, at every depth. Kept values
//! are copied as they were, after a look at their form: a code string with lower-case letters or a decimal string with
//! words in it is not what it says and is removed. UIDs are replaced by keyed ones, dates and times go, private
//! elements go. The pixel data element is not touched: burned-in text is not handled by this profile.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use crate::{
    dicom::{
        Error, UidKey,
        dataset::{self, Element, Encoding, Value, text},
    },
    metadata::PublicAttributes,
};

pub mod rules;

/// A de-identified data set.
pub(crate) struct Cleaned {
    /// The data set without the pixel data, encoded like the original.
    pub(crate) dataset: Vec<u8>,
    /// The new (0008,0018).
    pub(crate) sop_instance: Option<String>,
    /// (0008,0016).
    pub(crate) sop_class: Option<String>,
    /// What may be kept in clear; the transfer syntax is not set.
    pub(crate) attributes: PublicAttributes,
}

/// What (0012,0063) of a de-identified image says.
pub const METHOD: &str = "EDS first profile, version 1; keep list, keyed UIDs";

/// De-identifies a data set.
pub(crate) fn clean(original: &[u8], encoding: Encoding, key: &UidKey) -> Result<Cleaned, Error> {
    let elements = dataset::parse(original, encoding)?;
    let cleaner = Cleaner { encoding, key };
    let mut out = Vec::with_capacity(original.len());
    let mut ours = OURS.iter().peekable();
    for element in &elements {
        while let Some((tag, vr, value)) = ours.next_if(|(tag, ..)| *tag <= element.tag) {
            cleaner.write_text(&mut out, *tag, *vr, value);
        }
        if !OURS.iter().any(|(tag, ..)| *tag == element.tag) {
            cleaner.element(&mut out, element, CodeScheme::Unknown);
        }
    }
    for (tag, vr, value) in ours {
        cleaner.write_text(&mut out, *tag, *vr, value);
    }
    let attributes = public_attributes(&out, encoding)?;
    let kept = dataset::parse(&out, encoding)?;
    let value = |tag| find(&kept, tag).and_then(text).map(String::from);
    Ok(Cleaned {
        sop_instance: value(tags::SOP_INSTANCE_UID),
        sop_class: value(tags::SOP_CLASS_UID),
        attributes,
        dataset: out,
    })
}

/// Whether the codes of an item come from a published scheme.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CodeScheme {
    Published,
    Unknown,
}

struct Cleaner<'a> {
    encoding: Encoding,
    key: &'a UidKey,
}

impl Cleaner<'_> {
    fn items(&self, items: &[Vec<Element<'_>>]) -> Vec<u8> {
        let mut out = Vec::new();
        for item in items {
            let scheme = find(item, tags::CODING_SCHEME_DESIGNATOR).and_then(text);
            let published = scheme.is_some_and(|scheme| rules::PUBLISHED_SCHEMES.contains(&scheme));
            let scheme = if published { CodeScheme::Published } else { CodeScheme::Unknown };
            let mut contents = Vec::new();
            for element in item {
                self.element(&mut contents, element, scheme);
            }
            dataset::write_item(&mut out, self.encoding, &contents);
        }
        out
    }

    fn element(&self, out: &mut Vec<u8>, element: &Element<'_>, scheme: CodeScheme) {
        match rules::rule(element.tag, element.vr) {
            Rule::Remove => {}
            Rule::Empty(vr) => dataset::write(out, self.encoding, element.tag, vr, b""),
            Rule::Keep(form) => match element.bytes() {
                Some(value) if form.fits(element.vr, value) => out.extend_from_slice(element.raw),
                _ => {}
            },
            Rule::KeepCode => match element.bytes() {
                Some(value) if scheme == CodeScheme::Published && Form::Label.fits(element.vr, value) => {
                    out.extend_from_slice(element.raw);
                }
                _ => {}
            },
            Rule::ReplaceUids => {
                if let Some(value) = element.bytes() {
                    self.write_text(out, element.tag, VR::UI, &self.replaced(value));
                }
            }
            Rule::Recurse => {
                if let Value::Items(items, encoding) = &element.value {
                    let inner = Cleaner { encoding: *encoding, key: self.key };
                    // Written as UN again where it was: the items are encoded accordingly.
                    let vr = if element.written_vr == VR::UN { VR::UN } else { VR::SQ };
                    dataset::write(out, self.encoding, element.tag, vr, &inner.items(items));
                }
            }
        }
    }

    /// Each UID of a value replaced, but those that DICOM itself defines.
    fn replaced(&self, value: &[u8]) -> String {
        let value = String::from_utf8_lossy(value);
        let replace = |uid: &str| {
            let uid = uid.trim_matches(|c: char| c == ' ' || c == '\0');
            if uid.is_empty() || (uid.starts_with("1.2.840.10008.") && Form::Uid.fits(VR::UI, uid.as_bytes())) {
                String::from(uid)
            } else {
                self.key.replace(uid)
            }
        };
        value.split('\\').map(replace).collect::<Vec<_>>().join("\\")
    }

    fn write_text(&self, out: &mut Vec<u8>, tag: Tag, vr: VR, value: &str) {
        let mut bytes = Vec::from(value);
        if bytes.len() % 2 == 1 {
            bytes.push(if vr == VR::UI { 0 } else { b' ' });
        }
        dataset::write(out, self.encoding, tag, vr, &bytes);
    }
}

/// What becomes of an element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// It goes.
    Remove,
    /// It stays without a value, with this VR, because the standard wants it to be there.
    Empty(VR),
    /// It stays as it is if its value has this form.
    Keep(Form),
    /// It stays as it is within a code of a published coding scheme.
    KeepCode,
    /// Its UIDs are replaced.
    ReplaceUids,
    /// The same rules apply to its items.
    Recurse,
}

/// What a value must look like to be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Numbers or bulk data in a binary VR: looked at no further.
    Binary,
    /// Code strings: upper-case letters, digits, space, underscore, dot, hyphen and slash, at most 16 a value.
    Code,
    /// Decimal or integer strings.
    Number,
    /// Printable ASCII, at most 64 bytes, without the delimiter of person names.
    Label,
    /// UIDs: digits and dots, at most 64 a value.
    Uid,
}

impl Form {
    /// Whether this value of an element with this VR has the form.
    pub fn fits(self, vr: VR, value: &[u8]) -> bool {
        let each = |longest: usize, allowed: fn(u8) -> bool| {
            text(value)
                .is_some_and(|text| text.split('\\').all(|one| one.trim().len() <= longest && one.bytes().all(allowed)))
        };
        match self {
            Self::Binary => rules::is_binary(vr),
            Self::Code => {
                vr == VR::CS
                    && each(16, |b| {
                        b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b' ' | b'_' | b'.' | b'-' | b'/')
                    })
            }
            Self::Number => {
                matches!(vr, VR::DS | VR::IS)
                    && each(16, |b| b.is_ascii_digit() || matches!(b, b' ' | b'+' | b'-' | b'.' | b'e' | b'E'))
            }
            Self::Label => {
                matches!(vr, VR::SH | VR::LO | VR::UC) && each(64, |b| (b' '..0x7f).contains(&b) && b != b'^')
            }
            Self::Uid => vr == VR::UI && each(64, |b| b.is_ascii_digit() || b == b'.'),
        }
    }
}

fn find<'a>(elements: &[Element<'a>], tag: Tag) -> Option<&'a [u8]> {
    elements.iter().find(|element| element.tag == tag).and_then(Element::bytes)
}

/// The attributes of a *cleaned* data set that the metadata database keeps in clear.
fn public_attributes(cleaned: &[u8], encoding: Encoding) -> Result<PublicAttributes, Error> {
    let elements = dataset::parse(cleaned, encoding)?;
    let string = |tag| find(&elements, tag).and_then(text).filter(|text| !text.is_empty()).map(String::from);
    let short = |tag| {
        let bytes: [u8; 2] = find(&elements, tag)?.try_into().ok()?;
        let number =
            if encoding == Encoding::ExplicitBig { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
        Some(u32::from(number))
    };
    Ok(PublicAttributes {
        modality: string(tags::MODALITY),
        sop_class: string(tags::SOP_CLASS_UID),
        transfer_syntax: None,
        body_part: string(tags::BODY_PART_EXAMINED),
        rows: short(tags::ROWS),
        columns: short(tags::COLUMNS),
        frames: string(tags::NUMBER_OF_FRAMES).and_then(|text| text.parse().ok()),
    })
}

/// What every de-identified image says of itself (PS3.15, section E.1.1), in rising order.
const OURS: [(Tag, VR, &str); 3] = [
    (tags::PATIENT_IDENTITY_REMOVED, VR::CS, "YES"),
    (tags::DEIDENTIFICATION_METHOD, VR::LO, METHOD),
    (tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED, VR::CS, "REMOVED"),
];

#[cfg(test)]
mod tests;
