//! What an interrupted run left is cleared up.
//!
//! A pending entry of a run that is dead is complete when the metadata database has its record, since that comes last.
//! Otherwise everything is taken back: keys that nothing else is under, the container, the entry. When key servers do
//! not answer, the entry stays for the next run. A call that was under way when the run died may reach a key server after it
//! was asked to take the keys back: where one did not know the keys, all are asked again at the end of this run, and the
//! entries stay until then.

use eds_core::ids::KeyId;

use super::{Recovered, run};
use crate::{
    Error,
    catalog::{Entry, NO_RUN},
    journey::Session,
    keystore::NodeError,
    storage,
};

/// What was taken back, but may still arrive at key servers that did not know it.
#[derive(Default)]
pub(super) struct Unsettled(Vec<Entry>);

impl Unsettled {
    /// Takes it back once more, and forgets it.
    pub(super) fn settle(self, session: &Session, warnings: &mut Vec<NodeError>) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let _clearing = run::clearing(&session.runs)?;
        // Another run may have settled some meanwhile.
        let pending = session.catalog.pending()?;
        let unsettled: Vec<Entry> = self.0.into_iter().filter(|entry| pending.contains(entry)).collect();
        let left = take_back(session, &unused_keys(session, &unsettled)?).left;
        if !left.is_empty() {
            warnings.extend(left);
            return Ok(());
        }
        unsettled.iter().try_for_each(|entry| Ok(session.catalog.discard(entry.file)?))
    }
}

pub(super) fn recover(session: &Session, warnings: &mut Vec<NodeError>) -> Result<(Recovered, Unsettled), Error> {
    let (mut recovered, mut unsettled) = (Recovered::default(), Unsettled::default());
    if session.catalog.pending()?.iter().all(|entry| entry.run == NO_RUN) {
        return Ok((recovered, unsettled));
    }
    let _clearing = run::clearing(&session.runs)?;
    let mut dead = Vec::new();
    for entry in session.catalog.pending()? {
        if entry.run != NO_RUN && !run::is_alive(&session.runs, &entry.run)? {
            dead.push(entry);
        }
    }
    let mut taken_back = Vec::new();
    for entry in dead {
        if session.metadata.contains(entry.file)? {
            session.catalog.complete(&[entry.file])?;
            recovered.completed += 1;
        } else {
            taken_back.push(entry);
        }
    }
    if taken_back.is_empty() {
        return Ok((recovered, unsettled));
    }
    let answered = take_back(session, &unused_keys(session, &taken_back)?);
    if !answered.left.is_empty() {
        warnings.extend(answered.left);
        recovered.left = taken_back.len();
        return Ok((recovered, unsettled));
    }
    for entry in taken_back {
        match session.storage.delete(&entry.object) {
            Ok(()) | Err(storage::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        recovered.taken_back += 1;
        if answered.unknown {
            unsettled.0.push(entry);
        } else {
            session.catalog.discard(entry.file)?;
        }
    }
    Ok((recovered, unsettled))
}

/// What key servers said that were asked to take keys back.
#[derive(Default)]
struct Answered {
    /// A node did not know some of them: it never got that far there, or will in a moment.
    unknown: bool,
    /// Nodes that did not do it.
    left: Vec<NodeError>,
}

/// Takes keys back on all nodes, until some do not do it.
fn take_back(session: &Session, keys: &[KeyId]) -> Answered {
    let mut answered = Answered::default();
    for keys in keys.chunks(eds_core::api::MAX_BATCH) {
        let mut left = session.nodes.unregister(keys);
        // A recovery that was interrupted itself had done it there.
        left.retain(|error| !error.fault.is("key-deleted"));
        let (unknown, left): (Vec<_>, Vec<_>) = left.into_iter().partition(|error| error.fault.is("key-not-found"));
        answered.unknown |= !unknown.is_empty();
        if !left.is_empty() {
            answered.left = left;
            break;
        }
    }
    answered
}

/// The keys of these entries that nothing else is under.
fn unused_keys(session: &Session, entries: &[Entry]) -> Result<Vec<KeyId>, Error> {
    let mut keys: Vec<KeyId> =
        entries.iter().flat_map(|entry| [Some(entry.key), entry.private_key]).flatten().collect();
    keys.sort_unstable();
    keys.dedup();
    let mut unused = Vec::new();
    for key in keys {
        let others = session.catalog.users_of(key)?;
        let used = others.iter().any(|file| entries.iter().all(|entry| entry.file != *file));
        if !used && !session.metadata.is_group_key(key)? {
            unused.push(key);
        }
    }
    Ok(unused)
}
