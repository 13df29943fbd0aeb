//! The file of the signed checkpoints, one note after the other with an empty line after each.
//!
//! A note is durable before it leaves the node. A note that was cut off by a crash never left it, and is dropped.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use crate::checkpoint::{self, Checkpoint, NoteError};

/// The name of the file.
pub(crate) const NAME: &str = "checkpoints";

/// The open file.
#[derive(Debug)]
pub(super) struct Notes {
    file: fs::File,
    last: Option<(Checkpoint, String)>,
}

impl Notes {
    /// Opens the file, or makes it, and reads the last of its notes.
    ///
    /// # Errors
    /// When it cannot be read, or ends with something else than notes.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(NAME);
        let file = fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
        let length = file.metadata()?.len();
        let mut bytes = vec![0; usize::try_from(length.min(TAIL)).unwrap_or_default()];
        let start = length - bytes.len() as u64;
        file.read_exact_at(&mut bytes, start)?;
        // Where a note is longer than what was read, as one of many witnesses can be, all of them are.
        let first = if start == 0 { Some(0) } else { first_note(&bytes) };
        let tail = first.and_then(|first| split(bytes.get(first..)?).ok()).filter(|(notes, _)| !notes.is_empty());
        let whole;
        let (notes, unfinished) = match tail {
            Some(found) => found,
            None => {
                whole = fs::read(&path)?;
                split(&whole)?
            }
        };
        let last = notes.into_iter().next_back().map(|(checkpoint, note)| (checkpoint, note.to_owned()));
        if unfinished > 0 {
            tracing::warn!(bytes = unfinished, "an unfinished audit checkpoint, which never left, was dropped");
            file.set_len(length - unfinished as u64)?;
            file.sync_all()?;
        }
        Ok(Self { file, last })
    }

    /// All checkpoints of the file, in order.
    ///
    /// # Errors
    /// When it cannot be read, or holds something else than notes.
    pub(super) fn all(directory: &Path) -> io::Result<Vec<Checkpoint>> {
        let bytes = fs::read(directory.join(NAME))?;
        Ok(split(&bytes)?.0.into_iter().map(|(checkpoint, _)| checkpoint).collect())
    }

    pub(super) fn append(&mut self, checkpoint: Checkpoint, note: String) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let written = self.file.write_all(format!("{note}\n").as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What is left of the note was not given to anybody.
            self.file.set_len(length)?;
            return Err(error);
        }
        self.last = Some((checkpoint, note));
        Ok(())
    }

    pub(super) fn last(&self) -> Option<&(Checkpoint, String)> {
        self.last.as_ref()
    }
}

/// How much is read from the end of the file.
const TAIL: u64 = 256 * 1024;

/// Where the first whole note begins in the end of a file of notes: behind an empty line, and not with signatures.
fn first_note(bytes: &[u8]) -> Option<usize> {
    let behind = |at: &usize| bytes.get(at - 2..*at) == Some(b"\n\n");
    (2..bytes.len()).filter(behind).find(|at| bytes.get(*at).is_some_and(|byte| byte.is_ascii_alphanumeric()))
}

/// Splits the contents of a file of notes into the whole notes and the number of bytes of an unfinished one at the end.
/// Who signed them is not checked.
///
/// # Errors
/// When something in it is neither.
pub(crate) fn split(bytes: &[u8]) -> io::Result<(Vec<(Checkpoint, &str)>, usize)> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, NoteError::Malformed);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // A crash may cut a character in two.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(bytes.get(..error.valid_up_to()).unwrap_or_default()).map_err(|_| malformed())?
        }
        Err(_) => return Err(malformed()),
    };
    let (mut notes, mut rest) = (Vec::new(), text);
    while let Some((note, more)) = next_note(rest) {
        let checkpoint = checkpoint::danger_read_unverified(note).map_err(|_| malformed())?;
        notes.push((checkpoint, note));
        rest = more;
    }
    if could_be_cut(rest) { Ok((notes, rest.len() + bytes.len() - text.len())) } else { Err(malformed()) }
}

/// A note is text, an empty line and signature lines; an empty line follows it.
fn next_note(rest: &str) -> Option<(&str, &str)> {
    let middle = rest.find("\n\n")? + 2;
    let end = middle + rest.get(middle..)?.find("\n\n")? + 1;
    Some((rest.get(..end)?, rest.get(end + 1..)?))
}

/// Whether this can be the start of a note that a crash cut off, rather than a note that was altered.
fn could_be_cut(rest: &str) -> bool {
    let (text, signatures) = rest.split_once("\n\n").unwrap_or((rest, ""));
    // With its last line whole, it is whole but for the empty line after it.
    if !signatures.is_empty() && rest.ends_with('\n') {
        return checkpoint::danger_read_unverified(rest).is_ok();
    }
    let signature = |line: &str| line.starts_with("\u{2014} ") || "\u{2014} ".starts_with(line);
    text.strip_suffix('\n').unwrap_or(text).split('\n').count() <= 4
        && !text.contains("\n\u{2014}")
        && signatures.split('\n').all(signature)
}
