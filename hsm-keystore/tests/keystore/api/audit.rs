//! Every decision of every call is in the audit log before its answer leaves; without the log, nothing is released.

use eds_core::{
    api::{FetchAnswer, KeyInfo, KeyState, NodeInfo},
    ids::KeyId,
};
use eds_keystore::{
    api::AuditProof,
    audit::{
        Decision, Outcome, Proof,
        checkpoint::Verifier,
        signer,
        tree::{Hash, verify_consistency, verify_inclusion},
    },
    hsm::Hsm,
};
use hyper::{Method, StatusCode};

use crate::common::{
    keys::{Fetch, Key, named, registration},
    node::{Answer, TestNode},
};

/// Operation, outcome, rule and keys of the entries from `from` on.
fn told(node: &TestNode, from: usize) -> Vec<(String, Outcome, String, Vec<KeyId>)> {
    let decisions = node.records().into_iter().skip(from).map(|record| record.entry.decision);
    decisions.map(|d| (d.operation.to_string(), d.outcome, d.rule, d.keys)).collect()
}

fn entry(operation: &str, outcome: Outcome, rule: &str, keys: &[KeyId]) -> (String, Outcome, String, Vec<KeyId>) {
    (operation.to_owned(), outcome, rule.to_owned(), keys.to_vec())
}

fn refused(word: &str) -> Outcome {
    Outcome::Refused(word.to_owned())
}

fn last(node: &TestNode) -> Decision {
    node.records().pop().expect("an entry").entry.decision
}

#[tokio::test]
async fn every_call_of_every_endpoint_leaves_its_entries() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.users.user("alice"), node.users.user("bob"));
    let (first, second) = (Key::new(&node), Key::new(&node));
    let (ids, strange) = ([first.id(), second.id()], KeyId::from_bytes([9; 16]));
    let allowed = |operation, rule, keys: &[KeyId]| entry(operation, Outcome::Allowed, rule, keys);

    node.post(&alice, "/v1/register", &registration(&node, &alice, 1, &[&first, &second])).await;
    node.post(&alice, "/v1/confirm", &named(&ids)).await;
    node.get(&alice, &format!("/v1/keys/{}", ids[0])).await;
    node.get(&alice, "/v1/node").await;
    Fetch::of(&[ids[0], strange, ids[1]]).send(&node, &alice).await;
    assert_eq!(
        told(&node, 0),
        [
            allowed("key.register", "create", &ids),
            allowed("key.confirm", "registrant", &ids),
            allowed("key.state", "owner", &ids[..1]),
            allowed("node.info", "", &[]),
            allowed("key.fetch", "owner", &ids),
            entry("key.fetch", refused("key-not-found"), "", &[strange]),
        ]
    );

    let from = node.records().len();
    Fetch::of(&ids).send(&node, &bob).await;
    node.get(&bob, &format!("/v1/keys/{}", ids[0])).await;
    node.post(&bob, "/v1/unregister", &named(&ids)).await;
    node.post(&bob, "/v1/withdraw", &named(&ids)).await;
    node.post(&bob, "/v1/confirm", &named(&ids)).await;
    node.post(&bob, "/v1/register", &registration(&node, &alice, 1, &[&first])).await;
    node.post(&alice, "/v1/register", &registration(&node, &alice, 2, &[&first])).await;
    node.post(&alice, "/v1/withdraw", &named(&ids)).await;
    node.post(&alice, "/v1/unregister", &named(&ids[..1])).await;
    node.post(&alice, "/v1/unregister", &named(&ids[..1])).await;
    node.send(None, Method::GET, "/v1/node", "").await;
    node.send(Some(&alice), Method::GET, "/v1/nothing", "").await;
    node.send(Some(&alice), Method::GET, "/v1/fetch", "").await;
    node.send(Some(&alice), Method::POST, "/v1/fetch", "{").await;
    let deleted = refused("key-deleted");
    assert_eq!(
        told(&node, from),
        [
            entry("key.fetch", refused("not-permitted"), "", &ids),
            entry("key.state", refused("not-permitted"), "", &ids[..1]),
            entry("key.unregister", refused("not-permitted"), "", &ids),
            entry("key.withdraw", refused("not-permitted"), "", &ids),
            entry("key.confirm", refused("not-permitted"), "", &ids),
            entry("key.register", refused("share-rejected"), "", &ids[..1]),
            // Decided and written, then found to be taken.
            allowed("key.register", "create", &ids[..1]),
            entry("key.register", refused("key-exists"), "create", &ids[..1]),
            entry("key.withdraw", refused("key-active"), "", &ids),
            allowed("key.unregister", "owner", &ids[..1]),
            entry("key.unregister", deleted, "", &ids[..1]),
            entry("node.info", refused("not-authenticated"), "", &[]),
            entry("unknown", refused("not-found"), "", &[]),
            entry("key.fetch", refused("method-not-allowed"), "", &[]),
            entry("key.fetch", refused("bad-request"), "", &[]),
        ]
    );
}

#[tokio::test]
async fn an_entry_tells_who_how_from_where_when_and_in_which_request() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let answer = node.get(&alice, "/v1/node").await;
    let decision = last(&node);
    assert_eq!(decision.who.display, "/O=Ward/CN=alice");
    assert_eq!((decision.who.proof, decision.who.subject.is_some()), (Proof::Certificate, true));
    assert_eq!(decision.peer, Some("127.0.0.1".parse().expect("an address")));
    assert_eq!(decision.time, 1_800_000_000_000);
    assert_eq!(answer.headers["x-request-id"].to_str().ok(), Some(decision.request.to_string().as_str()));
    node.send(None, Method::GET, "/v1/node", "").await;
    let decision = last(&node);
    assert_eq!((decision.who.proof, decision.who.display.as_str()), (Proof::Nothing, ""));
    let before = node.records().len();
    for probe in ["/healthz", "/readyz"] {
        assert_eq!(node.send(None, Method::GET, probe, "").await.status, StatusCode::OK);
    }
    assert_eq!(node.records().len(), before, "probes decide nothing");
}

#[tokio::test]
async fn without_the_log_nothing_is_released_or_changed() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let (first, second) = (Key::new(&node), Key::new(&node));
    let ids = [first.id()];
    node.post(&alice, "/v1/register", &registration(&node, &alice, 1, &[&first])).await;
    node.post(&alice, "/v1/confirm", &named(&ids)).await;
    let before = node.records().len();

    node.disk.set_full(true);
    let answers: Vec<Answer> = vec![
        Fetch::of(&ids).send(&node, &alice).await,
        node.get(&alice, &format!("/v1/keys/{}", ids[0])).await,
        node.get(&alice, "/v1/node").await,
        node.post(&alice, "/v1/unregister", &named(&ids)).await,
        node.post(&alice, "/v1/register", &registration(&node, &alice, 2, &[&second])).await,
    ];
    for answer in &answers {
        assert_eq!((answer.status, answer.word().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "audit-unavailable"));
        assert!(!String::from_utf8_lossy(&answer.body).contains("sealed"), "{answer:?}");
    }
    node.disk.set_full(false);

    assert_eq!(node.records().len(), before);
    let info: KeyInfo = node.get(&alice, &format!("/v1/keys/{}", ids[0])).await.json();
    assert_eq!(info.state, KeyState::Active, "it was not deleted");
    let missing = node.get(&alice, &format!("/v1/keys/{}", second.id())).await;
    assert_eq!(missing.word(), "key-not-found", "it was not stored");
    let fetch = Fetch::of(&ids);
    let fetched: FetchAnswer = fetch.send(&node, &alice).await.json();
    assert_eq!(fetch.open(&node, &fetched).expect("opens").len(), 1, "there is room again");
}

#[tokio::test]
async fn what_the_token_could_not_do_is_told_for_every_key() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let (first, second) = (Key::new(&node), Key::new(&node));
    let ids = [first.id(), second.id()];
    node.post(&alice, "/v1/register", &registration(&node, &alice, 1, &[&first, &second])).await;
    let from = node.records().len();
    node.hsm.set_out_of_order(true);
    assert_eq!(Fetch::of(&ids).send(&node, &alice).await.word(), "hsm-unavailable");
    let failed = Outcome::Failed("hsm-unavailable".to_owned());
    assert_eq!(told(&node, from), [entry("key.fetch", failed, "", &ids)]);
}

#[tokio::test]
async fn a_witness_gets_signed_heads_and_proofs_that_hold() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    assert_eq!(node.get(&alice, "/v1/audit/checkpoint").await.word(), "busy", "nothing is signed yet");
    let verifier = Verifier::new(node.node.audit.origin(), &node.hsm.audit_key()).expect("a key");
    let mut heads = Vec::new();
    for _ in 0..2 {
        for _ in 0..5 {
            let _: NodeInfo = node.get(&alice, "/v1/node").await.json();
        }
        let hsm: std::sync::Arc<dyn Hsm> = node.hsm.clone();
        signer::sign(&node.node.audit, &hsm, 7).expect("signed");
        let note = node.get(&alice, "/v1/audit/checkpoint").await;
        assert_eq!(note.headers["content-type"], "text/plain; charset=utf-8");
        heads.push(verifier.open(std::str::from_utf8(&note.body).expect("text")).expect("signed by the token"));
    }
    let hashes = |answer: Answer| -> Vec<Hash> {
        let proof: AuditProof = answer.json();
        proof.hashes.into_iter().map(|hash| hash.0.try_into().expect("32 bytes")).collect()
    };
    let [old, new] = &heads[..] else { panic!("two heads") };
    let path = format!("/v1/audit/proof/consistency/{}/{}", old.size, new.size);
    let proof = hashes(node.get(&alice, &path).await);
    assert!(verify_consistency(old.size, &old.root, new.size, &new.root, &proof));
    let record = &node.records()[3];
    let proof = hashes(node.get(&alice, &format!("/v1/audit/proof/inclusion/3/{}", new.size)).await);
    assert!(verify_inclusion(&record.leaf, 3, new.size, &proof, &new.root));
    for (wrong, word) in [
        ("inclusion/9/9", "invalid-value"),
        ("inclusion/0/99999", "invalid-value"),
        ("consistency/5/3", "invalid-value"),
        ("consistency/0/x", "bad-request"),
        ("inclusion/-1/3", "bad-request"),
    ] {
        assert_eq!(node.get(&alice, &format!("/v1/audit/proof/{wrong}")).await.word(), word, "{wrong}");
    }
    for path in ["/v1/audit/checkpoint", "/v1/audit/proof/inclusion/0/1"] {
        assert_eq!(node.send(None, Method::GET, path, "").await.word(), "not-authenticated");
    }
    assert_eq!(last(&node).operation.as_str(), "audit.read");
}
