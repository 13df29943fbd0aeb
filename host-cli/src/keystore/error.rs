//! What can go wrong between this client and the key servers, and who is at fault.

use std::fmt;

use eds_core::{
    api::Problem,
    ids::{KeyId, ShareIndex},
};

use crate::{credentials, error::Kind};

/// One node did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("node {node} ({url}): {fault}")]
pub struct NodeError {
    /// The node's directory number.
    pub node: ShareIndex,
    /// Where it was asked.
    pub url: String,
    /// What happened.
    pub fault: NodeFault,
}

/// What happened with one node.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NodeFault {
    /// No connection.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// No TLS: one of the two certificates was not accepted.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// No answer in time.
    #[error("did not answer in time")]
    Timeout,
    /// Nothing was sent: the caller has no good proof any more.
    #[error("was not asked: {0}")]
    NoProof(String),
    /// The node takes the caller for somebody else.
    #[error("takes the proof for one of {0}")]
    OtherSubject(String),
    /// The node refused, with its reason.
    #[error("refused: {}", describe(.0))]
    Refused(Box<Problem>),
    /// The answer is not what the API describes.
    #[error("answered with something that is not a valid answer: {0}")]
    BadAnswer(String),
    /// The key is there, but not in use: in this state.
    #[error("the key is {0} there")]
    NotActive(&'static str),
    /// The node has no share of the key yet: it waits in the queue of this client.
    #[error("its share waits in the queue of this computer since {since}; {there}")]
    Waiting {
        /// Since when, for display.
        since: String,
        /// What the node said when it was asked for the key.
        there: Box<NodeFault>,
    },
    /// The node holds another access list than the one that counts.
    #[error("holds another access list than the other nodes")]
    OtherList,
    /// The share does not fit its digest.
    #[error("answered with a damaged or false share")]
    BadShare,
    /// The manifest does not belong to this key, or contradicts the proven one.
    #[error("answered with a manifest that contradicts the key")]
    FalseManifest,
}

impl NodeFault {
    /// Whether the node said something wrong, as opposed to nothing or no.
    pub fn is_lie(&self) -> bool {
        matches!(self, Self::BadAnswer(_) | Self::BadShare | Self::FalseManifest)
    }

    /// What to make of it for retry and exit code.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Refused(problem) => match problem.word() {
                "not-permitted" | "not-authenticated" | "device-unknown" | "device-revoked" => Kind::Denied,
                "key-not-found" | "key-deleted" | "name-not-found" => Kind::NotFound,
                "name-taken" | "key-exists" => Kind::Conflict,
                _ => Kind::Unavailable,
            },
            Self::Tls(_) | Self::NoProof(_) | Self::OtherSubject(_) => Kind::Denied,
            Self::BadShare | Self::FalseManifest | Self::BadAnswer(_) => Kind::Damaged,
            Self::Unreachable(_) | Self::Timeout | Self::NotActive(_) | Self::Waiting { .. } | Self::OtherList => {
                Kind::Unavailable
            }
        }
    }

    /// Whether the same call may succeed later, when the node or its officers have done something. What a node refuses
    /// because of the call itself, it will refuse again.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused(problem) => problem.status >= 500 || problem.word() == "directory-outdated",
            Self::BadShare | Self::FalseManifest => false,
            // An answer that is none is mostly that of a proxy before a node that is away.
            _ => true,
        }
    }

    /// Whether the node will say the same for ever, whatever it and its officers do: what it refuses because of the call itself,
    /// and what comes of a device that was revoked.
    pub fn is_final(&self) -> bool {
        !self.may_pass() && (self.kind() != Kind::Denied || self.is("device-revoked"))
    }

    /// Whether the node refused with this word.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Self::Refused(problem) if problem.word() == word)
    }
}

fn describe(problem: &Problem) -> String {
    match &problem.detail {
        Some(detail) => format!("{}: {detail}", problem.title),
        None => problem.title.clone(),
    }
}

/// A node that answered wrongly while the key could be had from the others.
pub type Culprit = NodeError;

/// Faults of nodes, one a line, for the end of a message.
#[derive(Debug, Clone, Default)]
pub struct Faults(pub Vec<NodeError>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.0 {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl Faults {
    /// The kind most of the nodes gave, the more telling one when they are even.
    pub fn kind(&self) -> Kind {
        let count = |kind: Kind| self.0.iter().filter(|error| error.fault.kind() == kind).count();
        [Kind::Denied, Kind::NotFound, Kind::Damaged, Kind::Conflict, Kind::Unavailable]
            .into_iter()
            .rev()
            .max_by_key(|kind| count(*kind))
            .filter(|kind| count(*kind) > 0)
            .unwrap_or(Kind::Unavailable)
    }
}

/// The kind that most of these nodes gave.
pub fn kind_of(nodes: &[NodeError]) -> Kind {
    Faults(nodes.to_vec()).kind()
}

/// A key could not be fetched.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// Fewer than m nodes gave a good share.
    #[error("key {key}: {good} of the {needed} shares needed could be had{faults}")]
    NotEnough {
        /// The key.
        key: KeyId,
        /// How many good shares there were.
        good: usize,
        /// How many are needed.
        needed: usize,
        /// What each other node said.
        faults: Faults,
    },
    /// Nodes disagree about what was shared and nothing decides between them.
    #[error("key {key}: the nodes disagree about its manifest and nothing proves either{faults}")]
    Contradiction {
        /// The key.
        key: KeyId,
        /// What each other node said.
        faults: Faults,
    },
}

impl FetchError {
    /// For retry and exit code.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotEnough { faults, .. } => faults.kind(),
            Self::Contradiction { .. } => Kind::Damaged,
        }
    }

    /// The nodes that did not help, with what they said.
    pub fn faults(&self) -> &[NodeError] {
        match self {
            Self::NotEnough { faults, .. } | Self::Contradiction { faults, .. } => &faults.0,
        }
    }
}

/// How many of the active nodes must hold their shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enough {
    /// How many.
    pub nodes: usize,
    /// Of how many.
    pub of: usize,
}

impl fmt::Display for Enough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == self.of {
            f.write_str("every node must store its share")
        } else {
            write!(f, "{} of the {} nodes must store their shares", self.nodes, self.of)
        }
    }
}

/// Keys could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Too few nodes stored their shares, or one refused for good; what the others had stored was taken back.
    #[error("the key was not registered: {enough}{faults}")]
    NotAll {
        /// How many must.
        enough: Enough,
        /// What each of the others said.
        faults: Faults,
    },
    /// As before, and some nodes could not be told to take their shares back.
    #[error(
        "the key was not registered: {enough}{faults}\nand these nodes still hold a pending share, which nobody can use{leftovers}"
    )]
    NotAllTakenBack {
        /// How many must.
        enough: Enough,
        /// What each of the refusing nodes said.
        faults: Faults,
        /// The nodes that could not be told.
        leftovers: Faults,
    },
    /// The quorum does not fit threshold and cluster.
    #[error(
        "a quorum of {quorum} does not fit: it must be at least the {needed} key servers that open the key, and at most the {nodes} active ones"
    )]
    Quorum {
        /// The q asked for.
        quorum: u8,
        /// The m of the key.
        needed: u8,
        /// Active nodes.
        nodes: usize,
    },
    /// The threshold does not fit the cluster.
    #[error(
        "a threshold of {needed} does not fit this cluster: it has {nodes} active nodes and asks for at least {floor}"
    )]
    Threshold {
        /// The m asked for.
        needed: u8,
        /// Active nodes.
        nodes: usize,
        /// The directory's floor.
        floor: u8,
    },
    /// Splitting or sealing failed.
    #[error("the key could not be split or sealed: {0}")]
    Core(eds_core::Error),
}

impl RegisterError {
    /// For retry and exit code.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotAll { faults, .. } | Self::NotAllTakenBack { faults, .. } => faults.kind(),
            Self::Threshold { .. } | Self::Quorum { .. } => Kind::Usage,
            Self::Core(_) => Kind::Other,
        }
    }
}

/// The client could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// The file of the authorities of the nodes.
    #[error("{path}: {problem}")]
    Credential {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// What proves who the caller is.
    #[error(transparent)]
    Proof(#[from] credentials::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

impl KeystoreError {
    /// For the exit code.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Proof(error) => error.kind(),
            Self::Credential { .. } | Self::Tls(_) => Kind::Usage,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Proof(error) => error.hint(),
            Self::Credential { .. } => Some("check the paths under [identity] and [trust] in the configuration".into()),
            Self::Tls(_) => None,
        }
    }
}

/// What the user can do about faults of nodes.
fn hint(faults: &[NodeError]) -> Option<String> {
    let any = |kind| faults.iter().any(|error| error.fault.kind() == kind);
    let text = if any(Kind::Denied) {
        "`eds whoami` shows who the nodes take you for; ask the owner of the key for access"
    } else if any(Kind::Damaged) {
        "tell the officers of the named nodes: their answers contradict the key"
    } else if any(Kind::Unavailable) {
        "`eds doctor` shows which nodes can be reached"
    } else {
        return None;
    };
    Some(text.into())
}

impl FetchError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        hint(self.faults())
    }
}

impl RegisterError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotAll { faults, .. } | Self::NotAllTakenBack { faults, .. } => hint(&faults.0),
            Self::Threshold { .. } | Self::Quorum { .. } => {
                Some("`eds cluster show` shows the nodes and the floor".into())
            }
            Self::Core(_) => None,
        }
    }
}
