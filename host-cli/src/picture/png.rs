//! PNG files (RFC 2083): 8 bits, gray or colour, no filter, one data chunk.

use miniz_oxide::deflate::compress_to_vec_zlib;

use super::Picture;

/// The file.
pub(super) fn encode(picture: &Picture) -> Vec<u8> {
    let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let kind = if picture.colour { 2 } else { 0 };
    let header = [&side(picture.width)[..], &side(picture.height), &[8, kind, 0, 0, 0]].concat();
    let depth = if picture.colour { 3 } else { 1 };
    let mut rows = Vec::with_capacity(picture.values.len() + picture.height);
    for row in picture.values.chunks(picture.width.max(1) * depth) {
        // No filter.
        rows.push(0);
        rows.extend_from_slice(row);
    }
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut out, b"IHDR", &header);
    chunk(&mut out, b"IDAT", &compress_to_vec_zlib(&rows, LEVEL));
    chunk(&mut out, b"IEND", &[]);
    out
}

fn chunk(out: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) {
    out.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(name);
    out.extend_from_slice(data);
    out.extend_from_slice(&checksum([&name[..], data]).to_be_bytes());
}

/// The CRC of RFC 2083, section 15, bit by bit with a table of one byte made on the fly.
fn checksum(parts: [&[u8]; 2]) -> u32 {
    let table: Vec<u32> = (0..256u32)
        .map(|byte| (0..8).fold(byte, |sum, _| if sum & 1 == 1 { 0xedb8_8320 ^ sum >> 1 } else { sum >> 1 }))
        .collect();
    let next = |sum: u32, byte: &u8| {
        let at = usize::try_from((sum ^ u32::from(*byte)) & 0xff).unwrap_or_default();
        table.get(at).copied().unwrap_or_default() ^ sum >> 8
    };
    !parts.iter().flat_map(|part| part.iter()).fold(u32::MAX, next)
}

const LEVEL: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(checksum([b"12345", b"6789"]), 0xcbf4_3926);
        // The end chunk of every PNG file.
        let mut end = Vec::new();
        chunk(&mut end, b"IEND", &[]);
        assert_eq!(end, b"\0\0\0\0IEND\xae\x42\x60\x82");
    }
}
