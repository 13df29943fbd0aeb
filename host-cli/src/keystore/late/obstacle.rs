//! Why a message could not be delivered, and whether waiting helps.

use eds_core::ids::{ClusterId, KeyId, ShareIndex};

use crate::{
    error::Kind,
    keystore::{NodeError, access::AccessError},
};

/// Why a message was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// The node did not take it.
    #[error("{0}")]
    Node(NodeError),
    /// The other nodes do not say clearly who may use the key.
    #[error("the other key servers must first say who may use the key: {0}")]
    AccessList(AccessError),
    /// Some nodes say that the key is deleted, and others do not.
    #[error(
        "key {key} is deleted, says node {}, and other nodes do not say so: `eds key rm {key}` finishes that",
        list(nodes)
    )]
    HalfDeleted {
        /// The key.
        key: KeyId,
        /// Who says so.
        nodes: Vec<ShareIndex>,
    },
    /// The registration was cut off, and it cannot be told yet whether it counts.
    #[error("its registration was interrupted, and not enough key servers answer to tell whether it counts")]
    CutOff,
    /// The nodes hold another manifest than the one that was registered.
    #[error("key {key}: the other nodes hold another manifest than this registration made")]
    OtherManifest {
        /// The key.
        key: KeyId,
    },
    /// A registration in another cluster.
    #[error("it is for cluster {cluster}, and this client has pinned another")]
    OtherCluster {
        /// The cluster.
        cluster: ClusterId,
    },
    /// The node is not in the directory, or takes no new shares.
    #[error("node {node} takes no shares any more, by version {version} of the cluster directory")]
    NodeRetired {
        /// The node.
        node: ShareIndex,
        /// The version of the directory.
        version: u64,
    },
    /// The node has another id or another key.
    #[error(
        "node {node} has another key since it was sealed, by version {version} of the cluster directory: nobody can open it any more"
    )]
    NodeReplaced {
        /// The node.
        node: ShareIndex,
        /// The version of the directory.
        version: u64,
    },
    /// The cluster asks for a higher threshold now.
    #[error("{needed} shares open its keys, and the cluster asks for at least {floor} now")]
    BelowFloor {
        /// The threshold.
        needed: u8,
        /// The floor.
        floor: u8,
    },
    /// Somebody else registered it.
    #[error(
        "somebody else registered it, or you under another name or authority: nobody but its registrant can deliver it"
    )]
    OtherRegistrant,
}

impl Obstacle {
    /// Whether waiting cannot help: nobody will ever take this message, or not from this caller.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Node(error) => error.fault.is_final(),
            Self::AccessList(_) | Self::HalfDeleted { .. } | Self::CutOff => false,
            _ => true,
        }
    }

    /// For the exit code.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Node(error) if error.fault.may_pass() || error.fault.kind() == Kind::Denied => error.fault.kind(),
            Self::AccessList(error) => error.kind(),
            Self::HalfDeleted { .. } | Self::CutOff => Kind::Unavailable,
            Self::OtherRegistrant => Kind::Denied,
            Self::OtherManifest { .. } => Kind::Damaged,
            _ => Kind::Conflict,
        }
    }
}

fn list(nodes: &[ShareIndex]) -> String {
    nodes.iter().map(ShareIndex::to_string).collect::<Vec<_>>().join(", ")
}
