//! What every metadata database does. Run over all of them.

use std::sync::{Arc, Barrier};

use dicom_core::VR;
use dicom_dictionary_std::tags;
use eds_core::ids::{FileId, KeyId};

use super::{
    Error, GroupKeys, Inserted, KeyScope, Known, Location, Metadata, ProjectKey, Record, Role, SealedPrivatePart,
    attributes::{Node, Place, Plain},
    policy::Level,
    query::{Condition, Matching, Query},
};
use crate::catalog::Content;

/// Runs everything; `fresh` tells where a new database is.
pub(super) fn run(mut fresh: impl FnMut() -> Location) {
    records_survive_reopening(&fresh());
    an_image_is_stored_once(&fresh());
    a_batch_is_stored_whole_or_not_at_all(&fresh());
    what_is_searched_for_is_found(&fresh());
    the_last_image_takes_its_series_along(&fresh());
    there_is_one_project_key_for_each_role(&fresh());
    the_first_group_key_stays(&fresh());
    two_processes_store_an_image_once(&fresh());
}

fn open(location: &Location) -> Metadata {
    Metadata::open(location).expect("opens")
}

fn node(name: &str, plain: &[(dicom_core::Tag, VR, &str)]) -> Node {
    let plain = plain.iter().map(|(tag, vr, value)| (*tag, Plain { vr: *vr, values: vec![String::from(*value)] }));
    Node { name: name.into(), plain: plain.collect(), blind: Vec::new() }
}

/// Image `number` of a series; ten images are a series, two series a study, two studies a patient.
fn record(number: u8) -> Record {
    let (series, study, patient) = (number / 10, number / 20, number / 40);
    let modality = if series % 2 == 0 { "CT" } else { "MR" };
    let mut place = Place {
        patient: node(&format!("p{patient}"), &[]),
        study: node(&format!("t{study}"), &[(tags::STUDY_DATE, VR::DA, &format!("2025010{}", study + 1))]),
        series: node(
            &format!("s{series}"),
            &[(tags::MODALITY, VR::CS, modality), (tags::BODY_PART_EXAMINED, VR::CS, "A_B%")],
        ),
        image: node(&format!("i{number}"), &[(tags::INSTANCE_NUMBER, VR::IS, &number.to_string())]),
    };
    place.patient.blind.push((tags::PATIENT_ID, [patient; 16]));
    Record {
        image: FileId::from_bytes([number; 16]),
        content: Content::Image,
        identity: [number; 32],
        digest: [2; 32],
        private: Some(SealedPrivatePart {
            file: FileId::from_bytes([0x80 | number; 16]),
            key: KeyId::from_bytes([0xc0; 16]),
            salt: [1; 24],
            commitment: [2; 32],
            manifest: vec![3; 4],
            container: vec![5; 100],
        }),
        place: Some(place),
        frames: Some(vec![7; 3]),
    }
}

fn opaque(number: u8) -> Record {
    Record { content: Content::Opaque, private: None, place: None, frames: None, ..record(number) }
}

fn project(number: u8) -> ProjectKey {
    ProjectKey { key: KeyId::from_bytes([number; 16]), manifest: vec![number; 9] }
}

fn records_survive_reopening(location: &Location) {
    let metadata = open(location);
    assert_eq!(metadata.insert(&[record(1), opaque(2)], &[]).expect("inserts"), [Inserted::Done, Inserted::Done]);
    drop(metadata);
    let again = open(location);
    assert_eq!(Some(again.private_part(record(1).image).expect("is there")), record(1).private);
    assert_eq!(again.frames(record(1).image).expect("is there"), Some(vec![7; 3]));
    assert_eq!(again.frames(opaque(2).image).expect("is there"), None);
    assert!(matches!(again.private_part(opaque(2).image), Err(Error::NotFound { .. })));
    assert!(matches!(again.private_part(record(3).image), Err(Error::NotFound { .. })));
    assert!(again.contains(record(1).image).expect("reads") && !again.contains(record(3).image).expect("reads"));
    let known = Known { image: record(1).image, content: Content::Image, digest: [2; 32] };
    assert_eq!(again.known(&[1; 32]).expect("reads"), Some(known));
    assert_eq!(again.known(&[3; 32]).expect("reads"), None);
}

fn an_image_is_stored_once(location: &Location) {
    let metadata = open(location);
    metadata.insert(&[record(1)], &[]).expect("inserts");
    let again = Record { image: FileId::from_bytes([9; 16]), ..record(1) };
    let done = metadata.insert(&[again, record(2)], &[]).expect("inserts");
    let known = Known { image: record(1).image, content: Content::Image, digest: [2; 32] };
    assert_eq!(done, [Inserted::Known(known), Inserted::Done]);
    assert!(!metadata.contains(FileId::from_bytes([9; 16])).expect("reads"));
    let same_id = Record { identity: [0x55; 32], ..record(1) };
    assert!(matches!(metadata.insert(&[same_id], &[]), Err(Error::Duplicate { .. })));
}

fn a_batch_is_stored_whole_or_not_at_all(location: &Location) {
    let metadata = open(location);
    metadata.insert(&[record(1)], &[]).expect("inserts");
    let same_id = Record { identity: [0x55; 32], ..record(1) };
    let groups = [group(1, 1)];
    assert!(metadata.insert(&[record(2), same_id], &groups).is_err());
    assert!(!metadata.contains(record(2).image).expect("reads"));
    assert_eq!(metadata.group_keys(KeyScope::Study, "t1").expect("reads"), None);
}

fn ids(metadata: &Metadata, conditions: Vec<Condition>) -> Vec<u8> {
    let found = metadata.search(&Query { conditions, limit: None }).expect("searches");
    found.iter().map(|found| found.image.as_bytes()[0]).collect()
}

fn what_is_searched_for_is_found(location: &Location) {
    let metadata = open(location);
    // Stored backwards: the order of answers is that of the images.
    let records: Vec<Record> = (0..45).rev().map(record).chain([opaque(50)]).collect();
    metadata.insert(&records, &[]).expect("inserts");
    let texts = |texts: &[&str]| texts.iter().map(|text| String::from(*text)).collect::<Vec<_>>();
    let series = |matching| vec![Condition { level: Level::Series, tag: tags::MODALITY, matching }];
    let date = |matching| vec![Condition { level: Level::Study, tag: tags::STUDY_DATE, matching }];
    let part = |text| {
        let matching = Matching::Patterns(texts(&[text]));
        vec![Condition { level: Level::Series, tag: tags::BODY_PART_EXAMINED, matching }]
    };
    let patient = |token: u8| {
        vec![Condition { level: Level::Patient, tag: tags::PATIENT_ID, matching: Matching::Tokens(vec![[token; 16]]) }]
    };
    let to = |to: &str| Some(String::from(to));
    let all: Vec<u8> = (0..45).collect();
    let cases: [(Vec<Condition>, Vec<u8>); 14] = [
        (vec![], all.clone()),
        (series(Matching::OneOf(texts(&["MR"]))), [10..20, 30..40].into_iter().flatten().collect()),
        (series(Matching::OneOf(texts(&["MR", "CT"]))), all.clone()),
        (series(Matching::OneOf(texts(&["mr"]))), vec![]),
        (series(Matching::OneOf(vec![])), vec![]),
        (series(Matching::Patterns(texts(&["?R"]))), [10..20, 30..40].into_iter().flatten().collect()),
        (series(Matching::Patterns(texts(&["m*"]))), vec![]),
        (part("A_B%"), all.clone()),
        (part("A%B*"), vec![]),
        (date(Matching::Between(to("20250102"), to("20250102"))), (20..40).collect()),
        (date(Matching::Between(to("20250102"), None)), (20..45).collect()),
        (patient(1), (40..45).collect()),
        (
            [patient(0), series(Matching::OneOf(texts(&["CT"])))].concat(),
            [0..10, 20..30].into_iter().flatten().collect(),
        ),
        (
            vec![Condition {
                level: Level::Study,
                tag: tags::STUDY_INSTANCE_UID,
                matching: Matching::Names(texts(&["t2"])),
            }],
            (40..45).collect(),
        ),
    ];
    for (conditions, expected) in cases {
        assert_eq!(ids(&metadata, conditions.clone()), expected, "{conditions:?}");
    }
    let found = metadata.search(&Query { conditions: patient(1), limit: Some(2) }).expect("searches");
    assert_eq!(found.len(), 2);
    let first = found.first().expect("is there");
    assert_eq!(first.names, ["p1", "t2", "s4", "i40"].map(String::from));
    let [_, _, series, image] = &first.attributes;
    assert_eq!(series, r#"{"00080060":{"Value":["CT"],"vr":"CS"},"00180015":{"Value":["A_B%"],"vr":"CS"}}"#);
    assert_eq!(image, r#"{"00200013":{"Value":[40],"vr":"IS"}}"#);
}

fn the_last_image_takes_its_series_along(location: &Location) {
    let metadata = open(location);
    metadata.insert(&[record(0), record(1), record(10), opaque(50)], &[]).expect("inserts");
    let patient =
        || vec![Condition { level: Level::Patient, tag: tags::PATIENT_ID, matching: Matching::Tokens(vec![[0; 16]]) }];
    for (removed, left) in [(record(0), vec![1, 10]), (record(10), vec![1]), (record(1), vec![]), (opaque(50), vec![])]
    {
        metadata.remove(removed.image).expect("removes");
        assert_eq!(ids(&metadata, patient()), left);
        assert!(matches!(metadata.remove(removed.image), Err(Error::NotFound { .. })));
    }
    // Nothing of the removed patient is left to be found by.
    let other = Record { place: record(50).place, ..record(1) };
    metadata.insert(&[other], &[]).expect("inserts");
    assert_eq!(ids(&metadata, patient()), Vec::<u8>::new());
}

fn there_is_one_project_key_for_each_role(location: &Location) {
    let metadata = open(location);
    assert_eq!(metadata.project_key(Role::Uid).expect("reads"), None);
    metadata.set_project_key(Role::Uid, &project(1)).expect("sets");
    metadata.set_project_key(Role::Uid, &project(1)).expect("the same again is fine");
    assert!(matches!(metadata.set_project_key(Role::Uid, &project(2)), Err(Error::OtherProjectKey)));
    assert_eq!(metadata.project_key(Role::Search).expect("reads"), None);
    metadata.set_project_key(Role::Search, &project(2)).expect("sets");
    assert_eq!(metadata.project_key(Role::Uid).expect("reads"), Some(project(1)));
}

fn group(number: u8, study: u8) -> GroupKeys {
    let (image, private) = (project(number), project(number | 0x80));
    GroupKeys { scope: KeyScope::Study, name: format!("t{study}"), image, private }
}

fn the_first_group_key_stays(location: &Location) {
    let metadata = open(location);
    metadata.insert(&[record(1)], &[group(1, 1), group(2, 2)]).expect("inserts");
    metadata.insert(&[record(2)], &[group(3, 1)]).expect("inserts");
    assert_eq!(metadata.group_keys(KeyScope::Study, "t1").expect("reads"), Some(group(1, 1)));
    assert_eq!(metadata.group_keys(KeyScope::Series, "t1").expect("reads"), None);
    for (key, expected) in [(project(1).key, true), (project(0x81).key, true), (project(3).key, false)] {
        assert_eq!(metadata.is_group_key(key).expect("reads"), expected);
    }
}

fn two_processes_store_an_image_once(location: &Location) {
    drop(open(location));
    let barrier = Arc::new(Barrier::new(2));
    let store = |file: u8| {
        let (location, barrier) = (location.clone(), Arc::clone(&barrier));
        std::thread::spawn(move || {
            let metadata = open(&location);
            barrier.wait();
            let records: Vec<Record> = (0..20u8)
                .map(|number| {
                    let image = FileId::from_bytes([file | number; 16]);
                    let private = record(number).private.map(|part| SealedPrivatePart { file: image, ..part });
                    Record { image, private, ..record(number) }
                })
                .collect();
            metadata.insert(&records, &[]).expect("inserts")
        })
    };
    let threads = [store(0x20), store(0x40)];
    let done: Vec<Inserted> = threads.into_iter().flat_map(|thread| thread.join().expect("ends well")).collect();
    assert_eq!(done.iter().filter(|inserted| **inserted == Inserted::Done).count(), 20);
    assert_eq!(ids(&open(location), vec![]).len(), 20);
}
