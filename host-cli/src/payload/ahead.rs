//! Decrypts ahead of a reader that goes from front to back, in several threads.
//!
//! Thread w of n opens batches w, w + n, w + 2n … and puts each into a channel of its own; the reader takes them in turn,
//! so that they come in order. The channels hold a few batches, and used batches go back to be filled again: memory is
//! bounded by threads and not by the file. Dropping ends the threads and waits for them; batches wipe themselves.

use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender, SyncSender},
    },
    thread::{self, JoinHandle},
};

use eds_core::cipher::geometry::CHUNK;

use super::{
    Error,
    batch::{Batch, SLOTS},
    plain::{Chunks, put},
};

/// Threads that decrypt ahead.
pub(super) struct Ahead {
    lanes: Vec<Lane>,
    /// The lane whose turn it is.
    turn: usize,
    current: Option<Opened>,
}

/// One thread.
struct Lane {
    /// Taken when it is to end.
    ready: Option<Receiver<Result<Opened, Error>>>,
    used: Sender<Batch>,
    thread: Option<JoinHandle<()>>,
}

/// A batch of chunks, decrypted.
struct Opened {
    batch: Batch,
    /// Bytes of ciphertext that it was.
    sealed: usize,
    /// The offset of its plaintext.
    start: u64,
    /// Bytes of plaintext.
    length: u64,
}

impl Ahead {
    /// Starts to decrypt from chunk `first` on. Where no thread can be had, there is one less; without any, the reader
    /// is told by the first read.
    pub(super) fn start(chunks: &Arc<Chunks>, first: u64, threads: usize) -> Self {
        let threads = threads.max(1) as u64;
        let lanes = (0..threads).map(|number| Lane::start(chunks, first + number * SLOTS as u64, threads));
        Self { lanes: lanes.collect(), turn: 0, current: None }
    }

    /// Fills the buffer from `offset` on, which is where the last read ended or within the first chunk.
    pub(super) fn read(&mut self, mut buffer: &mut [u8], mut offset: u64) -> Result<(), Error> {
        while !buffer.is_empty() {
            if self.current.as_ref().is_none_or(|current| offset >= current.start + current.length) {
                self.next()?;
            }
            let Some(current) = &self.current else { return Err(Error::Truncated) };
            let skip = offset.checked_sub(current.start).and_then(|skip| usize::try_from(skip).ok());
            let mut skip = skip.ok_or(Error::Truncated)?;
            let before = buffer.len();
            for plain in current.batch.plain(current.sealed) {
                let part = plain.get(skip..).unwrap_or_default();
                skip = skip.saturating_sub(plain.len());
                buffer = put(buffer, part);
            }
            offset += (before - buffer.len()) as u64;
        }
        Ok(())
    }

    fn next(&mut self) -> Result<(), Error> {
        let count = self.lanes.len();
        if let Some(used) = self.current.take()
            && let Some(lane) = self.lanes.get((self.turn + count - 1) % count.max(1))
        {
            // A thread that has ended needs none.
            let _ = lane.used.send(used.batch);
        }
        let lane = self.lanes.get(self.turn).ok_or(Error::Truncated)?;
        let ready = lane.ready.as_ref().ok_or(Error::Truncated)?;
        // A thread ends before its time only when it could not be started.
        self.current = Some(ready.recv().unwrap_or_else(|_| Err(Error::Read(std::io::ErrorKind::OutOfMemory.into())))?);
        self.turn = (self.turn + 1) % count;
        Ok(())
    }
}

impl Lane {
    fn start(chunks: &Arc<Chunks>, first: u64, threads: u64) -> Self {
        let (sender, ready) = mpsc::sync_channel(DEPTH);
        let (used, free) = mpsc::channel();
        let chunks = Arc::clone(chunks);
        let work = move || open_all(&chunks, first, threads * SLOTS as u64, &sender, &free);
        let thread = thread::Builder::new().name("eds-ahead".into()).spawn(work).ok();
        Self { ready: Some(ready), used, thread }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        for lane in &mut self.lanes {
            drop(lane.ready.take());
        }
        for lane in &mut self.lanes {
            if let Some(thread) = lane.thread.take() {
                // One that panicked has told the reader by the end of its channel.
                let _ = thread.join();
            }
        }
    }
}

fn open_all(
    chunks: &Chunks,
    first: u64,
    step: u64,
    sender: &SyncSender<Result<Opened, Error>>,
    free: &Receiver<Batch>,
) {
    let geometry = chunks.geometry();
    let mut next = first;
    while next < geometry.chunks() {
        let mut batch = free.try_recv().unwrap_or_else(|_| Batch::with_slots(SLOTS));
        let some = next..geometry.chunks().min(next.saturating_add(SLOTS as u64));
        let start = next.saturating_mul(CHUNK as u64);
        let length = geometry.plain_len().min(some.end.saturating_mul(CHUNK as u64)).saturating_sub(start);
        let opened = chunks.open(some, &mut batch).map(|sealed| Opened { batch, sealed, start, length });
        let failed = opened.is_err();
        if sender.send(opened).is_err() || failed {
            return;
        }
        next = next.saturating_add(step);
    }
}

/// Batches that wait in front of the reader, for each thread.
const DEPTH: usize = 3;
