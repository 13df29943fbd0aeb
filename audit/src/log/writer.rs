//! The thread that writes: it takes all decisions that wait, writes them in one piece, makes that durable once, and only
//! then tells the callers. While it waits for the disk, the next group gathers by itself.
//!
//! After a failed write the segment is cut back to what was acknowledged, and the next group is tried as usual: when
//! there is room on the disk again, the log goes on. After a failed sync nobody can know what is on the disk, so the log
//! stays closed until it is opened, and checked, anew.

use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, mpsc::Receiver},
};

use super::{
    AppendError, Head, Receipt, Shared,
    disk::{Disk, Segment},
    reader, segment,
    segment::Header,
};
use crate::{
    entry::Decision,
    tree::{self, Frontier, Hash},
};

/// What is done once it is known whether decisions are durable.
pub(super) type Done = Box<dyn FnOnce(Result<Receipt, AppendError>) + Send>;

/// Decisions that wait to be written, and who waits for them.
pub(super) struct Job {
    pub(super) decisions: Vec<Decision>,
    pub(super) done: Done,
}

/// The most bytes that one group gathers.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) disk: Box<dyn Disk>,
    pub(super) directory: PathBuf,
    pub(super) origin: String,
    pub(super) segment_bytes: u64,
    pub(super) segment: Box<dyn Segment>,
    pub(super) length: u64,
    pub(super) frontier: Frontier,
    pub(super) acknowledged: fs::File,
    pub(super) broken: Option<String>,
}

impl Writer {
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let mut buffer = Vec::new();
        while let Ok(first) = jobs.recv() {
            let mut group = Group::new(&self.frontier, std::mem::take(&mut buffer));
            group.add(first);
            while group.bytes.len() < GROUP_BYTES {
                match jobs.try_recv() {
                    Ok(job) => group.add(job),
                    Err(_) => break,
                }
            }
            buffer = self.commit(group);
        }
        // Durable already; this only spares the next opening a warning after the loss of power.
        let _ = self.acknowledged.sync_data();
        let _ = self.shared.hashes.sync();
    }

    /// Writes a group and tells its callers.
    fn commit(&mut self, group: Group) -> Vec<u8> {
        let Group { bytes, frontier, hashes, waiting } = group;
        let result = if waiting.is_empty() { Ok(()) } else { self.write(&bytes, &hashes, frontier) };
        for (done, receipt) in waiting {
            done(match &result {
                Ok(()) => Ok(receipt),
                Err(reason) => Err(AppendError::Unwritable { reason: reason.clone() }),
            });
        }
        bytes
    }

    fn write(&mut self, bytes: &[u8], hashes: &[Hash], frontier: Frontier) -> Result<(), String> {
        if let Some(reason) = &self.broken {
            return Err(reason.clone());
        }
        if self.length >= self.segment_bytes {
            self.rotate().map_err(|error| format!("a new segment could not be made: {error}"))?;
        }
        if let Err(error) = self.segment.append(bytes) {
            if let Err(error) = self.segment.cut(self.length) {
                self.broken = Some(format!("the segment could not be cut back after a failed write: {error}"));
            }
            return Err(format!("the segment could not be written: {error}"));
        }
        if let Err(error) = self.segment.sync() {
            let reason = format!("it is not certain what is on the disk: {error}; restart the server to check the log");
            self.broken = Some(reason.clone());
            return Err(reason);
        }
        self.length += bytes.len() as u64;
        let before = tree::stored(self.frontier.size());
        self.frontier = frontier;
        if let Err(error) = self.publish(before, hashes) {
            // The entries are durable, but what follows from them is not up to date: the next opening repairs that.
            self.broken = Some(format!("the index of the log could not be written: {error}; restart the server"));
        }
        Ok(())
    }

    fn publish(&mut self, before: u64, hashes: &[Hash]) -> io::Result<()> {
        let head = Head { size: self.frontier.size(), root: self.frontier.root() };
        self.shared.hashes.write(before, hashes)?;
        self.acknowledged.write_all_at(&reader::acknowledged_bytes(head.size), 0)?;
        self.shared.publish(head);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let header = Header { origin: self.origin.clone(), before: self.frontier.clone() }.encode();
        let path = self.directory.join(segment::file_name(self.frontier.size()));
        self.segment = self.disk.create(&path, &header)?;
        self.length = header.len() as u64;
        Ok(())
    }
}

/// Decisions that are written in one piece.
struct Group {
    bytes: Vec<u8>,
    frontier: Frontier,
    hashes: Vec<Hash>,
    waiting: Vec<(Done, Receipt)>,
}

impl Group {
    fn new(frontier: &Frontier, mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        Self { bytes, frontier: frontier.clone(), hashes: Vec::new(), waiting: Vec::new() }
    }

    fn add(&mut self, job: Job) {
        let first = self.frontier.size();
        let mut entry = Vec::with_capacity(256);
        for decision in &job.decisions {
            entry.clear();
            // `Log::append` refused what cannot be encoded.
            if decision.encode(self.frontier.size(), &mut entry).is_ok() {
                let leaf = tree::leaf_hash(&entry);
                segment::put_record(&mut self.bytes, &entry, &leaf);
                self.frontier.append(leaf, |hash| self.hashes.push(*hash));
            }
        }
        self.waiting.push((job.done, Receipt { first, count: self.frontier.size() - first }));
    }
}
