//! The promises of a store elsewhere, over a door that fails when it is told to.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    sync::Mutex,
};

use super::*;
use crate::storage::{conformance, site::Access};

/// Which call is to fail, and how.
type Trouble = (&'static str, fn() -> Fault);

#[derive(Default)]
struct FakeDoor {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    folders: Mutex<Vec<String>>,
    troubles: Mutex<VecDeque<Trouble>>,
    sums: bool,
    damages: bool,
}

impl FakeDoor {
    fn fail(&self, call: &'static str) -> Result<(), Fault> {
        let mut troubles = self.troubles.lock().expect("not poisoned");
        match troubles.front() {
            Some((wanted, fault)) if *wanted == call => {
                let fault = fault();
                troubles.pop_front();
                Err(fault)
            }
            _ => Ok(()),
        }
    }

    fn folder(path: &str) -> String {
        path.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.into())
    }
}

impl Door for FakeDoor {
    fn size(&self, path: &str) -> Result<u64, Fault> {
        self.fail("size")?;
        self.objects.lock().expect("not poisoned").get(path).map(|bytes| bytes.len() as u64).ok_or(Fault::NotFound)
    }

    fn read(&self, path: &str, offset: u64, length: usize, into: &mut Vec<u8>) -> Result<(), Fault> {
        let objects = self.objects.lock().expect("not poisoned");
        let bytes = objects.get(path).ok_or(Fault::NotFound)?;
        let from = usize::try_from(offset).expect("small").min(bytes.len());
        let to = bytes.len().min(from + length);
        let broken = self.fail("read");
        // What arrived before it broke.
        let to = if broken.is_err() { from + (to - from) / 2 } else { to };
        into.extend_from_slice(&bytes[from..to]);
        broken
    }

    fn put(&self, path: &str, content: &Content) -> Result<(), Fault> {
        put_renaming(self, path, content)
    }

    fn delete(&self, path: &str) -> Result<(), Fault> {
        let deleted = self.objects.lock().expect("not poisoned").remove(path).map(drop).ok_or(Fault::NotFound);
        self.fail("delete")?;
        deleted
    }
}

impl Renaming for FakeDoor {
    fn write(&self, path: &str, content: &Content, _before: u32) -> Result<(), Fault> {
        let folder = Self::folder(path);
        if !folder.is_empty() && !self.folders.lock().expect("not poisoned").contains(&folder) {
            return Err(Fault::NotFound);
        }
        let mut bytes = content.piece(0, usize::MAX)?;
        let broken = self.fail("write");
        if broken.is_err() {
            bytes.truncate(bytes.len() / 2);
        }
        if let Some(byte) = bytes.last_mut().filter(|_| self.damages) {
            *byte ^= 1;
        }
        self.objects.lock().expect("not poisoned").insert(path.into(), bytes);
        broken
    }

    fn make_directory(&self, path: &str) -> Result<(), Fault> {
        self.folders.lock().expect("not poisoned").push(Self::folder(path));
        Ok(())
    }

    fn adler32(&self, path: &str) -> Result<Option<u32>, Fault> {
        let sum = adler2::adler32_slice(&self.objects.lock().expect("not poisoned")[path]);
        Ok(self.sums.then_some(sum))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Fault> {
        let mut objects = self.objects.lock().expect("not poisoned");
        if objects.contains_key(to) {
            return Err(Fault::Exists);
        }
        let bytes = objects.remove(from).ok_or(Fault::NotFound)?;
        objects.insert(to.into(), bytes);
        drop(objects);
        // Done, and the answer is lost.
        self.fail("rename")
    }
}

fn store(door: FakeDoor) -> RemoteStore<FakeDoor> {
    let url = "davs://se.example/eds".parse().expect("a URL");
    RemoteStore::new(&Site::new("fake", url, Access::default()).expect("a site"), door)
}

fn with(troubles: &[Trouble]) -> RemoteStore<FakeDoor> {
    let store = store(FakeDoor::default());
    store.door.troubles.lock().expect("not poisoned").extend(troubles);
    store
}

fn names(store: &RemoteStore<FakeDoor>) -> Vec<String> {
    store.door.objects.lock().expect("not poisoned").keys().cloned().collect()
}

fn broken() -> Fault {
    Fault::Broken("cut".into())
}

#[test]
fn conforms_with_checksums_and_without() {
    conformance::run(&store(FakeDoor::default()));
    conformance::run(&store(FakeDoor { sums: true, ..FakeDoor::default() }));
}

#[test]
fn a_broken_upload_is_sent_again_and_leaves_nothing_else() {
    let store = with(&[("write", broken), ("write", broken)]);
    let name = conformance::put(&store, &[7; 100_000]);
    assert_eq!(conformance::bytes(&store, &name), [7; 100_000]);
    assert_eq!(names(&store), [name.to_string()]);
}

#[test]
fn an_upload_that_never_succeeds_leaves_nothing() {
    let store = with(&[("write", broken as fn() -> Fault); 5]);
    let name = conformance::fresh();
    let object = store.create(&name).expect("creates");
    object.file().write_all(b"lost").expect("writes");
    let error = object.finish().expect_err("fails");
    assert!(matches!(error, Error::Remote { source: Fault::Broken(_), .. }), "{error}");
    assert!(names(&store).is_empty(), "{:?}", names(&store));
}

#[test]
fn what_arrived_damaged_never_gets_its_name() {
    for sums in [true, false] {
        let store = store(FakeDoor { damages: true, sums, ..FakeDoor::default() });
        let object = store.create(&conformance::fresh()).expect("creates");
        object.file().write_all(b"changed on the way").expect("writes");
        let error = object.finish().expect_err("is noticed");
        assert!(matches!(error, Error::Remote { source: Fault::Mismatch(_), .. }), "{error}");
        assert!(names(&store).is_empty());
    }
}

#[test]
fn a_rename_or_delete_whose_answer_was_lost_was_done() {
    let store = with(&[("rename", broken)]);
    let name = conformance::put(&store, b"renamed");
    assert_eq!(conformance::bytes(&store, &name), b"renamed");
    store.door.troubles.lock().expect("not poisoned").push_back(("delete", broken));
    store.delete(&name).expect("is gone");
    assert!(matches!(store.delete(&name), Err(Error::NotFound { .. })));
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let store = store(FakeDoor { sums: true, ..FakeDoor::default() });
    let content: Vec<u8> = (0..1_000_000u32).map(|number| u8::try_from(number % 251).expect("small")).collect();
    let name = conformance::put(&store, &content);
    store.door.troubles.lock().expect("not poisoned").extend([("read", broken as fn() -> Fault); 3]);
    let mut object = store.open(&name).expect("opens");
    object.seek(SeekFrom::Start(1000)).expect("seeks");
    let mut read = Vec::new();
    object.read_to_end(&mut read).expect("reads");
    assert_eq!(read, &content[1000..]);
}

#[test]
fn what_the_storage_says_reaches_the_user_with_its_url() {
    let store = with(&[("size", || Fault::Denied("status 403".into()))]);
    let error = crate::Error::from(store.open(&conformance::fresh()).map(drop).expect_err("refused"));
    assert_eq!(error.kind(), crate::Kind::Denied);
    let report = error.report();
    assert!(
        report.contains("davs://se.example/eds/") && report.contains("status 403") && report.contains("hint:"),
        "{report}"
    );
}
