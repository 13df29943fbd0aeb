//! A registered file, opened: plaintext at any position, for programs that know nothing of encryption.
//!
//! Opening asks the key servers once; after that, reads need the storage alone. The key and a few chunks of plaintext are
//! in the memory of this process while the file is open, and are wiped with it. What cannot be opened by this caller can
//! still be looked at ([`about`]), as far as the catalog tells.

use std::time::SystemTime;

use eds_core::ids::FileId;

use super::{
    Session,
    retrieve::{reader, registered},
};
use crate::{Error, catalog::Content, keystore::NodeError, payload::PlainReader};

/// What the catalog knows of a file without its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct About {
    /// Its id.
    pub file: FileId,
    /// What it is.
    pub content: Content,
    /// Bytes of plaintext.
    pub size: u64,
    /// When it was registered.
    pub created: SystemTime,
}

/// What the catalog knows of a file. No key server is asked.
///
/// # Errors
/// [`Error::Database`] for an unknown file, [`Error::Interrupted`].
pub fn about(session: &Session, file: FileId) -> Result<About, Error> {
    let entry = registered(session, file)?;
    Ok(About { file, content: entry.content, size: entry.plain_size, created: entry.created })
}

/// A file whose key is held. Any number of threads may read it.
pub struct OpenFile {
    file: FileId,
    reader: PlainReader,
}

impl OpenFile {
    /// Fetches the key and checks container and end of the file. Also returns the nodes that answered wrongly.
    ///
    /// # Errors
    /// What finding, reading, fetching or checking failed with.
    pub fn open(session: &Session, file: FileId) -> Result<(Self, Vec<NodeError>), Error> {
        let (reader, culprits) = reader(session, file)?;
        Ok((Self { file, reader }, culprits))
    }

    /// A file that a test made.
    #[cfg(all(test, feature = "mount"))]
    pub(crate) const fn of(file: FileId, reader: PlainReader) -> Self {
        Self { file, reader }
    }

    /// Its id.
    pub const fn id(&self) -> FileId {
        self.file
    }

    /// Bytes of plaintext, authentic.
    pub fn size(&self) -> u64 {
        self.reader.plain_len()
    }

    /// Fills `buffer` with the content from `offset` on; less than asked for only at the end.
    ///
    /// # Errors
    /// [`Error::Stored`] with the file and where it is damaged.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        self.reader.read_at(buffer, offset).map_err(|source| Error::Stored { file: self.file, source })
    }
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile").field("file", &self.file).field("content", &"<redacted>").finish()
    }
}
