//! Append-only storage of the entries: durable before the answer leaves, many decisions on one sync.
//!
//! A directory holds segments ([`segment`]), the tree's hashes ([`hashes`]), the signed checkpoints and the number of
//! acknowledged entries. Plain files were chosen over a database: what is evidence is only ever appended to, can be
//! copied, protected (`chattr +a`) and read in decades with forty lines of any language, and one group costs one sync.
//!
//! [`Log::append`] returns when the entries are durable. When it fails, nothing that was decided may be released. An
//! unfinished write that was never acknowledged is set aside at the next opening, and the log itself says so; anything
//! else that is not as it was written makes the opening fail, with the reason.

pub mod disk;
pub mod hashes;
pub mod reader;
pub mod segment;

pub(crate) mod notes;
mod open;
mod resume;
mod writer;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use tokio::sync::oneshot;

use self::{
    disk::Disk,
    hashes::HashFile,
    notes::Notes,
    writer::{Done, Job},
};
use super::{
    checkpoint::{Checkpoint, Signer, SignerError, Verifier},
    entry::{Decision, MAX_KEYS},
    tree::{self, Hash},
};

pub use open::{OpenError, Opened, Recovered};
pub use reader::{Fault, FaultKind, Reader, Record};

/// How large a segment grows before the next one is begun, when the configuration does not say: 64 MiB.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// How many calls may wait to be written.
const WAITING: usize = 4_096;

/// Which log, and how it is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory.
    pub directory: PathBuf,
    /// The origin: [`super::checkpoint::origin`].
    pub origin: String,
    /// How large a segment grows.
    pub segment_bytes: u64,
    /// The key that signed the checkpoints; without it their signatures are not checked at opening.
    pub verifier: Option<Verifier>,
}

impl Options {
    /// The usual options.
    pub fn new(directory: impl Into<PathBuf>, origin: impl Into<String>) -> Self {
        Self { directory: directory.into(), origin: origin.into(), segment_bytes: SEGMENT_BYTES, verifier: None }
    }
}

/// A log that is open for writing. Closing it, or dropping it, waits for what was handed over.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    jobs: Option<SyncSender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
    notes: Mutex<Notes>,
    origin: String,
    _lock: std::fs::File,
}

/// Where decisions stand in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The sequence number of the first.
    pub first: u64,
    /// How many there are.
    pub count: u64,
}

/// The size and the head of the tree of everything that is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The number of entries.
    pub size: u64,
    /// The head of their tree.
    pub root: Hash,
}

/// The log was not written. Release nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk of this node failed, or is full.
    #[error("the audit log cannot be written: {reason}")]
    Unwritable {
        /// Why, for the operator.
        reason: String,
    },
    /// More calls wait to be written than may.
    #[error("the audit log is busy: too many calls wait to be written")]
    Busy,
    /// The server names more keys in one entry than an entry holds.
    #[error("an audit entry names at most {MAX_KEYS} keys")]
    TooManyKeys,
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
}

/// A checkpoint was not made.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The token did not sign.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The file of the checkpoints cannot be written.
    #[error("the checkpoint cannot be kept")]
    Io(#[from] io::Error),
}

#[derive(Debug)]
struct Shared {
    head: Mutex<Head>,
    hashes: HashFile,
}

impl Shared {
    fn publish(&self, head: Head) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = head;
    }

    fn head(&self) -> Head {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// Makes an empty log in a directory that does not exist yet, or is empty.
    ///
    /// # Errors
    /// When it cannot be made, or something is there already.
    pub fn create(options: &Options) -> io::Result<()> {
        open::create(options)
    }

    /// Opens a log and checks it: all of it, or what its last signed checkpoint does not hold ([`Opened::read_from`]). `now` is the time of the entry that says that an unfinished write was set
    /// aside.
    ///
    /// # Errors
    /// [`OpenError`]: fail closed, and let a person look.
    pub fn open(options: &Options, now: u64) -> Result<(Self, Opened), OpenError> {
        Self::open_on(options, now, Box::new(disk::FileSystem))
    }

    /// Opens a log whose segments are written through `disk`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_on(options: &Options, now: u64, disk: Box<dyn Disk>) -> Result<(Self, Opened), OpenError> {
        let open::Parts { writer, shared, notes, lock, opened, recovery } = open::open(options, disk)?;
        let (jobs, waiting) = sync_channel(WAITING);
        let spawned = thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(&waiting));
        let thread = spawned.map_err(|source| OpenError::Io { path: options.directory.clone(), source })?;
        let log = Self {
            shared,
            jobs: Some(jobs),
            thread: Some(thread),
            notes: Mutex::new(notes),
            origin: options.origin.clone(),
            _lock: lock,
        };
        for recovery in recovery {
            let decision = recovery.decision(now);
            log.append_blocking(vec![decision]).map_err(OpenError::Unwritable)?;
            recovery.done().map_err(|source| OpenError::Io { path: options.directory.clone(), source })?;
        }
        Ok((log, opened))
    }

    /// Appends decisions, in order and with nothing in between, and returns when they are durable.
    ///
    /// # Errors
    /// [`AppendError`]: release nothing. The entries may still be found in the log later.
    pub async fn append(&self, decisions: Vec<Decision>) -> Result<Receipt, AppendError> {
        self.hand_over(decisions)?.await.map_err(|_| AppendError::Closed)?
    }

    /// [`Log::append`] for a thread that may block.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append_blocking(&self, decisions: Vec<Decision>) -> Result<Receipt, AppendError> {
        self.hand_over(decisions)?.blocking_recv().map_err(|_| AppendError::Closed)?
    }

    /// As [`Log::append`], for callers that do something else meanwhile: `done` is called when the decisions are durable, or
    /// are not, on the thread that writes: it must be quick, and not panic. It is dropped when the log ends before.
    pub fn append_then(
        &self,
        decisions: Vec<Decision>,
        done: impl FnOnce(Result<Receipt, AppendError>) + Send + 'static,
    ) {
        if let Err((error, done)) = self.queue(decisions, Box::new(done)) {
            done(Err(error));
        }
    }

    fn hand_over(
        &self,
        decisions: Vec<Decision>,
    ) -> Result<oneshot::Receiver<Result<Receipt, AppendError>>, AppendError> {
        let (reply, receipt) = oneshot::channel();
        // A caller that went away does not want to know.
        let done = Box::new(move |result| drop(reply.send(result)));
        self.queue(decisions, done).map_err(|(error, _)| error)?;
        Ok(receipt)
    }

    fn queue(&self, decisions: Vec<Decision>, done: Done) -> Result<(), (AppendError, Done)> {
        if decisions.iter().any(|decision| decision.keys.len() > MAX_KEYS) {
            return Err((AppendError::TooManyKeys, done));
        }
        let Some(jobs) = self.jobs.as_ref() else { return Err((AppendError::Closed, done)) };
        jobs.try_send(Job { decisions, done }).map_err(|refused| match refused {
            TrySendError::Full(job) => (AppendError::Busy, job.done),
            TrySendError::Disconnected(job) => (AppendError::Closed, job.done),
        })
    }

    /// The origin of the log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The size and the head of everything that is durable.
    pub fn head(&self) -> Head {
        self.shared.head()
    }

    /// Signs the head and keeps the checkpoint; returns the note. When nothing was appended since the last checkpoint,
    /// returns that one. `time` is in seconds since 1970. Blocks.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn checkpoint<S: Signer + ?Sized>(&self, signer: &S, time: u64) -> Result<String, CheckpointError> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let Head { size, root } = self.head();
        if let Some((last, note)) = notes.last()
            && last.size == size
        {
            return Ok(note.clone());
        }
        self.shared.hashes.sync()?;
        let checkpoint = Checkpoint { origin: self.origin.clone(), size, root, time };
        let note = checkpoint.sign(signer)?;
        notes.append(checkpoint, note.clone())?;
        Ok(note)
    }

    /// The last checkpoint that was signed.
    pub fn last_checkpoint(&self) -> Option<(Checkpoint, String)> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }

    /// Proves that the entry `index` is in the tree of the first `size` entries; `None` when it is not, or when the log
    /// is shorter.
    ///
    /// # Errors
    /// When the stored hashes cannot be read.
    pub fn inclusion_proof(&self, index: u64, size: u64) -> io::Result<Option<Vec<Hash>>> {
        if size > self.head().size { Ok(None) } else { tree::inclusion_proof(&self.shared.hashes, index, size) }
    }

    /// Proves that the tree of the first `new` entries continues that of the first `old`; `None` when `new` is less than
    /// `old`, or when the log is shorter.
    ///
    /// # Errors
    /// When the stored hashes cannot be read.
    pub fn consistency_proof(&self, old: u64, new: u64) -> io::Result<Option<Vec<Hash>>> {
        if new > self.head().size { Ok(None) } else { tree::consistency_proof(&self.shared.hashes, old, new) }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // The thread writes what waits, and ends when nobody can send any more.
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
