//! An object store over any protocol: what all of them have in common.
//!
//! An object is written into a file without a name first, since its bytes must be there to be sent again. It is sent under a
//! temporary name beside its own, compared with what was sent by the storage's checksum or by reading it back, and renamed
//! where nothing of its name is: so it appears whole or not at all. What is safe to repeat is repeated.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path, sync::Arc};

use adler2::Adler32;

use super::{
    Error, Fault, NewObject, Object, ObjectName, ObjectStore, Paths, Site,
    attempts::patiently,
    reader::{Fetch, Ranged},
};

/// A protocol by which objects are read and written by their path below the URL of a site. Calls block and are made once: who
/// calls decides about trying again.
pub(super) trait Door: Send + Sync + 'static {
    /// The length of an object.
    fn size(&self, path: &str) -> Result<u64, Fault>;

    /// Adds up to `length` bytes from `offset` on to `into`. What arrived before a failure is in there too.
    fn read(&self, path: &str, offset: u64, length: usize, into: &mut Vec<u8>) -> Result<(), Fault>;

    /// Makes an object that is not there, whole or not at all. Tries again by itself.
    fn put(&self, path: &str, content: &Content) -> Result<(), Fault>;

    /// Deletes an object.
    fn delete(&self, path: &str) -> Result<(), Fault>;
}

/// A protocol that can write under one name and rename to another; [`put_renaming`] makes a [`Door::put`] of it.
pub(super) trait Renaming: Door {
    /// Writes under a name that is ours alone. `before` is how often that was tried before.
    fn write(&self, path: &str, content: &Content, before: u32) -> Result<(), Fault>;

    /// Makes the directory in which this path is, and those above it up to the site's, unless they are there.
    fn make_directory(&self, path: &str) -> Result<(), Fault>;

    /// The checksum that the storage has of what it holds, where it tells.
    fn adler32(&self, path: &str) -> Result<Option<u32>, Fault>;

    /// Gives it another name, unless something has that.
    fn rename(&self, from: &str, to: &str) -> Result<(), Fault>;
}

/// What is to be sent: a file of this machine that nobody changes any more.
#[derive(Clone)]
pub(super) struct Content {
    pub(super) file: Arc<File>,
    pub(super) size: u64,
}

impl Content {
    /// A piece of it, shorter at the end.
    pub(super) fn piece(&self, offset: u64, length: usize) -> Result<Vec<u8>, Fault> {
        let length = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(length);
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset).map_err(Fault::Io)?;
        Ok(bytes)
    }

    fn pieces(&self) -> impl Iterator<Item = Result<(u64, Vec<u8>), Fault>> {
        let offsets = (0..self.size).step_by(PIECE);
        offsets.map(|offset| Ok((offset, self.piece(offset, PIECE)?)))
    }

    fn adler32(&self) -> Result<u32, Fault> {
        let mut sum = Adler32::new();
        for piece in self.pieces() {
            sum.write_slice(&piece?.1);
        }
        Ok(sum.checksum())
    }
}

/// Writes beside the name, compares, and renames.
pub(super) fn put_renaming(door: &impl Renaming, path: &str, content: &Content) -> Result<(), Fault> {
    let temporary = temporary_beside(path)?;
    let placed = write_and_place(door, path, &temporary, content);
    if placed.is_err() {
        // It may not be there, and who runs the storage can tell it by its name.
        let _ = door.delete(&temporary);
    }
    placed
}

fn write_and_place(door: &impl Renaming, path: &str, temporary: &str, content: &Content) -> Result<(), Fault> {
    patiently(|before| match door.write(temporary, content, before) {
        Err(Fault::NotFound) => {
            door.make_directory(temporary)?;
            match door.write(temporary, content, before) {
                Err(Fault::NotFound) => {
                    Err(Fault::Refused("the folder of its url is not there, and cannot be made".into()))
                }
                other => other,
            }
        }
        other => other,
    })?;
    compare(door, temporary, content)?;
    patiently(|before| match door.rename(temporary, path) {
        // The answer to an earlier try was lost: it had been done.
        Err(Fault::NotFound | Fault::Exists) if before > 0 && is_moved(door, temporary, path, content.size) => Ok(()),
        other => other,
    })
}

fn is_moved(door: &impl Door, from: &str, to: &str, size: u64) -> bool {
    matches!(door.size(from), Err(Fault::NotFound)) && matches!(door.size(to), Ok(there) if there == size)
}

/// Whether what is there is what was sent.
fn compare(door: &impl Renaming, path: &str, content: &Content) -> Result<(), Fault> {
    let size = patiently(|_| door.size(path))?;
    if size != content.size {
        return Err(Fault::Mismatch(format!("{size} bytes of {}", content.size)));
    }
    match patiently(|_| door.adler32(path))? {
        Some(there) if there == content.adler32()? => Ok(()),
        Some(_) => Err(Fault::Mismatch("its adler32 is another".into())),
        None => {
            for piece in content.pieces() {
                let (offset, sent) = piece?;
                if fetch(door, path, offset, sent.len())? != sent {
                    return Err(Fault::Mismatch(format!("bytes {offset} to {}", offset + sent.len() as u64)));
                }
            }
            Ok(())
        }
    }
}

/// Reads exactly so many bytes; goes on where a connection broke.
fn fetch(door: &(impl Door + ?Sized), path: &str, offset: u64, length: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::with_capacity(length);
    loop {
        let before = bytes.len();
        patiently(|_| {
            let done = bytes.len();
            if done >= length {
                return Ok(());
            }
            door.read(path, offset + done as u64, length - done, &mut bytes)
        })?;
        if bytes.len() >= length {
            bytes.truncate(length);
            return Ok(bytes);
        }
        if bytes.len() == before {
            return Err(Fault::Answer(format!("the object ends at byte {}", offset + before as u64)));
        }
    }
}

/// A name beside this one that nobody else has; whoever cleans up can tell it.
fn temporary_beside(path: &str) -> Result<String, Fault> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(|error| Fault::Io(io::Error::other(error)))?;
    let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    Ok(random.iter().fold(format!("{folder}{TEMPORARY}"), |name, byte| name + &format!("{byte:02x}")))
}

/// The store of a site, behind such a door.
pub(super) struct RemoteStore<D> {
    door: Arc<D>,
    site: Arc<Site>,
}

impl<D: Door> RemoteStore<D> {
    pub(super) fn new(site: &Site, door: D) -> Self {
        Self { door: Arc::new(door), site: Arc::new(site.clone()) }
    }

    /// Of an object that has a name of ours: not to be there, and to be there, are errors of their own.
    fn named(name: &ObjectName, error: Error) -> Error {
        match error {
            Error::Remote { source: Fault::NotFound, .. } => Error::NotFound { name: *name },
            Error::Remote { source: Fault::Exists, .. } => Error::Exists { name: *name },
            other => other,
        }
    }
}

impl<D: Door> Paths for RemoteStore<D> {
    fn open_path(&self, path: &str) -> Result<Box<dyn Object>, Error> {
        let (door, site, owned) = (Arc::clone(&self.door), Arc::clone(&self.site), path.to_owned());
        let size = patiently(|_| door.size(path)).map_err(|fault| of_fault(&site, path, fault))?;
        let fetch: Fetch = Arc::new(move |offset, length| {
            fetch(&*door, &owned, offset, length).map_err(|fault| of_fault(&site, &owned, fault))
        });
        Ok(Box::new(Ranged::new(size, fetch)))
    }

    fn delete_path(&self, path: &str) -> Result<(), Error> {
        let deleted = patiently(|before| match self.door.delete(path) {
            // The answer to an earlier try was lost: it had been done.
            Err(Fault::NotFound) if before > 0 => Ok(()),
            other => other,
        });
        deleted.map_err(|fault| of_fault(&self.site, path, fault))
    }

    fn into_store(self: Box<Self>) -> Box<dyn ObjectStore> {
        self
    }
}

fn of_fault(site: &Site, path: &str, source: Fault) -> Error {
    Error::Remote { site: site.name().into(), url: format!("{}/{path}", site.url()), source }
}

impl<D: Door> ObjectStore for RemoteStore<D> {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn NewObject>, Error> {
        let path = name.to_string();
        match patiently(|_| self.door.size(&path)) {
            Ok(_) => return Err(Error::Exists { name: *name }),
            Err(Fault::NotFound) => {}
            Err(fault) => return Err(of_fault(&self.site, &path, fault)),
        }
        let file = spool().map_err(|source| Error::Io { name: *name, source })?;
        Ok(Box::new(Spooled {
            door: Arc::clone(&self.door),
            site: Arc::clone(&self.site),
            name: *name,
            file: Arc::new(file),
        }))
    }

    fn open(&self, name: &ObjectName) -> Result<Box<dyn Object>, Error> {
        self.open_path(&name.to_string()).map_err(|error| Self::named(name, error))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        self.delete_path(&name.to_string()).map_err(|error| Self::named(name, error))
    }

    fn check(&self) -> Result<(), Error> {
        // A name that no object has: whether it is there does not matter, but that the storage says so.
        match patiently(|_| self.door.size(CHECK)) {
            Ok(_) | Err(Fault::NotFound) => Ok(()),
            Err(fault) => {
                Err(Error::Remote { site: self.site.name().into(), url: self.site.url().to_string(), source: fault })
            }
        }
    }
}

/// An object that is on this machine still.
struct Spooled<D> {
    door: Arc<D>,
    site: Arc<Site>,
    name: ObjectName,
    file: Arc<File>,
}

impl<D: Door> NewObject for Spooled<D> {
    fn file(&self) -> &File {
        &self.file
    }

    fn finish(self: Box<Self>) -> Result<(), Error> {
        let name = self.name;
        let size = self.file.metadata().map_err(|source| Error::Io { name, source })?.len();
        let content = Content { file: self.file, size };
        let path = name.to_string();
        self.door
            .put(&path, &content)
            .map_err(|fault| RemoteStore::<D>::named(&name, of_fault(&self.site, &path, fault)))
    }
}

/// A file without a name, for ciphertext that is on its way. `/tmp` is in memory on many machines, and images are large.
fn spool() -> io::Result<File> {
    let place = match std::env::var_os("TMPDIR").filter(|place| !place.is_empty()) {
        Some(place) => place.into(),
        None if Path::new(LARGE).is_dir() => LARGE.into(),
        None => std::env::temp_dir(),
    };
    tempfile::tempfile_in(place)
}

/// How a temporary name begins.
pub(super) const TEMPORARY: &str = ".eds-part-";
/// What is asked for to see whether a storage answers.
const CHECK: &str = ".eds-check";
/// Where temporary files go that need not fit into memory.
const LARGE: &str = "/var/tmp";
/// How much is compared at a time.
const PIECE: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests;
