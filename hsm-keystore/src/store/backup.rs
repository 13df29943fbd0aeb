//! Backups of a store: one SQLite file, which is the database of one moment, wherever the store itself is.
//!
//! A backup is made while the node serves, and appears under its name when it is whole, checked and on the disk. It holds
//! shares wrapped by the node's KEK: without the token it opens nothing.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use rusqlite::{Connection, OpenFlags};
use sha2::{Digest, Sha256};

use crate::{
    config::StoreConfig,
    store::{
        Kek, Origin, SCHEMA, StoreError, USES_AFTER_BACKUP,
        sqlite::{copy, existing, failed, read_keks, read_origin, schema, setup, statements},
    },
};

/// What is in a backup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contents {
    /// The node it is of, with its canaries.
    pub origin: Origin,
    /// The KEKs of its records; none are told when its schema is older than they are.
    pub keks: Vec<Kek>,
    /// Its schema version.
    pub schema: u32,
    /// How many keys, tombstones included.
    pub keys: u64,
    /// How many registrations.
    pub registrations: u64,
    /// The time of the last change in it, in UTC; none when there are no keys.
    pub last_change: Option<String>,
    /// SHA-256 of the file.
    pub digest: [u8; 32],
}

/// Writes the store, as it is at one moment, to a new file, while others use it.
///
/// # Errors
/// [`StoreError`]; there is no new file then.
pub fn back_up(config: &StoreConfig, to: &Path) -> Result<Contents, StoreError> {
    match config {
        StoreConfig::Sqlite(store) => {
            schema::version(&existing(store)?).map_err(|reason| setup(store, reason))?;
            copy::copy(store, to)?;
        }
        StoreConfig::Postgres(postgres) => super::postgres::copy::back_up(postgres, to)?,
    }
    look(to)
}

/// Makes a store from a backup, where there is none.
///
/// # Errors
/// [`StoreError`]; there is no store then.
pub fn restore(from: &Path, config: &StoreConfig) -> Result<(), StoreError> {
    match config {
        StoreConfig::Sqlite(store) => copy::copy_and(from, store, |copy| {
            // One of an older schema gets its table of KEKs when it is migrated.
            match schema::version(copy) {
                Ok(SCHEMA) => copy.execute(statements::MORE_USES, [USES_AFTER_BACKUP]).map(drop),
                _ => Ok(()),
            }
        }),
        StoreConfig::Postgres(postgres) => super::postgres::copy::restore(from, postgres),
    }
}

/// Reads what is in a backup, after checking that it is whole and of a known schema. It is not changed.
///
/// # Errors
/// [`StoreError::Setup`] when it is not a backup or is damaged, [`StoreError::Database`].
pub fn look(file: &Path) -> Result<Contents, StoreError> {
    if !file.exists() {
        return Err(setup(file, "does not exist".into()));
    }
    let in_file = |error| failed(file, error);
    let backup = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(in_file)?;
    let schema = schema::version(&backup).map_err(|reason| setup(file, reason))?;
    copy::sound(&backup, file)?;
    let last = "SELECT strftime('%Y-%m-%dT%H:%M:%SZ', max(changed), 'unixepoch') FROM keys";
    Ok(Contents {
        origin: read_origin(&backup).map_err(in_file)?,
        keks: if schema < SCHEMA { Vec::new() } else { read_keks(&backup).map_err(in_file)? },
        schema,
        keys: count(&backup, "keys").map_err(in_file)?,
        registrations: count(&backup, "registrations").map_err(in_file)?,
        last_change: backup.query_row(last, [], |row| row.get(0)).map_err(in_file)?,
        digest: digest(file).map_err(|error| setup(file, format!("cannot be read ({error})")))?,
    })
}

fn count(backup: &Connection, table: &str) -> rusqlite::Result<u64> {
    backup.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

fn digest(file: &Path) -> io::Result<[u8; 32]> {
    let (mut file, mut hash, mut buffer) = (File::open(file)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        let read = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(hash.finalize().into());
        };
        hash.update(bytes);
    }
}
