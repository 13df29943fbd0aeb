//! What is open: a file that is read.
//!
//! A handle serves any number of threads. It belongs to the process that opened it: a child that `fork` made finds it
//! closed (`EBADF`) and leaves the parent's alone, since neither the threads that decrypt ahead nor locks that another thread
//! held exist there.

use std::{
    mem, process,
    sync::{Mutex, MutexGuard, PoisonError},
};

use eds::journey::open::OpenFile;

use crate::failure::Failure;

/// Something open, and whose it is.
pub(crate) struct Handle {
    process: u32,
    /// Taken when it is closed.
    open: Option<Open>,
}

/// What is open.
pub(crate) enum Open {
    File(Reading),
}

/// A file that is read.
pub(crate) struct Reading {
    file: OpenFile,
    position: Mutex<u64>,
}

impl Handle {
    pub(crate) fn new(open: Open) -> Self {
        Self { process: process::id(), open: Some(open) }
    }

    fn open(&self) -> Result<&Open, Failure> {
        if self.process != process::id() {
            return Err(Failure::new(
                libc::EBADF,
                "opened by the process that this one was forked from: open it again",
            ));
        }
        self.open.as_ref().ok_or_else(|| Failure::new(libc::EBADF, "closed"))
    }

    pub(crate) fn reading(&self) -> Result<&Reading, Failure> {
        match self.open()? {
            Open::File(reading) => Ok(reading),
        }
    }

    /// Ends it: threads stop, and what was decrypted is wiped.
    pub(crate) fn close(mut self) -> Result<(), Failure> {
        let open = self.open.take();
        if self.process != process::id() {
            // Its threads are the parent's, and cannot be waited for here.
            mem::forget(open);
        }
        Ok(())
    }
}

impl Reading {
    pub(crate) fn new(file: OpenFile) -> Self {
        Self { file, position: Mutex::new(0) }
    }

    /// Reads on where the last read ended.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let mut position = lock(&self.position);
        let read = self.file.read_at(buffer, *position)?;
        *position = position.saturating_add(read as u64);
        Ok(read)
    }

    /// Reads at a position, and leaves that of [`Reading::read`].
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Failure> {
        Ok(self.file.read_at(buffer, offset)?)
    }

    /// Moves the position, also beyond the end, as POSIX has it.
    pub(crate) fn seek(&self, offset: i64, whence: i32) -> Result<i64, Failure> {
        let mut position = lock(&self.position);
        let from = match whence {
            libc::SEEK_SET => 0,
            libc::SEEK_CUR => *position,
            libc::SEEK_END => self.file.size(),
            _ => return Err(Failure::new(libc::EINVAL, "no such way of seeking")),
        };
        let wrong = || Failure::new(libc::EINVAL, "a position before the start, or beyond what a number holds");
        let to = i64::try_from(from).ok().and_then(|from| from.checked_add(offset)).ok_or_else(wrong)?;
        *position = u64::try_from(to).map_err(|_| wrong())?;
        Ok(to)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
