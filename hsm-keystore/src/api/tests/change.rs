//! Changes of access lists: compare-and-swap, versions that rise, and no other key touched.

use eds_core::{
    api::{
        Binary, KeyState, KeyText, KeysRequest,
        access::{Change, Entry, Grantee, PermissionsText},
    },
    ids::KeyId,
    permissions::Permissions,
};
use sha2::{Digest, Sha256};

use super::{
    harness::{TestNode, next_version, people},
    list,
};
use crate::{
    audit::{Decision, Outcome},
    policy::{AccessList, wire},
};

fn words(answers: &[super::harness::Answer]) -> Vec<Option<&str>> {
    answers.iter().map(|answer| answer.word.as_deref()).collect()
}

/// A change from this list, as the client sends it.
fn change(key: KeyId, from: &AccessList, edit: impl FnOnce(&mut eds_core::api::access::AccessList)) -> Change {
    let mut access = wire::shown(from);
    let seen = Binary(access.digest().to_vec());
    edit(&mut access);
    Change { key: KeyText(key), seen, access }
}

fn grant(group: &str, letters: &str) -> Entry {
    Entry { who: Grantee::Group(group.into()), may: PermissionsText(letters.parse().expect("letters")) }
}

#[tokio::test]
async fn a_change_is_stored_once_and_touches_no_other_key() {
    // The original's setacl once wiped the lists of all other entries.
    let node = TestNode::new();
    let callers = people();
    let before = list("owner", Permissions::from_bits(255));
    let keys: Vec<KeyId> = (0..5).map(|_| node.store(&before, false)).collect();
    let rows = |keys: &[KeyId]| node.node.store.read(keys).expect("reads");
    let others = rows(&[keys[0], keys[1], keys[3], keys[4]]);
    let to_change = |list: &mut eds_core::api::access::AccessList| {
        list.version += 1;
        list.entries.push(grant("/research", "----l-g-"));
        list.others_may = PermissionsText(Permissions::NONE);
    };
    let sent = change(keys[2], &before, to_change);
    assert_eq!(words(&node.send_changes(&callers["owner"], vec![sent.clone()]).await), [None]);
    assert_eq!(rows(&[keys[0], keys[1], keys[3], keys[4]]), others);
    let after = node.stored(keys[2]);
    assert_eq!((after.version, wire::shown(&after).digest()), (1, sent.access.digest()));
    // Share, manifest and state of the key itself are untouched, too.
    let (row, mut unchanged) = (rows(&keys[2..3]).remove(0).expect("there"), others[0].clone().expect("there"));
    let body = row.body.expect("whole");
    unchanged.key = keys[2];
    assert_eq!((row.state, body.manifest), (unchanged.state, unchanged.body.expect("whole").manifest));
    // The same change again was made from a list that is no longer there.
    assert_eq!(words(&node.send_changes(&callers["owner"], vec![sent]).await), [Some("key-changed")]);
}

#[tokio::test]
async fn of_two_changes_of_one_list_the_second_is_refused() {
    let node = TestNode::new();
    let owner = &people()["owner"];
    let before = list("owner", Permissions::from_bits(255));
    let key = node.store(&before, false);
    let add = |group: &'static str| {
        change(key, &before, move |list| {
            list.version += 1;
            list.entries.push(grant(group, "g"));
        })
    };
    let (one, two) =
        tokio::join!(node.send_changes(owner, vec![add("/one")]), node.send_changes(owner, vec![add("/two")]));
    let mut outcomes = [one[0].word.clone(), two[0].word.clone()];
    outcomes.sort();
    assert_eq!(outcomes, [None, Some("key-changed".to_owned())]);
    assert_eq!(node.stored(key).entries.len(), 1);
}

#[tokio::test]
async fn versions_rise_and_not_beyond_reach() {
    let node = TestNode::new();
    let owner = &people()["owner"];
    let mut before = list("owner", Permissions::from_bits(255));
    before.version = 7;
    let key = node.store(&before, false);
    for version in [0, 6, 7, 7 + (1 << 20) + 1, u64::MAX] {
        let answer = node.send_changes(owner, vec![change(key, &before, |list| list.version = version)]).await;
        assert_eq!(words(&answer), [Some("invalid-value")], "version {version}");
    }
    node.is_unchanged(key, &before, false);
    // Repair may skip versions that the node missed.
    assert_eq!(words(&node.send_changes(owner, vec![change(key, &before, |list| list.version = 12)]).await), [None]);
    assert_eq!(node.stored(key).version, 12);
}

#[tokio::test]
async fn what_is_not_a_list_is_refused_and_the_rest_of_the_batch_is_done() {
    let node = TestNode::new();
    let owner = &people()["owner"];
    let before = list("owner", Permissions::from_bits(255));
    let keys: Vec<KeyId> = (0..4).map(|_| node.store(&before, false)).collect();
    let changes = vec![
        change(keys[0], &before, |list| {
            next_version(list);
            list.entries = vec![grant("/a", "g"), grant("/a", "l")];
        }),
        change(keys[1], &before, next_version),
        change(keys[2], &before, |list| {
            next_version(list);
            list.owner.kind = "nobody".into();
        }),
        Change { seen: Binary(vec![1, 2, 3]), ..change(keys[3], &before, next_version) },
    ];
    let answers = node.send_changes(owner, changes).await;
    assert_eq!(words(&answers), [Some("invalid-value"), None, Some("invalid-value"), Some("key-changed")]);
    for (key, version) in keys.iter().zip([0, 1, 0, 0]) {
        assert_eq!(node.stored(*key).version, version);
    }
    let twice = vec![change(keys[0], &before, next_version), change(keys[0], &before, next_version)];
    assert_eq!(words(&node.send_changes(owner, twice).await), [Some("invalid-value")]);
    let missing = change(KeyId::from_bytes([9; 16]), &before, next_version);
    assert_eq!(words(&node.send_changes(owner, vec![missing]).await), [Some("key-not-found")]);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_undone_or_unlogged() {
    let node = TestNode::new();
    let callers = people();
    let list = list("owner", Permissions::from_bits(255));
    let calls = [
        ("/v1/withdraw", "key.withdraw", KeyState::Tombstone),
        ("/v1/confirm", "key.confirm", KeyState::Active),
        ("/v1/unregister", "key.unregister", KeyState::Tombstone),
    ];
    for (path, operation, state) in calls {
        let (key, before) = (node.store(&list, true), node.decisions().len());
        let body = KeysRequest { keys: vec![KeyText(key)] };
        node.abandon(&callers["owner"], path, &body).await;
        node.abandon(&callers["stranger"], path, &body).await;
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while node.decisions().len() < before + 2 && std::time::Instant::now() < until {
            tokio::task::yield_now().await;
        }
        let told: Vec<_> = node.decisions().into_iter().skip(before).collect();
        assert!(told.iter().all(|decision| decision.operation.as_str() == operation), "{path}: {told:?}");
        let allowed = |decision: &&Decision| decision.outcome == Outcome::Allowed;
        assert_eq!((told.len(), told.iter().filter(allowed).count()), (2, 1), "{path}: {told:?}");
        while node.state(key) != Some(state) && std::time::Instant::now() < until {
            tokio::task::yield_now().await;
        }
        assert_eq!(node.state(key), Some(state), "{path}");
    }
}

#[tokio::test]
async fn a_revocation_takes_effect_with_the_answer() {
    let node = TestNode::new();
    let callers = people();
    let mut before = list("friend", Permissions::from_bits(64));
    before.owner_may = Permissions::OWNER;
    let key = node.store(&before, false);
    assert!(node.fetch(&callers["friend"], &[key]).await[0].allowed);
    let revoke = |list: &mut eds_core::api::access::AccessList| {
        list.version += 1;
        list.entries.clear();
    };
    assert!(node.change(&callers["owner"], &[(key, revoke)]).await[0].allowed);
    assert!(!node.fetch(&callers["friend"], &[key]).await[0].allowed);
}

#[tokio::test]
async fn the_audit_log_tells_who_changed_what_by_which_rule_and_who_was_refused() {
    let node = TestNode::new();
    let callers = people();
    let before = list("owner", Permissions::from_bits(255));
    let (changed, refused) =
        (node.store(&before, false), node.store(&list("group", Permissions::from_bits(255)), false));
    let changes = vec![change(changed, &before, next_version), change(refused, &before, next_version)];
    assert_eq!(words(&node.send_changes(&callers["owner"], changes).await), [None, Some("not-permitted")]);
    let decisions = node.decisions();
    let of = |key: KeyId| {
        let found: Vec<_> = decisions.iter().filter(|decision| decision.keys.contains(&key)).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        (found[0].operation.as_str(), found[0].outcome.reason(), found[0].rule.as_str(), found[0].access_list)
    };
    // What was written ahead of the change is the digest of the very bytes that are stored now.
    let stored = node.node.store.read(&[changed]).expect("reads").remove(0).expect("there").body.expect("whole");
    let digest = <[u8; 32]>::from(Sha256::digest(&stored.access.list));
    assert_eq!(of(changed), ("acl.change", None, "owner", Some(digest)));
    assert_eq!(of(refused), ("acl.change", Some("not-permitted"), "", None));
}
