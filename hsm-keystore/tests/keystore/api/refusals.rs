//! What a node refuses: strangers, shares that do not fit, requests that are not understood, and work during an outage.

use eds_core::{
    api::{Binary, FetchAnswer, KeysAnswer, RegisterRequest},
    ids::{ClusterId, DeviceId, Epoch, KeyId, ShareIndex, Threshold},
    manifest::{Origin, Signature},
    sharing::{Share, ShareRecord},
};
use hyper::{Method, StatusCode};

use crate::common::{
    keys::{Fetch, Key, encoded, named, registration, sealed},
    node::{Answer, TestNode},
    pki::Credential,
};

/// Registers and confirms a key.
async fn stored(node: &TestNode, who: &Credential, id: u8) -> Key {
    let key = Key::new(node);
    let answer = node.post(who, "/v1/register", &registration(node, who, id, &[&key])).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(node.post(who, "/v1/confirm", &named(&[key.id()])).await.status, StatusCode::OK);
    key
}

fn word_of_one(answer: &Answer) -> String {
    let results = answer.json::<KeysAnswer>().results;
    results.into_iter().next().expect("one").problem.expect("refused").word().to_owned()
}

#[tokio::test]
async fn a_stranger_gets_and_changes_nothing() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let active = stored(&node, &alice, 1).await;
    let pending = Key::new(&node);
    node.post(&alice, "/v1/register", &registration(&node, &alice, 2, &[&pending])).await;
    // The second stranger has Alice's name, from another authority that the node accepts.
    for stranger in [node.users.user("mallory"), node.others.user("alice")] {
        for id in [active.id(), pending.id()] {
            let answer = node.get(&stranger, &format!("/v1/keys/{id}")).await;
            assert_eq!((answer.status, answer.word().as_str()), (StatusCode::FORBIDDEN, "not-permitted"));
            for path in ["/v1/unregister", "/v1/confirm", "/v1/withdraw"] {
                let answer = node.post(&stranger, path, &named(&[id])).await;
                assert_eq!(word_of_one(&answer), "not-permitted", "{path}");
            }
            let fetched: FetchAnswer = Fetch::of(&[id]).send(&node, &stranger).await.json();
            assert_eq!(fetched.results[0].problem.as_ref().expect("refused").word(), "not-permitted");
            assert_eq!((&fetched.results[0].manifest, &fetched.sealed), (&None, &None));
        }
    }
    let fetch = Fetch::of(&[active.id(), pending.id()]);
    let answer: FetchAnswer = fetch.send(&node, &alice).await.json();
    assert_eq!(fetch.open(&node, &answer).expect("opens").len(), 2);
}

#[tokio::test]
async fn every_key_of_a_batch_is_decided_for_itself() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.users.user("alice"), node.users.user("bob"));
    let (mine, theirs, gone) =
        (stored(&node, &alice, 1).await, stored(&node, &bob, 1).await, stored(&node, &alice, 2).await);
    node.post(&alice, "/v1/unregister", &named(&[gone.id()])).await;
    let missing = KeyId::from_bytes([9; 16]);
    let ids = [mine.id(), theirs.id(), missing, gone.id()];
    let fetch = Fetch::of(&ids);
    let answer: FetchAnswer = fetch.send(&node, &alice).await.json();
    let word = |position: usize| answer.results[position].problem.as_ref().map(|problem| problem.word().to_owned());
    let expected = [None, Some("not-permitted"), Some("key-not-found"), Some("key-deleted")];
    for (position, expected) in expected.into_iter().enumerate() {
        assert_eq!(word(position).as_deref(), expected, "{position}");
        assert_eq!(answer.results[position].key.0, ids[position]);
    }
    let shares = fetch.open(&node, &answer).expect("opens");
    assert!(shares.iter().all(|share| share == mine.share()) && shares.len() == 1);
    // Each costs what is stored of it, so none is asked for twice.
    let twice = Fetch::of(&[mine.id(), mine.id()]).send(&node, &alice).await;
    assert_eq!((twice.status, twice.word().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid-value"));
    let twice = node.post(&alice, "/v1/unregister", &named(&[mine.id(), mine.id()])).await;
    assert_eq!((twice.status, twice.word().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid-value"));

    let deleted = node.post(&alice, "/v1/unregister", &named(&ids)).await.json::<KeysAnswer>();
    let done: Vec<_> = deleted.results.iter().map(|result| result.problem.is_none()).collect();
    assert_eq!(done, [true, false, false, false]);
    let still: FetchAnswer = Fetch::of(&[theirs.id()]).send(&node, &bob).await.json();
    assert_eq!(still.results[0].problem, None, "the stranger's key was deleted with the batch");
}

#[tokio::test]
async fn a_captured_registration_is_worth_nothing_to_another_caller() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let key = Key::new(&node);
    let captured = registration(&node, &alice, 1, &[&key]);
    for thief in [node.users.user("mallory"), node.others.user("alice")] {
        let answer = node.post(&thief, "/v1/register", &captured).await;
        assert_eq!((answer.status, answer.word().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "share-rejected"));
    }
    assert_eq!(node.post(&alice, "/v1/register", &captured).await.status, StatusCode::OK);
}

#[tokio::test]
async fn shares_that_do_not_fit_their_manifests_are_refused_and_nothing_is_stored() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let (good, other) = (Key::new(&node), Key::new(&node));
    let altered = |change: fn(&mut [u8; 64])| {
        let mut bytes = *good.share().share.to_bytes();
        change(&mut bytes);
        ShareRecord { key: good.id(), epoch: Epoch::new(0), share: Share::from_bytes(good.share().index(), &bytes) }
    };
    // Its digest is in the manifest, so that only the commitments tell.
    let off = altered(|bytes| bytes[31] ^= 1);
    let mut off_manifest = good.manifest.clone();
    off_manifest.shares[1].1 = off.digest();
    let manifests = [&other.manifest, &good.manifest];
    let cases: [(&str, RegisterRequest); 7] = [
        ("another key's share", sealed(&node, &alice, 1, &manifests, &[other.share(), other.share()])),
        ("swapped shares", sealed(&node, &alice, 1, &manifests, &[good.share(), other.share()])),
        ("another node's share", sealed(&node, &alice, 1, &manifests, &[other.share(), good.share_of(3)])),
        ("an altered value", sealed(&node, &alice, 1, &manifests, &[other.share(), &altered(|bytes| bytes[0] ^= 1)])),
        (
            "an altered blinder",
            sealed(&node, &alice, 1, &manifests, &[other.share(), &altered(|bytes| bytes[63] ^= 1)]),
        ),
        ("too few shares", sealed(&node, &alice, 1, &manifests, &[other.share()])),
        (
            "a share off its commitments",
            sealed(&node, &alice, 1, &[&other.manifest, &off_manifest], &[other.share(), &off]),
        ),
    ];
    for (case, request) in cases {
        let answer = node.post(&alice, "/v1/register", &request).await;
        assert_eq!(
            (answer.status, answer.word().as_str()),
            (StatusCode::UNPROCESSABLE_ENTITY, "share-rejected"),
            "{case}"
        );
    }
    let fetched: FetchAnswer = Fetch::of(&[good.id(), other.id()]).send(&node, &alice).await.json();
    assert!(fetched.results.iter().all(|result| result.problem.as_ref().expect("refused").word() == "key-not-found"));
}

#[tokio::test]
async fn sealed_messages_open_only_as_they_were_made() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let (key, other) = (Key::new(&node), Key::new(&node));
    let good = registration(&node, &alice, 1, &[&key]);
    for position in [0, 1, 3, 40, 68, 90, good.sealed.0.len() - 1] {
        let mut altered = good.clone();
        altered.sealed.0[position] ^= 1;
        let answer = node.post(&alice, "/v1/register", &altered).await;
        assert_eq!(answer.word(), "share-rejected", "byte {position}");
    }
    let mut cut = good.clone();
    cut.sealed.0.truncate(60);
    assert_eq!(node.post(&alice, "/v1/register", &cut).await.word(), "share-rejected");
    // The message of one key under the manifest of another.
    let moved = RegisterRequest { manifests: vec![encoded(&other.manifest)], ..good.clone() };
    assert_eq!(node.post(&alice, "/v1/register", &moved).await.word(), "share-rejected");
    assert_eq!(node.post(&alice, "/v1/register", &good).await.status, StatusCode::OK);
}

#[tokio::test]
async fn manifests_that_the_directory_does_not_allow_are_refused() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let index = |number| ShareIndex::new(number).expect("not zero");
    let two = [index(1), index(3)];
    let unknown = [index(1), index(2), index(4)];
    let cases: [(&str, &str, Key); 8] = [
        ("another cluster", "wrong-node", Key::with(&node, |params| params.cluster = ClusterId::from_bytes([1; 16]))),
        ("a newer directory", "directory-outdated", Key::with(&node, |params| params.directory_version = 6)),
        ("no directory", "manifest-rejected", Key::with(&node, |params| params.directory_version = 0)),
        ("a later epoch", "manifest-rejected", Key::with(&node, |params| params.epoch = Epoch::new(1))),
        (
            "a threshold below the floor",
            "manifest-rejected",
            Key::with(&node, |params| params.threshold = Threshold::new(1, 3).expect("in range")),
        ),
        ("an unknown node", "manifest-rejected", Key::with(&node, |params| params.nodes = &unknown)),
        (
            "not this node",
            "wrong-node",
            Key::with(&node, |params| {
                params.nodes = &two;
                params.threshold = Threshold::new(2, 2).expect("in range");
            }),
        ),
        ("a device", "manifest-rejected", {
            let mut key = Key::new(&node);
            key.manifest.origin =
                Some(Origin { device: DeviceId::from_bytes([1; 16]), counter: 1, signature: Signature([1; 64]) });
            key
        }),
    ];
    for (case, word, key) in cases {
        let share = key.shares.iter().find(|share| share.index() == index(2)).unwrap_or(&key.shares[0]);
        let answer = node.post(&alice, "/v1/register", &sealed(&node, &alice, 1, &[&key.manifest], &[share])).await;
        assert_eq!(answer.word(), word, "{case}");
    }
    let older = Key::with(&node, |params| params.directory_version = 1);
    let answer = node.post(&alice, "/v1/register", &registration(&node, &alice, 1, &[&older])).await;
    assert_eq!(answer.status, StatusCode::OK, "an older directory whose nodes are all still known");
}

#[tokio::test]
async fn requests_that_are_not_understood_are_told_what_is_wrong() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let key = Key::new(&node);
    let good = registration(&node, &alice, 1, &[&key]);
    let json = |request: &RegisterRequest| serde_json::to_vec(request).expect("JSON");
    let twice = registration(&node, &alice, 1, &[&key, &key]);
    let mut manifest = good.clone();
    manifest.manifests[0].0[1] = 9;
    let cases = [
        ("/v1/register", b"".to_vec()),
        ("/v1/register", b"{\"registration\":".to_vec()),
        ("/v1/register", b"[]".to_vec()),
        ("/v1/confirm", b"{\"keys\":[],\"more\":1}".to_vec()),
        ("/v1/confirm", b"{\"keys\":[]}".to_vec()),
        ("/v1/confirm", b"{\"keys\":[\"not a key\"]}".to_vec()),
        ("/v1/register", json(&RegisterRequest { manifests: vec![], ..good.clone() })),
    ];
    for (path, body) in cases {
        let text = String::from_utf8_lossy(&body).into_owned();
        let answer = node.send(Some(&alice), Method::POST, path, body).await;
        assert_eq!((answer.status, answer.word().as_str()), (StatusCode::BAD_REQUEST, "bad-request"), "{path} {text}");
    }
    let cases = [
        (
            "/v1/fetch",
            b"{\"keys\":[\"01234567-89ab-cdef-0123-456789abcdef\"],\"reply_key\":\"AAAA\"}".to_vec(),
            "invalid-value",
        ),
        ("/v1/register", json(&RegisterRequest { registration: Binary(vec![1; 15]), ..good.clone() }), "invalid-value"),
        ("/v1/register", json(&manifest), "manifest-rejected"),
        ("/v1/register", json(&twice), "invalid-value"),
    ];
    for (path, body, word) in cases {
        let answer = node.send(Some(&alice), Method::POST, path, body).await;
        assert_eq!((answer.status, answer.word().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, word), "{path}");
    }
    assert_eq!(node.get(&alice, "/v1/keys/nothing").await.word(), "bad-request");
    assert_eq!(node.get(&alice, "/v2/keys").await.word(), "not-found");
    let method = node.get(&alice, "/v1/fetch").await;
    assert_eq!((method.status, method.word().as_str()), (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed"));
}

#[tokio::test]
async fn while_the_token_is_away_nothing_is_answered_wrongly_and_then_all_is_well() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let key = stored(&node, &alice, 1).await;
    let new = Key::new(&node);
    let register = registration(&node, &alice, 2, &[&new]);
    node.hsm.set_out_of_order(true);
    let during = [
        node.get(&alice, "/readyz").await,
        Fetch::of(&[key.id()]).send(&node, &alice).await,
        node.post(&alice, "/v1/register", &register).await,
    ];
    for answer in during {
        assert_eq!((answer.status, answer.word().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "hsm-unavailable"));
        assert!(answer.headers.contains_key("retry-after"));
    }
    assert_eq!(node.get(&alice, "/healthz").await.status, StatusCode::OK);
    node.hsm.set_out_of_order(false);
    assert_eq!(node.get(&alice, "/readyz").await.status, StatusCode::OK);
    assert_eq!(node.post(&alice, "/v1/register", &register).await.status, StatusCode::OK);
    let fetch = Fetch::of(&[key.id(), new.id()]);
    let answer: FetchAnswer = fetch.send(&node, &alice).await.json();
    assert_eq!(fetch.open(&node, &answer).expect("opens").len(), 2);
}
