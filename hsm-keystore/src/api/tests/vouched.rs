//! Access lists that the data key of the share vouches for: what is believed for the voucher, for the HMAC by the token's
//! policy key, and for neither.

use eds_core::{api::access::PermissionsText, ids::KeyId, permissions::Permissions};
use sha2::{Digest, Sha256};

use super::{
    harness::{TestNode, next_version, people, person},
    list,
};
use crate::{
    policy::{AccessList, stored::encode},
    shares::Unwrapped,
    store::{AccessChange, Changed, StoredAccess},
};

fn access_of(node: &TestNode, key: KeyId) -> StoredAccess {
    node.node.store.read(&[key]).expect("reads").remove(0).expect("there").body.expect("not deleted").access
}

/// What somebody does who can write the database.
fn put(node: &TestNode, key: KeyId, new: StoredAccess) {
    let change = AccessChange { key, seen: access_of(node, key), new };
    assert!(matches!(node.node.store.change_access(&[change], 0).expect("writes").as_slice(), [Changed::Done(_)]));
}

/// How often the token was asked for HMACs, and for data keys.
fn asked(node: &TestNode) -> (u64, u64) {
    let text = node.node.metrics.text(&node.node);
    let count = |operation: &str| {
        let line =
            text.lines().find(|line| line.contains(&format!("operation=\"{operation}\"")) && line.contains("_count{"));
        line.and_then(|line| line.rsplit(' ').next()).map_or(0, |count| count.parse().expect("a number"))
    };
    (count("mac"), count("unwrap"))
}

async fn words(node: &TestNode, caller: &str, keys: &[KeyId]) -> Vec<String> {
    let answers = node.fetch(&people()[caller], keys).await;
    answers.into_iter().map(|answer| answer.word.unwrap_or_else(|| "released".into())).collect()
}

#[tokio::test]
async fn a_first_fetch_asks_the_token_for_the_data_key_and_for_nothing_else() {
    let node = TestNode::new();
    let keys = [(); 3].map(|()| node.store(&AccessList::of_new_key(person("owner"), None), false));
    let before = asked(&node);
    assert_eq!(words(&node, "owner", &keys).await, ["released"; 3]);
    assert_eq!(asked(&node), (before.0, before.1 + 1));
    // Who is not on the list gets no data key unwrapped.
    let before = asked(&node);
    assert_eq!(words(&node, "stranger", &keys).await, ["not-permitted"; 3]);
    assert_eq!(asked(&node), (before.0 + 1, before.1));
}

#[tokio::test]
async fn without_a_right_voucher_a_list_is_believed_for_its_hmac_and_without_either_never() {
    let node = TestNode::new();
    let owners = AccessList::of_new_key(person("owner"), None);
    let [key, other] = [(); 2].map(|()| node.store(&owners, false));
    let (right, of_other) = (access_of(&node, key), access_of(&node, other));
    let hmac = *right.hmac().expect("there");
    // A database of a release before has none.
    put(&node, key, StoredAccess::new(right.list.clone(), &hmac));
    assert_eq!(words(&node, "owner", &[key]).await, ["released"]);
    // That of another key, or of nothing.
    for voucher in [*of_other.voucher().expect("there"), [0; 32]] {
        put(&node, key, right.clone().vouched(Some(voucher)));
        assert_eq!(words(&node, "owner", &[key, other]).await, ["released"; 2]);
    }
    let strangers = encode(&AccessList::of_new_key(person("stranger"), None)).expect("fits");
    // Another list with the proofs of the right one, in whole or in part, and bytes that are no proof at all.
    for mac in [right.mac.clone(), hmac.to_vec(), [[0; 32], *right.voucher().expect("there")].concat(), vec![0; 64]] {
        put(&node, key, StoredAccess { list: strangers.clone(), mac });
        assert_eq!(words(&node, "stranger", &[key]).await, ["access-list-altered"]);
        assert_eq!(words(&node, "owner", &[key]).await, ["access-list-altered"]);
    }
    for mac in [Vec::new(), vec![0; 32], vec![0; 64], [&right.mac[..], &[0]].concat(), right.mac[..63].to_vec()] {
        put(&node, key, StoredAccess { list: right.list.clone(), mac: mac.clone() });
        assert_eq!(words(&node, "owner", &[key]).await, ["access-list-altered"], "{}", mac.len());
    }
    put(&node, key, right);
    assert_eq!(words(&node, "owner", &[key, other]).await, ["released"; 2]);
}

#[tokio::test]
async fn a_pending_key_whose_list_is_vouched_for_stays_its_registrants() {
    let node = TestNode::new();
    let key = node.store(&list("others", Permissions::from_bits(u8::MAX)), true);
    assert_eq!(words(&node, "stranger", &[key]).await, ["key-pending"]);
    assert_eq!(words(&node, "owner", &[key]).await, ["released"]);
}

#[tokio::test]
async fn more_keys_than_are_read_at_a_time_are_answered_in_their_order() {
    let node = TestNode::new();
    let (owners, friends) =
        (AccessList::of_new_key(person("owner"), None), list("friend", Permissions::from_bits(u8::MAX)));
    let stored: Vec<KeyId> = (0..300).map(|n| node.store(if n % 7 == 3 { &friends } else { &owners }, false)).collect();
    let mut keys = stored.clone();
    keys.insert(128, KeyId::from_bytes([9; 16]));
    let wanted = (0..301).map(|n| match n {
        128 => "key-not-found",
        n if (n - usize::from(n > 128)) % 7 == 3 => "not-permitted",
        _ => "released",
    });
    assert_eq!(words(&node, "owner", &keys).await, wanted.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_changed_list_is_vouched_for_anew() {
    let node = TestNode::new();
    let key = node.store(&AccessList::of_new_key(person("owner"), None), false);
    let before = access_of(&node, key);
    let to_all = |list: &mut eds_core::api::access::AccessList| {
        next_version(list);
        list.others_may = PermissionsText(Permissions::from_bits(u8::MAX));
    };
    assert!(node.change(&people()["owner"], &[(key, to_all)]).await.iter().all(|answer| answer.allowed));
    let after = access_of(&node, key);
    assert!(before.list != after.list && before.voucher() != after.voucher());
    let stored = node.node.store.read(&[key]).expect("reads").remove(0).expect("there");
    let body = stored.body.as_ref().expect("not deleted");
    let keys =
        Unwrapped::of(node.node.hsm.as_ref(), node.node.id, &[node.node.to_open(&stored, body)]).expect("answers");
    let digest = Sha256::digest(&after.list).into();
    assert!(keys.vouches(0, &digest, after.voucher().expect("there")));
    let asked_before = asked(&node);
    assert_eq!(words(&node, "stranger", &[key]).await, ["released"]);
    assert_eq!(asked(&node).0, asked_before.0);
    // The list before it, put back, is the risk that the audit log answers for.
    put(&node, key, before);
    assert_eq!(words(&node, "stranger", &[key]).await, ["not-permitted"]);
}
