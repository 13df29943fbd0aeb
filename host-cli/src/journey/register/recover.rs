//! What an interrupted run left is cleared up.
//!
//! A pending entry of a run that is dead is complete when the metadata database has its record, since that comes last.
//! Otherwise everything is taken back: keys that nothing else is under, the container, the entry. When key servers do
//! not answer, the entry stays for the next run.

use eds_core::ids::KeyId;

use super::{Recovered, run};
use crate::{
    Error,
    catalog::{Entry, NO_RUN},
    journey::Session,
    keystore::NodeError,
    storage::{self, ObjectStore as _},
};

pub(super) fn recover(session: &Session, warnings: &mut Vec<NodeError>) -> Result<Recovered, Error> {
    let mut recovered = Recovered::default();
    if session.catalog.pending()?.iter().all(|entry| entry.run == NO_RUN) {
        return Ok(recovered);
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
        return Ok(recovered);
    }
    for keys in unused_keys(session, &taken_back)?.chunks(eds_core::api::MAX_BATCH) {
        let mut left = session.nodes.unregister(keys);
        // It never got that far on those nodes.
        left.retain(|error| !error.fault.is("key-not-found"));
        if !left.is_empty() {
            warnings.extend(left);
            recovered.left = taken_back.len();
            return Ok(recovered);
        }
    }
    for entry in taken_back {
        match session.storage.delete(&entry.object) {
            Ok(()) | Err(storage::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        session.catalog.discard(entry.file)?;
        recovered.taken_back += 1;
    }
    Ok(recovered)
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
