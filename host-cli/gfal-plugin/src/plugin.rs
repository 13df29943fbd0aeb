//! The operations, in terms of values: what GFAL2 asks for, answered by the client library.

use std::{
    ffi::c_int,
    time::{SystemTime, UNIX_EPOCH},
};

use eds::{
    commands::Options,
    journey::{
        open::{self, OpenFile},
        sessions::Sessions,
    },
};
use eds_core::ids::FileId;
use zeroize::Zeroizing;

use crate::{
    abi::operation,
    failure::Failure,
    handle::{Handle, Open, Reading},
    sums::Sum,
    url::{Url, is_ours},
};

/// The plugin of one GFAL2 context.
pub(crate) struct Plugin {
    sessions: Sessions,
}

/// What there is to tell of a file or directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Facts {
    pub(crate) directory: bool,
    pub(crate) file: Option<FileId>,
    /// Bytes of plaintext.
    pub(crate) size: u64,
    pub(crate) created: SystemTime,
}

impl Facts {
    /// A number that stays the same for a file.
    pub(crate) fn number(&self) -> u64 {
        let bytes = self.file.as_ref().and_then(|file| file.as_bytes().first_chunk::<8>().copied());
        bytes.map_or(1, u64::from_le_bytes)
    }

    pub(crate) fn seconds(&self) -> i64 {
        let since = self.created.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }
}

impl Plugin {
    pub(crate) fn new() -> Self {
        Self { sessions: Sessions::new(|| Options::of_environment()?.load()) }
    }

    /// Whether this plugin does that with such a URL.
    pub(crate) fn answers(url: &str, operation: c_int) -> bool {
        OPERATIONS.contains(&operation) && is_ours(url)
    }

    pub(crate) fn facts(&self, url: &str) -> Result<Facts, Failure> {
        match Url::parse(url)? {
            Url::File(file) => {
                let about = self.sessions.with(|session| open::about(session, file))?;
                let file = Some(about.file);
                Ok(Facts { directory: false, file, size: about.size, created: about.created })
            }
            Url::Name(name) => Err(unknown(&name)),
        }
    }

    pub(crate) fn access(&self, url: &str, mode: c_int) -> Result<(), Failure> {
        let facts = self.facts(url)?;
        if mode & libc::X_OK != 0 && !facts.directory {
            return Err(Failure::new(libc::EACCES, format!("{url}: not a program")));
        }
        Ok(())
    }

    pub(crate) fn open(&self, url: &str, flags: c_int) -> Result<Handle, Failure> {
        if flags & libc::O_ACCMODE != libc::O_RDONLY {
            return Err(Failure::new(libc::EROFS, format!("{url}: can be read only")));
        }
        let file = self.file(url)?;
        Ok(Handle::new(Open::File(Reading::new(self.read(file)?))))
    }

    /// The checksum of `length` bytes from `offset` on, of all that follows when `length` is 0.
    pub(crate) fn checksum(&self, url: &str, kind: &str, offset: u64, length: u64) -> Result<String, Failure> {
        let mut sum = Sum::named(kind)?;
        let file = self.read(self.file(url)?)?;
        let end = if length == 0 { file.size() } else { offset.saturating_add(length).min(file.size()) };
        let mut buffer = Zeroizing::new(vec![0; PIECE]);
        let mut offset = offset;
        while offset < end {
            let wanted = usize::try_from(end - offset).unwrap_or(PIECE).min(PIECE);
            let (piece, _) = buffer.split_at_mut(wanted);
            let read = file.read_at(piece, offset)?;
            sum.update(piece.get(..read).unwrap_or_default());
            offset = offset.saturating_add(read as u64);
        }
        Ok(sum.finish())
    }

    /// What is told of a file beside its facts.
    pub(crate) fn attributes(&self, url: &str) -> Result<&'static [&'static str], Failure> {
        self.facts(url)?;
        Ok(&[GUID])
    }

    pub(crate) fn attribute(&self, url: &str, name: &str) -> Result<String, Failure> {
        let file = self.facts(url)?.file;
        match (name, file) {
            (GUID, Some(file)) => Ok(file.to_string()),
            _ => Err(Failure::new(libc::ENODATA, format!("{url}: no attribute {name}"))),
        }
    }

    fn file(&self, url: &str) -> Result<FileId, Failure> {
        match Url::parse(url)? {
            Url::File(file) => Ok(file),
            Url::Name(name) => Err(unknown(&name)),
        }
    }

    fn read(&self, file: FileId) -> Result<OpenFile, Failure> {
        // Nodes that answered wrongly are named by `eds`; here what counts is that enough others did not.
        Ok(self.sessions.with(|session| OpenFile::open(session, file))?.0)
    }
}

fn unknown(name: &str) -> Failure {
    Failure::new(libc::ENOENT, format!("{name}: the catalog has no such name"))
}

/// What this plugin does.
const OPERATIONS: [c_int; 7] = [
    operation::ACCESS,
    operation::STAT,
    operation::LSTAT,
    operation::OPEN,
    operation::CHECKSUM,
    operation::GETXATTR,
    operation::LISTXATTR,
];

/// The extended attribute that holds the id of a file.
const GUID: &str = "user.guid";

/// Bytes that are summed at once.
const PIECE: usize = 1024 * 1024;
