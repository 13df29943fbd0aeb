//! One suite for every [`ShareStore`], and what only a file can show.

mod devices;
mod names;

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use super::{memory::MemoryStore, sqlite::SqliteStore, *};

pub(super) const ALICE: RegistrantDigest = [1; 32];
pub(super) const BOB: RegistrantDigest = [2; 32];

pub(super) fn origin() -> Origin {
    Origin { node: NodeId::from_bytes([7; 16]), canary: record(KEK, 0), policy_canary: vec![4, 5] }
}

/// The KEK of a new store.
pub(super) const KEK: KekId = [70; 16];

/// Something that looks like a record of this KEK.
pub(super) fn record(kek: KekId, rest: u8) -> Vec<u8> {
    [&[1, 1, 0][..], &kek, &[rest; 12]].concat()
}

pub(super) fn id(number: u8) -> KeyId {
    KeyId::from_bytes([number; 16])
}

pub(super) fn new_key(number: u8) -> NewKey {
    NewKey {
        key: id(number),
        epoch: Epoch::new(0),
        manifest: vec![number, 1],
        manifest_digest: [number; 32],
        record: record(KEK, number),
        access: StoredAccess { list: vec![number, 3], mac: vec![number, 4] },
        name: None,
    }
}

pub(super) fn registration(registrant: RegistrantDigest, number: u8, content: u8) -> Registration {
    Registration { registrant, id: [number; 16], content: [content; 32], counter: None, at: 1_000 }
}

pub(super) fn states(store: &dyn ShareStore, keys: &[u8]) -> Vec<Option<KeyState>> {
    let keys: Vec<_> = keys.iter().map(|number| id(*number)).collect();
    store.read(&keys).expect("reads").into_iter().map(|found| found.map(|key| key.state)).collect()
}

pub(super) fn conforms(store: &dyn ShareStore) {
    use KeyState::{Active, Pending, Tombstone};
    store.ping().expect("answers");
    assert_eq!(store.origin().expect("reads"), origin());
    assert_eq!(store.read(&[id(1)]).expect("reads"), [None]);
    assert_eq!(store.read(&[]).expect("reads"), []);

    // What is registered is read back.
    let first = registration(ALICE, 1, 1);
    assert_eq!(store.register(&first, &[new_key(1), new_key(2)]).expect("stores"), Registered::Stored);
    let read = store.read(&[id(2), id(9), id(1)]).expect("reads");
    let two = StoredKey {
        key: id(2),
        state: Pending,
        registrant: ALICE,
        manifest_digest: [2; 32],
        body: Some(StoredBody {
            epoch: Epoch::new(0),
            manifest: vec![2, 1],
            record: record(KEK, 2),
            access: StoredAccess { list: vec![2, 3], mac: vec![2, 4] },
        }),
    };
    assert_eq!(read[0], Some(two));
    assert_eq!((&read[1], read[2].as_ref().map(|key| key.key)), (&None, Some(id(1))));

    // The same registration is the same success; the id is the registrant's own.
    let again = store.register(&first, &[new_key(1), new_key(2)]).expect("answers");
    assert_eq!(again, Registered::Before(vec![Pending, Pending]));
    let other = store.register(&registration(ALICE, 1, 2), &[new_key(3)]).expect("answers");
    assert_eq!(other, Registered::IdTaken);
    assert_eq!(store.register(&registration(BOB, 1, 2), &[new_key(3)]).expect("stores"), Registered::Stored);

    // An existing key is not touched, and the batch it came in is not stored.
    let clash = store.register(&registration(BOB, 2, 3), &[new_key(4), new_key(1)]).expect("answers");
    assert_eq!(clash, Registered::KeyExists(id(1)));
    assert_eq!(states(store, &[1, 4]), [Some(Pending), None]);
    assert_eq!(store.read(&[id(1)]).expect("reads")[0].as_ref().expect("there").registrant, ALICE);
    // The refused registration left nothing: its id can be used.
    assert_eq!(store.register(&registration(BOB, 2, 4), &[new_key(4)]).expect("stores"), Registered::Stored);

    // Only the registrant confirms and withdraws; each key is decided for itself.
    let keys = [id(1), id(9), id(3)];
    let confirmed = store.confirm(&keys, &ALICE, 2_000).expect("answers");
    assert_eq!(confirmed, [Changed::Done(Active), Changed::Missing, Changed::NotRegistrant]);
    assert_eq!(store.confirm(&[id(1)], &ALICE, 2_001).expect("answers"), [Changed::Done(Active)]);
    let withdrawn = store.withdraw(&[id(1), id(2), id(3)], &ALICE, 2_002).expect("answers");
    assert_eq!(withdrawn, [Changed::Refused(Active), Changed::Done(Tombstone), Changed::NotRegistrant]);
    assert_eq!(store.withdraw(&[id(2)], &ALICE, 2_003).expect("answers"), [Changed::Done(Tombstone)]);
    assert_eq!(store.confirm(&[id(2)], &ALICE, 2_004).expect("answers"), [Changed::Refused(Tombstone)]);
    assert_eq!(states(store, &[1, 2, 3]), [Some(Active), Some(Tombstone), Some(Pending)]);
    let again = store.register(&first, &[new_key(1), new_key(2)]).expect("answers");
    assert_eq!(again, Registered::Before(vec![Active, Tombstone]));

    // A share is replaced only if it is the one that was seen.
    let replacement = |number: u8, seen: &[u8]| Replacement {
        key: id(number),
        seen: seen.to_vec(),
        epoch: Epoch::new(1),
        manifest: vec![8],
        manifest_digest: [8; 32],
        record: record(KEK, 99),
    };
    let (one, two) = (record(KEK, 1), record(KEK, 2));
    let replacements = [replacement(1, &[0]), replacement(1, &one), replacement(9, &one), replacement(2, &two)];
    let replaced = store.replace(&replacements, 3_000).expect("answers");
    assert_eq!(replaced, [Changed::Stale, Changed::Done(Active), Changed::Missing, Changed::Refused(Tombstone)]);
    let replaced = store.read(&[id(1)]).expect("reads").remove(0).expect("there");
    let body = replaced.body.expect("whole");
    assert_eq!((replaced.manifest_digest, body.epoch, body.record), ([8; 32], Epoch::new(1), record(KEK, 99)));

    // An access list is changed only if it is the one that was seen; of two changes of one list, one wins.
    let list = |number: u8, mac: u8| StoredAccess { list: vec![number, 3], mac: vec![number, mac] };
    let change = |number: u8, seen: u8, new: u8| AccessChange {
        key: id(number),
        seen: list(number, seen),
        new: list(number, new),
    };
    let changes = [change(3, 4, 5), change(3, 4, 6), change(9, 4, 5), change(2, 4, 5)];
    let changed = store.change_access(&changes, 3_500).expect("answers");
    assert_eq!(changed, [Changed::Done(Pending), Changed::Stale, Changed::Missing, Changed::Refused(Tombstone)]);
    let three = store.read(&[id(3)]).expect("reads").remove(0).expect("there");
    assert_eq!(three.body.expect("whole").access, list(3, 5));

    // One KEK is active, and it alone wraps what is stored; what cannot be stored under any is told first.
    let told = |store: &dyn ShareStore| -> Vec<_> {
        store.keks().expect("reads").into_iter().map(|kek| (kek.id[0], kek.state, kek.uses, kek.canary)).collect()
    };
    assert_eq!(told(store), [(70, KekState::Active, 0, origin().canary)]);
    let wrapped = |kek: u8| record([kek; 16], 0);
    assert_eq!(store.begin_kek(&wrapped(77), 3_550).expect("answers"), KekChanged::Done);
    for (canary, refused) in [(wrapped(77), KekState::Active), (origin().canary, KekState::ReadOnly)] {
        assert_eq!(store.begin_kek(&canary, 3_551).expect("answers"), KekChanged::Refused(refused));
    }
    assert_eq!(store.begin_kek(&[1, 1, 0], 3_552).expect("answers"), KekChanged::Missing);
    assert_eq!(store.origin().expect("reads"), Origin { canary: wrapped(77), ..origin() });
    let mixed = [NewKey { record: wrapped(77), ..new_key(21) }, new_key(20)];
    assert_eq!(store.register(&registration(ALICE, 20, 20), &mixed).expect("answers"), Registered::OtherKek);
    assert_eq!(states(store, &[20, 21]), [None, None]);
    let clash = store.register(&registration(ALICE, 20, 20), &[new_key(20), new_key(1)]).expect("answers");
    assert_eq!(clash, Registered::KeyExists(id(1)));
    let again = store.register(&first, &[new_key(1), new_key(2)]).expect("answers");
    assert_eq!(again, Registered::Before(vec![Active, Tombstone]));
    let back = Replacement { record: one.clone(), ..replacement(1, &record(KEK, 99)) };
    let forth = Replacement { record: wrapped(77), ..replacement(3, &record(KEK, 3)) };
    assert_eq!(store.replace(&[forth, back], 3_553).expect("answers"), [Changed::OtherKek; 2]);
    let three = store.read(&[id(3)]).expect("reads").remove(0).expect("there");
    assert_eq!(three.body.expect("whole").record, record(KEK, 3));

    // The keys of a KEK are found by it, in order, also in parts; a replaced or deleted record leaves it.
    let keys: Vec<_> = [23, 21, 22].map(|number| NewKey { record: wrapped(77), ..new_key(number) }).into();
    assert_eq!(store.register(&registration(ALICE, 20, 20), &keys).expect("stores"), Registered::Stored);
    let place = |data_key: u8, number: u8| Place { data_key: vec![data_key; 12], key: id(number) };
    let found = |after: Option<Place>, limit| {
        let places = store.wrapped_by(&[77; 16], after.as_ref(), limit).expect("reads");
        places.iter().map(|place| place.key.as_bytes()[0]).collect::<Vec<_>>()
    };
    assert_eq!((found(None, 9), found(None, 2)), (vec![21, 22, 23], vec![21, 22]));
    assert_eq!(found(Some(place(0, 22)), 2), [23]);
    // Those of one data key stand together, in whatever order their ids are.
    let others = [(25, 1), (20, 1), (24, 0), (27, 2), (26, 1)];
    let others = others.map(|(number, data_key)| NewKey { record: record([77; 16], data_key), ..new_key(number) });
    assert_eq!(store.register(&registration(ALICE, 21, 21), &others).expect("stores"), Registered::Stored);
    assert_eq!(found(None, 9), [21, 22, 23, 24, 20, 25, 26, 27]);
    assert_eq!(store.wrapped_by(&[77; 16], None, 5).expect("reads")[4], place(1, 20));
    assert_eq!((found(Some(place(1, 20)), 2), found(Some(place(1, 26)), 2)), (vec![25, 26], vec![27]));
    assert!(found(Some(place(2, 27)), 2).is_empty());
    let others: Vec<_> = others.iter().map(|other| other.key).collect();
    store.withdraw(&others, &ALICE, 3_598).expect("answers");
    assert_eq!(store.begin_kek(&wrapped(78), 3_599).expect("answers"), KekChanged::Done);
    let rewrap = Replacement { record: wrapped(78), ..replacement(22, &wrapped(77)) };
    assert_eq!(store.replace(&[rewrap], 3_600).expect("answers"), [Changed::Done(Pending)]);
    store.withdraw(&[id(23)], &ALICE, 3_601).expect("answers");
    let left = |kek: u8| {
        let keys = store.wrapped_by(&[kek; 16], None, 9).expect("reads");
        let keys: Vec<_> = keys.into_iter().map(|place| place.key).collect();
        assert_eq!(store.count_wrapped_by(&[kek; 16]).expect("counts"), keys.len() as u64);
        keys
    };
    assert_eq!((left(77), left(78), left(79)), (vec![id(21)], vec![id(22)], vec![]));

    // A KEK retires when no record names it, and for ever.
    let retire = |kek: u8, at| store.retire_kek(&[kek; 16], at).expect("answers");
    let refused = [retire(70, 1), retire(77, 2), retire(78, 3), retire(79, 4)];
    let active = KekChanged::Refused(KekState::Active);
    assert_eq!(refused, [KekChanged::StillWraps(3), KekChanged::StillWraps(1), active, KekChanged::Missing]);
    let rewrap = Replacement { record: wrapped(78), ..replacement(21, &wrapped(77)) };
    assert_eq!(store.replace(&[rewrap], 3_602).expect("answers"), [Changed::Done(Pending)]);
    assert_eq!([retire(77, 3_603), retire(77, 3_604)], [KekChanged::Done; 2]);
    let retired = KekChanged::Refused(KekState::Retired);
    assert_eq!(store.begin_kek(&wrapped(77), 3_605).expect("answers"), retired);

    // Its uses are counted before they are made, and bounded.
    let reserve = |kek: u8, uses| store.reserve_uses(&[kek; 16], uses, 25).expect("answers");
    assert_eq!(
        [reserve(78, 10), reserve(78, 10), reserve(78, 10), reserve(78, 5), reserve(79, 1)],
        [Some(10), Some(20), None, Some(25), None]
    );
    use KekState::{ReadOnly, Retired};
    let keks =
        [(70, ReadOnly, 0, origin().canary), (77, Retired, 0, wrapped(77)), (78, KekState::Active, 25, wrapped(78))];
    assert_eq!(told(store), keks);
    let since: Vec<_> = store.keks().expect("reads").into_iter().map(|kek| kek.since).collect();
    assert_eq!(since, [3_550, 3_603, 3_599]);

    // Keys are listed in order, a page at a time; a tombstone without an access list.
    let page = |after: Option<u8>, most| {
        let listed = store.page(after.map(id), most).expect("answers");
        listed.iter().map(|listed| listed.key.as_bytes()[0]).collect::<Vec<_>>()
    };
    assert_eq!((page(None, 2), page(Some(2), 1), page(Some(2), 2)), (vec![1, 2], vec![3], vec![3, 4]));
    assert_eq!((page(Some(4), 3), page(Some(27), 9)), (vec![20, 21, 22], vec![]));
    let [first, second] = <[Listed; 2]>::try_from(store.page(None, 2).expect("answers")).expect("two");
    assert_eq!((first.state, first.registrant, first.access), (Active, ALICE, Some(list(1, 4))));
    assert_eq!((second.state, second.access), (Tombstone, None));

    // A key is deleted only as the caller saw it, wiped, and never comes back.
    let seen = |number: u8, mac: u8| (id(number), StoredAccess { list: vec![number, 3], mac: vec![number, mac] });
    let deleted = store.delete(&[seen(1, 9), seen(1, 4), seen(1, 4), seen(9, 4), seen(2, 4)], 4_000).expect("answers");
    use Changed::{Done, Missing, Refused, Stale};
    assert_eq!(deleted, [Stale, Done(Tombstone), Refused(Tombstone), Missing, Refused(Tombstone)]);
    let tombstone = store.read(&[id(1)]).expect("reads").remove(0).expect("there");
    assert_eq!((tombstone.body, tombstone.manifest_digest, tombstone.registrant), (None, [8; 32], ALICE));
    let back = store.register(&registration(ALICE, 9, 9), &[new_key(1)]).expect("answers");
    assert_eq!(back, Registered::KeyDeleted(id(1)));

    // Of registrations of one key at once, one wins.
    let stored: usize = std::thread::scope(|scope| {
        let racers: Vec<_> = (100..108)
            .map(|number| {
                scope.spawn(move || {
                    let key = NewKey { record: wrapped(78), ..new_key(50) };
                    store.register(&registration(BOB, number, number), &[key]).expect("answers")
                })
            })
            .collect();
        let won = |result: &Registered| *result == Registered::Stored;
        racers.into_iter().map(|racer| racer.join().expect("no panic")).filter(won).count()
    });
    assert_eq!(stored, 1);

    devices::conform(store);
    names::conform(store);

    // How many there are is kept through all of this.
    assert_eq!(store.confirm(&[id(50)], &BOB, 1).expect("answers"), [Done(Active)]);
    let mut counted = Counts::default();
    for listed in store.page(None, 1_000).expect("reads") {
        match listed.state {
            Pending => counted.pending += 1,
            Active => counted.active += 1,
            Tombstone => counted.tombstones += 1,
        }
    }
    assert_eq!(store.counts().expect("reads"), counted);
    assert!(counted.pending > 1 && counted.active == 1 && counted.tombstones > 1, "{counted:?}");
}

#[test]
fn the_store_in_memory_conforms() {
    conforms(&MemoryStore::new(origin()));
}

#[test]
fn sqlite_conforms() {
    let directory = tempfile::tempdir().expect("a directory");
    conforms(&SqliteStore::create(&directory.path().join("keys.db"), &origin()).expect("made"));
}

fn made(directory: &Path) -> std::path::PathBuf {
    let file = directory.join("keys.db");
    let store = SqliteStore::create(&file, &origin()).expect("made");
    store.register(&registration(ALICE, 1, 1), &[new_key(1)]).expect("stores");
    file
}

#[test]
fn what_was_answered_is_there_after_a_crash() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keys.db");
    let store = SqliteStore::create(&file, &origin()).expect("made");
    store.register(&registration(ALICE, 1, 1), &[new_key(1)]).expect("stores");
    // A crash: nothing is closed, and only what is on the disk is left.
    let copy = directory.path().join("after");
    fs::create_dir(&copy).expect("made");
    for entry in fs::read_dir(directory.path()).expect("listed").map(|entry| entry.expect("read")) {
        if entry.file_name().to_string_lossy().ends_with(".db") || entry.file_name().to_string_lossy().ends_with("-wal")
        {
            fs::copy(entry.path(), copy.join(entry.file_name())).expect("copied");
        }
    }
    let after = SqliteStore::open(&copy.join("keys.db")).expect("opens");
    assert_eq!(states(&after, &[1]), [Some(KeyState::Pending)]);
}

#[test]
fn a_database_is_private_made_once_and_of_a_known_kind() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = made(directory.path());
    for entry in fs::read_dir(directory.path()).expect("listed").map(|entry| entry.expect("read")) {
        let mode = entry.metadata().expect("read").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
    }
    assert!(SqliteStore::create(&file, &origin()).is_err(), "an existing database was made anew");
    assert_eq!(states(&SqliteStore::open(&file).expect("opens"), &[1]), [Some(KeyState::Pending)]);

    let missing = SqliteStore::open(&directory.path().join("other.db")).err().expect("none").to_string();
    assert!(missing.contains("eds-keystored init"), "{missing}");
    let text = directory.path().join("text.db");
    fs::write(&text, "this is not a database, but it is long enough to look at".repeat(20)).expect("written");
    assert!(SqliteStore::open(&text).is_err());

    let raw = rusqlite::Connection::open(&file).expect("opens");
    raw.pragma_update(None, "user_version", 1_000).expect("set");
    let newer = SqliteStore::open(&file).err().expect("newer").to_string();
    assert!(newer.contains("version 1000") && newer.contains("use the release"), "{newer}");
    raw.pragma_update(None, "application_id", 0).expect("set");
    let foreign = SqliteStore::open(&file).err().expect("foreign").to_string();
    assert!(foreign.contains("not the database of a key server"), "{foreign}");
}

/// A database of each older schema, as its release wrote it.
const GOLDEN: [&[u8]; 2] = [include_bytes!("golden/sqlite-1.db"), include_bytes!("golden/sqlite-2.db")];

#[test]
fn an_older_database_is_migrated_whole_with_a_copy_beside_it() {
    for (golden, version) in GOLDEN.iter().zip(1..) {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("keys.db");
        fs::write(&file, golden).expect("written");
        let store = SqliteStore::open(&file).expect("migrated");
        use KeyState::{Active, Pending, Tombstone};
        let Origin { node, canary, policy_canary } = store.origin().expect("reads");
        assert_eq!((node, policy_canary), (origin().node, origin().policy_canary));
        // The first one's canary names no KEK.
        let keks: Vec<_> = store.keks().expect("reads").into_iter().map(|kek| (kek.id, kek.state, kek.uses)).collect();
        let named = kek_of(&canary).map(|kek| (kek, KekState::Active, 3 + (1 << 24)));
        assert_eq!((keks, version == 2), (named.into_iter().collect(), named.is_some()));
        assert_eq!(states(&store, &[1, 2, 3, 4]), [Some(Pending), Some(Active), Some(Tombstone), None]);
        let counted = Counts { pending: 1, active: 1, tombstones: 1 };
        assert_eq!(store.counts().expect("reads"), counted);
        let keys = store.wrapped_by(&[77; 16], None, 9).expect("reads");
        assert_eq!(keys.into_iter().map(|place| place.key).collect::<Vec<_>>(), [id(1), id(2)]);
        let again = store.register(&registration(ALICE, 1, 1), &[new_key(1), new_key(2)]).expect("answers");
        assert_eq!(again, Registered::Before(vec![Pending, Active]));
        drop(store);

        // It is migrated once, and the copy is what it was before.
        drop(SqliteStore::open(&file).expect("opens"));
        let names: Vec<_> = fs::read_dir(directory.path())
            .expect("listed")
            .map(|entry| entry.expect("read").file_name().into_string().expect("text"))
            .filter(|name| name.contains("schema"))
            .collect();
        assert!(matches!(names.as_slice(), [one] if one.starts_with("keys.db.schema-")), "{names:?}");
        let copy = directory.path().join(&names[0]);
        assert_eq!(fs::metadata(&copy).expect("read").permissions().mode() & 0o777, 0o600);
        let raw = rusqlite::Connection::open(&copy).expect("opens");
        let kept: i64 = raw.pragma_query_value(None, "user_version", |row| row.get(0)).expect("reads");
        assert_eq!(kept, version);
        assert_eq!(states(&SqliteStore::open(&copy).expect("migrated"), &[1, 2]), [Some(Pending), Some(Active)]);
    }
}

#[test]
fn a_migration_that_fails_leaves_the_database_as_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keys.db");
    fs::write(&file, GOLDEN[0]).expect("written");
    let raw = rusqlite::Connection::open(&file).expect("opens");
    raw.execute_batch("CREATE TABLE keys_by_kek (in_the_way)").expect("made");
    assert!(SqliteStore::open(&file).is_err());
    let version: i64 = raw.pragma_query_value(None, "user_version", |row| row.get(0)).expect("reads");
    assert_eq!(version, 1);
    raw.execute_batch("DROP TABLE keys_by_kek").expect("dropped");
    assert_eq!(states(&SqliteStore::open(&file).expect("migrated"), &[1]), [Some(KeyState::Pending)]);
}

#[test]
fn writes_that_share_a_commit_do_not_share_a_failure() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::create(&directory.path().join("keys.db"), &origin()).expect("made");
    // Two keys of one id: the second row is refused, and the first with it.
    let wrong = |number: u8| {
        let twice = [new_key(number), new_key(number)];
        store.register(&registration(BOB, number, number), &twice)
    };
    let right = |number: u8| store.register(&registration(ALICE, number, number), &[new_key(number)]);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..64)
            .map(|number| {
                let write = if number % 4 == 0 { &wrong as &(dyn Fn(u8) -> _ + Sync) } else { &right };
                scope.spawn(move || (number, write(number).is_ok()))
            })
            .collect();
        for (number, stored) in writers.into_iter().map(|writer| writer.join().expect("no panic")) {
            assert_eq!(stored, number % 4 != 0, "{number}");
        }
    });
    let all: Vec<u8> = (0..64).collect();
    let there: Vec<bool> = states(&store, &all).into_iter().map(|state| state.is_some()).collect();
    assert_eq!(there, all.iter().map(|number| number % 4 != 0).collect::<Vec<_>>());
}

#[test]
fn what_is_deleted_is_not_left_in_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keys.db");
    let secret = b"a record that must be gone afterwards".repeat(3);
    let store = SqliteStore::create(&file, &origin()).expect("made");
    let key = NewKey { record: [record(KEK, 1), secret.clone()].concat(), ..new_key(1) };
    store.register(&registration(ALICE, 1, 1), &[key]).expect("stores");
    let in_file = || {
        let raw = rusqlite::Connection::open(&file).expect("opens");
        raw.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("written back");
        fs::read(&file).expect("read").windows(secret.len()).any(|window| window == secret)
    };
    assert!(in_file(), "the test looks in the wrong place");
    store.delete(&[(id(1), StoredAccess { list: vec![1, 3], mac: vec![1, 4] })], 2).expect("deletes");
    assert!(!in_file());
}
