//! Registering keys, confirming them, and deleting them.
//!
//! A registration needs every active node or, where the caller asked for that, a quorum q of them (m ≤ q ≤ n). When fewer
//! store their shares, what this call stored is taken back, and nothing else is touched. When q do, the messages for the
//! others, sealed to them, are given to the caller to be kept before anything is confirmed: a confirmed key is one whose
//! other shares are safe. Calls name a registration id, so that repeating one after a broken connection, or delivering it
//! much later, is the same registration.

use std::{str::FromStr, sync::Arc, time::Duration};

use eds_core::{
    api::{Binary, KeyText, KeysAnswer, KeysRequest, RegisterRequest, name::KeyName},
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

use super::{
    Keystore, Message, NodeError, NodeFault, RegisterError, Transport,
    error::{Enough, Faults},
    transport::Call,
};

/// How long the other nodes are waited for when enough of them hold their shares.
const GRACE: Duration = Duration::from_secs(1);

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

/// How many nodes must hold their shares before a registration counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Quorum {
    /// All of them.
    #[default]
    All,
    /// So many; the shares of the others wait to be delivered.
    Nodes(u8),
}

impl FromStr for Quorum {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self::All),
            number => number.parse().map(Self::Nodes).map_err(|_| "a number of key servers, or all, is expected"),
        }
    }
}

/// How keys are shared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// How many nodes open them; the usual number when `None`.
    pub needed: Option<u8>,
    /// How many nodes must hold them.
    pub quorum: Quorum,
}

/// Keys that enough nodes hold.
#[derive(Debug)]
pub struct Registered {
    /// The manifest of each key, in the order of the call.
    pub manifests: Vec<Manifest>,
    /// Nodes that hold the keys but could not be told that enough others do; `confirm` tells them later.
    pub unconfirmed: Vec<NodeError>,
    /// Nodes that do not hold their shares yet, with what they said.
    pub late: Vec<NodeError>,
}

/// Keys split for the active nodes and not yet sent: their manifests, and so their anchors, are known before any node is.
#[derive(Debug)]
pub struct Prepared {
    keys: Vec<KeyId>,
    manifests: Vec<Manifest>,
    /// What the keys are to be called; fewer when the last ones have no name.
    names: Vec<Option<KeyName>>,
    nodes: Vec<Node>,
    /// For each node, its share of each key.
    shares: Vec<Vec<ShareRecord>>,
    enough: Enough,
}

impl Prepared {
    /// The manifest of this key.
    pub fn manifest(&self, key: KeyId) -> Option<&Manifest> {
        self.manifests.iter().find(|manifest| manifest.key == key)
    }

    /// The first key under this name. Register it with every node: a name is nobody else's on any of them then.
    #[must_use]
    pub fn named(mut self, name: KeyName) -> Self {
        self.names = vec![Some(name)];
        self
    }

    /// Whether shares of some nodes may have to wait, and so must be kept.
    pub fn may_wait(&self) -> bool {
        self.enough.nodes < self.enough.of
    }

    /// Several as one, to be registered by one call to each node. None of none, and of those that were not prepared for
    /// the same nodes on the same terms.
    pub fn joined(many: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut many = many.into_iter();
        let mut all = many.next()?;
        for one in many {
            let same = all.nodes.iter().map(|node| node.number).eq(one.nodes.iter().map(|node| node.number));
            if !same || (one.enough.nodes, one.enough.of) != (all.enough.nodes, all.enough.of) {
                return None;
            }
            all.names.resize(all.keys.len(), None);
            all.names.extend(one.names);
            all.keys.extend(one.keys);
            all.manifests.extend(one.manifests);
            all.shares.iter_mut().zip(one.shares).for_each(|(of_node, shares)| of_node.extend(shares));
        }
        Some(all)
    }

    /// The keys.
    pub fn keys(&self) -> &[KeyId] {
        &self.keys
    }
}

impl<T: Transport> Keystore<T> {
    /// Splits keys over the active nodes on these terms. Nothing leaves this process.
    ///
    /// # Errors
    /// [`RegisterError::Threshold`], [`RegisterError::Quorum`], [`RegisterError::Core`].
    pub fn prepare(&self, keys: &[NewKey], terms: Terms) -> Result<Prepared, RegisterError> {
        let nodes = self.active_nodes();
        let threshold = self.threshold(nodes.len(), terms.needed)?;
        let enough = enough(terms.quorum, threshold, nodes.len())?;
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
        Ok(Prepared {
            keys: keys.iter().map(|key| key.id).collect(),
            manifests,
            names: Vec::new(),
            nodes,
            shares,
            enough,
        })
    }

    /// Stores prepared keys on every active node, whatever quorum they were prepared for. At most
    /// [`eds_core::api::MAX_BATCH`] keys.
    ///
    /// # Errors
    /// [`RegisterError`]; nothing that this call stored is left usable.
    pub async fn register(&self, prepared: Prepared) -> Result<Registered, RegisterError> {
        let enough = Enough { nodes: prepared.enough.of, ..prepared.enough };
        self.register_at_quorum(Prepared { enough, ..prepared }, |_| Ok(())).await
    }

    /// Stores prepared keys on as many nodes as they were prepared for. The messages for the others go to `keep`, which
    /// has them on the disk when it returns; only then are the keys confirmed. It is not called when all nodes hold them.
    ///
    /// # Errors
    /// [`RegisterError`], and what `keep` failed with; nothing that this call stored is left usable.
    pub async fn register_at_quorum<E: From<RegisterError>>(
        &self,
        prepared: Prepared,
        keep: impl FnOnce(&[Message]) -> Result<(), E>,
    ) -> Result<Registered, E> {
        let Prepared { keys, manifests, names, nodes, shares, enough } = prepared;
        let messages = self.messages(&manifests, &names, &nodes, &shares).map_err(RegisterError::Core)?;
        drop(shares);
        let calls = nodes.iter().zip(&messages).map(|(node, message)| (node.clone(), message.call(Vec::new())));
        let late = self.tell_until(calls.collect(), &keys, enough.nodes).await;
        if nodes.len() - late.len() < enough.nodes || late.iter().any(|error| !error.fault.may_pass()) {
            return Err(self.take_back(&nodes, &keys, enough, late).await.into());
        }
        let (waiting, held): (Vec<_>, Vec<_>) =
            nodes.iter().zip(messages).partition(|(node, _)| late.iter().any(|error| error.node == node.number));
        if !waiting.is_empty() {
            let waiting: Vec<Message> = waiting.into_iter().map(|(_, message)| message).collect();
            if let Err(error) = keep(&waiting) {
                self.tell_each(&nodes, "/v1/withdraw", &keys).await;
                return Err(error);
            }
        }
        let held: Vec<Node> = held.into_iter().map(|(node, _)| node.clone()).collect();
        let unconfirmed = self.tell_each(&held, "/v1/confirm", &keys).await;
        Ok(Registered { manifests, unconfirmed, late })
    }

    /// What each node is to be sent.
    fn messages(
        &self,
        manifests: &[Manifest],
        names: &[Option<KeyName>],
        nodes: &[Node],
        shares: &[Vec<ShareRecord>],
    ) -> Result<Vec<Message>, eds_core::Error> {
        let mut rng = UnwrapErr(getrandom::SysRng);
        let registration = Binary(KeyId::random(&mut rng).as_bytes().to_vec());
        let encoded = manifests.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        let aad = registration_aad(manifests.iter().map(Manifest::digest), &self.registrant);
        let mut texts: Vec<_> = names.iter().map(|name| name.as_ref().map(|name| name.as_str().to_owned())).collect();
        if texts.iter().all(Option::is_none) {
            texts.clear();
        } else {
            texts.resize(manifests.len(), None);
        }
        let message = |(node, shares): (&Node, &Vec<ShareRecord>)| {
            let request = RegisterRequest {
                registration: registration.clone(),
                manifests: encoded.clone(),
                sealed: Binary(self.seal(node, shares, &aad)?),
                access: Vec::new(),
                names: texts.clone(),
            };
            Message::new(node.number, node.id, node.transport_key, self.registrant, request)
        };
        nodes.iter().zip(shares).map(message).collect()
    }

    /// Tells every active node that all of them hold these keys; returns the nodes that could not be told.
    pub async fn confirm(&self, keys: &[KeyId]) -> Vec<NodeError> {
        self.tell_each(&self.active_nodes(), "/v1/confirm", keys).await
    }

    /// Deletes keys on every node for ever; returns the nodes that did not, each once for every reason that it gave: one may
    /// not know some of the keys and refuse others.
    pub async fn unregister(&self, keys: &[KeyId]) -> Vec<NodeError> {
        let nodes: Vec<Node> = self.directory().nodes.iter().cloned().collect();
        self.every_reason(&nodes, "/v1/unregister", keys).await
    }

    /// Makes a call to each node; returns the nodes that did not do it for every key, each once for every reason.
    pub(super) async fn every_reason(&self, nodes: &[Node], path: &str, keys: &[KeyId]) -> Vec<NodeError> {
        let call = keys_call(path, keys);
        let failed = self.told(nodes.iter().map(|node| (node.clone(), call.clone())).collect(), keys, usize::MAX).await;
        let errors = |(node, faults): (Node, Vec<NodeFault>)| {
            faults.into_iter().map(|fault| node_error(&node, fault)).collect::<Vec<_>>()
        };
        failed.into_iter().flat_map(errors).collect()
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

    async fn take_back(&self, nodes: &[Node], keys: &[KeyId], enough: Enough, failed: Vec<NodeError>) -> RegisterError {
        // A node that refused stored nothing of this call: what it may have under this id is another's.
        let refused = |node: &Node| {
            failed.iter().any(|error| error.node == node.number && matches!(error.fault, NodeFault::Refused(_)))
        };
        let stored: Vec<Node> = nodes.iter().filter(|node| !refused(node)).cloned().collect();
        let mut leftovers = self.every_reason(&stored, "/v1/withdraw", keys).await;
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
            RegisterError::NotAll { enough, faults }
        } else {
            RegisterError::NotAllTakenBack { enough, faults, leftovers: Faults(leftovers) }
        }
    }

    pub(super) async fn tell_each(&self, nodes: &[Node], path: &str, keys: &[KeyId]) -> Vec<NodeError> {
        let call = keys_call(path, keys);
        self.tell_all(nodes.iter().map(|node| (node.clone(), call.clone())).collect(), keys).await
    }

    /// Makes all calls at once; returns the nodes that did not do it for every key.
    pub(super) async fn tell_all(&self, calls: Vec<(Node, Call)>, keys: &[KeyId]) -> Vec<NodeError> {
        self.tell_until(calls, keys, usize::MAX).await
    }

    /// Makes all calls at once, and does not wait for the slowest when `enough` nodes have done it for every key; returns
    /// the nodes that have not.
    pub(super) async fn tell_until(&self, calls: Vec<(Node, Call)>, keys: &[KeyId], enough: usize) -> Vec<NodeError> {
        let failed = self.told(calls, keys, enough).await;
        failed.into_iter().filter_map(|(node, faults)| Some(node_error(&node, faults.into_iter().next()?))).collect()
    }

    /// As [`Keystore::tell_until`], with every reason that a node gave.
    async fn told(&self, calls: Vec<(Node, Call)>, keys: &[KeyId], enough: usize) -> Vec<(Node, Vec<NodeFault>)> {
        let mut running = JoinSet::new();
        let mut unheard: Vec<Node> = Vec::with_capacity(calls.len());
        for (node, call) in calls {
            unheard.push(node.clone());
            let transport = Arc::clone(&self.transport);
            let keys = keys.to_vec();
            running.spawn(async move { (tell_again(transport.as_ref(), &node, call, &keys).await, node) });
        }
        let (mut failed, mut done) = (Vec::new(), 0);
        let mut deadline = None;
        while !running.is_empty() {
            if done >= enough && deadline.is_none() {
                deadline = Some(tokio::time::Instant::now() + GRACE);
            }
            let heard = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, running.join_next()).await,
                None => Ok(running.join_next().await),
            };
            let Ok(Some(heard)) = heard else { break };
            let Ok((result, node)) = heard else { continue };
            unheard.retain(|other| other.number != node.number);
            match result {
                Ok(()) => done += 1,
                Err(faults) => failed.push((node, faults)),
            }
        }
        failed.extend(unheard.into_iter().map(|node| (node, vec![NodeFault::Timeout])));
        failed.sort_by_key(|(node, _)| node.number);
        failed
    }
}

/// How many nodes must hold keys of this threshold.
pub(super) fn enough(quorum: Quorum, threshold: Threshold, nodes: usize) -> Result<Enough, RegisterError> {
    match quorum {
        Quorum::All => Ok(Enough { nodes, of: nodes }),
        Quorum::Nodes(quorum) if quorum >= threshold.needed() && usize::from(quorum) <= nodes => {
            Ok(Enough { nodes: usize::from(quorum), of: nodes })
        }
        Quorum::Nodes(quorum) => Err(RegisterError::Quorum { quorum, needed: threshold.needed(), nodes }),
    }
}

pub(super) fn node_error(node: &Node, fault: NodeFault) -> NodeError {
    NodeError { node: node.number, url: node.url.as_str().into(), fault }
}

pub(super) fn keys_call(path: &str, keys: &[KeyId]) -> Call {
    post(path, &KeysRequest { keys: keys.iter().copied().map(KeyText).collect() })
}

/// A call that is repeated once after a broken connection.
pub(super) async fn tell_again(
    transport: &impl Transport,
    node: &Node,
    call: Call,
    keys: &[KeyId],
) -> Result<(), Vec<NodeFault>> {
    let answer = match transport.call(node, call.clone()).await {
        Err(NodeFault::Unreachable(_)) => transport.call(node, call).await,
        answer => answer,
    };
    let refused = answer.and_then(|answer| refusals(&answer, keys)).map_err(|fault| vec![fault])?;
    if refused.is_empty() { Ok(()) } else { Err(refused) }
}

/// Why a node did not do what it was asked, each reason once.
fn refusals(answer: &[u8], keys: &[KeyId]) -> Result<Vec<NodeFault>, NodeFault> {
    let answer: KeysAnswer = serde_json::from_slice(answer).map_err(|error| NodeFault::BadAnswer(error.to_string()))?;
    if !answer.results.iter().map(|result| &result.key.0).eq(keys) {
        return Err(NodeFault::BadAnswer("the results are not those of the keys asked for".into()));
    }
    let mut refused: Vec<NodeFault> = Vec::new();
    for problem in answer.results.into_iter().filter_map(|result| result.problem) {
        if !refused.iter().any(|fault| fault.is(problem.word())) {
            refused.push(NodeFault::Refused(Box::new(problem)));
        }
    }
    Ok(refused)
}

pub(super) fn post(path: &str, request: &impl serde::Serialize) -> Call {
    // These bodies are plain lists and strings: writing them cannot fail.
    Call { path: path.into(), body: Some(Bytes::from(serde_json::to_vec(request).unwrap_or_default())) }
}

fn encode(manifest: &Manifest) -> Result<Binary, eds_core::Error> {
    let mut buffer = [0; manifest::MAX_BYTES];
    manifest.encode(&mut buffer).map(|bytes| Binary(bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    use eds_core::api::{KeyResult, Problem};

    use super::*;

    #[test]
    fn an_answer_that_knows_some_keys_as_deleted_and_refuses_others_gives_each_reason_once() {
        let keys: Vec<KeyId> = (1..=4).map(|number| KeyId::from_bytes([number; 16])).collect();
        let words = [Some("key-deleted"), Some("key-deleted"), None, Some("not-permitted")];
        let problem = |word: &str| Problem {
            kind: format!("urn:eds:problem:{word}"),
            title: word.into(),
            status: 403,
            detail: None,
            instance: None,
        };
        let results = keys.iter().zip(words).map(|(key, word)| KeyResult {
            key: KeyText(*key),
            state: None,
            problem: word.map(problem),
        });
        let answer = serde_json::to_vec(&KeysAnswer { results: results.collect() }).expect("encodes");
        let refused = refusals(&answer, &keys).expect("is an answer");
        let [deleted, denied] = &refused[..] else { panic!("{refused:?}") };
        assert!(deleted.is("key-deleted") && denied.is("not-permitted"), "{refused:?}");
        assert!(refusals(&answer, &keys[1..]).is_err(), "an answer about other keys");
    }
}
