//! What an imaging device made, on its way to the key servers: each gets its own part of a bundle.
//!
//! Unlike a registration, nothing is taken back when too few nodes take it: the device has forgotten the key, and who has its
//! bundle brings it again. Nothing of a bundle is believed here; what can be seen to be wrong is named before anybody is asked.

use eds_core::{
    api::{Binary, RegisterRequest},
    directory::Node,
    ids::{ClusterId, KeyId, NodeId, ShareIndex},
    link::Bundle,
    manifest::Manifest,
    registrant::Registrant,
};

use super::{
    Keystore, Message, NodeError, Quorum, RegisterError, Registered, Transport,
    error::{Enough, Faults},
    register::enough,
};
use crate::error::Kind;

/// A bundle, as it goes to the nodes.
#[derive(Debug)]
pub struct Unbundled {
    manifest: Manifest,
    nodes: Vec<Node>,
    messages: Vec<Message>,
    enough: Enough,
}

/// A bundle that could not be delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliverError {
    /// It is for another cluster.
    #[error("key {key} is for cluster {cluster}, and this client has pinned another: the device has another directory")]
    OtherCluster {
        /// The key.
        key: KeyId,
        /// The cluster.
        cluster: ClusterId,
    },
    /// A node that the manifest names is not in the pinned directory.
    #[error("key {key}: node {node} is not in the pinned directory of the cluster")]
    UnknownNode {
        /// The key.
        key: KeyId,
        /// The node.
        node: ShareIndex,
    },
    /// No part for a node: one was dropped, or put in another's place.
    #[error(
        "key {key}: the bundle has no part for node {node} (id {id}): it was dropped, or is in another node's place"
    )]
    NoPart {
        /// The key.
        key: KeyId,
        /// The node.
        node: ShareIndex,
        /// Its id.
        id: NodeId,
    },
    /// The quorum does not fit.
    #[error(transparent)]
    Quorum(RegisterError),
    /// Too few nodes took their parts.
    #[error("key {key} is not registered yet: {enough}{faults}")]
    NotEnough {
        /// The key.
        key: KeyId,
        /// How many must.
        enough: Enough,
        /// What each of the others said.
        faults: Faults,
    },
}

impl DeliverError {
    /// Whether it will never be otherwise: so many nodes refuse for good that the quorum cannot be reached.
    pub fn is_final(&self) -> bool {
        match self {
            Self::OtherCluster { .. } | Self::NoPart { .. } => true,
            // A newer directory may know it.
            Self::UnknownNode { .. } | Self::Quorum(_) => false,
            Self::NotEnough { enough, faults, .. } => {
                let refused = faults.0.iter().filter(|error| error.fault.is_final()).count();
                enough.of.saturating_sub(refused) < enough.nodes
            }
        }
    }

    /// For retry and exit code.
    pub fn kind(&self) -> Kind {
        match self {
            Self::OtherCluster { .. } => Kind::Conflict,
            Self::UnknownNode { .. } => Kind::Unavailable,
            Self::NoPart { .. } => Kind::Damaged,
            Self::Quorum(error) => error.kind(),
            Self::NotEnough { faults, .. } => faults.kind(),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::OtherCluster { .. } => Some("provision the device with the directory of this cluster".into()),
            Self::UnknownNode { .. } => Some("`eds cluster update` takes a newer directory".into()),
            Self::NoPart { .. } => None,
            Self::Quorum(error) => error.hint(),
            Self::NotEnough { faults, .. } => hint(&faults.0),
        }
    }
}

fn hint(faults: &[NodeError]) -> Option<String> {
    let any = |word| faults.iter().any(|error| error.fault.is(word));
    let text = if any("device-unknown") {
        "the officers of those nodes enrol the device: eds-keystored device enroll"
    } else if any("not-permitted") {
        "the officers of those nodes name this courier in policy.couriers; `eds whoami` shows whom they take it for"
    } else {
        return None;
    };
    Some(text.into())
}

impl<T: Transport> Keystore<T> {
    /// Sorts a bundle by nodes.
    ///
    /// # Errors
    /// [`DeliverError`] of what can be seen without asking anybody.
    pub fn unbundle(&self, bundle: &Bundle<'_>, quorum: Quorum) -> Result<Unbundled, DeliverError> {
        let (manifest, directory) = (bundle.manifest().clone(), self.directory());
        let key = manifest.key;
        if manifest.cluster != directory.cluster {
            return Err(DeliverError::OtherCluster { key, cluster: manifest.cluster });
        }
        let device = manifest.origin.as_ref().map(|origin| origin.device);
        let registrant =
            device.map(|device| Registrant::device(&manifest.cluster, &device).digest()).unwrap_or_default();
        let digest = manifest.digest();
        let (mut nodes, mut messages) = (Vec::new(), Vec::new());
        for (number, _) in &manifest.shares {
            let node = directory.node(*number).ok_or(DeliverError::UnknownNode { key, node: *number })?;
            let part = bundle.shares().find(|(id, _)| *id == node.id);
            let (_, sealed) = part.ok_or(DeliverError::NoPart { key, node: *number, id: node.id })?;
            let request = RegisterRequest {
                // Every courier names it alike; the node does not ask.
                registration: Binary(digest.first_chunk::<16>().map(|id| id.to_vec()).unwrap_or_default()),
                manifests: vec![Binary(bundle.manifest_bytes().to_vec())],
                sealed: Binary(sealed.to_vec()),
                access: Vec::new(),
                names: Vec::new(),
            };
            let message = Message::new(node.number, node.id, node.transport_key, registrant, request);
            // The bundle's manifest was read already.
            messages.push(message.map_err(|_| DeliverError::NoPart { key, node: *number, id: node.id })?);
            nodes.push(node.clone());
        }
        let enough = enough(quorum, manifest.threshold, nodes.len()).map_err(DeliverError::Quorum)?;
        Ok(Unbundled { manifest, nodes, messages, enough })
    }

    /// Delivers a bundle to as many nodes as it was sorted for, at least. The messages for the others go to `keep`, which has
    /// them on the disk when it returns; only then is the key confirmed. Doing it again does no harm.
    ///
    /// # Errors
    /// [`DeliverError::NotEnough`], and what `keep` failed with: bring the bundle again.
    pub async fn deliver_bundle<E: From<DeliverError>>(
        &self,
        unbundled: &Unbundled,
        keep: impl FnOnce(&[Message]) -> Result<(), E>,
    ) -> Result<Registered, E> {
        let Unbundled { manifest, nodes, messages, enough } = unbundled;
        let keys = [manifest.key];
        let calls = nodes.iter().zip(messages).map(|(node, message)| (node.clone(), message.call(Vec::new())));
        let late = self.tell_until(calls.collect(), &keys, enough.nodes).await;
        if nodes.len().saturating_sub(late.len()) < enough.nodes {
            let (key, enough) = (manifest.key, *enough);
            return Err(DeliverError::NotEnough { key, enough, faults: Faults(late) }.into());
        }
        let is_late = |node: &Node| late.iter().any(|error| error.node == node.number);
        let waiting = nodes.iter().zip(messages).filter(|(node, _)| is_late(node));
        let waiting: Vec<Message> = waiting.map(|(_, message)| message.clone()).collect();
        if !waiting.is_empty() {
            keep(&waiting)?;
        }
        let held: Vec<Node> = nodes.iter().filter(|node| !is_late(node)).cloned().collect();
        let unconfirmed = self.tell_each(&held, "/v1/device/confirm", &keys).await;
        Ok(Registered { manifests: vec![manifest.clone()], unconfirmed, late })
    }
}
