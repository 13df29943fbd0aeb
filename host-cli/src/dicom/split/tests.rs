//! Where the pixel data is found, and which files are refused.

use std::io::Cursor;

use dicom_core::VR;

use super::*;
use crate::dicom::dataset::write;

fn file(syntax: &str, dataset: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 128];
    out.extend_from_slice(b"DICM");
    let mut value = Vec::from(syntax);
    value.resize(value.len().next_multiple_of(2), 0);
    write(&mut out, Encoding::ExplicitLittle, TRANSFER_SYNTAX_UID, VR::UI, &value);
    out.extend_from_slice(dataset);
    out
}

fn element(tag: Tag, vr: VR, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, Encoding::ExplicitLittle, tag, vr, value);
    out
}

fn parts(bytes: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let split = split(&mut Cursor::new(bytes)).expect("splits");
    assert_eq!(split.length, bytes.len() as u64);
    let Bytes::Parts { head, pixels, tail, .. } = split.bytes else { panic!("was deflated") };
    let pixels = &bytes[usize::try_from(pixels.start).expect("small")..usize::try_from(pixels.end).expect("small")];
    (head.to_vec(), pixels.to_vec(), tail.to_vec())
}

#[test]
fn the_three_parts_are_the_file() {
    let modality = element(Tag(0x0008, 0x0060), VR::CS, b"CT");
    let pixels = element(PIXEL_DATA, VR::OW, b"12345678");
    let padding = element(Tag(0xFFFC, 0xFFFC), VR::OB, b"\0\0");
    let bytes = file(EXPLICIT_LITTLE, &[modality.clone(), pixels.clone(), padding.clone()].concat());
    assert_eq!(parts(&bytes), (file(EXPLICIT_LITTLE, &modality), pixels, padding));
}

#[test]
fn pixel_data_within_a_sequence_is_header() {
    let pixels = element(PIXEL_DATA, VR::OW, b"icon");
    let mut item = Vec::new();
    crate::dicom::dataset::write_item(&mut item, Encoding::ExplicitLittle, &pixels);
    let icon = element(Tag(0x0088, 0x0200), VR::SQ, &item);
    let bytes = file(EXPLICIT_LITTLE, &[icon.clone(), pixels.clone()].concat());
    assert_eq!(parts(&bytes), (file(EXPLICIT_LITTLE, &icon), pixels, vec![]));
    let bytes = file(EXPLICIT_LITTLE, &icon);
    assert_eq!(parts(&bytes), (bytes.clone(), vec![], vec![]), "no pixel data of its own");
}

#[test]
fn what_is_no_dicom_is_refused_with_the_reason() {
    let of = |bytes: &[u8]| split(&mut Cursor::new(bytes)).err().expect("refused");
    for bytes in [&b""[..], &[0; 131], &[0; 132], b"a text"] {
        assert!(matches!(of(bytes), Error::NotDicom));
    }
    assert!(matches!(of(&file("", b"")), Error::NoTransferSyntax));
    assert!(matches!(of(&file("1.2.3", b"")), Error::TransferSyntax(syntax) if syntax == "1.2.3"));
    let mut directory = file(EXPLICIT_LITTLE, b"");
    write(
        &mut directory,
        Encoding::ExplicitLittle,
        MEDIA_STORAGE_SOP_CLASS_UID,
        VR::UI,
        MEDIA_STORAGE_DIRECTORY.as_bytes(),
    );
    assert!(matches!(of(&directory), Error::Directory));
}

#[test]
fn truncated_files_are_refused_wherever_they_end() {
    let dataset = [element(Tag(0x0008, 0x0060), VR::CS, b"CT"), element(PIXEL_DATA, VR::OW, b"12345678")].concat();
    let bytes = file(EXPLICIT_LITTLE, &dataset);
    let start = bytes.len() - dataset.len();
    for end in start + 1..bytes.len() {
        if end == start + 10 {
            continue; // exactly between two elements: an image without pixel data
        }
        let cut = split(&mut Cursor::new(&bytes[..end])).err().expect("refused");
        assert!(matches!(cut, Error::Truncated { .. }), "cut at {end}: {cut}");
    }
}

#[test]
fn a_deflated_file_is_inflated_within_bounds() {
    let dataset = [element(Tag(0x0008, 0x0060), VR::CS, b"CT"), element(PIXEL_DATA, VR::OW, b"12345678")].concat();
    let deflate = |bytes: &[u8]| {
        use std::io::Write as _;
        let syntax = TransferSyntaxRegistry.get(DEFLATED).expect("is known");
        let Codec::Dataset(Some(adapter)) = syntax.codec() else { panic!("cannot deflate") };
        let mut out = Vec::new();
        adapter.adapt_writer(Box::new(&mut out)).write_all(bytes).expect("deflates");
        out
    };
    let bytes = file(DEFLATED, &deflate(&dataset));
    let split_up = split(&mut Cursor::new(&bytes)).expect("splits");
    assert_eq!(split_up.meta.transfer_syntax, EXPLICIT_LITTLE);
    assert_eq!(split_up.bytes.dataset(), &dataset[..10]);
    let Bytes::Deflated { original, .. } = split_up.bytes else { panic!("was not deflated") };
    assert_eq!(*original, bytes);

    let zeros = vec![0; usize::try_from(MAX_HELD).expect("fits") + 1];
    let bomb = file(DEFLATED, &deflate(&zeros));
    assert!(bomb.len() < 1 << 20);
    assert!(matches!(split(&mut Cursor::new(&bomb)), Err(Error::TooLarge { .. })));
    let broken = file(DEFLATED, b"\xff\xff\xff\xff no deflate stream");
    assert!(matches!(split(&mut Cursor::new(&broken)), Err(Error::Malformed { .. })));
}
