//! Re-wrapping over stores of both kinds, with a token in memory.

use std::{num::NonZeroUsize, sync::Arc};

use eds_core::{
    api::KeyState,
    ids::{Epoch, KeyId, NodeId, ShareIndex},
};
use zeroize::Zeroizing;

use super::rewrap::{Rewrapped, Work};
use crate::{
    hsm::{Hsm, Suite, TokenKeyId, memory::MemoryHsm, self_test::make_canary},
    node::{kek::Wrapping, to_open},
    shares::{self, ShareContext, ToSeal},
    store::{
        KekChanged, NewKey, Origin, Registered, Registration, ShareStore, StoredAccess, kek_of, memory::MemoryStore,
        sqlite::SqliteStore,
    },
};

const NODE: NodeId = NodeId::from_bytes([7; 16]);
const NUMBER: ShareIndex = match ShareIndex::new(1) {
    Ok(number) => number,
    Err(_) => panic!("1 is an index"), // decided at compile time
};

struct Bench {
    hsm: Arc<MemoryHsm>,
    store: Arc<dyn ShareStore>,
    wrapping: Wrapping,
}

impl Bench {
    fn new(suite: Suite, make: impl FnOnce(Origin) -> Arc<dyn ShareStore>) -> Self {
        let hsm = Arc::new(MemoryHsm::with_suite(suite).expect("made"));
        let canary = make_canary(hsm.as_ref(), NODE).expect("made");
        let store = make(Origin { node: NODE, canary, policy_canary: vec![1] });
        let wrapping = Wrapping::new(hsm.clone(), Arc::clone(&store));
        Self { hsm, store, wrapping }
    }

    fn register(&self, numbers: std::ops::Range<u8>) {
        let (key, epoch) = (|number: u8| KeyId::from_bytes([number; 16]), Epoch::new(0));
        let share = |number: u8| {
            let context = ShareContext { key: key(number), epoch, index: NUMBER, manifest: [number; 32] };
            ToSeal { context, share: Zeroizing::new([number; 64]) }
        };
        let shares: Vec<_> = numbers.clone().map(share).collect();
        let records = self.wrapping.seal(NODE, &shares).expect("seals").records;
        let registration =
            Registration { registrant: [1; 32], id: [numbers.start; 16], content: [2; 32], counter: None, at: 1 };
        let keys = numbers.zip(records).map(|(number, record)| {
            let access = StoredAccess { list: vec![1], mac: vec![2] };
            NewKey {
                key: key(number),
                epoch,
                manifest: vec![number],
                manifest_digest: [number; 32],
                record,
                access,
                name: None,
            }
        });
        let keys: Vec<_> = keys.collect();
        assert_eq!(self.store.register(&registration, &keys).expect("stores"), Registered::Stored);
    }

    /// What officers do, without a PKCS#11 token.
    fn rotate(&self) -> TokenKeyId {
        let kek = self.hsm.make_kek().expect("made");
        let before = self.hsm.kek();
        self.hsm.adopt(kek).expect("is there");
        let canary = make_canary(self.hsm.as_ref(), NODE).expect("made");
        self.hsm.adopt(before).expect("is there");
        assert_eq!(self.store.begin_kek(&canary, 1).expect("begins"), KekChanged::Done);
        self.wrapping.follow().expect("follows");
        kek
    }

    fn rewrap(&self, batch: usize) -> Rewrapped {
        let work = Work {
            node: NODE,
            number: NUMBER,
            hsm: self.hsm.as_ref(),
            store: self.store.as_ref(),
            wrapping: &self.wrapping,
        };
        let mut told = Vec::new();
        let left = work.count().expect("counts");
        let done = work.run(left, NonZeroUsize::new(batch).expect("not zero"), &mut |progress| told.push(progress));
        assert!(told.is_sorted_by_key(|progress| progress.done), "{told:?}");
        assert!(told.last().is_none_or(|last| last.done <= last.total), "{told:?}");
        done.expect("wraps anew")
    }

    /// That every key of these opens, under this KEK.
    fn assert_opens(&self, numbers: impl Iterator<Item = u8>, kek: TokenKeyId) {
        for number in numbers {
            let stored = self.store.read(&[KeyId::from_bytes([number; 16])]).expect("reads").remove(0).expect("there");
            let body = stored.body.as_ref().expect("whole");
            assert_eq!(kek_of(&body.record), Some(*kek.as_bytes()), "{number}");
            let opened = shares::open(self.hsm.as_ref(), NODE, &[to_open(NUMBER, &stored, body)]).expect("answers");
            assert_eq!(opened[0].as_ref().expect("opens").as_slice(), [number; 64], "{number}");
        }
    }
}

#[test]
fn everything_is_wrapped_anew_in_any_batch_and_the_old_kek_retires() {
    let folder = tempfile::tempdir().expect("a directory");
    let sqlite = |name: &str, origin: &Origin| -> Arc<dyn ShareStore> {
        Arc::new(SqliteStore::create(&folder.path().join(name), origin).expect("made"))
    };
    for suite in Suite::ALL {
        let benches = [
            Bench::new(suite, |origin| Arc::new(MemoryStore::new(origin))),
            Bench::new(suite, |origin| sqlite(suite.word(), &origin)),
        ];
        for bench in benches {
            bench.register(1..10);
            let first = bench.hsm.kek();
            // Pending ones and active ones alike, and none that was deleted.
            let (two, three) = (KeyId::from_bytes([2; 16]), KeyId::from_bytes([3; 16]));
            bench.store.confirm(&[two], &[1; 32], 2).expect("confirms");
            bench.store.withdraw(&[three], &[1; 32], 2).expect("withdraws");
            let second = bench.rotate();
            bench.register(10..12);
            let retire = |kek: TokenKeyId| bench.store.retire_kek(kek.as_bytes(), 9).expect("answers");
            assert_eq!(retire(first), KekChanged::StillWraps(8));
            assert_eq!(bench.rewrap(3), Rewrapped { done: 8, ..Rewrapped::default() });
            let there = || (1..12).filter(|number| *number != 3);
            bench.assert_opens(there(), second);
            assert_eq!(
                bench.store.read(&[two]).expect("reads")[0].as_ref().map(|key| key.state),
                Some(KeyState::Active)
            );
            assert_eq!(bench.rewrap(3), Rewrapped::default());
            assert_eq!(retire(first), KekChanged::Done);
            let third = bench.rotate();
            assert_eq!(bench.rewrap(1_000).done, 10);
            bench.assert_opens(there(), third);
        }
    }
}

#[test]
fn a_record_that_does_not_open_is_named_and_keeps_its_kek() {
    let bench = Bench::new(Suite::Aes256Gcm, |origin| Arc::new(MemoryStore::new(origin)));
    bench.register(1..5);
    let first = bench.hsm.kek();
    // Moved: it is bound to another key.
    let read =
        |number: u8| bench.store.read(&[KeyId::from_bytes([number; 16])]).expect("reads").remove(0).expect("there");
    let (one, two) = (read(1), read(2));
    let (one, two_body) = (one.body.expect("whole"), two.body.expect("whole"));
    let moved = crate::store::Replacement {
        key: two.key,
        seen: two_body.record,
        epoch: two_body.epoch,
        manifest: two_body.manifest,
        manifest_digest: two.manifest_digest,
        record: one.record,
    };
    bench.store.replace(&[moved], 3).expect("replaces");
    let second = bench.rotate();
    assert_eq!(bench.rewrap(2), Rewrapped { done: 3, key_pairs: 0, unreadable: vec![two.key] });
    bench.assert_opens([1, 3, 4].into_iter(), second);
    assert_eq!(bench.store.retire_kek(first.as_bytes(), 9).expect("answers"), KekChanged::StillWraps(1));
}

#[test]
fn what_is_registered_and_rotated_meanwhile_is_wrapped_anew_too() {
    let bench = Bench::new(Suite::Aes256Gcm, |origin| Arc::new(MemoryStore::new(origin)));
    bench.register(1..50);
    bench.rotate();
    let mut times = 0;
    let work = Work {
        node: NODE,
        number: NUMBER,
        hsm: bench.hsm.as_ref(),
        store: bench.store.as_ref(),
        wrapping: &bench.wrapping,
    };
    let mut newest = None;
    let left = work.count().expect("counts");
    let done = work.run(left, NonZeroUsize::new(7).expect("not zero"), &mut |_| {
        times += 1;
        if times == 2 {
            // Officers are in a hurry: the process learns of it by the refusal of its records.
            let before = bench.hsm.kek();
            newest = Some(bench.rotate());
            bench.hsm.adopt(before).expect("is there");
        }
    });
    assert!(done.expect("wraps anew").done >= 49);
    bench.assert_opens(1..50, newest.expect("rotated"));
}
