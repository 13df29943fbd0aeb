//! Data sets in every encoding, and broken ones.

use proptest::prelude::*;

use super::*;

const ENCODINGS: [Encoding; 3] = [Encoding::ImplicitLittle, Encoding::ExplicitLittle, Encoding::ExplicitBig];
const NAME: Tag = Tag(0x0010, 0x0010);
const SEQUENCE: Tag = Tag(0x0008, 0x1140);

fn element(encoding: Encoding, tag: Tag, vr: VR, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, encoding, tag, vr, value);
    out
}

fn item(encoding: Encoding, contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_item(&mut out, encoding, contents);
    out
}

/// A sequence with one item, both of undefined length, in little endian.
fn undefined(encoding: Encoding, tag: Tag, vr: VR, contents: &[u8]) -> Vec<u8> {
    let mut out = element(encoding, tag, vr, b"");
    let length = out.len() - 4;
    out[length..].fill(0xff);
    out.extend_from_slice(b"\xfe\xff\x00\xe0\xff\xff\xff\xff");
    out.extend_from_slice(contents);
    out.extend_from_slice(b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0");
    out
}

fn only_item<'a, 'b>(element: &'b Element<'a>) -> &'b [Element<'a>] {
    match &element.value {
        Value::Items(items, _) if items.len() == 1 => &items[0],
        other => panic!("no single item: {other:?}"),
    }
}

#[test]
fn what_is_written_is_read() {
    for encoding in ENCODINGS {
        let name = element(encoding, NAME, VR::PN, b"A^B ");
        let sequence = element(encoding, SEQUENCE, VR::SQ, &item(encoding, &name));
        let all = [sequence.clone(), name.clone()].concat();
        let read = parse(&all, encoding).expect("parses");
        assert_eq!(read.len(), 2);
        assert_eq!((read[1].tag, read[1].vr, read[1].bytes()), (NAME, VR::PN, Some(&b"A^B "[..])), "{encoding:?}");
        assert_eq!(read[1].raw, name);
        assert_eq!(read[0].raw, sequence);
        assert_eq!(only_item(&read[0])[0].bytes(), Some(&b"A^B "[..]));
    }
}

#[test]
fn undefined_lengths_end_at_their_delimiters() {
    for encoding in [Encoding::ImplicitLittle, Encoding::ExplicitLittle] {
        let name = element(encoding, NAME, VR::PN, b"A^B ");
        let inner = undefined(encoding, SEQUENCE, VR::SQ, &name);
        let all = [undefined(encoding, SEQUENCE, VR::SQ, &inner), name.clone()].concat();
        let read = parse(&all, encoding).expect("parses");
        assert_eq!(read.len(), 2);
        assert_eq!(only_item(&only_item(&read[0])[0])[0].raw, name);
        let mut scanner = Scanner::new(Cursor::new(&all), 0, length(&all));
        let header = scanner.header(encoding).expect("reads");
        scanner.skip_value(&header, encoding).expect("skips");
        assert_eq!(scanner.position, length(&all) - length(&name));
    }
}

#[test]
fn sequences_within_unknown_elements_are_read_as_implicit_little_endian() {
    let name = element(Encoding::ImplicitLittle, NAME, VR::PN, b"A^B ");
    let of_no_length = undefined(Encoding::ExplicitLittle, Tag(0x0009, 0x1001), VR::UN, &name);
    let known = element(Encoding::ExplicitLittle, SEQUENCE, VR::UN, &item(Encoding::ImplicitLittle, &name));
    let broken = element(Encoding::ExplicitLittle, SEQUENCE, VR::UN, b"not a sequence at all");
    let all = [of_no_length, known, broken].concat();
    let read = parse(&all, Encoding::ExplicitLittle).expect("parses");
    assert_eq!(only_item(&read[0])[0].bytes(), Some(&b"A^B "[..]));
    assert_eq!((read[1].vr, read[1].written_vr), (VR::SQ, VR::UN));
    assert_eq!(only_item(&read[1])[0].bytes(), Some(&b"A^B "[..]));
    assert_eq!((read[2].vr, read[2].bytes().is_some()), (VR::UN, true), "stays unknown");
}

#[test]
fn fragments_are_skipped_by_their_lengths() {
    // The second fragment holds a delimiter, as compressed pictures may.
    let mut pixels = element(Encoding::ExplicitLittle, PIXEL_DATA, VR::OB, b"");
    let length = pixels.len() - 4;
    pixels[length..].fill(0xff);
    for fragment in [&b""[..], b"\xfe\xff\xdd\xe0\0\0\0\0"] {
        pixels.extend(item(Encoding::ExplicitLittle, fragment));
    }
    pixels.extend_from_slice(b"\xfe\xff\xdd\xe0\0\0\0\0");
    let read = parse(&pixels, Encoding::ExplicitLittle).expect("parses");
    assert!(matches!(read[..], [Element { value: Value::Fragments, .. }]));
    assert_eq!(read[0].raw, pixels);
}

#[test]
fn broken_data_sets_are_refused() {
    let encoding = Encoding::ExplicitLittle;
    let name = element(encoding, NAME, VR::PN, b"A^B ");
    let sequence = undefined(encoding, SEQUENCE, VR::SQ, &name);
    for end in 1..sequence.len() {
        assert!(parse(&sequence[..end], encoding).is_err(), "cut at {end}");
    }
    let leaves = element(encoding, SEQUENCE, VR::SQ, &item(encoding, &name)[..18]);
    assert!(parse(&[leaves, name.clone()].concat(), encoding).is_err(), "an item that leaves its sequence");
    assert!(parse(&item(encoding, &name), encoding).is_err(), "an item outside of a sequence");
    assert!(parse(&element(encoding, SEQUENCE, VR::SQ, &name), encoding).is_err(), "no item where one must be");
    let mut deep = name;
    for _ in 0..=MAX_DEPTH {
        deep = undefined(encoding, SEQUENCE, VR::SQ, &deep);
    }
    assert!(matches!(parse(&deep, encoding), Err(Error::Malformed { .. })), "nested too deeply");
    let mut scanner = Scanner::new(Cursor::new(&deep), 0, length(&deep));
    let header = scanner.header(encoding).expect("reads");
    assert!(matches!(scanner.skip_value(&header, encoding), Err(Error::Malformed { .. })));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for encoding in ENCODINGS {
            if let Ok(read) = parse(&bytes, encoding) {
                let raw: usize = read.iter().map(|element| element.raw.len()).sum();
                prop_assert_eq!(raw, bytes.len());
            }
        }
    }
}
