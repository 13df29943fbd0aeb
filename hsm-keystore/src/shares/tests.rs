//! Over the token in memory, with either suite: what opens, what does not, and how often the token is asked.

use std::sync::{Mutex, PoisonError};

use super::*;
use crate::hsm::{Health, KeyFacts, Opened, Suite, TokenKeyId, memory::MemoryHsm, self_test::Check};

const NODE: NodeId = NodeId::from_bytes([8; 16]);

fn context(number: u8) -> ShareContext {
    let index = ShareIndex::new(3).expect("not zero");
    ShareContext { key: KeyId::from_bytes([number; 16]), epoch: Epoch::new(0), index, manifest: [number; 32] }
}

fn sealed(hsm: &dyn Hsm, numbers: impl Iterator<Item = u8>) -> Vec<Vec<u8>> {
    let share = |number| ToSeal { context: context(number), share: Zeroizing::new([number; 64]) };
    let shares: Vec<_> = numbers.map(share).collect();
    seal(NODE, &shares, |secrets| hsm.wrap(secrets)).expect("seals").records
}

fn opened(hsm: &dyn Hsm, records: &[(u8, &[u8])]) -> Vec<Option<u8>> {
    let records: Vec<_> = records.iter().map(|(number, record)| ToOpen { context: context(*number), record }).collect();
    let opened = open(hsm, NODE, &records).expect("answers").into_iter();
    let first = |share: ShareBytes| {
        assert!(share.iter().all(|byte| *byte == share[0]));
        share[0]
    };
    opened.map(|share| share.ok().map(first)).collect()
}

/// A token that tells how many records it was asked to wrap and to unwrap.
struct Counting {
    token: MemoryHsm,
    asked: Mutex<(usize, usize)>,
}

impl Counting {
    fn new(suite: Suite) -> Self {
        Self { token: MemoryHsm::with_suite(suite).expect("made"), asked: Mutex::default() }
    }

    /// Wraps and unwraps since the last call.
    fn asked(&self) -> (usize, usize) {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Hsm for Counting {
    fn facts(&self) -> KeyFacts {
        self.token.facts()
    }
    fn wrap(&self, secrets: Vec<ToWrap>) -> Result<Vec<Vec<u8>>, HsmError> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).0 += secrets.len();
        self.token.wrap(secrets)
    }
    fn unwrap(&self, records: Vec<ToUnwrap>) -> Result<Vec<Opened>, HsmError> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).1 += records.len();
        self.token.unwrap(records)
    }
    fn adopt(&self, kek: TokenKeyId) -> Result<(), HsmError> {
        self.token.adopt(kek)
    }
    fn dh(&self, peer: &[u8; 65]) -> Result<Zeroizing<[u8; 32]>, HsmError> {
        self.token.dh(peer)
    }
    fn mac(&self, messages: Vec<Vec<u8>>) -> Result<Vec<[u8; 32]>, HsmError> {
        self.token.mac(messages)
    }
    fn sign(&self, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
        self.token.sign(digest)
    }
    fn canary(&self) -> Result<(), HsmError> {
        self.token.canary()
    }
    fn inspect(&self) -> Result<Vec<Check>, HsmError> {
        self.token.inspect()
    }
    fn health(&self) -> tokio::sync::watch::Receiver<Health> {
        self.token.health()
    }
}

#[test]
fn the_token_is_asked_once_for_each_registration_and_again_for_every_answer() {
    for suite in Suite::ALL {
        let hsm = Counting::new(suite);
        let (first, second) = (sealed(&hsm, 0..50), sealed(&hsm, 50..60));
        assert_eq!(hsm.asked(), (2, 0));
        let records: Vec<(u8, &[u8])> = (0..).zip(first.iter().chain(&second).map(Vec::as_slice)).collect();
        for _ in 0..2 {
            assert_eq!(opened(&hsm, &records), (0..60).map(Some).collect::<Vec<_>>());
            assert_eq!(hsm.asked(), (0, 2));
        }
        assert_eq!(opened(&hsm, &[]), []);
        assert_eq!(hsm.asked(), (0, 0));
        hsm.token.set_out_of_order(true);
        let one = [ToOpen { context: context(0), record: records[0].1 }];
        assert!(open(&hsm, NODE, &one).is_err(), "nothing opens without the token");
    }
}

#[test]
fn records_of_a_registration_begin_alike_and_differ_in_the_rest() {
    for suite in Suite::ALL {
        let hsm = MemoryHsm::with_suite(suite).expect("made");
        let share = || ToSeal { context: context(1), share: Zeroizing::new([1; 64]) };
        let records = seal(NODE, &[share(), share()], |secrets| hsm.wrap(secrets)).expect("seals").records;
        let wrapped = suite.record_length(KEY);
        assert_eq!(records[0].len(), wrapped + NONCE + SHARE + TAG);
        assert_eq!(records[0][..wrapped], records[1][..wrapped]);
        for (from, to) in [(0, NONCE), (NONCE, NONCE + SHARE), (NONCE + SHARE, NONCE + SHARE + TAG)] {
            let part = |record: &[u8]| record[wrapped + from..wrapped + to].to_vec();
            assert_ne!(part(&records[0]), part(&records[1]));
        }
        assert_ne!(sealed(&hsm, 1..2)[0][..wrapped], records[0][..wrapped], "another registration has another key");
    }
}

#[test]
fn what_was_altered_cut_or_moved_does_not_open_and_spoils_no_other() {
    for suite in Suite::ALL {
        let hsm = MemoryHsm::with_suite(suite).expect("made");
        let (records, foreign) = (sealed(&hsm, 0..3), sealed(&hsm, 7..8));
        let good = &records[0];
        for position in 0..good.len() {
            let mut altered = good.clone();
            altered[position] ^= if position == 1 { 3 } else { 1 };
            let found = opened(&hsm, &[(0, &altered), (1, &records[1])]);
            assert_eq!(found, [None, Some(1)], "byte {position}");
        }
        for end in 0..good.len() {
            assert_eq!(opened(&hsm, &[(0, &good[..end])]), [None], "cut at {end}");
        }
        let longer = [good.as_slice(), &[0]].concat();
        let wrapped = suite.record_length(KEY);
        // The data key of another registration before the share, and the other way round.
        let mixed = [&foreign[0][..wrapped], &good[wrapped..]].concat();
        assert_eq!(opened(&hsm, &[(0, &longer), (0, &mixed), (1, good), (0, good)]), [None, None, None, Some(0)]);
        // A node does not open what another one sealed, even with its token.
        let elsewhere = NodeId::from_bytes([9; 16]);
        let one = [ToOpen { context: context(0), record: good }];
        assert!(open(&hsm, elsewhere, &one).expect("answers")[0].is_err());
        let other = MemoryHsm::with_suite(suite).expect("made");
        assert_eq!(opened(&other, &[(0, good)]), [None]);
    }
}

#[test]
fn every_field_changes_the_additional_data() {
    let base = context(1);
    let first = base.additional_data(NODE);
    let others = [
        ShareContext { key: KeyId::from_bytes([9; 16]), ..base },
        ShareContext { epoch: Epoch::new(9), ..base },
        ShareContext { index: ShareIndex::new(9).expect("not zero"), ..base },
        ShareContext { manifest: [9; 32], ..base },
    ];
    for other in others {
        assert_ne!(other.additional_data(NODE), first);
        assert_eq!(other.additional_data(NODE).len(), first.len());
    }
    assert_ne!(base.additional_data(NodeId::from_bytes([9; 16])), first);
}

#[test]
fn records_of_one_data_key_have_one_again_after_a_rotation() {
    for suite in Suite::ALL {
        let hsm = Counting::new(suite);
        let (first, second) = (sealed(&hsm, 0..10), sealed(&hsm, 10..20));
        let mut altered = first[3].clone();
        *altered.last_mut().expect("not empty") ^= 1;
        let next = hsm.token.make_kek().expect("made");
        hsm.adopt(next).expect("is there");
        let wrapped = suite.record_length(KEY);
        let mut all: Vec<(u8, &[u8])> = (0..).zip(first.iter().chain(&second).map(Vec::as_slice)).collect();
        all[3].1 = &altered;
        let mut rewrap = Rewrap::default();
        let mut anew = Vec::new();
        hsm.asked();
        // Steps end in the middle of a registration.
        for step in all.chunks(7) {
            let records: Vec<_> =
                step.iter().map(|(number, record)| ToOpen { context: context(*number), record }).collect();
            anew.extend(rewrap.step(&hsm, NODE, &records, |secrets| hsm.wrap(secrets)).expect("answers"));
        }
        assert_eq!(hsm.asked(), (2, 4), "each data key is wrapped once");
        assert_eq!(anew.remove(3), Err(Opaque), "what does not open is told");
        let anew: Vec<Vec<u8>> = anew.into_iter().map(|record| record.expect("opens")).collect();
        let numbers = (0..3).chain(4..20);
        let records: Vec<(u8, &[u8])> = numbers.clone().zip(anew.iter().map(Vec::as_slice)).collect();
        assert_eq!(opened(&hsm, &records), numbers.map(Some).collect::<Vec<_>>());
        assert_eq!(hsm.asked(), (0, 2));
        for (number, record) in records {
            assert_eq!(Record::parse(&record[..wrapped]).expect("a record").kek, next);
            assert_eq!(record[wrapped..], all[usize::from(number)].1[wrapped..], "sealed shares stay");
        }
        // Rotated once more in the middle: the last wrapped data key is not used again.
        let last = hsm.token.make_kek().expect("made");
        hsm.adopt(last).expect("is there");
        let one = [ToOpen { context: context(19), record: all[19].1 }];
        let record = rewrap.step(&hsm, NODE, &one, |secrets| hsm.wrap(secrets)).expect("answers").remove(0);
        assert_eq!(Record::parse(&record.expect("opens")[..wrapped]).expect("a record").kek, last);
    }
}

/// The same in Python's `cryptography`: AES-256-GCM, key 0..31, nonce of 12 bytes 0xA0, the share 64 bytes 0x40, and this
/// additional data.
#[test]
fn a_sealed_share_is_what_another_implementation_makes_of_it() {
    let index = ShareIndex::new(4).expect("not zero");
    let context = ShareContext { key: KeyId::from_bytes([1; 16]), epoch: Epoch::new(3), index, manifest: [5; 32] };
    let data = context.additional_data(NodeId::from_bytes([2; 16]));
    assert_eq!(crate::hex::encode(&data), ADDITIONAL_DATA);
    let key: Vec<u8> = (0..32).collect();
    let key = DataKey::new(&key).expect("32 bytes");
    let sealed = key.seal([0xa0; 12], &data, &Zeroizing::new([0x40; 64])).expect("seals");
    assert_eq!(crate::hex::encode(&sealed), SEALED);
}

const ADDITIONAL_DATA: &str = "0d006564732f76312f7265636f7264020001001000010101010101010101010101010101011000020202020202020202\
     020202020202020400030000000200040020000505050505050505050505050505050505050505050505050505050505\
     050505";
const SEALED: &str = "a0a0a0a0a0a0a0a0a0a0a0a065f122a3fe840e9df911cec2ad7fb0ee85f8d9a5f2ad695b494e057222544d2d28e2386b\
     8f7596884d2c17e671ef3af5f617d6ef1b8380d62f15a07a29cdcbc0fad7f9b90b845ac6d741dee38c917300";

#[test]
fn a_data_key_vouches_for_the_list_of_its_share_and_for_no_other() {
    for suite in Suite::ALL {
        let hsm = Counting::new(suite);
        let share = |number| ToSeal { context: context(number), share: Zeroizing::new([number; 64]) };
        let made = seal(NODE, &[share(1), share(2)], |secrets| hsm.wrap(secrets)).expect("seals");
        let another = seal(NODE, &[share(1)], |secrets| hsm.wrap(secrets)).expect("seals");
        let list = [7; 32];
        let voucher = made.voucher(&context(1), NODE, &list).expect("vouches");
        hsm.asked();
        let records = [&made.records[0], &made.records[1], &another.records[0]].map(Vec::as_slice);
        let to_open = |context, record| ToOpen { context, record };
        let [own, other, anew] = records;
        let asked = [to_open(context(1), own), to_open(context(2), other), to_open(context(1), anew)];
        let keys = Unwrapped::of(&hsm, NODE, &asked).expect("answers");
        assert_eq!(hsm.asked(), (0, 2), "one for each registration, shares included");
        assert!(keys.vouches(0, &list, &voucher) && keys.open(0).is_ok());
        assert_eq!(keys.voucher(0, &list), Some(voucher));
        assert!(!keys.vouches(1, &list, &voucher), "of another key");
        assert!(!keys.vouches(2, &list, &voucher), "of a share that was sealed anew");
        assert!(!keys.vouches(3, &list, &voucher), "of nothing");
        for bit in 0..256 {
            let flipped = |bytes: &[u8; 32]| {
                let mut bytes = *bytes;
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            };
            assert!(
                !keys.vouches(0, &flipped(&list), &voucher) && !keys.vouches(0, &list, &flipped(&voucher)),
                "{bit}"
            );
        }
        // The same record, said to be of something else.
        let base = context(1);
        let elsewhere = [
            ShareContext { key: KeyId::from_bytes([9; 16]), ..base },
            ShareContext { epoch: Epoch::new(1), ..base },
            ShareContext { index: ShareIndex::new(4).expect("not zero"), ..base },
            ShareContext { manifest: [9; 32], ..base },
        ];
        let keys = elsewhere.map(|context| to_open(context, own));
        let keys = Unwrapped::of(&hsm, NODE, &keys).expect("answers");
        assert!((0..4).all(|position| !keys.vouches(position, &list, &voucher)));
        let node = NodeId::from_bytes([9; 16]);
        assert!(!Unwrapped::of(&hsm, node, &[to_open(base, own)]).expect("answers").vouches(0, &list, &voucher));
        // A rotation wraps the data key anew: what it said stays true.
        let record = [to_open(base, own)];
        hsm.adopt(hsm.token.make_kek().expect("made")).expect("there");
        let anew = Rewrap::default().step(&hsm, NODE, &record, |secrets| hsm.wrap(secrets)).expect("wraps");
        let record = anew[0].as_ref().expect("opens");
        let keys = Unwrapped::of(&hsm, NODE, &[to_open(base, record)]).expect("answers");
        assert!(record.as_slice() != own && keys.vouches(0, &list, &voucher));
    }
}
