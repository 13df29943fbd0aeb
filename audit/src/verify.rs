//! Finds any entry that was changed, dropped, reordered or forked, and names the first bad sequence number.
//!
//! The log is held against itself (checks, sequence numbers, headers), against the checkpoints that the node signed, as
//! the node kept them and as witnesses did, and against copies of the log. What the node's own files say about
//! themselves finds accidents and careless hands; a signed checkpoint that somebody else kept finds everybody.
//!
//! Which entry no longer fits a checkpoint: the stored hashes, as far as they lead to the signed head, are as good as
//! signed, and are followed down to the first leaf that differs. Where they were rewritten too, the answer is a range
//! that ends at the checkpoint; a copy of the log narrows it to one entry.

use std::{
    collections::BTreeMap,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use super::{
    checkpoint::{Checkpoint, NoteError, Verifier},
    log::{Fault, FaultKind, Reader, hashes::HashFile, notes, reader},
    tree::{Hash, Nodes, node_hash, range_root, split},
};

/// Checkpoints that somebody kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Who: the path of the file.
    pub name: String,
    /// The notes, in the order in which they were kept.
    pub notes: Vec<String>,
}

impl Source {
    /// Reads a file of notes: the node's own, or one that a witness keeps.
    ///
    /// # Errors
    /// When it cannot be read, or holds something else.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut bytes = fs::read(path)?;
        // A single note that was saved from an answer has no empty line after it.
        if !bytes.is_empty() && !bytes.ends_with(b"\n\n") {
            bytes.push(b'\n');
        }
        let notes = notes::split(&bytes)?.0.into_iter().map(|(_, note)| note.to_owned()).collect();
        Ok(Self { name: path.display().to_string(), notes })
    }

    /// The checkpoints that the node kept beside its log; none when the file is not there.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub fn own(directory: &Path) -> io::Result<Self> {
        let path = directory.join(notes::NAME);
        if path.exists() { Self::read(&path) } else { Ok(Self { name: path.display().to_string(), notes: Vec::new() }) }
    }
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// How many entries were read.
    pub entries: u64,
    /// The head of their tree.
    pub root: Hash,
    /// How many signed checkpoints fit.
    pub checkpoints: usize,
    /// The size of the largest checkpoint that fits: entries from here on are held by no signature yet.
    pub covered: u64,
    /// Bytes of a write that is not finished, and was not acknowledged, follow the last entry.
    pub unfinished: bool,
    /// Everything that is wrong, by the first sequence number that it touches.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The first bad sequence number; when only a range is known, the first that may be.
    pub fn first_bad(&self) -> Option<u64> {
        self.findings.iter().filter_map(|finding| finding.entries.as_ref().map(|range| range.start)).min()
    }

    /// All of it in words, for people.
    pub fn told(&self, verifier: &Verifier) -> String {
        let root = self.root.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let mut text = format!(
            "log {}: {} entries, head {root}\nsigned checkpoints that fit: {}; entries not yet covered by one: {}\n",
            verifier.origin(),
            self.entries,
            self.checkpoints,
            self.entries.saturating_sub(self.covered)
        );
        if self.unfinished {
            text.push_str("a write that is not acknowledged yet follows the last entry\n");
        }
        for finding in &self.findings {
            let place = match &finding.entries {
                Some(range) if range.end - range.start > 1 => format!("entries {} to {}", range.start, range.end - 1),
                Some(range) => format!("entry {}", range.start),
                None => "no entry".to_owned(),
            };
            text.push_str(&format!("BAD   {place}: {}", finding.what));
            let mut cause = std::error::Error::source(&finding.what);
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            text.push('\n');
        }
        match self.first_bad() {
            Some(first) => text.push_str(&format!("first bad entry: {first}\n")),
            None if self.findings.is_empty() => text.push_str("ok\n"),
            None => {}
        }
        text
    }
}

/// One thing that is wrong.
#[derive(Debug)]
pub struct Finding {
    /// Where the first bad entry is: one entry, or a range that holds it. None when no entry is at fault.
    pub entries: Option<Range<u64>>,
    /// What is wrong.
    pub what: What,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum What {
    /// The files tell it themselves.
    #[error(transparent)]
    Fault(Fault),
    /// The entries do not have the head that the node signed: they were changed after, or the node showed another log.
    #[error(
        "{source_name}: the log does not fit the checkpoint of {size} entries that its key signed: changed or forked"
    )]
    Checkpoint {
        /// Who kept the checkpoint.
        source_name: String,
        /// Its size.
        size: u64,
    },
    /// The log ends before a size that the node signed.
    #[error("{source_name}: the log ends at {found} entries, but its key signed {size}: entries were dropped")]
    Dropped {
        /// Who kept the checkpoint.
        source_name: String,
        /// Its size.
        size: u64,
        /// How many entries there are.
        found: u64,
    },
    /// The log ends before entries that it acknowledged.
    #[error("the log ends at {found} entries, but {known} were acknowledged: entries were dropped")]
    Unacknowledged {
        /// How many entries there are.
        found: u64,
        /// How many were acknowledged.
        known: u64,
    },
    /// The node's key signed two heads of the same size.
    #[error("{first} and {second}: the key signed two different logs of {size} entries: forked")]
    Forked {
        /// Who kept one.
        first: String,
        /// Who kept the other.
        second: String,
        /// The size.
        size: u64,
    },
    /// A note proves nothing.
    #[error("{source_name}, checkpoint {number}: {error}")]
    Note {
        /// Who kept it.
        source_name: String,
        /// Which one, counted from 1.
        number: usize,
        /// Why.
        error: NoteError,
    },
    /// An entry differs from the one in a copy.
    #[error("the entry differs from the copy {}", .0.display())]
    Copy(PathBuf),
    /// The log ends before the copy does.
    #[error("the log ends before the copy {}: entries were dropped", .0.display())]
    LongerCopy(PathBuf),
    /// The copy itself is damaged.
    #[error("the copy is damaged: {0}")]
    DamagedCopy(Fault),
    /// The stored hashes do not fit the entries.
    #[error("the file of stored hashes does not fit the entry: one of the two was altered")]
    Hashes,
    /// The number of acknowledged entries cannot be read.
    #[error("the number of acknowledged entries: {0}")]
    Acknowledged(io::Error),
}

/// Verifies the log in `directory` against `sources` of checkpoints, signed by the key of `verifier`, and against
/// `copies` of the log. Reads the log once, and again if a checkpoint does not fit (then with 32 bytes of memory for each
/// entry).
///
/// # Errors
/// When the directory or a copy is not an audit log, or cannot be read. What is wrong with the log is in the report.
pub fn verify(directory: &Path, verifier: &Verifier, sources: &[Source], copies: &[PathBuf]) -> io::Result<Report> {
    let mut findings = Vec::new();
    // Before the entries, of which a server may add more meanwhile.
    let acknowledged = reader::acknowledged(directory);
    let kept = checked_notes(verifier, sources, &mut findings);
    let stored = HashFile::open_to_read(directory).ok();
    let mut pass = Pass {
        reader: Reader::open(directory, Some(verifier.origin()))?,
        copies: copies.iter().map(|copy| Ok((copy, Some(Reader::open(copy, None)?)))).collect::<io::Result<_>>()?,
        first_odd_hash: None,
        stored: stored.as_ref(),
    };
    // The sizes of the checkpoints that fit, by who kept them.
    let mut fitting: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut misfits, mut checkpoints, mut covered) = (Vec::new(), 0, 0);
    let mut upcoming = kept.iter().peekable();
    let fault = loop {
        let size = pass.reader.frontier().size();
        while let Some((source, checkpoint)) = upcoming.next_if(|(_, checkpoint)| checkpoint.size == size) {
            if checkpoint.root == pass.reader.frontier().root() {
                fitting.insert(source, size);
                (checkpoints, covered) = (checkpoints + 1, size);
            } else {
                misfits.push((*source, checkpoint, fitting.get(source).copied().unwrap_or(0)));
            }
        }
        match pass.step(&mut findings) {
            Ok(true) => {}
            Ok(false) => break None,
            Err(fault) => break Some(fault),
        }
    };
    let (entries, root) = (pass.reader.frontier().size(), pass.reader.frontier().root());
    pass.finish(fault.is_none(), &mut findings);
    if fault.is_none() {
        for (source, checkpoint) in upcoming {
            misfits.push((*source, checkpoint, fitting.get(source).copied().unwrap_or(0)));
        }
    }
    let torn = fault.as_ref().is_some_and(|fault| matches!(fault.kind, FaultKind::Torn));
    let unfinished = match acknowledged {
        Ok(known) if torn => known <= entries,
        Ok(known) => {
            if known > entries && fault.is_none() {
                let what = What::Unacknowledged { found: entries, known };
                findings.push(Finding { entries: Some(entries..entries + 1), what });
            }
            false
        }
        Err(error) => {
            findings.push(Finding { entries: None, what: What::Acknowledged(error) });
            false
        }
    };
    if let Some(fault) = fault.filter(|_| !unfinished) {
        let first = pass_first(&fault, pass.first_odd_hash);
        findings.push(Finding { entries: Some(first), what: What::Fault(fault) });
    } else if let Some(odd) = pass.first_odd_hash.filter(|_| misfits.is_empty()) {
        findings.push(Finding { entries: Some(odd..odd + 1), what: What::Hashes });
    }
    if !misfits.is_empty() {
        let leaves = Leaves::read(directory, verifier)?;
        for (source, checkpoint, good) in misfits {
            let found = locate(&leaves, stored.as_ref(), checkpoint, good);
            let (source_name, size) = (source.to_owned(), checkpoint.size);
            let what = if size > entries {
                What::Dropped { source_name, size, found: entries }
            } else {
                What::Checkpoint { source_name, size }
            };
            findings.push(Finding { entries: Some(found), what });
        }
    }
    // Entries first, and among them the most exact.
    findings.sort_by_key(|finding| finding.entries.clone().map_or((u64::MAX, 0), |range| (range.start, range.end)));
    Ok(Report { entries, root, checkpoints, covered, unfinished, findings })
}

/// Reads the notes and returns those that are signed, by size.
fn checked_notes<'a>(
    verifier: &Verifier,
    sources: &'a [Source],
    findings: &mut Vec<Finding>,
) -> Vec<(&'a str, Checkpoint)> {
    let mut kept: Vec<(&str, Checkpoint)> = Vec::new();
    for source in sources {
        for (number, note) in (1..).zip(&source.notes) {
            match verifier.open(note) {
                Ok(checkpoint) => kept.push((&source.name, checkpoint)),
                Err(error) => {
                    let what = What::Note { source_name: source.name.clone(), number, error };
                    findings.push(Finding { entries: None, what });
                }
            }
        }
    }
    kept.sort_by_key(|(_, checkpoint)| checkpoint.size);
    for pair in kept.windows(2) {
        if let [(first, one), (second, other)] = pair
            && one.size == other.size
            && one.root != other.root
        {
            let (first, second, size) = ((*first).to_owned(), (*second).to_owned(), one.size);
            findings.push(Finding { entries: None, what: What::Forked { first, second, size } });
        }
    }
    kept
}

/// One reading of the log, beside its copies and its stored hashes.
struct Pass<'a> {
    reader: Reader,
    copies: Vec<(&'a PathBuf, Option<Reader>)>,
    stored: Option<&'a HashFile>,
    first_odd_hash: Option<u64>,
}

impl Pass<'_> {
    fn step(&mut self, findings: &mut Vec<Finding>) -> Result<bool, Fault> {
        let Some(record) = self.reader.read(|_| ())? else { return Ok(false) };
        let sequence = record.entry.sequence;
        for (path, copy) in &mut self.copies {
            let Some(reader) = copy else { continue };
            let what = match reader.read(|_| ()) {
                Ok(Some(other)) if other.leaf == record.leaf => continue,
                Ok(Some(_)) => Some(What::Copy((*path).clone())),
                // The copy is older, or was taken while the log was written.
                Ok(None) => None,
                Err(Fault { kind: FaultKind::Torn, .. }) => None,
                Err(fault) => Some(What::DamagedCopy(fault)),
            };
            *copy = None;
            if let Some(what) = what {
                let entries = matches!(what, What::Copy(_)).then_some(sequence..sequence + 1);
                findings.push(Finding { entries, what });
            }
        }
        if let (Some(stored), None) = (self.stored, self.first_odd_hash) {
            match stored.node(0, sequence) {
                Ok(hash) if hash == record.leaf => {}
                Ok(_) => self.first_odd_hash = Some(sequence),
                // Not written yet, or lost: it follows from the entries.
                Err(_) => self.stored = None,
            }
        }
        Ok(true)
    }

    /// Looks for entries that only a copy has.
    fn finish(&mut self, whole: bool, findings: &mut Vec<Finding>) {
        let size = self.reader.frontier().size();
        for (path, copy) in &mut self.copies {
            if whole && let Some(Ok(Some(_))) = copy.as_mut().map(|reader| reader.read(|_| ())) {
                let what = What::LongerCopy((*path).clone());
                findings.push(Finding { entries: Some(size..size + 1), what });
            }
        }
    }
}

/// Which entry a fault is about. A header that does not continue the entries before it tells only that one of them was
/// altered; the stored hashes tell which.
fn pass_first(fault: &Fault, odd: Option<u64>) -> Range<u64> {
    match (&fault.kind, odd) {
        (FaultKind::Discontinuous, Some(odd)) => odd..odd + 1,
        (FaultKind::Discontinuous, None) => 0..fault.sequence,
        _ => fault.sequence..fault.sequence + 1,
    }
}

/// The leaves of the log as it is now.
struct Leaves(Vec<Hash>);

impl Leaves {
    fn read(directory: &Path, verifier: &Verifier) -> io::Result<Self> {
        let mut reader = Reader::open(directory, Some(verifier.origin()))?;
        let mut leaves = Vec::new();
        while let Ok(Some(record)) = reader.read(|_| ()) {
            leaves.push(record.leaf);
        }
        Ok(Self(leaves))
    }
}

impl Nodes for Leaves {
    /// The log ends before.
    type Error = ();

    fn node(&self, level: u32, index: u64) -> Result<Hash, ()> {
        match level {
            0 => usize::try_from(index).ok().and_then(|index| self.0.get(index)).copied().ok_or(()),
            _ => Ok(node_hash(&self.node(level - 1, 2 * index)?, &self.node(level - 1, 2 * index + 1)?)),
        }
    }
}

/// Finds the first entry that does not fit a checkpoint. Going down from the signed head, two stored hashes that lead to
/// a trusted one are trusted as well; the first of them that the entries do not have is followed.
fn locate(leaves: &Leaves, stored: Option<&HashFile>, checkpoint: &Checkpoint, good: u64) -> Range<u64> {
    let (mut start, mut end, mut trusted) = (0, checkpoint.size, checkpoint.root);
    while end - start > 1 {
        let middle = start + split(end - start);
        let halves = stored
            .and_then(|stored| Some((range_root(stored, start, middle).ok()?, range_root(stored, middle, end).ok()?)));
        let Some((left, right)) = halves.filter(|(left, right)| node_hash(left, right) == trusted) else { break };
        if range_root(leaves, start, middle) == Ok(left) {
            (start, trusted) = (middle, right);
        } else {
            (end, trusted) = (middle, left);
        }
    }
    start.max(good.min(end.saturating_sub(1)))..end
}

#[cfg(test)]
mod tests;
