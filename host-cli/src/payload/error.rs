//! What can go wrong on the data path, and who is at fault: the input, the output, the container or the key.

use std::io;

use crate::{error::Kind, storage};

/// A failed [`seal`](super::seal) or an attempt to open a container that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input could not be read.
    #[error("cannot read the input")]
    Read(#[source] io::Error),
    /// The output could not be written.
    #[error("cannot write the output")]
    Write(#[source] io::Error),
    /// The input is something else than a container, or its header is damaged.
    #[error("not an encrypted file of EDS, or its header is damaged")]
    NotAContainer(#[source] eds_core::Error),
    /// The container has a format of a later release.
    #[error("the encrypted file has format version {0}, which this release does not know")]
    UnknownVersion(u8),
    /// The container is not the one that was recorded under this name.
    #[error("the encrypted file is not the one that was recorded: it was exchanged or replaced")]
    Exchanged,
    /// Key and container do not belong together.
    #[error("the key does not open this encrypted file: another key, or a changed header")]
    WrongKey,
    /// A chunk does not verify.
    #[error("the encrypted file is damaged in bytes {start} to {end} of its content")]
    Damaged {
        /// Offset in the plaintext of the first byte of the damaged chunk.
        start: u64,
        /// Offset in the plaintext of the last byte of a chunk there.
        end: u64,
    },
    /// The container ends before its last chunk.
    #[error("the encrypted file is truncated, or bytes were appended to it")]
    Truncated,
    /// A range beyond the end of the plaintext.
    #[error("bytes {offset} to {end} were asked for, of {length}")]
    OutOfRange {
        /// The first byte that was asked for.
        offset: u64,
        /// One beyond the last.
        end: u64,
        /// Bytes of plaintext.
        length: u64,
    },
    /// Positions were asked for of a pipe.
    #[error("a part of an encrypted file cannot be read from a pipe")]
    NotSeekable,
    /// The input is longer than a container can hold.
    #[error("the input is longer than 4 PiB")]
    TooLong,
    /// The output file was not empty.
    #[error("the output file is not an empty regular file")]
    NotEmpty,
    /// The operating system gave no random bytes.
    #[error("the operating system's random source failed")]
    Random(#[source] getrandom::Error),
    /// The cipher itself failed.
    #[error("the encryption engine failed")]
    Engine(#[source] eds_core::Error),
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read(source) => Kind::of_io(source),
            Self::Write(_) | Self::NotEmpty => Kind::LocalIo,
            Self::NotAContainer(_) | Self::Exchanged | Self::WrongKey | Self::Damaged { .. } | Self::Truncated => {
                Kind::Damaged
            }
            Self::UnknownVersion(_) | Self::TooLong => Kind::Unsupported,
            Self::OutOfRange { .. } | Self::NotSeekable => Kind::Usage,
            Self::Random(_) | Self::Engine(_) => Kind::Other,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exchanged | Self::Damaged { .. } | Self::Truncated | Self::NotAContainer(_) => {
                Some("take another copy of the encrypted file, if there is one".into())
            }
            Self::UnknownVersion(_) => Some("use a newer release of eds".into()),
            Self::NotSeekable => Some("save the encrypted file first, then read the part from it".into()),
            Self::Read(source) => storage::Error::within(source)?.hint(),
            Self::Write(source) if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some space on that disk".into())
            }
            _ => None,
        }
    }

    /// An error of the header.
    pub(super) fn of_header(error: eds_core::Error) -> Self {
        match error {
            eds_core::Error::UnknownVersion(version) => Self::UnknownVersion(version),
            error => Self::NotAContainer(error),
        }
    }

    /// An error of sealing: the length limit, or the cipher itself.
    pub(super) fn of_sealing(error: eds_core::Error) -> Self {
        match error {
            eds_core::Error::TooLong => Self::TooLong,
            error => Self::Engine(error),
        }
    }
}
