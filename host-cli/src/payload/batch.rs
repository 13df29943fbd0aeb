//! One thread's buffer: a batch of chunks, each in a slot of 16,400 bytes, so that plaintext is read straight to where
//! it is encrypted and ciphertext goes out in one piece; and the other way round.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    sync::{Mutex, PoisonError},
};

use eds_core::cipher::{
    TAG,
    geometry::{CHUNK, SEALED_CHUNK},
};

/// Chunks in a batch. 256 KiB stay in the second-level cache between reading, encrypting and writing.
pub(super) const SLOTS: usize = 16;

/// A buffer of [`SLOTS`] slots. Wiped on drop: it may hold plaintext.
pub(super) struct Batch {
    bytes: Vec<u8>,
}

impl Batch {
    /// A buffer for at most this many chunks.
    pub(super) fn with_slots(slots: usize) -> Self {
        Self { bytes: vec![0; slots.clamp(1, SLOTS) * SEALED_CHUNK] }
    }

    pub(super) fn slots(&self) -> usize {
        self.bytes.len() / SEALED_CHUNK
    }

    /// The first `length` bytes.
    pub(super) fn bytes(&self, length: usize) -> &[u8] {
        self.bytes.get(..length).unwrap_or(&self.bytes)
    }

    /// The first `length` bytes.
    pub(super) fn bytes_mut(&mut self, length: usize) -> &mut [u8] {
        let end = length.min(self.bytes.len());
        self.bytes.split_at_mut(end).0
    }

    /// Fills the plaintext parts of the slots from `reader` until all are full or the input ends; returns the bytes read.
    pub(super) fn fill(&mut self, reader: &mut (impl Read + ?Sized)) -> io::Result<usize> {
        let mut filled = 0usize;
        loop {
            let mut slices = Vec::with_capacity(self.slots());
            for (slot, bytes) in self.bytes.chunks_exact_mut(SEALED_CHUNK).enumerate() {
                let done = filled.saturating_sub(slot * CHUNK);
                if let Some(free) = bytes.get_mut(done..CHUNK)
                    && !free.is_empty()
                {
                    slices.push(IoSliceMut::new(free));
                }
            }
            if slices.is_empty() {
                return Ok(filled);
            }
            match reader.read_vectored(&mut slices) {
                Ok(0) => return Ok(filled),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The slots of the first `sealed` bytes, the last of which may be short.
    pub(super) fn chunks_mut(&mut self, sealed: usize) -> impl Iterator<Item = &mut [u8]> {
        self.bytes_mut(sealed).chunks_mut(SEALED_CHUNK)
    }

    /// The plaintext parts of the slots of the first `sealed` bytes.
    pub(super) fn plain(&self, sealed: usize) -> impl Iterator<Item = &[u8]> {
        let slots = self.bytes(sealed).chunks(SEALED_CHUNK);
        slots.filter_map(|slot| slot.len().checked_sub(TAG).and_then(|end| slot.get(..end)))
    }

    /// Wipes the buffer.
    fn wipe(&mut self) {
        self.bytes.fill(0);
        // Keeps the compiler from leaving the writes out; byte-wise volatile writes would cost more than decryption.
        std::hint::black_box(&mut self.bytes);
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// Writes all of these slices to a stream.
pub(super) fn write_all<'a>(
    output: &mut (impl Write + ?Sized),
    slices: impl Iterator<Item = &'a [u8]>,
) -> io::Result<()> {
    write_each(slices, |slices| output.write_vectored(slices))
}

/// Writes all of these slices to a file, from `offset` on.
pub(super) fn write_all_at<'a>(file: &File, slices: impl Iterator<Item = &'a [u8]>, mut offset: u64) -> io::Result<()> {
    write_each(slices, |slices| {
        let written = rustix::io::pwritev(file, slices, offset)?;
        offset += written as u64;
        Ok(written)
    })
}

/// A file that several threads write at positions, one at a time: the kernel would serialise them too, but by spinning.
pub(super) struct Positioned<'a>(Mutex<&'a File>);

impl<'a> Positioned<'a> {
    pub(super) const fn new(file: &'a File) -> Self {
        Self(Mutex::new(file))
    }

    /// Writes all of these slices, from `offset` on.
    pub(super) fn write_all_at<'b>(&self, slices: impl Iterator<Item = &'b [u8]>, offset: u64) -> io::Result<()> {
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        write_all_at(&file, slices, offset)
    }
}

fn write_each<'a>(
    slices: impl Iterator<Item = &'a [u8]>,
    mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = slices.map(IoSlice::new).collect();
    let mut rest = &mut slices[..];
    // Empty slices at the front would look like a full disk.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
