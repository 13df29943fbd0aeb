//! Why an access list could not be read or changed, or is not in force yet.

use eds_core::ids::{KeyId, ShareIndex};

use super::agree::Share;
use crate::{
    error::Kind,
    keystore::{NodeError, error::Faults},
};

/// An access list that could not be read or changed, or a change that is not in force.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AccessError {
    /// Too few nodes show the same list.
    #[error("key {key}: {agreeing} node(s) show the same access list, and {needed} must{faults}")]
    NoAgreement {
        /// The key.
        key: KeyId,
        /// The most that agree.
        agreeing: usize,
        /// How many must.
        needed: usize,
        /// What the others said.
        faults: Faults,
    },
    /// Nodes contradict each other and nothing decides between them.
    #[error("key {key}: the nodes contradict each other about its {about}, and nothing decides between them{faults}")]
    Contradiction {
        /// The key.
        key: KeyId,
        /// About what.
        about: &'static str,
        /// What the others said.
        faults: Faults,
    },
    /// No node made the change.
    #[error("key {key}: no node made the change{faults}")]
    Nowhere {
        /// The key.
        key: KeyId,
        /// What each said.
        faults: Faults,
    },
    /// A revocation that too few nodes confirmed.
    #[error(
        "key {key}: the revocation is NOT YET EFFECTIVE: {} of {} nodes confirmed it, and {needed} must, so that too few are left to open the key; still missing:{faults}",
        held.nodes, held.of
    )]
    NotYetEffective {
        /// The key.
        key: KeyId,
        /// How many nodes confirmed.
        held: Share,
        /// How many must.
        needed: usize,
        /// The nodes missing.
        faults: Faults,
    },
    /// A grant that too few nodes confirmed.
    #[error(
        "key {key}: the permission cannot be used yet: {} of {} nodes confirmed it, and {needed} must; still missing:{faults}",
        held.nodes, held.of
    )]
    NotYetUsable {
        /// The key.
        key: KeyId,
        /// How many nodes confirmed.
        held: Share,
        /// How many must.
        needed: usize,
        /// The nodes missing.
        faults: Faults,
    },
    /// The node named for a repair showed no list.
    #[error("key {key}: node {node} showed no access list")]
    NoSource {
        /// The key.
        key: KeyId,
        /// The node.
        node: ShareIndex,
    },
}

impl AccessError {
    /// For the exit code.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoAgreement { faults, .. } | Self::Nowhere { faults, .. } => faults.kind(),
            Self::Contradiction { .. } => Kind::Damaged,
            Self::NotYetEffective { .. } | Self::NotYetUsable { .. } | Self::NoSource { .. } => Kind::Unavailable,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NotYetEffective { key, .. } | Self::NotYetUsable { key, .. } => {
                format!("when those nodes are back: eds key sync {key}")
            }
            Self::NoAgreement { key, .. } if self.kind() == Kind::Unavailable => {
                format!("when more nodes are back, try again; if they differ, `eds key sync {key} --dry-run` shows how")
            }
            Self::NoAgreement { key, .. } | Self::Nowhere { key, .. } if self.kind() == Kind::Denied => {
                format!("`eds key why {key}` shows what each node allows you, and by which rule")
            }
            Self::Contradiction { key, .. } | Self::NoAgreement { key, .. } => format!(
                "`eds key sync {key} --dry-run` shows the differences, and --from NODE says which list is right"
            ),
            Self::NoSource { .. } => "name a node that answers: `eds doctor` shows which do".into(),
            Self::Nowhere { .. } => return None,
        };
        Some(text)
    }

    /// The nodes that did not help, with what they said.
    pub fn faults(&self) -> &[NodeError] {
        match self {
            Self::NoAgreement { faults, .. }
            | Self::Contradiction { faults, .. }
            | Self::Nowhere { faults, .. }
            | Self::NotYetEffective { faults, .. }
            | Self::NotYetUsable { faults, .. } => &faults.0,
            Self::NoSource { .. } => &[],
        }
    }
}
