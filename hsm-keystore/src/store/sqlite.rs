//! A [`ShareStore`] in one SQLite file, for one server process.
//!
//! Write-ahead log with `synchronous = FULL`: a commit is on the disk before the call returns. One connection writes,
//! a few read beside it. `secure_delete` overwrites what is wiped. The file is made with mode 0600; a file of a newer
//! schema, or of another program, is refused.

mod schema;

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use eds_core::{
    api::KeyState,
    ids::{Epoch, KeyId, NodeId},
};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, named_params, params};

use crate::store::{
    Changed, NewKey, Origin, Registered, RegistrantDigest, Registration, Replacement, ShareStore, StoreError,
    StoredAccess, StoredBody, StoredKey,
};

/// How long a call waits for another process (a backup) to let go of the database.
const BUSY: Duration = Duration::from_secs(5);

/// One SQLite file.
pub struct SqliteStore {
    file: PathBuf,
    writer: Mutex<Connection>,
    /// Connections that are not in use. As many as were ever in use at once.
    readers: Mutex<Vec<Connection>>,
}

impl SqliteStore {
    /// Makes a new database file, which must not exist.
    ///
    /// # Errors
    /// [`StoreError::Setup`] when the file exists or its directory does not, [`StoreError::Database`].
    pub fn create(file: &Path, origin: &Origin) -> Result<Self, StoreError> {
        // SQLite gives its log files the mode of the database.
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(file)
            .map_err(|error| setup(file, format!("cannot be made ({error}); nothing was changed")))?;
        let store = Self::connect(file)?;
        let in_database = |source| failed(file, source);
        let mut writer = store.writer();
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate).map_err(in_database)?;
        schema::create(&transaction).map_err(in_database)?;
        transaction
            .execute(
                "INSERT INTO origin (only, node, canary, policy_canary) VALUES (1, ?1, ?2, ?3)",
                params![origin.node.as_bytes(), origin.canary, origin.policy_canary],
            )
            .map_err(in_database)?;
        transaction.commit().map_err(in_database)?;
        drop(writer);
        Ok(store)
    }

    /// Opens a database file that [`SqliteStore::create`] made.
    ///
    /// # Errors
    /// [`StoreError::Setup`] when there is no such file, or it is not such a database or of another schema version;
    /// [`StoreError::Database`].
    pub fn open(file: &Path) -> Result<Self, StoreError> {
        if !file.exists() {
            return Err(setup(file, "does not exist; `eds-keystored init` makes it".into()));
        }
        let store = Self::connect(file)?;
        schema::check(&store.writer()).map_err(|reason| setup(file, reason))?;
        Ok(store)
    }

    fn connect(file: &Path) -> Result<Self, StoreError> {
        let writer = connection(file)?;
        Ok(Self { file: file.to_owned(), writer: Mutex::new(writer), readers: Mutex::default() })
    }

    fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => connection(&self.file)?,
        };
        let result = read(&reader).map_err(|source| failed(&self.file, source))?;
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        Ok(result)
    }

    /// Runs `write` in one transaction, which is durable when this returns.
    fn writing<T>(&self, write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut writer = self.writer();
        let run = |writer: &mut Connection| {
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = write(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        run(&mut writer).map_err(|source| failed(&self.file, source))
    }

    fn change(&self, keys: &[KeyId], by: &RegistrantDigest, to: KeyState, at: u64) -> Result<Vec<Changed>, StoreError> {
        self.writing(|transaction| {
            let mut current = transaction.prepare_cached("SELECT state, registrant FROM keys WHERE id = ?1")?;
            keys.iter()
                .map(|key| {
                    let found = current
                        .query_row([key.as_bytes()], |row| Ok((state(row, 0)?, row.get::<_, [u8; 32]>(1)?)))
                        .optional()?;
                    Ok(match found {
                        None => Changed::Missing,
                        Some((_, registrant)) if registrant != *by => Changed::NotRegistrant,
                        Some((state, _)) if state == to => Changed::Done(to),
                        Some((KeyState::Pending, _)) => {
                            match to {
                                KeyState::Tombstone => bury(transaction, key, at)?,
                                _ => {
                                    transaction
                                        .prepare_cached("UPDATE keys SET state = ?2, changed = ?3 WHERE id = ?1")?
                                        .execute(params![key.as_bytes(), code(to), seconds(at)])?;
                                }
                            }
                            Changed::Done(to)
                        }
                        Some((state, _)) => Changed::Refused(state),
                    })
                })
                .collect()
        })
    }
}

impl ShareStore for SqliteStore {
    fn origin(&self) -> Result<Origin, StoreError> {
        self.reading(|reader| {
            reader.query_row("SELECT node, canary, policy_canary FROM origin", [], |row| {
                Ok(Origin { node: NodeId::from_bytes(row.get(0)?), canary: row.get(1)?, policy_canary: row.get(2)? })
            })
        })
    }

    fn register(&self, registration: &Registration, keys: &[NewKey]) -> Result<Registered, StoreError> {
        self.writing(|transaction| {
            let before = transaction
                .prepare_cached("SELECT number, content FROM registrations WHERE registrant = ?1 AND id = ?2")?
                .query_row(params![registration.registrant, registration.id], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 32]>(1)?))
                })
                .optional()?;
            match before {
                Some((_, content)) if content != registration.content => return Ok(Registered::IdTaken),
                Some(_) => {
                    let mut current = transaction.prepare_cached("SELECT state FROM keys WHERE id = ?1")?;
                    let states = keys.iter().map(|new| current.query_row([new.key.as_bytes()], |row| state(row, 0)));
                    return Ok(Registered::Before(states.collect::<Result<_, _>>()?));
                }
                None => {}
            }
            let mut current = transaction.prepare_cached("SELECT state FROM keys WHERE id = ?1")?;
            for new in keys {
                match current.query_row([new.key.as_bytes()], |row| state(row, 0)).optional()? {
                    Some(KeyState::Tombstone) => return Ok(Registered::KeyDeleted(new.key)),
                    Some(_) => return Ok(Registered::KeyExists(new.key)),
                    None => {}
                }
            }
            insert(transaction, registration, keys)?;
            Ok(Registered::Stored)
        })
    }

    fn read(&self, keys: &[KeyId]) -> Result<Vec<Option<StoredKey>>, StoreError> {
        self.reading(|reader| {
            // One snapshot for the whole batch.
            let snapshot = reader.unchecked_transaction()?;
            let mut select = snapshot.prepare_cached(
                "SELECT state, registrant, manifest_digest, epoch, manifest, record, access, access_mac \
                 FROM keys WHERE id = ?1",
            )?;
            keys.iter().map(|key| select.query_row([key.as_bytes()], |row| stored(*key, row)).optional()).collect()
        })
    }

    fn confirm(&self, keys: &[KeyId], by: &RegistrantDigest, at: u64) -> Result<Vec<Changed>, StoreError> {
        self.change(keys, by, KeyState::Active, at)
    }

    fn withdraw(&self, keys: &[KeyId], by: &RegistrantDigest, at: u64) -> Result<Vec<Changed>, StoreError> {
        self.change(keys, by, KeyState::Tombstone, at)
    }

    fn delete(&self, keys: &[(KeyId, StoredAccess)], at: u64) -> Result<Vec<Changed>, StoreError> {
        self.writing(|transaction| {
            let mut current = transaction.prepare_cached("SELECT state, access, access_mac FROM keys WHERE id = ?1")?;
            keys.iter()
                .map(|(key, seen)| {
                    let found = current
                        .query_row([key.as_bytes()], |row| {
                            Ok((state(row, 0)?, row.get::<_, Option<Vec<u8>>>(1)?, row.get::<_, Option<Vec<u8>>>(2)?))
                        })
                        .optional()?;
                    Ok(match found {
                        None => Changed::Missing,
                        Some((KeyState::Tombstone, _, _)) => Changed::Refused(KeyState::Tombstone),
                        Some((_, Some(list), Some(mac))) if list == seen.list && mac == seen.mac => {
                            bury(transaction, key, at)?;
                            Changed::Done(KeyState::Tombstone)
                        }
                        Some(_) => Changed::Stale,
                    })
                })
                .collect()
        })
    }

    fn replace(&self, key: KeyId, seen: &[u8], new: &Replacement, at: u64) -> Result<Changed, StoreError> {
        self.writing(|transaction| {
            let found = transaction
                .prepare_cached("SELECT state, record FROM keys WHERE id = ?1")?
                .query_row([key.as_bytes()], |row| Ok((state(row, 0)?, row.get::<_, Option<Vec<u8>>>(1)?)))
                .optional()?;
            let state = match found {
                None => return Ok(Changed::Missing),
                Some((KeyState::Tombstone, _)) => return Ok(Changed::Refused(KeyState::Tombstone)),
                Some((_, record)) if record.as_deref() != Some(seen) => return Ok(Changed::Stale),
                Some((state, _)) => state,
            };
            transaction
                .prepare_cached(
                    "UPDATE keys SET epoch = ?2, manifest = ?3, manifest_digest = ?4, record = ?5, changed = ?6 \
                     WHERE id = ?1",
                )?
                .execute(params![
                    key.as_bytes(),
                    new.epoch.value(),
                    new.manifest,
                    new.manifest_digest,
                    new.record,
                    seconds(at)
                ])?;
            Ok(Changed::Done(state))
        })
    }

    fn ping(&self) -> Result<(), StoreError> {
        self.reading(|reader| reader.query_row("SELECT only FROM origin", [], |_| Ok(())))
    }
}

fn insert(transaction: &Transaction<'_>, registration: &Registration, keys: &[NewKey]) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT INTO registrations (registrant, id, content, at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![registration.registrant, registration.id, registration.content, seconds(registration.at)])?;
    let number = transaction.last_insert_rowid();
    let mut insert = transaction.prepare_cached(
        "INSERT INTO keys (id, state, registration, registrant, manifest_digest, epoch, manifest, record, access, \
         access_mac, changed) VALUES (:id, :state, :registration, :registrant, :manifest_digest, :epoch, :manifest, \
         :record, :access, :access_mac, :changed)",
    )?;
    for new in keys {
        insert.execute(named_params! {
            ":id": new.key.as_bytes(),
            ":state": code(KeyState::Pending),
            ":registration": number,
            ":registrant": registration.registrant,
            ":manifest_digest": new.manifest_digest,
            ":epoch": new.epoch.value(),
            ":manifest": new.manifest,
            ":record": new.record,
            ":access": new.access.list,
            ":access_mac": new.access.mac,
            ":changed": seconds(registration.at),
        })?;
    }
    Ok(())
}

/// Turns a key into a tombstone.
fn bury(transaction: &Transaction<'_>, key: &KeyId, at: u64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE keys SET state = ?2, changed = ?3, epoch = NULL, manifest = NULL, record = NULL, access = NULL, \
             access_mac = NULL WHERE id = ?1",
        )?
        .execute(params![key.as_bytes(), code(KeyState::Tombstone), seconds(at)])
        .map(drop)
}

fn stored(key: KeyId, row: &Row<'_>) -> rusqlite::Result<StoredKey> {
    let state = state(row, 0)?;
    let body = match state {
        KeyState::Tombstone => None,
        KeyState::Pending | KeyState::Active => Some(StoredBody {
            epoch: Epoch::new(row.get(3)?),
            manifest: row.get(4)?,
            record: row.get(5)?,
            access: StoredAccess { list: row.get(6)?, mac: row.get(7)? },
        }),
    };
    Ok(StoredKey { key, state, registrant: row.get(1)?, manifest_digest: row.get(2)?, body })
}

const fn code(state: KeyState) -> i64 {
    match state {
        KeyState::Pending => 0,
        KeyState::Active => 1,
        KeyState::Tombstone => 2,
    }
}

fn state(row: &Row<'_>, column: usize) -> rusqlite::Result<KeyState> {
    match row.get::<_, i64>(column)? {
        0 => Ok(KeyState::Pending),
        1 => Ok(KeyState::Active),
        2 => Ok(KeyState::Tombstone),
        other => Err(rusqlite::Error::IntegralValueOutOfRange(column, other)),
    }
}

fn seconds(at: u64) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

fn connection(file: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connect = || {
        let connection = Connection::open_with_flags(file, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        connection.pragma_update(None, "secure_delete", "ON")?;
        connection.pragma_update(None, "trusted_schema", "OFF")?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(connection)
    };
    connect().map_err(|source| failed(file, source))
}

fn failed(file: &Path, source: rusqlite::Error) -> StoreError {
    StoreError::Database { database: file.display().to_string(), source }
}

fn setup(file: &Path, reason: String) -> StoreError {
    StoreError::Setup { database: file.display().to_string(), reason }
}
