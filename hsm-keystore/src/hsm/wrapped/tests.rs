//! Over the token in memory: what was wrapped opens again for the node and the purpose it was made for, and else never.

use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};

use super::*;
use crate::hsm::{Hsm, memory::MemoryHsm};

const NODE: NodeId = NodeId::from_bytes([8; 16]);

fn token() -> MemoryHsm {
    MemoryHsm::with_suite(Suite::Aes256CbcHmac).expect("made")
}

fn made(hsm: &MemoryHsm) -> WrappedKeys {
    WrappedKeys::make(NODE, &Pair::ALL, |secrets| hsm.wrap(secrets)).expect("made")
}

fn open(keys: &WrappedKeys, hsm: &MemoryHsm) -> Result<HeldKeys, WrappedError> {
    keys.open(|records| hsm.unwrap(records))
}

fn blamed(keys: &WrappedKeys, hsm: &MemoryHsm) -> &'static str {
    match open(keys, hsm) {
        Err(WrappedError::Unreadable { label, .. }) => label,
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_are_the_ones_that_were_made_also_by_way_of_their_file() {
    let hsm = token();
    let keys = made(&hsm);
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("wrapped.json");
    keys.create(&file).expect("written");
    let read = WrappedKeys::load(&file).expect("read");
    assert_eq!(read, keys);
    assert!(matches!(keys.create(&file), Err(WrappedError::Io { .. })), "it is written once");
    let held = open(&read, &hsm).expect("opens");
    for pair in Pair::ALL {
        assert_eq!(held.public(pair), keys.public(pair));
    }
    let (peer, _) = software::fresh_key().expect("made");
    let peer_point =
        eds_core::sealing::PublicKey::try_from(&software::compressed(&peer.public_key())).expect("a point");
    let ours = held.dh(peer_point.as_bytes()).expect("here").expect("agrees");
    let transport = p256::PublicKey::from_sec1_bytes(&keys.public(Pair::Transport).expect("here").0).expect("a point");
    let theirs = p256::elliptic_curve::ecdh::diffie_hellman(peer.to_nonzero_scalar(), transport.as_affine());
    assert_eq!(ours.as_slice(), theirs.raw_secret_bytes().as_slice());
    let signature = Signature::from_slice(&held.sign(&[7; 32]).expect("here").expect("signs")).expect("two scalars");
    let audit = VerifyingKey::from_sec1_bytes(&keys.public(Pair::Audit).expect("here").0).expect("a point");
    audit.verify_prehash(&[7; 32], &signature).expect("verifies");
    assert_eq!(format!("{held:?}"), "HeldKeys(<redacted>)");
}

#[test]
fn not_one_bit_of_a_record_may_change() {
    let hsm = token();
    let keys = made(&hsm);
    for key in [0, 1] {
        for position in 0..keys.keys[key].record.len() {
            let mut altered = keys.clone();
            altered.keys[key].record[position] ^= if position == 1 { 3 } else { 1 };
            assert_eq!(blamed(&altered, &hsm), keys.keys[key].pair.label(), "byte {position}");
        }
        let mut short = keys.clone();
        short.keys[key].record.truncate(20);
        assert_eq!(blamed(&short, &hsm), keys.keys[key].pair.label());
    }
}

#[test]
fn another_kek_opens_nothing() {
    let keys = made(&token());
    let error = open(&keys, &token()).expect_err("another token").to_string();
    let (_, kek) = keys.keys[0].wrapped_by().expect("a record");
    assert!(error.contains(&kek.to_string()) && error.contains("hint:"), "{error}");
}

#[test]
fn keys_of_another_node_or_for_another_purpose_do_not_open() {
    let hsm = token();
    let keys = made(&hsm);
    let other = WrappedKeys { node: NodeId::from_bytes([9; 16]), ..keys.clone() };
    assert_eq!(blamed(&other, &hsm), "eds-transport");
    // The audit key in the place of the transport key, with its own public half and with the other's.
    let mut swapped = keys.clone();
    swapped.keys[0].record.clone_from(&keys.keys[1].record);
    assert_eq!(blamed(&swapped, &hsm), "eds-transport");
    swapped.keys[0].public = keys.keys[1].public;
    assert_eq!(blamed(&swapped, &hsm), "eds-transport");
    // A data key is no private key.
    let data_key = RecordContext { purpose: Purpose::DataKey, ..keys.context(&keys.keys[0]) };
    let secret = Zeroizing::new(software::fresh_key().expect("made").1.to_vec());
    let mut foreign = keys.clone();
    foreign.keys[0].record = hsm.wrap(vec![ToWrap { context: data_key, secret }]).expect("wraps").remove(0);
    assert_eq!(blamed(&foreign, &hsm), "eds-transport");
}

#[test]
fn a_key_that_is_not_its_public_half_is_refused() {
    let hsm = token();
    let mut keys = made(&hsm);
    let secret = Zeroizing::new(software::fresh_key().expect("made").1.to_vec());
    let context = keys.context(&keys.keys[0]);
    keys.keys[0].record = hsm.wrap(vec![ToWrap { context, secret }]).expect("wraps").remove(0);
    assert_eq!(blamed(&keys, &hsm), "eds-transport");
    for wrong in [vec![0; 32], vec![0xff; 32], vec![1; 31], Vec::new()] {
        let item = ToWrap { context, secret: Zeroizing::new(wrong) };
        keys.keys[0].record = hsm.wrap(vec![item]).expect("wraps").remove(0);
        assert_eq!(blamed(&keys, &hsm), "eds-transport");
    }
}

#[test]
fn keys_are_wrapped_anew_without_becoming_others() {
    let (old, new) = (token(), token());
    let keys = made(&old);
    let anew = keys.wrapped_anew(|records| old.unwrap(records), |secrets| new.wrap(secrets)).expect("wrapped");
    assert_eq!(open(&anew, &new).expect("opens").public(Pair::Transport), keys.public(Pair::Transport));
    open(&anew, &old).expect_err("the old KEK is out of use");
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("wrapped.json");
    keys.create(&file).expect("written");
    anew.replace(&file).expect("replaced");
    assert_eq!(WrappedKeys::load(&file).expect("read"), anew);
}

#[test]
fn a_token_that_is_out_of_order_is_told_as_such() {
    let hsm = token();
    let keys = made(&hsm);
    hsm.set_out_of_order(true);
    assert!(matches!(open(&keys, &hsm), Err(WrappedError::Hsm(HsmError::Unavailable { .. }))));
}

#[test]
fn a_file_that_is_not_as_it_was_written_is_refused() {
    let hsm = token();
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("wrapped.json");
    made(&hsm).create(&file).expect("written");
    let good = fs::read_to_string(&file).expect("read");
    let twice = good.replace("eds-audit", "eds-transport");
    let none = format!("{{\"format\":\"{FORMAT}\",\"note\":\"\",\"node\":\"{NODE}\",\"keys\":[]}}");
    for wrong in [
        "",
        "{}",
        &good[..good.len() / 2],
        &good.replace("/v1/", "/v2/"),
        &good.replace("eds-audit", "eds-kek"),
        &twice,
        &none,
    ] {
        fs::write(&file, wrong).expect("written");
        assert!(matches!(WrappedKeys::load(&file), Err(WrappedError::Malformed { .. })), "{wrong}");
    }
    fs::remove_file(&file).expect("removed");
    assert!(matches!(WrappedKeys::load(&file), Err(WrappedError::Io { .. })));
}
