//! The data path: containers written and read at the speed of the disk, in constant memory.
//!
//! [`seal`] encrypts a reader into a container. [`Container::read`] reads how a container starts, so that its key can be
//! fetched; [`Container::unlock`] then checks key, header and, where the source can be read at positions, length and last chunk,
//! before [`Unlocked::copy_to`] releases anything. From a pipe, chunks are released as they verify, and a missing end is
//! an error. Batches of chunks are read, worked on and written in one buffer that stays in the processor's cache; into a file,
//! several threads may do so, each with a buffer of its own.
//!
//! [`PlainReader`] gives the plaintext at any position to callers that come back for more.
//!
//! A failed call may leave any part of its output written: [`crate::output`] makes files appear only when they are whole.

mod ahead;
mod batch;
mod error;
mod open;
mod plain;
mod seal;

use std::{
    fs::File,
    io::{Read, Seek, Write},
    num::NonZero,
};

pub use eds_core::container::{Fingerprint, Header, Written};

pub use error::Error;
pub use open::{Container, Released, Unlocked};
pub use plain::{Origin, PlainReader};
pub use seal::seal;

/// Where output goes.
pub enum Target<'a> {
    /// A regular file of length 0, written at positions from several threads.
    File(&'a File),
    /// A pipe, a vector or standard output, written from front to back.
    Stream(&'a mut dyn Write),
}

/// Where a container comes from.
pub enum Source<'a> {
    /// A regular file, read at positions from several threads.
    File(&'a File),
    /// Something else that can be read at positions, for example an object in remote storage or a slice.
    Seekable(&'a mut dyn ReadSeek),
    /// A pipe, read from front to back.
    Stream(&'a mut dyn Read),
}

impl<'a> Source<'a> {
    /// This file: read at positions if it is a regular file, else as a pipe.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn of_file(file: &'a mut File) -> std::io::Result<Self> {
        Ok(if file.metadata()?.is_file() { Self::File(file) } else { Self::Stream(file) })
    }
}

/// What can be read at positions.
pub trait ReadSeek: Read + Seek {}
impl<T: Read + Seek + ?Sized> ReadSeek for T {}

/// How to work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Threads for output into a file; one by default, which is faster than disks are. A second one ends sooner where files
    /// lie in memory, but the two wait for each other at the file, which costs a sixth more processor time.
    pub threads: Option<NonZero<usize>>,
}

impl Options {
    /// How many threads to use for so many batches.
    fn threads_for(&self, batches: u64) -> usize {
        let most = usize::try_from(batches).unwrap_or(usize::MAX);
        self.threads.map_or(1, NonZero::get).min(most)
    }
}

#[cfg(test)]
pub(crate) mod tests;
