//! An image that was kept for review is released or rejected by a person who looked at it.
//!
//! Released, it is registered like any other, and only then does the whole copy go; rejected, the copy goes and its content is
//! remembered. Both can be repeated after an interruption.

use std::{collections::BTreeSet, io::Cursor, path::Path};

use eds_core::ids::FileId;
use zeroize::Zeroizing;

use super::{
    Session, payload_key,
    register::{Event, Options, Registrar, Summary},
    retrieve::Wanted,
};
use crate::{
    Error,
    database::Error as DatabaseError,
    keystore::NodeError,
    payload::{self, Target},
    quarantine::Held,
    storage,
};

/// The images that wait, oldest first.
///
/// # Errors
/// Databases that cannot be used.
pub fn waiting(session: &Session) -> Result<Vec<Held>, Error> {
    let mut waiting = session.quarantine.waiting()?;
    // What an interrupted registration noted and did not complete is not there.
    let mut there = BTreeSet::new();
    for held in &waiting {
        if session.metadata.contains(held.file)? {
            there.insert(held.file);
        }
    }
    waiting.retain(|held| there.contains(&held.file));
    Ok(waiting)
}

/// Registers an image that waits; `options` say what is blanked, or that it passes as it is. It is decrypted into memory,
/// never onto a disk.
///
/// # Errors
/// [`Error::StillSuspect`] when it would be kept again, and what fetching, decrypting and registering failed with; then it waits
/// as before.
pub fn release(session: &Session, file: FileId, options: &Options) -> Result<(Event, Summary), Error> {
    session.quarantine.image(file)?;
    let wanted = Wanted::of_catalog(session, file)?;
    let (mut fetched, culprits) = session.nodes.fetch_all(&[wanted.want()?])?;
    let key = payload_key(&fetched.pop().ok_or(Error::NothingFetched)?);
    let stored = |source| Error::Stored { file, source };
    let mut object = wanted.open(session)?;
    // Room for all of it from the start: memory that is left behind while growing would not be wiped.
    let length = usize::try_from(wanted.entry().plain_size).unwrap_or(usize::MAX);
    let mut bytes = Zeroizing::new(Vec::new());
    bytes.try_reserve_exact(length).map_err(|_| Error::NoMemory { file })?;
    let unlocked = wanted.container(&mut object)?.unlock(&key).map_err(stored)?;
    unlocked.copy_to(Target::Stream(&mut *bytes), &payload::Options::default()).map_err(stored)?;
    let mut warnings = culprits;
    let (registrar, _) = Registrar::open(session, options, &mut warnings)?;
    let name = file.to_string();
    let size = wanted.entry().plain_size;
    let (event, mut summary) = registrar.register(Path::new(&name), size, &mut Cursor::new(bytes.as_slice()))?;
    summary.warnings.extend(warnings);
    match &event {
        Event::Registered(done) if !done.notes.quarantined => {}
        Event::Known { file: known, .. } if *known != file => {}
        Event::Known { .. } | Event::Registered(_) => return Err(Error::StillSuspect { file }),
        _ => return Ok((event, summary)),
    }
    summary.warnings.extend(drop_copy(session, file)?);
    session.quarantine.remove(file)?;
    Ok((event, summary))
}

/// Deletes an image that waits, for ever, and remembers that it was rejected.
///
/// # Errors
/// Storage and databases that cannot be used; then it waits as before, or its copy is gone and the call can be repeated.
pub fn reject(session: &Session, file: FileId) -> Result<Vec<NodeError>, Error> {
    session.quarantine.image(file)?;
    let warnings = drop_copy(session, file)?;
    session.quarantine.reject(file)?;
    Ok(warnings)
}

/// Deletes the whole copy: its container, its key, and what the databases have of it.
fn drop_copy(session: &Session, file: FileId) -> Result<Vec<NodeError>, Error> {
    let gone = |error| match error {
        DatabaseError::NotFound { .. } => Ok(()),
        error => Err(error),
    };
    let entry = match session.catalog.entry(file) {
        Ok(entry) => entry,
        // An earlier call got this far.
        Err(DatabaseError::NotFound { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    match session.storage.delete(&entry.object) {
        Ok(()) | Err(storage::Error::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let mut warnings = Vec::new();
    if session.catalog.users_of(entry.key)? == [file] {
        warnings = session.nodes.unregister(&[entry.key]);
        warnings.retain(|error| !error.fault.is("key-deleted") && !error.fault.is("key-not-found"));
    }
    session.metadata.remove(file).or_else(gone)?;
    session.catalog.remove(file).or_else(gone)?;
    Ok(warnings)
}
