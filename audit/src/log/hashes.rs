//! The file of the tree's stored hashes: what proofs are made from.
//!
//! 32 bytes of header (magic, version, zeros), then the hash of every perfect subtree in the order of their completion
//! ([`tree::position`]). Everything in it follows from the entries. It is made durable before a checkpoint is signed, so
//! that it tells, later, which entry no longer fits that checkpoint.

use std::{
    fs, io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use crate::tree::{self, Hash, Nodes};

/// The name of the file.
pub const NAME: &str = "hashes";
const HEADER: [u8; 32] = *b"\x89EDH\r\n\x1a\n\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const WIDTH: u64 = 32;

/// The open file.
#[derive(Debug)]
pub struct HashFile(fs::File);

impl HashFile {
    /// Opens the file for writing, and makes it if it is not there.
    ///
    /// # Errors
    /// When it cannot be opened, or is not such a file.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let mut options = fs::OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(directory.join(NAME))?;
        if file.metadata()?.len() < WIDTH {
            file.set_len(0)?;
            file.write_all_at(&HEADER, 0)?;
            file.sync_all()?;
        }
        Self::checked(file)
    }

    /// Opens the file for reading.
    ///
    /// # Errors
    /// When it cannot be opened, or is not such a file.
    pub fn open_to_read(directory: &Path) -> io::Result<Self> {
        Self::checked(fs::File::open(directory.join(NAME))?)
    }

    fn checked(file: fs::File) -> io::Result<Self> {
        let mut header = [0; 32];
        file.read_exact_at(&mut header, 0)?;
        if header == HEADER {
            return Ok(Self(file));
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file \"hashes\" is of a version this release does not know",
        ))
    }

    /// How many whole hashes it holds.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn count(&self) -> io::Result<u64> {
        Ok((self.0.metadata()?.len() / WIDTH).saturating_sub(1))
    }

    /// Writes hashes from this position on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, position: u64, hashes: &[Hash]) -> io::Result<()> {
        self.0.write_all_at(hashes.as_flattened(), (position + 1) * WIDTH)
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// When that fails.
    pub fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn read(&self, position: u64, hashes: &mut [Hash]) -> io::Result<()> {
        self.0.read_exact_at(hashes.as_flattened_mut(), (position + 1) * WIDTH)
    }
}

impl Nodes for HashFile {
    type Error = io::Error;

    fn node(&self, level: u32, index: u64) -> io::Result<Hash> {
        let mut hash = [[0; 32]];
        self.read(tree::position(level, index), &mut hash)?;
        let [hash] = hash;
        Ok(hash)
    }
}

/// Compares the file with the hashes that follow from the entries, and brings it up to date where it is behind: where it
/// ends early, or is zero because power was lost before it was synced.
pub struct Replay {
    file: HashFile,
    stored: u64,
    position: u64,
    pending: Vec<Hash>,
    first_difference: Option<u64>,
}

impl Replay {
    /// Begins with the hashes that a tree of this size does not have yet.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn after(file: HashFile, size: u64) -> io::Result<Self> {
        let stored = file.count()?;
        Ok(Self {
            file,
            stored,
            position: tree::stored(size),
            pending: Vec::with_capacity(CHUNK),
            first_difference: None,
        })
    }

    /// The next hash.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn push(&mut self, hash: &Hash) -> io::Result<()> {
        self.pending.push(*hash);
        if self.pending.len() < CHUNK { Ok(()) } else { self.flush() }
    }

    /// Ends the comparison; returns the file and the position of the first hash in it that was different.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn finish(mut self) -> io::Result<(HashFile, Option<u64>)> {
        self.flush()?;
        if self.first_difference.is_none() && self.stored > self.position {
            self.file.0.set_len((self.position + 1) * WIDTH)?;
        }
        Ok((self.file, self.first_difference))
    }

    fn flush(&mut self) -> io::Result<()> {
        let kept = usize::try_from(self.stored.saturating_sub(self.position)).unwrap_or(CHUNK).min(self.pending.len());
        let mut stored = vec![[0; 32]; kept];
        self.file.read(self.position, &mut stored)?;
        let differs = |(stored, wanted): (&Hash, &Hash)| stored != wanted && *stored != [0; 32];
        if let (Some(at), None) = (stored.iter().zip(&self.pending).position(differs), self.first_difference) {
            self.first_difference = Some(self.position + at as u64);
        }
        let good = stored.iter().zip(&self.pending).take_while(|(stored, wanted)| stored == wanted).count();
        if let (Some(missing), None) = (self.pending.get(good..).filter(|m| !m.is_empty()), self.first_difference) {
            self.file.write(self.position + good as u64, missing)?;
        }
        self.position += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

const CHUNK: usize = 8192;
