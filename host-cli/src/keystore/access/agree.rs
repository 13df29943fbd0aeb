//! Which access list counts, what a repair has to do, and what a change takes away: decisions without any I/O.
//!
//! No node is believed alone. Who holds the key and how many open it is in a manifest that max(m, floor) nodes show; an
//! access list counts when max(m, floor) nodes show it identically. Of two such lists, the later version counts: at least
//! one honest node holds it, and versions only rise. Nothing decides between two of the same version but the caller.

use eds_core::{
    api::{
        KeyState,
        access::{AccessList, MAX_VERSION_STEP},
    },
    directory::{Directory, Node},
    ids::{KeyId, ShareIndex},
    manifest::Manifest,
};

use super::AccessError;
use crate::keystore::{NodeError, NodeFault, NodeView, error::Faults};

/// What a node shows of a key.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The access list.
    pub list: AccessList,
    /// Its digest, computed here.
    pub digest: [u8; 32],
    /// The manifest.
    pub manifest: Box<Manifest>,
    /// Where the key is in its life.
    pub state: KeyState,
}

/// So many nodes, of all that hold a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// How many.
    pub nodes: usize,
    /// Of how many.
    pub of: usize,
}

/// The list that counts.
#[derive(Debug, Clone)]
pub struct Agreed {
    /// The list.
    pub list: AccessList,
    /// Its digest.
    pub digest: [u8; 32],
    /// The nodes that hold the key, by its manifest.
    pub holders: Vec<ShareIndex>,
    /// How many of them open it.
    pub threshold: u8,
}

impl Agreed {
    /// How many nodes must refuse somebody, so that fewer than the threshold are left: n − m + 1.
    pub fn enough_to_revoke(&self) -> usize {
        (self.holders.len() + 1).saturating_sub(usize::from(self.threshold)).max(1)
    }
}

/// What a repair has to do.
#[derive(Debug)]
pub struct Repair {
    /// What the nodes that hold the key are.
    pub agreed: Agreed,
    /// The list that all of them are to hold.
    pub list: AccessList,
    /// The nodes that do not, each with the digest of the list that it holds.
    pub behind: Vec<(Node, [u8; 32])>,
    /// The nodes that showed no list, or one that cannot be repaired.
    pub unseen: Vec<NodeError>,
}

/// The access list that counts.
///
/// # Errors
/// [`AccessError::NoAgreement`], [`AccessError::Contradiction`].
pub fn agree(directory: &Directory, key: KeyId, views: &[NodeView<Seen>]) -> Result<Agreed, AccessError> {
    let manifest = manifest(directory, key, views)?;
    let needed = usize::from(manifest.threshold.needed().max(directory.floor));
    let mut groups: Vec<(&Seen, usize)> = Vec::new();
    for seen in views.iter().filter_map(|view| view.answer.as_ref().ok()) {
        match groups.iter_mut().find(|(known, _)| known.digest == seen.digest) {
            Some((_, count)) => *count += 1,
            None => groups.push((seen, 1)),
        }
    }
    let most = groups.iter().map(|(_, count)| *count).max().unwrap_or(0);
    groups.retain(|(_, count)| *count >= needed);
    let latest = groups.iter().map(|(seen, _)| seen.list.version).max();
    groups.retain(|(seen, _)| Some(seen.list.version) == latest);
    match groups.as_slice() {
        [(seen, _)] => Ok(agreed(seen, manifest)),
        [] => Err(AccessError::NoAgreement { key, agreeing: most, needed, faults: faults(views) }),
        _ => Err(AccessError::Contradiction { key, about: "access list", faults: faults(views) }),
    }
}

fn agreed(seen: &Seen, manifest: &Manifest) -> Agreed {
    Agreed {
        list: seen.list.clone(),
        digest: seen.digest,
        holders: manifest.shares.iter().map(|(number, _)| *number).collect(),
        threshold: manifest.threshold.needed(),
    }
}

/// What is to be done so that all nodes hold one list: the one that counts or, if the caller says so, that of a node.
///
/// # Errors
/// As [`agree`]; [`AccessError::NoSource`].
pub fn plan(
    directory: &Directory,
    key: KeyId,
    views: &[NodeView<Seen>],
    from: Option<ShareIndex>,
) -> Result<Repair, AccessError> {
    let agreed = match from {
        None => agree(directory, key, views)?,
        Some(number) => {
            let source = views.iter().find(|view| view.node.number == number);
            match source.and_then(|view| view.answer.as_ref().ok()) {
                Some(seen) => self::agreed(seen, manifest(directory, key, views)?),
                None => return Err(AccessError::NoSource { key, node: number }),
            }
        }
    };
    let highest = agreed.list.version.saturating_add(MAX_VERSION_STEP / 2);
    let (mut others, mut unseen) = (Vec::new(), Vec::new());
    for view in views.iter().filter(|view| agreed.holders.contains(&view.node.number)) {
        let fault = match &view.answer {
            Ok(seen) if seen.list.version <= highest => {
                others.push((view.node.clone(), seen.digest, seen.list.version));
                continue;
            }
            // Honest nodes would not follow there.
            Ok(seen) => {
                NodeFault::BadAnswer(format!("its access list has the impossible version {}", seen.list.version))
            }
            Err(fault) => fault.clone(),
        };
        unseen.push(NodeError { node: view.node.number, url: view.node.url.as_str().into(), fault });
    }
    let differ = |digest: &[u8; 32]| *digest != agreed.digest;
    let ahead = others.iter().filter(|(_, digest, _)| differ(digest)).map(|(.., version)| *version).max();
    let mut list = agreed.list.clone();
    // Where a node that is wrong has the same or a later version, all go on to the next one.
    let all = ahead.is_some_and(|ahead| ahead >= list.version);
    if let Some(ahead) = ahead.filter(|_| all) {
        list.version = ahead.saturating_add(1);
    }
    let behind = others.into_iter().filter(|(_, digest, _)| all || differ(digest));
    let behind = behind.map(|(node, digest, _)| (node, digest)).collect();
    Ok(Repair { agreed, list, behind, unseen })
}

/// The manifest that max(m, floor) nodes show.
fn manifest<'a>(directory: &Directory, key: KeyId, views: &'a [NodeView<Seen>]) -> Result<&'a Manifest, AccessError> {
    let shown: Vec<&Manifest> =
        views.iter().filter_map(|view| Some(view.answer.as_ref().ok()?.manifest.as_ref())).collect();
    let mut qualified: Vec<&Manifest> = Vec::new();
    let (mut most, mut needed) = (0, usize::from(directory.floor));
    for manifest in &shown {
        let count = shown.iter().filter(|other| other.digest() == manifest.digest()).count();
        let enough = usize::from(manifest.threshold.needed().max(directory.floor));
        if count > most {
            (most, needed) = (count, enough);
        }
        let fits = manifest.cluster == directory.cluster && count >= enough;
        if fits && qualified.iter().all(|known| known.digest() != manifest.digest()) {
            qualified.push(manifest);
        }
    }
    match qualified.as_slice() {
        [manifest] => Ok(manifest),
        [] => Err(AccessError::NoAgreement { key, agreeing: most, needed, faults: faults(views) }),
        _ => Err(AccessError::Contradiction { key, about: "manifest", faults: faults(views) }),
    }
}

fn faults(views: &[NodeView<Seen>]) -> Faults {
    let of = |view: &NodeView<Seen>| {
        let fault = view.answer.as_ref().err()?.clone();
        Some(NodeError { node: view.node.number, url: view.node.url.as_str().into(), fault })
    };
    Faults(views.iter().filter_map(of).collect())
}

/// Whether the change takes something away from somebody. Where that is not sure, it does.
pub fn revokes(before: &AccessList, after: &AccessList) -> bool {
    let lost = |old: eds_core::api::access::PermissionsText, new: eds_core::api::access::PermissionsText| {
        !old.0.without(new.0).is_empty()
    };
    lost(before.owner_may, after.owner_may)
        || (before.owner.registrant() != after.owner.registrant() && !before.owner_may.0.is_empty())
        || lost(before.group_may, after.group_may)
        || (before.group != after.group && !before.group_may.0.is_empty())
        || lost(before.others_may, after.others_may)
        || before.entries.iter().any(|old| {
            let kept = after.entries.iter().find(|new| new.who == old.who || new.who.is_same(&old.who));
            kept.is_none_or(|new| lost(old.may, new.may))
        })
}

#[cfg(test)]
pub(in crate::keystore) mod tests;
