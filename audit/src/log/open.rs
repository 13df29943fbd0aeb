//! Opening a log: it is checked before any entry is written. What the last signed head does not hold is read entry by
//! entry, with the segment that the head is in; of what is before that, beginnings and ends ([`resume`]).
//!
//! The order of the checks is the order of trust: files against themselves, entries against the checkpoints that the
//! node signed, then the number of acknowledged entries. Only then may an unfinished write at the end be set aside.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use super::{
    AppendError, Head, Options, Shared,
    disk::{self, Disk},
    hashes::{HashFile, Replay},
    notes::Notes,
    reader::{self, Fault, FaultKind, Reader},
    resume,
    segment::{self, Header},
    writer::Writer,
};
use crate::{
    checkpoint::{Checkpoint, NoteError},
    entry::{Decision, Operation, Outcome, Who},
    tree::{Frontier, Hash},
};

/// A log that must not be written, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no log.
    #[error("there is no audit log in {}\nhint: `eds-keystored init` makes one; a log that was there must be brought back from its copy", .0.display())]
    Missing(PathBuf),
    /// Another process has the log open.
    #[error("the audit log in {} is open in another process\nhint: one server writes one log; stop the other one", .0.display())]
    InUse(PathBuf),
    /// A file cannot be read or written.
    #[error("the audit log file {} cannot be used", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something is not as it was written.
    #[error(
        "{0}\nhint: nothing is served on an altered log; keep the files as they are and run `eds-keystored audit verify`"
    )]
    Altered(#[source] Box<Fault>),
    /// The entries do not have the head that was signed.
    #[error(
        "an audit log entry before {size} was altered: the node's own checkpoint of {size} entries does not fit\nhint: keep the files as they are; `eds-keystored audit verify` names the entry"
    )]
    Checkpoint {
        /// The size of the tree at the checkpoint.
        size: u64,
    },
    /// A checkpoint is of another log, or its signature is wrong.
    #[error(
        "the node's own checkpoint of {size} audit log entries is not one of this log\nhint: keep the files as they are and run `eds-keystored audit verify`"
    )]
    Note {
        /// The size of the tree at the checkpoint.
        size: u64,
        /// What is wrong.
        #[source]
        source: NoteError,
    },
    /// Entries are missing at the end.
    #[error(
        "the audit log holds {found} entries, but {known} were acknowledged: the end of the log is missing\nhint: bring the log back from its copy; keep the files as they are for the investigation"
    )]
    Shortened {
        /// How many entries there are.
        found: u64,
        /// How many there were.
        known: u64,
    },
    /// The stored hashes do not fit the entries.
    #[error(
        "the file of the audit log's hashes was altered (hash {position})\nhint: run `eds-keystored audit verify`; if it finds the entries in order, remove the file, which is then rebuilt"
    )]
    Hashes {
        /// Which hash.
        position: u64,
    },
    /// The entry about a recovery could not be written.
    #[error(transparent)]
    Unwritable(AppendError),
}

/// What was found at opening.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// How many entries there are, before any entry about a recovery.
    pub entries: u64,
    /// The last checkpoint that the node signed.
    pub checkpoint: Option<Checkpoint>,
    /// The first entry that was read. Those before it are held by the checkpoint; `audit verify` reads them.
    pub read_from: u64,
    /// The unfinished write that was set aside.
    pub recovered: Option<Recovered>,
}

/// An unfinished write, which was never acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// How many whole entries stand before it.
    pub after: u64,
    /// How many bytes it left.
    pub bytes: u64,
    /// Where they are kept.
    pub kept: PathBuf,
}

/// A recovery that the log does not tell of yet.
pub(super) struct Recovery {
    file: PathBuf,
    contents: Vec<u8>,
}

impl Recovery {
    pub(super) fn decision(&self, now: u64) -> Decision {
        let digest: Hash = Sha256::digest(&self.contents).into();
        let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let reason = format!("set aside {} bytes of an unfinished write, SHA-256 {digest}", self.contents.len());
        let outcome = Outcome::Failed(reason);
        Decision { outcome, ..Decision::plain(now, Operation::AUDIT_RECOVER, Who::node()) }
    }

    /// The log tells of it now.
    pub(super) fn done(&self) -> io::Result<()> {
        fs::rename(&self.file, self.file.with_extension("torn-logged"))?;
        disk::sync_directory_of(&self.file)
    }
}

pub(super) struct Parts {
    pub(super) writer: Writer,
    pub(super) shared: Arc<Shared>,
    pub(super) notes: Notes,
    pub(super) lock: fs::File,
    pub(super) opened: Opened,
    pub(super) recovery: Vec<Recovery>,
}

pub(super) fn create(options: &Options) -> io::Result<()> {
    let directory = &options.directory;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if fs::read_dir(directory)?.next().is_some() {
        let message = "the directory of the audit log is not empty: a log is never made over another";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    disk::write_durably(&directory.join(reader::ACKNOWLEDGED), &reader::acknowledged_bytes(0))?;
    let header = Header { origin: options.origin.clone(), before: Frontier::default() }.encode();
    disk::FileSystem.create(&directory.join(segment::file_name(0)), &header)?;
    disk::sync_directory_of(directory)
}

pub(super) fn open(options: &Options, mut disk: Box<dyn Disk>) -> Result<Parts, OpenError> {
    let directory = &options.directory;
    let io_in = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    if !segment::list(directory).is_ok_and(|segments| !segments.is_empty()) {
        return Err(OpenError::Missing(directory.clone()));
    }
    let lock = lock(directory)?;
    let known = reader::acknowledged(directory).map_err(io_in(&directory.join(reader::ACKNOWLEDGED)))?;
    let notes = Notes::open(directory).map_err(io_in(&directory.join(super::notes::NAME)))?;
    check_last_note(options, &notes)?;

    let Scanned { reader, read_from, torn, hashes } = scan(options, &notes)?;
    let frontier = reader.frontier().clone();
    let signed = notes.last().map_or(0, |(checkpoint, _)| checkpoint.size);
    if frontier.size() < known.max(signed) {
        return Err(OpenError::Shortened { found: frontier.size(), known: known.max(signed) });
    }
    let (path, length) = reader.position();
    let path = path.to_owned();
    let mut segment = disk.resume(&path, length).map_err(io_in(&path))?;
    let recovered = if torn {
        let kept = set_aside(&path, length, frontier.size()).map_err(io_in(&path))?;
        segment.cut(length).map_err(io_in(&path))?;
        tracing::warn!(
            bytes = kept.1,
            after = frontier.size(),
            "an unfinished audit write, never acknowledged, was set aside"
        );
        Some(Recovered { after: frontier.size(), bytes: kept.1, kept: kept.0 })
    } else {
        None
    };
    let recovery = unlogged(directory).map_err(io_in(directory))?;
    // What an earlier process wrote but did not see confirmed becomes durable before anything is built on it.
    segment.sync().map_err(io_in(&path))?;
    let acknowledged = fs::OpenOptions::new().write(true).open(directory.join(reader::ACKNOWLEDGED));
    let acknowledged = acknowledged.map_err(io_in(&directory.join(reader::ACKNOWLEDGED)))?;

    let head = Head { size: frontier.size(), root: frontier.root() };
    let shared = Arc::new(Shared { head: Mutex::new(head), hashes });
    let opened = Opened {
        entries: head.size,
        checkpoint: notes.last().map(|(checkpoint, _)| checkpoint.clone()),
        read_from,
        recovered,
    };
    let writer = Writer {
        shared: Arc::clone(&shared),
        disk,
        directory: directory.clone(),
        origin: options.origin.clone(),
        segment_bytes: options.segment_bytes,
        segment,
        length,
        frontier,
        acknowledged,
        broken: None,
    };
    Ok(Parts { writer, shared, notes, lock, opened, recovery })
}

/// Takes the lock of the log. It may be held for a moment more by a server that is just ending, or by a child of this
/// process between its fork and its exec, so it is asked for again for a short while.
fn lock(directory: &Path) -> Result<fs::File, OpenError> {
    let path = directory.join("lock");
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|source| OpenError::Io { path: path.clone(), source })?;
    let since = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if since.elapsed() < LOCK_PATIENCE => thread::sleep(LOCK_PAUSE),
            Err(fs::TryLockError::WouldBlock) => return Err(OpenError::InUse(directory.to_owned())),
            Err(fs::TryLockError::Error(source)) => return Err(OpenError::Io { path, source }),
        }
    }
}

/// How long the lock is asked for.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
/// The pause between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// The last checkpoint is of this log, and signed by the node's key.
fn check_last_note(options: &Options, notes: &Notes) -> Result<(), OpenError> {
    let Some((checkpoint, note)) = notes.last() else { return Ok(()) };
    let wrong = |source| OpenError::Note { size: checkpoint.size, source };
    if checkpoint.origin != options.origin {
        return Err(wrong(NoteError::Origin));
    }
    match &options.verifier {
        Some(verifier) => verifier.open(note).map(drop).map_err(wrong),
        None => Ok(()),
    }
}

/// Every checkpoint is of this log, and they are in order. (That their heads fit is checked while the entries are read,
/// so that an altered one is found without its signature.)
fn check_all_notes(options: &Options, checkpoints: &[Checkpoint]) -> Result<(), OpenError> {
    let mut before = 0;
    for checkpoint in checkpoints {
        if checkpoint.origin != options.origin || checkpoint.size < before {
            return Err(OpenError::Note { size: checkpoint.size, source: NoteError::Origin });
        }
        before = checkpoint.size;
    }
    Ok(())
}

struct Scanned {
    /// At the end.
    reader: Reader,
    /// The first entry that was read.
    read_from: u64,
    /// An unfinished write follows.
    torn: bool,
    /// Up to date.
    hashes: HashFile,
}

/// Reads what must be read.
fn scan(options: &Options, notes: &Notes) -> Result<Scanned, OpenError> {
    let directory = &options.directory;
    let hashes_path = directory.join(super::hashes::NAME);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    let hashes = HashFile::open(directory).map_err(io(&hashes_path))?;
    // Without its key, a checkpoint holds nothing.
    let held = notes.last().map(|(checkpoint, _)| checkpoint).filter(|_| options.verifier.is_some());
    let resumed =
        held.and_then(|held| Some((vec![held.clone()], resume::start(directory, &options.origin, &hashes, held)?)));
    let (checkpoints, read_from) = match resumed {
        Some(resumed) => resumed,
        None => (Notes::all(directory).map_err(io(&directory.join(super::notes::NAME)))?, 0),
    };
    check_all_notes(options, &checkpoints)?;
    let mut replay = Replay::after(hashes, read_from).map_err(io(&hashes_path))?;
    let mut reader = Reader::open(directory, Some(&options.origin)).map_err(io(directory))?;
    reader.seek(read_from).map_err(|fault| OpenError::Altered(Box::new(fault)))?;
    let mut checkpoints = checkpoints.iter().peekable();
    let mut failed = None;
    let torn = loop {
        while let Some(checkpoint) = checkpoints.next_if(|checkpoint| checkpoint.size == reader.frontier().size()) {
            if checkpoint.root != reader.frontier().root() {
                return Err(OpenError::Checkpoint { size: checkpoint.size });
            }
        }
        let read = reader.read(|hash| {
            if failed.is_none() {
                failed = replay.push(hash).err();
            }
        });
        match read {
            Ok(Some(_)) => {}
            Ok(None) => break false,
            Err(Fault { kind: FaultKind::Torn, .. }) => break true,
            Err(fault) => return Err(OpenError::Altered(Box::new(fault))),
        }
        if let Some(source) = failed.take() {
            return Err(OpenError::Io { path: hashes_path, source });
        }
    };
    match replay.finish().map_err(io(&hashes_path))? {
        (hashes, None) => Ok(Scanned { reader, read_from, torn, hashes }),
        (_, Some(position)) => Err(OpenError::Hashes { position }),
    }
}

/// Copies the bytes of an unfinished write to a file of their own.
fn set_aside(segment: &Path, length: u64, after: u64) -> io::Result<(PathBuf, u64)> {
    let contents = fs::read(segment)?;
    let torn = contents.get(usize::try_from(length).unwrap_or(usize::MAX)..).unwrap_or_default();
    let kept = segment.with_file_name(format!("{after:020}-{}.torn", torn.len()));
    disk::write_durably(&kept, torn)?;
    disk::sync_directory_of(&kept)?;
    Ok((kept, torn.len() as u64))
}

fn unlogged(directory: &Path) -> io::Result<Vec<Recovery>> {
    let mut found = Vec::new();
    for file in fs::read_dir(directory)? {
        let file = file?.path();
        if file.extension().is_some_and(|extension| extension == "torn") {
            let contents = fs::read(&file)?;
            found.push(Recovery { file, contents });
        }
    }
    found.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(found)
}
