//! What can go wrong, as one type for the command line: the rooms' own errors, each with a kind and perhaps a hint.
//!
//! The kind decides the exit code, so scripts can tell "not permitted" from "damaged". The text names the party at
//! fault (file, node, caller) and never contains a key, a share or patient data; what caused it is its `source` and is
//! printed after it, once.

use std::{
    error::Error as _,
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

use crate::{catalog, cluster, config, dicom, output, storage};

/// What sort of failure an error is; decides the exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// None of the others.
    Other,
    /// The command line or the configuration is wrong.
    Usage,
    /// What was asked for does not exist.
    NotFound,
    /// Not authenticated, or not permitted.
    Denied,
    /// Fewer key servers answered than are needed.
    Unavailable,
    /// Data that is damaged, forged, or does not belong together.
    Damaged,
    /// The local machine: full disk, unreadable file, no permission on a file.
    LocalIo,
    /// Something of that name is there already, or changed meanwhile; nothing was overwritten.
    Conflict,
    /// An input that this release cannot process.
    Unsupported,
}

impl Kind {
    /// All kinds, in the order of their exit codes.
    pub const ALL: [Self; 9] = [
        Self::Other,
        Self::Usage,
        Self::NotFound,
        Self::Denied,
        Self::Unavailable,
        Self::Damaged,
        Self::LocalIo,
        Self::Conflict,
        Self::Unsupported,
    ];

    /// The exit code of a command that fails like this; 0 is success.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Denied => 4,
            Self::Unavailable => 5,
            Self::Damaged => 6,
            Self::LocalIo => 7,
            Self::Conflict => 8,
            Self::Unsupported => 9,
        }
    }

    /// The meaning of the exit code, as `--help` shows it.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Other => "another failure",
            Self::Usage => "wrong command line or configuration",
            Self::NotFound => "what was asked for does not exist",
            Self::Denied => "not authenticated or not permitted",
            Self::Unavailable => "not enough key servers answered",
            Self::Damaged => "damaged or forged data; nothing of it was put out under its name",
            Self::LocalIo => "local input or output failed, for example a full disk",
            Self::Conflict => "exists already or was changed meanwhile; nothing was overwritten",
            Self::Unsupported => "input that this release cannot process",
        }
    }

    /// The kind of an operating system error.
    pub fn of_io(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::NotFound } else { Self::LocalIo }
    }
}

/// An error of the client, from whichever room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// An output file.
    #[error(transparent)]
    Output(#[from] output::Error),
    /// The cluster directory, its draft or the pinned cluster key.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// Where ciphertext lives.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The catalog or the metadata database.
    #[error(transparent)]
    Database(#[from] catalog::Error),
    /// An image that cannot be taken apart or put together.
    #[error(transparent)]
    Dicom(#[from] dicom::Error),
    /// An input file.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The random source of the operating system.
    #[error("the operating system's random source failed")]
    Random(#[from] getrandom::Error),
}

impl Error {
    /// For `map_err` after an operation on an input file.
    pub fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Read { path, source }
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Config(error) => error.kind(),
            Self::Output(error) => error.kind(),
            Self::Cluster(error) => error.kind(),
            Self::Storage(error) => error.kind(),
            Self::Dicom(error) => error.kind(),
            Self::Database(error) => error.kind(),
            Self::Read { source, .. } => Kind::of_io(source),
            Self::Random(_) => Kind::Other,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Output(error) => error.hint(),
            Self::Cluster(error) => error.hint(),
            Self::Storage(error) => error.hint(),
            Self::Dicom(error) => error.hint(),
            Self::Database(error) => error.hint(),
            Self::Read { .. } | Self::Random(_) => None,
        }
    }

    /// The lines for standard error: what went wrong, why, and the hint.
    pub fn report(&self) -> String {
        let mut text = format!("eds: error: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        if let Some(hint) = self.hint() {
            let _ = write!(text, "\nhint: {hint}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_exit_code() {
        for (position, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(kind.exit_code()), position + 1, "{kind:?}");
        }
    }

    #[test]
    fn a_report_names_the_file_and_the_cause_once() {
        let error = Error::reading(Path::new("scan.dcm"))(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(error.report(), "eds: error: cannot read scan.dcm: entity not found");
        assert_eq!(error.kind(), Kind::NotFound);
    }
}
