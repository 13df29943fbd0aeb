//! What every storage must do; each implementation runs it in its tests, those elsewhere over real servers.
#![expect(clippy::missing_panics_doc, reason = "a broken promise is a panic, as in any test")]

use std::{
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::FileExt as _,
};

use eds_core::ids::FileId;

use crate::storage::{Error, ObjectName, ObjectStore};

/// Runs the whole suite over a store.
pub fn run(store: &dyn ObjectStore) {
    what_was_put_is_read_back(store);
    an_object_is_written_at_any_position(store);
    an_object_is_read_from_any_position(store);
    an_unfinished_object_does_not_exist(store);
    an_object_is_never_overwritten(store);
    a_large_object_is_whole_and_read_from_its_middle(store);
    objects_are_written_and_read_by_several_at_a_time(store);
    a_deleted_object_is_gone(store);
    what_is_not_there_is_not_found(store);
}

/// Puts an object under a fresh name.
pub fn put(store: &dyn ObjectStore, bytes: &[u8]) -> ObjectName {
    let name = fresh();
    let object = store.create(&name).expect("creates");
    object.file().write_all(bytes).expect("writes");
    object.finish().expect("finishes");
    name
}

/// The whole object.
pub fn bytes(store: &dyn ObjectStore, name: &ObjectName) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.open(name).expect("opens").read_to_end(&mut bytes).expect("reads");
    bytes
}

/// A name that no object has.
pub fn fresh() -> ObjectName {
    let mut id = [0; 16];
    getrandom::fill(&mut id).expect("random");
    ObjectName::of(FileId::from_bytes(id))
}

fn what_was_put_is_read_back(store: &dyn ObjectStore) {
    for content in [&b""[..], b"x", &[7; 100_000]] {
        let name = put(store, content);
        assert_eq!(bytes(store, &name), content);
        assert_eq!(store.open(&name).expect("opens").size().expect("has a size"), content.len() as u64);
    }
}

fn an_object_is_written_at_any_position(store: &dyn ObjectStore) {
    let name = fresh();
    let object = store.create(&name).expect("creates");
    object.file().write_all_at(b"later", 3).expect("writes");
    object.file().write_all_at(b"now", 0).expect("writes");
    object.finish().expect("finishes");
    assert_eq!(bytes(store, &name), b"nowlater");
}

fn an_object_is_read_from_any_position(store: &dyn ObjectStore) {
    let name = put(store, b"0123456789");
    let mut object = store.open(&name).expect("opens");
    let mut two = [0; 2];
    object.seek(SeekFrom::End(-3)).expect("seeks");
    object.read_exact(&mut two).expect("reads");
    assert_eq!(&two, b"78");
    object.seek(SeekFrom::Start(1)).expect("seeks back");
    object.read_exact(&mut two).expect("reads");
    assert_eq!(&two, b"12");
    if let Some(file) = object.as_file() {
        file.read_exact_at(&mut two, 4).expect("reads");
        assert_eq!(&two, b"45");
    }
}

fn an_unfinished_object_does_not_exist(store: &dyn ObjectStore) {
    let name = fresh();
    let object = store.create(&name).expect("creates");
    object.file().write_all(b"half").expect("writes");
    assert!(matches!(store.open(&name), Err(Error::NotFound { .. })));
    drop(object);
    assert!(matches!(store.open(&name), Err(Error::NotFound { .. })));
    store.create(&name).expect("the name is free").finish().expect("finishes");
}

fn an_object_is_never_overwritten(store: &dyn ObjectStore) {
    let name = put(store, b"first");
    assert!(matches!(store.create(&name), Err(Error::Exists { .. })));
    let name = fresh();
    let (one, two) = (store.create(&name).expect("creates"), store.create(&name).expect("creates"));
    one.file().write_all(b"one").expect("writes");
    one.finish().expect("finishes");
    assert!(matches!(two.finish(), Err(Error::Exists { .. })));
    assert_eq!(bytes(store, &name), b"one");
}

/// Larger than what any store sends in one piece.
fn a_large_object_is_whole_and_read_from_its_middle(store: &dyn ObjectStore) {
    let mut content = vec![0; 40 * 1024 * 1024 + 1];
    getrandom::fill(&mut content).expect("random");
    let name = put(store, &content);
    assert!(bytes(store, &name) == content, "a large object comes back as it was");
    let mut object = store.open(&name).expect("opens");
    let mut piece = vec![0; 1024 * 1024];
    object.seek(SeekFrom::Start(17_000_001)).expect("seeks");
    object.read_exact(&mut piece).expect("reads");
    assert!(
        content.get(17_000_001..).is_some_and(|rest| rest.starts_with(&piece)),
        "a piece of the middle is the middle"
    );
    store.delete(&name).expect("deletes");
}

fn objects_are_written_and_read_by_several_at_a_time(store: &dyn ObjectStore) {
    std::thread::scope(|scope| {
        for number in 0..8u8 {
            scope.spawn(move || {
                let content = vec![number; 300_000];
                let name = put(store, &content);
                assert!(bytes(store, &name) == content, "object {number}");
                store.delete(&name).expect("deletes");
            });
        }
    });
}

fn a_deleted_object_is_gone(store: &dyn ObjectStore) {
    let name = put(store, b"gone");
    store.delete(&name).expect("deletes");
    assert!(matches!(store.open(&name), Err(Error::NotFound { .. })));
    assert!(matches!(store.delete(&name), Err(Error::NotFound { .. })));
}

fn what_is_not_there_is_not_found(store: &dyn ObjectStore) {
    let name = fresh();
    assert!(matches!(store.open(&name), Err(Error::NotFound { name: missing }) if missing == name));
    assert!(matches!(store.delete(&name), Err(Error::NotFound { .. })));
}
