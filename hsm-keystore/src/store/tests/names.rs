//! The part of the suite about names: each once, and gone with its key.

use eds_core::api::name::KeyName;

use super::*;

fn name(text: &str) -> KeyName {
    KeyName::new(text).expect("a name")
}

/// Holds for every store, at any time.
pub(in crate::store) fn conform(store: &dyn ShareStore) {
    use KeyState::{Active, Pending, Tombstone};
    let active = active_kek(store).expect("one");
    let named = |number: u8, text: &str| NewKey {
        record: record(active, number),
        name: Some(NewName { name: name(text), mac: vec![number, 9] }),
        ..new_key(number)
    };
    let found = |names: &[&str]| -> Vec<Option<(u8, Vec<u8>)>> {
        let names: Vec<KeyName> = names.iter().map(|text| name(text)).collect();
        let found = store.named(&names).expect("reads").into_iter();
        found.map(|named| named.map(|named| (named.key.as_bytes()[0], named.mac))).collect()
    };
    let register =
        |number: u8, keys: &[NewKey]| store.register(&registration(ALICE, number, number), keys).expect("answers");
    assert_eq!(found(&["/vo/a"]), [None]);
    let plain = NewKey { record: record(active, 102), ..new_key(102) };
    assert_eq!(register(101, &[named(101, "/vo/a"), plain, named(103, "/vo/b")]), Registered::Stored);
    let (a, b) = (Some((101, vec![101, 9])), Some((103, vec![103, 9])));
    assert_eq!(found(&["/vo/b", "/vo/c", "/vo/a", "/VO/a"]), [b.clone(), None, a.clone(), None]);

    // A name is one key's. Nothing of the batch is stored, and what is there is not touched.
    let clash = [named(104, "/vo/c"), named(105, "/vo/a")];
    assert_eq!(register(104, &clash), Registered::NameTaken(id(105)));
    assert_eq!(
        (found(&["/vo/a", "/vo/c"]), states(store, &[101, 104, 105])),
        (vec![a.clone(), None], vec![Some(Pending), None, None])
    );
    // The same registration again finds its own names there.
    let again = [named(101, "/vo/a"), NewKey { record: record(active, 102), ..new_key(102) }, named(103, "/vo/b")];
    assert_eq!(register(101, &again), Registered::Before(vec![Pending; 3]));

    // What becomes of the key but its end leaves the name.
    assert_eq!(store.confirm(&[id(101)], &ALICE, 6_000).expect("answers"), [Changed::Done(Active)]);
    let change = |number: u8, mac: u8| AccessChange {
        key: id(number),
        seen: StoredAccess { list: vec![number, 3], mac: vec![number, 4] },
        new: StoredAccess { list: vec![number, 3], mac: vec![number, mac] },
    };
    assert_eq!(store.change_access(&[change(101, 5)], 6_001).expect("answers"), [Changed::Done(Active)]);
    assert_eq!(found(&["/vo/a"]), [a]);
    // A refused end is none.
    let wrong = StoredAccess { list: vec![101, 3], mac: vec![101, 4] };
    assert_eq!(store.delete(&[(id(101), wrong)], 6_002).expect("answers"), [Changed::Stale]);
    assert_eq!(store.withdraw(&[id(103)], &BOB, 6_003).expect("answers"), [Changed::NotRegistrant]);
    assert_eq!(found(&["/vo/a", "/vo/b"]).iter().flatten().count(), 2);

    // The end of a key frees its name and no other; the id of the key stays used.
    let seen = StoredAccess { list: vec![101, 3], mac: vec![101, 5] };
    assert_eq!(store.delete(&[(id(101), seen)], 6_004).expect("answers"), [Changed::Done(Tombstone)]);
    assert_eq!(found(&["/vo/a", "/vo/b"]), [None, b]);
    assert_eq!(store.withdraw(&[id(103)], &ALICE, 6_005).expect("answers"), [Changed::Done(Tombstone)]);
    assert_eq!(found(&["/vo/b"]), [None]);
    assert_eq!(register(106, &[named(101, "/vo/a")]), Registered::KeyDeleted(id(101)));
    assert_eq!(register(107, &[named(107, "/vo/a")]), Registered::Stored);
    assert_eq!(found(&["/vo/a"]), [Some((107, vec![107, 9]))]);

    // Of several registrations of one name at once, one wins.
    let stored = std::thread::scope(|scope| {
        let racers: Vec<_> = (110..118)
            .map(|number| scope.spawn(move || register_race(store, number, &named_of(active, number))))
            .collect();
        racers.into_iter().map(|racer| racer.join().expect("no panic")).filter(|won| *won == Registered::Stored).count()
    });
    assert_eq!(stored, 1);
}

fn named_of(active: KekId, number: u8) -> NewKey {
    let name = Some(NewName { name: name("/vo/raced"), mac: vec![number] });
    NewKey { record: record(active, number), name, ..new_key(number) }
}

fn register_race(store: &dyn ShareStore, number: u8, key: &NewKey) -> Registered {
    store.register(&registration(BOB, number, number), std::slice::from_ref(key)).expect("answers")
}

#[test]
fn the_name_of_a_deleted_key_is_not_left_in_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keys.db");
    let store = SqliteStore::create(&file, &origin()).expect("made");
    let text = format!("/vo/{}", "a name that must be gone afterwards".repeat(3));
    let key = NewKey { name: Some(NewName { name: name(&text), mac: vec![1] }), ..new_key(1) };
    store.register(&registration(ALICE, 1, 1), &[key]).expect("stores");
    let in_file = || {
        let raw = rusqlite::Connection::open(&file).expect("opens");
        raw.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("written back");
        fs::read(&file).expect("read").windows(text.len()).any(|window| window == text.as_bytes())
    };
    assert!(in_file(), "the test looks in the wrong place");
    store.delete(&[(id(1), StoredAccess { list: vec![1, 3], mac: vec![1, 4] })], 2).expect("deletes");
    assert!(!in_file());
}
