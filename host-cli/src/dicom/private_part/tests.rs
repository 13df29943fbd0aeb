//! The format of the private part: golden files for ever, and nothing else is taken for one.

use proptest::prelude::*;

use super::*;

/// Written from `docs/private-part.md` by `private-part-v1.py`, without code of EDS. Kept for ever.
const AROUND: &[u8] = include_bytes!("../../../tests/golden/private-part-v1-around.bin");
const WHOLE: &[u8] = include_bytes!("../../../tests/golden/private-part-v1-whole.bin");

const BLANKED: &[u8] = include_bytes!("../../../tests/golden/private-part-v2-blanked.bin");

fn sample(rest: Rest, original_length: u64) -> PrivatePart {
    let mut file = [0; 16];
    (0u8..).zip(&mut file).for_each(|(number, byte)| *byte = number);
    PrivatePart {
        image: ImageBinding { file: FileId::from_bytes(file), salt: [0x22; 24], commitment: [0x33; 32] },
        digests: Digests { deidentified: [0x44; 32], original: [0x55; 32] },
        deidentified_length: 1000,
        original_length,
        rest,
    }
}

fn around() -> PrivatePart {
    let rest = Rest::Around {
        head: Zeroizing::new(b"DICM head".repeat(20)),
        pixels: 400..1000,
        tail: Zeroizing::new(b"tail".to_vec()),
    };
    sample(rest, 180 + 600 + 4)
}

fn whole() -> PrivatePart {
    sample(Rest::Whole(Zeroizing::new(b"original".to_vec())), 8)
}

fn blanked() -> PrivatePart {
    let rest = Rest::Blanked {
        head: Zeroizing::new(b"DICM head".repeat(20)),
        pixels: 400..1000,
        tail: Zeroizing::new(b"tail".to_vec()),
        patches: Patches { runs: vec![(12, 3), (200, 4)], bytes: Zeroizing::new(b"ONEFOUR".to_vec()) },
    };
    sample(rest, 180 + 600 + 4)
}

#[test]
fn versions_1_and_2_are_as_documented() {
    for (golden, part) in [(AROUND, around()), (WHOLE, whole()), (BLANKED, blanked())] {
        assert_eq!(part.encode().expect("encodes").as_slice(), golden);
        assert!(PrivatePart::decode(golden).expect("decodes") == part);
    }
}

#[test]
fn a_cut_or_lengthened_private_part_is_refused() {
    for golden in [AROUND, WHOLE, BLANKED] {
        for end in 0..golden.len() {
            assert!(PrivatePart::decode(&golden[..end]).is_err(), "cut at {end}");
        }
        let longer = [golden, &[0]].concat();
        assert!(matches!(PrivatePart::decode(&longer), Err(Error::PrivatePart(FormatError::TrailingBytes))));
    }
}

#[test]
fn another_version_is_refused_by_name() {
    let mut newer = AROUND.to_vec();
    newer[0] = 3;
    assert!(matches!(PrivatePart::decode(&newer), Err(Error::PrivatePart(FormatError::UnknownVersion(3)))));
    newer[0] = 2;
    assert!(PrivatePart::decode(&newer).is_err(), "version 2 is for private parts with pixels");
}

fn with_runs(runs: &[(u64, u64)]) -> PrivatePart {
    let mut part = blanked();
    if let Rest::Blanked { patches, .. } = &mut part.rest {
        patches.runs = runs.to_vec();
    }
    part
}

#[test]
fn lengths_that_do_not_add_up_are_refused() {
    let wrong = [
        PrivatePart { original_length: 783, ..around() },
        PrivatePart { original_length: u64::MAX, ..around() },
        PrivatePart { deidentified_length: 1001, ..around() },
        PrivatePart { original_length: 9, ..whole() },
        with_runs(&[]),
        with_runs(&[(12, 3), (200, 5)]),
        with_runs(&[(12, 7), (200, 0)]),
        with_runs(&[(12, 3), (0, 4)]),
        with_runs(&[(12, 3), (582, 4)]),
        with_runs(&[(u64::MAX, 3), (200, 4)]),
    ];
    with_runs(&[(12, 3), (581, 4)]).encode().expect("up to the end");
    for part in wrong {
        assert!(matches!(part.encode(), Err(Error::PrivatePart(FormatError::Mismatch))));
    }
    // The same from outside: the original length is the two bytes at 139.
    let mut outside = AROUND.to_vec();
    outside[139] ^= 1;
    assert!(matches!(PrivatePart::decode(&outside), Err(Error::PrivatePart(FormatError::Mismatch))));
}

#[test]
fn a_second_encoding_of_the_same_is_refused() {
    // The variant number 0, written in two bytes.
    let position = 141;
    assert_eq!(AROUND[position], 0);
    let padded = [&AROUND[..position], &[0x80, 0x00], &AROUND[position + 1..]].concat();
    assert!(matches!(PrivatePart::decode(&padded), Err(Error::PrivatePart(FormatError::Malformed))));
}

#[test]
fn a_private_part_knows_its_image() {
    let part = around();
    part.check_image(&part.image).expect("is its own");
    for other in [
        ImageBinding { file: FileId::from_bytes([9; 16]), ..part.image },
        ImageBinding { salt: [9; 24], ..part.image },
        ImageBinding { commitment: [9; 32], ..part.image },
    ] {
        assert!(matches!(part.check_image(&other), Err(Error::OtherImage)));
    }
}

#[test]
fn nothing_of_it_is_printed() {
    for part in [around(), whole(), blanked()] {
        let shown = format!("{part:?} {:?}", part.rest);
        assert!(!shown.contains("head") && !shown.contains("FOUR") && !shown.contains("68"), "{shown}");
        assert!(shown.contains("<redacted>"));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_are_the_encoding_of_what_they_say(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for start in [vec![], AROUND[..100].to_vec(), WHOLE[..140].to_vec(), BLANKED[..330].to_vec()] {
            let bytes = [start, bytes.clone()].concat();
            if let Ok(part) = PrivatePart::decode(&bytes) {
                let again = part.encode().expect("encodes");
                prop_assert_eq!(again.as_slice(), bytes.as_slice());
            }
        }
    }
}
