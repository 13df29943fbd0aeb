//! What is suspect is found and said; what is blanked is gone and comes back.

use dicom_core::VR;
use proptest::prelude::*;

use super::{blank::Blanked, *};
use crate::dicom::{Profile, dataset};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2\0";
const US: &str = "1.2.840.10008.5.1.4.1.1.6.1\0";
const SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7\0";

type Written<'a> = (Tag, VR, &'a [u8]);

fn class(uid: &str) -> Written<'_> {
    (tags::SOP_CLASS_UID, VR::UI, uid.as_bytes())
}

fn word(tag: Tag, word: &str) -> Written<'_> {
    (tag, VR::CS, word.as_bytes())
}

fn file(elements: &[Written<'_>]) -> Vec<u8> {
    let mut sorted = elements.to_vec();
    sorted.sort_by_key(|(tag, ..)| *tag);
    let mut out = Vec::new();
    for (tag, vr, value) in sorted {
        dataset::write(&mut out, Encoding::ExplicitLittle, tag, vr, value);
    }
    out
}

fn suspicions(elements: &[Written<'_>], found: Found) -> Vec<Suspicion> {
    let bytes = file(elements);
    let elements = dataset::parse(&bytes, Encoding::ExplicitLittle).expect("parses");
    Facts::of(&elements, Encoding::ExplicitLittle, found).suspicions(&Profile::default().suspects)
}

fn kinds(elements: &[Written<'_>]) -> Vec<Suspect> {
    suspicions(elements, Found::Encapsulated).into_iter().map(|suspicion| suspicion.what).collect()
}

#[test]
fn writing_is_suspected_by_declaration_modality_class_type_and_conversion() {
    let modality = |text| word(tags::MODALITY, text);
    let declared = |text| word(tags::BURNED_IN_ANNOTATION, text);
    assert_eq!(kinds(&[class(CT), modality("CT")]), []);
    for suspect in [
        vec![class(CT), declared("YES ")],
        vec![class(US)],
        vec![class(SECONDARY_CAPTURE)],
        vec![class("1.2.840.10008.5.1.4.1.1.7.4\0")],
        vec![class(CT), modality("US")],
        vec![class(CT), word(tags::IMAGE_TYPE, "DERIVED\\SECONDARY\\SCREEN SAVE ")],
        vec![class(CT), word(tags::CONVERSION_TYPE, "WSD ")],
    ] {
        assert_eq!(kinds(&suspect), [Suspect::BurnedIn], "{suspect:?}");
    }
    assert_eq!(kinds(&[class(US), modality("US"), declared("NO")]), [], "it was declared to have none");
    assert_eq!(suspicions(&[class(US)], Found::Nothing), [], "without a picture there is no writing");
}

#[test]
fn faces_heads_and_documents_are_suspected() {
    let no_writing = word(tags::BURNED_IN_ANNOTATION, "NO");
    let photograph = class("1.2.840.10008.5.1.4.1.1.77.1.4");
    assert_eq!(kinds(&[photograph, no_writing]), [Suspect::Face]);
    let features = |text| word(tags::RECOGNIZABLE_VISUAL_FEATURES, text);
    assert_eq!(kinds(&[photograph, no_writing, features("NO")]), []);
    assert_eq!(kinds(&[class(CT), features("YES ")]), [Suspect::Face]);
    let part = |text| word(tags::BODY_PART_EXAMINED, text);
    let ct = word(tags::MODALITY, "CT");
    assert_eq!(kinds(&[class(CT), ct, part("HEAD")]), [Suspect::Head]);
    assert_eq!(kinds(&[class(CT), ct, part("CHEST ")]), []);
    let pdf = class("1.2.840.10008.5.1.4.1.1.104.1\0");
    assert_eq!(suspicions(&[pdf], Found::Nothing)[0].what, Suspect::Document);
    let document = (tags::ENCAPSULATED_DOCUMENT, VR::OB, &b"%PDF"[..]);
    assert_eq!(suspicions(&[class(CT), document], Found::Nothing)[0].what, Suspect::Document);
}

const SIZE: [Written<'static>; 4] = [
    (tags::ROWS, VR::US, &[2, 0]),
    (tags::COLUMNS, VR::US, &[3, 0]),
    (tags::BITS_ALLOCATED, VR::US, &[8, 0]),
    (tags::SAMPLES_PER_PIXEL, VR::US, &[1, 0]),
];

#[test]
fn what_hides_in_the_pixel_data_is_suspected() {
    assert_eq!(suspicions(&SIZE, Found::Native(6)), []);
    assert_eq!(suspicions(&SIZE, Found::Native(8))[0].what, Suspect::Hidden);
    assert_eq!(suspicions(&SIZE, Found::Native(8))[0].reason, "2 bytes follow the last frame");
    let position = |value| [(Tag(0x6000, 0x0010), VR::US, &[2, 0][..]), (Tag(0x6000, 0x0102), VR::US, value)];
    assert_eq!(kinds(&position(&[12, 0])), [Suspect::Hidden]);
    assert_eq!(kinds(&position(&[0, 0])), [Suspect::Hidden], "an overlay without data of its own");
    let data = (Tag(0x6000, 0x3000), VR::OW, &[1, 0][..]);
    assert_eq!(kinds(&[&position(&[0, 0])[..], &[data]].concat()), []);
}

#[test]
fn a_mask_is_refused_where_it_cannot_be_done() {
    let blanks = |elements: &[Written<'_>], found, regions: &[[u32; 4]]| {
        let bytes = file(elements);
        let elements = dataset::parse(&bytes, Encoding::ExplicitLittle).expect("parses");
        let regions: Vec<Region> = regions.iter().copied().map(Region::from).collect();
        Facts::of(&elements, Encoding::ExplicitLittle, found).blanks(&regions).map_err(|error| error.to_string())
    };
    assert!(blanks(&SIZE, Found::Native(6), &[[0, 0, 3, 2]]).is_ok());
    for (elements, found, region, reason) in [
        (&SIZE[..], Found::Encapsulated, [0, 0, 1, 1], "compressed"),
        (&SIZE[..], Found::Nothing, [0, 0, 1, 1], "no pixel data"),
        (&SIZE[1..], Found::Native(6), [0, 0, 1, 1], "how large"),
        (&SIZE[..], Found::Native(6), [2, 0, 2, 1], "not within"),
        (&SIZE[..], Found::Native(4), [0, 0, 1, 1], "shorter"),
    ] {
        let refused = blanks(elements, found, &[region]).expect_err("is refused");
        assert!(refused.contains(reason), "{refused}");
    }
}

#[test]
fn a_device_is_known_by_all_that_its_mask_names() {
    let mask = DeviceMask {
        manufacturer: Some("ACME".into()),
        rows: 2,
        columns: 3,
        regions: vec![Region::from([0, 0, 3, 1])],
        ..DeviceMask::default()
    };
    let count = |maker: &[u8], masks: &[DeviceMask]| {
        let bytes = file(&[&SIZE[..], &[(tags::MANUFACTURER, VR::LO, maker)]].concat());
        let elements = dataset::parse(&bytes, Encoding::ExplicitLittle).expect("parses");
        Facts::of(&elements, Encoding::ExplicitLittle, Found::Native(6)).device_regions(masks).count()
    };
    assert_eq!(count(b"Acme", std::slice::from_ref(&mask)), 1);
    assert_eq!(count(b"Other ", std::slice::from_ref(&mask)), 0);
    assert_eq!(count(b"Acme", &[DeviceMask { rows: 3, ..mask.clone() }]), 0);
    assert_eq!(count(b"Acme", &[DeviceMask { model: Some("X".into()), ..mask }]), 0);
}

#[test]
fn regions_are_read_as_they_are_written() {
    let region: Region = "1, 2,30,4".parse().expect("is one");
    assert_eq!((region, region.to_string().as_str()), (Region::from([1, 2, 30, 4]), "1,2,30,4"));
    for wrong in ["", "1,2,3", "1,2,3,4,5", "1,2,0,4", "a,b,c,d", "-1,0,1,1"] {
        assert!(wrong.parse::<Region>().is_err(), "{wrong}");
    }
    assert!(!Region::from([u32::MAX, 0, 2, 1]).lies_within(5, u32::MAX), "no overflow");
}

proptest! {
    #[test]
    fn blanked_pixels_are_those_of_the_rectangles_in_every_frame_and_plane(
        rows in 1u32..6, columns in 1u32..6, samples in 1u32..4, frames in 1u32..4, bytes in 1u32..3, planes: bool,
        regions in prop::collection::vec((0u32..6, 0u32..6, 1u32..7, 1u32..7), 1..4),
        piece in 1usize..40, header in 0u64..13,
    ) {
        let regions: Vec<Region> = regions.into_iter()
            .map(|(x, y, width, height)| Region { x, y, width, height })
            .filter(|region| region.lies_within(rows, columns))
            .collect();
        let geometry = Geometry { rows, columns, samples, bits: bytes * 8, frames, planes, subsampled: false };
        let blanks = blank::Blanks::new(geometry, &regions);
        let length = geometry.bytes().expect("small");
        let original: Vec<u8> = (0..header + length).map(|n| (n % 255 + 1) as u8).collect();
        let (mut out, mut blanked, mut at) = (original.clone(), Blanked::with_capacity(blanks.bytes()), 0);
        for chunk in out.chunks_mut(piece) {
            blanks.blank_element(header, at, chunk, &mut blanked);
            at += chunk.len() as u64;
        }
        let mut gone = 0;
        for (position, (before, after)) in original.iter().zip(&out).enumerate() {
            let Some(position) = (position as u64).checked_sub(header) else {
                prop_assert_eq!(before, after);
                continue;
            };
            let pixel = position / u64::from(bytes) / if planes { 1 } else { u64::from(samples) };
            let (x, y) = ((pixel % u64::from(columns)) as u32, (pixel / u64::from(columns) % u64::from(rows)) as u32);
            let inside = regions.iter().any(|r| (r.x..r.x + r.width).contains(&x) && (r.y..r.y + r.height).contains(&y));
            prop_assert_eq!(*after == 0, inside);
            gone += u64::from(inside);
            if !inside { prop_assert_eq!(before, after); }
        }
        prop_assert_eq!(blanks.bytes(), gone);
        let patches = blanked.into_patches(header);
        let mut position = 0;
        let mut bytes = patches.bytes.iter();
        for (gap, run) in &patches.runs {
            position += gap;
            for _ in 0..*run {
                out[position as usize] = *bytes.next().expect("as many as the runs say");
                position += 1;
            }
        }
        prop_assert_eq!(out, original);
    }
}
