//! The quorum client against nodes in memory that can be told to be away, slow, or to lie.

pub(super) mod nodes;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use eds_core::{ids::KeyId, manifest::Manifest};

use self::nodes::{Mood, Nodes, cluster};
use super::{Evidence, FetchError, Keystore, NewKey, RegisterError, Terms, Want};

fn needing(needed: u8) -> Terms {
    Terms { needed: Some(needed), ..Terms::default() }
}

async fn registered(client: &Keystore<Nodes>) -> (KeyId, [u8; 32], Manifest) {
    let key = NewKey::random();
    let (id, input) = (key.id, *key.secret.input_key("file", key.id).as_bytes());
    let prepared = client.prepare(&[key], Terms::default()).expect("splits");
    let manifest = client.register(prepared).await.expect("registers").manifests.remove(0);
    (id, input, manifest)
}

async fn fetch(client: &Keystore<Nodes>, key: KeyId, evidence: Evidence) -> Result<([u8; 32], Vec<u16>), FetchError> {
    let fetched = client.fetch(&[Want { key, evidence }]).await.remove(0)?;
    let culprits = fetched.culprits.iter().map(|culprit| culprit.node.value()).collect();
    Ok((*fetched.secret.input_key("file", key).as_bytes(), culprits))
}

#[tokio::test]
async fn any_two_of_three_nodes_give_the_key_back() {
    let (client, nodes) = cluster(3, 1);
    let (key, secret, manifest) = registered(&client).await;
    for away in 1..=3 {
        nodes.set(away, Mood::Away);
        for evidence in [Evidence::Anchor(manifest.anchor()), Evidence::Recorded(Box::new(manifest.clone()))] {
            assert_eq!(fetch(&client, key, evidence).await.expect("two nodes are enough"), (secret, vec![]));
        }
        nodes.set(away, Mood::Honest);
    }
}

#[tokio::test]
async fn with_one_node_less_than_needed_each_absent_node_is_named() {
    let (client, nodes) = cluster(3, 1);
    let (key, _, manifest) = registered(&client).await;
    nodes.set(1, Mood::Away);
    nodes.set(3, Mood::Refuses("not-permitted"));
    let error = fetch(&client, key, Evidence::Anchor(manifest.anchor())).await.expect_err("one share is not enough");
    let FetchError::NotEnough { good: 1, needed: 2, faults, .. } = &error else { panic!("{error}") };
    assert_eq!(faults.0.iter().map(|fault| fault.node.value()).collect::<Vec<_>>(), [1, 3]);
    assert!(error.to_string().contains("node 1 (https://node-1): cannot be reached"), "{error}");
}

#[tokio::test]
async fn every_lie_is_named_and_the_key_still_comes_back() {
    for mood in [Mood::DamagedShare, Mood::SwappedShare, Mood::OtherKey, Mood::ThresholdOne] {
        for liar in 1..=3 {
            let (client, nodes) = cluster(3, 1);
            let (key, secret, manifest) = registered(&client).await;
            nodes.calls_since_last_time();
            nodes.set(liar, mood);
            // The others wait, so that the liar is heard first.
            for other in (1..=3).filter(|other| *other != liar) {
                nodes.set(other, Mood::Slow(20));
            }
            for evidence in [Evidence::Anchor(manifest.anchor()), Evidence::Recorded(Box::new(manifest.clone()))] {
                let (found, culprits) = fetch(&client, key, evidence).await.expect("two nodes are honest");
                assert_eq!(found, secret, "{mood:?} of node {liar} changed the key");
                let asked = nodes.calls_since_last_time().contains(&liar);
                assert_eq!(culprits, if asked { vec![liar] } else { vec![] }, "{mood:?} of node {liar}");
            }
            let other = if liar == 1 { 2 } else { 1 };
            nodes.set(other, Mood::Away);
            let error = fetch(&client, key, Evidence::Anchor(manifest.anchor())).await.expect_err("one honest node");
            let named = error.faults().iter().any(|fault| fault.node.value() == liar && fault.fault.is_lie());
            assert!(named, "{mood:?} of node {liar}: {error}");
        }
    }
}

#[tokio::test]
async fn a_damaged_share_is_named_whenever_it_is_asked_for() {
    let (client, nodes) = cluster(3, 1);
    let (key, secret, manifest) = registered(&client).await;
    nodes.set(2, Mood::DamagedShare);
    nodes.set(3, Mood::Away);
    nodes.set(1, Mood::Slow(5));
    let error = fetch(&client, key, Evidence::Anchor(manifest.anchor())).await.expect_err("one good share");
    let lie = error.faults().iter().find(|fault| fault.fault.is_lie()).expect("a lie");
    assert_eq!(lie.node.value(), 2);
    nodes.set(3, Mood::Honest);
    let (found, _) = fetch(&client, key, Evidence::Anchor(manifest.anchor())).await.expect("two good shares");
    assert_eq!(found, secret);
}

#[tokio::test]
async fn a_slow_node_does_not_hold_up_the_others() {
    let (client, nodes) = cluster(3, 1);
    let (key, secret, manifest) = registered(&client).await;
    nodes.set(1, Mood::Slow(5_000));
    let start = Instant::now();
    let (found, culprits) = fetch(&client, key, Evidence::Anchor(manifest.anchor())).await.expect("two are quick");
    assert_eq!((found, culprits), (secret, vec![]));
    assert!(start.elapsed() < Duration::from_secs(4), "waited for the slowest");
    nodes.calls_since_last_time();
    fetch(&client, key, Evidence::Anchor(manifest.anchor())).await.expect("two are quick");
    assert!(!nodes.calls_since_last_time().contains(&1), "the slow node was asked first again");
}

#[tokio::test]
async fn who_fetches_again_has_a_connection_to_the_node_that_is_asked_next() {
    let (client, nodes) = cluster(3, 1);
    let (key, _, manifest) = registered(&client).await;
    let opened = || {
        // What was begun on the side gets its turn.
        let nodes = Arc::clone(&nodes);
        async move {
            tokio::task::yield_now().await;
            std::mem::take(&mut *nodes.opened.lock().expect("not poisoned"))
        }
    };
    let fetch = || fetch(&client, key, Evidence::Anchor(manifest.anchor()));
    nodes.set(1, Mood::Slow(5_000));
    fetch().await.expect("two are quick");
    assert_eq!(opened().await, Vec::<u16>::new(), "the first fetch of a process opens what it needs");
    fetch().await.expect("two are quick");
    assert_eq!(opened().await, [1], "the call to node 1 was given up");
    fetch().await.expect("two are quick");
    assert_eq!(opened().await, Vec::<u16>::new(), "one is enough");
    nodes.set(1, Mood::Honest);
    nodes.set(2, Mood::Away);
    fetch().await.expect("two are there");
    fetch().await.expect("two are there");
    assert_eq!(opened().await, [2]);
}

#[tokio::test]
async fn a_registration_that_one_node_refuses_is_taken_back_everywhere() {
    let (client, nodes) = cluster(3, 1);
    nodes.set(2, Mood::Away);
    let prepared = client.prepare(&[NewKey::random()], Terms::default()).expect("splits");
    let error = client.register(prepared).await.expect_err("node 2 is away");
    assert!(matches!(&error, RegisterError::NotAll { faults, .. } if faults.0.len() == 1), "{error}");
    let shelves = nodes.shelves.lock().expect("not poisoned");
    assert!(shelves.values().all(|shelf| shelf.keys.is_empty()), "a share was left behind");
}

#[test]
fn a_threshold_outside_of_the_cluster_is_refused() {
    let (client, _) = cluster(3, 2);
    for needed in [0, 1, 4] {
        let error = client.prepare(&[NewKey::random()], needing(needed)).expect_err("does not fit");
        assert!(matches!(error, RegisterError::Threshold { .. }));
    }
    assert!(client.prepare(&[NewKey::random()], needing(3)).is_ok());
}

#[tokio::test]
async fn without_an_anchor_enough_nodes_must_agree() {
    let (client, nodes) = cluster(3, 2);
    let (key, secret, _) = registered(&client).await;
    assert_eq!(fetch(&client, key, Evidence::Agreement).await.expect("three agree"), (secret, vec![]));
    nodes.set(3, Mood::OtherKey);
    assert_eq!(fetch(&client, key, Evidence::Agreement).await.expect("two agree"), (secret, vec![3]));
    nodes.set(2, Mood::OtherKey);
    fetch(&client, key, Evidence::Agreement).await.expect_err("no two agree");
}

#[tokio::test]
async fn a_batch_gives_each_key_its_own_result() {
    let (client, _) = cluster(5, 1);
    let (first, secret, manifest) = registered(&client).await;
    let unknown = KeyId::from_bytes([1; 16]);
    let wants = [
        Want { key: first, evidence: Evidence::Anchor(manifest.anchor()) },
        Want { key: unknown, evidence: Evidence::Anchor([0; 32]) },
    ];
    let mut results = client.fetch(&wants).await;
    assert!(matches!(results.pop(), Some(Err(FetchError::NotEnough { good: 0, .. }))));
    let fetched = results.pop().expect("two results").expect("the first is there");
    assert_eq!(fetched.secret.input_key("file", first).as_bytes(), &secret);
}
