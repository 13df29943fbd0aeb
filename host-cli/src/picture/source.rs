//! What a picture is made from: the header of a de-identified file, and the decoded samples of a frame.

use std::borrow::Cow;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_encoding::{
    adapters::{PixelDataObject, RawPixelData},
    transfer_syntax::{Codec, TransferSyntaxIndex as _},
};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use super::{Error, header};
use crate::dicom::{Encoding, Header, rle};

/// The header of an image.
pub(super) struct Source<'a> {
    pub(super) header: Header<'a>,
    syntax: String,
    encoding: Encoding,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) samples_per_pixel: usize,
    bits: usize,
    stored: usize,
    signed: bool,
    pub(super) photometric: String,
}

/// The samples of a frame, as bytes.
pub(super) struct Samples {
    pub(super) bytes: Vec<u8>,
    bits: usize,
    stored: usize,
    signed: bool,
}

impl<'a> Source<'a> {
    /// Reads a file up to its pixel data. The file meta information is ours: it begins with its length.
    pub(super) fn read(head: &'a [u8]) -> Result<Self, Error> {
        let meta = Error::Attribute("the file meta information");
        let length = head.get(140..144).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(u32::from_le_bytes);
        let end = length.and_then(|length| usize::try_from(length).ok()?.checked_add(144));
        let Some((file_meta, dataset)) = end.and_then(|end| Some((head.get(132..end)?, head.get(end..)?))) else {
            return Err(meta);
        };
        let syntax = header(file_meta, Encoding::ExplicitLittle)?.value(tags::TRANSFER_SYNTAX_UID).ok_or(meta)?;
        let encoding = match syntax.as_str() {
            "1.2.840.10008.1.2" => Encoding::ImplicitLittle,
            "1.2.840.10008.1.2.2" => Encoding::ExplicitBig,
            _ => Encoding::ExplicitLittle,
        };
        let header = header(dataset, encoding)?;
        let number = |tag: Tag| header.number(tag).and_then(|number| usize::try_from(number).ok());
        let size = |tag, what| number(tag).filter(|size| (1..=MAX_SIDE).contains(size)).ok_or(Error::Attribute(what));
        let (rows, columns) = (size(tags::ROWS, "Rows")?, size(tags::COLUMNS, "Columns")?);
        let bits = number(tags::BITS_ALLOCATED).filter(|bits| [8, 16, 32].contains(bits));
        let bits = bits.ok_or(Error::Attribute("BitsAllocated"))?;
        let samples_per_pixel = number(tags::SAMPLES_PER_PIXEL).unwrap_or(1);
        let photometric = header.value(tags::PHOTOMETRIC_INTERPRETATION).unwrap_or_else(|| "MONOCHROME2".into());
        let shown = match samples_per_pixel {
            1 => photometric.starts_with("MONOCHROME"),
            3 => bits == 8,
            _ => false,
        };
        if !shown {
            return Err(Error::Attribute("PhotometricInterpretation"));
        }
        let stored = number(tags::BITS_STORED).filter(|stored| (1..=bits).contains(stored)).unwrap_or(bits);
        let signed = number(tags::PIXEL_REPRESENTATION) == Some(1);
        Ok(Self { header, syntax, encoding, rows, columns, samples_per_pixel, bits, stored, signed, photometric })
    }

    /// The samples of a frame.
    pub(super) fn samples(&self, pieces: &[Vec<u8>]) -> Result<Samples, Error> {
        let expected = self.rows * self.columns * self.samples_per_pixel * (self.bits / 8);
        let no_codec = || Error::Codec(self.syntax.clone());
        let syntax = TransferSyntaxRegistry.get(&self.syntax).ok_or_else(no_codec)?;
        let mut bytes = match syntax.codec() {
            _ if self.syntax == RLE => {
                rle::decode(&pieces.concat(), self.rows * self.columns, self.samples_per_pixel, self.bits / 8)
                    .map_err(|what| Error::Decode(what.into()))?
            }
            Codec::None | Codec::Dataset(_) => pieces.concat(),
            Codec::EncapsulatedPixelData(Some(reader), _) => {
                let mut bytes = Vec::with_capacity(expected);
                let frame = Frame { source: self, pieces };
                reader.decode_frame(&frame, 0, &mut bytes).map_err(|error| Error::Decode(error.to_string()))?;
                bytes
            }
            Codec::EncapsulatedPixelData(None, _) => return Err(no_codec()),
        };
        if bytes.len() < expected {
            return Err(Error::Length { found: bytes.len(), expected });
        }
        bytes.truncate(expected);
        if self.encoding == Encoding::ExplicitBig {
            bytes.chunks_exact_mut(self.bits / 8).for_each(<[u8]>::reverse);
        }
        Ok(Samples { bytes, bits: self.bits, stored: self.stored, signed: self.signed })
    }

    /// Colours as red, green and blue, point by point. Codecs give them so; native pixel data may be in planes, and in
    /// luminance and differences.
    pub(super) fn to_rgb(&self, bytes: &mut Vec<u8>) {
        if !self.is_native() {
            return;
        }
        if self.header.number(tags::PLANAR_CONFIGURATION) == Some(1) {
            let points = self.rows * self.columns;
            let planes = std::mem::take(bytes);
            let value = |at: usize| planes.get(at).copied().unwrap_or_default();
            *bytes = (0..points)
                .flat_map(|point| [value(point), value(point + points), value(point + 2 * points)])
                .collect();
        }
        if self.photometric.starts_with("YBR_FULL") {
            for point in bytes.chunks_exact_mut(3) {
                if let [y, blue, red] = point {
                    // PS3.3, section C.7.6.3.1.2.
                    let (light, cb, cr) = (f64::from(*y), f64::from(*blue) - 128.0, f64::from(*red) - 128.0);
                    let rgb = [light + 1.402 * cr, light - 0.344_14 * cb - 0.714_14 * cr, light + 1.772 * cb];
                    [*y, *blue, *red] = rgb.map(|value| value.round().clamp(0.0, 255.0) as u8);
                }
            }
        }
    }

    fn is_native(&self) -> bool {
        let syntax = TransferSyntaxRegistry.get(&self.syntax);
        syntax.is_some_and(|syntax| matches!(syntax.codec(), Codec::None | Codec::Dataset(_)))
    }
}

impl Samples {
    /// The values of samples, one for each point.
    pub(super) fn values(&self) -> Result<Vec<f64>, Error> {
        let width = self.bits / 8;
        if !(1..=4).contains(&width) {
            return Err(Error::Attribute("BitsAllocated"));
        }
        let unused = 64 - self.stored;
        let value = |sample: &[u8]| {
            let raw = sample.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
            // Bits above those that are stored may hold anything.
            let shifted = raw << unused;
            if self.signed { (shifted.cast_signed() >> unused) as f64 } else { (shifted >> unused) as f64 }
        };
        Ok(self.bytes.chunks_exact(width).map(value).collect())
    }
}

/// One frame, as codecs want to see it.
struct Frame<'a> {
    source: &'a Source<'a>,
    pieces: &'a [Vec<u8>],
}

impl PixelDataObject for Frame<'_> {
    fn transfer_syntax_uid(&self) -> &str {
        &self.source.syntax
    }

    fn rows(&self) -> Option<u16> {
        self.source.rows.try_into().ok()
    }

    fn cols(&self) -> Option<u16> {
        self.source.columns.try_into().ok()
    }

    fn samples_per_pixel(&self) -> Option<u16> {
        self.source.samples_per_pixel.try_into().ok()
    }

    fn bits_allocated(&self) -> Option<u16> {
        self.source.bits.try_into().ok()
    }

    fn bits_stored(&self) -> Option<u16> {
        self.source.stored.try_into().ok()
    }

    fn photometric_interpretation(&self) -> Option<&str> {
        Some(&self.source.photometric)
    }

    fn number_of_frames(&self) -> Option<u32> {
        Some(1)
    }

    fn number_of_fragments(&self) -> Option<u32> {
        self.pieces.len().try_into().ok()
    }

    fn fragment(&self, fragment: usize) -> Option<Cow<'_, [u8]>> {
        self.pieces.get(fragment).map(|piece| Cow::Borrowed(piece.as_slice()))
    }

    fn offset_table(&self) -> Option<Cow<'_, [u32]>> {
        Some(Cow::Borrowed(&[]))
    }

    fn raw_pixel_data(&self) -> Option<RawPixelData> {
        Some(RawPixelData { fragments: self.pieces.to_vec().into(), offset_table: Default::default() })
    }
}

/// RLE Lossless.
const RLE: &str = "1.2.840.10008.1.2.5";
/// Rows and columns are 16-bit numbers.
const MAX_SIDE: usize = 65_535;
