//! Where segments are written: the file system, or a test's disk that fails on command.
//!
//! The seam is as narrow as the log's promise: bytes are appended, made durable, or cut back.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Makes and opens segments.
pub trait Disk: Send {
    /// Makes a segment that begins with `header`. When it returns, the segment is durable under its name; when it fails,
    /// there is none under that name.
    ///
    /// # Errors
    /// When it cannot be made.
    fn create(&mut self, path: &Path, header: &[u8]) -> io::Result<Box<dyn Segment>>;

    /// Opens a segment of this length, to be continued.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn resume(&mut self, path: &Path, length: u64) -> io::Result<Box<dyn Segment>>;
}

/// A segment that is being written.
pub trait Segment: Send {
    /// Adds bytes at the end. After an error, some of them may be there.
    ///
    /// # Errors
    /// When not all of them could be added.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything durable.
    ///
    /// # Errors
    /// When that is not certain.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the segment to this length and makes that durable.
    ///
    /// # Errors
    /// When that is not certain.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

/// The file system.
#[derive(Debug)]
pub struct FileSystem;

impl Disk for FileSystem {
    fn create(&mut self, path: &Path, header: &[u8]) -> io::Result<Box<dyn Segment>> {
        let unfinished = path.with_extension("new");
        write_durably(&unfinished, header)?;
        fs::rename(&unfinished, path)?;
        sync_directory_of(path)?;
        self.resume(path, header.len() as u64)
    }

    fn resume(&mut self, path: &Path, _length: u64) -> io::Result<Box<dyn Segment>> {
        Ok(Box::new(File(fs::OpenOptions::new().append(true).open(path)?)))
    }
}

struct File(fs::File);

impl Segment for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)?;
        self.0.sync_all()
    }
}

/// Writes a whole new file, or replaces one, and makes its contents durable.
///
/// # Errors
/// When that is not certain.
pub fn write_durably(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

/// Makes the names in the directory of this file durable.
///
/// # Errors
/// When that is not certain.
pub fn sync_directory_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        // A name without a directory is one in the working directory.
        Some(directory) if directory.as_os_str().is_empty() => fs::File::open(".")?.sync_all(),
        Some(directory) => fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
