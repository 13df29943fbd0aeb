//! The life of a key on a node: registered, confirmed, fetched, deleted.

use eds_core::{
    api::{
        FetchAnswer, KeyInfo, KeyState, KeysAnswer, RegisterRequest,
        access::{AccessAnswer, AccessList, MAX_VERSION_STEP},
    },
    ids::KeyId,
    sharing::check_digest,
};
use hyper::StatusCode;

use crate::common::{
    keys::{Fetch, Key, encoded, named, registration},
    node::{Answer, TestNode},
    pki::Credential,
};

fn states(answer: &Answer) -> Vec<Option<KeyState>> {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json::<KeysAnswer>().results.into_iter().map(|result| result.state).collect()
}

fn words(answer: &Answer) -> Vec<Option<String>> {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let word = |problem: Option<eds_core::api::Problem>| problem.map(|problem| problem.word().to_owned());
    answer.json::<KeysAnswer>().results.into_iter().map(|result| word(result.problem)).collect()
}

#[tokio::test]
async fn a_key_is_registered_confirmed_fetched_and_deleted_for_ever() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let (first, second) = (Key::new(&node), Key::new(&node));
    let ids = [first.id(), second.id()];
    let request = registration(&node, &alice, 1, &[&first, &second]);
    let pending = states(&node.post(&alice, "/v1/register", &request).await);
    assert_eq!(pending, [Some(KeyState::Pending); 2]);

    // Pending keys can be fetched by their registrant, confirmed ones by who has the permission.
    for state in [KeyState::Pending, KeyState::Active] {
        let info: KeyInfo = node.get(&alice, &format!("/v1/keys/{}", ids[1])).await.json();
        assert_eq!((info.state, info.owner.as_deref()), (state, Some("/O=Ward/CN=alice")));
        assert_eq!(info.permissions.as_deref(), Some("user pdrwl-gs, group --------, other --------"));
        assert_eq!(info.manifest, Some(encoded(&second.manifest)));

        let fetch = Fetch::of(&[ids[1], ids[0]]);
        let answer: FetchAnswer = fetch.send(&node, &alice).await.json();
        assert_eq!(answer.results[0].manifest, Some(encoded(&second.manifest)));
        let shares = fetch.open(&node, &answer).expect("opens");
        assert_eq!(shares.len(), 2);
        assert_eq!(&shares[0], second.share());
        check_digest(&first.manifest, &shares[1]).expect("the share that was registered");
        // The answer fits this very request alone.
        assert!(Fetch::of(&[ids[1], ids[0]]).open(&node, &answer).is_err());

        for _ in 0..2 {
            let confirmed = states(&node.post(&alice, "/v1/confirm", &named(&ids)).await);
            assert_eq!(confirmed, [Some(KeyState::Active); 2]);
        }
    }

    // What is confirmed is not taken back, only unregistered; and then for ever.
    let withdrawn = node.post(&alice, "/v1/withdraw", &named(&ids[..1])).await;
    assert_eq!(words(&withdrawn), [Some("key-active".to_owned())]);
    let deleted = node.post(&alice, "/v1/unregister", &named(&ids[..1])).await;
    assert_eq!((states(&deleted), words(&deleted)), (vec![Some(KeyState::Tombstone)], vec![None]));
    let again = node.post(&alice, "/v1/unregister", &named(&ids[..1])).await;
    assert_eq!(states(&again), [Some(KeyState::Tombstone)]);
    assert_eq!(words(&again), [Some("key-deleted".to_owned())]);
    let info: KeyInfo = node.get(&alice, &format!("/v1/keys/{}", ids[0])).await.json();
    assert_eq!((info.state, info.manifest, info.owner), (KeyState::Tombstone, None, None));
    let fetched: FetchAnswer = Fetch::of(&ids[..1]).send(&node, &alice).await.json();
    assert_eq!(fetched.results[0].problem.as_ref().expect("refused").word(), "key-deleted");
    assert_eq!(fetched.sealed, None);

    // Neither the old message nor a new one brings it back.
    let replay = node.post(&alice, "/v1/register", &request).await;
    assert_eq!((replay.status, replay.word().as_str()), (StatusCode::GONE, "key-deleted"));
    let anew = node.post(&alice, "/v1/register", &registration(&node, &alice, 2, &[&first])).await;
    assert_eq!((anew.status, anew.word().as_str()), (StatusCode::GONE, "key-deleted"));
}

#[tokio::test]
async fn pending_keys_are_taken_back_by_their_registrant() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let key = Key::new(&node);
    let request = registration(&node, &alice, 1, &[&key]);
    node.post(&alice, "/v1/register", &request).await;
    for _ in 0..2 {
        let withdrawn = node.post(&alice, "/v1/withdraw", &named(&[key.id()])).await;
        assert_eq!((states(&withdrawn), words(&withdrawn)), (vec![Some(KeyState::Tombstone)], vec![None]));
    }
    let confirmed = node.post(&alice, "/v1/confirm", &named(&[key.id(), Key::new(&node).id()])).await;
    assert_eq!(words(&confirmed), [Some("key-deleted".to_owned()), Some("key-not-found".to_owned())]);
    assert_eq!(node.post(&alice, "/v1/register", &request).await.word(), "key-deleted");
}

#[tokio::test]
async fn the_same_registration_is_the_same_success_and_another_one_is_not() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.users.user("alice"), node.users.user("bob"));
    let (key, other) = (Key::new(&node), Key::new(&node));
    let first = registration(&node, &alice, 1, &[&key]);
    assert_eq!(states(&node.post(&alice, "/v1/register", &first).await), [Some(KeyState::Pending)]);
    // The same bytes, and the same shares sealed anew.
    for again in [&first, &registration(&node, &alice, 1, &[&key])] {
        assert_eq!(states(&node.post(&alice, "/v1/register", again).await), [Some(KeyState::Pending)]);
    }
    node.post(&alice, "/v1/confirm", &named(&[key.id()])).await;
    assert_eq!(states(&node.post(&alice, "/v1/register", &first).await), [Some(KeyState::Active)]);

    let reused = node.post(&alice, "/v1/register", &registration(&node, &alice, 1, &[&other])).await;
    assert_eq!((reused.status, reused.word().as_str()), (StatusCode::CONFLICT, "registration-conflict"));

    // Somebody registers the same id: refused, the batch is not stored, and the key is as it was.
    let rival = Key::with(&node, |params| params.key = key.id());
    for who in [&alice, &bob] {
        let clash = node.post(who, "/v1/register", &registration(&node, who, 9, &[&other, &rival])).await;
        assert_eq!((clash.status, clash.word().as_str()), (StatusCode::CONFLICT, "key-exists"));
    }
    let fetch = Fetch::of(&[key.id(), other.id()]);
    let answer: FetchAnswer = fetch.send(&node, &alice).await.json();
    assert_eq!(fetch.open(&node, &answer).expect("opens"), [key.shares.into_iter().nth(1).expect("ours")]);
    assert_eq!(answer.results[1].problem.as_ref().expect("refused").word(), "key-not-found");
}

/// What a node shows of the access list of a key.
async fn list_of(node: &TestNode, who: &Credential, key: KeyId) -> AccessList {
    let answer: AccessAnswer = node.post(who, "/v1/access/read", &named(&[key])).await.json();
    answer.results.into_iter().next().and_then(|result| result.access).expect("may be listed")
}

#[tokio::test]
async fn a_late_registration_comes_up_with_the_list_that_the_other_nodes_hold() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.users.user("alice"), node.users.user("bob"));
    let first = Key::new(&node);
    node.post(&alice, "/v1/register", &registration(&node, &alice, 1, &[&first])).await;
    let own = list_of(&node, &alice, first.id()).await;
    let bobs = Key::new(&node);
    node.post(&bob, "/v1/register", &registration(&node, &bob, 1, &[&bobs])).await;
    let given_to_bob = AccessList { version: 3, owner: list_of(&node, &bob, bobs.id()).await.owner, ..own.clone() };

    // Alice registered it elsewhere, and gave it to Bob there, before this node heard of it.
    let (late, other) = (Key::new(&node), Key::new(&node));
    let mut request = registration(&node, &alice, 2, &[&late, &other]);
    request.access = vec![Some(given_to_bob.clone()), None];
    assert_eq!(states(&node.post(&alice, "/v1/register", &request).await), [Some(KeyState::Pending); 2]);
    for confirmed in [false, true] {
        // Not even before it is confirmed is it released to her.
        let fetched: FetchAnswer = Fetch::of(&[late.id(), other.id()]).send(&node, &alice).await.json();
        assert_eq!(fetched.results[0].problem.as_ref().expect("refused").word(), "not-permitted");
        assert_eq!(fetched.results[1].problem, None);
        let fetched: FetchAnswer = Fetch::of(&[late.id()]).send(&node, &bob).await.json();
        let word = fetched.results[0].problem.as_ref().map(|problem| problem.word());
        assert_eq!(word, (!confirmed).then_some("key-pending"));
        node.post(&alice, "/v1/confirm", &named(&[late.id(), other.id()])).await;
    }
    assert_eq!(list_of(&node, &bob, late.id()).await.digest(), given_to_bob.digest());
    assert_eq!(list_of(&node, &alice, other.id()).await.digest(), own.digest());

    // What is confirmed is not changed by the same registration.
    request.access = vec![Some(AccessList { version: 9, ..own.clone() }), None];
    assert_eq!(states(&node.post(&alice, "/v1/register", &request).await), [Some(KeyState::Active); 2]);
    assert_eq!(list_of(&node, &bob, late.id()).await.digest(), given_to_bob.digest());
}

#[tokio::test]
async fn the_same_registration_brings_a_later_list_while_the_key_is_pending_and_never_an_older_one() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let key = Key::new(&node);
    let plain = registration(&node, &alice, 1, &[&key]);
    node.post(&alice, "/v1/register", &plain).await;
    let own = list_of(&node, &alice, key.id()).await;
    let with = |version| AccessList { version, group: Some(format!("/ward{version}")), ..own.clone() };
    for (brought, holds) in [(2, 2), (5, 5), (4, 5), (5, 5)] {
        let request = RegisterRequest { access: vec![Some(with(brought))], ..plain.clone() };
        assert_eq!(states(&node.post(&alice, "/v1/register", &request).await), [Some(KeyState::Pending)]);
        assert_eq!(list_of(&node, &alice, key.id()).await.digest(), with(holds).digest(), "brought {brought}");
    }
    // Without a list, nothing changes.
    node.post(&alice, "/v1/register", &plain).await;
    assert_eq!(list_of(&node, &alice, key.id()).await.version, 5);

    let fresh = Key::new(&node);
    let good = registration(&node, &alice, 2, &[&fresh]);
    let (too_high, mut nonsense) = (with(MAX_VERSION_STEP + 1), with(1));
    nonsense.owner.kind = "nobody".into();
    for access in [vec![None, None], vec![Some(too_high)], vec![Some(nonsense)]] {
        let refused = node.post(&alice, "/v1/register", &RegisterRequest { access, ..good.clone() }).await;
        assert_eq!((refused.status, refused.word().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid-value"));
    }
}

#[tokio::test]
async fn a_thousand_keys_go_into_one_call_and_no_more() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let keys: Vec<Key> = (0..1001).map(|_| Key::new(&node)).collect();
    let all: Vec<&Key> = keys.iter().collect();
    let refused = node.post(&alice, "/v1/register", &registration(&node, &alice, 1, &all)).await;
    assert_eq!((refused.status, refused.word().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "batch-too-large"));
    let stored = node.post(&alice, "/v1/register", &registration(&node, &alice, 1, &all[..1000])).await;
    assert_eq!(states(&stored), [Some(KeyState::Pending); 1000]);

    let ids: Vec<_> = keys.iter().map(Key::id).collect();
    for path in ["/v1/fetch", "/v1/confirm", "/v1/withdraw", "/v1/unregister"] {
        let answer = match path {
            "/v1/fetch" => Fetch::of(&ids).send(&node, &alice).await,
            _ => node.post(&alice, path, &named(&ids)).await,
        };
        assert_eq!(answer.word(), "batch-too-large", "{path}");
    }
    let fetch = Fetch::of(&ids[..1000]);
    let answer: FetchAnswer = fetch.send(&node, &alice).await.json();
    let shares = fetch.open(&node, &answer).expect("opens");
    assert!(shares.iter().zip(&keys).all(|(share, key)| share == key.share()));
    assert_eq!(shares.len(), 1000);
}
