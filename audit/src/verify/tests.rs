//! Every kind of tampering is found, by somebody with the means to find it, and its first entry is named.

use super::*;
use crate::{
    Decision, Log,
    log::{
        Record,
        segment::{self, Header, OVERHEAD, put_record},
        tests::rewrite,
    },
    testing::{MemorySigner, ORIGIN, Place, fill, sample},
    tree::{self, Frontier},
};

const ENTRIES: u64 = 50;

/// A log of 50 entries, with checkpoints after 10, 20, … entries.
fn place() -> Place {
    let place = Place::new();
    let (log, _) = place.open().expect("opens");
    grow(&log, 0, ENTRIES);
    place
}

fn grow(log: &Log, from: u64, to: u64) {
    for size in (from..to).step_by(10) {
        fill(log, size, size + 10);
        log.checkpoint(&MemorySigner::new(1), size).expect("signed");
    }
}

fn verifier() -> Verifier {
    MemorySigner::new(1).verifier(ORIGIN)
}

fn checked(place: &Place, sources: &[Source], copies: &[PathBuf]) -> Report {
    verify(place.path(), &verifier(), sources, copies).expect("a log")
}

fn own(place: &Place) -> Vec<Source> {
    vec![Source::own(place.path()).expect("notes")]
}

fn copy(place: &Place) -> (tempfile::TempDir, Vec<PathBuf>) {
    let copy = tempfile::tempdir().expect("a directory");
    for file in fs::read_dir(place.path()).expect("listed").map(|file| file.expect("listed")) {
        fs::copy(file.path(), copy.path().join(file.file_name())).expect("copied");
    }
    let paths = vec![copy.path().to_owned()];
    (copy, paths)
}

fn forget_hashes(place: &Place) {
    fs::remove_file(place.path().join("hashes")).expect("removed");
}

fn forget_acknowledged(place: &Place, size: u64) {
    fs::write(place.path().join(reader::ACKNOWLEDGED), reader::acknowledged_bytes(size)).expect("written");
}

#[test]
fn an_untouched_log_has_nothing_to_find() {
    let place = place();
    let (_kept, copies) = copy(&place);
    place.fill(57);
    let report = checked(&place, &own(&place), &copies);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!((report.entries, report.checkpoints, report.covered), (57, 5, 50));
    assert_eq!((report.first_bad(), report.unfinished), (None, false));
}

/// What is done to the entries.
type Tampering = fn(&mut Vec<Decision>);

/// The ways to tamper that keep every check of the files right; with the first entry that is no longer what it was.
fn tamperings() -> Vec<(&'static str, u64, Tampering)> {
    vec![
        ("changed", 23, |entries| entries[23].rule = "administrator".to_owned()),
        ("changed first", 0, |entries| entries[0].time = 1),
        ("changed last", 49, |entries| entries[49].time = 1),
        ("dropped", 23, |entries| drop(entries.remove(23))),
        ("dropped last", 49, |entries| drop(entries.pop())),
        ("cut off", 31, |entries| entries.truncate(31)),
        ("reordered", 23, |entries| entries.swap(23, 24)),
        ("inserted", 23, |entries| entries.insert(23, sample(7))),
        ("repeated", 24, |entries| entries.insert(23, entries[23].clone())),
        ("emptied", 0, Vec::clear),
    ]
}

/// The stored hashes that lead to the signed heads name the entry exactly.
#[test]
fn rewritten_entries_are_named_by_the_signed_heads() {
    for (how, first, change) in tamperings() {
        let place = place();
        rewrite(&place, change);
        let report = checked(&place, &own(&place), &[]);
        assert_eq!(report.first_bad(), Some(first), "{how}: {:?}", report.findings);
        let exact = report.findings.iter().find(|finding| finding.entries == Some(first..first + 1));
        assert!(exact.is_some(), "{how}: {:?}", report.findings);
    }
}

/// Somebody who rewrites the stored hashes too cannot rewrite the signed heads: the entry is between two of them.
#[test]
fn rewritten_entries_and_hashes_are_between_two_signed_heads() {
    for (how, first, change) in tamperings() {
        let place = place();
        rewrite(&place, change);
        forget_hashes(&place);
        let report = checked(&place, &own(&place), &[]);
        let range = report.findings.iter().find_map(|finding| finding.entries.clone()).expect(how);
        assert!(range.contains(&first) && range.end - range.start <= 10, "{how}: {range:?}");
    }
}

/// Somebody who takes away the node's own checkpoints as well is found by those that a witness kept, and by copies.
#[test]
fn what_a_node_rewrites_altogether_a_witness_or_a_copy_finds() {
    for (how, first, change) in tamperings() {
        let place = place();
        let witness = own(&place);
        let (_kept, copies) = copy(&place);
        rewrite(&place, change);
        forget_hashes(&place);
        fs::remove_file(place.path().join("checkpoints")).expect("removed");
        forget_acknowledged(&place, 0);
        let (log, _) = place.open().expect("the node itself cannot tell");
        drop(log);
        assert!(checked(&place, &own(&place), &[]).findings.is_empty(), "{how}: nothing left to tell");
        let range = checked(&place, &witness, &[]).findings[0].entries.clone().expect(how);
        assert!(range.contains(&first) && range.end - range.start <= 10, "{how}: {range:?}");
        let report = checked(&place, &[], &copies);
        assert_eq!(report.findings[0].entries, Some(first..first + 1), "{how}");
    }
}

/// A node that shows one log to a witness and another to everybody else.
#[test]
fn a_forked_log_is_found() {
    let place = place();
    let (kept, _) = copy(&place);
    let (log, _) = place.open().expect("opens");
    grow(&log, ENTRIES, 70);
    drop(log);
    let mut options = place.options.clone();
    options.directory = kept.path().to_owned();
    let (fork, _) = Log::open(&options, 0).expect("opens");
    for number in ENTRIES..70 {
        fork.append_blocking(vec![sample(number + 1)]).expect("appended");
    }
    fork.checkpoint(&MemorySigner::new(1), 0).expect("signed");
    drop(fork);
    let witness = Source::read(&kept.path().join("checkpoints")).expect("notes");
    let mut sources = own(&place);
    sources.push(witness);
    let report = checked(&place, &sources, &[]);
    assert!(report.findings.iter().any(|finding| matches!(finding.what, What::Forked { size: 70, .. })));
    assert_eq!(report.first_bad(), Some(50), "the last size that both have: {:?}", report.findings);
    let report = checked(&place, &own(&place), &[kept.path().to_owned()]);
    assert_eq!(report.findings[0].entries, Some(50..51));
}

#[test]
fn careless_alterations_are_named_by_the_files_themselves() {
    let mut place = Place::new();
    place.options.segment_bytes = 1_000;
    place.fill(20);
    let records = place.records();
    for (number, path) in place.segments().into_iter().enumerate() {
        let whole = fs::read(&path).expect("read");
        for position in 0..whole.len() {
            let mut altered = whole.clone();
            altered[position] ^= 1;
            fs::write(&path, &altered).expect("written");
            let report = checked(&place, &[], &[]);
            let bad = report.first_bad().unwrap_or_else(|| panic!("segment {number} byte {position}"));
            assert_eq!(bad, owner(&records, &whole, position), "segment {number} byte {position}");
        }
        fs::write(&path, &whole).expect("written");
    }
    let removed = place.segments().remove(2);
    let whole = fs::read(&removed).expect("read");
    fs::remove_file(&removed).expect("removed");
    let report = checked(&place, &[], &[]);
    assert_eq!(report.first_bad(), removed.file_stem().and_then(|name| name.to_str()?.parse().ok()));
    fs::write(&removed, whole).expect("written");
    assert!(checked(&place, &[], &[]).findings.is_empty());
}

/// Writes a segment of these records with their checks, as they are.
fn write_segment(path: &Path, before: Frontier, records: &[Record]) {
    let mut bytes = Header { origin: ORIGIN.to_owned(), before }.encode();
    records.iter().for_each(|record| put_record(&mut bytes, &record.bytes, &record.leaf));
    fs::write(path, bytes).expect("written");
}

#[test]
fn records_that_were_moved_with_their_numbers_are_named() {
    type Move = fn(&mut Vec<Record>);
    let place = place();
    let (path, records) = (place.segments().remove(0), place.records());
    let moves: [(&str, u64, Move); 4] = [
        ("swapped", 23, |records| records.swap(23, 24)),
        ("dropped", 23, |records| drop(records.remove(23))),
        ("repeated", 24, |records| records.insert(24, records[23].clone())),
        ("first dropped", 0, |records| drop(records.remove(0))),
    ];
    for (how, first, change) in moves {
        let mut moved = records.clone();
        change(&mut moved);
        write_segment(&path, Frontier::default(), &moved);
        let report = checked(&place, &[], &[]);
        assert_eq!(report.first_bad(), Some(first), "{how}: {:?}", report.findings);
        assert!(place.open().is_err(), "{how}: opened");
    }
}

/// The next segment's header holds the tree of the entries before it; the stored hashes tell which of them it is.
#[test]
fn an_entry_rewritten_in_an_earlier_segment_is_named() {
    let mut place = Place::new();
    place.options.segment_bytes = 1_000;
    place.fill(ENTRIES);
    let (path, records) = (place.segments().remove(0), place.records());
    let held = segment::list(place.path()).expect("listed")[1].0;
    let mut rewritten = records[..usize::try_from(held).expect("small")].to_vec();
    let decision = Decision { rule: "administrator".to_owned(), ..sample(2) };
    rewritten[2].bytes.clear();
    decision.encode(2, &mut rewritten[2].bytes).expect("encoded");
    rewritten[2].leaf = tree::leaf_hash(&rewritten[2].bytes);
    write_segment(&path, Frontier::default(), &rewritten);
    let report = checked(&place, &[], &[]);
    assert_eq!(report.findings[0].entries, Some(2..3), "{:?}", report.findings);
    forget_hashes(&place);
    let report = checked(&place, &[], &[]);
    assert_eq!(report.findings[0].entries, Some(0..held), "{:?}", report.findings);
    assert!(place.open().is_err());
}

/// The entry that a byte of a segment belongs to: the first one for a byte of the header.
fn owner(records: &[Record], segment: &[u8], position: usize) -> u64 {
    let (header, length) = Header::read(&mut &segment[..]).expect("a header");
    let (first, mut end) = (header.before.size(), usize::try_from(length).expect("small"));
    let held = records.iter().filter(|record| record.entry.sequence >= first);
    for record in held {
        end += record.bytes.len() + OVERHEAD;
        if position < end {
            return record.entry.sequence;
        }
    }
    panic!("byte {position} is in no entry");
}

#[test]
fn a_write_under_way_is_no_finding_and_a_cut_one_is() {
    let place = Place::new();
    place.fill(5);
    let path = place.segments().remove(0);
    let whole = fs::read(&path).expect("read");
    fs::write(&path, [&whole[..], &[200, 0, 0, 0, 1]].concat()).expect("written");
    let report = checked(&place, &[], &[]);
    assert!(report.unfinished && report.findings.is_empty());
    fs::write(&path, &whole[..whole.len() - 1]).expect("written");
    let report = checked(&place, &[], &[]);
    assert_eq!(report.first_bad(), Some(4), "an acknowledged entry was cut");
    let (log, _) = {
        fs::write(&path, &whole).expect("written");
        place.open().expect("opens")
    };
    assert!(checked(&place, &[], &[]).findings.is_empty(), "also while a server has it open");
    drop(log);
}

#[test]
fn notes_that_prove_nothing_are_told() {
    let place = place();
    let mut sources = own(&place);
    sources[0].notes[1] = sources[0].notes[1].replacen("\n20\n", "\n21\n", 1);
    let report = checked(&place, &sources, &[]);
    assert!(matches!(report.findings[..], [Finding { entries: None, what: What::Note { number: 2, .. } }]));
    let other = MemorySigner::new(2).verifier(ORIGIN);
    let report = verify(place.path(), &other, &own(&place), &[]).expect("a log");
    assert_eq!((report.findings.len(), report.checkpoints), (5, 0));
}

#[test]
fn altered_stored_hashes_are_told() {
    let place = place();
    let path = place.path().join("hashes");
    let mut hashes = fs::read(&path).expect("read");
    let position = usize::try_from((tree::position(0, 12) + 1) * 32).expect("small");
    hashes[position] ^= 1;
    fs::write(&path, hashes).expect("written");
    let report = checked(&place, &own(&place), &[]);
    assert!(matches!(
        report.findings[..],
        [Finding { entries: Some(Range { start: 12, end: 13 }), what: What::Hashes }]
    ));
}

#[test]
fn a_log_that_is_being_written_verifies_at_any_moment() {
    let mut place = Place::new();
    place.options.segment_bytes = 2_000;
    let (log, _) = place.open().expect("opens");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            grow(&log, 0, 300);
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            let report = checked(&place, &own(&place), &[]);
            assert!(report.findings.is_empty(), "{:?}", report.findings);
        }
    });
    assert_eq!(checked(&place, &own(&place), &[]).covered, 300);
}
