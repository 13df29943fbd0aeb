//! The container format: the golden file, every wrong byte of a header, every truncation of an opening.

use std::{vec, vec::Vec};

use super::*;
use crate::cipher::{SequentialOpener, geometry::SEALED_CHUNK, soft::SoftCipher};

/// Made from the specification by `container-v1.py`, without our code; kept for ever.
const GOLDEN: &[u8] = include_bytes!("../../tests/golden/container-v1.eds");

fn golden_header() -> Header {
    Header {
        file: FileId::from_bytes(core::array::from_fn(|n| 0x10 + n as u8)),
        key: KeyId::from_bytes(core::array::from_fn(|n| 0x20 + n as u8)),
        epoch: Epoch::new(300),
        anchor: core::array::from_fn(|n| 0x40 + n as u8),
    }
}

fn golden_key() -> InputKey {
    InputKey::from_bytes(core::array::from_fn(|n| 0x60 + n as u8))
}

fn golden_plain() -> Vec<u8> {
    (0..16_484usize).map(|position| (position * 7 + position / 251) as u8).collect()
}

fn write(header: &Header, key: &InputKey, salt: [u8; 24], plain: &[u8]) -> (Vec<u8>, Written) {
    let mut file = Vec::new();
    let mut sink = |bytes: &[u8]| {
        file.extend_from_slice(bytes);
        Ok::<(), Error>(())
    };
    let engine = |key: &[u8; 32]| Ok(SoftCipher::with_key(key));
    let mut writer = ContainerWriter::danger_begin_with_salt(engine, header, key, salt, &mut sink).expect("begins");
    writer.write(plain, &mut sink).expect("writes");
    let written = writer.finish(&mut sink).expect("finishes");
    (file, written)
}

fn read(bytes: &[u8], key: &InputKey) -> Result<Vec<u8>, Error> {
    let opening = Opening::parse(bytes)?;
    let mut opener = SequentialOpener::from(opening.opener::<SoftCipher>(key)?);
    let mut plain = Vec::new();
    for chunk in bytes[opening.chunks_offset()..].chunks(SEALED_CHUNK) {
        plain.extend_from_slice(opener.open_next(&mut chunk.to_vec())?);
    }
    opener.finish()?;
    Ok(plain)
}

#[test]
fn the_golden_file_reads_and_is_written_again_byte_for_byte() {
    let opening = Opening::parse(GOLDEN).expect("a container");
    assert_eq!(opening.header(), &golden_header());
    assert_eq!(opening.ciphertext_offset(), PREFIX + 67);
    assert_eq!(Opening::len_of(&GOLDEN[..PREFIX + 1]), Ok(opening.chunks_offset()));
    assert_eq!(read(GOLDEN, &golden_key()), Ok(golden_plain()));

    let salt = core::array::from_fn(|n| 0x80 + n as u8);
    let (again, written) = write(&golden_header(), &golden_key(), salt, &golden_plain());
    assert!(again == GOLDEN, "the writer makes other bytes than the specification");
    assert_eq!(written.container_len, GOLDEN.len() as u64);
    assert_eq!(written.plain_len, 16_484);
    assert_eq!(written.fingerprint, opening.fingerprint());
    assert_eq!(Fingerprint::from_bytes(&written.fingerprint.to_bytes()), Ok(written.fingerprint));
    assert_eq!(Fingerprint::from_bytes(&[0; 71]), Err(Error::Malformed));
    assert_eq!(Fingerprint::from_bytes(&[0; 73]), Err(Error::Malformed));
}

#[test]
fn no_changed_byte_before_the_chunks_releases_anything() {
    let end = Opening::parse(GOLDEN).expect("a container").chunks_offset();
    for position in 0..end {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = GOLDEN.to_vec();
            bytes[position] ^= flip;
            if let Ok(opening) = Opening::parse(&bytes) {
                assert!(opening.opener::<SoftCipher>(&golden_key()).is_err(), "byte {position} does not matter");
            }
        }
    }
}

#[test]
fn a_cut_opening_is_truncated() {
    let end = Opening::parse(GOLDEN).expect("a container").chunks_offset();
    for cut in 0..end {
        assert_eq!(Opening::parse(&GOLDEN[..cut]), Err(Error::Truncated), "cut at {cut}");
    }
    for cut in (end..end + 17).chain(GOLDEN.len() - 120..GOLDEN.len()) {
        assert!(read(&GOLDEN[..cut], &golden_key()).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_header_has_one_encoding() {
    let edit = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = GOLDEN.to_vec();
        edit(&mut bytes);
        Opening::parse(&bytes).map(|opening| *opening.header())
    };
    assert_eq!(edit(&|bytes| bytes[0] = b'P'), Err(Error::BadMagic));
    assert_eq!(edit(&|bytes| bytes.truncate(0)), Err(Error::Truncated));
    assert_eq!(edit(&|bytes| *bytes = b"plain text".to_vec()), Err(Error::BadMagic));
    assert_eq!(edit(&|bytes| bytes[10] = 2), Err(Error::UnknownVersion(2)));
    assert_eq!(edit(&|bytes| bytes[10] = 0), Err(Error::UnknownVersion(0)));
    // A later version is named even when its header has a length that version 1 never has.
    assert_eq!(edit(&|bytes| bytes[8..11].copy_from_slice(&[0xff, 0xff, 2])), Err(Error::UnknownVersion(2)));
    for length in [0, 65, 71, 0xffff_u16] {
        assert_eq!(edit(&|bytes| bytes[8..10].copy_from_slice(&length.to_le_bytes())), Err(Error::Malformed));
    }
    // One byte more than the header needs.
    assert_eq!(edit(&|bytes| bytes[8] += 1), Err(Error::TrailingBytes));
    assert_eq!(edit(&|bytes| bytes[8] -= 1), Err(Error::Malformed));
    // The epoch 300 with a third, empty varint byte.
    let padded = edit(&|bytes| {
        bytes[8] += 1;
        bytes.splice(PREFIX + 33..PREFIX + 35, [0xac, 0x82, 0x00]);
    });
    assert_eq!(padded, Err(Error::Malformed));
}

#[test]
fn headers_of_every_epoch_length_survive() {
    for epoch in [0, 127, 128, 16_384, 1 << 21, 1 << 28, u32::MAX] {
        let header = Header { epoch: Epoch::new(epoch), ..golden_header() };
        let preamble = header.encode().expect("fits");
        assert_eq!(Header::decode(preamble.as_bytes()), Ok((header, preamble.clone())));
        let (file, _) = write(&header, &golden_key(), [5; 24], b"x");
        assert_eq!(read(&file, &golden_key()), Ok(vec![b'x']));
        assert!(Opening::len_of(&file).expect("a container") <= MAX_OPENING);
    }
}

#[test]
fn containers_under_one_key_are_told_apart() {
    let (one, first) = write(&golden_header(), &golden_key(), [1; 24], b"same");
    let (two, second) = write(&golden_header(), &golden_key(), [2; 24], b"same");
    assert_ne!(first.fingerprint, second.fingerprint);
    // The body of one under the opening of the other does not open.
    let offset = Opening::parse(&one).expect("a container").chunks_offset();
    assert!(read(&[&one[..offset], &two[offset..]].concat(), &golden_key()).is_err());
    // A header moved to another ciphertext does not open either.
    let other = Header { file: FileId::from_bytes([9; 16]), ..golden_header() }.encode().expect("fits");
    let moved = [other.as_bytes(), &one[other.as_bytes().len()..]].concat();
    assert_eq!(read(&moved, &golden_key()), Err(Error::Rejected));
}
