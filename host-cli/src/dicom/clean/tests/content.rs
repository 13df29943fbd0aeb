//! Structured reports: every content item of Table E.3.4-1, and those that it does not name.

use super::*;
use crate::dicom::table::{Basic, ContentItem, content_items};

const CONCEPT: Tag = tags::CONCEPT_NAME_CODE_SEQUENCE;

fn code(scheme: &str, value: &str, meaning: &str) -> Vec<u8> {
    let text = |tag, vr, value: &str| element(EXPLICIT, tag, vr, &values::padded(vr, value.as_bytes().to_vec()));
    [
        text(tags::CODE_VALUE, VR::SH, value),
        text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme),
        text(tags::CODE_MEANING, VR::LO, meaning),
    ]
    .concat()
}

/// A content item with this concept, whose value is a marker.
fn item(scheme: &str, value: &str, value_type: &str, marker: &str) -> Vec<u8> {
    let text = |tag, vr, value: &str| element(EXPLICIT, tag, vr, &values::padded(vr, value.as_bytes().to_vec()));
    let reference = || {
        let inner = [
            text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.2"),
            text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, "1.77.5"),
        ];
        sequence(EXPLICIT, tags::REFERENCED_SOP_SEQUENCE, &[&inner.concat()])
    };
    let content = match value_type {
        "DATE" => text(tags::DATE, VR::DA, "19770401"),
        "TIME" => text(tags::TIME, VR::TM, "071717"),
        "DATETIME" => text(tags::DATE_TIME, VR::DT, "19770401071717"),
        "PNAME" => text(tags::PERSON_NAME, VR::PN, marker),
        "UIDREF" => text(tags::UID, VR::UI, "1.77.6"),
        "TEXT" => text(tags::TEXT_VALUE, VR::UT, marker),
        "CODE" => sequence(EXPLICIT, tags::CONCEPT_CODE_SEQUENCE, &[&code("99LOCAL", marker, marker)]),
        "NUM" => {
            let unit = sequence(EXPLICIT, tags::MEASUREMENT_UNITS_CODE_SEQUENCE, &[&code("UCUM", "mm", "millimeter")]);
            let number = text(tags::NUMERIC_VALUE, VR::DS, "7717");
            sequence(EXPLICIT, tags::MEASURED_VALUE_SEQUENCE, &[&[unit, number].concat()])
        }
        "CONTAINER" => Vec::new(),
        _ => reference(),
    };
    let concept = sequence(EXPLICIT, CONCEPT, &[&code(scheme, value, "Meaning")]);
    let mut parts = [
        text(tags::RELATIONSHIP_TYPE, VR::CS, "CONTAINS"),
        text(tags::VALUE_TYPE, VR::CS, value_type),
        concept,
        content,
    ];
    parts.sort_by_key(|bytes| if bytes.is_empty() { (0, 0, 0, 0) } else { (bytes[1], bytes[0], bytes[3], bytes[2]) });
    parts.concat()
}

fn report(items: &[&[u8]]) -> Vec<u8> {
    [
        element(EXPLICIT, tags::SOP_CLASS_UID, VR::UI, b"1.2.840.10008.5.1.4.1.1.88.33\0"),
        sequence(EXPLICIT, tags::CONTENT_SEQUENCE, items),
    ]
    .concat()
}

/// The items of a cleaned report.
fn cleaned_items(items: &[&[u8]], options: &[&str]) -> (Vec<u8>, Vec<String>) {
    let bytes = cleaned(&report(items), EXPLICIT, &profile(options, ""));
    let read = dataset::parse(&bytes, EXPLICIT).expect("parses");
    let content = read.iter().find(|element| element.tag == tags::CONTENT_SEQUENCE).map(|element| &element.value);
    let Some(Value::Items(items, _)) = content else { panic!("no content") };
    let types = items.iter().filter_map(|item| find(item, tags::VALUE_TYPE).and_then(text).map(String::from)).collect();
    (bytes, types)
}

fn has(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[test]
fn of_every_content_item_of_the_table_nothing_is_left() {
    let planted = |row: &ContentItem| item(row.scheme, row.code, row.value_type, "PLANTED^ITEM");
    let all: Vec<Vec<u8>> = content_items().iter().map(planted).collect();
    let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
    for options in [&[][..], &["clean-structured-content"], &["clean-structured-content", "clean-descriptors"]] {
        let (bytes, types) = cleaned_items(&all, options);
        for gone in ["PLANTED", "1.77.", "19770401", "7717", "071717"] {
            assert!(!has(&bytes, gone), "{gone} with {options:?}");
        }
        let removed = content_items().iter().filter(|row| row.codes.basic == Basic::Remove);
        let cleaned = removed.clone().filter(|row| row.codes.option(Column::CleanDescriptors).is_some()).count();
        let stay = match options.len() {
            0 => content_items().len(),
            1 => content_items().len() - removed.count(),
            _ => content_items().len() - removed.count() + cleaned,
        };
        assert_eq!(types.len(), stay, "with {options:?}");
    }
}

#[test]
fn a_report_is_cleaned_item_by_item_when_the_profile_says_so() {
    let texts = [
        item("DCM", "121071", "TEXT", "Nodule in left lung of Mrs Planted"),
        item("SCT", "410668003", "NUM", "unused"),
        item("99LOCAL", "77", "TEXT", "chest CT for Planted"),
        item("DCM", "121029", "PNAME", "PLANTED^ITEM"),
        item("DCM", "111018", "DATE", "unused"),
    ];
    let items: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    let options = ["clean-structured-content", "clean-descriptors", "retain-longitudinal-modified-dates"];
    let (bytes, types) = cleaned_items(&items, &options);
    assert_eq!(types, ["TEXT", "NUM", "TEXT", "PNAME", "DATE"]);
    assert!(!has(&bytes, "lanted") && !has(&bytes, "PLANTED") && !has(&bytes, "19770401") && !has(&bytes, "99LOCAL"));
    assert!(has(&bytes, "Nodule left lung") && has(&bytes, "chest CT") && has(&bytes, "7717"));
    assert!(has(&bytes, "410668003"), "the names of concepts of published schemes stay");
    let (basic, types) = cleaned_items(&items, &[]);
    assert_eq!(types.len(), 5, "without the option, a report keeps its shape and nothing else");
    assert!(!has(&basic, "Nodule") && !has(&basic, "7717") && !has(&basic, "410668003"));
}

#[test]
fn drawings_stay_and_their_texts_go_when_the_profile_says_so() {
    let text_object = element(EXPLICIT, Tag(0x0070, 0x0006), VR::ST, b"Mrs Planted ");
    let drawn = element(EXPLICIT, Tag(0x0070, 0x0022), VR::FL, b"\x17\x07\x17\x07\x17\x07\x17\x07");
    let annotation =
        [sequence(EXPLICIT, Tag(0x0070, 0x0008), &[&text_object]), sequence(EXPLICIT, Tag(0x0070, 0x0009), &[&drawn])]
            .concat();
    let original = sequence(EXPLICIT, tags::GRAPHIC_ANNOTATION_SEQUENCE, &[&annotation]);
    for (options, kept) in [(&["clean-graphics"][..], true), (&[][..], false)] {
        let bytes = cleaned(&original, EXPLICIT, &profile(options, ""));
        assert_eq!(has(&bytes, "\x17\x07\x17\x07\x17\x07\x17\x07"), kept, "{options:?}");
        assert!(!has(&bytes, "Planted"));
    }
}
