//! Nothing planted remains, at any depth and in any encoding; what shows the picture stays as it was.

use std::collections::BTreeSet;

use dicom_core::dictionary::{DataDictionary as _, DataDictionaryEntry as _};
use dicom_dictionary_std::StandardDataDictionary;

use super::*;

const ENCODINGS: [Encoding; 3] = [Encoding::ImplicitLittle, Encoding::ExplicitLittle, Encoding::ExplicitBig];
/// The groups of the standard dictionary.
const GROUPS: [u16; 74] = [
    0x0008, 0x0010, 0x0012, 0x0014, 0x0016, 0x0018, 0x0020, 0x0022, 0x0024, 0x0028, 0x0032, 0x0034, 0x0038, 0x003A,
    0x0040, 0x0042, 0x0044, 0x0046, 0x0048, 0x0050, 0x0052, 0x0054, 0x0060, 0x0062, 0x0064, 0x0066, 0x0068, 0x006A,
    0x0070, 0x0072, 0x0074, 0x0076, 0x0078, 0x0080, 0x0082, 0x0088, 0x0100, 0x0400, 0x1000, 0x1010, 0x2000, 0x2010,
    0x2020, 0x2030, 0x2040, 0x2050, 0x2100, 0x2110, 0x2120, 0x2130, 0x2200, 0x3002, 0x3004, 0x3006, 0x3008, 0x300A,
    0x300C, 0x300E, 0x3010, 0x4000, 0x4008, 0x4010, 0x4FFE, 0x5000, 0x5200, 0x5400, 0x5600, 0x6000, 0x7F00, 0x7FE0,
    0xFFFA, 0xFFFC, 0x5002, 0x601E,
];
/// A sequence that is kept, and whose items are looked into.
const KEPT_SEQUENCE: Tag = Tag(0x0008, 0x1140);

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

fn cleaned(original: &[u8], encoding: Encoding) -> Vec<u8> {
    clean(original, encoding, &UidKey::new([7; 32])).expect("cleans").dataset
}

/// A value that could be anybody's, as its VR allows it, and unlike that of any other tag.
fn planted(tag: Tag, vr: VR) -> Option<String> {
    let Tag(group, element) = tag;
    let number = u32::from(group) << 16 | u32::from(element);
    Some(match vr {
        VR::PN => format!("PLANT^{group:04X}{element:04X}"),
        VR::AE | VR::SH | VR::LO | VR::LT | VR::ST | VR::UC | VR::UT => format!("PLANT{group:04X}{element:04X}"),
        VR::OB | VR::OW | VR::OD | VR::OF | VR::OL | VR::OV | VR::UN => format!("PLANT{group:04X}{element:04X}PLANT__"),
        VR::UR => format!("http://PLANT{group:04X}{element:04X}"),
        VR::UI => format!("1.77.{number}"),
        VR::DA => String::from("19770401"),
        VR::TM => String::from("777777"),
        VR::DT => String::from("19770401777777"),
        VR::AS => String::from("077Y"),
        // Lower case is no code: what somebody typed there.
        VR::CS => format!("plant{group:04x}{element:04x}"),
        VR::DS | VR::IS => format!("plant{number:08x}"),
        _ => return None,
    })
}

/// Every element of the standard dictionary that can hold words, and two private ones.
fn everything(encoding: Encoding) -> Vec<u8> {
    let mut out = Vec::new();
    for group in GROUPS {
        for number in 1..=0xFFFF {
            let tag = Tag(group, number);
            let Some(entry) = StandardDataDictionary.by_tag(tag) else { continue };
            let vr = entry.vr().relaxed();
            if tag == dataset::PIXEL_DATA || rules::CLASS_UIDS.contains(&tag) {
                continue;
            }
            if let Some(value) = planted(tag, vr) {
                out.extend(element(encoding, tag, vr, value.as_bytes()));
            }
        }
    }
    out.extend(element(encoding, Tag(0x0009, 0x0010), VR::LO, b"PLANT^00090010"));
    out.extend(element(encoding, Tag(0x7777, 0x7777), VR::OB, b"PLANT^77777777"));
    out
}

/// The planted words that are left, each once.
fn left(bytes: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for needle in [&b"PLANT"[..], b"plant", b"1.77.", b"19770401", b"777777", b"077Y"] {
        for (position, window) in bytes.windows(needle.len()).enumerate() {
            if window == needle {
                let end = bytes.len().min(position + 13);
                found.insert(String::from_utf8_lossy(&bytes[position..end]).into_owned());
            }
        }
    }
    found
}

#[test]
fn of_all_that_was_planted_only_kept_labels_are_left() {
    // These say how the picture was made, and are listed in `rules`.
    let labels = [
        "PLANT00080070",
        "PLANT00081090",
        "PLANT00180024",
        "PLANT00181160",
        "PLANT00181210",
        "PLANT00181250",
        "PLANT00181251",
        "PLANT00189005",
        "PLANT00281054",
        "PLANT00283004",
    ];
    // Bulk data that is needed to show the picture; tables of numbers, which hold words only in this test.
    let bulk = [
        "PLANT00281201",
        "PLANT00281202",
        "PLANT00281203",
        "PLANT00281204",
        "PLANT00281221",
        "PLANT00281222",
        "PLANT00281223",
        "PLANT00281224",
        "PLANT00282000",
        "PLANT00283006",
        "PLANT54000110",
        "PLANT54000112",
        "PLANT5400100A",
        "PLANT54001010",
        "PLANT7FE00001",
        "PLANT7FE00002",
    ];
    let expected: BTreeSet<String> = labels.into_iter().chain(bulk).map(String::from).collect();
    let encoding = Encoding::ExplicitLittle;
    let everything = everything(encoding);
    assert!(left(&everything).len() > 2000, "the test plants too little");
    let deep = sequence(encoding, KEPT_SEQUENCE, &[&sequence(encoding, KEPT_SEQUENCE, &[&everything]), &everything]);
    for original in [everything, deep] {
        let mut found = left(&cleaned(&original, encoding));
        // The second half of a bulk value is the end of a word that was counted already.
        found.retain(|word| !word.starts_with("PLANT__"));
        assert_eq!(found, expected);
    }
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
            element(encoding, tags::PATIENT_NAME, VR::PN, b"PLANT^A "),
            element(encoding, Tag(0x0009, 0x0010), VR::LO, b"PLANTED "),
            element(encoding, tags::ROWS, VR::US, &rows),
            spacing.clone(),
        ]
        .concat();
        let cleaned = clean(&original, encoding, &UidKey::new([7; 32])).expect("cleans");
        assert_eq!(left(&cleaned.dataset), BTreeSet::new(), "{encoding:?}");
        let read = dataset::parse(&cleaned.dataset, encoding).expect("parses");
        let tags: Vec<Tag> = read.iter().map(|element| element.tag).collect();
        assert!(tags.is_sorted(), "{tags:?}");
        let raw = |tag| read.iter().find(|element| element.tag == tag).map(|element| element.raw);
        assert_eq!(raw(tags::IMAGE_TYPE), Some(&*image_type));
        assert_eq!(raw(tags::PIXEL_SPACING), Some(&*spacing));
        assert_eq!(find(&read, tags::PATIENT_NAME), Some(&b""[..]), "type 2: there, and empty");
        assert_eq!(find(&read, tags::STUDY_DATE), Some(&b""[..]));
        assert_eq!(find(&read, tags::PATIENT_IDENTITY_REMOVED), Some(&b"YES "[..]));
        assert_eq!(find(&read, tags::DEIDENTIFICATION_METHOD).and_then(text), Some(METHOD));
        assert_eq!(cleaned.sop_class.as_deref(), Some("1.2.840.10008.5.1.4.1.1.2"));
        assert_eq!(cleaned.sop_instance, Some(UidKey::new([7; 32]).replace("1.77.1")));
        assert_eq!(cleaned.attributes.rows, Some(512));
        assert_eq!(cleaned.attributes.modality.as_deref(), Some("CT"));
    }
}

#[test]
fn what_an_earlier_tool_said_of_its_deidentification_is_replaced() {
    let encoding = Encoding::ExplicitLittle;
    let original = [
        element(encoding, tags::PATIENT_IDENTITY_REMOVED, VR::CS, b"NO"),
        element(encoding, tags::DEIDENTIFICATION_METHOD, VR::LO, b"PLANT "),
        element(encoding, tags::ROWS, VR::US, &[0, 2]),
    ]
    .concat();
    let bytes = cleaned(&original, encoding);
    let read = dataset::parse(&bytes, encoding).expect("parses");
    let ours = read.iter().filter(|element| element.tag == tags::PATIENT_IDENTITY_REMOVED).count();
    assert_eq!((ours, find(&read, tags::PATIENT_IDENTITY_REMOVED)), (1, Some(&b"YES "[..])));
    assert_eq!(left(&bytes), BTreeSet::new());
}

#[test]
fn codes_are_kept_when_their_scheme_is_published() {
    let encoding = Encoding::ExplicitLittle;
    let code = |scheme: &[u8]| {
        [
            element(encoding, tags::CODE_VALUE, VR::SH, b"T-D1100 "),
            element(encoding, tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme),
            element(encoding, tags::CODE_MEANING, VR::LO, b"PLANT "),
        ]
        .concat()
    };
    let region = |scheme| sequence(encoding, tags::ANATOMIC_REGION_SEQUENCE, &[&code(scheme)]);
    assert_eq!(left(&cleaned(&region(b"SRT "), encoding)).len(), 1);
    assert_eq!(left(&cleaned(&region(b"99HOSPITAL"), encoding)), BTreeSet::new());
    let bare = element(encoding, tags::CODE_MEANING, VR::LO, b"PLANT ");
    assert_eq!(left(&cleaned(&bare, encoding)), BTreeSet::new(), "no code at all");
}

#[test]
fn uids_of_the_standard_stay_and_all_others_go() {
    let encoding = Encoding::ExplicitLittle;
    let replaced = |tag, value: &str| {
        let bytes = cleaned(&element(encoding, tag, VR::UI, value.as_bytes()), encoding);
        let read = dataset::parse(&bytes, encoding).expect("parses");
        find(&read, tag).and_then(text).map(String::from)
    };
    let key = UidKey::new([7; 32]);
    assert_eq!(replaced(tags::CONTEXT_UID, "1.2.840.10008.6.1.1"), Some("1.2.840.10008.6.1.1".into()));
    assert_eq!(replaced(tags::STUDY_INSTANCE_UID, "1.77.2"), Some(key.replace("1.77.2")));
    let two = format!("{}\\{}", key.replace("1.77.2"), key.replace("1.77.3"));
    assert_eq!(replaced(tags::STUDY_INSTANCE_UID, "1.77.2\\1.77.3"), Some(two));
    let hidden = replaced(tags::STUDY_INSTANCE_UID, "1.2.840.10008.PLANT^A").expect("is there");
    assert!(hidden.starts_with("2.25."), "{hidden}");
    assert_eq!(replaced(tags::SOP_CLASS_UID, "1.3.12.2.1107.5.9.1"), Some("1.3.12.2.1107.5.9.1".into()));
    assert_eq!(replaced(tags::SOP_CLASS_UID, "PLANT^A "), None);
}

#[test]
fn elements_written_as_unknown_follow_the_same_rules() {
    let encoding = Encoding::ExplicitLittle;
    let implicit = Encoding::ImplicitLittle;
    let mut item = Vec::new();
    let inside = [
        element(implicit, tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, b"1.77.4"),
        element(implicit, tags::PATIENT_NAME, VR::PN, b"PLANT^A "),
    ]
    .concat();
    dataset::write_item(&mut item, implicit, &inside);
    let original = [
        element(encoding, tags::MODALITY, VR::UN, b"CT"),
        element(encoding, KEPT_SEQUENCE, VR::UN, &item),
        element(encoding, tags::PATIENT_ID, VR::UN, b"PLANT "),
        element(encoding, Tag(0x0028, 0x7777), VR::UN, b"PLANT "),
    ]
    .concat();
    let bytes = cleaned(&original, encoding);
    assert_eq!(left(&bytes), BTreeSet::new());
    let read = dataset::parse(&bytes, encoding).expect("parses");
    assert_eq!(find(&read, tags::MODALITY), Some(&b"CT"[..]));
    let Some(Value::Items(items, _)) = read.iter().find(|e| e.tag == KEPT_SEQUENCE).map(|e| &e.value) else {
        panic!("the sequence is gone")
    };
    let reference = find(&items[0], tags::REFERENCED_SOP_INSTANCE_UID).and_then(text);
    assert_eq!(reference, Some(&*UidKey::new([7; 32]).replace("1.77.4")));
}
