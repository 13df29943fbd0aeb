//! A batch of prepared files is registered: all of it, or what was done is undone.
//!
//! The order decides what a killed process leaves: pending entries first, so that nothing is ever without a trace; then keys,
//! then containers, then the metadata, which makes the images registered; then the entries are complete.

use std::{sync::Arc, thread, time::UNIX_EPOCH};

use eds_core::{
    api::MAX_BATCH,
    ids::{FileId, KeyId},
};

use super::{
    Event, Notes, Registration, Summary,
    clock::Stage,
    keys::Pair,
    prepare::{Item, Preparer},
};
use crate::{
    Error,
    journey::Session,
    keystore::Prepared as PreparedKeys,
    metadata::{GroupKeys, Inserted, Record},
    quarantine::Held,
    storage::{NewObject, ObjectName},
};

/// Files that are committed together.
#[derive(Default)]
pub(super) struct Batch {
    items: Vec<Item>,
    bytes: u64,
}

impl Batch {
    pub(super) fn push(&mut self, item: Item) {
        self.bytes = self.bytes.saturating_add(item.source.size);
        self.items.push(item);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.items.len() >= MAX_FILES || self.bytes >= MAX_BYTES
    }
}

/// Registers a batch, and tells what became of each file.
pub(super) fn commit(
    session: &Session,
    preparer: &Preparer<'_>,
    batch: Batch,
    summary: &mut Summary,
    tell: &mut dyn FnMut(Event) -> Result<(), Error>,
) -> Result<(), Error> {
    let clock = preparer.clock;
    let mut parts = Parts::of(batch);
    clock.time(Stage::Record, || session.catalog.begin(&parts.entries))?;
    let (new, groups) = parts.take_new();
    let mut undo = Undo { session, files: parts.files(), keys: Vec::new() };
    for call in in_calls(new) {
        undo.keys.extend(call.keys());
        match clock.time(Stage::Network, || session.nodes.register(call)) {
            Ok(registered) => {
                summary.registrations += 1;
                summary.warnings.extend(registered.unconfirmed);
                summary.late.retain(|late| registered.late.iter().all(|new| new.node != late.node));
                summary.late.extend(registered.late);
            }
            Err(error) => {
                undo.run();
                return Err(error);
            }
        }
    }
    summary.keys += undo.keys.len();
    let kept = clock.time(Stage::Record, || {
        finish(std::mem::take(&mut parts.objects))?;
        // Before the record, which makes it registered: nothing waits without standing here.
        session.quarantine.add(&parts.held)?;
        Ok::<_, Error>(session.metadata.insert(&parts.records, &groups)?)
    });
    let inserted = match kept {
        Ok(inserted) => inserted,
        Err(error) => {
            undo.run();
            return Err(error);
        }
    };
    // Another process may have been first with an image: then ours goes.
    let mut done = Vec::new();
    let mut beaten = Vec::new();
    for ((item, record), inserted) in parts.items.into_iter().zip(&parts.records).zip(inserted) {
        match inserted {
            Inserted::Done => done.push(item),
            Inserted::Known(known) if known.digest == record.digest => beaten.push((item, Ok(known.image))),
            Inserted::Known(known) => beaten.push((item, Err(known.image))),
        }
    }
    let files: Vec<FileId> = done.iter().map(|item| item.file).collect();
    clock.time(Stage::Record, || session.catalog.complete(&files))?;
    for (item, there) in beaten {
        undo_one(session, &item, summary);
        clock.done_with(item.source.size);
        let path = item.source.path;
        tell(match there {
            Ok(file) => Event::Known { path, file, size: item.source.size },
            Err(file) => Event::Failed { path: path.clone(), error: Error::OtherContent { path, file } },
        })?;
    }
    for Rest { source, file, keys, content, notes } in done {
        clock.done_with(source.size);
        let (key, threshold) = (keys.image.id, keys.image.manifest.threshold);
        tell(Event::Registered(Registration {
            path: source.path,
            file,
            key,
            size: source.size,
            content,
            threshold,
            notes,
        }))?;
    }
    Ok(())
}

/// A batch, by what is done with its parts.
struct Parts {
    entries: Vec<crate::catalog::Entry>,
    records: Vec<Record>,
    objects: Vec<Box<dyn NewObject>>,
    items: Vec<Rest>,
    /// Those that wait for review.
    held: Vec<Held>,
}

/// What is left of an item for telling.
struct Rest {
    source: super::Source,
    file: FileId,
    keys: Arc<Pair>,
    content: crate::catalog::Content,
    notes: Notes,
}

impl Parts {
    fn of(batch: Batch) -> Self {
        let mut parts =
            Self { entries: Vec::new(), records: Vec::new(), objects: Vec::new(), items: Vec::new(), held: Vec::new() };
        for Item { source, entry, record, object, keys, notes } in batch.items {
            if notes.quarantined {
                parts.held.push(Held {
                    file: entry.file,
                    identity: record.identity,
                    reasons: notes.suspicions.iter().map(|suspicion| suspicion.what.to_string()).collect(),
                    since: entry.created.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
                });
            }
            parts.items.push(Rest { source, file: entry.file, keys, content: entry.content, notes });
            parts.entries.push(entry);
            parts.records.push(record);
            parts.objects.push(object);
        }
        parts
    }

    fn files(&self) -> Vec<FileId> {
        self.items.iter().map(|item| item.file).collect()
    }

    /// The keys that are to be registered with this batch.
    fn take_new(&self) -> (Vec<PreparedKeys>, Vec<GroupKeys>) {
        let new = self.items.iter().filter_map(|item| item.keys.take_new());
        let (prepared, groups): (Vec<_>, Vec<_>) = new.map(|new| (new.prepared, new.group)).unzip();
        (prepared, groups.into_iter().flatten().collect())
    }
}

/// Keys in as few calls as the servers take.
fn in_calls(new: Vec<PreparedKeys>) -> Vec<PreparedKeys> {
    let mut calls = Vec::new();
    let mut new = new.into_iter().peekable();
    while new.peek().is_some() {
        let mut keys = 0;
        let mut call = Vec::new();
        while let Some(prepared) = new.next_if(|next| keys + next.keys().len() <= MAX_BATCH) {
            keys += prepared.keys().len();
            call.push(prepared);
        }
        // All were prepared for the same nodes on the same terms, by one run; and none alone is more than a call.
        calls.extend(PreparedKeys::joined(call));
    }
    calls
}

/// Gives the containers their names, several at a time: most of it is waiting for the disk.
fn finish(objects: Vec<Box<dyn NewObject>>) -> Result<(), Error> {
    let each = objects.len().div_ceil(MAX_SYNCING).max(1);
    let mut objects = objects.into_iter();
    let mut parts: Vec<Vec<Box<dyn NewObject>>> = Vec::new();
    loop {
        let part: Vec<_> = objects.by_ref().take(each).collect();
        if part.is_empty() {
            break;
        }
        parts.push(part);
    }
    thread::scope(|scope| {
        let finish = |part: Vec<Box<dyn NewObject>>| part.into_iter().try_for_each(|object| object.finish());
        let others: Vec<_> = parts.into_iter().map(|part| scope.spawn(move || finish(part))).collect();
        let mut result = Ok(());
        for other in others {
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(other);
        }
        Ok(result?)
    })
}

/// The way back, when a batch fails.
struct Undo<'a> {
    session: &'a Session,
    files: Vec<FileId>,
    keys: Vec<KeyId>,
}

impl Undo<'_> {
    /// Takes everything back, as far as it can be done. The pending entries go only when all else is gone; what stays is
    /// cleared up by the next run.
    fn run(self) {
        let session = self.session;
        // A database that failed may have kept what it was given all the same; then nothing under it may go.
        if self.files.iter().any(|file| session.metadata.contains(*file).unwrap_or(true)) {
            return;
        }
        let left = session.nodes.unregister(&self.keys);
        if left.iter().any(|error| !error.fault.is("key-not-found")) {
            return;
        }
        for file in self.files {
            // What was not there yet cannot be removed, and that is well.
            let _ = session.storage.delete(&ObjectName::of(file));
            let _ = session.catalog.discard(file);
            let _ = session.quarantine.remove(file);
        }
    }
}

/// Takes one image of a batch back.
fn undo_one(session: &Session, item: &Rest, summary: &mut Summary) {
    let keys: Vec<KeyId> = [Some(item.keys.image.id), item.keys.private.as_ref().map(|private| private.id)]
        .into_iter()
        .flatten()
        .collect();
    let _ = session.storage.delete(&ObjectName::of(item.file));
    let _ = session.catalog.discard(item.file);
    let _ = session.quarantine.remove(item.file);
    // Keys that nothing else is under.
    let unused: Vec<KeyId> = keys
        .into_iter()
        .filter(|key| {
            let users = session.catalog.users_of(*key).map_or(1, |users| users.len());
            users == 0 && !session.metadata.is_group_key(*key).unwrap_or(true)
        })
        .collect();
    if !unused.is_empty() {
        summary.warnings.extend(session.nodes.unregister(&unused));
    }
}

/// Files in a batch. Each holds two open files until it is committed.
const MAX_FILES: usize = 100;
/// Bytes of originals in a batch.
const MAX_BYTES: u64 = 256 << 20;
/// How many containers get their names at a time.
const MAX_SYNCING: usize = 8;
