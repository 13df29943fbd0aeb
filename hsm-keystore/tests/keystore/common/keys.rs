//! Keys as a client makes them: split, sealed to the node under test, and opened again.

use eds_core::{
    api::{Binary, FetchAnswer, FetchRequest, KeyText, KeysRequest, RegisterRequest},
    ids::{Epoch, KeyId, ShareIndex, Threshold},
    manifest::{MAX_BYTES, Manifest},
    registrant::registration_aad,
    sealing::{
        AwsLcDhKey, Info, PublicKey, SealingError, ShareList, encode_share_list, open_vec, seal_vec, share_list_len,
    },
    sharing::{FileSecret, ShareRecord, SplitParams, split},
};
use eds_keystore::authn::x509;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use sha2::{Digest, Sha256};

use crate::common::{
    node::{Answer, NUMBER, TestNode},
    pki::Credential,
};

const NUMBERS: [ShareIndex; 3] = [index(1), index(2), index(3)];

const fn index(number: u16) -> ShareIndex {
    match ShareIndex::new(number) {
        Ok(index) => index,
        Err(_) => panic!("zero"),
    }
}

/// A key that was split.
pub(crate) struct Key {
    pub(crate) manifest: Manifest,
    pub(crate) shares: Vec<ShareRecord>,
}

impl Key {
    /// A fresh key, 2 of 3.
    pub(crate) fn new(node: &TestNode) -> Self {
        Self::with(node, |_| ())
    }

    /// A fresh key whose splitting was adjusted.
    pub(crate) fn with<'a>(node: &TestNode, adjust: impl FnOnce(&mut SplitParams<'a>)) -> Self {
        let rng = &mut UnwrapErr(SysRng);
        let mut params = SplitParams {
            key: KeyId::random(rng),
            cluster: node.node.directory.cluster,
            directory_version: node.node.directory.version,
            epoch: Epoch::new(0),
            threshold: Threshold::new(2, 3).expect("in range"),
            nodes: &NUMBERS,
        };
        adjust(&mut params);
        let (manifest, shares) = split(&FileSecret::random(rng), &params, rng).expect("splits");
        Self { manifest, shares: shares.into_iter().collect() }
    }

    pub(crate) fn id(&self) -> KeyId {
        self.manifest.key
    }

    /// The share of the node under test.
    pub(crate) fn share(&self) -> &ShareRecord {
        self.share_of(NUMBER)
    }

    pub(crate) fn share_of(&self, number: u16) -> &ShareRecord {
        self.shares.iter().find(|share| share.index().value() == number).expect("there")
    }
}

pub(crate) fn encoded(manifest: &Manifest) -> Binary {
    Binary(manifest.encode(&mut [0; MAX_BYTES]).expect("fits").to_vec())
}

/// A registration of these keys, sealed for `who`.
pub(crate) fn registration(node: &TestNode, who: &Credential, id: u8, keys: &[&Key]) -> RegisterRequest {
    let shares: Vec<_> = keys.iter().map(|key| key.share()).collect();
    let manifests: Vec<_> = keys.iter().map(|key| &key.manifest).collect();
    sealed(node, who, id, &manifests, &shares)
}

/// A registration of manifests with shares that need not fit.
pub(crate) fn sealed(
    node: &TestNode,
    who: &Credential,
    id: u8,
    manifests: &[&Manifest],
    shares: &[&ShareRecord],
) -> RegisterRequest {
    let registrant = x509::named_by(&who.certificate).expect("a name").registrant().digest();
    let aad = registration_aad(manifests.iter().map(|manifest| manifest.digest()), &registrant);
    let mut list = vec![0; share_list_len(shares.len())];
    encode_share_list(shares.iter().copied(), &mut list).expect("fits");
    let info = Info::share(node.node.directory.cluster, node.node.id);
    let recipient = PublicKey::try_from(&eds_keystore::hsm::Hsm::transport_key(node.hsm.as_ref())).expect("a point");
    let message = seal_vec(AwsLcDhKey::generate().expect("made"), &info, &aad, &recipient, &list).expect("seals");
    RegisterRequest {
        registration: Binary(vec![id; 16]),
        manifests: manifests.iter().map(|manifest| encoded(manifest)).collect(),
        sealed: Binary(message),
        access: Vec::new(),
        names: Vec::new(),
    }
}

pub(crate) fn named(keys: &[KeyId]) -> KeysRequest {
    KeysRequest { keys: keys.iter().map(|key| KeyText(*key)).collect() }
}

/// A fetch and what is needed to open its answer.
pub(crate) struct Fetch {
    pub(crate) body: Vec<u8>,
    key: AwsLcDhKey,
}

impl Fetch {
    pub(crate) fn of(keys: &[KeyId]) -> Self {
        let key = AwsLcDhKey::generate().expect("made");
        let keys = keys.iter().map(|key| KeyText(*key)).collect();
        let request = FetchRequest { keys, reply_key: Binary(key.public().as_bytes().to_vec()) };
        Self { body: serde_json::to_vec(&request).expect("JSON"), key }
    }

    /// The shares of an answer, if it is one to this fetch.
    pub(crate) fn open(
        &self,
        node: &TestNode,
        answer: &FetchAnswer,
    ) -> Result<Vec<ShareRecord>, SealingError<eds_core::Opaque>> {
        let Some(sealed) = &answer.sealed else { return Ok(Vec::new()) };
        let info = Info::answer(node.node.directory.cluster, node.node.id);
        let list = open_vec(&self.key, &info, &Sha256::digest(&self.body), &sealed.0)?;
        Ok(ShareList::parse(&list).expect("a list").iter().collect())
    }

    /// Sends it.
    pub(crate) async fn send(&self, node: &TestNode, who: &Credential) -> Answer {
        node.send(Some(who), hyper::Method::POST, "/v1/fetch", self.body.clone()).await
    }
}
