//! Gray values, windows, colours and montages of small pictures made by hand.

use dicom_core::{Tag, VR};

use super::*;
use crate::dicom::Encoding;

fn element(out: &mut Vec<u8>, tag: Tag, vr: VR, value: &[u8]) {
    let value = if value.len() % 2 == 1 { [value, b" "].concat() } else { value.to_vec() };
    dicom::write_element(out, Encoding::ExplicitLittle, tag, vr, &value);
}

/// A file up to its pixel data: two columns and rows, and what is added.
fn head(syntax: &str, added: &[(Tag, VR, &[u8])]) -> Vec<u8> {
    let mut meta = Vec::new();
    let padded = if syntax.len() % 2 == 1 { format!("{syntax}\0") } else { syntax.into() };
    element(&mut meta, tags::TRANSFER_SYNTAX_UID, VR::UI, padded.as_bytes());
    let mut out = vec![0; 128];
    out.extend_from_slice(b"DICM");
    let length = u32::try_from(meta.len()).expect("small").to_le_bytes();
    element(&mut out, tags::FILE_META_INFORMATION_GROUP_LENGTH, VR::UL, &length);
    out.extend(meta);
    let mut elements: Vec<(Tag, VR, Vec<u8>)> = vec![
        (tags::SAMPLES_PER_PIXEL, VR::US, vec![1, 0]),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, b"MONOCHROME2".to_vec()),
        (tags::ROWS, VR::US, vec![2, 0]),
        (tags::COLUMNS, VR::US, vec![2, 0]),
        (tags::BITS_ALLOCATED, VR::US, vec![16, 0]),
        (tags::BITS_STORED, VR::US, vec![12, 0]),
        (tags::PIXEL_REPRESENTATION, VR::US, vec![1, 0]),
    ];
    for (tag, vr, value) in added {
        elements.retain(|(known, ..)| known != tag);
        elements.push((*tag, *vr, value.to_vec()));
    }
    elements.sort_by_key(|(tag, ..)| *tag);
    for (tag, vr, value) in elements {
        element(&mut out, tag, vr, &value);
    }
    out
}

const EXPLICIT: &str = "1.2.840.10008.1.2.1";

fn pixels(values: [i16; 4]) -> Vec<Vec<u8>> {
    vec![values.iter().flat_map(|value| value.to_le_bytes()).collect()]
}

#[test]
fn values_are_rescaled_and_windowed() {
    let rescaled = head(EXPLICIT, &[(tags::RESCALE_INTERCEPT, VR::DS, b"-24"), (tags::RESCALE_SLOPE, VR::DS, b"2")]);
    let pixels = pixels([0, 12, 24, -2]);
    // All values from -28 to 24.
    let all = develop(&rescaled, &pixels, None).expect("develops");
    assert_eq!((all.width, all.height, all.colour), (2, 2, false));
    assert_eq!(all.values, [20, 137, 255, 0]);
    let window = Window { center: 0.0, width: 11.0 };
    assert_eq!(develop(&rescaled, &pixels, Some(window)).expect("develops").values, [0, 140, 255, 0]);
    let of_image = head(EXPLICIT, &[(tags::WINDOW_CENTER, VR::DS, b"0"), (tags::WINDOW_WIDTH, VR::DS, b"11")]);
    assert_eq!(
        develop(&of_image, &self::pixels([0, -100, 100, 0]), None).expect("develops").values,
        [140, 0, 255, 140]
    );
}

#[test]
fn bits_that_are_not_stored_do_not_count_and_monochrome1_is_inverse() {
    let negative = head(EXPLICIT, &[]);
    // 12 bits are stored: 0xffff is -1 whatever the upper bits say, and so is 0x0fff.
    let bytes = vec![vec![0xff, 0xff, 0xff, 0x0f, 0, 0, 1, 0]];
    assert_eq!(develop(&negative, &bytes, None).expect("develops").values, [0, 0, 128, 255]);
    let inverse = head(EXPLICIT, &[(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, b"MONOCHROME1")]);
    assert_eq!(develop(&inverse, &bytes, None).expect("develops").values, [255, 255, 127, 0]);
}

#[test]
fn colours_in_planes_become_points() {
    let colour = head(
        EXPLICIT,
        &[
            (tags::SAMPLES_PER_PIXEL, VR::US, &[3, 0]),
            (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, b"RGB"),
            (tags::PLANAR_CONFIGURATION, VR::US, &[1, 0]),
            (tags::BITS_ALLOCATED, VR::US, &[8, 0]),
            (tags::BITS_STORED, VR::US, &[8, 0]),
        ],
    );
    let picture = develop(&colour, &[vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]], None).expect("develops");
    assert_eq!(picture.values, [1, 5, 9, 2, 6, 10, 3, 7, 11, 4, 8, 12]);
    assert_eq!(picture.point(1, 1), [4, 8, 12]);
}

#[test]
fn what_cannot_be_shown_is_refused() {
    let pixels = pixels([1, 2, 3, 4]);
    let refused = |head: &[u8]| develop(head, &pixels, None).expect_err("is refused");
    let palette = head(EXPLICIT, &[(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, b"PALETTE COLOR")]);
    assert!(matches!(refused(&palette), Error::Attribute("PhotometricInterpretation")));
    assert!(matches!(refused(&head("1.2.840.10008.1.2.4.90", &[])), Error::Codec(_)));
    assert!(matches!(
        refused(&head(EXPLICIT, &[(tags::ROWS, VR::US, &[3, 0])])),
        Error::Length { found: 8, expected: 12 }
    ));
    assert!(matches!(refused(&head("1.2.840.10008.1.2.5", &[])), Error::Decode(_)));
    let whole = head(EXPLICIT, &[]);
    for cut in 0..whole.len() {
        let _ = develop(whole.get(..cut).unwrap_or_default(), &pixels, None);
    }
}

#[test]
fn pictures_stand_side_by_side() {
    let picture = |value| Picture { width: 2, height: 1, colour: false, values: vec![value; 2] };
    let three = montage(&[picture(1), picture(2), picture(3)]).expect("a montage");
    assert_eq!((three.width, three.height), (4, 2));
    assert_eq!(three.values, [1, 1, 2, 2, 3, 3, 0, 0]);
    assert_eq!(montage(&[]), None);
    assert_eq!(montage(&[picture(9)]), Some(picture(9)));
}
