//! Pixel data that are compressed by RLE as native ones, so that rectangles of them can be blanked.
//!
//! The de-identified file is then explicit VR little endian, and the private part holds the original whole, as it does for
//! deflated files: so the original comes back byte for byte. Other compressions are left alone: what they decode to is not
//! what was there, or there is no decoder here that is trusted with it.

use std::io::{Cursor, Read, Seek};

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use zeroize::Zeroizing;

use super::{
    Error, Header, MAX_HELD,
    dataset::{self, Encoding},
    frames::{self, FrameTable, Frames},
    pixels::{Found, Geometry},
    rle,
    split::{Bytes, EXPLICIT_LITTLE, Meta, Split, read_range},
};

/// Whether these pixel data can be made native.
pub(crate) fn can_be(split: &Split) -> bool {
    split.meta.transfer_syntax == RLE_LOSSLESS && split.found == Found::Encapsulated
}

/// The same image with native pixel data.
///
/// # Errors
/// [`Error::Mask`], [`Error::TooLarge`], [`Error::Read`], [`Error::Malformed`].
pub(crate) fn of<R: Read + Seek>(input: &mut R, split: Split, geometry: Geometry) -> Result<Split, Error> {
    let refuse = |reason| Error::Mask { reason };
    let Bytes::Parts { head, dataset, pixels, .. } = &split.bytes else {
        return Err(refuse("its pixel data are not where they should be"));
    };
    let wanted = geometry.bytes().filter(|length| *length <= MAX_HELD);
    let wanted = wanted.ok_or(Error::TooLarge { what: "picture, not compressed," })?;
    let original = read_range(input, 0..split.length, "compressed image")?;
    let before = head.get(*dataset..).unwrap_or_default();
    let header = Header::parse(before, split.encoding)?;
    if header.vr(EXTENDED_OFFSETS).is_some() {
        return Err(refuse("its compressed pixel data have an extended offset table"));
    }
    let table = frames::find(Cursor::new(original.as_slice()), pixels, pixels.start, &header)?;
    let Some(FrameTable { frames: Frames::Fragments(frames), .. }) = table else {
        return Err(refuse("the frames of its compressed pixel data cannot be told apart"));
    };
    let mut native = Zeroizing::new(Vec::new());
    for frame in frames {
        native.extend_from_slice(&decoded(&original, &frame, geometry).map_err(refuse)?);
        if held(&native) > wanted {
            break;
        }
    }
    if held(&native) != wanted {
        return Err(refuse("its compressed pixel data have another number of frames than the header says"));
    }
    if native.len() % 2 == 1 {
        native.push(0);
    }
    let mut inflated = Zeroizing::new(before.to_vec());
    let start = inflated.len();
    let vr = if geometry.bits > 8 { VR::OW } else { VR::OB };
    dataset::write(&mut inflated, Encoding::ExplicitLittle, tags::PIXEL_DATA, vr, &native);
    let pixels = start..inflated.len();
    let pixel_header = held(&inflated).saturating_sub(held(before)).saturating_sub(held(&native));
    Ok(Split {
        meta: Meta { transfer_syntax: EXPLICIT_LITTLE.into(), ..split.meta },
        encoding: split.encoding,
        length: split.length,
        found: Found::Native(held(&native)),
        pixel_header,
        bytes: Bytes::Deflated { original, inflated, pixels },
    })
}

/// A frame in the planes that the header says.
fn decoded(original: &[u8], fragments: &[(u64, u64)], geometry: Geometry) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let number = |number: u32| usize::try_from(number).map_err(|_| "it is too large");
    let (samples, width) = (number(geometry.samples)?, number(geometry.bits / 8)?);
    let points = number(geometry.rows)?.checked_mul(number(geometry.columns)?).ok_or("it is too large")?;
    let mut packed = Vec::new();
    for (start, length) in fragments {
        let at = |position: u64| usize::try_from(position).ok();
        let part = at(*start).zip(at(start.saturating_add(*length))).and_then(|(from, to)| original.get(from..to));
        packed.extend_from_slice(part.ok_or("a fragment is not within the file")?);
    }
    let pixels = Zeroizing::new(rle::decode(&packed, points, samples, width)?);
    if !geometry.planes {
        return Ok(pixels);
    }
    let mut planes = Zeroizing::new(Vec::with_capacity(pixels.len()));
    for sample in 0..samples {
        for point in pixels.chunks_exact(samples.saturating_mul(width).max(1)) {
            planes.extend_from_slice(point.get(sample * width..(sample + 1) * width).unwrap_or_default());
        }
    }
    Ok(planes)
}

fn held(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

const RLE_LOSSLESS: &str = "1.2.840.10008.1.2.5";
/// Extended Offset Table: of compressed pixel data only.
const EXTENDED_OFFSETS: Tag = Tag(0x7FE0, 0x0001);
