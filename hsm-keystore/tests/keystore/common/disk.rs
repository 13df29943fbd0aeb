//! A disk of the audit log that is full when a test says so.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use eds_keystore::audit::log::disk::{Disk, FileSystem, Segment};

/// The file system, until it is full.
#[derive(Clone, Default)]
pub(crate) struct FailingDisk(Arc<AtomicBool>);

impl FailingDisk {
    pub(crate) fn set_full(&self, full: bool) {
        self.0.store(full, Ordering::SeqCst);
    }
}

impl Disk for FailingDisk {
    fn create(&mut self, path: &Path, header: &[u8]) -> io::Result<Box<dyn Segment>> {
        Ok(Box::new(FailingSegment(FileSystem.create(path, header)?, self.clone())))
    }

    fn resume(&mut self, path: &Path, length: u64) -> io::Result<Box<dyn Segment>> {
        Ok(Box::new(FailingSegment(FileSystem.resume(path, length)?, self.clone())))
    }
}

struct FailingSegment(Box<dyn Segment>, FailingDisk);

impl Segment for FailingSegment {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.1.0.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { self.0.append(bytes) }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.0.cut(length)
    }
}
