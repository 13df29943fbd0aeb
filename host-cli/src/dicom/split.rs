//! Finds the three byte ranges of a DICOM file: before the pixel data, the pixel data element, after it.
//!
//! One pass, forward; values are skipped, never read, except those of the file meta information. A file without pixel
//! data is all header. Deflated files are inflated, within bounds, and their original is held whole.

use std::{
    io::{BufReader, Read, Seek, SeekFrom},
    ops::Range,
};

use dicom_core::{
    Tag,
    header::{HasLength as _, Header as _},
};
use dicom_encoding::transfer_syntax::{Codec, TransferSyntaxIndex as _};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use zeroize::Zeroizing;

use crate::dicom::{
    Error, MAX_HELD,
    dataset::{Encoding, PIXEL_DATA, Scanner, text},
    pixels::Found,
};

/// A file taken apart.
pub(crate) struct Split {
    /// What the file meta information says.
    pub(crate) meta: Meta,
    /// How the data set is encoded, once inflated.
    pub(crate) encoding: Encoding,
    /// Length of the original file.
    pub(crate) length: u64,
    /// What the pixel data are.
    pub(crate) found: Found,
    /// Length of the header of the pixel data element.
    pub(crate) pixel_header: u64,
    /// The bytes.
    pub(crate) bytes: Bytes,
}

/// What is needed of the file meta information.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Meta {
    /// (0002,0010); of the data set once inflated.
    pub(crate) transfer_syntax: String,
    /// (0002,0002).
    pub(crate) sop_class: Option<String>,
}

/// The bytes of a file taken apart.
pub(crate) enum Bytes {
    /// The usual case.
    Parts {
        /// Everything before the pixel data: preamble, meta information, data set.
        head: Zeroizing<Vec<u8>>,
        /// Where the data set starts in `head`.
        dataset: usize,
        /// The pixel data element in the input; empty when there is none.
        pixels: Range<u64>,
        /// Everything after the pixel data.
        tail: Zeroizing<Vec<u8>>,
    },
    /// A deflated file.
    Deflated {
        /// The file as it was.
        original: Zeroizing<Vec<u8>>,
        /// The data set, inflated.
        inflated: Zeroizing<Vec<u8>>,
        /// The pixel data element in `inflated`; empty when there is none.
        pixels: Range<usize>,
    },
}

impl Bytes {
    /// The data set before the pixel data.
    pub(crate) fn dataset(&self) -> &[u8] {
        match self {
            Self::Parts { head, dataset, .. } => head.get(*dataset..),
            Self::Deflated { inflated, pixels, .. } => inflated.get(..pixels.start),
        }
        .unwrap_or_default()
    }
}

/// Takes a file apart.
pub(crate) fn split<R: Read + Seek>(input: &mut R) -> Result<Split, Error> {
    let length = input.seek(SeekFrom::End(0)).map_err(Error::Read)?;
    input.seek(SeekFrom::Start(0)).map_err(Error::Read)?;
    let mut prefix = [0; PREFIX_END];
    match input.read_exact(&mut prefix) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(Error::NotDicom),
        other => other.map_err(Error::Read)?,
    }
    if !prefix.ends_with(b"DICM") {
        return Err(Error::NotDicom);
    }
    let mut scanner = Scanner::new(BufReader::new(&mut *input), PREFIX_END as u64, length);
    let meta = read_meta(&mut scanner)?;
    if meta.sop_class.as_deref() == Some(MEDIA_STORAGE_DIRECTORY) {
        return Err(Error::Directory);
    }
    let dataset = scanner.position;
    let syntax = TransferSyntaxRegistry
        .get(&meta.transfer_syntax)
        .ok_or_else(|| Error::TransferSyntax(meta.transfer_syntax.clone()))?;
    let encoding = match (syntax.uid(), syntax.endianness()) {
        (IMPLICIT_LITTLE, _) => Encoding::ImplicitLittle,
        (_, dicom_encoding::transfer_syntax::Endianness::Little) => Encoding::ExplicitLittle,
        (_, dicom_encoding::transfer_syntax::Endianness::Big) => Encoding::ExplicitBig,
    };
    match syntax.codec() {
        Codec::Dataset(Some(adapter)) if meta.transfer_syntax == DEFLATED => {
            let original = read_range(input, 0..length, "deflated file")?;
            let from = usize::try_from(dataset).unwrap_or(usize::MAX);
            let deflated = original.get(from..).unwrap_or_default();
            let inflated = read_bounded(adapter.adapt_reader(Box::new(deflated)), "inflated data set")?;
            let end = u64::try_from(inflated.len()).unwrap_or(u64::MAX);
            let element = find_pixels(&mut Scanner::new(std::io::Cursor::new(&**inflated), 0, end), encoding)?;
            let at = |position| usize::try_from(position).unwrap_or(usize::MAX);
            let pixels = at(element.range.start)..at(element.range.end);
            let meta = Meta { transfer_syntax: EXPLICIT_LITTLE.into(), ..meta };
            let PixelElement { found, header: pixel_header, .. } = element;
            let bytes = Bytes::Deflated { original, inflated, pixels };
            Ok(Split { meta, encoding, length, found, pixel_header, bytes })
        }
        Codec::Dataset(_) => Err(Error::TransferSyntax(meta.transfer_syntax)),
        _ => {
            let PixelElement { range: pixels, found, header: pixel_header } = find_pixels(&mut scanner, encoding)?;
            let head = read_range(input, 0..pixels.start, "header")?;
            let tail = read_range(input, pixels.end..length, "part after the pixel data")?;
            let dataset = usize::try_from(dataset).unwrap_or(usize::MAX);
            Ok(Split {
                meta,
                encoding,
                length,
                found,
                pixel_header,
                bytes: Bytes::Parts { head, dataset, pixels, tail },
            })
        }
    }
}

/// Reads group 0002, which is always explicit VR little endian, up to the first element of another group. Its group length
/// is not used: it may be missing or wrong.
fn read_meta<R: Read + Seek>(scanner: &mut Scanner<R>) -> Result<Meta, Error> {
    let mut meta = Meta::default();
    while !scanner.at_end() {
        let start = scanner.position;
        let header = match scanner.header(Encoding::ExplicitLittle) {
            Ok(header) if header.tag().group() == 0x0002 => header,
            _ => {
                scanner.rewind(start)?;
                break;
            }
        };
        let Some(length) = header.length().get() else {
            return Err(Error::Malformed { at: start, reason: "file meta information of undefined length" });
        };
        let wanted = match header.tag() {
            TRANSFER_SYNTAX_UID => Some(&mut meta.transfer_syntax),
            MEDIA_STORAGE_SOP_CLASS_UID => Some(meta.sop_class.get_or_insert_default()),
            _ => None,
        };
        match wanted {
            Some(field) if length <= MAX_UID => {
                let value = scanner.value(usize::try_from(length).unwrap_or(usize::MAX))?;
                *field = text(&value).unwrap_or_default().into();
            }
            _ => scanner.skip(length.into())?,
        }
    }
    if meta.transfer_syntax.is_empty() { Err(Error::NoTransferSyntax) } else { Ok(meta) }
}

/// The pixel data element of the top level.
struct PixelElement {
    /// Where it is, header included; empty, at the end, when there is none.
    range: Range<u64>,
    found: Found,
    /// Length of its header.
    header: u64,
}

fn find_pixels<R: Read + Seek>(scanner: &mut Scanner<R>, encoding: Encoding) -> Result<PixelElement, Error> {
    while !scanner.at_end() {
        let start = scanner.position;
        let header = scanner.header(encoding)?;
        let pixels = PIXEL_ELEMENTS.contains(&header.tag());
        if header.tag().group() == 0xFFFE {
            return Err(Error::Malformed { at: start, reason: "an item outside of a sequence" });
        }
        if !pixels && start > MAX_HELD {
            return Err(Error::TooLarge { what: "header" });
        }
        let value = scanner.position;
        scanner.skip_value(&header, encoding)?;
        if pixels {
            let found = header.length().get().map_or(Found::Encapsulated, |length| Found::Native(length.into()));
            return Ok(PixelElement { range: start..scanner.position, found, header: value - start });
        }
    }
    Ok(PixelElement { range: scanner.position..scanner.position, found: Found::Nothing, header: 0 })
}

pub(crate) fn read_range<R: Read + Seek>(
    input: &mut R,
    range: Range<u64>,
    what: &'static str,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let length = range.end.saturating_sub(range.start);
    if length > MAX_HELD {
        return Err(Error::TooLarge { what });
    }
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(length).map_err(|_| Error::TooLarge { what })?]);
    input.seek(SeekFrom::Start(range.start)).map_err(Error::Read)?;
    input.read_exact(&mut bytes).map_err(Error::Read)?;
    Ok(bytes)
}

fn read_bounded(input: impl Read, what: &'static str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = input.take(MAX_HELD + 1).read_to_end(&mut bytes);
    let malformed = |_| Error::Malformed { at: 0, reason: "the deflated data set cannot be inflated" };
    match read.map_err(malformed)? {
        length if u64::try_from(length).unwrap_or(u64::MAX) > MAX_HELD => Err(Error::TooLarge { what }),
        _ => Ok(bytes),
    }
}

/// Preamble and prefix.
const PREFIX_END: usize = 132;
/// Longer than any UID with its padding.
const MAX_UID: u32 = 128;
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const MEDIA_STORAGE_DIRECTORY: &str = "1.2.840.10008.1.3.10";
/// The only transfer syntax with implicit VR.
const IMPLICIT_LITTLE: &str = "1.2.840.10008.1.2";
pub(crate) const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";
const TRANSFER_SYNTAX_UID: Tag = Tag(0x0002, 0x0010);
const MEDIA_STORAGE_SOP_CLASS_UID: Tag = Tag(0x0002, 0x0002);
/// Pixel Data, Float Pixel Data, Double Float Pixel Data.
const PIXEL_ELEMENTS: [Tag; 3] = [PIXEL_DATA, Tag(0x7FE0, 0x0008), Tag(0x7FE0, 0x0009)];

#[cfg(test)]
mod tests;
