//! Registrations that reach a node late: what is kept for a node that was away, and how it is delivered.
//!
//! A [`Message`] is what the node was sent in vain. It is sealed to the node, bound to its registrant and complete: manifests,
//! shares and registration id, so that the node verifies it on its own, and delivering it again is the same registration.
//!
//! Much may have changed when it is delivered, so nothing is sent before the other nodes were asked. Their access list, which
//! max(m, floor) of them must hold identically, goes with the message: the node never comes up with an older, wider one.
//! What was deleted is not brought back. When the node has confirmed, the lists are compared once more, for a change that
//! came in between; whoever made it was told that this node is missing.

mod device;
mod message;
mod obstacle;

use std::collections::BTreeMap;

use eds_core::{
    api::{KeyState, access::AccessList},
    directory::{Directory, Node},
    ids::{KeyId, ShareIndex},
    manifest::Manifest,
};

pub use self::{message::Message, obstacle::Obstacle};
use super::{
    Keystore, NodeError, NodeFault, NodeView, Transport,
    access::{
        AccessError,
        agree::{Seen, agree, plan},
    },
    error::Faults,
    register::{keys_call, node_error, tell_again},
    transport::Call,
};

/// How many messages are delivered on what the nodes were asked once.
pub const ROUND: usize = 50;

/// What became of a message.
#[derive(Debug)]
pub enum Fate {
    /// The node holds its shares, confirmed; with what is to be told about nodes whose access lists differ.
    Delivered(Vec<NodeError>),
    /// Its keys were deleted meanwhile.
    Deleted,
    /// Its registration was cut off before anybody was told of it; what it left on the nodes was taken back.
    TakenBack,
    /// It stays.
    Stays(Obstacle),
}

/// A message and whether its registration was acknowledged to somebody.
pub struct Kept<'a> {
    /// The message.
    pub message: &'a Message,
    /// Whether its registration counts, whatever the nodes say.
    pub acknowledged: bool,
}

/// Nodes that could not be reached: they are not tried for every message.
pub type Away = BTreeMap<ShareIndex, NodeFault>;

/// What the nodes say of one key.
enum Life {
    /// In use, with this list; and the nodes that were not told that it is confirmed.
    InUse(Box<AccessList>, Vec<Node>),
    Deleted,
    NeverConfirmed,
}

impl<T: Transport> Keystore<T> {
    /// Delivers messages, at most [`ROUND`]; says what became of each, in order. Doing it again does no harm.
    pub async fn deliver(&self, kept: &[Kept<'_>], away: &mut Away) -> Vec<Fate> {
        let of_people = kept.iter().filter(|kept| kept.message.device().is_none());
        let mut keys: Vec<KeyId> = of_people.flat_map(|kept| kept.message.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let views = if keys.is_empty() { Vec::new() } else { self.access_of_all(&keys).await };
        let views: BTreeMap<KeyId, Vec<NodeView<Seen>>> = keys.into_iter().zip(views).collect();
        let mut fates = Vec::with_capacity(kept.len());
        for kept in kept {
            let delivered = match kept.message.device() {
                Some(_) => self.deliver_of_device(kept.message, away).await,
                None => self.deliver_one(kept, &views, away).await,
            };
            fates.push(match delivered {
                Ok(fate) => fate,
                Err(obstacle) => Fate::Stays(obstacle),
            });
        }
        self.compare(kept, &mut fates).await;
        fates
    }

    /// Why a message can never be delivered, as far as that is known without asking anybody.
    pub fn undeliverable(&self, message: &Message) -> Option<Obstacle> {
        addressee(self.directory(), &self.registrant, message).err()
    }

    async fn deliver_one(
        &self,
        kept: &Kept<'_>,
        views: &BTreeMap<KeyId, Vec<NodeView<Seen>>>,
        away: &mut Away,
    ) -> Result<Fate, Obstacle> {
        let message = kept.message;
        let node = addressee(self.directory(), &self.registrant, message)?;
        let nothing = Vec::new();
        let life = |manifest: &Manifest| {
            let views = views.get(&manifest.key).unwrap_or(&nothing);
            life(self.directory(), manifest, message.node, kept.acknowledged, views)
        };
        let lives: Vec<Life> = message.manifests().iter().map(life).collect::<Result<_, _>>()?;
        if lives.iter().any(|life| matches!(life, Life::NeverConfirmed)) {
            return self.take_back_all(message).await;
        }
        if lives.iter().all(|life| matches!(life, Life::Deleted)) {
            return Ok(Fate::Deleted);
        }
        let failed = |fault| Obstacle::Node(node_error(node, fault));
        if let Some(fault) = away.get(&node.number) {
            return Err(failed(fault.clone()));
        }
        let (mut used, mut deleted) = (Vec::new(), Vec::new());
        for (key, life) in message.keys().into_iter().zip(&lives) {
            if matches!(life, Life::InUse(..)) { used.push(key) } else { deleted.push(key) }
        }
        let lists = lives.iter().map(|life| match life {
            Life::InUse(list, _) => Some(list.as_ref().clone()),
            Life::Deleted | Life::NeverConfirmed => None,
        });
        let registered = self.tell_one(node, message.call(lists.collect()), &message.keys()).await;
        if let Err(fault) = registered {
            if matches!(fault, NodeFault::Unreachable(_) | NodeFault::Timeout | NodeFault::Tls(_)) {
                away.insert(node.number, fault.clone());
            }
            // One of its keys is deleted there already: it came before, and what it holds of the others is confirmed below.
            if deleted.is_empty() || !fault.is("key-deleted") {
                return Err(failed(fault));
            }
        }
        if !deleted.is_empty() {
            self.tell_one(node, keys_call("/v1/withdraw", &deleted), &deleted).await.map_err(failed)?;
        }
        self.tell_one(node, keys_call("/v1/confirm", &used), &used).await.map_err(failed)?;
        let untold: Vec<Node> = lives.into_iter().flat_map(Life::untold).collect();
        // Whom that does not reach now, `eds key confirm` does.
        self.tell_each(&untold, "/v1/confirm", &used).await;
        Ok(Fate::Delivered(Vec::new()))
    }

    async fn tell_one(&self, node: &Node, call: Call, keys: &[KeyId]) -> Result<(), NodeFault> {
        let first = |faults: Vec<NodeFault>| faults.into_iter().next().unwrap_or(NodeFault::Timeout);
        tell_again(self.transport.as_ref(), node, call, keys).await.map_err(first)
    }

    /// Takes back a registration that nobody was told of.
    async fn take_back_all(&self, message: &Message) -> Result<Fate, Obstacle> {
        let nodes: Vec<Node> = self.directory().nodes.iter().cloned().collect();
        let mut failed = self.every_reason(&nodes, "/v1/withdraw", &message.keys()).await;
        failed.retain(|error| error.node != message.node && !error.fault.is("key-not-found"));
        if failed.is_empty() { Ok(Fate::TakenBack) } else { Err(Obstacle::CutOff) }
    }

    /// Compares the access lists after delivery, and brings the late node up to date where that is sure.
    async fn compare(&self, kept: &[Kept<'_>], fates: &mut [Fate]) {
        let delivered = kept.iter().zip(fates).filter_map(|(kept, fate)| match fate {
            Fate::Delivered(differing) if kept.message.device().is_none() => Some((kept.message, differing)),
            _ => None,
        });
        let delivered: Vec<_> = delivered.collect();
        let keys: Vec<KeyId> = delivered.iter().flat_map(|(message, _)| message.keys()).collect();
        if keys.is_empty() {
            return;
        }
        let mut views = self.access_of_all(&keys).await.into_iter();
        for (message, differing) in delivered {
            for key in message.keys() {
                let views = views.next().unwrap_or_default();
                differing.extend(self.bring_up_to_date(key, message.node, &views).await);
            }
        }
    }

    async fn bring_up_to_date(&self, key: KeyId, late: ShareIndex, views: &[NodeView<Seen>]) -> Vec<NodeError> {
        // What cannot be agreed on is not repaired in passing; `eds key sync` shows it.
        let Ok(plan) = plan(self.directory(), key, views, None) else { return Vec::new() };
        let Some((node, seen)) = plan.behind.into_iter().find(|(node, _)| node.number == late) else {
            return Vec::new();
        };
        if plan.list.version != plan.agreed.list.version {
            return vec![node_error(&node, NodeFault::OtherList)];
        }
        self.send(key, std::iter::once((node, seen)), &plan.list).await
    }
}

impl Life {
    fn untold(self) -> Vec<Node> {
        match self {
            Self::InUse(_, untold) => untold,
            Self::Deleted | Self::NeverConfirmed => Vec::new(),
        }
    }
}

/// The node that a message is for, as the directory describes it now, if it can still open it.
fn addressee<'a>(directory: &'a Directory, caller: &[u8; 32], message: &Message) -> Result<&'a Node, Obstacle> {
    let (number, version) = (message.node, directory.version);
    if let Some(other) = message.manifests().iter().find(|manifest| manifest.cluster != directory.cluster) {
        return Err(Obstacle::OtherCluster { cluster: other.cluster });
    }
    let retired = Obstacle::NodeRetired { node: number, version };
    let node = directory.node(number).filter(|node| node.active).ok_or(retired)?;
    if node.id != message.node_id || node.transport_key != message.transport_key {
        return Err(Obstacle::NodeReplaced { node: number, version });
    }
    let below = message.manifests().iter().find(|manifest| manifest.threshold.needed() < directory.floor);
    if let Some(manifest) = below {
        return Err(Obstacle::BelowFloor { needed: manifest.threshold.needed(), floor: directory.floor });
    }
    if message.registrant != *caller && message.device().is_none() {
        return Err(Obstacle::OtherRegistrant);
    }
    Ok(node)
}

/// What the other nodes say of a key. That it is deleted is believed when none of them contradicts: one that lies could
/// else keep the share from a node that is needed. While some say so, nothing is sent.
fn life(
    directory: &Directory,
    registered: &Manifest,
    late: ShareIndex,
    acknowledged: bool,
    views: &[NodeView<Seen>],
) -> Result<Life, Obstacle> {
    let key = registered.key;
    let is_other = |number| number != late && registered.share_digest(number).is_some();
    let others = || views.iter().filter(|view| is_other(view.node.number));
    let refused = |view: &NodeView<Seen>, word| view.answer.as_ref().is_err_and(|fault| fault.is(word));
    let gone = |view: &NodeView<Seen>| refused(view, "key-deleted") || refused(view, "key-not-found");
    let seen = |view: &NodeView<Seen>, state| view.answer.as_ref().is_ok_and(|seen| seen.state == state);

    if !acknowledged && !others().any(|view| seen(view, KeyState::Active)) {
        let sure = others().all(|view| seen(view, KeyState::Pending) || gone(view));
        return if sure { Ok(Life::NeverConfirmed) } else { Err(Obstacle::CutOff) };
    }
    let deleted: Vec<ShareIndex> =
        others().filter(|view| refused(view, "key-deleted")).map(|view| view.node.number).collect();
    if !deleted.is_empty() {
        return if others().all(gone) { Ok(Life::Deleted) } else { Err(Obstacle::HalfDeleted { key, nodes: deleted }) };
    }
    let manifests = || others().filter_map(|view| Some(view.answer.as_ref().ok()?.manifest.as_ref()));
    let ours = manifests().filter(|manifest| *manifest == registered).count();
    if ours < manifests().count() && ours < usize::from(registered.threshold.needed().max(directory.floor)) {
        return Err(Obstacle::OtherManifest { key });
    }
    let agreed = agree(directory, key, views).map_err(|error| Obstacle::AccessList(without(error, late)))?;
    let untold = others().filter(|view| seen(view, KeyState::Pending)).map(|view| view.node.clone());
    Ok(Life::InUse(Box::new(agreed.list), untold.collect()))
}

/// An error about nodes without what the late node said: that it has no such key is known.
fn without(error: AccessError, late: ShareIndex) -> AccessError {
    match error {
        AccessError::NoAgreement { key, agreeing, needed, faults: Faults(mut faults) } => {
            faults.retain(|fault| fault.node != late || !fault.fault.is("key-not-found"));
            AccessError::NoAgreement { key, agreeing, needed, faults: Faults(faults) }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
