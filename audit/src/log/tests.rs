//! What was acknowledged is there after any end of the process; what cannot be written fails; what was altered is found
//! at opening.

use std::{
    fs, io,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::{
    disk::{FileSystem, Segment},
    *,
};
use crate::{
    entry::{Entry, Operation, Outcome},
    testing::{MemorySigner, ORIGIN, Place, fill, sample},
};

fn append_bytes(path: &Path, bytes: &[u8]) {
    io::Write::write_all(&mut fs::OpenOptions::new().append(true).open(path).expect("opened"), bytes).expect("written");
}

#[test]
fn entries_come_back_in_order_over_many_segments_and_openings() {
    let mut place = Place::new();
    place.options.segment_bytes = 1_000;
    for size in [1, 7, 20, 60] {
        place.fill(size);
    }
    assert!(place.segments().len() > 5);
    let records = place.records();
    assert_eq!(records.len(), 60);
    for (number, record) in (0..).zip(&records) {
        assert_eq!(record.entry, Entry { sequence: number, decision: sample(number) });
    }
    let mut reader = Reader::open(place.path(), None).expect("opens");
    for start in [0, 1, 31, 59] {
        reader.seek(start).expect("found");
        assert_eq!(reader.read(|_| ()).expect("whole").map(|record| record.entry.sequence), Some(start));
    }
    reader.seek(60).expect("the end");
    assert_eq!(reader.read(|_| ()).expect("whole"), None);
}

#[test]
fn a_batch_stands_together_and_proofs_check_against_the_signed_head() {
    let place = Place::new();
    let (log, _) = place.open().expect("opens");
    fill(&log, 0, 5);
    let receipt = log.append_blocking((5..25).map(sample).collect()).expect("appended");
    assert_eq!(receipt, Receipt { first: 5, count: 20 });
    let signer = MemorySigner::new(1);
    let first = log.checkpoint(&signer, 10).expect("signed");
    assert_eq!(log.checkpoint(&signer, 11).expect("signed"), first, "nothing new to sign");
    fill(&log, 25, 40);
    let second = log.checkpoint(&signer, 12).expect("signed");
    let verifier = signer.verifier(ORIGIN);
    let (first, second) = (verifier.open(&first).expect("ours"), verifier.open(&second).expect("ours"));
    assert_eq!((first.size, second.size), (25, 40));
    let proof = log.consistency_proof(25, 40).expect("read").expect("possible");
    assert!(tree::verify_consistency(25, &first.root, 40, &second.root, &proof));
    for record in place.records() {
        let proof = log.inclusion_proof(record.entry.sequence, 40).expect("read").expect("possible");
        assert!(tree::verify_inclusion(&record.leaf, record.entry.sequence, 40, &proof, &second.root));
    }
    assert_eq!(log.inclusion_proof(40, 41).expect("read"), None, "not there yet");
    assert_eq!(log.consistency_proof(25, 41).expect("read"), None, "not there yet");
}

#[test]
fn one_process_writes_a_log() {
    let place = Place::new();
    let (log, _) = place.open().expect("opens");
    assert!(matches!(place.open(), Err(OpenError::InUse(_))));
    drop(log);
    place.open().expect("opens again");
}

#[test]
fn a_log_is_never_made_over_another_nor_out_of_nothing() {
    let place = Place::new();
    assert!(Log::create(&place.options).is_err());
    let missing = Options::new(place.directory.path().join("other"), ORIGIN);
    assert!(matches!(Log::open(&missing, 0), Err(OpenError::Missing(_))));
    let mut foreign = place.options.clone();
    foreign.origin = "eds/c/m".to_owned();
    let error = Log::open(&foreign, 0).expect_err("of another node");
    assert!(matches!(&error, OpenError::Altered(fault) if matches!(fault.kind, FaultKind::Origin(_))), "{error}");
}

/// Where power was lost or the process killed within a write, at every byte of it.
#[test]
fn an_unfinished_write_is_set_aside_and_the_log_tells() {
    let place = Place::new();
    place.fill(3);
    let segment = place.segments().remove(0);
    let mut entry = Vec::new();
    sample(3).encode(3, &mut entry).expect("encoded");
    let mut record = Vec::new();
    segment::put_record(&mut record, &entry, &tree::leaf_hash(&entry));
    let mut size = 3;
    for end in 1..record.len() {
        append_bytes(&segment, &record[..end]);
        if end % 2 == 0 {
            append_bytes(&segment, &vec![0; record.len() - end + 4_096]);
        }
        let (log, opened) = place.open().expect("opens");
        let recovered = opened.recovered.expect("an unfinished write");
        assert_eq!((recovered.after, opened.entries), (size, size), "cut at {end}");
        let kept = fs::read(recovered.kept.with_extension("torn-logged")).expect("kept");
        assert_eq!((kept.len() as u64, &kept[..end]), (recovered.bytes, &record[..end]));
        drop(log);
        size += 1;
        let last = place.records().pop().expect("an entry").entry;
        assert_eq!((last.sequence, last.decision.operation), (size - 1, Operation::AUDIT_RECOVER));
        assert!(matches!(&last.decision.outcome, Outcome::Failed(reason) if reason.contains("set aside")));
    }
    let (_, opened) = place.open().expect("opens");
    assert_eq!(opened.recovered, None);
}

#[test]
fn a_recovery_that_was_interrupted_is_told_later() {
    let place = Place::new();
    place.fill(2);
    fs::write(place.path().join("00000000000000000002-3.torn"), b"abc").expect("written");
    drop(place.open().expect("opens"));
    let operations: Vec<_> = place.records().into_iter().map(|record| record.entry.decision.operation).collect();
    assert_eq!(operations, [Operation::FETCH, Operation::FETCH, Operation::AUDIT_RECOVER]);
}

#[test]
fn every_altered_byte_makes_the_opening_fail() {
    let place = Place::new();
    place.fill(4);
    let (log, _) = place.open().expect("opens");
    log.checkpoint(&MemorySigner::new(1), 1).expect("signed");
    drop(log);
    for file in fs::read_dir(place.path()).expect("listed").map(|file| file.expect("listed").path()) {
        let whole = fs::read(&file).expect("read");
        for position in 0..whole.len() {
            let mut altered = whole.clone();
            altered[position] ^= 0x20;
            fs::write(&file, &altered).expect("written");
            assert!(place.open().is_err(), "{} byte {position}", file.display());
        }
        fs::write(&file, &whole).expect("written");
    }
    place.open().expect("whole again");
}

#[test]
fn a_cut_log_makes_the_opening_fail() {
    let mut place = Place::new();
    place.options.segment_bytes = 700;
    place.fill(9);
    let last = place.segments().pop().expect("a segment");
    let whole = fs::read(&last).expect("read");
    for end in 0..whole.len() {
        fs::write(&last, &whole[..end]).expect("written");
        let error = place.open().expect_err("acknowledged entries are missing");
        assert!(matches!(error, OpenError::Shortened { known: 9, .. } | OpenError::Altered(_)), "{end}: {error}");
    }
    fs::remove_file(&last).expect("removed");
    let error = place.open().expect_err("a segment is missing");
    assert!(matches!(error, OpenError::Shortened { known: 9, .. }), "{error}");
    fs::write(&last, &whole).expect("written");
    fs::remove_file(place.segments().remove(1)).expect("removed");
    let error = place.open().expect_err("a segment is missing");
    assert!(matches!(&error, OpenError::Altered(fault) if matches!(fault.kind, FaultKind::Missing)), "{error}");
}

/// Somebody who knows the format rewrites an entry with all its checks.
#[test]
fn a_rewritten_entry_does_not_fit_the_checkpoint_or_the_hashes() {
    let place = Place::new();
    place.fill(9);
    let (log, _) = place.open().expect("opens");
    let head = log.head();
    drop(log);
    rewrite(&place, |entries| entries[4].rule = "group".to_owned());
    assert!(matches!(place.open(), Err(OpenError::Hashes { .. })), "the stored hashes tell");
    fs::remove_file(place.path().join(hashes::NAME)).expect("removed");
    let (log, _) = place.open().expect("no checkpoint and no hash tells otherwise");
    assert_ne!(log.head(), head);
    log.checkpoint(&MemorySigner::new(1), 1).expect("signed");
    drop(log);
    rewrite(&place, |entries| entries[4].rule = "owner".to_owned());
    fs::remove_file(place.path().join(hashes::NAME)).expect("removed");
    assert!(matches!(place.open(), Err(OpenError::Checkpoint { size: 9 })));
}

/// Rewrites a log of one segment: what somebody with the disk and the format can do.
pub(crate) fn rewrite(place: &Place, change: impl FnOnce(&mut Vec<crate::Decision>)) {
    let mut decisions = place.records().into_iter().map(|record| record.entry.decision).collect();
    change(&mut decisions);
    let mut bytes = segment::Header { origin: ORIGIN.to_owned(), before: tree::Frontier::default() }.encode();
    for (sequence, decision) in (0..).zip(&decisions) {
        let mut entry = Vec::new();
        decision.encode(sequence, &mut entry).expect("encoded");
        segment::put_record(&mut bytes, &entry, &tree::leaf_hash(&entry));
    }
    assert_eq!(place.segments().len(), 1);
    fs::write(place.segments().remove(0), bytes).expect("written");
}

#[test]
fn checkpoints_that_were_altered_or_signed_by_another_key_are_refused() {
    let place = Place::new();
    place.fill(4);
    let (log, _) = place.open().expect("opens");
    log.checkpoint(&MemorySigner::new(2), 1).expect("signed");
    drop(log);
    assert!(matches!(place.open(), Err(OpenError::Note { size: 4, .. })));
    let path = place.path().join(notes::NAME);
    let note = fs::read_to_string(&path).expect("read");
    fs::write(&path, note.replacen("\n4\n", "\n5\n", 1)).expect("written");
    assert!(place.open().is_err());
    // A crash within the write of a checkpoint: it never left, and is dropped.
    for end in 0..note.len() {
        fs::write(&path, &note.as_bytes()[..end]).expect("written");
        let (log, opened) = place.open().expect("opens");
        assert_eq!((opened.checkpoint, log.last_checkpoint()), (None, None), "cut at {end}");
    }
}

#[test]
fn hashes_that_power_loss_left_zero_or_short_are_made_again() {
    let place = Place::new();
    place.fill(100);
    let path = place.path().join(hashes::NAME);
    let whole = fs::read(&path).expect("read");
    for damage in [0, 5, 32, 64, 1_000, 3_210] {
        fs::write(&path, &whole[..damage]).expect("written");
        place.open().expect("opens");
        assert_eq!(fs::read(&path).expect("read"), whole);
        let mut zeroed = whole.clone();
        zeroed[damage.div_ceil(32) * 32 + 32..].fill(0);
        fs::write(&path, &zeroed).expect("written");
        place.open().expect("opens");
        assert_eq!(fs::read(&path).expect("read"), whole);
    }
}

/// A disk that fails on command.
#[derive(Clone, Default)]
struct Flaky(Arc<Switches>);

#[derive(Default)]
struct Switches {
    full: AtomicBool,
    sync_fails: AtomicBool,
    no_cut: AtomicBool,
    no_new_segment: AtomicBool,
    syncs: AtomicU64,
}

impl Disk for Flaky {
    fn create(&mut self, path: &Path, header: &[u8]) -> io::Result<Box<dyn Segment>> {
        if self.0.no_new_segment.load(Ordering::SeqCst) {
            return Err(io::Error::other("no new segment"));
        }
        FileSystem.create(path, header)?;
        self.resume(path, header.len() as u64)
    }

    fn resume(&mut self, path: &Path, length: u64) -> io::Result<Box<dyn Segment>> {
        Ok(Box::new(FlakySegment(FileSystem.resume(path, length)?, self.clone())))
    }
}

struct FlakySegment(Box<dyn Segment>, Flaky);

impl Segment for FlakySegment {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.1.0.full.load(Ordering::SeqCst) {
            self.0.append(&bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.1.0.syncs.fetch_add(1, Ordering::SeqCst);
        if self.1.0.sync_fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("a bad disk"));
        }
        self.0.sync()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        if self.1.0.no_cut.load(Ordering::SeqCst) {
            return Err(io::Error::other("no cut"));
        }
        self.0.cut(length)
    }
}

fn flaky(place: &Place) -> (Log, Arc<Switches>) {
    let disk = Flaky::default();
    let (log, _) = Log::open_on(&place.options, 0, Box::new(disk.clone())).expect("opens");
    (log, disk.0)
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let place = Place::new();
    let (log, switches) = flaky(&place);
    fill(&log, 0, 3);
    let head = log.head();
    switches.full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert!(matches!(log.append_blocking(vec![sample(3)]), Err(AppendError::Unwritable { .. })));
        assert_eq!(log.head(), head);
    }
    switches.full.store(false, Ordering::SeqCst);
    fill(&log, 3, 6);
    drop(log);
    let (log, opened) = place.open().expect("opens");
    assert_eq!((opened.entries, opened.recovered), (6, None));
    assert_eq!(log.head().size, 6);
}

#[test]
fn a_failed_sync_closes_the_log_until_it_is_checked_anew() {
    let place = Place::new();
    let (log, switches) = flaky(&place);
    fill(&log, 0, 3);
    switches.sync_fails.store(true, Ordering::SeqCst);
    assert!(matches!(log.append_blocking(vec![sample(3)]), Err(AppendError::Unwritable { .. })));
    switches.sync_fails.store(false, Ordering::SeqCst);
    assert!(matches!(log.append_blocking(vec![sample(3)]), Err(AppendError::Unwritable { .. })));
    assert_eq!(log.head().size, 3);
    drop(log);
    let (log, opened) = place.open().expect("opens");
    assert!((3..=4).contains(&opened.entries), "what was not acknowledged may be there");
    fill(&log, opened.entries, 6);
}

#[test]
fn a_log_that_cannot_be_cut_back_or_continued_stays_closed() {
    let place = Place::new();
    let (log, switches) = flaky(&place);
    fill(&log, 0, 1);
    switches.full.store(true, Ordering::SeqCst);
    switches.no_cut.store(true, Ordering::SeqCst);
    assert!(log.append_blocking(vec![sample(1)]).is_err());
    switches.full.store(false, Ordering::SeqCst);
    assert!(log.append_blocking(vec![sample(1)]).is_err());
    drop(log);
    let (_, opened) = place.open().expect("opens");
    assert_eq!(opened.recovered.map(|recovered| recovered.after), Some(1));

    let mut place = Place::new();
    place.options.segment_bytes = 1;
    let (log, switches) = flaky(&place);
    fill(&log, 0, 2);
    switches.no_new_segment.store(true, Ordering::SeqCst);
    assert!(log.append_blocking(vec![sample(2)]).is_err());
    switches.no_new_segment.store(false, Ordering::SeqCst);
    fill(&log, 2, 4);
}

#[test]
fn decisions_of_concurrent_requests_share_syncs() {
    let place = Place::new();
    let (log, switches) = flaky(&place);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let before = switches.syncs.load(Ordering::SeqCst);
    let log = Arc::new(log);
    runtime.block_on(async {
        let tasks: Vec<_> = (0..1_000)
            .map(|number| {
                let log = Arc::clone(&log);
                tokio::spawn(async move { log.append(vec![sample(number)]).await })
            })
            .collect();
        let mut seen = Vec::new();
        for task in tasks {
            seen.push(task.await.expect("ended").expect("appended").first);
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..1_000), "each got a place of its own");
    });
    let syncs = switches.syncs.load(Ordering::SeqCst) - before;
    assert!(syncs < 200, "{syncs} syncs for 1,000 entries");
}

#[test]
fn every_acknowledgement_waits_for_a_sync_of_its_own_when_callers_come_one_by_one() {
    let place = Place::new();
    let (log, switches) = flaky(&place);
    for number in 0..20 {
        let before = switches.syncs.load(Ordering::SeqCst);
        fill(&log, number, number + 1);
        assert_eq!(switches.syncs.load(Ordering::SeqCst), before + 1);
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_are_no_segment_and_no_notes(bytes: Vec<u8>, head in 0usize..200) {
        let header = segment::Header { origin: ORIGIN.to_owned(), before: tree::Frontier::default() }.encode();
        let cut = &header[..head.min(header.len())];
        for input in [&bytes[..], &[cut, &bytes].concat()] {
            let mut rest = input;
            let read = segment::Header::read(&mut rest);
            proptest::prop_assert!(read.is_err() || input.starts_with(&header));
            let (mut rest, mut entry) = (input, Vec::new());
            let found = segment::read_record(&mut rest, &mut entry).expect("memory is readable");
            proptest::prop_assert!(!matches!(found, segment::Found::Record(_)));
            let _ = notes::split(input);
        }
    }
}

#[test]
fn too_many_keys_and_too_many_callers_are_refused() {
    let place = Place::new();
    let (log, _) = place.open().expect("opens");
    let mut decision = sample(0);
    decision.keys = vec![decision.keys[0]; MAX_KEYS + 1];
    assert_eq!(log.append_blocking(vec![decision]), Err(AppendError::TooManyKeys));
    assert_eq!(log.append_blocking(Vec::new()), Ok(Receipt { first: 0, count: 0 }));
    assert_eq!(log.head().size, 0);
}
