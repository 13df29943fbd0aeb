//! Entries survive their bytes, and bytes that no encoder writes are refused.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::testing::sample;

fn encoded(decision: &Decision, sequence: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    decision.encode(sequence, &mut bytes).expect("few keys");
    bytes
}

#[test]
fn the_golden_entry_reads_and_writes_as_ever() {
    let golden = include_bytes!("../../tests/data/audit-entry-v1.bin");
    let mut decision = sample(2);
    decision.access_list = Some([3; 32]);
    assert_eq!(encoded(&decision, 41), golden);
    assert_eq!(Entry::decode(golden), Ok(Entry { sequence: 41, decision }));
}

#[test]
fn the_golden_entry_with_a_detail_reads_and_writes_as_ever() {
    let golden = include_bytes!("../../tests/data/audit-entry-v2.bin");
    let decision = with_detail();
    assert_eq!(encoded(&decision, 42), golden);
    assert_eq!(Entry::decode(golden), Ok(Entry { sequence: 42, decision }));
}

fn with_detail() -> Decision {
    let who = Who {
        proof: Proof::Console,
        display: "uid 1001".to_owned(),
        subject: None,
        evidence: "login uid 1002".to_owned(),
    };
    let detail = "KEK 11 wraps new shares; KEK 22 is read-only".to_owned();
    Decision { request: RequestId([8; 16]), detail, ..Decision::plain(1_764_000_000_042, Operation::KEK_ROTATE, who) }
}

#[test]
fn unknown_versions_and_every_truncation_are_refused() {
    let bytes = encoded(&sample(5), 5);
    for end in 0..bytes.len() {
        assert_eq!(Entry::decode(&bytes[..end]), Err(Error::Truncated), "cut at {end}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(Entry::decode(&longer), Err(Error::TrailingBytes));
    let mut newer = bytes;
    newer[0] = 3;
    assert_eq!(Entry::decode(&newer), Err(Error::UnknownVersion(3)));
    let with = encoded(&with_detail(), 5);
    for end in 0..with.len() {
        assert_eq!(Entry::decode(&with[..end]), Err(Error::Truncated), "cut at {end}");
    }
}

#[test]
fn an_entry_has_one_encoding_with_and_without_a_detail() {
    // Version 2 without a detail, and version 1 with one, are written by nobody.
    let mut empty = encoded(&sample(5), 5);
    empty[0] = 2;
    empty.extend_from_slice(&[0, 0]);
    assert_eq!(Entry::decode(&empty), Err(Error::Malformed));
    let mut older = encoded(&with_detail(), 5);
    older[0] = 1;
    assert_eq!(Entry::decode(&older), Err(Error::TrailingBytes));
    let long = Decision { detail: "x".repeat(2 * MAX_DETAIL), ..with_detail() };
    assert_eq!(Entry::decode(&encoded(&long, 1)).expect("an entry").decision.detail.len(), MAX_DETAIL);
}

#[test]
fn texts_that_are_too_long_are_cut_between_characters() {
    let mut decision = sample(0);
    decision.who.display = "é".repeat(600);
    decision.outcome = Outcome::Refused("x".repeat(300));
    let entry = Entry::decode(&encoded(&decision, 0)).expect("an entry");
    assert_eq!(entry.decision.who.display, "é".repeat(512));
    assert_eq!(entry.decision.outcome, Outcome::Refused("x".repeat(255)));
}

#[test]
fn a_full_batch_fits_and_one_key_more_does_not() {
    let mut decision = sample(0);
    decision.keys = vec![KeyId::from_bytes([9; 16]); MAX_KEYS];
    decision.who.display = "d".repeat(MAX_DISPLAY);
    decision.who.evidence = "e".repeat(MAX_EVIDENCE);
    decision.detail = "f".repeat(MAX_DETAIL);
    assert!(encoded(&decision, 1).len() <= MAX_BYTES);
    decision.keys.push(KeyId::from_bytes([9; 16]));
    let mut out = vec![1, 2, 3];
    assert_eq!(decision.encode(1, &mut out), Err(Error::TooLong));
    assert_eq!(out, [1, 2, 3]);
}

#[test]
fn operations_are_short_plain_names() {
    assert_eq!(Operation::new("key.fetch"), Ok(Operation::FETCH));
    for wrong in ["", "Key", "a b", "a\n", "ä", &"a".repeat(33)] {
        assert!(Operation::new(wrong).is_err(), "{wrong:?} was taken");
    }
}

fn decisions() -> impl Strategy<Value = Decision> {
    let outcome = prop_oneof![
        Just(Outcome::Allowed),
        "[a-zé ]{0,40}".prop_map(Outcome::Refused),
        "[a-z ]{0,40}".prop_map(Outcome::Failed)
    ];
    let peer = prop_oneof![
        Just(None),
        any::<[u8; 4]>().prop_map(|a| Some(IpAddr::V4(Ipv4Addr::from(a)))),
        any::<[u8; 16]>().prop_map(|a| Some(IpAddr::V6(Ipv6Addr::from(a))))
    ];
    let who =
        (0usize..7, ".{0,30}", any::<Option<[u8; 32]>>(), ".{0,30}").prop_map(|(proof, display, subject, evidence)| {
            Who { proof: Proof::CODES[proof].1, display, subject, evidence }
        });
    let keys = proptest::collection::vec(any::<[u8; 16]>().prop_map(KeyId::from_bytes), 0..5);
    let list = any::<Option<[u8; 32]>>();
    (any::<(u64, [u8; 16])>(), "[a-z.-]{1,32}", outcome, "[a-z:0-9]{0,64}", who, peer, keys, list, "[a-z ]{0,9}")
        .prop_map(|((time, request), operation, outcome, rule, who, peer, keys, access_list, detail)| Decision {
            time,
            request: RequestId(request),
            operation: Operation::new(&operation).expect("a plain name"),
            outcome,
            rule,
            who,
            peer,
            keys,
            access_list,
            detail,
        })
}

proptest! {
    #[test]
    fn every_entry_survives_its_bytes(decision in decisions(), sequence: u64) {
        let bytes = encoded(&decision, sequence);
        prop_assert_eq!(Entry::decode(&bytes), Ok(Entry { sequence, decision }));
    }

    #[test]
    fn what_decodes_is_canonical(decision in decisions(), position: prop::sample::Index, flip in 1u8..) {
        let mut bytes = encoded(&decision, 3);
        let position = position.index(bytes.len());
        bytes[position] ^= flip;
        if let Ok(entry) = Entry::decode(&bytes) {
            prop_assert_eq!(encoded(&entry.decision, entry.sequence), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = Entry::decode(&bytes);
    }
}
