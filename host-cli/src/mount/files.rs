//! The file system below the kernel's protocol: numbers for paths, open files, reads.
//!
//! A path gets its number when it is looked up, and loses it when the kernel has forgotten it. An open file holds its key; reads need
//! no key server. After [`Files::close_all`] nothing can be opened or read.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    Error,
    error::Kind,
    journey::{
        Session,
        open::{About, OpenFile},
        sessions::Sessions,
        tree::{self, Name, Node},
    },
};

/// The number of the root, by the kernel's protocol.
pub(super) const ROOT: u64 = 1;

/// The tree, and what is open.
pub(super) struct Files<R = Sessions> {
    rooms: R,
    numbers: Mutex<Numbers>,
    /// None after the end.
    open: Mutex<Option<HashMap<u64, Arc<OpenFile>>>>,
    next: AtomicU64,
}

/// Where the tree comes from: sessions, or a test's own.
pub(super) trait Rooms: Send + Sync + 'static {
    fn look(&self, path: &[&str]) -> Result<Option<Node>, Error>;
    fn list(&self, path: &[&str]) -> Result<Option<Vec<Name>>, Error>;
    fn open(&self, about: &About) -> Result<OpenFile, Error>;
}

impl Rooms for Sessions {
    fn look(&self, path: &[&str]) -> Result<Option<Node>, Error> {
        self.with(|session| tree::look(session, path))
    }

    fn list(&self, path: &[&str]) -> Result<Option<Vec<Name>>, Error> {
        self.with(|session| tree::list(session, path))
    }

    fn open(&self, about: &About) -> Result<OpenFile, Error> {
        let (file, culprits) = self.with(|session: &Session| OpenFile::open(session, about.file))?;
        for culprit in culprits {
            eprintln!("eds: warning: {culprit}");
        }
        Ok(file)
    }
}

/// Why not, as the kernel passes it on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    NotFound,
    NotAFolder,
    IsAFolder,
    Denied,
    TryAgain,
    Damaged,
    Closed,
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        match error.kind() {
            Kind::NotFound => Self::NotFound,
            Kind::Denied => Self::Denied,
            Kind::Unavailable => Self::TryAgain,
            _ => Self::Damaged,
        }
    }
}

impl<R: Rooms> Files<R> {
    pub(super) fn new(rooms: R) -> Self {
        Self {
            rooms,
            numbers: Mutex::new(Numbers::new()),
            open: Mutex::new(Some(HashMap::new())),
            next: AtomicU64::new(1),
        }
    }

    /// What has this name in that folder, and its number, which counts as looked up once more.
    pub(super) fn look_up(&self, folder: u64, name: &str) -> Result<(u64, Node), Refusal> {
        let path = self.path(folder)? + "/" + name;
        let node = self.node(&path)?;
        Ok((lock(&self.numbers).look_up(path), node))
    }

    /// The kernel has forgotten so many look-ups.
    pub(super) fn forget(&self, number: u64, times: u64) {
        lock(&self.numbers).forget(number, times);
    }

    pub(super) fn about(&self, number: u64) -> Result<Node, Refusal> {
        self.node(&self.path(number)?)
    }

    pub(super) fn list(&self, folder: u64) -> Result<Vec<Name>, Refusal> {
        let path = self.path(folder)?;
        let listed = self.rooms.list(&parts(&path)).map_err(|error| tell(&error))?;
        listed.ok_or(Refusal::NotAFolder)
    }

    /// Opens a file: the key servers are asked now.
    pub(super) fn open(&self, number: u64) -> Result<u64, Refusal> {
        let Node::File(about) = self.about(number)? else { return Err(Refusal::IsAFolder) };
        let file = self.rooms.open(&about).map_err(|error| tell(&error))?;
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.open).as_mut().ok_or(Refusal::Closed)?.insert(handle, Arc::new(file));
        Ok(handle)
    }

    /// Fills `buffer` from `offset` on; less only at the end.
    pub(super) fn read(&self, handle: u64, offset: u64, buffer: &mut [u8]) -> Result<usize, Refusal> {
        let file = lock(&self.open).as_ref().and_then(|open| open.get(&handle).cloned()).ok_or(Refusal::Closed)?;
        file.read_at(buffer, offset).map_err(|error| tell(&error))
    }

    pub(super) fn close(&self, handle: u64) {
        let closed = lock(&self.open).as_mut().and_then(|open| open.remove(&handle));
        drop(closed);
    }

    /// Closes every file, and lets none be opened from now on.
    pub(super) fn close_all(&self) {
        let closed = lock(&self.open).take();
        drop(closed);
    }

    fn node(&self, path: &str) -> Result<Node, Refusal> {
        self.rooms.look(&parts(path)).map_err(|error| tell(&error))?.ok_or(Refusal::NotFound)
    }

    fn path(&self, number: u64) -> Result<String, Refusal> {
        lock(&self.numbers).paths.get(&number).map(|known| known.path.clone()).ok_or(Refusal::NotFound)
    }
}

/// Says on standard error what the kernel's number cannot.
fn tell(error: &Error) -> Refusal {
    eprintln!("{}", error.report().replacen("eds: error: ", "eds: warning: ", 1));
    Refusal::from(error)
}

fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).collect()
}

/// Numbers of paths, for as long as the kernel knows them.
struct Numbers {
    paths: HashMap<u64, Known>,
    numbers: HashMap<String, u64>,
    next: u64,
}

struct Known {
    path: String,
    times: u64,
}

impl Numbers {
    fn new() -> Self {
        let root = Known { path: String::new(), times: u64::MAX };
        Self { paths: HashMap::from([(ROOT, root)]), numbers: HashMap::from([(String::new(), ROOT)]), next: ROOT + 1 }
    }

    fn look_up(&mut self, path: String) -> u64 {
        let number = *self.numbers.entry(path.clone()).or_insert(self.next);
        let known = self.paths.entry(number).or_insert(Known { path, times: 0 });
        known.times = known.times.saturating_add(1);
        if number == self.next {
            self.next += 1;
        }
        number
    }

    fn forget(&mut self, number: u64, times: u64) {
        let Some(known) = self.paths.get_mut(&number).filter(|_| number != ROOT) else { return };
        known.times = known.times.saturating_sub(times);
        if known.times == 0
            && let Some(known) = self.paths.remove(&number)
        {
            self.numbers.remove(&known.path);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
