//! A disk of the audit log that is full, or does not answer, when a test says so.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use eds_keystore::audit::log::disk::{Disk, FileSystem, Segment};

/// The file system, until it is full or held.
#[derive(Clone, Default)]
pub(crate) struct FailingDisk(Arc<State>);

#[derive(Default)]
struct State {
    full: AtomicBool,
    held: Mutex<bool>,
    let_go: Condvar,
    waiting: AtomicUsize,
}

impl FailingDisk {
    pub(crate) fn set_full(&self, full: bool) {
        self.0.full.store(full, Ordering::SeqCst);
    }

    /// Has every write wait until what this returns is dropped.
    pub(crate) fn hold(&self) -> Held {
        *self.0.held.lock().expect("unpoisoned") = true;
        Held(self.clone())
    }

    /// Waits until a write waits.
    pub(crate) async fn holds_a_write(&self) {
        while self.0.waiting.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    }

    fn wait(&self) {
        self.0.waiting.fetch_add(1, Ordering::SeqCst);
        let held = self.0.held.lock().expect("unpoisoned");
        drop(self.0.let_go.wait_while(held, |held| *held).expect("unpoisoned"));
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
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

/// A disk that does not answer.
pub(crate) struct Held(FailingDisk);

impl Drop for Held {
    fn drop(&mut self) {
        let State { held, let_go, .. } = self.0.0.as_ref();
        *held.lock().expect("unpoisoned") = false;
        let_go.notify_all();
    }
}

struct FailingSegment(Box<dyn Segment>, FailingDisk);

impl Segment for FailingSegment {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.1.wait();
        if self.1.0.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { self.0.append(bytes) }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.0.cut(length)
    }
}
