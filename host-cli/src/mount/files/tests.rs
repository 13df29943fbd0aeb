//! The file system without a kernel: numbers come and go, reads give plaintext, refusals are told apart, and the end is the end.

use std::{
    io::Cursor,
    time::{Duration, UNIX_EPOCH},
};

use eds_core::ids::FileId;

use super::*;
use crate::{
    catalog::Content,
    payload::{
        Container, Options, Origin, PlainReader, Source, Target, Unlocked, seal,
        tests::{header, key},
    },
};

/// A folder with two files: one that can be opened, and one whose key is refused.
struct Made {
    container: Vec<u8>,
}

const GOOD: FileId = FileId::from_bytes([1; 16]);
const DENIED: FileId = FileId::from_bytes([2; 16]);
const PLAIN: &[u8] = b"plain text of a file";

fn about(file: FileId) -> About {
    let created = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    About { file, content: Content::Opaque, size: PLAIN.len() as u64, created }
}

impl Rooms for Made {
    fn look(&self, path: &[&str]) -> Result<Option<Node>, Error> {
        Ok(match path {
            [] | ["files"] => Some(Node::Folder),
            ["files", "good"] => Some(Node::File(about(GOOD))),
            ["files", "denied"] => Some(Node::File(about(DENIED))),
            _ => None,
        })
    }

    fn list(&self, path: &[&str]) -> Result<Option<Vec<Name>>, Error> {
        Ok((path == ["files"]).then(|| vec![Name { text: "good".into(), folder: false }]))
    }

    fn open(&self, about: &About) -> Result<OpenFile, Error> {
        if about.file == DENIED {
            return Err(Error::NothingFetched);
        }
        let mut source = Cursor::new(self.container.clone());
        let container = Container::read(Source::Seekable(&mut source))?;
        let released = container.unlock(&key()).and_then(Unlocked::release)?;
        Ok(OpenFile::of(about.file, PlainReader::new(released, Origin::Other(Mutex::new(Box::new(source))))))
    }
}

fn files() -> Files<Made> {
    let mut container = Vec::new();
    seal(&mut &*PLAIN, Target::Stream(&mut container), &key(), &header(), &Options::default()).expect("seals");
    Files::new(Made { container })
}

#[test]
fn a_file_is_found_opened_read_and_closed() {
    let files = files();
    let (folder, node) = files.look_up(ROOT, "files").expect("is there");
    assert_eq!(node, Node::Folder);
    assert_eq!(files.list(folder).expect("lists").len(), 1);
    let (number, node) = files.look_up(folder, "good").expect("is there");
    assert_eq!(node, Node::File(about(GOOD)));
    let handle = files.open(number).expect("opens");
    let mut buffer = [0; 100];
    assert_eq!(files.read(handle, 6, &mut buffer).expect("reads"), PLAIN.len() - 6);
    assert_eq!(buffer[..PLAIN.len() - 6], PLAIN[6..]);
    assert_eq!(files.read(handle, 1 << 40, &mut buffer).expect("reads"), 0);
    files.close(handle);
    assert_eq!(files.read(handle, 0, &mut buffer), Err(Refusal::Closed));
}

#[test]
fn refusals_are_told_apart() {
    let files = files();
    let (folder, _) = files.look_up(ROOT, "files").expect("is there");
    assert_eq!(files.look_up(folder, "nothing").map(|_| ()), Err(Refusal::NotFound));
    assert_eq!(files.look_up(ROOT, "../files/good").map(|_| ()), Err(Refusal::NotFound));
    assert_eq!(files.open(folder), Err(Refusal::IsAFolder));
    assert_eq!(files.open(99), Err(Refusal::NotFound));
    let (good, _) = files.look_up(folder, "good").expect("is there");
    assert_eq!(files.list(good).map(|_| ()), Err(Refusal::NotAFolder));
    let (denied, _) = files.look_up(folder, "denied").expect("is there");
    assert_eq!(files.open(denied), Err(Refusal::from(&Error::NothingFetched)));
    assert_eq!(Refusal::from(&Error::NothingFetched), Refusal::TryAgain);
}

#[test]
fn numbers_last_as_long_as_the_kernel_knows_them() {
    let files = files();
    let (folder, _) = files.look_up(ROOT, "files").expect("is there");
    let (first, _) = files.look_up(folder, "good").expect("is there");
    let (again, _) = files.look_up(folder, "good").expect("is there");
    assert_eq!(first, again);
    files.forget(first, 1);
    assert!(files.about(first).is_ok(), "one look-up is left");
    files.forget(first, 1);
    assert_eq!(files.about(first), Err(Refusal::NotFound));
    assert_eq!(lock(&files.numbers).numbers.len(), 2, "the root and the folder");
    let (new, _) = files.look_up(folder, "good").expect("is there");
    assert_ne!(new, first, "a number is not used for something else later");
    files.forget(ROOT, u64::MAX);
    assert_eq!(files.about(ROOT).expect("the root stays"), Node::Folder);
}

#[test]
fn after_the_end_nothing_is_read_or_opened() {
    let files = files();
    let (folder, _) = files.look_up(ROOT, "files").expect("is there");
    let (number, _) = files.look_up(folder, "good").expect("is there");
    let handle = files.open(number).expect("opens");
    files.close_all();
    assert_eq!(files.read(handle, 0, &mut [0; 10]), Err(Refusal::Closed));
    assert_eq!(files.open(number), Err(Refusal::Closed));
    files.close(handle);
}
