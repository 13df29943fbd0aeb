//! Objects as files below one directory of this machine.
//!
//! Written without a name and linked at the end, so that a reader sees whole objects only; see [`crate::output`].

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use crate::{
    output::{self, Existing, OutputFile},
    storage::{Error, Fault, NewObject, Object, ObjectName, ObjectStore, Paths, site::LOCAL},
};

/// A directory with objects.
#[derive(Debug)]
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    /// The store in this directory, which is made when it is not there.
    ///
    /// # Errors
    /// [`Error::Place`].
    pub fn open(root: &Path) -> Result<Self, Error> {
        output::make_private_directory(root)?;
        Ok(Self { root: root.into() })
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.root.join(name.to_string())
    }

    /// Makes the two directories above an object, and puts their entries on disk: an object must not vanish because
    /// the directory above it did.
    fn make_directories(&self, path: &Path) -> io::Result<()> {
        let below: Vec<&Path> = path.ancestors().skip(1).take_while(|above| *above != self.root).collect();
        for directory in below.into_iter().rev() {
            match fs::create_dir(directory) {
                Ok(()) => {
                    let above = directory.parent().unwrap_or(&self.root);
                    output::sync_directory(&File::open(above)?)?;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Paths for LocalStore {
    fn open_path(&self, path: &str) -> Result<Box<dyn Object>, Error> {
        let file = self.root.join(path);
        let file = File::open(&file).map_err(|source| of_path(&file, source))?;
        Ok(Box::new(LocalObject(file)))
    }

    fn delete_path(&self, path: &str) -> Result<(), Error> {
        let file = self.root.join(path);
        fs::remove_file(&file)
            .and_then(|()| output::sync_directory(&File::open(file.parent().unwrap_or(&self.root))?))
            .map_err(|source| of_path(&file, source))
    }

    fn into_store(self: Box<Self>) -> Box<dyn ObjectStore> {
        self
    }
}

impl ObjectStore for LocalStore {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn NewObject>, Error> {
        let path = self.path(name);
        self.make_directories(&path).map_err(|source| Error::Io { name: *name, source })?;
        let output = OutputFile::create(&path, Existing::Keep).map_err(|error| of_output(*name, error))?;
        Ok(Box::new(NewFile { name: *name, output }))
    }

    fn open(&self, name: &ObjectName) -> Result<Box<dyn Object>, Error> {
        let file = File::open(self.path(name)).map_err(|source| of_io(*name, source))?;
        Ok(Box::new(LocalObject(file)))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        let path = self.path(name);
        fs::remove_file(&path).map_err(|source| of_io(*name, source))?;
        let above = path.parent().unwrap_or(&self.root);
        File::open(above).and_then(|above| output::sync_directory(&above)).map_err(|source| of_io(*name, source))
    }
}

struct NewFile {
    name: ObjectName,
    output: OutputFile,
}

impl NewObject for NewFile {
    fn file(&self) -> &File {
        self.output.file()
    }

    fn finish(self: Box<Self>) -> Result<(), Error> {
        self.output.finish().map_err(|error| of_output(self.name, error))
    }
}

struct LocalObject(File);

impl Read for LocalObject {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Seek for LocalObject {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.0.seek(position)
    }
}

impl Object for LocalObject {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn as_file(&self) -> Option<&File> {
        Some(&self.0)
    }
}

fn of_output(name: ObjectName, error: output::Error) -> Error {
    match error {
        output::Error::Exists { .. } => Error::Exists { name },
        output::Error::Io { source, .. } => Error::Io { name, source },
        other => Error::Place(other),
    }
}

fn of_path(path: &Path, source: io::Error) -> Error {
    let fault = match source.kind() {
        io::ErrorKind::NotFound => Fault::NotFound,
        _ => Fault::Io(source),
    };
    Error::Remote { site: LOCAL.into(), url: format!("file://{}", path.display()), source: fault }
}

fn of_io(name: ObjectName, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::NotFound => Error::NotFound { name },
        _ => Error::Io { name, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::conformance;

    #[test]
    fn conforms() {
        let directory = tempfile::tempdir().expect("a directory");
        conformance::run(&LocalStore::open(directory.path()).expect("opens"));
    }

    #[test]
    fn objects_outlive_the_store() {
        let directory = tempfile::tempdir().expect("a directory");
        let name = conformance::put(&LocalStore::open(directory.path()).expect("opens"), b"kept");
        let again = LocalStore::open(directory.path()).expect("opens again");
        assert_eq!(conformance::bytes(&again, &name), b"kept");
    }
}
