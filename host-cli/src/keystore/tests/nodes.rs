//! Nodes in memory that can be told to be away, slow, or to lie.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use eds_core::{
    api::{
        Binary, FetchAnswer, FetchRequest, FetchResult, KeyResult, KeyState, KeyText, KeysAnswer, KeysRequest, Problem,
        RegisterRequest,
        access::{AccessAnswer, AccessList, AccessResult, Change, ChangeRequest, KIND_TOKEN, PermissionsText, Subject},
    },
    directory::{Directory, Node},
    ids::{ClusterId, Epoch, KeyId, NodeId, ShareIndex, Threshold},
    manifest::{MAX_BYTES, Manifest, Point},
    permissions::Permissions,
    registrant::registration_aad,
    sealing::{
        AwsLcDhKey, Info, PublicKey, ShareList, SoftDhKey, encode_share_list, open_vec, seal_vec, share_list_len,
    },
    sharing::{FileSecret, Share, ShareRecord, SplitParams, split},
};
use hyper::body::Bytes;
use rand_core::UnwrapErr;
use sha2::{Digest, Sha256};

use crate::keystore::{Keystore, Latencies, NodeFault, Transport, transport::Call};

pub(in crate::keystore) const REGISTRANT: [u8; 32] = [5; 32];

/// How a node behaves.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in crate::keystore) enum Mood {
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
pub(in crate::keystore) struct Shelf {
    pub(in crate::keystore) keys: BTreeMap<KeyId, Held>,
    deleted: BTreeSet<KeyId>,
}

/// What a node holds of a key.
pub(in crate::keystore) struct Held {
    manifest: Manifest,
    share: ShareRecord,
    pub(in crate::keystore) state: KeyState,
    pub(in crate::keystore) list: AccessList,
    /// The version of the list that it came up with.
    pub(in crate::keystore) came_with: u64,
}

pub(in crate::keystore) struct FakeNodes {
    pub(in crate::keystore) keys: BTreeMap<u16, SoftDhKey>,
    pub(in crate::keystore) shelves: Mutex<BTreeMap<u16, Shelf>>,
    moods: Mutex<BTreeMap<u16, Mood>>,
    calls: Mutex<Vec<u16>>,
    /// The nodes to which a connection was opened beforehand.
    pub(in crate::keystore) opened: Mutex<Vec<u16>>,
}

pub(in crate::keystore) struct Nodes(Arc<FakeNodes>);

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
            "/v1/register" => serde_json::to_vec(&self.0.register(node, &body)?),
            "/v1/fetch" => serde_json::to_vec(&self.0.fetch(node, &body, mood)),
            "/v1/access/read" => serde_json::to_vec(&self.0.lists(node, &body)),
            "/v1/access/change" => serde_json::to_vec(&self.0.change_list(node, &body)),
            path => serde_json::to_vec(&self.0.change(node, path, &body)),
        };
        Ok(Bytes::from(answer.expect("serialises")))
    }
}

impl FakeNodes {
    fn register(&self, node: &Node, body: &[u8]) -> Result<KeysAnswer, NodeFault> {
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
        if manifests.iter().any(|manifest| shelf.deleted.contains(&manifest.key)) {
            return Err(NodeFault::Refused(Box::new(problem("key-deleted"))));
        }
        let mut results = Vec::new();
        let lists = request.access.into_iter().chain(std::iter::repeat(None));
        for ((manifest, share), list) in manifests.into_iter().zip(shares).zip(lists) {
            let key = manifest.key;
            let list = list.unwrap_or_else(first_list);
            let came_with = list.version;
            let new = Held { manifest, share, state: KeyState::Pending, list: list.clone(), came_with };
            let held = shelf.keys.entry(key).or_insert(new);
            if held.state == KeyState::Pending && list.version > held.list.version {
                held.list = list;
            }
            results.push(state(key, held.state));
        }
        Ok(KeysAnswer { results })
    }

    fn change(&self, node: &Node, path: &str, body: &[u8]) -> KeysAnswer {
        let request: KeysRequest = serde_json::from_slice(body).expect("a request");
        let mut shelves = self.shelves.lock().expect("not poisoned");
        let shelf = shelves.entry(node.number.value()).or_default();
        let result = |key: &KeyText| match (path, shelf.keys.get_mut(&key.0)) {
            (path, None) if shelf.deleted.contains(&key.0) => match path {
                "/v1/withdraw" => state(key.0, KeyState::Tombstone),
                _ => KeyResult { key: key.clone(), state: None, problem: Some(problem("key-deleted")) },
            },
            (_, None) => KeyResult { key: key.clone(), state: None, problem: Some(problem("key-not-found")) },
            ("/v1/confirm", Some(held)) => {
                held.state = KeyState::Active;
                state(key.0, KeyState::Active)
            }
            ("/v1/withdraw", Some(Held { state: KeyState::Active, .. })) => {
                KeyResult { key: key.clone(), state: None, problem: Some(problem("key-active")) }
            }
            _ => {
                shelf.keys.remove(&key.0);
                shelf.deleted.insert(key.0);
                state(key.0, KeyState::Tombstone)
            }
        };
        KeysAnswer { results: request.keys.iter().map(result).collect() }
    }

    fn lists(&self, node: &Node, body: &[u8]) -> AccessAnswer {
        let request: KeysRequest = serde_json::from_slice(body).expect("a request");
        let mut shelves = self.shelves.lock().expect("not poisoned");
        let shelf = shelves.entry(node.number.value()).or_default();
        let result = |key: &KeyText| {
            let nothing = AccessResult { key: key.clone(), state: None, manifest: None, access: None, problem: None };
            match shelf.keys.get(&key.0) {
                Some(held) => AccessResult {
                    state: Some(held.state),
                    manifest: Some(encode(&held.manifest)),
                    access: Some(held.list.clone()),
                    ..nothing
                },
                None => {
                    let word = if shelf.deleted.contains(&key.0) { "key-deleted" } else { "key-not-found" };
                    AccessResult { problem: Some(problem(word)), ..nothing }
                }
            }
        };
        AccessAnswer { results: request.keys.iter().map(result).collect() }
    }

    fn change_list(&self, node: &Node, body: &[u8]) -> KeysAnswer {
        let request: ChangeRequest = serde_json::from_slice(body).expect("a request");
        let mut shelves = self.shelves.lock().expect("not poisoned");
        let shelf = shelves.entry(node.number.value()).or_default();
        let result = |change: &Change| {
            let held = shelf.keys.get_mut(&change.key.0).expect("a key that it holds");
            assert_eq!(held.list.digest().as_slice(), change.seen.0, "it was seen as it is");
            held.list = change.access.clone();
            state(change.key.0, held.state)
        };
        KeysAnswer { results: request.changes.iter().map(result).collect() }
    }

    fn fetch(&self, node: &Node, body: &[u8], mood: Mood) -> FetchAnswer {
        let request: FetchRequest = serde_json::from_slice(body).expect("a request");
        let shelves = self.shelves.lock().expect("not poisoned");
        let (mut results, mut shares) = (Vec::new(), Vec::new());
        let mut cluster = None;
        for key in request.keys {
            match shelves.get(&node.number.value()).and_then(|shelf| shelf.keys.get(&key.0)) {
                None => results.push(FetchResult { key, manifest: None, problem: Some(problem("key-not-found")) }),
                Some(Held { manifest, share, .. }) => {
                    cluster = Some(manifest.cluster);
                    let others = &shelves[&(node.number.value() % 3 + 1)].keys[&key.0].share;
                    let (manifest, share) = self.distort(mood, node, manifest, share, others);
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
pub(in crate::keystore) fn cluster(count: u16, floor: u8) -> (Keystore<Nodes>, Arc<FakeNodes>) {
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
    (fake.client(directory, REGISTRANT), fake)
}

/// The list of a new key.
fn first_list() -> AccessList {
    let subject = |name: &[u8]| Subject {
        kind: KIND_TOKEN.into(),
        namespace: Binary(b"https://id.example".to_vec()),
        name: Binary(name.to_vec()),
        display: String::new(),
    };
    AccessList {
        version: 0,
        owner: subject(b"alice"),
        group: None,
        owner_may: PermissionsText(Permissions::OWNER),
        group_may: PermissionsText(Permissions::NONE),
        others_may: PermissionsText(Permissions::NONE),
        entries: Vec::new(),
    }
}

impl FakeNodes {
    /// A client of these nodes with this directory.
    pub(in crate::keystore) fn client(self: &Arc<Self>, directory: Directory, registrant: [u8; 32]) -> Keystore<Nodes> {
        Keystore::new(directory, registrant, Nodes(Arc::clone(self)), Latencies::default())
    }

    /// What the node holds of a key, if anything.
    pub(in crate::keystore) fn look<A>(&self, node: u16, key: KeyId, at: impl FnOnce(&mut Held) -> A) -> Option<A> {
        self.shelves.lock().expect("not poisoned").entry(node).or_default().keys.get_mut(&key).map(at)
    }

    /// The nodes that were called since this was last asked.
    pub(in crate::keystore) fn calls_since_last_time(&self) -> Vec<u16> {
        std::mem::take(&mut self.calls.lock().expect("not poisoned"))
    }

    pub(in crate::keystore) fn set(&self, node: u16, mood: Mood) {
        self.moods.lock().expect("not poisoned").insert(node, mood);
    }
}
