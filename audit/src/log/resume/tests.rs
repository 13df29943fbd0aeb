//! What a start reads of a long log, and that nothing is lost by what it does not read.

use std::path::PathBuf;

use crate::{
    entry::Operation,
    log::{FaultKind, Log, OpenError, Opened, hashes, notes},
    testing::{MemorySigner, ORIGIN, Place, fill},
    verify::{Report, Source, verify},
};

/// Segments of some entries each; a checkpoint of forty entries, and five more.
fn place() -> Place {
    let mut place = Place::new();
    place.options.segment_bytes = 1_000;
    for size in [10, 20, 30, 40] {
        place.fill(size);
        sign(&place, size);
    }
    let (log, _) = place.open().expect("opens");
    fill(&log, 40, 45);
    assert!(place.segments().len() > 6);
    place
}

fn sign(place: &Place, time: u64) {
    let (log, _) = place.open().expect("opens");
    log.checkpoint(&MemorySigner::new(1), time).expect("signed");
}

/// The sequence number that each segment starts at.
fn firsts(place: &Place) -> Vec<u64> {
    crate::log::segment::list(place.path()).expect("listed").into_iter().map(|(first, _)| first).collect()
}

fn opened(place: &Place) -> Opened {
    place.open().expect("opens").1
}

fn verified(place: &Place) -> Report {
    let own = Source::own(place.path()).expect("read");
    let verifier = MemorySigner::new(1).verifier(ORIGIN);
    verify(place.path(), &verifier, &[own], &[]).expect("read")
}

/// The first bad entry, as `audit verify` finds it.
fn first_bad(place: &Place) -> Option<u64> {
    verified(place).first_bad()
}

fn alter(path: &PathBuf, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let whole = std::fs::read(path).expect("read");
    let mut altered = whole.clone();
    change(&mut altered);
    std::fs::write(path, altered).expect("written");
    whole
}

#[test]
fn a_start_reads_the_segment_of_the_last_checkpoint_and_what_follows() {
    let place = place();
    let found = opened(&place);
    let holding = firsts(&place).into_iter().rfind(|first| *first <= 40).expect("one");
    assert_eq!((found.read_from, found.entries), (holding, 45));
    assert!(holding > 30, "much is not read");
    // What is appended then continues the tree of all.
    let (log, _) = place.open().expect("opens");
    fill(&log, 45, 60);
    log.checkpoint(&MemorySigner::new(1), 60).expect("signed");
    let proof = log.consistency_proof(40, 60).expect("read").expect("possible");
    assert!(!proof.is_empty());
    drop(log);
    assert_eq!(first_bad(&place), None);
    // Without the key of the log, a checkpoint holds nothing, and all is read.
    let blind = crate::log::Options { verifier: None, ..place.options.clone() };
    assert_eq!(Log::open(&blind, 1).expect("opens").1.read_from, 0);
}

#[test]
fn an_altered_byte_is_found_at_the_start_or_by_verification_wherever_it_is() {
    let place = place();
    let read_from = opened(&place).read_from;
    let mut left_to_verification = 0;
    for (path, first) in place.segments().iter().zip(firsts(&place)) {
        let length = usize::try_from(std::fs::metadata(path).expect("there").len()).expect("small");
        // Some of all places, as chosen by no length of anything.
        for at in (0..length).step_by(19) {
            let whole = alter(path, |bytes| bytes[at] ^= 0x20);
            let started = place.open().is_ok();
            let bad = first_bad(&place);
            assert!(bad.is_some_and(|bad| bad <= 45), "{} byte {at}", path.display());
            if started {
                assert!(first < read_from && bad.is_some_and(|bad| bad >= first), "{} byte {at}", path.display());
                left_to_verification += 1;
            }
            std::fs::write(path, whole).expect("written");
        }
    }
    assert!(left_to_verification > 50, "{left_to_verification}");
    opened(&place);
}

#[test]
fn missing_cut_foreign_and_exchanged_segments_are_found_at_the_start() {
    let place = place();
    let segments = place.segments();
    let sealed = segments.len() - 3;
    for (number, path) in segments.iter().enumerate().take(sealed) {
        let whole = std::fs::read(path).expect("read");
        std::fs::remove_file(path).expect("removed");
        let error = place.open().expect_err("missing");
        let expected = |error: &OpenError| match error {
            OpenError::Altered(fault) => matches!(fault.kind, FaultKind::Missing),
            OpenError::Missing(_) => true,
            _ => false,
        };
        assert!(expected(&error), "{number}: {error}");
        for end in [0, 20, whole.len() / 2, whole.len() - 1] {
            std::fs::write(path, &whole[..end]).expect("written");
            place.open().expect_err("cut");
        }
        let another = std::fs::read(&segments[(number + 1) % sealed]).expect("read");
        std::fs::write(path, another).expect("written");
        place.open().expect_err("exchanged");
        std::fs::write(path, whole).expect("written");
    }
    let mut foreign = place.options.clone();
    foreign.origin = "eds/c/m".to_owned();
    assert!(matches!(Log::open(&foreign, 0), Err(OpenError::Note { .. } | OpenError::Altered(_))));
    assert_eq!(opened(&place).entries, 45);
}

#[test]
fn all_is_read_when_the_stored_hashes_do_not_lead_to_the_signed_head() {
    let place = place();
    let path = place.path().join(hashes::NAME);
    let whole = std::fs::read(&path).expect("read");
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(opened(&place).read_from, 0);
    assert_eq!(std::fs::read(&path).expect("read"), whole, "made again");
    // The peak of the first 32 entries: hash 62.
    alter(&path, |bytes| bytes[63 * 32] ^= 1);
    assert!(matches!(place.open(), Err(OpenError::Hashes { position: 62 })));
    // With them gone, an altered entry is found at the start as before.
    std::fs::remove_file(&path).expect("removed");
    let segment = &place.segments()[1];
    let kept = alter(segment, |bytes| {
        let last = bytes.len() - 30;
        bytes[last] ^= 1;
    });
    assert!(matches!(place.open(), Err(OpenError::Altered(_))));
    std::fs::write(segment, kept).expect("written");
    assert_eq!(opened(&place).read_from, 0);
    assert!(opened(&place).read_from > 30, "and from then on it is short again");
}

#[test]
fn an_older_checkpoint_in_the_place_of_the_last_costs_reading_and_hides_nothing() {
    let place = place();
    let path = place.path().join(notes::NAME);
    let all = std::fs::read_to_string(&path).expect("read");
    let first = all.split_inclusive("\n\n").take(2).collect::<String>();
    std::fs::write(&path, first).expect("written");
    let found = opened(&place);
    assert_eq!(found.checkpoint.map(|checkpoint| checkpoint.size), Some(10));
    assert!(found.read_from <= 10 && found.entries == 45);
}

#[test]
fn many_checkpoints_are_not_read_at_a_start() {
    let place = place();
    let path = place.path().join(notes::NAME);
    let all = std::fs::read_to_string(&path).expect("read");
    let last = all.split_inclusive("\n\n").skip(6).collect::<String>();
    // More than is read from the end; somebody damaged an old one.
    let many = format!("damaged{}", all.repeat(400)) + &last;
    std::fs::write(&path, &many).expect("written");
    let (log, found) = place.open().expect("opens");
    assert_eq!(found.checkpoint.map(|checkpoint| checkpoint.size), Some(40));
    log.append_blocking(vec![crate::testing::sample(45)]).expect("appended");
    log.checkpoint(&MemorySigner::new(1), 99).expect("signed");
    drop(log);
    assert!(std::fs::read_to_string(&path).expect("read").starts_with(&many));
    // One that a crash cut off is dropped as ever.
    let whole = std::fs::read(&path).expect("read");
    std::fs::write(&path, &whole[..whole.len() - 9]).expect("written");
    assert_eq!(opened(&place).checkpoint.map(|checkpoint| checkpoint.size), Some(40));
    assert_eq!(std::fs::read_to_string(&path).expect("read"), many);
    assert!(!verified(&place).findings.is_empty(), "verification reads all of them");
    assert_eq!(place.records()[45].entry.decision.operation, Operation::FETCH);
}
