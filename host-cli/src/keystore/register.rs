//! Registering keys with every node, confirming them, and deleting them.
//!
//! A registration needs every active node. When one does not store its share, what this call stored on the others is
//! taken back, and nothing else is touched. Calls name a registration id, so that repeating one after a broken
//! connection is the same registration.

use std::sync::Arc;

use eds_core::{
    api::{Binary, KeyText, KeysAnswer, KeysRequest, RegisterRequest},
    directory::Node,
    ids::{Epoch, KeyId, ShareIndex, Threshold},
    manifest::{self, Manifest},
    registrant::registration_aad,
    sealing::{AwsLcDhKey, Info, PublicKey, encode_share_list, seal_vec, share_list_len},
    sharing::{FileSecret, ShareRecord, SplitParams, split},
};
use hyper::body::Bytes;
use rand_core::UnwrapErr;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::{Keystore, NodeError, NodeFault, RegisterError, Transport, error::Faults, transport::Call};

/// A key to register.
#[derive(Debug)]
pub struct NewKey {
    /// Its fresh random id.
    pub id: KeyId,
    /// The secret to split.
    pub secret: FileSecret,
}

impl NewKey {
    /// A fresh random key.
    pub fn random() -> Self {
        let mut rng = UnwrapErr(getrandom::SysRng);
        Self { id: KeyId::random(&mut rng), secret: FileSecret::random(&mut rng) }
    }
}

/// Keys that every active node holds.
#[derive(Debug)]
pub struct Registered {
    /// The manifest of each key, in the order of the call.
    pub manifests: Vec<Manifest>,
    /// Nodes that hold the keys but could not be told that all others do; `confirm` tells them later.
    pub unconfirmed: Vec<NodeError>,
}

/// Keys split for the active nodes and not yet sent: their manifests, and so their anchors, are known before any node is.
#[derive(Debug)]
pub struct Prepared {
    keys: Vec<KeyId>,
    manifests: Vec<Manifest>,
    nodes: Vec<Node>,
    /// For each node, its share of each key.
    shares: Vec<Vec<ShareRecord>>,
}

impl Prepared {
    /// The manifest of this key.
    pub fn manifest(&self, key: KeyId) -> Option<&Manifest> {
        self.manifests.iter().find(|manifest| manifest.key == key)
    }
}

impl<T: Transport> Keystore<T> {
    /// Splits keys over the active nodes, `needed` of which can open them (the usual number when `None`). Nothing leaves
    /// this process.
    ///
    /// # Errors
    /// [`RegisterError::Threshold`], [`RegisterError::Core`].
    pub fn prepare(&self, keys: &[NewKey], needed: Option<u8>) -> Result<Prepared, RegisterError> {
        let nodes = self.active_nodes();
        let threshold = self.threshold(nodes.len(), needed)?;
        let mut rng = UnwrapErr(getrandom::SysRng);
        let numbers: Vec<ShareIndex> = nodes.iter().map(|node| node.number).collect();
        let mut manifests = Vec::with_capacity(keys.len());
        let mut shares: Vec<Vec<ShareRecord>> = nodes.iter().map(|_| Vec::with_capacity(keys.len())).collect();
        for key in keys {
            let params = SplitParams {
                key: key.id,
                cluster: self.directory().cluster,
                directory_version: self.directory().version,
                epoch: Epoch::new(0),
                threshold,
                nodes: &numbers,
            };
            let (manifest, records) = split(&key.secret, &params, &mut rng).map_err(RegisterError::Core)?;
            manifests.push(manifest);
            for (of_node, record) in shares.iter_mut().zip(records) {
                of_node.push(record);
            }
        }
        Ok(Prepared { keys: keys.iter().map(|key| key.id).collect(), manifests, nodes, shares })
    }

    /// Stores prepared keys on every active node. At most [`eds_core::api::MAX_BATCH`] keys.
    ///
    /// # Errors
    /// [`RegisterError`]; nothing that this call stored is left usable.
    pub async fn register(&self, prepared: Prepared) -> Result<Registered, RegisterError> {
        let Prepared { keys, manifests, nodes, shares } = prepared;
        let mut rng = UnwrapErr(getrandom::SysRng);
        let registration = Binary(KeyId::random(&mut rng).as_bytes().to_vec());
        let encoded = manifests.iter().map(encode).collect::<Result<Vec<_>, _>>().map_err(RegisterError::Core)?;
        let aad = registration_aad(manifests.iter().map(Manifest::digest), &self.registrant);
        let mut calls = Vec::with_capacity(nodes.len());
        for (node, shares) in nodes.iter().zip(&shares) {
            let sealed = self.seal(node, shares, &aad).map_err(RegisterError::Core)?;
            let request = RegisterRequest {
                registration: registration.clone(),
                manifests: encoded.clone(),
                sealed: Binary(sealed),
                access: Vec::new(),
            };
            calls.push((node.clone(), post("/v1/register", &request)));
        }
        let failed = self.tell_all(calls, &keys).await;
        if !failed.is_empty() {
            return Err(self.take_back(&nodes, &keys, failed).await);
        }
        let unconfirmed = self.confirm(&keys).await;
        Ok(Registered { manifests, unconfirmed })
    }

    /// Tells every active node that all of them hold these keys; returns the nodes that could not be told.
    pub async fn confirm(&self, keys: &[KeyId]) -> Vec<NodeError> {
        self.tell_each(&self.active_nodes(), "/v1/confirm", keys).await
    }

    /// Deletes keys on every node for ever; returns the nodes that did not.
    pub async fn unregister(&self, keys: &[KeyId]) -> Vec<NodeError> {
        let nodes: Vec<Node> = self.directory().nodes.iter().cloned().collect();
        self.tell_each(&nodes, "/v1/unregister", keys).await
    }

    /// The threshold for new keys.
    fn threshold(&self, nodes: usize, needed: Option<u8>) -> Result<Threshold, RegisterError> {
        let floor = self.directory().floor;
        let count = u8::try_from(nodes).unwrap_or(u8::MAX);
        let usual = Threshold::majority(count).map_or(floor, |usual| usual.needed().max(floor));
        let needed = needed.unwrap_or(usual);
        Threshold::new(needed, count)
            .ok()
            .filter(|threshold| threshold.needed() >= floor)
            .ok_or(RegisterError::Threshold { needed, nodes, floor })
    }

    fn seal(&self, node: &Node, shares: &[ShareRecord], aad: &[u8]) -> Result<Vec<u8>, eds_core::Error> {
        let mut list = Zeroizing::new(vec![0; share_list_len(shares.len())]);
        encode_share_list(shares.iter(), &mut list)?;
        let recipient = PublicKey::try_from(&node.transport_key)?;
        let one_time = AwsLcDhKey::generate()?;
        seal_vec(one_time, &Info::share(self.directory().cluster, node.id), aad, &recipient, &list)
            .map_err(|_| eds_core::Error::Rejected)
    }

    async fn take_back(&self, nodes: &[Node], keys: &[KeyId], failed: Vec<NodeError>) -> RegisterError {
        let mut leftovers = self.tell_each(nodes, "/v1/withdraw", keys).await;
        leftovers.retain(|error| match &error.fault {
            // It never stored the key: there is nothing to take back.
            NodeFault::Refused(problem) => problem.word() != "key-not-found",
            // It did not store the key by its own word, or was never reached.
            _ => !failed.iter().any(|refused| {
                refused.node == error.node
                    && matches!(refused.fault, NodeFault::Refused(_) | NodeFault::Unreachable(_) | NodeFault::Tls(_))
            }),
        });
        let faults = Faults(failed);
        if leftovers.is_empty() {
            RegisterError::NotAll { faults }
        } else {
            RegisterError::NotAllTakenBack { faults, leftovers: Faults(leftovers) }
        }
    }

    async fn tell_each(&self, nodes: &[Node], path: &str, keys: &[KeyId]) -> Vec<NodeError> {
        let request = KeysRequest { keys: keys.iter().copied().map(KeyText).collect() };
        self.tell_all(nodes.iter().map(|node| (node.clone(), post(path, &request))).collect(), keys).await
    }

    /// Makes all calls at once, each repeated once after a broken connection; returns the nodes that did not do it for
    /// every key.
    pub(super) async fn tell_all(&self, calls: Vec<(Node, Call)>, keys: &[KeyId]) -> Vec<NodeError> {
        let mut running = JoinSet::new();
        for (node, call) in calls {
            let transport = Arc::clone(&self.transport);
            let keys = keys.to_vec();
            running.spawn(async move {
                let mut result = tell(transport.as_ref(), &node, call.clone(), &keys).await;
                if matches!(result, Err(NodeFault::Unreachable(_))) {
                    result = tell(transport.as_ref(), &node, call, &keys).await;
                }
                result.err().map(|fault| NodeError { node: node.number, url: node.url.as_str().into(), fault })
            });
        }
        let mut failed: Vec<NodeError> = running.join_all().await.into_iter().flatten().collect();
        failed.sort_by_key(|error| error.node);
        failed
    }
}

async fn tell(transport: &impl Transport, node: &Node, call: Call, keys: &[KeyId]) -> Result<(), NodeFault> {
    let answer = transport.call(node, call).await?;
    let answer: KeysAnswer =
        serde_json::from_slice(&answer).map_err(|error| NodeFault::BadAnswer(error.to_string()))?;
    if !answer.results.iter().map(|result| &result.key.0).eq(keys) {
        return Err(NodeFault::BadAnswer("the results are not those of the keys asked for".into()));
    }
    match answer.results.into_iter().find_map(|result| result.problem) {
        Some(problem) => Err(NodeFault::Refused(Box::new(problem))),
        None => Ok(()),
    }
}

fn post(path: &str, request: &impl serde::Serialize) -> Call {
    // These bodies are plain lists and strings: writing them cannot fail.
    Call { path: path.into(), body: Some(Bytes::from(serde_json::to_vec(request).unwrap_or_default())) }
}

fn encode(manifest: &Manifest) -> Result<Binary, eds_core::Error> {
    let mut buffer = [0; manifest::MAX_BYTES];
    manifest.encode(&mut buffer).map(|bytes| Binary(bytes.to_vec()))
}
