//! Entries survive reopening, appear once, and only pending ones can be discarded.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

fn entry(number: u8) -> Entry {
    let file = FileId::from_bytes([number; 16]);
    Entry {
        file,
        content: if number.is_multiple_of(2) { Content::Opaque } else { Content::Image },
        key: KeyId::from_bytes([0xc0 | number; 16]),
        object: ObjectName::of(file),
        plain_size: 1000,
        stored_size: 1234,
        salt: [1; 24],
        commitment: [2; 32],
        anchor: [3; 32],
        manifest: vec![4; 5],
        state: State::Pending,
        created: UNIX_EPOCH + Duration::from_secs(1_700_000_000 + u64::from(number)),
        private_part: (!number.is_multiple_of(2)).then(|| FileId::from_bytes([0x80 | number; 16])),
        private_key: (!number.is_multiple_of(2)).then(|| KeyId::from_bytes([0xe0 | number; 16])),
        run: [6; 16],
    }
}

#[test]
fn entries_survive_reopening() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("new/catalog.sqlite");
    let catalog = Catalog::open(&path).expect("opens");
    for number in 1..=3 {
        catalog.begin(&[entry(number)]).expect("begins");
    }
    catalog.complete(&[entry(2).file]).expect("completes");
    catalog.complete(&[entry(2).file]).expect("completes again");
    drop(catalog);
    let again = Catalog::open(&path).expect("reopens");
    assert_eq!(again.entry(entry(1).file).expect("is there"), entry(1));
    assert_eq!(again.entry(entry(2).file).expect("is there"), Entry { state: State::Complete, ..entry(2) });
    assert_eq!(again.pending().expect("lists"), [entry(1), entry(3)]);
    assert_eq!(again.complete_ones().expect("lists"), [Entry { state: State::Complete, ..entry(2) }]);
    assert_eq!(again.under_key(entry(3).key).expect("lists"), [entry(3)]);
    for file in fs::read_dir(directory.path().join("new")).expect("a directory") {
        let file = file.expect("an entry");
        let mode = file.metadata().expect("is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
    }
}

#[test]
fn a_file_is_registered_once() {
    let catalog = Catalog::in_memory().expect("opens");
    catalog.begin(&[entry(1)]).expect("begins");
    let again = catalog.begin(&[Entry { key: entry(2).key, ..entry(1) }]);
    assert!(matches!(again, Err(Error::Duplicate { file, .. }) if file == entry(1).file));
    assert_eq!(catalog.entry(entry(1).file).expect("is there"), entry(1), "the first one was changed");
}

#[test]
fn only_pending_entries_are_discarded() {
    let catalog = Catalog::in_memory().expect("opens");
    for number in [1, 2] {
        catalog.begin(&[entry(number)]).expect("begins");
    }
    catalog.complete(&[entry(2).file]).expect("completes");
    catalog.discard(entry(1).file).expect("discards");
    assert!(matches!(catalog.discard(entry(2).file), Err(Error::NotFound { .. })));
    assert!(matches!(catalog.entry(entry(1).file), Err(Error::NotFound { .. })));
    catalog.remove(entry(2).file).expect("removes");
    for missing in [catalog.complete(&[entry(2).file]), catalog.remove(entry(2).file)] {
        assert!(matches!(missing, Err(Error::NotFound { .. })));
    }
}

#[test]
fn another_layout_and_foreign_files_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("catalog.sqlite");
    drop(Catalog::open(&path).expect("opens"));
    let raw = Connection::open(&path).expect("opens");
    raw.pragma_update(None, "user_version", 3).expect("updates");
    drop(raw);
    let newer = Catalog::open(&path).expect_err("a newer layout");
    assert!(matches!(newer, Error::Layout { found: 3, known: 2, .. }));
    assert_eq!(newer.hint().as_deref(), Some("use a newer release of eds"));

    let metadata = directory.path().join("metadata.sqlite");
    drop(crate::metadata::Metadata::open_file(&metadata).expect("opens"));
    assert!(matches!(Catalog::open(&metadata), Err(Error::Foreign { .. })));

    let text = directory.path().join("text");
    fs::write(&text, "no database ".repeat(100)).expect("writes");
    assert_eq!(Catalog::open(&text).expect_err("no database").kind(), crate::Kind::Damaged);
}

#[test]
fn a_damaged_row_is_named_not_used() {
    let catalog = Catalog::in_memory().expect("opens");
    catalog.begin(&[entry(1)]).expect("begins");
    catalog.connection.execute("UPDATE file SET object = '../../etc/passwd'", []).expect("updates");
    assert!(matches!(catalog.entry(entry(1).file), Err(Error::Damaged { field: "object", .. })));
    assert!(catalog.connection.execute("UPDATE file SET salt = x'00'", []).is_err(), "the schema checks lengths");
}
