//! The plaintext of a container at any position, for callers that read as they like: a tool of the grid, a mounted folder.
//!
//! A read decrypts the chunks that it touches and no others. Chunks at the edges of a read are kept, a few of them, since
//! small reads come again; whole chunks in the middle go straight to the caller. Whoever reads on where the last read
//! ended gets what follows decrypted ahead, in several threads ([`super::ahead`]). Nothing is released before its tag was
//! checked. All that was decrypted is in the memory of this process alone, and is wiped when the reader is dropped.

use std::{
    collections::VecDeque,
    fs::File,
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    thread,
};

use eds_core::cipher::geometry::{CHUNK, Geometry};
use zeroize::Zeroizing;

use super::{
    Error, ReadSeek, Released,
    ahead::Ahead,
    batch::{Batch, SLOTS},
    open::{in_batches, of_reading, open_each, place, read_exact_at},
};

/// What a container can be read from at positions, by itself and from several threads.
pub enum Origin {
    /// A regular file: reads do not wait for each other.
    File(File),
    /// Something else, for example an object in remote storage: one read at a time.
    Other(Mutex<Box<dyn ReadSeek + Send>>),
}

/// The plaintext of a container, readable at positions from several threads.
pub struct PlainReader {
    chunks: Arc<Chunks>,
    kept: Mutex<Kept>,
    run: Mutex<Run>,
    /// Buffers that were used, as many as there are threads at most; they wipe themselves with the reader.
    spare: Mutex<Vec<Batch>>,
    threads: usize,
}

/// Where chunks come from and what opens them.
pub(super) struct Chunks {
    origin: Origin,
    /// What opens them.
    with: Released,
}

/// Chunks that were decrypted of late, the newest last.
#[derive(Default)]
struct Kept(VecDeque<(u64, Zeroizing<Vec<u8>>)>);

/// Reads that follow upon each other.
#[derive(Default)]
struct Run {
    /// Where the last read ended.
    end: u64,
    /// How many bytes were read in a row.
    length: u64,
    ahead: Option<Ahead>,
}

impl PlainReader {
    /// The content of a container that was unlocked, read from `origin`, which is where it was read from until now.
    pub fn new(with: Released, origin: Origin) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let chunks = Arc::new(Chunks { origin, with });
        Self { chunks, kept: Mutex::default(), run: Mutex::default(), spare: Mutex::default(), threads }
    }

    /// Bytes of plaintext.
    pub fn plain_len(&self) -> u64 {
        self.chunks.geometry().plain_len()
    }

    /// Fills `buffer` with the plaintext from `offset` on and returns how much there was: less than asked for only at the
    /// end. After an error, what the buffer holds is not to be used.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Truncated`], [`Error::Read`].
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        let left = self.plain_len().saturating_sub(offset);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.split_at_mut(wanted).0;
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.run.try_lock() {
            Ok(mut run) => self.read_in_run(&mut run, buffer, offset)?,
            Err(TryLockError::Poisoned(run)) => self.read_in_run(&mut run.into_inner(), buffer, offset)?,
            // Somebody else reads: this is none of that run.
            Err(TryLockError::WouldBlock) => self.read_here(buffer, offset)?,
        }
        Ok(wanted)
    }

    fn read_in_run(&self, run: &mut Run, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        if offset != run.end {
            *run = Run::default();
        }
        let length = buffer.len() as u64;
        let end = offset.saturating_add(length);
        if run.ahead.is_none() && run.length >= RUN && self.plain_len().saturating_sub(offset) > WORTH {
            run.ahead = Some(Ahead::start(&self.chunks, offset / CHUNK as u64, self.threads));
        }
        // What fails ahead may be beyond what is asked for; it is then told where it is reached.
        let had = run.ahead.as_mut().is_some_and(|ahead| ahead.read(buffer, offset).is_ok());
        if !had {
            run.ahead = None;
        }
        match if had { Ok(()) } else { self.read_here(buffer, offset) } {
            Ok(()) => {
                run.length = run.length.saturating_add(length);
                run.end = end;
                if end == self.plain_len() {
                    run.ahead = None;
                }
                Ok(())
            }
            Err(error) => {
                *run = Run::default();
                Err(error)
            }
        }
    }

    /// Decrypts what is asked for in this thread.
    fn read_here(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        let geometry = self.chunks.geometry();
        let end = offset.saturating_add(buffer.len() as u64);
        let out_of_range = |_| Error::OutOfRange { offset, end, length: geometry.plain_len() };
        let mut chunks = geometry.chunks_of(offset..end).map_err(out_of_range)?;
        let mut rest = buffer;
        let skip = within(offset);
        if skip != 0 || rest.len() < CHUNK {
            rest = self.edge(chunks.start, skip, rest)?;
            chunks.start += 1;
        }
        let full = rest.len() / CHUNK;
        let middle = chunks.start..chunks.start.saturating_add(full as u64);
        let (whole, rest) = rest.split_at_mut(full * CHUNK);
        self.whole(middle.clone(), whole)?;
        if !rest.is_empty() {
            self.edge(middle.end, 0, rest)?;
        }
        Ok(())
    }

    /// Decrypts whole chunks into `buffer`; many of them in two halves at the same time.
    fn whole(&self, chunks: Range<u64>, buffer: &mut [u8]) -> Result<(), Error> {
        let half = buffer.len() / CHUNK / 2;
        if half < APART || self.threads < 2 {
            return self.whole_here(chunks, buffer);
        }
        let (front, back) = buffer.split_at_mut(half * CHUNK);
        let middle = chunks.start.saturating_add(half as u64);
        let done = thread::scope(|scope| {
            let work = || self.whole_here(middle..chunks.end, back);
            let other = thread::Builder::new().name("eds-half".into()).spawn_scoped(scope, work).ok()?;
            let mine = self.whole_here(chunks.start..middle, front);
            Some(mine.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))))
        });
        // Where no thread can be had, one after the other.
        done.unwrap_or_else(|| self.whole_here(chunks, buffer))
    }

    fn whole_here(&self, chunks: Range<u64>, buffer: &mut [u8]) -> Result<(), Error> {
        let mut rest = buffer;
        let mut batch = self.batch();
        for some in in_batches(chunks) {
            let sealed = self.chunks.open(some, &mut batch)?;
            for plain in batch.plain(sealed) {
                rest = put(rest, plain);
            }
        }
        self.put_back(batch);
        Ok(())
    }

    /// A batch to work in: one that was used before, if there is one.
    fn batch(&self) -> Batch {
        lock(&self.spare).pop().unwrap_or_else(|| Batch::with_slots(SLOTS))
    }

    fn put_back(&self, batch: Batch) {
        let mut spare = lock(&self.spare);
        if spare.len() < self.threads {
            spare.push(batch);
        }
    }

    /// Copies of one chunk, from byte `skip` of it on; the chunk is kept. Returns what is left of the buffer.
    fn edge<'b>(&self, chunk: u64, skip: usize, buffer: &'b mut [u8]) -> Result<&'b mut [u8], Error> {
        {
            let kept = lock(&self.kept);
            if let Some(plain) = kept.of(chunk) {
                return Ok(put(buffer, plain.get(skip..).unwrap_or_default()));
            }
        }
        let mut batch = self.batch();
        let sealed = self.chunks.open(chunk..chunk.saturating_add(1), &mut batch)?;
        let plain = batch.plain(sealed).next().unwrap_or_default();
        let rest = put(buffer, plain.get(skip..).unwrap_or_default());
        lock(&self.kept).keep(chunk, plain);
        self.put_back(batch);
        Ok(rest)
    }
}

impl Chunks {
    pub(super) fn geometry(&self) -> Geometry {
        self.with.geometry
    }

    /// Reads these chunks, at most a batch, and opens them where they are; returns the length of their ciphertext.
    pub(super) fn open(&self, chunks: Range<u64>, batch: &mut Batch) -> Result<usize, Error> {
        let (offset, length) = place(self.with.geometry, &chunks)?;
        let bytes = batch.bytes_mut(length);
        let start = self.with.ciphertext.saturating_add(offset);
        match &self.origin {
            Origin::File(file) => file.read_exact_at(bytes, start),
            Origin::Other(source) => read_exact_at(&mut **lock(source), bytes, start),
        }
        .map_err(of_reading)?;
        open_each(&self.with.opener, chunks.start, bytes)?;
        Ok(length)
    }
}

impl Kept {
    fn of(&self, chunk: u64) -> Option<&[u8]> {
        self.0.iter().find(|(number, _)| *number == chunk).map(|(_, plain)| plain.as_slice())
    }

    fn keep(&mut self, chunk: u64, plain: &[u8]) {
        if self.of(chunk).is_some() {
            return;
        }
        let room = if self.0.len() < MAX_KEPT { None } else { self.0.pop_front() };
        // The oldest one's place is used again: it is written over, and does not grow.
        let mut bytes = room.map_or_else(|| Zeroizing::new(Vec::with_capacity(CHUNK)), |(_, bytes)| bytes);
        zeroize::Zeroize::zeroize(&mut *bytes);
        bytes.extend_from_slice(plain);
        self.0.push_back((chunk, bytes));
    }
}

/// Copies as much as both have, and returns what is left of the buffer.
pub(super) fn put<'b>(buffer: &'b mut [u8], plain: &[u8]) -> &'b mut [u8] {
    let length = plain.len().min(buffer.len());
    let (filled, rest) = buffer.split_at_mut(length);
    filled.copy_from_slice(plain.get(..length).unwrap_or_default());
    rest
}

/// How far into its chunk a position is.
pub(super) fn within(offset: u64) -> usize {
    usize::try_from(offset % CHUNK as u64).unwrap_or(0)
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Chunks that are kept: half a mebibyte.
const MAX_KEPT: usize = 32;
/// Bytes that were read in a row before anything is decrypted ahead.
const RUN: u64 = 256 * 1024;
/// Bytes that must be left for threads to be worth their start.
const WORTH: u64 = 1024 * 1024;
/// Chunks in each half of a read that are worth a second thread.
const APART: usize = 16;
/// More would decrypt faster than anybody reads.
const MAX_THREADS: usize = 4;

#[cfg(test)]
mod tests;
