//! A node with token and store in memory, callers as the connection would have proved them, and the calls they make.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, body::Body};
use eds_core::{
    api::{
        Binary, FetchAnswer, FetchRequest, KeyInfo, KeyState, KeyText, KeysAnswer, KeysRequest, Problem,
        RegisterRequest,
        access::{
            self, AccessAnswer, Asked, Change, ChangeRequest, KIND_X509, KIND_X509_SLASH, ListAnswer, ListRequest,
            WhyAnswer, WhyRequest, read_request,
        },
        name::{KeyName, ResolveAnswer, ResolveRequest, ResolveResult},
        whoami::WhoAmI,
    },
    directory::{self, Directory, SUITE_P256_AES256GCM},
    ids::{ClusterId, Epoch, KeyId, NodeId, ShareIndex, Threshold},
    manifest::{MAX_BYTES, Manifest},
    registrant::registration_aad,
    sealing::{AwsLcDhKey, Info, PublicKey, encode_share_list, seal_vec, share_list_len},
    sharing::{FileSecret, ShareRecord, SplitParams, split},
};
use getrandom::SysRng;
use http_body_util::BodyExt;
use hyper::{Method, Request, StatusCode};
use rand_core::UnwrapErr;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use crate::{
    api::{Peer, router},
    audit::{
        Decision, Log, checkpoint,
        log::{Options, Reader},
    },
    authn::{Authenticator, Principal, authenticator::Accepted, setup::FetchNothing},
    hsm::{Hsm, memory::MemoryHsm, self_test::make_canary},
    node::{Clock, Node},
    policy::{
        AccessList, Subject,
        node::{Create, NodePolicy, Party, Reserved},
        wire,
    },
    server::Limits,
    shares::{ShareContext, ToSeal},
    store::{NewKey, Origin, Registered, Registration, memory::MemoryStore},
};

const NOW: u64 = 1_800_000_000;
const NUMBER: u16 = 2;

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> u64 {
        NOW
    }
}

/// Somebody who calls.
pub(super) struct Caller(pub(super) Option<Arc<Principal>>);

/// DER of a name that is one common name.
fn name(common_name: &str) -> Vec<u8> {
    let length = |extra: usize| u8::try_from(common_name.len() + extra).expect("short");
    let head = [0x30, length(11), 0x31, length(9), 0x30, length(7), 0x06, 3, 0x55, 4, 3, 0x0c, length(0)];
    [&head[..], common_name.as_bytes()].concat()
}

/// A subject of the authority `ca`.
pub(super) fn person(common_name: &str) -> Subject {
    of_authority("ca", common_name)
}

fn of_authority(authority: &str, common_name: &str) -> Subject {
    Subject {
        kind: KIND_X509.into(),
        namespace: name(authority),
        name: name(common_name),
        display: format!("/CN={common_name}"),
    }
}

/// The subject of the authority `ca` as somebody types it.
pub(super) fn typed(common_name: &str) -> Subject {
    let display = format!("/CN={common_name}");
    Subject { kind: KIND_X509_SLASH.into(), namespace: name("ca"), name: display.clone().into_bytes(), display }
}

/// The callers of the table, by their names there.
pub(super) fn people() -> BTreeMap<&'static str, Caller> {
    let of = |subject: Subject, groups: &[&str], valid_until: u64| {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let valid_until = i64::try_from(valid_until).expect("small");
        Caller(Some(Arc::new(Principal {
            subject,
            groups,
            proxied: false,
            limited: false,
            proof: String::new(),
            valid_until,
        })))
    };
    let later = NOW + 1;
    BTreeMap::from([
        ("owner", of(person("owner"), &[], later)),
        ("member", of(person("member"), &["/other", "/ward"], later)),
        ("friend", of(person("friend"), &[], later)),
        ("researcher", of(person("researcher"), &["/research", "/research/Role=head"], later)),
        ("typed", of(person("typed"), &[], later)),
        ("stranger", of(person("stranger"), &["/research", "/ward/icu", "/WARD"], later)),
        ("namesake", of(of_authority("other", "owner"), &[], later)),
        ("admin", of(person("admin"), &[], later)),
        ("courier", of(person("courier"), &[], later)),
        ("expired", of(person("owner"), &["/ward", "/research/Role=head"], NOW - 1)),
        ("nobody", Caller(None)),
    ])
}

/// What came of a call for one key.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    pub(super) status: u16,
    pub(super) word: Option<String>,
}

impl Answer {
    fn of(status: StatusCode, problem: Option<&Problem>) -> Self {
        let allowed = status == StatusCode::OK && problem.is_none();
        Self { allowed, status: status.as_u16(), word: problem.map(|problem| problem.word().to_owned()) }
    }
}

/// A node.
pub(super) struct TestNode {
    pub(super) node: Arc<Node>,
    router: Router,
    authenticator: Arc<Authenticator>,
    pages: AtomicUsize,
    folder: tempfile::TempDir,
}

impl TestNode {
    pub(super) fn new() -> Self {
        Self::with_create(Create::default())
    }

    pub(super) fn with_create(create: Create) -> Self {
        Self::with_policy(create, Vec::new())
    }

    pub(super) fn with_reserved(path: &str, group: &str) -> Self {
        Self::with_policy(Create::default(), vec![Reserved { path: path.into(), groups: vec![group.into()] }])
    }

    fn with_policy(create: Create, reserved: Vec<Reserved>) -> Self {
        let hsm = Arc::new(MemoryHsm::new().expect("made"));
        let id = NodeId::from_bytes([NUMBER as u8; 16]);
        let canary = make_canary(hsm.as_ref(), id).expect("made");
        let store = MemoryStore::new(Origin { node: id, canary, policy_canary: Vec::new() });
        let entry = |number: u16| directory::Node {
            number: index(number),
            id: NodeId::from_bytes([number as u8; 16]),
            url: "https://127.0.0.1:1".try_into().expect("fits"),
            transport_key: hsm.transport_key(),
            audit_key: None,
            suites: [SUITE_P256_AES256GCM].into_iter().collect(),
            active: true,
        };
        let directory = Directory {
            cluster: ClusterId::from_bytes([0xcc; 16]),
            name: "test".try_into().expect("fits"),
            cluster_key: hsm.transport_key(),
            version: 5,
            floor: 2,
            nodes: (1..=3).map(entry).collect(),
        };
        let administrators = vec![Party::Certificate { issuer: "/CN=ca".into(), subject: "/CN=admin".into() }];
        let couriers = vec![Party::Certificate { issuer: "/CN=ca".into(), subject: "/CN=courier".into() }];
        let folder = tempfile::tempdir().expect("a directory");
        let options = Options::new(folder.path().join("audit"), checkpoint::origin(&id));
        Log::create(&options).expect("made");
        let audit = Arc::new(Log::open(&options, 0).expect("opens").0);
        let node = Node::new(id, index(NUMBER), directory, hsm, Arc::new(store), Arc::new(StoppedClock), audit);
        let node = Arc::new(node.with_policy(NodePolicy { administrators, couriers, create, reserved }));
        let accepted = Accepted::default();
        let authenticator = Authenticator::new(accepted, Box::new(FetchNothing), Arc::new(StoppedClock));
        let authenticator = Arc::new(authenticator.expect("nothing to load"));
        Self {
            router: router(Arc::clone(&node), Arc::clone(&authenticator), &Limits::default()).0,
            authenticator,
            node,
            pages: AtomicUsize::new(0),
            folder,
        }
    }

    /// Stores a key of the owner with this access list.
    pub(super) fn store(&self, list: &AccessList, pending: bool) -> KeyId {
        let key = KeyId::random(&mut UnwrapErr(SysRng));
        let context = ShareContext { key, epoch: Epoch::new(0), index: index(NUMBER), manifest: [1; 32] };
        let share = ToSeal { context, share: [7; 64].into() };
        let mut sealed = self.node.wrapping.seal(self.node.id, &[share]).expect("seals");
        let access = self.node.access.seal(&[(key, list.clone())]).expect("seals").remove(0);
        let voucher = sealed.voucher(&context, self.node.id, &Sha256::digest(&access.list).into());
        let (record, access) = (sealed.records.remove(0), access.vouched(voucher));
        let name = Some(KeyName::new(&name_of(key)).expect("a name"));
        let name = self.node.names.seal(&[(key, name)]).expect("seals").remove(0);
        let new =
            NewKey { key, epoch: Epoch::new(0), manifest: vec![1], manifest_digest: [1; 32], record, access, name };
        let registrant = person("owner").registrant().digest();
        let registration = Registration { registrant, id: *key.as_bytes(), content: [1; 32], counter: None, at: NOW };
        assert_eq!(self.node.store.register(&registration, &[new]).expect("stores"), Registered::Stored);
        if !pending {
            self.node.store.confirm(&[key], &registrant, NOW).expect("confirms");
        }
        key
    }

    /// Everything in the audit log.
    pub(super) fn decisions(&self) -> Vec<Decision> {
        let folder = self.folder.path().join("audit");
        let mut reader = Reader::open(&folder, Some(self.node.audit.origin())).expect("opens");
        let records = std::iter::from_fn(|| reader.read(|_| ()).expect("whole"));
        records.map(|record| record.entry.decision).collect()
    }

    /// The access list that is stored.
    pub(super) fn stored(&self, key: KeyId) -> AccessList {
        let stored = self.node.store.read(&[key]).expect("reads").remove(0).expect("there");
        let body = stored.body.expect("not deleted");
        self.node.access.open(&[(key, &body.access)]).expect("answers").remove(0).expect("its HMAC is right")
    }

    /// Where a key is in its life.
    pub(super) fn state(&self, key: KeyId) -> Option<KeyState> {
        self.node.store.read(&[key]).expect("reads").remove(0).map(|stored| stored.state)
    }

    /// Asserts that a refused call left the key as it was.
    pub(super) fn is_unchanged(&self, key: KeyId, list: &AccessList, pending: bool) {
        let stored = self.node.store.read(&[key]).expect("reads").remove(0).expect("there");
        assert_eq!(stored.state, if pending { KeyState::Pending } else { KeyState::Active });
        assert_eq!(self.stored(key), *list);
    }

    pub(super) async fn information(&self, caller: &Caller, key: KeyId) -> Answer {
        self.get::<KeyInfo>(caller, &format!("/v1/keys/{key}")).await.map_or_else(|refused| refused, |_| allowed())
    }

    pub(super) async fn fetch(&self, caller: &Caller, keys: &[KeyId]) -> Vec<Answer> {
        let reply = AwsLcDhKey::generate().expect("made");
        let keys: Vec<KeyText> = keys.iter().map(|key| KeyText(*key)).collect();
        let request = FetchRequest { keys: keys.clone(), reply_key: Binary(reply.public().as_bytes().to_vec()) };
        let answer: FetchAnswer = match self.post(caller, "/v1/fetch", &request).await {
            Ok(answer) => answer,
            Err(refused) => return vec![refused],
        };
        let released = answer.results.iter().filter(|result| result.manifest.is_some()).count();
        assert_eq!(answer.sealed.is_some(), released > 0);
        answer.results.iter().map(|result| Answer::of(StatusCode::OK, result.problem.as_ref())).collect()
    }

    pub(super) async fn unregister(&self, caller: &Caller, keys: &[KeyId]) -> Vec<Answer> {
        self.keys(caller, "/v1/unregister", keys).await
    }

    pub(super) async fn keys(&self, caller: &Caller, path: &str, keys: &[KeyId]) -> Vec<Answer> {
        let request = KeysRequest { keys: keys.iter().map(|key| KeyText(*key)).collect() };
        each(self.post(caller, path, &request).await)
    }

    pub(super) async fn read_access(&self, caller: &Caller, keys: &[KeyId]) -> Vec<Answer> {
        match self.post::<AccessAnswer>(caller, "/v1/access/read", &read_request(keys.iter().copied())).await {
            Ok(answer) => answer
                .results
                .iter()
                .map(|result| {
                    assert_eq!(result.access.is_some(), result.problem.is_none());
                    Answer::of(StatusCode::OK, result.problem.as_ref())
                })
                .collect(),
            Err(refused) => vec![refused],
        }
    }

    /// Changes lists, from what is stored.
    pub(super) async fn change(
        &self,
        caller: &Caller,
        changes: &[(KeyId, impl Fn(&mut access::AccessList))],
    ) -> Vec<Answer> {
        let mut sent = Vec::new();
        for (key, edit) in changes {
            let mut access = wire::shown(&self.stored(*key));
            let seen = Binary(access.digest().to_vec());
            edit(&mut access);
            sent.push(Change { key: KeyText(*key), seen, access });
        }
        self.send_changes(caller, sent).await
    }

    pub(super) async fn send_changes(&self, caller: &Caller, changes: Vec<Change>) -> Vec<Answer> {
        each(self.post(caller, "/v1/access/change", &ChangeRequest { changes }).await)
    }

    pub(super) async fn why(
        &self,
        caller: &Caller,
        key: KeyId,
        principal: Option<Asked>,
    ) -> (Answer, Option<WhyAnswer>) {
        match self.post(caller, "/v1/why", &WhyRequest { key: KeyText(key), principal }).await {
            Ok(answer) => (allowed(), Some(answer)),
            Err(refused) => (refused, None),
        }
    }

    pub(super) async fn is_listed(&self, caller: &Caller, key: KeyId) -> Answer {
        match self.pages_of(caller).await {
            Ok(keys) => Answer { allowed: keys.contains(&key), status: 200, word: None },
            Err(refused) => refused,
        }
    }

    pub(super) async fn listing(&self, caller: &Caller) -> Vec<KeyId> {
        self.pages_of(caller).await.expect("answers")
    }

    /// How many pages were read.
    pub(super) fn pages(&self) -> usize {
        self.pages.load(Ordering::SeqCst)
    }

    async fn pages_of(&self, caller: &Caller) -> Result<Vec<KeyId>, Answer> {
        let (mut keys, mut after) = (Vec::new(), None);
        self.pages.store(0, Ordering::SeqCst);
        loop {
            let page: ListAnswer = self.post(caller, "/v1/list", &ListRequest { after }).await?;
            self.pages.fetch_add(1, Ordering::SeqCst);
            keys.extend(page.keys.iter().map(|listed| listed.key.0));
            after = page.next;
            if after.is_none() {
                return Ok(keys);
            }
        }
    }

    /// A new key, split for the three nodes, and its shares.
    pub(super) fn made(&self) -> (Manifest, Vec<ShareRecord>) {
        let rng = &mut UnwrapErr(SysRng);
        let numbers = [index(1), index(2), index(3)];
        let params = SplitParams {
            key: KeyId::random(rng),
            cluster: self.node.directory.cluster,
            directory_version: 5,
            epoch: Epoch::new(0),
            threshold: Threshold::new(2, 3).expect("in range"),
            nodes: &numbers,
        };
        let (manifest, shares) = split(&FileSecret::random(rng), &params, rng).expect("splits");
        (manifest, shares.into_iter().collect())
    }

    /// The share of this node, sealed by this registrant. Nodes differ in their ids alone here.
    pub(super) fn sealed(
        &self,
        manifest: &Manifest,
        shares: &[ShareRecord],
        number: u16,
        registrant: &[u8; 32],
    ) -> Vec<u8> {
        let share = shares.iter().find(|share| share.index() == index(number)).expect("there");
        let aad = registration_aad([manifest.digest()], registrant);
        let mut list = vec![0; share_list_len(1)];
        encode_share_list(std::iter::once(share), &mut list).expect("fits");
        let info = Info::share(self.node.directory.cluster, NodeId::from_bytes([number as u8; 16]));
        let recipient = PublicKey::try_from(&self.node.hsm.transport_key()).expect("a point");
        seal_vec(AwsLcDhKey::generate().expect("made"), &info, &aad, &recipient, &list).expect("seals")
    }

    /// Asks for the keys of names.
    pub(super) async fn resolve(&self, caller: &Caller, names: &[&str]) -> Vec<(Answer, ResolveResult)> {
        let request = ResolveRequest { names: names.iter().map(|name| (*name).to_owned()).collect() };
        match self.post::<ResolveAnswer>(caller, "/v1/resolve", &request).await {
            Ok(answer) => {
                let with_answer = |result: ResolveResult| {
                    assert_eq!(result.key.is_some(), result.problem.is_none());
                    (Answer::of(StatusCode::OK, result.problem.as_ref()), result)
                };
                answer.results.into_iter().map(with_answer).collect()
            }
            Err(refused) => vec![(refused, ResolveResult::default())],
        }
    }

    /// Registers a new key; its status and the word of a refusal.
    pub(super) async fn register(&self, caller: &Caller) -> (StatusCode, Option<String>) {
        self.register_named(caller, 1, None).await.1
    }

    /// Registers a new key under a name.
    pub(super) async fn register_named(
        &self,
        caller: &Caller,
        registration: u8,
        name: Option<&str>,
    ) -> (KeyId, (StatusCode, Option<String>)) {
        let (manifest, shares) = self.made();
        let registrant = caller.0.as_ref().map(|principal| principal.registrant()).unwrap_or_default();
        let sealed = self.sealed(&manifest, &shares, NUMBER, &registrant);
        let request = RegisterRequest {
            registration: Binary(vec![registration; 16]),
            manifests: vec![encoded(&manifest)],
            sealed: Binary(sealed),
            access: Vec::new(),
            names: name.map(|name| Some(name.to_owned())).into_iter().collect(),
        };
        let told = match self.post::<KeysAnswer>(caller, "/v1/register", &request).await {
            Ok(_) => (StatusCode::OK, None),
            Err(refused) => (StatusCode::from_u16(refused.status).expect("a status"), refused.word),
        };
        (manifest.key, told)
    }

    pub(super) async fn whoami(&self, caller: &Caller) -> Result<WhoAmI, Answer> {
        self.get(caller, "/v1/whoami").await
    }

    pub(super) async fn get<A: DeserializeOwned>(&self, caller: &Caller, path: &str) -> Result<A, Answer> {
        self.send(caller, Method::GET, path, Vec::new()).await
    }

    pub(super) async fn post<A: DeserializeOwned>(
        &self,
        caller: &Caller,
        path: &str,
        body: &impl Serialize,
    ) -> Result<A, Answer> {
        self.send(caller, Method::POST, path, serde_json::to_vec(body).expect("JSON")).await
    }

    /// Sends a call and goes away at once; the call has begun by then.
    pub(super) async fn abandon(&self, caller: &Caller, path: &str, body: &impl Serialize) {
        let request = self.request(caller, Method::POST, path, serde_json::to_vec(body).expect("JSON"));
        let mut answering = std::pin::pin!(self.router.clone().oneshot(request));
        std::future::poll_fn(|context| {
            assert!(answering.as_mut().poll(context).is_pending(), "it was answered at once");
            std::task::Poll::Ready(())
        })
        .await;
    }

    fn request(&self, caller: &Caller, method: Method, path: &str, body: Vec<u8>) -> Request<Body> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(Body::from(body))
            .expect("built");
        let proven = |principal: &Arc<Principal>| Peer::proven(Arc::clone(principal), &self.authenticator);
        request.extensions_mut().insert(caller.0.as_ref().map(proven).unwrap_or_default());
        request
    }

    async fn send<A: DeserializeOwned>(
        &self,
        caller: &Caller,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<A, Answer> {
        let request = self.request(caller, method, path, body);
        let response = self.router.clone().oneshot(request).await.expect("answers");
        let status = response.status();
        let bytes = response.into_body().collect().await.expect("arrives").to_bytes();
        if status == StatusCode::OK {
            return Ok(serde_json::from_slice(&bytes).expect("the answer of the call"));
        }
        Err(Answer::of(status, Some(&serde_json::from_slice(&bytes).expect("a problem document"))))
    }
}

pub(super) fn random_key() -> KeyId {
    KeyId::random(&mut UnwrapErr(SysRng))
}

/// The name that a stored key has.
pub(super) fn name_of(key: KeyId) -> String {
    format!("/ward/{key}/secret")
}

/// The smallest change.
pub(super) fn next_version(list: &mut access::AccessList) {
    list.version += 1;
}

fn allowed() -> Answer {
    Answer::of(StatusCode::OK, None)
}

pub(super) fn each(answer: Result<KeysAnswer, Answer>) -> Vec<Answer> {
    match answer {
        Ok(answer) => answer.results.iter().map(|result| Answer::of(StatusCode::OK, result.problem.as_ref())).collect(),
        Err(refused) => vec![refused],
    }
}

pub(super) fn encoded(manifest: &Manifest) -> Binary {
    Binary(manifest.encode(&mut [0; MAX_BYTES]).expect("fits").to_vec())
}

pub(super) fn index(number: u16) -> ShareIndex {
    ShareIndex::new(number).expect("not zero")
}
