//! What an imaging device made, on its way to the key servers: each gets its own part of a bundle.
//!
//! Unlike a registration, nothing is taken back when too few nodes take it: the device has forgotten the key, and who has its
//! bundle brings it again. Nothing of a bundle is believed here; what can be seen to be wrong is named before anybody is asked.

use eds_core::{
    api::{Binary, RegisterRequest},
    directory::Node,
    ids::{ClusterId, KeyId, NodeId, ShareIndex, Threshold},
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
    /// The quorum leaves so many nodes to be told later that they open images of their own.
    #[error(
        "a quorum of {quorum} is too small for couriers: it leaves {late} key servers that hear of an image later, and {needed} open it; they \
         would not know of rights that its owner took away meanwhile"
    )]
    TooManyLate {
        /// The q asked for.
        quorum: usize,
        /// How many nodes it leaves.
        late: usize,
        /// The m of the key.
        needed: u8,
    },
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
            Self::UnknownNode { .. } | Self::Quorum(_) | Self::TooManyLate { .. } => false,
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
            Self::TooManyLate { .. } => Kind::Usage,
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
            Self::TooManyLate { quorum, late, needed } => {
                let wanted = (quorum + late + 1).saturating_sub(usize::from(*needed));
                Some(format!("--quorum {wanted}, or more, or `quorum` in [keys] of config.toml"))
            }
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

/// How many nodes must hold the key of an image before it counts as delivered. Those that hear of it later take the access list of the
/// enrolment, since a courier may read no other: they must be fewer than open it, or what its owner took away would be given back.
fn enough_of_device(quorum: Quorum, threshold: Threshold, nodes: usize) -> Result<Enough, DeliverError> {
    let enough = enough(quorum, threshold, nodes).map_err(DeliverError::Quorum)?;
    let (needed, late) = (threshold.needed(), enough.of.saturating_sub(enough.nodes));
    if late < usize::from(needed) {
        Ok(enough)
    } else {
        Err(DeliverError::TooManyLate { quorum: enough.nodes, late, needed })
    }
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
        let enough = enough_of_device(quorum, manifest.threshold, nodes.len())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_hear_of_an_image_later_never_open_it_alone() {
        for nodes in 1..=8u8 {
            for needed in 1..=nodes {
                let threshold = Threshold::new(needed, nodes).expect("in range");
                assert!(enough_of_device(Quorum::All, threshold, nodes.into()).is_ok());
                for quorum in 0..=nodes + 1 {
                    let fits = (needed..=nodes).contains(&quorum);
                    match enough_of_device(Quorum::Nodes(quorum), threshold, nodes.into()) {
                        Ok(enough) => assert!(fits && nodes - quorum < needed && enough.nodes == usize::from(quorum)),
                        Err(DeliverError::TooManyLate { late, .. }) => assert!(fits && late >= usize::from(needed)),
                        Err(_) => assert!(!fits, "{quorum} of {nodes}, {needed} needed"),
                    }
                }
            }
        }
        let threshold = Threshold::new(2, 5).expect("in range");
        let refused = enough_of_device(Quorum::Nodes(3), threshold, 5).expect_err("two late nodes open it");
        assert_eq!(refused.kind(), Kind::Usage);
        assert_eq!(refused.hint().as_deref(), Some("--quorum 4, or more, or `quorum` in [keys] of config.toml"));
    }
}
