//! Why the queue cannot be used, or a message in it.

use std::{io, path::PathBuf};

use crate::{database, error::Kind};

/// The queue cannot be used, or a message in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database.
    #[error("the queue {} cannot be used", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: database::Error,
    },
    /// Another file of the queue.
    #[error("cannot use {}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Messages that were altered on the disk.
    #[error("in the queue {}, {} damaged: {}", path.display(), if numbers.len() == 1 { "a message is" } else { "messages are" }, list(numbers))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Their numbers.
        numbers: Vec<i64>,
    },
    /// A number that is none.
    #[error("there is no message {number} in the queue")]
    Unknown {
        /// The number.
        number: i64,
    },
}

impl Error {
    /// For the exit code.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unusable { source, .. } => source.kind(),
            Self::Lock { source, .. } => Kind::of_io(source),
            Self::Damaged { .. } => Kind::Damaged,
            Self::Unknown { .. } => Kind::NotFound,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unusable { path, source } if source.kind() == Kind::Damaged => Some(format!(
                "nothing that the key servers hold is lost, and `eds key status` shows which keys lack a share; restore {0} from \
                 a backup, or move it away (with {0}-wal and {0}-shm) to go on with an empty queue",
                path.display()
            )),
            Self::Unusable { source, .. } => source.hint(),
            Self::Damaged { .. } => Some(
                "the others are delivered all the same; restore the file from a backup, or `eds queue drop` the damaged ones"
                    .into(),
            ),
            Self::Unknown { .. } => Some("`eds queue list` shows the numbers".into()),
            Self::Lock { .. } => None,
        }
    }
}

fn list(numbers: &[i64]) -> String {
    numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
}
