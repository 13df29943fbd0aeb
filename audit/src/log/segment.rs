//! A segment file: a header that continues the tree of the segments before it, then entries one after the other.
//!
//! Header: magic ‖ version u8 ‖ origin (u16 length, text) ‖ first sequence u64 ‖ number of peaks u8 ‖ peaks, 32 bytes each
//! ‖ check 8. Record: length u32 ‖ entry ‖ check 8. Numbers are little endian; a check is the first eight bytes of the
//! SHA-256 of the header before it, or of the leaf hash of the entry. Checks find accidents; what finds intent is the
//! tree.

use std::{
    fs, io,
    io::Read,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{
    entry,
    tree::{self, Frontier, Hash},
};

/// The first bytes of a segment.
pub const MAGIC: [u8; 8] = *b"\x89EDA\r\n\x1a\n";
/// The format version this release writes.
pub const VERSION: u8 = 1;
/// The bytes of a check.
pub const CHECK: usize = 8;
/// The bytes of a record around its entry.
pub const OVERHEAD: usize = 4 + CHECK;

/// The header of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The log that the segment belongs to.
    pub origin: String,
    /// The tree of all entries before the segment.
    pub before: Frontier,
}

/// Why a header cannot be read.
#[derive(Debug)]
pub enum HeaderError {
    /// The file cannot be read.
    Io(io::Error),
    /// The file is no segment, or was altered.
    Malformed,
    /// A version that this release does not know.
    UnknownVersion(u8),
}

impl Header {
    /// The bytes of the header.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        // An origin is a name of less than a hundred bytes, and there are at most 64 peaks.
        out.extend_from_slice(&u16::try_from(self.origin.len()).unwrap_or_default().to_le_bytes());
        out.extend_from_slice(self.origin.as_bytes());
        out.extend_from_slice(&self.before.size().to_le_bytes());
        out.push(u8::try_from(self.before.peaks().len()).unwrap_or_default());
        out.extend(self.before.peaks().iter().flatten());
        out.extend_from_slice(&check(&Sha256::digest(&out).into()));
        out
    }

    /// Reads a header and returns it with its length.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn read(input: &mut impl Read) -> Result<(Self, u64), HeaderError> {
        let mut seen = Vec::new();
        let mut take = |count: usize| -> Result<Vec<u8>, HeaderError> {
            let mut bytes = vec![0; count];
            input.read_exact(&mut bytes).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => HeaderError::Malformed,
                _ => HeaderError::Io(error),
            })?;
            seen.extend_from_slice(&bytes);
            Ok(bytes)
        };
        let start = take(MAGIC.len() + 1)?;
        let Some((&version, magic)) = start.split_last() else { return Err(HeaderError::Malformed) };
        if magic != MAGIC {
            return Err(HeaderError::Malformed);
        }
        if version != VERSION {
            return Err(HeaderError::UnknownVersion(version));
        }
        let origin = take(2)?.try_into().map(u16::from_le_bytes).map_err(|_| HeaderError::Malformed)?;
        let origin = String::from_utf8(take(usize::from(origin))?).map_err(|_| HeaderError::Malformed)?;
        let size = take(8)?.try_into().map(u64::from_le_bytes).map_err(|_| HeaderError::Malformed)?;
        let count = usize::from(take(1)?.first().copied().unwrap_or_default());
        let peaks = take(32 * count)?.as_chunks::<32>().0.to_vec();
        let before = Frontier::from_peaks(size, peaks).ok_or(HeaderError::Malformed)?;
        let wanted = check(&Sha256::digest(&seen).into());
        let mut found = [0; CHECK];
        input.read_exact(&mut found).map_err(|_| HeaderError::Malformed)?;
        if found != wanted {
            return Err(HeaderError::Malformed);
        }
        Ok((Self { origin, before }, (seen.len() + CHECK) as u64))
    }
}

/// Appends the record of an entry to `out`.
pub fn put_record(out: &mut Vec<u8>, entry: &[u8], leaf: &Hash) {
    // An entry has at most `entry::MAX_BYTES` bytes.
    out.extend_from_slice(&u32::try_from(entry.len()).unwrap_or_default().to_le_bytes());
    out.extend_from_slice(entry);
    out.extend_from_slice(&check(leaf));
}

/// What [`read_record`] found.
#[derive(PartialEq, Eq, Debug)]
pub enum Found {
    /// A whole record; its leaf hash.
    Record(Hash),
    /// The end of the file.
    End,
    /// A write that did not finish: the file ends within the record, or is zero from within it to its end.
    Torn,
    /// Something that no write of this program leaves behind.
    Altered,
}

/// Reads the next record into `entry`.
///
/// # Errors
/// When the file cannot be read.
pub fn read_record(input: &mut impl Read, entry: &mut Vec<u8>) -> io::Result<Found> {
    entry.clear();
    let mut length = [0; 4];
    match read_up_to(input, &mut length)? {
        0 => return Ok(Found::End),
        4 => {}
        _ => return Ok(Found::Torn),
    }
    let length = u32::from_le_bytes(length) as usize;
    if length == 0 || length > entry::MAX_BYTES {
        return Ok(if length == 0 && only_zeros(input)? { Found::Torn } else { Found::Altered });
    }
    entry.resize(length, 0);
    if read_up_to(input, entry)? < length {
        return Ok(Found::Torn);
    }
    let mut found = [0; CHECK];
    if read_up_to(input, &mut found)? < CHECK {
        return Ok(Found::Torn);
    }
    let leaf = tree::leaf_hash(entry);
    if found == check(&leaf) {
        return Ok(Found::Record(leaf));
    }
    let right = check(&leaf);
    let written = CHECK - found.iter().rev().take_while(|byte| **byte == 0).count();
    let begun = found.get(..written) == right.get(..written);
    Ok(if (begun || found == [0; CHECK]) && only_zeros(input)? { Found::Torn } else { Found::Altered })
}

/// The name of the segment that starts at this sequence number.
pub fn file_name(first: u64) -> String {
    format!("{first:020}.eda")
}

/// The segments of a directory, by the sequence number that each starts at.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut segments = Vec::new();
    for file in fs::read_dir(directory)? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let first = name.strip_suffix(".eda").and_then(|number| number.parse().ok());
        if let Some(first) = first.filter(|first| file_name(*first) == name) {
            segments.push((first, path));
        }
    }
    segments.sort();
    Ok(segments)
}

/// The check that stands behind an entry with this leaf hash, or a header with this hash.
pub(super) fn check(hash: &Hash) -> [u8; CHECK] {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    [a, b, c, d, e, f, g, h]
}

fn read_up_to(input: &mut impl Read, mut out: &mut [u8]) -> io::Result<usize> {
    let wanted = out.len();
    while !out.is_empty() {
        match input.read(out) {
            Ok(0) => break,
            Ok(count) => out = out.get_mut(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(wanted - out.len())
}

fn only_zeros(input: &mut impl Read) -> io::Result<bool> {
    let mut buffer = [0; 8192];
    loop {
        let count = read_up_to(input, &mut buffer)?;
        let read = buffer.get(..count).unwrap_or_default();
        if read.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        if count < buffer.len() {
            return Ok(true);
        }
    }
}
