//! The queue on a real disk.

use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

use eds_core::{
    api::{Binary, RegisterRequest},
    ids::{ClusterId, Epoch, NodeId, ShareIndex, Threshold},
    manifest::{MAX_BYTES, Point},
    sharing::{FileSecret, SplitParams, split},
};
use rand_core::UnwrapErr;
use tempfile::TempDir;

use super::*;
use crate::error::Kind;

fn message(node: u16, keys: usize) -> Message {
    let rng = &mut UnwrapErr(getrandom::SysRng);
    let numbers: Vec<ShareIndex> = (1..=3).map(|number| ShareIndex::new(number).expect("not zero")).collect();
    let manifests = (0..keys).map(|_| {
        let params = SplitParams {
            key: KeyId::random(rng),
            cluster: ClusterId::from_bytes([3; 16]),
            directory_version: 1,
            epoch: Epoch::new(0),
            threshold: Threshold::new(2, 3).expect("in range"),
            nodes: &numbers,
        };
        let (manifest, _) = split(&FileSecret::random(rng), &params, rng).expect("splits");
        Binary(manifest.encode(&mut [0; MAX_BYTES]).expect("fits").to_vec())
    });
    let request = RegisterRequest {
        registration: Binary(vec![7; 16]),
        manifests: manifests.collect(),
        sealed: Binary(vec![9; 200]),
        access: Vec::new(),
        names: Vec::new(),
    };
    Message::new(numbers[usize::from(node) - 1], NodeId::from_bytes([4; 16]), Point([2; 33]), [5; 32], request)
        .expect("manifests")
}

#[test]
fn what_is_kept_is_there_after_the_queue_was_opened_again() {
    let state = TempDir::new().expect("a folder");
    assert!(Queue::open_if_there(state.path()).expect("opens").is_none());
    let (one, other) = (message(3, 2), message(2, 1));
    let mut queue = Queue::open(state.path()).expect("opens");
    let numbers = queue.keep(&[one.clone(), other.clone()], "CN=alice").expect("keeps");
    queue.acknowledge(&numbers[..1]).expect("notes");
    queue.hindered(numbers[0], "node 3 is away").expect("notes");
    drop(queue);

    let mut queue = Queue::open_if_there(state.path()).expect("opens").expect("is there");
    queue.check().expect("whole");
    let contents = queue.contents().expect("reads");
    assert_eq!(contents.entries.iter().map(|entry| &entry.message).collect::<Vec<_>>(), [&one, &other]);
    let first = queue.entry(numbers[0]).expect("there");
    assert!(first.acknowledged && first.tries == 1 && first.registrant == "CN=alice");
    assert_eq!(first.hindrance.expect("noted").1, "node 3 is away");
    assert!(!contents.entries[1].acknowledged);
    assert_eq!((contents.shares(), contents.by_node().len()), (3, 2));
    assert_eq!(queue.of_key(one.keys()[1]).expect("reads").entries.len(), 1);

    queue.remove(&numbers[..1]).expect("removes");
    assert_eq!(queue.of_key(one.keys()[1]).expect("reads").entries.len(), 0);
    assert!(matches!(queue.entry(numbers[0]), Err(Error::Unknown { .. })));
    // A number is never used again: `drop` of an old one hits nobody.
    queue.remove(&numbers).expect("removes");
    let later = queue.keep(&[one], "CN=alice").expect("keeps");
    assert!(later[0] > numbers[1]);
}

#[test]
fn the_files_are_for_their_owner_alone() {
    let state = TempDir::new().expect("a folder");
    let mut queue = Queue::open(state.path()).expect("opens");
    queue.keep(&[message(3, 1)], "CN=alice").expect("keeps");
    let _lock = queue.registering().expect("locks");
    let files: Vec<_> = fs::read_dir(state.path()).expect("reads").map(|entry| entry.expect("a file")).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let mode = file.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", file.path());
    }
}

#[test]
fn a_message_that_was_altered_is_named_and_hinders_no_other() {
    let columns = [
        "node = 2",
        "node_id = zeroblob(16)",
        "transport_key = zeroblob(33)",
        "registrant = zeroblob(32)",
        "registrant_name = 'CN=mallory'",
        "since = since + 1",
        "request = CAST(replace(CAST(request AS TEXT), '\"sealed\":\"CQkJ', '\"sealed\":\"DQkJ') AS BLOB)",
        "request = substr(request, 1, 100)",
        "digest = zeroblob(32)",
    ];
    for change in columns {
        let state = TempDir::new().expect("a folder");
        let mut queue = Queue::open(state.path()).expect("opens");
        let numbers = queue.keep(&[message(3, 1), message(1, 1)], "CN=alice").expect("keeps");
        let changed = queue
            .connection
            .execute(&format!("UPDATE message SET {change} WHERE number = ?1"), [numbers[0]])
            .expect("updates");
        assert_eq!(changed, 1);
        let contents = queue.contents().expect("reads");
        assert_eq!((contents.entries.len(), contents.damaged.as_slice()), (1, &numbers[..1]), "{change}");
        assert!(matches!(queue.entry(numbers[0]), Err(error @ Error::Damaged { .. }) if error.kind() == Kind::Damaged));
        assert!(queue.whole(&contents).is_err() && queue.holds(numbers[0]).expect("reads"));
    }
}

#[test]
fn a_file_that_is_no_queue_is_refused_and_left_as_it_is() {
    let state = TempDir::new().expect("a folder");
    let path = state.path().join("queue.sqlite");
    File::create(&path).and_then(|mut file| file.write_all(&[b'x'; 8192])).expect("writes");
    let Err(error) = Queue::open_if_there(state.path()) else { panic!("opened") };
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.hint().expect("a hint").contains("move it away"));
    assert_eq!(fs::read(&path).expect("reads"), [b'x'; 8192]);
}

#[test]
fn who_registers_is_not_disturbed_by_who_takes_back() {
    let state = TempDir::new().expect("a folder");
    let (one, other) = (Queue::open(state.path()).expect("opens"), Queue::open(state.path()).expect("opens"));
    let (first, second) = (one.registering().expect("locks"), other.registering().expect("locks"));
    assert!(one.alone().expect("asks").is_none());
    drop((first, second));
    let alone = one.alone().expect("asks");
    assert!(alone.is_some() && other.alone().expect("asks").is_none());
    drop(alone);
    assert!(other.alone().expect("asks").is_some());
}
