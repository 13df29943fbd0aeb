//! Which images wait for a person to look at them, since they may show who the patient is.
//!
//! They are encrypted whole, each under a key of its own, and are in the catalog as files that are not looked into; here stands
//! why, so that they are found again. An image that was rejected is remembered by its keyed identity, so that a registration
//! that is started again does not take it in once more. A SQLite file beside the catalog: quarantine is of one workstation.
//! It holds no names, and nothing of what is in the picture.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use eds_core::ids::FileId;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};

use crate::database::{Error, Layout, array};

/// What it is called in errors.
pub(crate) const WHAT: &str = "quarantine";

/// The images that wait.
#[derive(Debug)]
pub struct Quarantine {
    connection: Mutex<Connection>,
}

/// An image that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// Its id.
    pub file: FileId,
    /// By which the same content is recognised.
    pub identity: [u8; 32],
    /// What is suspect about it, in words that tell nothing of the patient.
    pub reasons: Vec<String>,
    /// Since when, in seconds of Unix time.
    pub since: u64,
}

impl Quarantine {
    /// Opens the file, which is made when it is not there.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::Layout`], [`Error::Sqlite`], [`Error::Place`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { connection: Mutex::new(LAYOUT.open(path)?) })
    }

    /// One that is gone when it is dropped.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn in_memory() -> Result<Self, Error> {
        Ok(Self { connection: Mutex::new(LAYOUT.in_memory()?) })
    }

    /// Notes images that wait from now on, all or none.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn add(&self, images: &[Held]) -> Result<(), Error> {
        if images.is_empty() {
            return Ok(());
        }
        let mut connection = self.lock();
        let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = begun.map_err(LAYOUT.failed())?;
        for held in images {
            let values = params![
                held.file.as_bytes(),
                held.identity,
                held.reasons.join("\n"),
                i64::try_from(held.since).unwrap_or(i64::MAX)
            ];
            transaction.execute(INSERT, values).map_err(LAYOUT.failed())?;
        }
        transaction.commit().map_err(LAYOUT.failed())
    }

    /// All that wait, oldest first.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Sqlite`].
    pub fn waiting(&self) -> Result<Vec<Held>, Error> {
        let connection = self.lock();
        let mut statement = connection.prepare(&format!("{SELECT} ORDER BY since, file")).map_err(LAYOUT.failed())?;
        let mut rows = statement.query([]).map_err(LAYOUT.failed())?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(LAYOUT.failed())? {
            found.push(Held::of(row)?);
        }
        Ok(found)
    }

    /// An image that waits.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], [`Error::Sqlite`].
    pub fn image(&self, file: FileId) -> Result<Held, Error> {
        self.lock()
            .query_row(&format!("{SELECT} AND file = ?1"), params![file.as_bytes()], |row| Ok(Held::of(row)))
            .optional()
            .map_err(LAYOUT.failed())?
            .ok_or(Error::NotFound { what: WHAT, file })?
    }

    /// Forgets an image that waits no more.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn remove(&self, file: FileId) -> Result<(), Error> {
        let removed = self.lock().execute("DELETE FROM image WHERE file = ?1", params![file.as_bytes()]);
        removed.map(drop).map_err(LAYOUT.failed())
    }

    /// Remembers that a person rejected an image: it is not to be taken in again.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Sqlite`].
    pub fn reject(&self, file: FileId) -> Result<(), Error> {
        let sql = "UPDATE image SET rejected = 1, reasons = '' WHERE file = ?1";
        match self.lock().execute(sql, params![file.as_bytes()]).map_err(LAYOUT.failed())? {
            0 => Err(Error::NotFound { what: WHAT, file }),
            _ => Ok(()),
        }
    }

    /// Whether a person rejected this content.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn is_rejected(&self, identity: &[u8; 32]) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM image WHERE identity = ?1 AND rejected = 1";
        let found = self.lock().query_row(sql, params![identity], |_| Ok(())).optional();
        Ok(found.map_err(LAYOUT.failed())?.is_some())
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // Every change is one statement or a transaction: whoever panicked left none half done.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn of(row: &Row<'_>) -> Result<Self, Error> {
        let bytes = |index| row.get::<_, Vec<u8>>(index).map_err(LAYOUT.failed());
        let reasons: String = row.get(2).map_err(LAYOUT.failed())?;
        let since: i64 = row.get(3).map_err(LAYOUT.failed())?;
        let since = u64::try_from(since).map_err(|_| Error::Damaged { what: WHAT, field: "since" })?;
        Ok(Self {
            file: FileId::from_bytes(array(WHAT, "file", &bytes(0)?)?),
            identity: array(WHAT, "identity", &bytes(1)?)?,
            reasons: reasons.lines().map(String::from).collect(),
            since,
        })
    }
}

const LAYOUT: Layout = Layout {
    what: WHAT,
    application: 0x4544_5351, // "EDSQ"
    version: 1,
    schema: "CREATE TABLE image (
        file BLOB PRIMARY KEY CHECK (length(file) = 16),
        identity BLOB NOT NULL CHECK (length(identity) = 32),
        reasons TEXT NOT NULL,
        since INTEGER NOT NULL,
        rejected INTEGER NOT NULL DEFAULT 0 CHECK (rejected IN (0, 1))
    ) STRICT;
    CREATE INDEX image_by_identity ON image (identity);",
};
const INSERT: &str =
    "INSERT INTO image (file, identity, reasons, since) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (file) DO NOTHING";
const SELECT: &str = "SELECT file, identity, reasons, since FROM image WHERE rejected = 0";

#[cfg(test)]
mod tests {
    use super::*;

    fn held(number: u8) -> Held {
        Held {
            file: FileId::from_bytes([number; 16]),
            identity: [number; 32],
            reasons: vec!["there may be writing in the picture".into(), "the picture may show a face".into()],
            since: 1_700_000_000 + u64::from(number),
        }
    }

    #[test]
    fn what_waits_is_listed_until_it_is_forgotten_and_what_was_rejected_is_remembered() {
        let quarantine = Quarantine::in_memory().expect("opens");
        quarantine.add(&[held(2), held(1)]).expect("adds");
        quarantine.add(&[held(1)]).expect("adding again changes nothing");
        assert_eq!(quarantine.waiting().expect("lists"), [held(1), held(2)]);
        assert_eq!(quarantine.image(held(2).file).expect("finds"), held(2));
        quarantine.remove(held(1).file).expect("removes");
        quarantine.reject(held(2).file).expect("rejects");
        assert_eq!(quarantine.waiting().expect("lists"), []);
        assert!(quarantine.is_rejected(&[2; 32]).expect("asks"));
        assert!(!quarantine.is_rejected(&[1; 32]).expect("asks"));
        assert!(matches!(quarantine.image(held(2).file), Err(Error::NotFound { .. })));
        assert!(matches!(quarantine.reject(held(1).file), Err(Error::NotFound { .. })));
    }
}
