//! Only the original comes out, and only with the right image.

use std::io::Cursor;

use eds_core::ids::FileId;
use zeroize::Zeroizing;

use super::*;
use crate::dicom::{Digests, ImageBinding, private_part::Patches};

const CLEANED: &[u8] = b"clean head PIXELS";
const ORIGINAL: &[u8] = b"patient PIXELS tail";

fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    sha256(context)
}

fn part(rest: Rest) -> PrivatePart {
    PrivatePart {
        image: ImageBinding { file: FileId::from_bytes([1; 16]), salt: [2; 24], commitment: [3; 32] },
        digests: Digests { deidentified: digest(CLEANED), original: digest(ORIGINAL) },
        deidentified_length: 17,
        original_length: 19,
        rest,
    }
}

fn around() -> PrivatePart {
    part(Rest::Around {
        head: Zeroizing::new(b"patient ".to_vec()),
        pixels: 11..17,
        tail: Zeroizing::new(b" tail".to_vec()),
    })
}

fn run(deidentified: &[u8], part: &PrivatePart) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    restore(&mut Cursor::new(deidentified), part, &mut out)?;
    Ok(out)
}

#[test]
fn the_original_comes_back() {
    assert_eq!(run(CLEANED, &around()).expect("restores"), ORIGINAL);
    let whole = part(Rest::Whole(Zeroizing::new(ORIGINAL.to_vec())));
    assert_eq!(run(CLEANED, &whole).expect("restores"), ORIGINAL);
}

#[test]
fn blanked_pixels_come_back_in_pieces_of_any_size() {
    let cleaned = b"clean head P....S";
    let mut part = part(Rest::Blanked {
        head: Zeroizing::new(b"patient ".to_vec()),
        pixels: 11..17,
        tail: Zeroizing::new(b" tail".to_vec()),
        patches: Patches { runs: vec![(1, 1), (1, 2)], bytes: Zeroizing::new(b"IEL".to_vec()) },
    });
    // One byte between the runs was not blanked.
    let cleaned: Vec<u8> = cleaned.iter().enumerate().map(|(at, b)| if at == 13 { b'X' } else { *b }).collect();
    part.digests.deidentified = digest(&cleaned);
    for size in 1..=cleaned.len() {
        let mut out = Vec::new();
        let mut restorer = Restorer::new(&part, &mut out).expect("starts");
        for piece in cleaned.chunks(size) {
            restorer.write_all(piece).expect("writes");
        }
        restorer.finish().expect("is the original");
        assert_eq!(out, ORIGINAL, "pieces of {size}");
    }
}

#[test]
fn any_other_image_is_refused() {
    for rest in [around().rest, Rest::Whole(Zeroizing::new(ORIGINAL.to_vec()))] {
        let part = part(rest);
        for position in 0..CLEANED.len() {
            let mut changed = CLEANED.to_vec();
            changed[position] ^= 1;
            assert!(matches!(run(&changed, &part), Err(Error::OtherImage)), "byte {position}");
            assert!(matches!(run(&CLEANED[..position], &part), Err(Error::OtherImage)), "cut at {position}");
        }
        let longer = [CLEANED, b"x"].concat();
        assert!(matches!(run(&longer, &part), Err(Error::OtherImage)));
    }
}

#[test]
fn a_wrong_private_part_does_not_make_an_original() {
    for wrong in [
        Rest::Around {
            head: Zeroizing::new(b"Patient ".to_vec()),
            pixels: 11..17,
            tail: Zeroizing::new(b" tail".to_vec()),
        },
        Rest::Around { head: Zeroizing::new(b"patient ".to_vec()), pixels: 11..17, tail: Zeroizing::default() },
        Rest::Whole(Zeroizing::new(CLEANED.to_vec())),
    ] {
        assert!(matches!(run(CLEANED, &part(wrong)), Err(Error::NotTheOriginal)));
    }
}

#[test]
fn a_full_disk_is_reported_as_such() {
    let mut small = [0; 10];
    let written = restore(&mut Cursor::new(CLEANED), &around(), &mut small.as_mut_slice());
    assert!(matches!(written, Err(Error::Write(_))));
}

#[test]
fn it_may_be_written_in_pieces_of_any_size() {
    for size in 1..=CLEANED.len() {
        let (part, mut out) = (around(), Vec::new());
        let mut restorer = Restorer::new(&part, &mut out).expect("starts");
        for piece in CLEANED.chunks(size) {
            restorer.write_all(piece).expect("writes");
        }
        restorer.finish().expect("is the original");
        assert_eq!(out, ORIGINAL, "pieces of {size}");
    }
}
