//! RLE Lossless (PS3.5, annex G): each byte of each sample in a segment of its own, most significant first, packed as runs.
//!
//! Outside bytes: a segment gives as many bytes as there are points, or the frame is refused.

/// The samples of a frame, point by point, each in little endian.
///
/// # Errors
/// What is wrong with the frame.
pub(crate) fn decode(frame: &[u8], points: usize, samples: usize, width: usize) -> Result<Vec<u8>, &'static str> {
    let numbers: Vec<usize> = frame
        .get(..HEADER)
        .ok_or("the header of a compressed frame is cut off")?
        .chunks_exact(4)
        .filter_map(|bytes| usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok())
        .collect();
    let segments = samples * width;
    if numbers.first() != Some(&segments) || segments == 0 || segments >= numbers.len() {
        return Err("a compressed frame has another number of segments than a point has bytes");
    }
    let mut out = vec![0; points * segments];
    for (number, start) in numbers.iter().skip(1).take(segments).enumerate() {
        let end = numbers.get(number + 2).filter(|_| number + 1 < segments).copied().unwrap_or(frame.len());
        let packed = frame.get(*start..end).ok_or("a segment lies outside of its compressed frame")?;
        let bytes = unpacked(packed, points).ok_or("a segment of a compressed frame is too short")?;
        // Most significant first there, least significant first here.
        let place = number / width * width + (width - 1 - number % width);
        for (point, byte) in out.chunks_exact_mut(segments).zip(bytes) {
            if let Some(to) = point.get_mut(place) {
                *to = byte;
            }
        }
    }
    Ok(out)
}

/// So many bytes of a segment.
fn unpacked(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(length);
    let mut rest = packed;
    while out.len() < length {
        let (control, after) = rest.split_first()?;
        match usize::from(*control) {
            literal @ 0..128 => {
                let (bytes, after) = after.split_at_checked(literal + 1)?;
                out.extend_from_slice(bytes);
                rest = after;
            }
            128 => rest = after,
            run => {
                let (byte, after) = after.split_first()?;
                out.resize(out.len() + 257 - run, *byte);
                rest = after;
            }
        }
    }
    out.truncate(length);
    Some(out)
}

/// The number of segments and fifteen offsets.
const HEADER: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(segments: &[&[u8]]) -> Vec<u8> {
        let mut header = vec![u32::try_from(segments.len()).expect("few")];
        let mut at = HEADER;
        for segment in segments {
            header.push(u32::try_from(at).expect("small"));
            at += segment.len();
        }
        header.resize(16, 0);
        let header: Vec<u8> = header.iter().flat_map(|number| number.to_le_bytes()).collect();
        [header, segments.concat()].concat()
    }

    #[test]
    fn runs_and_literals_are_unpacked_into_samples() {
        // Two points of 16 bits: 0x0107 and 0x0108.
        let both = frame(&[&[255, 1], &[1, 7, 8]]);
        assert_eq!(decode(&both, 2, 1, 2).expect("decodes"), [7, 1, 8, 1]);
        // The example of PackBits, and a byte that means nothing.
        let packed = [254, 0xaa, 2, 0x80, 0, 0x2a, 128, 253, 0xaa, 3, 0x80, 0, 0x2a, 0x22, 247, 0xaa];
        let plain = b"\xaa\xaa\xaa\x80\x00\x2a\xaa\xaa\xaa\xaa\x80\x00\x2a\x22\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa";
        assert_eq!(decode(&frame(&[&packed]), 24, 1, 1).expect("decodes"), plain);
    }

    #[test]
    fn what_is_cut_off_or_lies_outside_is_refused() {
        let whole = frame(&[&[255, 1], &[1, 7, 8]]);
        for cut in 0..whole.len() {
            assert!(decode(whole.get(..cut).unwrap_or_default(), 2, 1, 2).is_err(), "{cut} bytes");
        }
        assert!(decode(&whole, 2, 1, 1).is_err() && decode(&whole, 3, 1, 2).is_err());
        let mut outside = whole;
        outside[8] = 0xff;
        assert!(decode(&outside, 2, 1, 2).is_err());
    }
}
