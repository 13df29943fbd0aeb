//! Holds an object while it arrives: small ones in memory, larger ones in a file without a name, encrypted.
//!
//! An object has to be read twice, once for its header and once for its pixel data, and arrives once. What does not fit
//! into memory goes to the disk under a key that is drawn for this object, is in memory only, and is wiped with it; so the
//! disk never sees what a patient's image holds, not even in a swap of the page cache.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt as _,
    path::Path,
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// An object that arrives, or has arrived.
pub(super) struct Spool {
    /// Bytes of the block that is being written, or of the one that is being read; all of them while there is no file.
    block: Zeroizing<Vec<u8>>,
    /// The number of the block in memory.
    number: u64,
    file: Option<Sealed>,
    length: u64,
    position: u64,
}

struct Sealed {
    file: File,
    key: LessSafeKey,
}

impl Spool {
    /// An empty one.
    pub(super) fn new() -> Self {
        // Reserved beforehand, so that no copy is left behind by a growing buffer.
        let block = Zeroizing::new(Vec::with_capacity(IN_MEMORY));
        Self { block, number: 0, file: None, length: 0, position: 0 }
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// What the disk said.
    pub(super) fn append(&mut self, mut bytes: &[u8], directory: &Path) -> io::Result<()> {
        self.length = self.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        while !bytes.is_empty() {
            if self.file.is_none() && self.block.len() + bytes.len() <= IN_MEMORY {
                self.block.extend_from_slice(bytes);
                return Ok(());
            }
            if self.file.is_none() {
                self.move_to_disk(directory)?;
            }
            let room = BLOCK.saturating_sub(self.block.len()).min(bytes.len());
            let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == BLOCK {
                self.put_block()?;
            }
        }
        Ok(())
    }

    /// Nothing more comes: the object can be read, from its start.
    ///
    /// # Errors
    /// What the disk said.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if self.file.is_some() && !self.block.is_empty() {
            self.put_block()?;
        }
        Ok(())
    }

    /// Bytes of the object.
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// From memory into a file, block by block.
    fn move_to_disk(&mut self, directory: &Path) -> io::Result<()> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice()).map_err(io::Error::from)?;
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(|_| broken())?;
        self.file = Some(Sealed { file: tempfile::tempfile_in(directory)?, key: LessSafeKey::new(key) });
        let held = std::mem::replace(&mut self.block, Zeroizing::new(Vec::with_capacity(BLOCK)));
        for block in held.chunks(BLOCK) {
            self.block.extend_from_slice(block);
            if self.block.len() == BLOCK {
                self.put_block()?;
            }
        }
        Ok(())
    }

    fn put_block(&mut self) -> io::Result<()> {
        let Some(Sealed { file, key }) = &self.file else { return Ok(()) };
        // The bytes are encrypted where they are: nothing is left of the plaintext.
        let tag = key.seal_in_place_separate_tag(nonce(self.number), Aad::empty(), &mut self.block);
        let tag = tag.map_err(|_| broken())?;
        self.block.extend_from_slice(tag.as_ref());
        file.write_all_at(&self.block, self.number * SEALED)?;
        self.block.clear();
        self.number += 1;
        Ok(())
    }

    fn get_block(&mut self, number: u64) -> io::Result<()> {
        let Some(Sealed { file, key }) = &self.file else { return Ok(()) };
        if self.number == number && !self.block.is_empty() {
            return Ok(());
        }
        let left = self.length.saturating_sub(number * PLAIN).min(PLAIN);
        let sealed = usize::try_from(left).map_err(|_| broken())? + TAG;
        self.block.resize(sealed, 0);
        file.read_exact_at(&mut self.block, number * SEALED)?;
        let length = key.open_in_place(nonce(number), Aad::empty(), &mut self.block).map_err(|_| broken())?.len();
        self.block.truncate(length);
        self.number = number;
        Ok(())
    }
}

impl Read for Spool {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.length || buffer.is_empty() {
            return Ok(0);
        }
        let (number, offset) = match self.file {
            Some(_) => (self.position / PLAIN, self.position % PLAIN),
            None => (0, self.position),
        };
        self.get_block(number)?;
        let bytes = usize::try_from(offset).ok().and_then(|offset| self.block.get(offset..)).unwrap_or_default();
        let length = bytes.len().min(buffer.len());
        buffer.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.position += u64::try_from(length).unwrap_or_default();
        Ok(length)
    }
}

impl Seek for Spool {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// Each block has its number, and each object its key.
fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
    Nonce::assume_unique_for_key(nonce)
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what was spooled to the disk came back changed")
}

/// What is held in memory of an object.
const IN_MEMORY: usize = 4 << 20;
/// Bytes of plaintext in a block of the file.
const BLOCK: usize = 64 * 1024;
const PLAIN: u64 = BLOCK as u64;
const TAG: usize = 16;
const SEALED: u64 = (BLOCK + TAG) as u64;

#[cfg(test)]
mod tests {
    use super::*;

    fn spooled(whole: &[u8], directory: &Path) -> Spool {
        let mut spool = Spool::new();
        for piece in whole.chunks(16_383) {
            spool.append(piece, directory).expect("appends");
        }
        spool.finish().expect("finishes");
        spool
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap_or_default()).collect()
    }

    #[test]
    fn what_went_in_comes_out_from_any_position() {
        let directory = tempfile::tempdir().expect("a directory");
        for length in [0, 1, BLOCK, IN_MEMORY, IN_MEMORY + 1, IN_MEMORY + BLOCK, 3 * IN_MEMORY + 77] {
            let whole = bytes(length);
            let mut spool = spooled(&whole, directory.path());
            assert_eq!(spool.len(), length as u64);
            for start in [0, length / 3, length.saturating_sub(1), length] {
                spool.seek(SeekFrom::Start(start as u64)).expect("seeks");
                let mut out = Vec::new();
                spool.read_to_end(&mut out).expect("reads");
                assert!(out == whole[start..], "{length} from {start}");
            }
        }
    }

    #[test]
    fn the_disk_holds_nothing_readable_and_no_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let marker = b"Doe^Jane".repeat(IN_MEMORY / 4);
        let spool = spooled(&marker, directory.path());
        assert_eq!(std::fs::read_dir(directory.path()).expect("reads").count(), 0);
        let sealed = spool.file.as_ref().expect("is on the disk");
        let mut raw = vec![0; usize::try_from(sealed.file.metadata().expect("is there").len()).expect("fits")];
        sealed.file.read_exact_at(&mut raw, 0).expect("reads");
        assert!(!raw.windows(8).any(|window| window == b"Doe^Jane"));
    }

    #[test]
    fn a_changed_block_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let whole = bytes(2 * IN_MEMORY);
        let mut spool = spooled(&whole, directory.path());
        spool.file.as_ref().expect("is on the disk").file.write_all_at(&[0xFF; 3], SEALED + 5).expect("writes");
        let mut out = Vec::new();
        let error = spool.read_to_end(&mut out).expect_err("refuses");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(out.len(), BLOCK);
    }
}
