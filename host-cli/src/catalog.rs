//! What was registered: for each file its key, where its ciphertext is, and what the container must look like.
//!
//! Salt, commitment, anchor and manifest are recorded at registration and compared with the container before anything is
//! put out, so that files under one key cannot be swapped. An entry is *pending* until storage and key servers hold
//! everything; an interrupted registration leaves a pending entry that can be seen and discarded, never one that looks
//! registered. No names of files or patients: a file is known by its random id.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use eds_core::ids::{FileId, KeyId};
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};

use crate::{
    database::{Layout, array},
    storage::ObjectName,
};

pub use crate::database::Error;

/// The catalog database.
#[derive(Debug)]
pub struct Catalog {
    connection: Connection,
}

/// A registered file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The id in the container's header.
    pub file: FileId,
    /// What the file is.
    pub content: Content,
    /// The key.
    pub key: KeyId,
    /// Where the container is stored.
    pub object: ObjectName,
    /// Length of the plaintext in bytes.
    pub plain_size: u64,
    /// Length of the container in bytes.
    pub stored_size: u64,
    /// The salt of the container.
    pub salt: [u8; 24],
    /// The key commitment of the container.
    pub commitment: [u8; 32],
    /// The key anchor.
    pub anchor: [u8; 32],
    /// The manifest of the key as it was registered.
    pub manifest: Vec<u8>,
    /// How far the registration came.
    pub state: State,
    /// When the registration began, in whole seconds.
    pub created: SystemTime,
    /// The file id of the sealed private part in the metadata database, if the file has one.
    pub private_part: Option<FileId>,
    /// The key of the private part.
    pub private_key: Option<KeyId>,
    /// The run of `eds` that registers or registered it; tells whether a pending entry is worked on.
    pub run: RunId,
}

/// A run of `eds` that registers.
pub type RunId = [u8; 16];

/// Of entries that whoever made them completes, and nobody else takes back.
pub const NO_RUN: RunId = [0; 16];

/// What a registered file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// A de-identified image.
    Image,
    /// A file whose content EDS does not look into.
    Opaque,
}

/// How far a registration came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Begun; the key servers or the storage may not hold everything.
    Pending,
    /// Storage, metadata and key servers hold everything.
    Complete,
}

impl Catalog {
    /// Opens the catalog, which is made when it is not there.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::Layout`], [`Error::Sqlite`], [`Error::Place`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { connection: LAYOUT.open(path)? })
    }

    /// A catalog that is gone when it is dropped.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn in_memory() -> Result<Self, Error> {
        Ok(Self { connection: LAYOUT.in_memory()? })
    }

    /// Records registrations that begin, all or none. The entries' own `state` is ignored: they are pending.
    ///
    /// # Errors
    /// [`Error::Duplicate`], [`Error::Sqlite`].
    pub fn begin(&self, entries: &[Entry]) -> Result<(), Error> {
        self.in_transaction(|| entries.iter().try_for_each(|entry| self.begin_one(entry)))
    }

    fn begin_one(&self, entry: &Entry) -> Result<(), Error> {
        let created = entry.created.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut statement = self.connection.prepare_cached(INSERT).map_err(LAYOUT.failed())?;
        let rows = statement.execute(params![
            entry.file.as_bytes(),
            entry.content.code(),
            entry.key.as_bytes(),
            entry.object.to_string(),
            column("plain_size", entry.plain_size)?,
            column("stored_size", entry.stored_size)?,
            entry.salt,
            entry.commitment,
            entry.anchor,
            entry.manifest,
            State::Pending.code(),
            column("created", created)?,
            entry.private_part.as_ref().map(FileId::as_bytes),
            entry.private_key.as_ref().map(KeyId::as_bytes),
            entry.run,
        ]);
        match rows.map_err(LAYOUT.failed())? {
            0 => Err(Error::Duplicate { what: LAYOUT.what, file: entry.file }),
            _ => Ok(()),
        }
    }

    /// Marks registrations as complete, all or none. Doing so again changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Sqlite`].
    pub fn complete(&self, files: &[FileId]) -> Result<(), Error> {
        self.in_transaction(|| {
            files.iter().try_for_each(|file| {
                let sql = "UPDATE file SET state = ?2 WHERE file = ?1";
                let mut statement = self.connection.prepare_cached(sql).map_err(LAYOUT.failed())?;
                self.change(*file, statement.execute(params![file.as_bytes(), State::Complete.code()]))
            })
        })
    }

    /// Removes a pending entry, after what it names was taken back.
    ///
    /// # Errors
    /// [`Error::NotFound`] also for a complete entry, [`Error::Sqlite`].
    pub fn discard(&self, file: FileId) -> Result<(), Error> {
        let sql = "DELETE FROM file WHERE file = ?1 AND state = ?2";
        self.change(file, self.connection.execute(sql, params![file.as_bytes(), State::Pending.code()]))
    }

    /// Removes an entry, whatever its state.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Sqlite`].
    pub fn remove(&self, file: FileId) -> Result<(), Error> {
        let sql = "DELETE FROM file WHERE file = ?1";
        self.change(file, self.connection.execute(sql, params![file.as_bytes()]))
    }

    /// The entry of a file.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], [`Error::Sqlite`].
    pub fn entry(&self, file: FileId) -> Result<Entry, Error> {
        self.connection
            .query_row(&format!("{SELECT} WHERE file = ?1"), params![file.as_bytes()], |row| Ok(Entry::of(row)))
            .optional()
            .map_err(LAYOUT.failed())?
            .ok_or(Error::NotFound { what: LAYOUT.what, file })?
    }

    /// The registrations that were begun and not completed, oldest first.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Sqlite`].
    pub fn pending(&self) -> Result<Vec<Entry>, Error> {
        self.entries("WHERE state = ?1 ORDER BY created, file", State::Pending.code())
    }

    /// The registrations that are complete, oldest first.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Sqlite`].
    pub fn complete_ones(&self) -> Result<Vec<Entry>, Error> {
        self.entries("WHERE state = ?1 ORDER BY created, file", State::Complete.code())
    }

    /// The files under this key, oldest first.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Sqlite`].
    pub fn under_key(&self, key: KeyId) -> Result<Vec<Entry>, Error> {
        self.entries("WHERE key = ?1 ORDER BY created, file", key.as_bytes())
    }

    /// The files, of whatever state, whose content or private part is under this key.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Sqlite`].
    pub fn users_of(&self, key: KeyId) -> Result<Vec<FileId>, Error> {
        let found = self.entries("WHERE key = ?1 OR private_key = ?1", key.as_bytes())?;
        Ok(found.iter().map(|entry| entry.file).collect())
    }

    fn in_transaction(&self, work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let begun = rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate);
        let transaction = begun.map_err(LAYOUT.failed())?;
        work()?;
        transaction.commit().map_err(LAYOUT.failed())
    }

    fn entries(&self, condition: &str, parameter: impl rusqlite::ToSql) -> Result<Vec<Entry>, Error> {
        let mut statement = self.connection.prepare(&format!("{SELECT} {condition}")).map_err(LAYOUT.failed())?;
        let rows = statement.query_map([parameter], |row| Ok(Entry::of(row))).map_err(LAYOUT.failed())?;
        rows.map(|row| row.map_err(LAYOUT.failed())?).collect()
    }

    fn change(&self, file: FileId, rows: rusqlite::Result<usize>) -> Result<(), Error> {
        match rows.map_err(LAYOUT.failed())? {
            0 => Err(Error::NotFound { what: LAYOUT.what, file }),
            _ => Ok(()),
        }
    }
}

impl Entry {
    fn of(row: &Row<'_>) -> Result<Self, Error> {
        let bytes = |index| row.get_ref(index).and_then(|value| Ok(value.as_blob()?)).map_err(LAYOUT.failed());
        let number = |index, field| {
            let number: i64 = row.get(index).map_err(LAYOUT.failed())?;
            u64::try_from(number).map_err(|_| damaged(field))
        };
        let object: String = row.get(3).map_err(LAYOUT.failed())?;
        let private_part: Option<Vec<u8>> = row.get(12).map_err(LAYOUT.failed())?;
        let private_key: Option<Vec<u8>> = row.get(13).map_err(LAYOUT.failed())?;
        Ok(Self {
            file: FileId::from_bytes(array(LAYOUT.what, "file", bytes(0)?)?),
            content: Content::from_code(number(1, "content")?)?,
            key: KeyId::from_bytes(array(LAYOUT.what, "key", bytes(2)?)?),
            object: object.parse().map_err(|_| damaged("object"))?,
            plain_size: number(4, "plain_size")?,
            stored_size: number(5, "stored_size")?,
            salt: array(LAYOUT.what, "salt", bytes(6)?)?,
            commitment: array(LAYOUT.what, "commitment", bytes(7)?)?,
            anchor: array(LAYOUT.what, "anchor", bytes(8)?)?,
            manifest: bytes(9)?.to_vec(),
            state: State::from_code(number(10, "state")?)?,
            created: UNIX_EPOCH + Duration::from_secs(number(11, "created")?),
            private_part: private_part
                .map(|id| array(LAYOUT.what, "private_part", &id).map(FileId::from_bytes))
                .transpose()?,
            private_key: private_key
                .map(|id| array(LAYOUT.what, "private_key", &id).map(KeyId::from_bytes))
                .transpose()?,
            run: array(LAYOUT.what, "run", bytes(14)?)?,
        })
    }
}

impl Content {
    pub(crate) const fn code(self) -> i64 {
        match self {
            Self::Image => 1,
            Self::Opaque => 2,
        }
    }

    pub(crate) fn from_code(code: u64) -> Result<Self, Error> {
        match code {
            1 => Ok(Self::Image),
            2 => Ok(Self::Opaque),
            _ => Err(damaged("content")),
        }
    }
}

impl State {
    const fn code(self) -> i64 {
        match self {
            Self::Pending => 0,
            Self::Complete => 1,
        }
    }

    fn from_code(code: u64) -> Result<Self, Error> {
        match code {
            0 => Ok(Self::Pending),
            1 => Ok(Self::Complete),
            _ => Err(damaged("state")),
        }
    }
}

fn column(field: &'static str, number: u64) -> Result<i64, Error> {
    i64::try_from(number).map_err(|_| damaged(field))
}

fn damaged(field: &'static str) -> Error {
    Error::Damaged { what: LAYOUT.what, field }
}

const SELECT: &str = "SELECT file, content, key, object, plain_size, stored_size, salt, commitment, anchor, manifest, \
                      state, created, private_part, private_key, run FROM file";
const INSERT: &str = "INSERT INTO file (file, content, key, object, plain_size, stored_size, salt, commitment, anchor, \
                      manifest, state, created, private_part, private_key, run) \
                      VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15) ON CONFLICT DO NOTHING";

/// What it is called in errors.
pub(crate) const WHAT: &str = "catalog";

const LAYOUT: Layout = Layout {
    what: WHAT,
    application: 0x4544_5343, // "EDSC"
    version: 2,
    schema: "CREATE TABLE file (
        file BLOB PRIMARY KEY CHECK (length(file) = 16),
        content INTEGER NOT NULL CHECK (content IN (1, 2)),
        key BLOB NOT NULL CHECK (length(key) = 16),
        object TEXT NOT NULL UNIQUE,
        plain_size INTEGER NOT NULL CHECK (plain_size >= 0),
        stored_size INTEGER NOT NULL CHECK (stored_size >= 0),
        salt BLOB NOT NULL CHECK (length(salt) = 24),
        commitment BLOB NOT NULL CHECK (length(commitment) = 32),
        anchor BLOB NOT NULL CHECK (length(anchor) = 32),
        manifest BLOB NOT NULL,
        state INTEGER NOT NULL CHECK (state IN (0, 1)),
        created INTEGER NOT NULL,
        private_part BLOB CHECK (length(private_part) = 16),
        private_key BLOB CHECK (length(private_key) = 16),
        run BLOB NOT NULL CHECK (length(run) = 16)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX file_by_key ON file (key);
    CREATE INDEX file_by_private_key ON file (private_key) WHERE private_key IS NOT NULL;
    CREATE INDEX file_pending ON file (created) WHERE state = 0;",
};

#[cfg(test)]
mod tests;
