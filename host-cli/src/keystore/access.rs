//! Access lists on many nodes: read, changed everywhere, repaired, listed and explained.
//!
//! Every node decides alone, so a change is sent to each, and says what the caller saw. What the caller sees is a list
//! that max(m, floor) nodes hold identically: a single node can show anything. A revocation is effective when so many
//! nodes confirmed it that fewer than m are left, n − m + 1; before that it is an error, with the nodes missing.
//!
//! | part | purpose |
//! |---|---|
//! | `agree` | which list counts, what a repair has to do, what a change takes away: no I/O |
//! | `text` | what users type and read: principals, entries, modes |
//! | `error` | why a change did not happen, or is not effective yet |

pub mod agree;
mod error;
pub mod text;

pub use self::error::AccessError;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use eds_core::{
    api::{
        Binary, KeyText,
        access::{
            AccessAnswer, AccessList, Asked, Change, ChangeRequest, ListAnswer, ListRequest, ListedKey, WhyAnswer,
            WhyRequest, read_request,
        },
    },
    directory::Node,
    ids::KeyId,
    manifest::Manifest,
};
use hyper::body::Bytes;
use tokio::task::JoinSet;

use self::agree::{Agreed, Seen, Share, agree, revokes};
use super::{Keystore, NodeError, NodeFault, NodeView, Transport, error::Faults, status::parse, transport::Call};

/// How long a node may take to show a list. A slower one is treated as not there; a change is sent to it all the same.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most pages that are read from one node.
const MAX_PAGES: usize = 100_000;

/// What became of a change.
#[derive(Debug)]
pub enum Changed {
    /// It would change nothing; nothing was sent.
    Unchanged,
    /// Enough nodes hold the new list.
    Done {
        /// The new list.
        list: Box<AccessList>,
        /// How many nodes hold it, of how many that hold the key.
        confirmed: Share,
        /// Whether it takes something away from somebody.
        revoked: bool,
        /// Nodes that did not confirm.
        missing: Vec<NodeError>,
    },
}

/// A key of a listing, and the nodes that list it.
#[derive(Debug)]
pub struct Everywhere {
    /// The key as the first of the nodes describes it.
    pub key: ListedKey,
    /// How many nodes list it.
    pub nodes: usize,
}

impl<T: Transport> Keystore<T> {
    /// What each node shows of the access list of a key.
    pub async fn access(&self, key: KeyId) -> Vec<NodeView<Seen>> {
        self.access_of_all(&[key]).await.pop().unwrap_or_default()
    }

    /// What each node shows of the access list of each key, in order: one call to each node.
    pub(super) async fn access_of_all(&self, keys: &[KeyId]) -> Vec<Vec<NodeView<Seen>>> {
        let body = json(&read_request(keys.iter().copied()));
        let views = self.ask_everyone::<AccessAnswer>("/v1/access/read", Some(body), PATIENCE, parse).await;
        let of_key = |(position, key): (usize, &KeyId)| {
            let of_node = |view: &NodeView<AccessAnswer>| NodeView {
                node: view.node.clone(),
                answer: view.answer.as_ref().map_err(Clone::clone).and_then(|answer| seen(*key, position, answer)),
            };
            views.iter().map(of_node).collect()
        };
        keys.iter().enumerate().map(of_key).collect()
    }

    /// Changes the access list that enough nodes agree on, on every node that holds the key.
    ///
    /// # Errors
    /// [`AccessError`]; what `edit` failed with.
    pub async fn change_access<E>(
        &self,
        key: KeyId,
        edit: impl FnOnce(AccessList) -> Result<AccessList, E>,
    ) -> Result<Changed, E>
    where
        E: From<AccessError>,
    {
        let views = self.access(key).await;
        let agreed = agree(self.directory(), key, &views)?;
        let before = agreed.list.clone();
        let mut list = edit(before.clone())?;
        list.version = before.version;
        if list.digest() == agreed.digest {
            return Ok(Changed::Unchanged);
        }
        list.version = before.version.saturating_add(1);
        let changes = self
            .directory()
            .nodes
            .iter()
            .filter(|node| agreed.holders.contains(&node.number))
            .map(|node| (node.clone(), agreed.digest));
        let missing = self.send(key, changes, &list).await;
        let revoked = revokes(&before, &list);
        let confirmed = Share { nodes: agreed.holders.len() - missing.len(), of: agreed.holders.len() };
        Ok(self.verdict(key, &agreed, confirmed, revoked, missing.clone()).map(|()| Changed::Done {
            list: Box::new(list),
            confirmed,
            revoked,
            missing,
        })?)
    }

    /// Brings nodes up to date as planned; returns how many hold the list then, and the nodes that do not.
    ///
    /// # Errors
    /// [`AccessError`] when too few do.
    pub async fn repair(&self, key: KeyId, plan: &agree::Repair) -> Result<(Share, Vec<NodeError>), AccessError> {
        let mut missing = self.send(key, plan.behind.iter().cloned(), &plan.list).await;
        missing.extend(plan.unseen.iter().cloned());
        missing.sort_by_key(|error| error.node);
        let of = plan.agreed.holders.len();
        let held = Share { nodes: of.saturating_sub(missing.len()), of };
        self.verdict(key, &plan.agreed, held, true, missing.clone())?;
        Ok((held, missing))
    }

    /// The keys that the caller may list, and on how many nodes; and the nodes that did not answer.
    pub async fn list_keys(&self) -> (Vec<Everywhere>, Vec<NodeError>) {
        let mut running = JoinSet::new();
        for node in self.directory().nodes.iter().cloned() {
            let transport = Arc::clone(&self.transport);
            running.spawn(async move { (list_of(transport.as_ref(), &node).await, node) });
        }
        let (mut keys, mut failed) = (BTreeMap::<KeyId, Everywhere>::new(), Vec::new());
        for (listed, node) in running.join_all().await {
            match listed {
                Ok(listed) => {
                    for key in listed {
                        keys.entry(key.key.0).or_insert(Everywhere { key, nodes: 0 }).nodes += 1;
                    }
                }
                Err(fault) => failed.push(NodeError { node: node.number, url: node.url.as_str().into(), fault }),
            }
        }
        failed.sort_by_key(|error| error.node);
        (keys.into_values().collect(), failed)
    }

    /// What each node says of who may do what with a key: the caller or, for an administrator, somebody else.
    pub async fn why(&self, key: KeyId, principal: Option<Asked>) -> Vec<NodeView<WhyAnswer>> {
        let body = json(&WhyRequest { key: KeyText(key), principal });
        self.ask_everyone("/v1/why", Some(body), PATIENCE, parse).await
    }

    /// Sends a list to nodes, to each with the digest of the list that it is to replace.
    pub(super) async fn send(
        &self,
        key: KeyId,
        to: impl Iterator<Item = (Node, [u8; 32])>,
        list: &AccessList,
    ) -> Vec<NodeError> {
        let calls = to.map(|(node, seen)| {
            let change = Change { key: KeyText(key), seen: Binary(seen.to_vec()), access: list.clone() };
            let body = json(&ChangeRequest { changes: vec![change] });
            (node, Call { path: "/v1/access/change".into(), body: Some(body) })
        });
        let mut missing = self.tell_all(calls.collect(), &[key]).await;
        let changed =
            |fault: &NodeFault| matches!(fault, NodeFault::Refused(problem) if problem.word() == "key-changed");
        if missing.iter().any(|error| changed(&error.fault)) {
            // A call that was repeated after a broken connection finds the change made already: by itself.
            let (views, wanted) = (self.access(key).await, list.digest());
            let holds = |view: &NodeView<Seen>| view.answer.as_ref().is_ok_and(|seen| seen.digest == wanted);
            missing.retain(|error| !views.iter().any(|view| view.node.number == error.node && holds(view)));
        }
        missing
    }

    /// Whether a list that so many nodes hold is in force.
    fn verdict(
        &self,
        key: KeyId,
        agreed: &Agreed,
        held: Share,
        revoked: bool,
        missing: Vec<NodeError>,
    ) -> Result<(), AccessError> {
        let faults = Faults(missing);
        let against = agreed.enough_to_revoke();
        let for_use = usize::from(agreed.threshold.max(self.directory().floor));
        match held.nodes {
            0 => Err(AccessError::Nowhere { key, faults }),
            nodes if revoked && nodes < against => {
                Err(AccessError::NotYetEffective { key, held, needed: against, faults })
            }
            nodes if !revoked && nodes < for_use => {
                Err(AccessError::NotYetUsable { key, held, needed: for_use, faults })
            }
            _ => Ok(()),
        }
    }
}

fn seen(key: KeyId, position: usize, answer: &AccessAnswer) -> Result<Seen, NodeFault> {
    let bad = |what: &str| NodeFault::BadAnswer(what.into());
    let Some(result) = answer.results.get(position).filter(|result| result.key.0 == key) else {
        return Err(bad("the result is not that of the key asked for"));
    };
    if let Some(problem) = &result.problem {
        return Err(NodeFault::Refused(Box::new(problem.clone())));
    }
    let (Some(list), Some(manifest), Some(state)) = (&result.access, &result.manifest, result.state) else {
        return Err(bad("the result has neither a list nor a reason"));
    };
    let manifest = Manifest::decode(&manifest.0).map_err(|_| NodeFault::FalseManifest)?;
    if manifest.key != key {
        return Err(NodeFault::FalseManifest);
    }
    Ok(Seen { digest: list.digest(), list: list.clone(), manifest: Box::new(manifest), state })
}

async fn list_of(transport: &impl Transport, node: &Node) -> Result<Vec<ListedKey>, NodeFault> {
    let mut keys: Vec<ListedKey> = Vec::new();
    let mut after: Option<KeyText> = None;
    for _ in 0..MAX_PAGES {
        let call = Call { path: "/v1/list".into(), body: Some(json(&ListRequest { after: after.clone() })) };
        let answer = transport.call(node, call).await?;
        let page: ListAnswer =
            serde_json::from_slice(&answer).map_err(|error| NodeFault::BadAnswer(error.to_string()))?;
        keys.extend(page.keys);
        match page.next {
            None => return Ok(keys),
            Some(next) if after.as_ref().is_none_or(|after| next.0 > after.0) => after = Some(next),
            Some(_) => return Err(NodeFault::BadAnswer("the pages of the listing do not go forward".into())),
        }
    }
    Err(NodeFault::BadAnswer("the listing has no end".into()))
}

fn json(request: &impl serde::Serialize) -> Bytes {
    // These bodies are plain lists and strings: writing them cannot fail.
    Bytes::from(serde_json::to_vec(request).unwrap_or_default())
}

#[cfg(test)]
mod tests;
