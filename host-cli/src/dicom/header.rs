//! The attributes of a data set, as text and numbers: what catalogues and searches need to know of an image.
//!
//! Works on the header in memory, of the original or of the de-identified file. Text is decoded with the Specific
//! Character Set of the data set (PS3.5, section 6.1.2.5.2); what cannot be decoded with it is read as Latin-1, so that
//! a wrong character set makes a value that is not found, never one that is lost without notice.

use std::fmt;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_encoding::text::{SpecificCharacterSet, TextCodec as _};

use crate::dicom::{
    Error,
    dataset::{self, Element, Encoding},
};

/// The top level of a data set, without its pixel data.
pub struct Header<'a> {
    elements: Vec<Element<'a>>,
    encoding: Encoding,
    text: SpecificCharacterSet,
}

impl<'a> Header<'a> {
    pub(crate) fn parse(dataset: &'a [u8], encoding: Encoding) -> Result<Self, Error> {
        let elements = dataset::parse(dataset, encoding)?;
        let text = character_set(&elements);
        Ok(Self { elements, encoding, text })
    }

    /// The values of an attribute as text, without padding and without those that are empty.
    pub fn values(&self, tag: Tag) -> Vec<String> {
        let Some(element) = self.elements.iter().find(|element| element.tag == tag) else { return Vec::new() };
        let Some(bytes) = element.bytes() else { return Vec::new() };
        match element.vr {
            VR::US => self.numbers(bytes, |bytes| u64::from(u16::from_le_bytes(bytes))),
            VR::UL => self.numbers(bytes, |bytes| u64::from(u32::from_le_bytes(bytes))),
            VR::LT | VR::ST | VR::UT => kept([self.decode(bytes).as_str()]),
            vr if is_text(vr) => kept(self.decode(bytes).split('\\')),
            _ => Vec::new(),
        }
    }

    /// The first value of an attribute as text.
    pub fn value(&self, tag: Tag) -> Option<String> {
        self.values(tag).into_iter().next()
    }

    /// The first value of an attribute as a number.
    pub fn number(&self, tag: Tag) -> Option<u32> {
        self.value(tag)?.parse().ok()
    }

    /// The VR of an attribute that is there.
    pub fn vr(&self, tag: Tag) -> Option<VR> {
        self.elements.iter().find(|element| element.tag == tag).map(|element| element.vr)
    }

    /// The bytes of an attribute that has any.
    pub(crate) fn bytes(&self, tag: Tag) -> Option<&'a [u8]> {
        self.elements.iter().find(|element| element.tag == tag).and_then(Element::bytes)
    }

    /// How the data set is encoded.
    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    fn numbers<const N: usize>(&self, bytes: &[u8], of_little_endian: impl Fn([u8; N]) -> u64) -> Vec<String> {
        let of = |chunk: &[u8]| {
            let mut bytes: [u8; N] = chunk.try_into().ok()?;
            if self.encoding == Encoding::ExplicitBig {
                bytes.reverse();
            }
            Some(of_little_endian(bytes).to_string())
        };
        bytes.chunks_exact(N).filter_map(of).collect()
    }

    fn decode(&self, bytes: &[u8]) -> String {
        self.text.decode(bytes).unwrap_or_else(|_| bytes.iter().map(|byte| char::from(*byte)).collect())
    }
}

impl fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Header(<redacted>, {} elements)", self.elements.len())
    }
}

/// The character set of a data set. Of several, which ISO 2022 escapes switch between, the library knows the first; only the
/// Japanese one brings its own decoder of escapes.
fn character_set(elements: &[Element<'_>]) -> SpecificCharacterSet {
    let named = elements.iter().find(|element| element.tag == tags::SPECIFIC_CHARACTER_SET).and_then(Element::bytes);
    let named = named.and_then(dataset::text).unwrap_or_default();
    let mut codes = named.split('\\').map(str::trim).filter(|code| !code.is_empty());
    codes.next_back().and_then(SpecificCharacterSet::from_code).unwrap_or_default()
}

fn kept<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let trimmed = values.into_iter().map(|value| value.trim_matches(|c: char| c == ' ' || c == '\0'));
    trimmed.filter(|value| !value.is_empty()).map(String::from).collect()
}

const fn is_text(vr: VR) -> bool {
    matches!(
        vr,
        VR::AE
            | VR::AS
            | VR::CS
            | VR::DA
            | VR::DS
            | VR::DT
            | VR::IS
            | VR::LO
            | VR::PN
            | VR::SH
            | VR::TM
            | VR::UC
            | VR::UI
            | VR::UR
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(out: &mut Vec<u8>, tag: Tag, vr: VR, value: &[u8]) {
        dataset::write(out, Encoding::ExplicitLittle, tag, vr, value);
    }

    #[test]
    fn text_is_decoded_with_the_character_set_of_the_data_set() {
        let mut bytes = Vec::new();
        element(&mut bytes, tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 100");
        element(&mut bytes, tags::PATIENT_NAME, VR::PN, b"M\xfcller^Ren\xe9 ");
        element(&mut bytes, tags::ROWS, VR::US, &[0, 2]);
        let header = Header::parse(&bytes, Encoding::ExplicitLittle).expect("parses");
        assert_eq!(header.values(tags::PATIENT_NAME), ["Müller^René"]);
        assert_eq!(header.number(tags::ROWS), Some(512));
        assert_eq!(header.values(tags::PATIENT_ID), Vec::<String>::new());
        assert!(!format!("{header:?}").contains("ller"));
    }

    #[test]
    fn values_are_taken_apart_and_big_endian_numbers_are_read_as_such() {
        let mut bytes = Vec::new();
        dataset::write(&mut bytes, Encoding::ExplicitBig, tags::IMAGE_TYPE, VR::CS, b"ORIGINAL\\PRIMARY\\ ");
        dataset::write(&mut bytes, Encoding::ExplicitBig, tags::COLUMNS, VR::US, &[1, 0]);
        let header = Header::parse(&bytes, Encoding::ExplicitBig).expect("parses");
        assert_eq!(header.values(tags::IMAGE_TYPE), ["ORIGINAL", "PRIMARY"]);
        assert_eq!(header.number(tags::COLUMNS), Some(256));
    }
}
