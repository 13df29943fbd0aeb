//! The quorum client against nodes in memory that can be told to be away, slow, or to lie.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use eds_core::{
    api::{
        Binary, FetchAnswer, FetchRequest, FetchResult, KeyResult, KeyState, KeyText, KeysAnswer, KeysRequest, Problem,
        RegisterRequest,
    },
    directory::{Directory, Node},
    ids::{ClusterId, Epoch, KeyId, NodeId, ShareIndex, Threshold},
    manifest::{MAX_BYTES, Manifest, Point},
    registrant::registration_aad,
    sealing::{
        AwsLcDhKey, Info, PublicKey, ShareList, SoftDhKey, encode_share_list, open_vec, seal_vec, share_list_len,
    },
    sharing::{FileSecret, Share, ShareRecord, SplitParams, split},
};
use hyper::body::Bytes;
use rand_core::UnwrapErr;
use sha2::{Digest, Sha256};

use super::{
    Evidence, FetchError, Keystore, Latencies, NewKey, NodeFault, RegisterError, Transport, Want, transport::Call,
};

const REGISTRANT: [u8; 32] = [5; 32];

/// How a node behaves.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Mood {
    Honest,
    Away,
    Slow(u64),
    /// Answers with a share that does not fit its digest.
    DamagedShare,
    /// Answers with a manifest and share of a key of its own making, for the same id.
    OtherKey,
    /// Answers with a manifest that keeps C₀ but asks for one share.
    ThresholdOne,
    /// Answers with the share of another node.
    SwappedShare,
    Refuses(&'static str),
}

#[derive(Default)]
struct Shelf {
    keys: BTreeMap<KeyId, (Manifest, ShareRecord, KeyState)>,
}

struct FakeNodes {
    keys: BTreeMap<u16, SoftDhKey>,
    shelves: Mutex<BTreeMap<u16, Shelf>>,
    moods: Mutex<BTreeMap<u16, Mood>>,
    calls: Mutex<Vec<u16>>,
    /// The nodes to which a connection was opened beforehand.
    opened: Mutex<Vec<u16>>,
}

struct Nodes(Arc<FakeNodes>);

impl Transport for Nodes {
    async fn call(&self, node: &Node, call: Call) -> Result<Bytes, NodeFault> {
        if call.path == "/healthz" {
            self.0.opened.lock().expect("not poisoned").push(node.number.value());
            return Ok(Bytes::from_static(b"ok"));
        }
        self.0.calls.lock().expect("not poisoned").push(node.number.value());
        let mood = *self.0.moods.lock().expect("not poisoned").get(&node.number.value()).expect("a node");
        match mood {
            Mood::Away => return Err(NodeFault::Unreachable("connection refused".into())),
            Mood::Slow(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            Mood::Refuses(word) => return Err(NodeFault::Refused(Box::new(problem(word)))),
            _ => {}
        }
        let body = call.body.expect("a body");
        let answer = match call.path.as_str() {
            "/v1/register" => serde_json::to_vec(&self.0.register(node, &body)),
            "/v1/fetch" => serde_json::to_vec(&self.0.fetch(node, &body, mood)),
            path => serde_json::to_vec(&self.0.change(node, path, &body)),
        };
        Ok(Bytes::from(answer.expect("serialises")))
    }
}

impl FakeNodes {
    fn register(&self, node: &Node, body: &[u8]) -> KeysAnswer {
        let request: RegisterRequest = serde_json::from_slice(body).expect("a request");
        let manifests: Vec<Manifest> =
            request.manifests.iter().map(|bytes| Manifest::decode(&bytes.0).expect("a manifest")).collect();
        let aad = registration_aad(manifests.iter().map(Manifest::digest), &REGISTRANT);
        let info = Info::share(manifests[0].cluster, node.id);
        let opened =
            open_vec(&self.keys[&node.number.value()], &info, &aad, &request.sealed.0).expect("its seal opens");
        let shares = ShareList::parse(&opened).expect("a list").iter();
        let mut shelves = self.shelves.lock().expect("not poisoned");
        let shelf = shelves.entry(node.number.value()).or_default();
        let mut results = Vec::new();
        for (manifest, share) in manifests.into_iter().zip(shares) {
            results.push(state(manifest.key, KeyState::Pending));
            shelf.keys.insert(manifest.key, (manifest, share, KeyState::Pending));
        }
        KeysAnswer { results }
    }

    fn change(&self, node: &Node, path: &str, body: &[u8]) -> KeysAnswer {
        let request: KeysRequest = serde_json::from_slice(body).expect("a request");
        let mut shelves = self.shelves.lock().expect("not poisoned");
        let shelf = shelves.entry(node.number.value()).or_default();
        let result = |key: &KeyText| match (path, shelf.keys.get_mut(&key.0)) {
            (_, None) => KeyResult { key: key.clone(), state: None, problem: Some(problem("key-not-found")) },
            ("/v1/confirm", Some(entry)) => {
                entry.2 = KeyState::Active;
                state(key.0, KeyState::Active)
            }
            _ => {
                shelf.keys.remove(&key.0);
                state(key.0, KeyState::Tombstone)
            }
        };
        KeysAnswer { results: request.keys.iter().map(result).collect() }
    }

    fn fetch(&self, node: &Node, body: &[u8], mood: Mood) -> FetchAnswer {
        let request: FetchRequest = serde_json::from_slice(body).expect("a request");
        let shelves = self.shelves.lock().expect("not poisoned");
        let (mut results, mut shares) = (Vec::new(), Vec::new());
        let mut cluster = None;
        for key in request.keys {
            match shelves.get(&node.number.value()).and_then(|shelf| shelf.keys.get(&key.0)) {
                None => results.push(FetchResult { key, manifest: None, problem: Some(problem("key-not-found")) }),
                Some((manifest, share, _)) => {
                    cluster = Some(manifest.cluster);
                    let others = &shelves[&(node.number.value() % 3 + 1)].keys[&key.0];
                    let (manifest, share) = self.distort(mood, node, manifest, share, &others.1);
                    results.push(FetchResult { key, manifest: Some(encode(&manifest)), problem: None });
                    shares.push(share);
                }
            }
        }
        let sealed = cluster.map(|cluster| {
            let to = PublicKey::from_sec1(&request.reply_key.0).expect("a point");
            let aad: [u8; 32] = Sha256::digest(body).into();
            let mut list = vec![0; share_list_len(shares.len())];
            encode_share_list(shares.iter(), &mut list).expect("fits");
            let one_time = AwsLcDhKey::generate().expect("a key");
            Binary(seal_vec(one_time, &Info::answer(cluster, node.id), &aad, &to, &list).expect("seals"))
        });
        FetchAnswer { results, sealed }
    }

    fn distort(
        &self,
        mood: Mood,
        node: &Node,
        manifest: &Manifest,
        share: &ShareRecord,
        other: &ShareRecord,
    ) -> (Manifest, ShareRecord) {
        match mood {
            Mood::DamagedShare => {
                let mut share = copy(share);
                let mut value = *share.share.value();
                value[31] ^= 1;
                share.share = Share::new(share.index(), value, *share.share.blinder());
                (manifest.clone(), share)
            }
            Mood::SwappedShare => (manifest.clone(), copy(other)),
            Mood::OtherKey => {
                let numbers: Vec<ShareIndex> = manifest.shares.iter().map(|(number, _)| *number).collect();
                let params = SplitParams {
                    key: manifest.key,
                    cluster: manifest.cluster,
                    directory_version: manifest.directory_version,
                    epoch: Epoch::new(0),
                    threshold: manifest.threshold,
                    nodes: &numbers,
                };
                let mut rng = UnwrapErr(getrandom::SysRng);
                let (manifest, shares) = split(&FileSecret::random(&mut rng), &params, &mut rng).expect("splits");
                let share = shares.into_iter().find(|share| share.index() == node.number).expect("its share");
                (manifest, share)
            }
            Mood::ThresholdOne => {
                let mut lie = manifest.clone();
                lie.threshold = Threshold::new(1, manifest.threshold.nodes()).expect("in range");
                lie.commitments.truncate(1);
                (lie, copy(share))
            }
            _ => (manifest.clone(), copy(share)),
        }
    }
}

fn copy(record: &ShareRecord) -> ShareRecord {
    let share = Share::from_bytes(record.index(), &record.share.to_bytes());
    ShareRecord { key: record.key, epoch: record.epoch, share }
}

fn problem(word: &str) -> Problem {
    Problem { kind: format!("urn:eds:problem:{word}"), title: word.into(), status: 403, detail: None, instance: None }
}

fn state(key: KeyId, state: KeyState) -> KeyResult {
    KeyResult { key: KeyText(key), state: Some(state), problem: None }
}

fn encode(manifest: &Manifest) -> Binary {
    let mut buffer = [0; MAX_BYTES];
    Binary(manifest.encode(&mut buffer).expect("fits").to_vec())
}

/// A cluster of `count` nodes in memory and a client for it.
fn cluster(count: u16, floor: u8) -> (Keystore<Nodes>, Arc<FakeNodes>) {
    let mut rng = UnwrapErr(getrandom::SysRng);
    let keys: BTreeMap<u16, SoftDhKey> = (1..=count).map(|number| (number, SoftDhKey::generate(&mut rng))).collect();
    let nodes = keys.iter().map(|(number, key)| Node {
        number: ShareIndex::new(*number).expect("not zero"),
        id: NodeId::random(&mut rng),
        url: format!("https://node-{number}").as_str().try_into().expect("fits"),
        transport_key: key.public().compressed(),
        audit_key: None,
        suites: [1].into_iter().collect(),
        active: true,
    });
    let directory = Directory {
        cluster: ClusterId::from_bytes([7; 16]),
        name: "test".try_into().expect("fits"),
        cluster_key: Point([2; 33]),
        version: 1,
        floor,
        nodes: nodes.collect(),
    };
    let fake = Arc::new(FakeNodes {
        moods: Mutex::new(keys.keys().map(|number| (*number, Mood::Honest)).collect()),
        keys,
        shelves: Mutex::default(),
        calls: Mutex::default(),
        opened: Mutex::default(),
    });
    (Keystore::new(directory, REGISTRANT, Nodes(Arc::clone(&fake)), Latencies::default()), fake)
}

impl FakeNodes {
    /// The nodes that were called since this was last asked.
    fn calls_since_last_time(&self) -> Vec<u16> {
        std::mem::take(&mut self.calls.lock().expect("not poisoned"))
    }

    fn set(&self, node: u16, mood: Mood) {
        self.moods.lock().expect("not poisoned").insert(node, mood);
    }
}

async fn registered(client: &Keystore<Nodes>) -> (KeyId, [u8; 32], Manifest) {
    let key = NewKey::random();
    let (id, input) = (key.id, *key.secret.input_key("file", key.id).as_bytes());
    let prepared = client.prepare(&[key], None).expect("splits");
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
    let prepared = client.prepare(&[NewKey::random()], None).expect("splits");
    let error = client.register(prepared).await.expect_err("node 2 is away");
    assert!(matches!(&error, RegisterError::NotAll { faults } if faults.0.len() == 1), "{error}");
    let shelves = nodes.shelves.lock().expect("not poisoned");
    assert!(shelves.values().all(|shelf| shelf.keys.is_empty()), "a share was left behind");
}

#[test]
fn a_threshold_outside_of_the_cluster_is_refused() {
    let (client, _) = cluster(3, 2);
    for needed in [0, 1, 4] {
        let error = client.prepare(&[NewKey::random()], Some(needed)).expect_err("does not fit");
        assert!(matches!(error, RegisterError::Threshold { .. }));
    }
    assert!(client.prepare(&[NewKey::random()], Some(3)).is_ok());
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
