//! Reads a log from its files, checks everything that the files themselves can tell, and names the first thing wrong.
//!
//! Needs no lock: it can read a log that a server is writing. Then the last record may be unfinished, which shows as
//! [`FaultKind::Torn`] at or after [`acknowledged`].

use std::{
    fs, io,
    io::BufReader,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::segment::{self, Found, Header, HeaderError};
use crate::{
    entry::Entry,
    tree::{Frontier, Hash},
};

/// An entry as it stands in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The entry.
    pub entry: Entry,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its leaf hash.
    pub leaf: Hash,
}

/// Something wrong with a log, at the first sequence number that it touches.
#[derive(Debug, thiserror::Error)]
#[error("audit log entry {sequence}, file {}, byte {offset}: {kind}", file.display())]
pub struct Fault {
    /// The first sequence number that is not as it was written.
    pub sequence: u64,
    /// The file.
    pub file: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// What is wrong.
    #[source]
    pub kind: FaultKind,
}

/// What is wrong with a log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaultKind {
    /// The file cannot be read.
    #[error("the file cannot be read")]
    Unreadable(#[source] io::Error),
    /// The header of a segment is not one, or was altered.
    #[error("the header of the file was altered")]
    Header,
    /// The header has a version that this release does not know.
    #[error("the file has format version {0}, which this release does not know")]
    Version(u8),
    /// The segment belongs to another log.
    #[error("the file belongs to the log {0:?}")]
    Origin(String),
    /// The segment with this sequence number is missing.
    #[error("the file that holds this entry is missing")]
    Missing,
    /// The segment does not continue the tree of the entries before it.
    #[error("the file does not continue the entries before it: one of them was altered")]
    Discontinuous,
    /// A record was altered.
    #[error("the record was altered")]
    Altered,
    /// The file ends within a record.
    #[error("the record is not finished")]
    Torn,
    /// The entry is not one that this release can read.
    #[error("the entry cannot be read")]
    Entry(#[source] eds_core::Error),
    /// Another entry stands in its place.
    #[error("entry {0} stands in its place: entries were dropped, repeated or reordered")]
    Misplaced(u64),
}

/// Reads a log from its first entry, or from a later one.
pub struct Reader {
    segments: Vec<(u64, PathBuf)>,
    origin: Option<String>,
    next_segment: usize,
    input: Option<BufReader<fs::File>>,
    file: PathBuf,
    offset: u64,
    frontier: Frontier,
    buffer: Vec<u8>,
}

impl Reader {
    /// Reads the log in this directory; its origin must be `origin` if that is given.
    ///
    /// # Errors
    /// When the directory cannot be read, or holds no segment.
    pub fn open(directory: &Path, origin: Option<&str>) -> io::Result<Self> {
        let segments = segment::list(directory)?;
        if segments.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the directory holds no segment of an audit log"));
        }
        Ok(Self {
            segments,
            origin: origin.map(str::to_owned),
            next_segment: 0,
            input: None,
            file: directory.to_owned(),
            offset: 0,
            frontier: Frontier::default(),
            buffer: Vec::new(),
        })
    }

    /// Goes to the segment that holds `sequence` without reading those before it, and then to the entry. For exports:
    /// what was skipped is not checked.
    ///
    /// # Errors
    /// [`Fault`], as [`Reader::read`].
    pub fn seek(&mut self, sequence: u64) -> Result<(), Fault> {
        let holding = self.segments.iter().rposition(|(first, _)| *first <= sequence).unwrap_or(0);
        self.next_segment = holding;
        self.input = None;
        if let Some((first, path)) = self.segments.get(holding).cloned()
            && holding > 0
        {
            self.frontier = read_header(&path).map_err(|kind| self.fault_in(&path, first, kind))?.0.before;
        } else {
            self.frontier = Frontier::default();
        }
        while self.frontier.size() < sequence {
            if self.read(|_| ())?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// The tree of the entries that were read, and of those that were skipped.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// The origin of the log, once an entry was read or the log was opened with it.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// The file that is being read, and how many of its bytes were read in whole records.
    pub fn position(&self) -> (&Path, u64) {
        (&self.file, self.offset)
    }

    /// Reads the next entry; `completed` gets the hashes of the perfect subtrees that it completes. `None` at the end.
    ///
    /// # Errors
    /// [`Fault`], after which there is nothing more to read.
    pub fn read(&mut self, completed: impl FnMut(&Hash)) -> Result<Option<Record>, Fault> {
        loop {
            if self.input.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some(input) = &mut self.input else { return Ok(None) };
            let found = segment::read_record(input, &mut self.buffer);
            match found.map_err(|error| self.fault(FaultKind::Unreadable(error)))? {
                Found::Record(leaf) => return self.accept(leaf, completed).map(Some),
                Found::End if self.next_segment < self.segments.len() => self.input = None,
                Found::End => return Ok(None),
                Found::Torn => return Err(self.fault(FaultKind::Torn)),
                Found::Altered => return Err(self.fault(FaultKind::Altered)),
            }
        }
    }

    fn accept(&mut self, leaf: Hash, completed: impl FnMut(&Hash)) -> Result<Record, Fault> {
        let entry = Entry::decode(&self.buffer).map_err(|error| self.fault(FaultKind::Entry(error)))?;
        if entry.sequence != self.frontier.size() {
            return Err(self.fault(FaultKind::Misplaced(entry.sequence)));
        }
        self.frontier.append(leaf, completed);
        self.offset += (self.buffer.len() + segment::OVERHEAD) as u64;
        Ok(Record { entry, bytes: self.buffer.clone(), leaf })
    }

    fn open_next(&mut self) -> Result<bool, Fault> {
        let Some((first, path)) = self.segments.get(self.next_segment).cloned() else { return Ok(false) };
        if first > self.frontier.size() {
            return Err(self.fault_in(&path, self.frontier.size(), FaultKind::Missing));
        }
        let (header, length, input) = match read_header(&path) {
            Ok((header, length, input)) => (header, length, input),
            Err(kind) => return Err(self.fault_in(&path, self.frontier.size(), kind)),
        };
        if self.origin.as_ref().is_some_and(|origin| *origin != header.origin) {
            return Err(self.fault_in(&path, self.frontier.size(), FaultKind::Origin(header.origin)));
        }
        if header.before != self.frontier {
            return Err(self.fault_in(&path, first.min(self.frontier.size()), FaultKind::Discontinuous));
        }
        self.origin = Some(header.origin);
        (self.input, self.file, self.offset) = (Some(input), path, length);
        self.next_segment += 1;
        Ok(true)
    }

    /// The fault at the current place. An unfinished record that is not the last of the log is an alteration.
    fn fault(&mut self, kind: FaultKind) -> Fault {
        let last = self.next_segment == self.segments.len();
        let kind = if matches!(kind, FaultKind::Torn) && !last { FaultKind::Altered } else { kind };
        self.input = None;
        self.next_segment = self.segments.len();
        Fault { sequence: self.frontier.size(), file: self.file.clone(), offset: self.offset, kind }
    }

    fn fault_in(&mut self, file: &Path, sequence: u64, kind: FaultKind) -> Fault {
        self.next_segment = self.segments.len();
        Fault { sequence, file: file.to_owned(), offset: 0, kind }
    }
}

fn read_header(path: &Path) -> Result<(Header, u64, BufReader<fs::File>), FaultKind> {
    let mut input = BufReader::with_capacity(256 * 1024, fs::File::open(path).map_err(FaultKind::Unreadable)?);
    match Header::read(&mut input) {
        Ok((header, length)) => Ok((header, length, input)),
        Err(HeaderError::Io(error)) => Err(FaultKind::Unreadable(error)),
        Err(HeaderError::Malformed) => Err(FaultKind::Header),
        Err(HeaderError::UnknownVersion(version)) => Err(FaultKind::Version(version)),
    }
}

/// The name of the file with the number of acknowledged entries.
pub const ACKNOWLEDGED: &str = "acknowledged";

/// The bytes of that file: the number, and the start of its SHA-256.
pub fn acknowledged_bytes(size: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (number, check) = bytes.split_at_mut(8);
    number.copy_from_slice(&size.to_le_bytes());
    check.copy_from_slice(Sha256::digest(&*number).get(..8).unwrap_or_default());
    bytes
}

/// How many entries the log has acknowledged, as far as the file says: after the loss of power it can say less.
///
/// # Errors
/// When the file cannot be read, or was altered.
pub fn acknowledged(directory: &Path) -> io::Result<u64> {
    let bytes = fs::read(directory.join(ACKNOWLEDGED))?;
    let altered = || io::Error::new(io::ErrorKind::InvalidData, "the file \"acknowledged\" was altered");
    let size = bytes.first_chunk::<8>().map(|number| u64::from_le_bytes(*number)).ok_or_else(altered)?;
    if bytes == acknowledged_bytes(size) { Ok(size) } else { Err(altered()) }
}
