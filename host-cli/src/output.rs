//! Output files that appear whole under their name, or not at all.
//!
//! A file is written without a name (`O_TMPFILE`) and linked at the end, so a killed process leaves nothing. Where the
//! file system cannot do that, it is written as `.eds-tmp-<random>`, mode 0600, and renamed at the end; a killed process
//! then leaves such a file, and the next run that writes into the directory removes it. A running writer holds a lock on
//! its temporary file, so it is never removed under its hands. Contents and directory are on disk before success is
//! reported. An existing file is replaced only if the user said so.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex},
};

use rustix::{
    fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags},
    io::Errno,
};

use crate::error::Kind;

/// What to do when there is a file of that name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Existing {
    /// Refuse.
    #[default]
    Keep,
    /// Replace it in one step, once the new one is complete.
    Replace,
}

/// Where output goes: a file, or standard output when the user wrote `-`.
#[derive(Debug)]
pub enum Output {
    /// A file that appears when it is complete.
    File(OutputFile),
    /// Standard output; what was written there cannot be taken back.
    Stdout,
}

impl Output {
    /// Opens the output that the user named; `-` is standard output.
    ///
    /// # Errors
    /// As [`OutputFile::create`].
    pub fn open(path: &Path, existing: Existing) -> Result<Self, Error> {
        if path == Path::new("-") { Ok(Self::Stdout) } else { OutputFile::create(path, existing).map(Self::File) }
    }
}

/// A file being written. Dropped without [`OutputFile::finish`], it leaves nothing.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    name: OsString,
    directory: File,
    file: File,
    /// The temporary name, where the file has one; taken when it is no longer ours to remove.
    temporary: Option<String>,
    existing: Existing,
    public: bool,
}

/// An output file that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is a file already.
    #[error("{} exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The name cannot be that of a file.
    #[error("{} is not the name of a file", path.display())]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot write {}", path.display())]
    Io {
        /// The output file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Standard output was closed or is full.
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
}

impl Error {
    /// For `map_err` after a failed write into an output file.
    pub fn writing(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Exists { .. } => Kind::Conflict,
            Self::NotAFile { .. } => Kind::Usage,
            Self::Io { .. } | Self::Stdout(_) => Kind::LocalIo,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => Some("choose another name, or replace it with --force".into()),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some space on that disk; nothing was left behind".into())
            }
            _ => None,
        }
    }
}

impl OutputFile {
    /// Starts a file that only its owner may read, to appear as `path`.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NotAFile`] for a directory or a path without a last part, [`Error::Io`].
    pub fn create(path: &Path, existing: Existing) -> Result<Self, Error> {
        Self::create_with(path, existing, Method::Unnamed)
    }

    fn create_with(path: &Path, existing: Existing, method: Method) -> Result<Self, Error> {
        let failed = || Error::writing(path);
        let name = path.file_name().ok_or_else(|| Error::NotAFile { path: path.into() })?.to_os_string();
        match path.symlink_metadata() {
            Ok(about) if about.is_dir() => return Err(Error::NotAFile { path: path.into() }),
            Ok(_) if existing == Existing::Keep => return Err(Error::Exists { path: path.into() }),
            _ => {}
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = File::open(parent).map_err(failed())?;
        sweep_once(parent, &directory);
        let unnamed = match method {
            Method::Unnamed => open_unnamed(&directory).map_err(failed())?,
            Method::Named => None,
        };
        let (file, temporary) = match unnamed {
            Some(file) => (file, None),
            None => {
                let (file, temporary) = open_named(&directory).map_err(failed())?;
                (file, Some(temporary))
            }
        };
        Ok(Self { path: path.into(), name, directory, file, temporary, existing, public: false })
    }

    /// Lets everybody read the finished file: for what is public anyway, such as a signed cluster directory.
    #[must_use]
    pub fn readable_by_all(mut self) -> Self {
        self.public = true;
        self
    }

    /// The open file, empty at first; any way of writing it will do.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The name that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the contents on disk and gives the file its name.
    ///
    /// # Errors
    /// [`Error::Exists`] when a file of that name appeared meanwhile, [`Error::Io`]. Nothing is left, except when only
    /// the last step failed, putting the directory on disk: then the file is there, whole.
    pub fn finish(mut self) -> Result<(), Error> {
        let path = self.path.clone();
        self.publish().map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists { path },
            _ => Error::Io { path, source },
        })
    }

    fn publish(&mut self) -> io::Result<()> {
        if self.public {
            rustix::fs::fchmod(&self.file, PUBLIC)?;
        }
        self.file.sync_all()?;
        if self.temporary.is_none() {
            match self.existing {
                Existing::Keep => self.link(&self.name)?,
                // There is no way to link over a file, so it gets a temporary name for the moment of the rename.
                Existing::Replace => {
                    let temporary = temporary_name()?;
                    self.link(OsStr::new(&temporary))?;
                    self.temporary = Some(temporary);
                }
            }
        }
        if let Some(temporary) = &self.temporary {
            self.rename(temporary)?;
            self.temporary = None;
        }
        sync_directory(&self.directory)
    }

    fn link(&self, name: &OsStr) -> io::Result<()> {
        let itself = descriptor_path(&self.file);
        Ok(rustix::fs::linkat(rustix::fs::CWD, &itself, &self.directory, name, AtFlags::SYMLINK_FOLLOW)?)
    }

    fn rename(&self, temporary: &str) -> io::Result<()> {
        let directory = &self.directory;
        if self.existing == Existing::Replace {
            return Ok(rustix::fs::renameat(directory, temporary, directory, &self.name)?);
        }
        match rustix::fs::renameat_with(directory, temporary, directory, &self.name, RenameFlags::NOREPLACE) {
            // NFS knows no such rename, but a link that does not replace.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                rustix::fs::linkat(directory, temporary, directory, &self.name, AtFlags::empty())?;
                Ok(rustix::fs::unlinkat(directory, temporary, AtFlags::empty())?)
            }
            other => Ok(other?),
        }
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            // Nothing more can be done here if it fails; the next run sweeps the file.
            let _ = rustix::fs::unlinkat(&self.directory, temporary.as_str(), AtFlags::empty());
        }
    }
}

/// Writes data to standard output and flushes it.
///
/// # Errors
/// [`Error::Stdout`].
pub fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::Stdout)
}

/// Opens a file of the owner's that is there to be locked, and makes it when it is not there.
///
/// # Errors
/// Those of opening it.
pub fn lock_file(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Makes a directory and those above it, for the owner alone, unless they are there.
///
/// # Errors
/// [`Error::Io`].
pub fn make_private_directory(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::writing(path))
}

/// Puts the entries of a directory on disk.
pub(crate) fn sync_directory(directory: &File) -> io::Result<()> {
    match rustix::fs::fsync(directory) {
        // Some file systems cannot, and say so: there is nothing to put on disk then.
        Err(Errno::INVAL) => Ok(()),
        other => Ok(other?),
    }
}

/// How a file exists before it has its name; tests choose, everybody else asks for `Unnamed`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Method {
    Unnamed,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests choose it where the file system would not"))]
    Named,
}

/// A file without a name, or nothing where the file system cannot do that or `/proc` is not there to link it later.
fn open_unnamed(directory: &File) -> io::Result<Option<File>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(directory, ".", flags, PRIVATE) {
        Ok(file) => File::from(file),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // It gets a temporary name for a moment when it replaces a file, and must not be swept in that moment.
    lock(&file)?;
    Ok(Path::new(&descriptor_path(&file)).exists().then_some(file))
}

fn open_named(directory: &File) -> io::Result<(File, String)> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    loop {
        let name = temporary_name()?;
        let file = File::from(rustix::fs::openat(directory, name.as_str(), flags, PRIVATE)?);
        lock(&file)?;
        // A sweeper may have come between the two calls; it then holds the name for dead and has removed it.
        if rustix::fs::fstat(&file)?.st_nlink > 0 {
            return Ok((file, name));
        }
    }
}

fn lock(file: &File) -> io::Result<()> {
    match rustix::fs::flock(file, FlockOperation::LockExclusive) {
        // Without locks nobody can tell a dead writer from a running one, and nothing is swept.
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        other => Ok(other?),
    }
}

/// Removes what killed processes left in this directory; once for each directory and process.
fn sweep_once(path: &Path, directory: &File) {
    let Ok(path) = path.canonicalize() else { return };
    let first = SWEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(path);
    if first {
        // A failed sweep must not keep the user from writing.
        let _ = sweep(directory);
    }
}

fn sweep(directory: &File) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let Ok(file) = rustix::fs::openat(directory, name, flags, Mode::empty()) else { continue };
        let about = rustix::fs::fstat(&file)?;
        let ours = about.st_uid == rustix::process::geteuid().as_raw();
        if ours
            && FileType::from_raw_mode(about.st_mode) == FileType::RegularFile
            && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

fn descriptor_path(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn temporary_name() -> io::Result<String> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(random.iter().fold(String::from(PREFIX), |name, byte| name + &format!("{byte:02x}")))
}

const PREFIX: &str = ".eds-tmp-";
const PRIVATE: Mode = Mode::from_raw_mode(0o600);
const PUBLIC: Mode = Mode::from_raw_mode(0o644);

static SWEPT: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);

#[cfg(test)]
mod tests;
