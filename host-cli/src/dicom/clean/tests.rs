//! Nothing planted remains, at any depth and in any encoding; what shows the picture stays as it was.

use std::collections::{BTreeMap, BTreeSet};

use dicom_core::dictionary::DataDictionary as _;
use dicom_dictionary_std::StandardDataDictionary;

use super::*;
use crate::dicom::table::{Choice, rows};

mod content;
mod stress;

const ENCODINGS: [Encoding; 3] = [Encoding::ImplicitLittle, Encoding::ExplicitLittle, Encoding::ExplicitBig];
const EXPLICIT: Encoding = Encoding::ExplicitLittle;
/// A sequence that is kept, and whose items are looked into.
const KEPT_SEQUENCE: Tag = tags::REFERENCED_IMAGE_SEQUENCE;

/// A profile with these options and what else its text says.
fn profile(options: &[&str], rest: &str) -> Profile {
    let options: Vec<_> = options.iter().map(|option| format!("{option:?}")).collect();
    let text = format!("format = 1\nname = \"test\"\nversion = \"1\"\noptions = [{}]\n{rest}", options.join(", "));
    Profile::parse(text.as_bytes()).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn element(encoding: Encoding, tag: Tag, vr: VR, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    dataset::write(&mut out, encoding, tag, vr, value);
    out
}

fn sequence(encoding: Encoding, tag: Tag, items: &[&[u8]]) -> Vec<u8> {
    let mut contents = Vec::new();
    for item in items {
        dataset::write_item(&mut contents, encoding, item);
    }
    element(encoding, tag, VR::SQ, &contents)
}

fn secret() -> ProjectSecret {
    ProjectSecret::new([7; 32])
}

fn cleaned_with_report(original: &[u8], encoding: Encoding, profile: &Profile) -> (Vec<u8>, Vec<Entry>) {
    let elements = dataset::parse(original, encoding).expect("parses");
    let class = find(&elements, tags::SOP_CLASS_UID).and_then(text).unwrap_or_default();
    let secret = secret();
    Cleaner::new(profile, &secret, class, &elements, false, true).clean(&elements, encoding)
}

fn cleaned(original: &[u8], encoding: Encoding, profile: &Profile) -> Vec<u8> {
    let (with, _) = cleaned_with_report(original, encoding, profile);
    let elements = dataset::parse(original, encoding).expect("parses");
    let class = find(&elements, tags::SOP_CLASS_UID).and_then(text).unwrap_or_default();
    let secret = secret();
    let (without, none) = Cleaner::new(profile, &secret, class, &elements, false, false).clean(&elements, encoding);
    assert!(none.is_empty());
    assert_eq!(with, without, "a report changes nothing");
    with
}

/// The value of an element of the top level, as text.
fn value(bytes: &[u8], tag: Tag) -> Option<String> {
    let elements = dataset::parse(bytes, EXPLICIT).expect("parses");
    find(&elements, tag).map(|value| text(value).expect("ASCII").into())
}

#[test]
fn the_patient_is_gone_and_the_picture_stays_in_every_encoding() {
    for encoding in ENCODINGS {
        let rows: [u8; 2] = if encoding == Encoding::ExplicitBig { [2, 0] } else { [0, 2] };
        let image_type = element(encoding, tags::IMAGE_TYPE, VR::CS, b"ORIGINAL\\PRIMARY");
        let spacing = element(encoding, tags::PIXEL_SPACING, VR::DS, b"0.5\\0.5 ");
        let original = [
            image_type.clone(),
            element(encoding, tags::SOP_CLASS_UID, VR::UI, b"1.2.840.10008.5.1.4.1.1.2\0"),
            element(encoding, tags::SOP_INSTANCE_UID, VR::UI, b"1.77.1"),
            element(encoding, tags::STUDY_DATE, VR::DA, b"19770401"),
            element(encoding, tags::MODALITY, VR::CS, b"CT"),
            element(encoding, tags::SERIES_DESCRIPTION, VR::LO, b"CT of Mueller's chest"),
            element(encoding, Tag(0x0009, 0x0010), VR::LO, b"MUELLER "),
            element(encoding, tags::PATIENT_NAME, VR::PN, b"Mueller^Eva "),
            element(encoding, tags::PATIENT_ID, VR::LO, b"4711-77 "),
            element(encoding, tags::ROWS, VR::US, &rows),
            spacing.clone(),
        ]
        .concat();
        let cleaned = cleaned(&original, encoding, &Profile::default());
        for gone in ["ueller", "UELLER", "Eva", "4711", "1.77.1", "19770401"] {
            assert!(!cleaned.windows(gone.len()).any(|bytes| bytes == gone.as_bytes()), "{gone} in {encoding:?}");
        }
        let read = dataset::parse(&cleaned, encoding).expect("parses");
        let tags: Vec<Tag> = read.iter().map(|element| element.tag).collect();
        assert!(tags.is_sorted(), "{tags:?}");
        let raw = |tag| read.iter().find(|element| element.tag == tag).map(|element| element.raw);
        assert_eq!(raw(tags::IMAGE_TYPE), Some(&*image_type));
        assert_eq!(raw(tags::PIXEL_SPACING), Some(&*spacing));
        assert_eq!(find(&read, tags::SERIES_DESCRIPTION), Some(&b"CT chest"[..]));
        assert_eq!(find(&read, tags::PATIENT_IDENTITY_REMOVED), Some(&b"YES "[..]));
        assert_eq!(find(&read, tags::SOP_CLASS_UID).and_then(text), Some("1.2.840.10008.5.1.4.1.1.2"));
        assert_eq!(find(&read, tags::SOP_INSTANCE_UID).and_then(text), Some(&*secret().replace_uid("1.77.1")));
        let pseudonym = format!("P-{}", secret().pseudonym(b"4711-77"));
        assert_eq!(find(&read, tags::PATIENT_ID).and_then(text), Some(&*pseudonym));
        assert_eq!(find(&read, tags::PATIENT_NAME).and_then(text), Some(&*pseudonym));
    }
}

#[test]
fn an_image_says_by_which_profile_and_options_it_was_deidentified() {
    let original = [
        element(EXPLICIT, tags::PATIENT_IDENTITY_REMOVED, VR::CS, b"NO"),
        element(EXPLICIT, tags::DEIDENTIFICATION_METHOD, VR::LO, b"Mueller "),
        element(EXPLICIT, tags::ROWS, VR::US, &[0, 2]),
    ]
    .concat();
    for (options, dates, codes) in [
        (&[][..], "REMOVED", &["113100"][..]),
        (&["retain-longitudinal-full-dates", "retain-uids"], "UNMODIFIED", &["113100", "113106", "113110"]),
        (&["retain-longitudinal-modified-dates", "clean-graphics"], "MODIFIED", &["113100", "113103", "113107"]),
    ] {
        let profile = profile(options, "");
        let bytes = cleaned(&original, EXPLICIT, &profile);
        let read = dataset::parse(&bytes, EXPLICIT).expect("parses");
        assert_eq!(read.iter().filter(|element| element.tag == tags::PATIENT_IDENTITY_REMOVED).count(), 1);
        assert_eq!(value(&bytes, tags::PATIENT_IDENTITY_REMOVED).as_deref(), Some("YES"));
        assert_eq!(value(&bytes, tags::DEIDENTIFICATION_METHOD), Some(profile.method().join("\\")));
        assert_eq!(value(&bytes, tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED).as_deref(), Some(dates));
        let sequence = read.iter().find(|element| element.tag == tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE);
        let Some(Value::Items(items, _)) = sequence.map(|element| &element.value) else { panic!("no codes") };
        let found: Vec<_> = items.iter().filter_map(|item| find(item, tags::CODE_VALUE).and_then(text)).collect();
        assert_eq!(found, codes);
    }
}

#[test]
fn dates_of_a_patient_keep_their_distance_and_those_of_another_have_another() {
    let shifted = |patient: &[u8], date: &[u8]| {
        let original =
            [element(EXPLICIT, tags::STUDY_DATE, VR::DA, date), element(EXPLICIT, tags::PATIENT_ID, VR::LO, patient)]
                .concat();
        value(&cleaned(&original, EXPLICIT, &Profile::default()), tags::STUDY_DATE).expect("is there")
    };
    let one = shifted(b"4711", b"20240310");
    assert_eq!(one, shifted(b"4711 ", b"20240310"), "padding does not count");
    let days = secret().days(b"4711", 3650);
    assert_eq!(one.as_bytes(), values::shifted(VR::DA, b"20240310", days).expect("a date"));
    assert_ne!(one, shifted(b"4712", b"20240310"));
    assert_eq!(shifted(b"4711", b"MARCH"), "", "what is no date is emptied as the table says");
}

#[test]
fn a_project_decides_otherwise_than_the_table_where_it_says_so() {
    let original = [
        element(EXPLICIT, tags::STATION_NAME, VR::SH, b"CT1 "),
        element(EXPLICIT, tags::OPERATORS_NAME, VR::PN, b"Mueller "),
        element(EXPLICIT, tags::KVP, VR::DS, b"120 "),
        element(EXPLICIT, tags::PROTOCOL_NAME, VR::LO, b"Abdomen MyStudy "),
        element(EXPLICIT, tags::STUDY_ID, VR::SH, b"S77 "),
        element(EXPLICIT, tags::IMAGE_COMMENTS, VR::LT, b"x "),
    ]
    .concat();
    let rest = "[clean]\nwords = [\"MyStudy\"]\n[overrides]\nStationName = \"keep\"\n\"0008107x\" = \"empty\"\nKVP = \"remove\"\n\
                ProtocolName = \"clean\"\nStudyID = \"dummy\"\nImageComments = \"keep\"\n";
    let bytes = cleaned(&original, EXPLICIT, &profile(&[], rest));
    for (tag, expected) in [
        (tags::STATION_NAME, Some("CT1")),
        (tags::OPERATORS_NAME, Some("")),
        (tags::KVP, None),
        (tags::PROTOCOL_NAME, Some("Abdomen MyStudy")),
        (tags::STUDY_ID, Some("REMOVED")),
        (tags::IMAGE_COMMENTS, Some("x")),
    ] {
        assert_eq!(value(&bytes, tag).as_deref(), expected, "{tag}");
    }
}

#[test]
fn private_elements_stay_when_creator_and_element_are_safe() {
    let block = |creator: &[u8], text: &[u8]| {
        [
            element(EXPLICIT, Tag(0x0019, 0x0011), VR::LO, creator),
            element(EXPLICIT, Tag(0x0019, 0x110C), VR::IS, b"1000"),
            element(EXPLICIT, Tag(0x0019, 0x110D), VR::LO, text),
            element(EXPLICIT, Tag(0x0019, 0x120C), VR::IS, b"2000"),
        ]
        .concat()
    };
    let rest = "[[safe-private]]\ngroup = \"0019\"\ncreator = \"ACME MR\"\nelements = [\"0C\"]\n";
    let safe = profile(&["retain-safe-private"], rest);
    let tags_of = |bytes: &[u8]| -> Vec<Tag> {
        let read = dataset::parse(bytes, EXPLICIT).expect("parses");
        read.iter().map(|element| element.tag).filter(|tag| tag.group() == 0x0019).collect()
    };
    let kept = cleaned(&block(b"ACME MR ", b"Mueller "), EXPLICIT, &safe);
    assert_eq!(tags_of(&kept), [Tag(0x0019, 0x0011), Tag(0x0019, 0x110C)]);
    assert_eq!(tags_of(&cleaned(&block(b"OTHER MR", b"x "), EXPLICIT, &safe)), []);
    assert_eq!(tags_of(&cleaned(&block(b"ACME MR ", b"x "), EXPLICIT, &Profile::default())), []);
    let nested = sequence(EXPLICIT, KEPT_SEQUENCE, &[&block(b"ACME MR ", b"Mueller ")]);
    let nested = cleaned(&nested, EXPLICIT, &safe);
    assert!(nested.windows(4).any(|bytes| bytes == b"1000") && !nested.windows(7).any(|bytes| bytes == b"Mueller"));
}

#[test]
fn what_names_somebody_of_the_image_does_not_stay_in_other_texts() {
    let item = [
        element(EXPLICIT, tags::OPERATORS_NAME, VR::PN, b"Anderson^Q"),
        element(EXPLICIT, tags::MANUFACTURER, VR::LO, b"Scanner of anderson "),
    ]
    .concat();
    let original = [
        element(EXPLICIT, tags::ACCESSION_NUMBER, VR::SH, b"ACC98765"),
        element(EXPLICIT, tags::MANUFACTURER, VR::LO, b"ACME for Smythe "),
        element(EXPLICIT, tags::MANUFACTURER_MODEL_NAME, VR::LO, b"Model ACC98765"),
        sequence(EXPLICIT, KEPT_SEQUENCE, &[&item]),
        element(EXPLICIT, tags::PATIENT_NAME, VR::PN, b"SMYTHE^Jo "),
        element(EXPLICIT, tags::SOFTWARE_VERSIONS, VR::LO, b"Jo 1.2"),
    ]
    .concat();
    let bytes = cleaned(&original, EXPLICIT, &Profile::default());
    assert_eq!(value(&bytes, tags::MANUFACTURER).as_deref(), Some("REMOVED"));
    assert_eq!(value(&bytes, tags::MANUFACTURER_MODEL_NAME).as_deref(), Some("REMOVED"));
    assert_eq!(value(&bytes, tags::SOFTWARE_VERSIONS).as_deref(), Some("Jo 1.2"), "too short to tell anybody");
    assert!(!bytes.to_ascii_uppercase().windows(8).any(|bytes| bytes == b"ANDERSON"));
}

#[test]
fn values_that_are_not_what_their_vr_says_do_not_stay() {
    let original = [
        element(EXPLICIT, tags::IMAGE_TYPE, VR::CS, b"Mueller "),
        element(EXPLICIT, tags::KVP, VR::DS, b"Mueller "),
        element(EXPLICIT, tags::SOP_CLASS_UID, VR::UI, b"Mueller "),
        element(EXPLICIT, tags::SERIES_NUMBER, VR::IS, b"7 "),
    ];
    let mut original = original.to_vec();
    original.sort_by_key(|bytes| (bytes[1], bytes[0], bytes[3], bytes[2]));
    let bytes = cleaned(&original.concat(), EXPLICIT, &profile(&[], ""));
    assert!(!bytes.windows(7).any(|bytes| bytes == b"Mueller"));
    assert_eq!(value(&bytes, tags::SERIES_NUMBER).as_deref(), Some("7"));
}

#[test]
fn uids_of_the_standard_stay_and_all_others_go() {
    let replaced = |tag, uid: &str| {
        value(&cleaned(&element(EXPLICIT, tag, VR::UI, uid.as_bytes()), EXPLICIT, &Profile::default()), tag)
    };
    let secret = secret();
    assert_eq!(replaced(tags::CONTEXT_UID, "1.2.840.10008.6.1.1"), Some("1.2.840.10008.6.1.1".into()));
    assert_eq!(replaced(tags::STUDY_INSTANCE_UID, "1.77.2"), Some(secret.replace_uid("1.77.2")));
    let two = format!("{}\\{}", secret.replace_uid("1.77.2"), secret.replace_uid("1.77.3"));
    assert_eq!(replaced(tags::STUDY_INSTANCE_UID, "1.77.2\\1.77.3"), Some(two));
    let hidden = replaced(tags::STUDY_INSTANCE_UID, "1.2.840.10008.MUELLER^A").expect("is there");
    assert!(hidden.starts_with("2.25."), "{hidden}");
    // Not in the table, and an instance all the same.
    let footing = Tag(0x0020, 0x9312);
    assert_eq!(replaced(footing, "1.77.9"), Some(secret.replace_uid("1.77.9")));
    assert_eq!(replaced(tags::SOP_CLASS_UID, "1.3.12.2.1107.5.9.1"), Some("1.3.12.2.1107.5.9.1".into()));
    let kept = profile(&["retain-uids"], "");
    let bytes = cleaned(&element(EXPLICIT, tags::STUDY_INSTANCE_UID, VR::UI, b"1.77.2"), EXPLICIT, &kept);
    assert_eq!(value(&bytes, tags::STUDY_INSTANCE_UID).as_deref(), Some("1.77.2"));
}

#[test]
fn elements_written_as_unknown_follow_the_same_rules() {
    let implicit = Encoding::ImplicitLittle;
    let mut item = Vec::new();
    let inside = [
        element(implicit, tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, b"1.77.4"),
        element(implicit, tags::PATIENT_NAME, VR::PN, b"PLANT^A "),
    ]
    .concat();
    dataset::write_item(&mut item, implicit, &inside);
    let original = [
        element(EXPLICIT, tags::MODALITY, VR::UN, b"CT"),
        element(EXPLICIT, KEPT_SEQUENCE, VR::UN, &item),
        element(EXPLICIT, tags::PATIENT_ID, VR::UN, b"PLANT "),
        element(EXPLICIT, Tag(0x0028, 0x7777), VR::UN, b"PLANT "),
    ]
    .concat();
    let bytes = cleaned(&original, EXPLICIT, &Profile::default());
    assert!(!bytes.windows(5).any(|bytes| bytes == b"PLANT"));
    let read = dataset::parse(&bytes, EXPLICIT).expect("parses");
    assert_eq!(find(&read, tags::MODALITY), Some(&b"CT"[..]));
    let Some(Value::Items(items, _)) = read.iter().find(|e| e.tag == KEPT_SEQUENCE).map(|e| &e.value) else {
        panic!("the sequence is gone")
    };
    let reference = find(&items[0], tags::REFERENCED_SOP_INSTANCE_UID).and_then(text);
    assert_eq!(reference, Some(&*secret().replace_uid("1.77.4")));
}

#[test]
fn a_report_names_every_element_and_no_value() {
    let item = element(EXPLICIT, tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, b"1.77.4");
    let original = [
        element(EXPLICIT, tags::MODALITY, VR::CS, b"CT"),
        sequence(EXPLICIT, KEPT_SEQUENCE, &[&item]),
        element(EXPLICIT, Tag(0x0009, 0x0010), VR::LO, b"MUELLER "),
        element(EXPLICIT, tags::PATIENT_NAME, VR::PN, b"Mueller "),
    ]
    .concat();
    let (_, entries) = cleaned_with_report(&original, EXPLICIT, &Profile::default());
    let lines: Vec<_> =
        entries.iter().map(|one| (one.path.as_str(), one.keyword, one.action, one.rule.as_str())).collect();
    let expected = [
        ("(0008,0060)", "Modality", Done::Kept, "not in the table"),
        ("(0008,1140)", "ReferencedImageSequence", Done::LookedInto, "E.1-1 X/Z/U*"),
        ("(0008,1140)[0].(0008,1155)", "ReferencedSOPInstanceUID", Done::Uids, "E.1-1 U"),
        ("(0009,0010)", "", Done::Removed, "private"),
        ("(0010,0010)", "PatientName", Done::Pseudonym, "E.1-1 Z"),
    ];
    assert_eq!(lines[..5], expected);
    assert!(entries[5..].iter().all(|entry| entry.action == Done::Written && entry.rule == "PS3.15 E.1.1"));
    let json = serde_json::to_string(&entries).expect("serialises");
    assert!(json.contains("looked-into") && !json.to_uppercase().contains("MUELLER") && !json.contains("1.77"));
}
