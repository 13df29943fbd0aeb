//! What somebody can do who writes the database but does not have the token: nothing but damage, which is told.

use eds_core::api::{FetchAnswer, KeysAnswer};
use eds_keystore::{
    authn::x509,
    policy::{AccessList, Permission, Permissions},
};
use hyper::StatusCode;
use rusqlite::params;

use crate::common::{
    keys::{Fetch, Key, named, registration},
    node::TestNode,
    pki::Credential,
};

async fn pending(node: &TestNode, who: &Credential, id: u8) -> Key {
    let key = Key::new(node);
    let answer = node.post(who, "/v1/register", &registration(node, who, id, &[&key])).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    key
}

async fn words(node: &TestNode, who: &Credential, keys: &[&Key]) -> Vec<Option<String>> {
    let ids: Vec<_> = keys.iter().map(|key| key.id()).collect();
    let fetch = Fetch::of(&ids);
    let answer: FetchAnswer = fetch.send(node, who).await.json();
    let released = answer.results.iter().filter(|result| result.problem.is_none()).count();
    assert_eq!(fetch.open(node, &answer).expect("opens").len(), released);
    answer.results.into_iter().map(|result| result.problem.map(|problem| problem.word().to_owned())).collect()
}

#[tokio::test]
async fn an_altered_access_list_releases_its_key_to_nobody() {
    let node = TestNode::start().await;
    let (alice, mallory) = (node.users.user("alice"), node.users.user("mallory"));
    let (key, other, mallorys) =
        (pending(&node, &alice, 1).await, pending(&node, &alice, 2).await, pending(&node, &mallory, 1).await);
    // Once, so that the right lists are remembered.
    assert_eq!(words(&node, &alice, &[&key, &other]).await, [None, None]);
    // Mallory puts her own, perfectly good, access list in the place of Alice's.
    node.tamper(
        "UPDATE keys SET (access, access_mac, registrant) = (SELECT access, access_mac, registrant FROM keys WHERE id = ?2) \
         WHERE id = ?1",
        params![key.id().as_bytes(), mallorys.id().as_bytes()],
    );
    let altered = Some("access-list-altered".to_owned());
    assert_eq!(words(&node, &mallory, &[&key, &mallorys]).await, [altered.clone(), None]);
    assert_eq!(words(&node, &alice, &[&key, &other]).await, [altered.clone(), None]);
    let answer = node.get(&alice, &format!("/v1/keys/{}", key.id())).await;
    assert_eq!((answer.status, answer.word()), (StatusCode::INTERNAL_SERVER_ERROR, "access-list-altered".to_owned()));
    let deleted = node.post(&mallory, "/v1/unregister", &named(&[key.id()])).await.json::<KeysAnswer>();
    assert_eq!(deleted.results[0].problem.as_ref().expect("refused").word(), "access-list-altered");
    // One bit of the other one.
    node.tamper(
        "UPDATE keys SET access = CAST(substr(access, 1, 20) || X'FF' || substr(access, 22) AS BLOB) WHERE id = ?1",
        [other.id().as_bytes()],
    );
    assert_eq!(words(&node, &alice, &[&other]).await, [altered]);
}

#[tokio::test]
async fn an_altered_or_moved_share_does_not_open_and_spoils_no_other() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let keys = [
        pending(&node, &alice, 1).await,
        pending(&node, &alice, 2).await,
        pending(&node, &alice, 3).await,
        pending(&node, &alice, 4).await,
    ];
    let all: Vec<&Key> = keys.iter().collect();
    node.tamper(
        "UPDATE keys SET record = CAST(substr(record, 1, 50) || X'00' || substr(record, 52) AS BLOB) WHERE id = ?1",
        [keys[0].id().as_bytes()],
    );
    node.tamper(
        "UPDATE keys SET record = (SELECT record FROM keys WHERE id = ?2) WHERE id = ?1",
        params![keys[1].id().as_bytes(), keys[3].id().as_bytes()],
    );
    node.tamper("UPDATE keys SET manifest_digest = zeroblob(32) WHERE id = ?1", [keys[2].id().as_bytes()]);
    let unreadable = || Some("share-unreadable".to_owned());
    assert_eq!(words(&node, &alice, &all).await, [unreadable(), unreadable(), unreadable(), None]);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_fails_its_own_key_and_no_other() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let (key, damaged) = (pending(&node, &alice, 1).await, pending(&node, &alice, 2).await);
    node.tamper("UPDATE keys SET registrant = X'00' WHERE id = ?1", [damaged.id().as_bytes()]);
    let internal = Some("internal".to_owned());
    assert_eq!(words(&node, &alice, &[&damaged, &key]).await, [internal, None]);
    assert_eq!(words(&node, &alice, &[&key]).await, [None]);
    // Alone it is told of the whole call, as when the database fails.
    let answer = Fetch::of(&[damaged.id()]).send(&node, &alice).await;
    assert_eq!((answer.status, answer.word()), (StatusCode::INTERNAL_SERVER_ERROR, "internal".to_owned()));
}

#[tokio::test]
async fn a_pending_key_is_for_its_registrant_alone() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.users.user("alice"), node.users.user("bob"));
    let key = pending(&node, &alice, 1).await;
    // An access list that lets everybody fetch, properly sealed.
    let owner = x509::named_by(&alice.certificate).expect("a name");
    let mut list = AccessList::of_new_key(owner, None);
    list.others_may = Permissions::NONE.with(Permission::Fetch);
    let sealed = node.node.access.seal(&[(key.id(), list)]).expect("seals").remove(0);
    node.tamper(
        "UPDATE keys SET access = ?2, access_mac = ?3 WHERE id = ?1",
        params![key.id().as_bytes(), sealed.list, sealed.mac],
    );
    assert_eq!(words(&node, &bob, &[&key]).await, [Some("key-pending".to_owned())]);
    assert_eq!(words(&node, &alice, &[&key]).await, [None]);
    node.post(&alice, "/v1/confirm", &named(&[key.id()])).await;
    assert_eq!(words(&node, &bob, &[&key]).await, [None]);
}
