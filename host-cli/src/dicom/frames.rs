//! Where each frame of an image lies in its de-identified file, so that one frame can be read without the others.
//!
//! Native pixel data is divided evenly. Encapsulated pixel data is divided by its offset table (basic or extended, PS3.5
//! section A.4); without one, a fragment is a frame where their numbers agree, and else a frame begins with each fragment
//! that starts like a compressed image. Where none of these says it, there is no table, and no frame is guessed.

use std::{
    io::{Read, Seek},
    ops::Range,
};

use dicom_core::{
    Tag,
    header::{HasLength as _, Header as _},
};
use dicom_dictionary_std::tags;
use serde::{Deserialize, Serialize};

use crate::dicom::{
    Error,
    dataset::{Encoding, Scanner},
    header::Header,
};

/// Where the pixel data of an image is, and its frames.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FrameTable {
    /// Offset of the pixel data element in the file; before it is the header.
    pub element: u64,
    /// The frames.
    pub frames: Frames,
}

/// The frames of an image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Frames {
    /// Frames of one length, one after the other.
    Even {
        /// Offset of the first in the file.
        start: u64,
        /// Bytes of each.
        length: u64,
        /// How many.
        frames: u32,
    },
    /// The fragments of each frame: offset in the file, and length.
    Fragments(Vec<Vec<(u64, u64)>>),
}

impl FrameTable {
    /// How many frames there are.
    pub fn count(&self) -> u32 {
        match &self.frames {
            Frames::Even { frames, .. } => *frames,
            Frames::Fragments(frames) => u32::try_from(frames.len()).unwrap_or(u32::MAX),
        }
    }

    /// Offset and length of the pieces of a frame, which is numbered from 1 on as DICOM does; none when there is no such
    /// frame.
    pub fn pieces(&self, number: u32) -> Option<Vec<(u64, u64)>> {
        let index = number.checked_sub(1)?;
        match &self.frames {
            Frames::Even { start, length, frames } if index < *frames => {
                let start = start.checked_add(u64::from(index).checked_mul(*length)?)?;
                Some(vec![(start, *length)])
            }
            Frames::Even { .. } => None,
            Frames::Fragments(frames) => frames.get(usize::try_from(index).ok()?).cloned(),
        }
    }
}

/// Finds the frames of a pixel data element in `input`, from its header on, which lies `shift` bytes later in the
/// de-identified file. None when the frames cannot be told apart.
pub(crate) fn find<R: Read + Seek>(
    input: R,
    pixels: &Range<u64>,
    deidentified_start: u64,
    header: &Header<'_>,
) -> Result<Option<FrameTable>, Error> {
    if pixels.is_empty() {
        return Ok(None);
    }
    let mut scanner = Scanner::new(input, 0, pixels.end);
    scanner.rewind(pixels.start)?;
    let encoding = header.encoding();
    let element = scanner.header(encoding)?;
    let moved = |position: u64| position - pixels.start + deidentified_start;
    let frames = header.number(tags::NUMBER_OF_FRAMES).unwrap_or(1).max(1);
    let found = match element.length().get() {
        Some(length) => even(moved(scanner.position), length.into(), frames, header),
        None => {
            let (offsets, fragments) = fragments(&mut scanner, encoding, pixels.end)?;
            let offsets = extended_offsets(header).unwrap_or(offsets);
            divided(&offsets, &fragments, frames).map(|divided| {
                let place = |fragment: Fragment| (moved(fragment.start), fragment.length);
                Frames::Fragments(divided.into_iter().map(|frame| frame.into_iter().map(place).collect()).collect())
            })
        }
    };
    Ok(found.map(|frames| FrameTable { element: deidentified_start, frames }))
}

fn even(start: u64, length: u64, frames: u32, header: &Header<'_>) -> Option<Frames> {
    let many = u64::from(frames);
    let number = |tag| header.number(tag).map(u64::from);
    let bits = [tags::ROWS, tags::COLUMNS, tags::BITS_ALLOCATED]
        .into_iter()
        .try_fold(1u64, |product, tag| product.checked_mul(number(tag)?));
    let bits = bits.and_then(|bits| bits.checked_mul(number(tags::SAMPLES_PER_PIXEL).unwrap_or(1)));
    // The value is padded to an even length.
    let expected = bits.filter(|bits| bits % 8 == 0).map(|bits| bits / 8);
    let fits = |each: &u64| each.checked_mul(many).is_some_and(|all| all == length || all + 1 == length);
    let length = match expected.filter(fits) {
        Some(each) => each,
        None if many == 1 => length,
        // Packed or subsampled: whole bytes for each frame, or no table.
        None if bits.is_some_and(|bits| bits % 8 == 0) && length.is_multiple_of(many) => length / many,
        None => return None,
    };
    (length > 0).then_some(Frames::Even { start, length, frames })
}

/// A fragment of encapsulated pixel data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Fragment {
    /// Offset of its value in the input.
    start: u64,
    length: u64,
    /// Offset of its item from the first fragment's item: what offset tables speak of.
    offset: u64,
    /// Whether it starts like a JPEG, JPEG-LS or JPEG 2000 image.
    starts_image: bool,
}

fn fragments<R: Read + Seek>(
    scanner: &mut Scanner<R>,
    encoding: Encoding,
    end: u64,
) -> Result<(Vec<u64>, Vec<Fragment>), Error> {
    let (mut offsets, mut fragments, mut first) = (None, Vec::new(), 0);
    while scanner.position < end {
        let item = scanner.position;
        let header = scanner.header(encoding)?;
        let (ITEM, Some(length)) = (header.tag(), header.length().get()) else { break };
        let (length, start) = (u64::from(length), scanner.position);
        if offsets.is_none() {
            let table = scanner.value(usize::try_from(length.min(MAX_TABLE)).unwrap_or_default())?;
            scanner.skip(length.saturating_sub(MAX_TABLE))?;
            offsets = Some(numbers::<4>(&table, |bytes| u32::from_le_bytes(bytes).into()));
            first = scanner.position;
            continue;
        }
        let mark = scanner.value(usize::try_from(length.min(2)).unwrap_or_default())?;
        scanner.skip(length.saturating_sub(2))?;
        let starts_image = IMAGE_STARTS.contains(&mark.as_slice());
        fragments.push(Fragment { start, length, offset: item - first, starts_image });
    }
    Ok((offsets.unwrap_or_default(), fragments))
}

fn extended_offsets(header: &Header<'_>) -> Option<Vec<u64>> {
    Some(numbers::<8>(header.bytes(EXTENDED_OFFSET_TABLE)?, u64::from_le_bytes))
}

/// The fragments of each frame.
fn divided(offsets: &[u64], fragments: &[Fragment], frames: u32) -> Option<Vec<Vec<Fragment>>> {
    let many = usize::try_from(frames).ok()?;
    if many == 1 && !fragments.is_empty() {
        return Some(vec![fragments.to_vec()]);
    }
    let begins: Box<dyn Fn(&Fragment) -> bool> = if offsets.len() == many && many > 0 {
        Box::new(|fragment| offsets.contains(&fragment.offset))
    } else if fragments.len() == many {
        return Some(fragments.iter().map(|fragment| vec![*fragment]).collect());
    } else {
        Box::new(|fragment| fragment.starts_image)
    };
    let mut found: Vec<Vec<Fragment>> = Vec::with_capacity(many);
    for fragment in fragments {
        match found.last_mut() {
            Some(frame) if !begins(fragment) => frame.push(*fragment),
            _ => found.push(vec![*fragment]),
        }
    }
    (found.len() == many).then_some(found)
}

fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> u64) -> Vec<u64> {
    bytes.chunks_exact(N).filter_map(|chunk| Some(number(chunk.try_into().ok()?))).collect()
}

const ITEM: Tag = Tag(0xFFFE, 0xE000);
const EXTENDED_OFFSET_TABLE: Tag = Tag(0x7FE0, 0x0001);
/// Start of image of JPEG and JPEG-LS, start of codestream of JPEG 2000.
const IMAGE_STARTS: [&[u8]; 2] = [&[0xff, 0xd8], &[0xff, 0x4f]];
/// The largest basic offset table that is read, in bytes: of a quarter of a million frames.
const MAX_TABLE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use dicom_core::VR;

    use super::*;
    use crate::dicom::dataset;

    fn header_bytes(frames: &[u8], rows: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |tag, vr, value: &[u8]| dataset::write(&mut bytes, Encoding::ExplicitLittle, tag, vr, value);
        put(tags::SAMPLES_PER_PIXEL, VR::US, &[1, 0]);
        put(tags::NUMBER_OF_FRAMES, VR::IS, frames);
        put(tags::ROWS, VR::US, &rows.to_le_bytes());
        put(tags::COLUMNS, VR::US, &[4, 0]);
        put(tags::BITS_ALLOCATED, VR::US, &[8, 0]);
        bytes
    }

    fn table(header: &[u8], pixels: &[u8]) -> Option<FrameTable> {
        let header = Header::parse(header, Encoding::ExplicitLittle).expect("parses");
        let length = u64::try_from(pixels.len()).expect("small");
        find(Cursor::new(pixels), &(0..length), 1000, &header).expect("reads")
    }

    fn item(out: &mut Vec<u8>, value: &[u8]) {
        out.extend_from_slice(&[0xfe, 0xff, 0x00, 0xe0]);
        out.extend_from_slice(&u32::try_from(value.len()).expect("small").to_le_bytes());
        out.extend_from_slice(value);
    }

    fn encapsulated(offsets: &[u32], fragments: &[&[u8]]) -> Vec<u8> {
        let mut out = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff".to_vec();
        let offsets: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect();
        item(&mut out, &offsets);
        fragments.iter().for_each(|fragment| item(&mut out, fragment));
        out.extend_from_slice(&[0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
        out
    }

    #[test]
    fn native_frames_are_of_one_length() {
        let mut pixels = b"\xe0\x7f\x10\x00OB\0\0\x18\0\0\0".to_vec();
        pixels.extend(0..24);
        let found = table(&header_bytes(b"3 ", 2), &pixels).expect("a table");
        let frames = Frames::Even { start: 1012, length: 8, frames: 3 };
        assert_eq!(found, FrameTable { element: 1000, frames });
        assert_eq!(found.pieces(3), Some(vec![(1028, 8)]));
        assert_eq!((found.pieces(0), found.pieces(4)), (None, None));
        // 24 bytes are not five frames.
        assert_eq!(table(&header_bytes(b"5 ", 2), &pixels), None);
    }

    #[test]
    fn fragments_are_divided_by_the_offset_table_by_number_or_by_how_they_start() {
        let header = header_bytes(b"2 ", 2);
        let one_each = table(&header, &encapsulated(&[], &[b"ab", b"cdef"])).expect("a table");
        assert_eq!(one_each.frames, Frames::Fragments(vec![vec![(1028, 2)], vec![(1038, 4)]]));
        let by_offsets = table(&header, &encapsulated(&[0, 20], &[b"ab", b"cd", b"ef"])).expect("a table");
        assert_eq!(by_offsets.frames, Frames::Fragments(vec![vec![(1036, 2), (1046, 2)], vec![(1056, 2)]]));
        assert_eq!(by_offsets.pieces(1), Some(vec![(1036, 2), (1046, 2)]));
        let by_marks = table(&header, &encapsulated(&[], &[b"\xff\xd8", b"..", b"\xff\xd8"])).expect("a table");
        assert_eq!(by_marks.count(), 2);
        assert_eq!(table(&header, &encapsulated(&[], &[b"ab", b"cd", b"ef"])), None);
    }

    #[test]
    fn a_truncated_element_is_an_error_and_no_panic() {
        let whole = encapsulated(&[0, 20], &[b"ab", b"cd", b"ef"]);
        let bytes = header_bytes(b"2 ", 2);
        let header = Header::parse(&bytes, Encoding::ExplicitLittle).expect("parses");
        let length = u64::try_from(whole.len()).expect("small");
        for cut in 0..whole.len() {
            let part = whole.get(..cut).unwrap_or_default();
            let _ = find(Cursor::new(part), &(0..length), 0, &header);
        }
    }
}
