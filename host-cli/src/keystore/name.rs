//! The keys of names: what max(m, floor) nodes say alike.
//!
//! A name leads where its key servers say, and no node is believed alone: key, manifest, owner and group count when
//! max(m, floor) nodes name them identically. All nodes are asked at once, and a slow one delays nobody for longer than a
//! moment once the others agree. Errors here do not hold the name, which their readers know and logs should not.

use std::{sync::Arc, time::Duration};

use eds_core::{
    api::{
        access::Subject,
        name::{KeyName, ResolveAnswer, ResolveRequest, ResolveResult},
    },
    directory::{Directory, Node},
    ids::KeyId,
    manifest::Manifest,
};
use tokio::{task::JoinSet, time::Instant};

use super::{
    Keystore, NodeError, NodeFault, NodeView, Transport,
    error::Faults,
    register::{node_error, post},
    status::parse,
};
use crate::error::Kind;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the other nodes are waited for when enough of them agree.
const GRACE: Duration = Duration::from_millis(500);

/// A key that a name leads to.
#[derive(Clone, PartialEq, Debug)]
pub struct Named {
    /// The key.
    pub key: KeyId,
    /// Its manifest.
    pub manifest: Manifest,
    /// Whose it is.
    pub owner: Subject,
    /// Its group.
    pub group: Option<String>,
}

/// A name that leads to no key.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NameError {
    /// No node knows it, or none tells.
    #[error("it could not be found: nobody registered the name, or you may do nothing with its key{faults}")]
    NotFound {
        /// What each node said.
        faults: Faults,
    },
    /// Too few nodes say the same.
    #[error("{agreeing} node(s) lead the name to the same key, and {needed} must{faults}")]
    NoAgreement {
        /// The most that agree.
        agreeing: usize,
        /// How many must.
        needed: usize,
        /// What the others said.
        faults: Faults,
    },
    /// Nodes lead the name to different keys, and nothing decides between them.
    #[error("the nodes lead the name to different keys, and nothing decides between them{faults}")]
    Contradiction {
        /// What the others said.
        faults: Faults,
    },
}

impl NameError {
    /// For the exit code.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::NoAgreement { faults, .. } => faults.kind(),
            Self::Contradiction { .. } => Kind::Damaged,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NotFound { .. } => {
                "key servers do not tell strangers which names exist: ask who registered it for a permission"
            }
            Self::NoAgreement { .. } => "`eds doctor` shows which nodes can be reached",
            Self::Contradiction { .. } => "tell the officers of the cluster: one of these nodes is wrong",
        };
        Some(text.into())
    }
}

impl<T: Transport> Keystore<T> {
    /// The keys of names, in order. At most [`eds_core::api::MAX_BATCH`] names go into one call.
    pub async fn resolve(&self, names: &[KeyName]) -> Vec<Result<Named, NameError>> {
        let request = ResolveRequest { names: names.iter().map(|name| name.as_str().to_owned()).collect() };
        let call = post("/v1/resolve", &request);
        let mut running = JoinSet::new();
        for node in self.directory().nodes.iter().cloned() {
            let (transport, call) = (Arc::clone(&self.transport), call.clone());
            running.spawn(async move {
                let answered = tokio::time::timeout(PATIENCE, transport.call(&node, call)).await;
                let answer = answered.unwrap_or(Err(NodeFault::Timeout)).and_then(|body| parse(&body));
                NodeView { node, answer }
            });
        }
        let mut views: Vec<Vec<NodeView<Named>>> = names.iter().map(|_| Vec::new()).collect();
        let mut deadline = None;
        while !running.is_empty() {
            let heard = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, running.join_next()).await,
                None => Ok(running.join_next().await),
            };
            let Ok(Some(heard)) = heard else { break };
            let Ok(NodeView { node, answer }) = heard else { continue };
            for (position, views) in views.iter_mut().enumerate() {
                views.push(NodeView { node: node.clone(), answer: said(position, names.len(), &answer) });
            }
            if deadline.is_none() && views.iter().all(|views| agree(self.directory(), views).is_ok()) {
                // Fewer than the floor can qualify for nothing else.
                if running.len() < usize::from(self.directory().floor) {
                    break;
                }
                deadline = Some(Instant::now() + GRACE);
            }
        }
        views.into_iter().map(|views| agree(self.directory(), &views)).collect()
    }
}

/// What a node said of the name at this position.
fn said(position: usize, of: usize, answer: &Result<ResolveAnswer, NodeFault>) -> Result<Named, NodeFault> {
    let bad = |what: &str| NodeFault::BadAnswer(what.into());
    let answer = answer.as_ref().map_err(Clone::clone)?;
    let Some(ResolveResult { key, manifest, owner, group, problem, .. }) =
        answer.results.get(position).filter(|_| answer.results.len() == of)
    else {
        return Err(bad("the number of results is not that of the names asked for"));
    };
    if let Some(problem) = problem {
        return Err(NodeFault::Refused(Box::new(problem.clone())));
    }
    let (Some(key), Some(manifest), Some(owner)) = (key, manifest, owner) else {
        return Err(bad("a result has neither a key nor a reason"));
    };
    let manifest = Manifest::decode(&manifest.0).map_err(|_| NodeFault::FalseManifest)?;
    if manifest.key != key.0 {
        return Err(NodeFault::FalseManifest);
    }
    Ok(Named { key: key.0, manifest, owner: owner.clone(), group: group.clone() })
}

/// The key that counts.
fn agree(directory: &Directory, views: &[NodeView<Named>]) -> Result<Named, NameError> {
    let mut groups: Vec<(&Named, usize)> = Vec::new();
    for named in views.iter().filter_map(|view| view.answer.as_ref().ok()) {
        match groups.iter_mut().find(|(known, _)| same(known, named)) {
            Some((_, count)) => *count += 1,
            None => groups.push((named, 1)),
        }
    }
    let needed = |named: &Named| usize::from(named.manifest.threshold.needed().max(directory.floor));
    let most = groups.iter().max_by_key(|(_, count)| *count).map(|(named, count)| (*count, needed(named)));
    let qualified =
        groups.iter().filter(|(named, count)| named.manifest.cluster == directory.cluster && *count >= needed(named));
    let qualified: Vec<&Named> = qualified.map(|(named, _)| *named).collect();
    let faults =
        || Faults(views.iter().filter_map(|view| Some(fault(&view.node, view.answer.as_ref().err()?))).collect());
    match (qualified.as_slice(), most) {
        ([named], _) => Ok((*named).clone()),
        ([_, ..], _) => Err(NameError::Contradiction { faults: faults() }),
        ([], Some((agreeing, needed))) => Err(NameError::NoAgreement { agreeing, needed, faults: faults() }),
        ([], None) => {
            let faults = faults();
            // Nodes that are away may know what the others do not: with too few to say no, it is not known.
            let denials = faults.0.iter().filter(|error| error.fault.is("name-not-found")).count();
            if denials > views.len().saturating_sub(usize::from(directory.floor)) || denials == views.len() {
                return Err(NameError::NotFound { faults: Faults::default() });
            }
            Err(NameError::NoAgreement { agreeing: 0, needed: usize::from(directory.floor), faults })
        }
    }
}

fn same(one: &Named, other: &Named) -> bool {
    one.key == other.key
        && one.manifest.digest() == other.manifest.digest()
        && one.owner.registrant() == other.owner.registrant()
        && one.group == other.group
}

fn fault(node: &Node, fault: &NodeFault) -> NodeError {
    node_error(node, fault.clone())
}

#[cfg(test)]
mod tests;
