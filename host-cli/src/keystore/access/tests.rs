//! Changes and repairs over nodes in memory that can be away, lose their answers, or hold something else.

use std::{collections::BTreeMap, sync::Mutex};

use eds_core::{
    api::{
        KeyResult, KeyState, KeysAnswer, Problem,
        access::{AccessResult, Entry, Grantee},
    },
    ids::ShareIndex,
    manifest::MAX_BYTES,
};

use super::{
    agree::{
        plan,
        tests::{KEY, directory, list, manifest},
    },
    *,
};
use crate::keystore::Latencies;

/// How a node behaves.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Mood {
    Honest,
    Away,
    /// Makes a change, and the connection breaks before it says so. The next call is answered.
    LosesAnswer,
}

struct Nodes(Mutex<BTreeMap<u16, (Mood, AccessList)>>, Manifest);

impl Transport for Nodes {
    async fn call(&self, node: &Node, call: Call) -> Result<Bytes, NodeFault> {
        let mut nodes = self.0.lock().expect("not poisoned");
        let (mood, held) = nodes.get_mut(&node.number.value()).expect("a node");
        let gone = || NodeFault::Unreachable("connection reset".into());
        if *mood == Mood::Away {
            return Err(gone());
        }
        if call.path == "/v1/access/read" {
            let manifest = Binary(self.1.encode(&mut [0; MAX_BYTES]).expect("fits").to_vec());
            let (state, access) = (Some(KeyState::Active), Some(held.clone()));
            let result = AccessResult { key: KeyText(KEY), state, manifest: Some(manifest), access, problem: None };
            return Ok(json(&AccessAnswer { results: vec![result] }));
        }
        let request: ChangeRequest = serde_json::from_slice(&call.body.expect("a body")).expect("a request");
        let change = request.changes.into_iter().next().expect("one");
        let problem = if held.digest() == *change.seen.0 && change.access.version > held.version {
            *held = change.access;
            if *mood == Mood::LosesAnswer {
                *mood = Mood::Honest;
                return Err(gone());
            }
            None
        } else {
            let kind = "urn:eds:problem:key-changed".into();
            Some(Problem { kind, title: "changed".into(), status: 409, detail: None, instance: None })
        };
        let result = KeyResult { key: KeyText(KEY), state: Some(KeyState::Active), problem };
        Ok(json(&KeysAnswer { results: vec![result] }))
    }
}

/// A client of nodes in these moods with these lists; a key is opened by two of them.
fn client(nodes: &[(Mood, AccessList)]) -> Keystore<Nodes> {
    let count = u16::try_from(nodes.len()).expect("few");
    let held = (1..).zip(nodes.iter().cloned()).collect();
    let transport = Nodes(Mutex::new(held), *manifest(2, count));
    Keystore::new(directory(count, 2), [0; 32], transport, Latencies::default())
}

fn versions(keystore: &Keystore<Nodes>) -> Vec<u64> {
    keystore.transport.0.lock().expect("not poisoned").values().map(|(_, list)| list.version).collect()
}

fn set_mood(keystore: &Keystore<Nodes>, number: u16, mood: Mood) {
    keystore.transport.0.lock().expect("not poisoned").get_mut(&number).expect("a node").0 = mood;
}

async fn revoke(keystore: &Keystore<Nodes>) -> Result<Changed, AccessError> {
    let clear = |mut list: AccessList| {
        list.entries.clear();
        Ok::<_, AccessError>(list)
    };
    keystore.change_access(KEY, clear).await
}

async fn grant(keystore: &Keystore<Nodes>) -> Result<Changed, AccessError> {
    let add = |mut list: AccessList| {
        let may = eds_core::api::access::PermissionsText("g".parse().expect("letters"));
        list.entries.push(Entry { who: Grantee::Group("/more".into()), may });
        Ok::<_, AccessError>(list)
    };
    keystore.change_access(KEY, add).await
}

fn numbers(missing: &[NodeError]) -> Vec<u16> {
    missing.iter().map(|error| error.node.value()).collect()
}

#[tokio::test]
async fn a_change_reaches_every_node_and_a_lost_answer_is_looked_up() {
    use Mood::{Honest, LosesAnswer};
    let shared = list(3, &[("/acme", "g")]);
    let nodes = client(&[(Honest, shared.clone()), (LosesAnswer, shared.clone()), (Honest, shared)]);
    let Changed::Done { list, confirmed, revoked, missing } = revoke(&nodes).await.expect("done") else {
        panic!("unchanged")
    };
    assert_eq!((list.version, confirmed, revoked), (4, Share { nodes: 3, of: 3 }, true));
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(versions(&nodes), [4, 4, 4]);
    assert!(matches!(revoke(&nodes).await, Ok(Changed::Unchanged)));
    assert_eq!(versions(&nodes), [4, 4, 4]);
}

#[tokio::test]
async fn a_revocation_that_leaves_enough_nodes_to_open_the_key_is_an_error_until_repaired() {
    use Mood::{Away, Honest};
    let shared = list(0, &[("/acme", "g")]);
    let nodes = client(&[(Honest, shared.clone()), (Honest, shared.clone()), (Away, shared.clone()), (Away, shared)]);
    let error = revoke(&nodes).await.expect_err("two of four are not enough");
    let AccessError::NotYetEffective { held, needed: 3, faults, .. } = &error else { panic!("{error}") };
    assert_eq!((*held, numbers(&faults.0)), (Share { nodes: 2, of: 4 }, vec![3, 4]));
    assert!(error.to_string().contains("NOT YET EFFECTIVE"), "{error}");
    // One comes back: three hold it then, and the fourth is named.
    set_mood(&nodes, 3, Honest);
    let planned = plan(nodes.directory(), KEY, &nodes.access(KEY).await, None).expect("two agree");
    let (held, missing) = nodes.repair(KEY, &planned).await.expect("enough");
    assert_eq!((held, numbers(&missing)), (Share { nodes: 3, of: 4 }, vec![4]));
    assert_eq!(versions(&nodes), [1, 1, 1, 0]);
}

#[tokio::test]
async fn a_repair_that_reaches_too_few_is_an_error() {
    use Mood::{Away, Honest};
    let (old, new) = (list(0, &[("/acme", "g")]), list(1, &[]));
    let nodes = client(&[(Honest, new.clone()), (Honest, new), (Away, old.clone()), (Away, old)]);
    let planned = plan(nodes.directory(), KEY, &nodes.access(KEY).await, None).expect("two agree");
    let error = nodes.repair(KEY, &planned).await.expect_err("two of four");
    assert!(matches!(error, AccessError::NotYetEffective { needed: 3, .. }), "{error}");
}

#[tokio::test]
async fn a_grant_can_be_used_when_as_many_nodes_as_open_the_key_confirmed() {
    use Mood::{Away, Honest};
    let shared = list(0, &[]);
    let nodes = client(&[(Honest, shared.clone()), (Honest, shared.clone()), (Away, shared)]);
    let Changed::Done { confirmed, revoked, missing, .. } = grant(&nodes).await.expect("done") else {
        panic!("unchanged")
    };
    assert_eq!((confirmed, revoked, numbers(&missing)), (Share { nodes: 2, of: 3 }, false, vec![3]));
}

#[tokio::test]
async fn a_node_that_holds_another_list_is_left_alone_and_named() {
    use Mood::Honest;
    let (shared, other) = (list(2, &[]), list(5, &[("/mallory", "g")]));
    let nodes = client(&[(Honest, shared.clone()), (Honest, shared), (Honest, other)]);
    let Changed::Done { missing, .. } = grant(&nodes).await.expect("done") else { panic!("unchanged") };
    assert_eq!(numbers(&missing), [3]);
    assert_eq!(versions(&nodes), [3, 3, 5]);
    // The repair takes the honest list over the liar's version.
    let planned = plan(nodes.directory(), KEY, &nodes.access(KEY).await, None).expect("two agree");
    nodes.repair(KEY, &planned).await.expect("all");
    assert_eq!(versions(&nodes), [6, 6, 6]);
    let stated = plan(nodes.directory(), KEY, &nodes.access(KEY).await, ShareIndex::new(3).ok()).expect("stated");
    assert!(stated.behind.is_empty() && stated.list.entries.len() == 1, "all hold the honest list");
}
