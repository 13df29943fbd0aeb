//! Data sets as trees over the bytes they were read from, so that what is kept is copied and not written anew.
//!
//! Element headers are decoded by `dicom-encoding`; the walk, its bounds and the treatment of undefined lengths are here
//! (PS3.5, section 7). Outside bytes: every length is checked against what is there, nesting is limited.

use std::io::{Cursor, Read, Seek, SeekFrom};

use dicom_core::{
    Tag, VR,
    dictionary::{DataDictionary as _, DataDictionaryEntry as _},
    header::{DataElementHeader, HasLength as _, Header as _, Length},
};
use dicom_dictionary_std::StandardDataDictionary;
use dicom_encoding::{
    decode::{
        Decode as _, explicit_be::ExplicitVRBigEndianDecoder, explicit_le::ExplicitVRLittleEndianDecoder,
        implicit_le::ImplicitVRLittleEndianDecoder,
    },
    encode::{
        Encode as _, explicit_be::ExplicitVRBigEndianEncoder, explicit_le::ExplicitVRLittleEndianEncoder,
        implicit_le::ImplicitVRLittleEndianEncoder,
    },
};

use crate::dicom::Error;

/// How elements are encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Encoding {
    ImplicitLittle,
    ExplicitLittle,
    ExplicitBig,
}

/// An element and the bytes it was read from.
#[derive(Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: Tag,
    /// That of the dictionary for a standard element that was written as UN.
    pub(crate) vr: VR,
    /// As written.
    pub(crate) written_vr: VR,
    /// Header and value.
    pub(crate) raw: &'a [u8],
    pub(crate) value: Value<'a>,
}

/// The value of an element.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    Bytes(&'a [u8]),
    /// The items of a sequence, and their encoding.
    Items(Vec<Vec<Element<'a>>>, Encoding),
    /// Encapsulated pixel data.
    Fragments,
}

impl<'a> Element<'a> {
    pub(crate) fn bytes(&self) -> Option<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// Reads a data set that is wholly in memory.
pub(crate) fn parse(bytes: &[u8], encoding: Encoding) -> Result<Vec<Element<'_>>, Error> {
    let end = length(bytes);
    elements(&mut Scanner::new(Cursor::new(bytes), 0, end), bytes, encoding, End::At(end), 0)
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Where a list of elements ends.
#[derive(Clone, Copy)]
enum End {
    At(u64),
    Delimiter,
}

type MemoryScanner<'a> = Scanner<Cursor<&'a [u8]>>;

fn elements<'a>(
    scanner: &mut MemoryScanner<'a>,
    bytes: &'a [u8],
    encoding: Encoding,
    end: End,
    depth: usize,
) -> Result<Vec<Element<'a>>, Error> {
    if depth > MAX_DEPTH {
        return Err(scanner.malformed("sequences are nested too deeply"));
    }
    let mut list = Vec::new();
    loop {
        if let End::At(end) = end {
            match scanner.position.cmp(&end) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Ok(list),
                std::cmp::Ordering::Greater => return Err(scanner.malformed("an element leaves its item")),
            }
        }
        let start = scanner.position;
        let header = scanner.header(encoding)?;
        match (header.tag(), end) {
            (ITEM_DELIMITER, End::Delimiter) => return Ok(list),
            (Tag(0xFFFE, _), _) => return Err(scanner.malformed("an item outside of a sequence")),
            _ => {}
        }
        let vr = known_vr(&header);
        let (vr, value) = match (header.length().get(), items_encoding(&header, vr, encoding)) {
            (Some(length), None) => (vr, Value::Bytes(scanner.bytes(bytes, length)?)),
            (Some(length), Some(inner)) if header.vr() == VR::UN => {
                let contents = scanner.bytes(bytes, length)?;
                // What cannot be read as a sequence stays unknown, and goes.
                match whole_items(contents, inner, depth) {
                    Ok(items) => (vr, Value::Items(items, inner)),
                    Err(_) => (VR::UN, Value::Bytes(contents)),
                }
            }
            (length, Some(inner)) => {
                let until = length.map(|length| scanner.position.saturating_add(u64::from(length)));
                (vr, Value::Items(items(scanner, bytes, inner, until, depth)?, inner))
            }
            (None, None) => {
                scanner.skip_fragments(encoding)?;
                (vr, Value::Fragments)
            }
        };
        list.push(Element {
            tag: header.tag(),
            vr,
            written_vr: header.vr(),
            raw: slice(bytes, start, scanner.position),
            value,
        });
    }
}

/// The items of a sequence whose value is these bytes.
fn whole_items(bytes: &[u8], encoding: Encoding, depth: usize) -> Result<Vec<Vec<Element<'_>>>, Error> {
    let end = length(bytes);
    items(&mut Scanner::new(Cursor::new(bytes), 0, end), bytes, encoding, Some(end), depth)
}

fn items<'a>(
    scanner: &mut MemoryScanner<'a>,
    bytes: &'a [u8],
    encoding: Encoding,
    until: Option<u64>,
    depth: usize,
) -> Result<Vec<Vec<Element<'a>>>, Error> {
    let mut items = Vec::new();
    loop {
        if until.is_some_and(|until| scanner.position >= until) {
            return if until == Some(scanner.position) {
                Ok(items)
            } else {
                Err(scanner.malformed("an item leaves its sequence"))
            };
        }
        let header = scanner.header(encoding)?;
        match header.tag() {
            SEQUENCE_DELIMITER if until.is_none() => return Ok(items),
            ITEM => {}
            _ => return Err(scanner.malformed("no item where one must be")),
        }
        let end = match header.length().get() {
            Some(length) => End::At(scanner.position + u64::from(length)),
            None => End::Delimiter,
        };
        items.push(elements(scanner, bytes, encoding, end, depth + 1)?);
    }
}

/// The VR of an element; that of the dictionary for a standard element that some tool wrote as UN (PS3.5, section 6.2.2,
/// note 2), so that the same rules apply to it.
fn known_vr(header: &DataElementHeader) -> VR {
    match (header.vr(), header.length().get()) {
        (VR::UN, Some(_)) => StandardDataDictionary.by_tag(header.tag()).map_or(VR::UN, |entry| entry.vr().relaxed()),
        // Only sequences and fragments have no length.
        (VR::UN, None) if header.tag() != PIXEL_DATA => VR::SQ,
        (vr, _) => vr,
    }
}

/// The encoding of the items of a sequence; none when the value is bytes or fragments.
fn items_encoding(header: &DataElementHeader, vr: VR, encoding: Encoding) -> Option<Encoding> {
    match (vr, header.vr()) {
        // PS3.5, section 6.2.2, note 1: within UN all is implicit VR little endian.
        (VR::SQ, VR::UN) => Some(Encoding::ImplicitLittle),
        (VR::SQ, _) => Some(encoding),
        _ => None,
    }
}

impl<'a> MemoryScanner<'a> {
    /// Takes a value of known length.
    fn bytes(&mut self, all: &'a [u8], length: u32) -> Result<&'a [u8], Error> {
        let from = self.position;
        self.skip(length.into())?;
        Ok(slice(all, from, self.position))
    }
}

/// A forward-only reader of element headers that knows where it is and where the input ends.
pub(crate) struct Scanner<R> {
    input: R,
    pub(crate) position: u64,
    length: u64,
}

impl<R: Read + Seek> Scanner<R> {
    /// Starts at `position` of an input of `length` bytes.
    pub(crate) fn new(input: R, position: u64, length: u64) -> Self {
        Self { input, position, length }
    }

    pub(crate) fn at_end(&self) -> bool {
        self.position >= self.length
    }

    /// The next element or item header.
    pub(crate) fn header(&mut self, encoding: Encoding) -> Result<DataElementHeader, Error> {
        let at = self.position;
        let decoded = match encoding {
            Encoding::ImplicitLittle => {
                ImplicitVRLittleEndianDecoder::<StandardDataDictionary>::default().decode_header(&mut self.input)
            }
            Encoding::ExplicitLittle => ExplicitVRLittleEndianDecoder::default().decode_header(&mut self.input),
            Encoding::ExplicitBig => ExplicitVRBigEndianDecoder::default().decode_header(&mut self.input),
        };
        let (header, length) = decoded.map_err(|_| Error::Truncated { at })?;
        self.position += u64::try_from(length).unwrap_or(u64::MAX);
        Ok(header)
    }

    /// Skips a value of known length.
    pub(crate) fn skip(&mut self, length: u64) -> Result<(), Error> {
        let end = self.position.checked_add(length).filter(|end| *end <= self.length);
        let end = end.ok_or(Error::Truncated { at: self.position })?;
        let distance = i64::try_from(length).map_err(|_| Error::Truncated { at: self.position })?;
        self.input.seek_relative(distance).map_err(Error::Read)?;
        self.position = end;
        Ok(())
    }

    /// Reads a value of known length.
    pub(crate) fn value(&mut self, length: usize) -> Result<Vec<u8>, Error> {
        let end = self.position.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        if end > self.length {
            return Err(Error::Truncated { at: self.position });
        }
        let mut bytes = vec![0; length];
        self.input.read_exact(&mut bytes).map_err(Error::Read)?;
        self.position = end;
        Ok(bytes)
    }

    /// Goes back to a position read before.
    pub(crate) fn rewind(&mut self, position: u64) -> Result<(), Error> {
        self.input.seek(SeekFrom::Start(position)).map_err(Error::Read)?;
        self.position = position;
        Ok(())
    }

    /// Skips the value of an element, whatever its form.
    pub(crate) fn skip_value(&mut self, header: &DataElementHeader, encoding: Encoding) -> Result<(), Error> {
        self.skip_nested(header, encoding, 0)
    }

    fn skip_nested(&mut self, header: &DataElementHeader, encoding: Encoding, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(self.malformed("sequences are nested too deeply"));
        }
        match (header.length().get(), items_encoding(header, known_vr(header), encoding)) {
            (Some(length), _) => self.skip(length.into()),
            (None, None) => self.skip_fragments(encoding),
            (None, Some(inner)) => loop {
                let item = self.header(inner)?;
                match (item.tag(), item.length().get()) {
                    (SEQUENCE_DELIMITER, _) => return Ok(()),
                    (ITEM, Some(length)) => self.skip(length.into())?,
                    (ITEM, None) => loop {
                        let header = self.header(inner)?;
                        if header.tag() == ITEM_DELIMITER {
                            break;
                        }
                        self.skip_nested(&header, inner, depth + 1)?;
                    },
                    _ => return Err(self.malformed("no item where one must be")),
                }
            },
        }
    }

    /// Skips the fragments of encapsulated pixel data.
    fn skip_fragments(&mut self, encoding: Encoding) -> Result<(), Error> {
        loop {
            let item = self.header(encoding)?;
            match (item.tag(), item.length().get()) {
                (SEQUENCE_DELIMITER, _) => return Ok(()),
                (ITEM, Some(length)) => self.skip(length.into())?,
                _ => return Err(self.malformed("no fragment where one must be")),
            }
        }
    }

    fn malformed(&self, reason: &'static str) -> Error {
        Error::Malformed { at: self.position, reason }
    }
}

/// Writes an element with this value; nothing when the value is too long for its VR.
pub(crate) fn write(out: &mut Vec<u8>, encoding: Encoding, tag: Tag, vr: VR, value: &[u8]) {
    let Ok(length) = u32::try_from(value.len()) else { return };
    let long = matches!(
        vr,
        VR::OB
            | VR::OD
            | VR::OF
            | VR::OL
            | VR::OV
            | VR::OW
            | VR::SQ
            | VR::SV
            | VR::UC
            | VR::UN
            | VR::UR
            | VR::UT
            | VR::UV
    );
    if length == u32::MAX || (encoding != Encoding::ImplicitLittle && !long && length > u32::from(u16::MAX)) {
        return;
    }
    let header = DataElementHeader::new(tag, vr, Length(length));
    // Writing into a Vec cannot fail; a header that the library refuses is not written at all.
    let written = match encoding {
        Encoding::ImplicitLittle => ImplicitVRLittleEndianEncoder::default().encode_element_header(&mut *out, header),
        Encoding::ExplicitLittle => ExplicitVRLittleEndianEncoder::default().encode_element_header(&mut *out, header),
        Encoding::ExplicitBig => ExplicitVRBigEndianEncoder::default().encode_element_header(&mut *out, header),
    };
    if written.is_ok() {
        out.extend_from_slice(value);
    }
}

/// Writes the header and the contents of an item.
pub(crate) fn write_item(out: &mut Vec<u8>, encoding: Encoding, contents: &[u8]) {
    let Ok(length) = u32::try_from(contents.len()) else { return };
    let written = match encoding {
        Encoding::ImplicitLittle => ImplicitVRLittleEndianEncoder::default().encode_item_header(&mut *out, length),
        Encoding::ExplicitLittle => ExplicitVRLittleEndianEncoder::default().encode_item_header(&mut *out, length),
        Encoding::ExplicitBig => ExplicitVRBigEndianEncoder::default().encode_item_header(&mut *out, length),
    };
    if written.is_ok() {
        out.extend_from_slice(contents);
    }
}

/// The text of a value without its padding, when it is ASCII.
pub(crate) fn text(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.is_ascii())?;
    Some(text.trim_matches(|c: char| c == ' ' || c == '\0'))
}

/// The value of an element that is not a sequence.
pub(crate) fn find<'a>(elements: &[Element<'a>], tag: Tag) -> Option<&'a [u8]> {
    elements.iter().find(|element| element.tag == tag).and_then(Element::bytes)
}

fn slice(bytes: &[u8], from: u64, to: u64) -> &[u8] {
    // Both were checked against the length of the same bytes by the scanner.
    let at = |position| usize::try_from(position).unwrap_or(usize::MAX);
    bytes.get(at(from)..at(to)).unwrap_or_default()
}

pub(crate) const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_DELIMITER: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_DELIMITER: Tag = Tag(0xFFFE, 0xE0DD);
/// Deeper than any image that makes sense, and shallow enough for the stack.
const MAX_DEPTH: usize = 48;

#[cfg(test)]
mod tests;
