//! The tables are whole: as many rows and codes as the standard has, counted independently when it was read.

use std::collections::BTreeMap;

use dicom_core::dictionary::DataDictionary as _;
use dicom_dictionary_std::StandardDataDictionary;

use super::*;

fn count<T: Ord>(values: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    values.fold(BTreeMap::new(), |mut counts, value| {
        *counts.entry(value).or_default() += 1;
        counts
    })
}

#[test]
fn every_row_of_the_standard_is_there_with_its_code() {
    let standard: Vec<_> = rows().iter().filter(|row| row.standard).collect();
    assert_eq!(standard.len(), 657);
    let basic = count(standard.iter().map(|row| row.codes.basic.as_str()));
    let expected = [
        ("X", 417),
        ("D", 93),
        ("U", 55),
        ("Z", 42),
        ("X/D", 23),
        ("X/Z", 11),
        ("X/Z/D", 8),
        ("Z/D", 6),
        ("X/Z/U*", 2),
    ];
    assert_eq!(basic, expected.into_iter().collect());
    let option = |column, choice| standard.iter().filter(|row| row.codes.option(column) == Some(choice)).count();
    for (column, kept, cleaned) in [
        (Column::RetainSafePrivate, 0, 1),
        (Column::RetainUids, 60, 0),
        (Column::RetainDeviceIdentity, 48, 11),
        (Column::RetainInstitutionIdentity, 10, 0),
        (Column::RetainPatientCharacteristics, 14, 5),
        (Column::RetainFullDates, 169, 0),
        (Column::RetainModifiedDates, 0, 169),
        (Column::CleanDescriptors, 0, 141),
        (Column::CleanStructuredContent, 0, 4),
        (Column::CleanGraphics, 0, 4),
    ] {
        assert_eq!((option(column, Choice::Keep), option(column, Choice::Clean)), (kept, cleaned), "{column:?}");
    }
}

#[test]
fn every_content_item_of_the_standard_is_there_with_its_code() {
    assert_eq!(content_items().len(), 214);
    let basic = count(content_items().iter().map(|item| item.codes.basic.as_str()));
    assert_eq!(basic, [("X", 135), ("D", 60), ("X/D", 19)].into_iter().collect());
    let patient = content_item("DCM", "121029", "PNAME").expect("the subject's name");
    assert_eq!((patient.meaning, patient.codes.basic), ("Subject Name", Basic::Dummy));
    assert_eq!(content_item("99LOCAL", "121029", "PNAME"), None);
}

#[test]
fn no_line_is_lost_and_no_attribute_is_named_twice() {
    for (text, parsed) in [
        (ATTRIBUTES, rows().iter().filter(|row| row.standard).count()),
        (SUPPLEMENT, rows().iter().filter(|row| !row.standard).count()),
        (CONTENT_ITEMS, content_items().len()),
        (TYPES, TABLE.types.len()),
    ] {
        assert_eq!(lines(text).count(), parsed);
    }
    assert!(count(rows().iter().map(|row| row.tag)).into_values().all(|times| times == 1));
    assert_eq!(TABLE.exact.len() + TABLE.patterns.len() + 1, rows().len(), "all but PRIVATE are found by tag");
}

#[test]
fn the_dictionary_knows_every_row_so_that_implicit_sequences_are_read() {
    for number in TABLE.exact.keys() {
        let tag = Tag(u16::try_from(number >> 16).expect("16 bits"), (number & 0xFFFF) as u16);
        assert!(StandardDataDictionary.by_tag(tag).is_some(), "{tag} is not in the dictionary");
    }
}

#[test]
fn patterns_stand_for_their_tags_alone() {
    assert_eq!(row(Tag(0x6002, 0x3000)).map(|row| row.name), Some("Overlay Data"));
    assert_eq!(row(Tag(0x601E, 0x4000)).map(|row| row.name), Some("Overlay Comments"));
    assert_eq!(row(Tag(0x5004, 0x0010)).map(|row| row.name), Some("Curve Data"));
    assert_eq!(row(Tag(0x6002, 0x0010)), None);
    assert_eq!(row(Tag(0x0010, 0x0010)).map(|row| row.codes.basic), Some(Basic::Empty));
    assert_eq!(mask("0010001"), None);
    assert_eq!(mask("0010001g"), None);
}

#[test]
fn alternatives_follow_the_type_and_suit_any_iod_when_it_is_not_known() {
    let ct = "1.2.840.10008.5.1.4.1.1.2";
    let enhanced_ct = "1.2.840.10008.5.1.4.1.1.2.1";
    let acquisition = Tag(0x0008, 0x002A);
    assert_eq!(need(ct, acquisition), Some(Need::Nothing));
    assert_eq!(need(enhanced_ct, acquisition), Some(Need::Value));
    assert_eq!(need(ct, Tag(0x0010, 0x0020)), Some(Need::Presence));
    assert_eq!(need("1.2.3", acquisition), None);
    let three = Basic::RemoveOrEmptyOrDummy;
    assert_eq!(three.decide(Some(Need::Nothing)), Decided::Remove);
    assert_eq!(three.decide(Some(Need::Presence)), Decided::Empty);
    assert_eq!(three.decide(Some(Need::Value)), Decided::Dummy);
    assert_eq!(three.decide(None), Decided::Dummy);
    assert_eq!(Basic::RemoveOrEmpty.decide(None), Decided::Empty);
    assert_eq!(Basic::RemoveOrDummy.decide(Some(Need::Presence)), Decided::Dummy);
    assert_eq!(Basic::EmptyOrDummy.decide(Some(Need::Presence)), Decided::Empty);
    assert_eq!(Basic::RemoveOrEmptyOrUids.decide(Some(Need::Nothing)), Decided::Uid);
}
