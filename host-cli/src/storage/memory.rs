//! Objects in memory, for tests and for programs that keep nothing.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::storage::{Error, NewObject, Object, ObjectName, ObjectStore};

/// A store that is gone when it is dropped. Its clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    objects: Arc<Mutex<BTreeMap<ObjectName, Arc<[u8]>>>>,
}

impl MemoryStore {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Arc<[u8]>>> {
        // The map is changed by single calls only: a panic elsewhere leaves it whole.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObjectStore for MemoryStore {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn NewObject>, Error> {
        if self.objects().contains_key(name) {
            return Err(Error::Exists { name: *name });
        }
        let file = tempfile::tempfile().map_err(|source| Error::Io { name: *name, source })?;
        Ok(Box::new(Spool { store: self.clone(), name: *name, file }))
    }

    fn open(&self, name: &ObjectName) -> Result<Box<dyn Object>, Error> {
        let bytes = self.objects().get(name).cloned().ok_or(Error::NotFound { name: *name })?;
        Ok(Box::new(MemoryObject(Cursor::new(bytes))))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        self.objects().remove(name).map(drop).ok_or(Error::NotFound { name: *name })
    }
}

struct Spool {
    store: MemoryStore,
    name: ObjectName,
    file: File,
}

impl NewObject for Spool {
    fn file(&self) -> &File {
        &self.file
    }

    fn finish(mut self: Box<Self>) -> Result<(), Error> {
        let name = self.name;
        let mut bytes = Vec::new();
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.read_to_end(&mut bytes))
            .map_err(|source| Error::Io { name, source })?;
        let mut objects = self.store.objects();
        if objects.contains_key(&name) {
            return Err(Error::Exists { name });
        }
        objects.insert(name, bytes.into());
        Ok(())
    }
}

struct MemoryObject(Cursor<Arc<[u8]>>);

impl Read for MemoryObject {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Seek for MemoryObject {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.0.seek(position)
    }
}

impl Object for MemoryObject {
    fn size(&self) -> io::Result<u64> {
        u64::try_from(self.0.get_ref().len()).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::conformance;

    #[test]
    fn conforms() {
        conformance::run(&MemoryStore::default());
    }
}
