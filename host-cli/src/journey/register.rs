//! Images go in: one, or all below a folder.
//!
//! Threads take the files apart and encrypt each into a container that has no name yet. What is ready is committed in
//! batches: the catalog holds pending entries, the servers store the new keys of the batch in one call each, the containers
//! get their names, the metadata database takes the records in one transaction, and the entries are complete. A batch
//! that fails is undone, and ends the run.
//!
//! A run can be killed at any moment. The next one finds its pending entries, completes what the metadata database has and
//! undoes the rest; an image that is in the metadata database is not registered again. So whatever happens, each image
//! is registered once. What makes it the same image is its original SOP Instance UID; other content under it is refused.

mod clock;
mod commit;
mod keys;
mod prepare;
mod recover;
mod registrar;
mod run;
mod walk;

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use eds_core::ids::{FileId, KeyId, Threshold};

use self::{
    commit::Batch,
    keys::Keys,
    prepare::{Prepared, Preparer},
    run::Run,
};
use super::{Session, project::ProjectKeys};
use crate::{
    Error,
    catalog::Content,
    dicom::{How, Region, Report, Suspicion},
    keystore::{NodeError, Quorum, Terms},
    metadata::KeyScope,
};

pub use clock::{Clock, Shares};
pub use registrar::Registrar;
pub use walk::{Source, Walk, walk};

/// How to register.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Encrypt whole what cannot be read as DICOM; a file that was named, in any case.
    pub opaque: bool,
    /// How many images share a key.
    pub scope: KeyScope,
    /// How many nodes are needed to open it; that of the configuration when `None`.
    pub threshold: Option<u8>,
    /// How many nodes must hold their shares; that of the configuration when `None`.
    pub quorum: Option<Quorum>,
    /// What is blanked in every frame of the images.
    pub masks: Vec<Region>,
    /// Register images whatever is suspect about them.
    pub pass_suspect: bool,
    /// Note what is done to each element.
    pub report: bool,
}

impl Options {
    fn terms(&self, session: &Session) -> Terms {
        Terms { needed: self.threshold.or(session.terms.needed), quorum: self.quorum.unwrap_or(session.terms.quorum) }
    }

    fn preparer<'a>(
        &'a self,
        session: &'a Session,
        project: &'a ProjectKeys,
        keys: &'a Keys<'a>,
        clock: &'a Clock,
        run: &Run,
    ) -> Preparer<'a> {
        Preparer {
            storage: &*session.storage,
            metadata: &session.metadata,
            quarantine: &session.quarantine,
            policy: &session.policy,
            project,
            how: How {
                profile: &session.profile,
                secret: &project.secret,
                masks: &self.masks,
                pass_suspect: self.pass_suspect,
                report: self.report,
            },
            keys,
            clock,
            run: run.id(),
            opaque: self.opaque,
            claimed: Mutex::default(),
        }
    }
}

/// What became of a file, in the order in which it is known.
#[derive(Debug)]
pub enum Event {
    /// It is registered.
    Registered(Registration),
    /// It was registered before, with the same content.
    Known {
        /// The file.
        path: PathBuf,
        /// The id it has.
        file: FileId,
        /// Its size in bytes.
        size: u64,
    },
    /// It is no DICOM image and was left alone.
    LeftOut {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It could not be registered.
    Failed {
        /// The file.
        path: PathBuf,
        /// Why.
        error: Error,
    },
    /// What an interrupted run had left was cleared up.
    Recovered(Recovered),
}

/// What was registered.
#[derive(Debug)]
pub struct Registration {
    /// The file.
    pub path: PathBuf,
    /// The id to retrieve it with.
    pub file: FileId,
    /// The key of the image.
    pub key: KeyId,
    /// Its size in bytes.
    pub size: u64,
    /// Whether the patient's data was separated, or the file was encrypted whole.
    pub content: Content,
    /// How many of how many nodes open it.
    pub threshold: Threshold,
    /// What the de-identification has to say.
    pub notes: Notes,
}

/// What the de-identification of an image has to say.
#[derive(Debug, Default)]
pub struct Notes {
    /// What is suspect about the image.
    pub suspicions: Vec<Suspicion>,
    /// Whether it was encrypted whole for that reason, to be looked at.
    pub quarantined: bool,
    /// What was done to each element, if that was asked for.
    pub report: Option<Report>,
}

/// What was found of interrupted runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Registrations that were complete but for a mark in the catalog.
    pub completed: usize,
    /// Registrations that were taken back, to be made again.
    pub taken_back: usize,
    /// Registrations that cannot be taken back yet, because key servers do not answer.
    pub left: usize,
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Summary {
    /// Nodes that did not do as they should, although it succeeded.
    pub warnings: Vec<NodeError>,
    /// Nodes whose share waits in the queue.
    pub late: Vec<NodeError>,
    /// Calls in which keys were registered.
    pub registrations: usize,
    /// Keys that were registered.
    pub keys: usize,
    /// Where the time went.
    pub shares: Shares,
}

/// Registers files. `tell` hears what becomes of each as soon as that is certain.
///
/// # Errors
/// What keeps all further files from being registered: key servers, storage or databases that cannot be used, and what `tell`
/// failed with. What was told before stays registered.
pub fn register(
    session: &Session,
    sources: Vec<Source>,
    options: &Options,
    clock: &Clock,
    tell: &mut dyn FnMut(Event) -> Result<(), Error>,
) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    let terms = options.terms(session);
    let (recovered, unsettled) = recover::recover(session, &mut summary.warnings)?;
    if recovered != Recovered::default() {
        tell(Event::Recovered(recovered))?;
    }
    let project = ProjectKeys::open(&session.nodes, &session.metadata, terms, &mut summary.warnings)?;
    let run = Run::begin(&session.runs)?;
    let keys = Keys::new(&session.nodes, &session.metadata, terms, options.scope);
    // Copies of an image within one run wait until the first is in the database, and are compared with it then.
    let mut sources = sources;
    while !sources.is_empty() {
        let preparer = options.preparer(session, &project, &keys, clock, &run);
        sources = round(session, &preparer, sources, &mut summary, tell)?;
    }
    unsettled.settle(session, &mut summary.warnings)?;
    summary.warnings.extend(keys.into_warnings());
    summary.shares = clock.shares();
    Ok(summary)
}

/// Registers each file once; returns those that are copies of another of them.
fn round(
    session: &Session,
    preparer: &Preparer<'_>,
    sources: Vec<Source>,
    summary: &mut Summary,
    tell: &mut dyn FnMut(Event) -> Result<(), Error>,
) -> Result<Vec<Source>, Error> {
    let threads = thread::available_parallelism().map_or(2, usize::from).min(sources.len()).min(MAX_THREADS);
    let left = Mutex::new(VecDeque::from(sources));
    let stop = AtomicBool::new(false);
    let (sender, receiver) = mpsc::sync_channel::<(Source, Prepared)>(READY);
    let mut copies = Vec::new();
    let done = thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, left, stop) = (sender.clone(), &left, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(source) = next else { break };
                    let prepared = preparer.prepare(&source);
                    if sender.send((source, prepared)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut collect = || {
            let mut batch = Batch::default();
            let mut since = Instant::now();
            loop {
                if batch.is_empty() {
                    since = Instant::now();
                }
                let wait = if batch.is_empty() { FOR_EVER } else { PATIENCE.saturating_sub(since.elapsed()) };
                let ended = match receiver.recv_timeout(wait) {
                    Ok((source, Prepared::Copy)) => {
                        copies.push(source);
                        false
                    }
                    Ok((_, Prepared::Sealed(item))) => {
                        batch.push(*item);
                        false
                    }
                    Ok((source, prepared)) => {
                        tell(prepared.into_event(source))?;
                        false
                    }
                    Err(RecvTimeoutError::Timeout) => false,
                    Err(RecvTimeoutError::Disconnected) => true,
                };
                let due = batch.is_full() || (!batch.is_empty() && since.elapsed() >= PATIENCE);
                if due || (ended && !batch.is_empty()) {
                    commit::commit(session, preparer, std::mem::take(&mut batch), summary, tell)?;
                }
                if ended {
                    return Ok(());
                }
            }
        };
        let done = collect();
        stop.store(true, Ordering::Relaxed);
        // Whoever waits to hand something over is let go.
        drop(receiver);
        done
    });
    done.map(|()| copies)
}

/// More would wait for the disk, and for each other.
const MAX_THREADS: usize = 16;
/// How many files may be ready while a batch is committed. Each holds two open files.
const READY: usize = 64;
/// How long what is ready may wait for more to be committed with it.
const PATIENCE: Duration = Duration::from_secs(2);
const FOR_EVER: Duration = Duration::from_secs(1 << 20);
