//! Which key servers to believe: the pinned cluster key and the newest directory that it signed.
//!
//! The fingerprint of the cluster key is what a user is told by an officer; it is pinned in the state directory by
//! `eds cluster import` and never replaced by anything that comes over a network. A directory is taken only when the
//! pinned key signed it, when its version is not lower than the one held, and when it gives no number to another node.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use eds_core::directory::{self, Directory};

use crate::{
    error::Kind,
    output::{self, Existing, OutputFile},
};

pub mod draft;

/// The pinned cluster key and the directory that it signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trust {
    /// SHA-256 of the compressed cluster key.
    pub fingerprint: Fingerprint,
    /// The key servers.
    pub directory: Directory,
}

/// SHA-256 of the compressed cluster key, shown as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint(pub [u8; 32]);

/// A cluster directory that cannot be used, or an officer's draft of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing is pinned.
    #[error("no cluster is pinned in {}", state.display())]
    NotPinned {
        /// The state directory.
        state: PathBuf,
    },
    /// Another cluster is pinned.
    #[error("another cluster is pinned already: {pinned}")]
    OtherPinned {
        /// The fingerprint that is pinned.
        pinned: Fingerprint,
    },
    /// The file was not signed by the pinned key, or is not a directory.
    #[error("the directory {} cannot be believed", path.display())]
    NotBelieved {
        /// The file.
        path: PathBuf,
        /// Why.
        source: eds_core::Error,
    },
    /// A directory older than the one held.
    #[error("the directory has version {offered}, but version {held} is held already")]
    Older {
        /// Of the file.
        offered: u64,
        /// Of the state directory.
        held: u64,
    },
    /// Two different directories with the same version: the officers signed twice, or the key is in other hands.
    #[error("the directory differs from the one held although both have version {version}")]
    Contradiction {
        /// Of both.
        version: u64,
    },
    /// The pinned key signed a directory for another cluster id, or gives a known number to another node.
    #[error("the directory gives node number {number} to another node than before")]
    Renumbered {
        /// The number.
        number: u16,
    },
    /// The pinned key signed a directory of another cluster.
    #[error("the directory is that of another cluster")]
    OtherCluster,
    /// Not 64 hex digits.
    #[error("{0:?} is not a fingerprint: 64 hex digits are expected")]
    NotAFingerprint(String),
    /// The draft of an officer.
    #[error(transparent)]
    Draft(#[from] draft::Error),
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file that cannot be written.
    #[error(transparent)]
    Write(#[from] output::Error),
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotPinned { .. } | Self::NotAFingerprint(_) => Kind::Usage,
            Self::OtherPinned { .. } => Kind::Conflict,
            Self::NotBelieved { .. }
            | Self::Older { .. }
            | Self::Contradiction { .. }
            | Self::Renumbered { .. }
            | Self::OtherCluster => Kind::Damaged,
            Self::Draft(error) => error.kind(),
            Self::Read { source, .. } => Kind::of_io(source),
            Self::Write(error) => error.kind(),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotPinned { .. } => {
                "get the directory file and the fingerprint from the officers of the cluster, then: \
                 eds cluster import FILE --fingerprint HEX"
            }
            Self::OtherPinned { .. } => {
                "a state directory serves one cluster; use another `state` in the configuration"
            }
            Self::NotBelieved { source: eds_core::Error::Mismatch, .. } => {
                "it is signed by another cluster key than the pinned one; ask the officers for the fingerprint"
            }
            Self::NotBelieved { .. } => "get the file again from the officers of the cluster",
            Self::Older { .. } => "get the newest directory from the officers of the cluster",
            Self::Contradiction { .. } | Self::Renumbered { .. } | Self::OtherCluster => {
                "tell the officers of the cluster: this must not happen while the cluster key is in their hands alone"
            }
            Self::Draft(error) => return error.hint(),
            Self::Write(error) => return error.hint(),
            Self::NotAFingerprint(_) | Self::Read { .. } => return None,
        };
        Some(hint.into())
    }
}

impl Trust {
    /// Reads what is pinned in this state directory.
    ///
    /// # Errors
    /// [`Error::NotPinned`], [`Error::NotBelieved`] when the file was changed, [`Error::Read`].
    pub fn load(state: &Path) -> Result<Self, Error> {
        let not_pinned = || Error::NotPinned { state: state.into() };
        let fingerprint = read_pin(state)?.ok_or_else(not_pinned)?;
        let path = state.join(DIRECTORY_FILE);
        let bytes = read_bounded(&path)?.ok_or_else(not_pinned)?;
        Self::read(&path, &bytes, fingerprint)
    }

    /// Reads a directory file and checks it against a fingerprint, without pinning anything.
    ///
    /// # Errors
    /// [`Error::NotBelieved`].
    pub fn read(path: &Path, bytes: &[u8], fingerprint: Fingerprint) -> Result<Self, Error> {
        let directory = Directory::verify(bytes, &fingerprint.0)
            .map_err(|source| Error::NotBelieved { path: path.into(), source })?;
        Ok(Self { fingerprint, directory })
    }

    /// Pins the cluster with this fingerprint and keeps its directory. Importing the pinned cluster again is an update.
    ///
    /// # Errors
    /// [`Error::OtherPinned`], and as [`Trust::update`].
    pub fn import(state: &Path, file: &Path, fingerprint: Fingerprint) -> Result<Self, Error> {
        output::make_private_directory(state)?;
        let _lock = lock(state)?;
        if let Some(pinned) = read_pin(state)?
            && pinned != fingerprint
        {
            return Err(Error::OtherPinned { pinned });
        }
        let bytes = read_bounded(file)?.ok_or_else(|| missing(file))?;
        let offered = Self::read(file, &bytes, fingerprint)?;
        // The pin comes first: a directory without a pin would be believed by nobody, a pin without one says so.
        write(&state.join(PIN_FILE), format!("{fingerprint}\n").as_bytes())?;
        Self::keep(state, offered, &bytes)
    }

    /// Takes a newer directory of the pinned cluster.
    ///
    /// # Errors
    /// [`Error::NotPinned`], [`Error::NotBelieved`], [`Error::Older`], [`Error::Contradiction`],
    /// [`Error::Renumbered`], [`Error::OtherCluster`], [`Error::Read`], [`Error::Write`].
    pub fn update(state: &Path, file: &Path) -> Result<Self, Error> {
        let fingerprint = read_pin(state)?.ok_or_else(|| Error::NotPinned { state: state.into() })?;
        let _lock = lock(state)?;
        let bytes = read_bounded(file)?.ok_or_else(|| missing(file))?;
        Self::keep(state, Self::read(file, &bytes, fingerprint)?, &bytes)
    }

    /// Stores the offered directory unless the one held speaks against it.
    fn keep(state: &Path, offered: Self, bytes: &[u8]) -> Result<Self, Error> {
        match Self::load(state) {
            Ok(held) if held == offered => return Ok(held),
            Ok(held) => held.check_successor(&offered)?,
            Err(Error::NotPinned { .. }) => {}
            Err(error) => return Err(error),
        }
        write(&state.join(DIRECTORY_FILE), bytes)?;
        Ok(offered)
    }

    fn check_successor(&self, offered: &Self) -> Result<(), Error> {
        let (held, new) = (&self.directory, &offered.directory);
        if new.cluster != held.cluster {
            return Err(Error::OtherCluster);
        }
        if new.version < held.version {
            return Err(Error::Older { offered: new.version, held: held.version });
        }
        if new.version == held.version {
            return Err(Error::Contradiction { version: new.version });
        }
        let renumbered = held.nodes.iter().find(|node| new.node(node.number).is_some_and(|now| now.id != node.id));
        renumbered.map_or(Ok(()), |node| Err(Error::Renumbered { number: node.number.value() }))
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::NotAFingerprint(text.into());
        // People copy fingerprints with spaces or colons between groups.
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace() && *c != ':').collect();
        let mut bytes = [0u8; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(wrong());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().try_fold(0u8, |value, digit| {
                digit
                    .to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
                    .map(|digit| value << 4 | digit)
                    .ok_or_else(wrong)
            })?;
        }
        Ok(Self(bytes))
    }
}

fn read_pin(state: &Path) -> Result<Option<Fingerprint>, Error> {
    let Some(bytes) = read_bounded(&state.join(PIN_FILE))? else { return Ok(None) };
    String::from_utf8_lossy(&bytes).trim().parse().map(Some)
}

/// The file, unless there is none; longer files than a directory can be are cut and then refused.
fn read_bounded(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    use io::Read as _;
    let mut bytes = Vec::new();
    let limit = u64::try_from(directory::MAX_BYTES).unwrap_or(u64::MAX) + 1;
    match File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.into(), source }),
    }
}

fn missing(path: &Path) -> Error {
    Error::Read { path: path.into(), source: io::ErrorKind::NotFound.into() }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let output = OutputFile::create(path, Existing::Replace)?;
    output.file().write_all(bytes).map_err(output::Error::writing(path))?;
    Ok(output.finish()?)
}

/// Keeps two imports from judging the same old state; released when dropped.
fn lock(state: &Path) -> Result<File, Error> {
    let path = state.join(LOCK_FILE);
    let failed = output::Error::writing(&path);
    let locked = output::lock_file(&path).and_then(|file| file.lock().map(|()| file));
    Ok(locked.map_err(failed)?)
}

const PIN_FILE: &str = "cluster.pin";
const DIRECTORY_FILE: &str = "cluster.edd";
const LOCK_FILE: &str = "cluster.lock";

#[cfg(test)]
mod tests;
