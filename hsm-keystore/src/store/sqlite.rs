//! A [`ShareStore`] in one SQLite file, for one server process.
//!
//! Write-ahead log with `synchronous = FULL`: a commit is on the disk before the call returns. One connection writes, for
//! all callers that wait together (`commit`); a few read beside it. `secure_delete` overwrites what is wiped. The file is
//! made with mode 0600; a file of another program, or of a newer schema, is refused, one of an older schema is migrated.

mod commit;
pub(super) mod copy;
mod devices;
mod names;
pub(super) mod schema;
pub(super) mod statements;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use eds_core::{
    api::KeyState,
    ids::{Epoch, KeyId, NodeId},
};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, named_params, params};

use self::commit::Writer;
use crate::store::{
    AccessChange, Changed, Counts, Kek, KekChanged, KekId, KekState, Listed, NewKey, Origin, Place, Registered,
    RegistrantDigest, Registration, Replacement, ShareStore, StoreError, StoredAccess, StoredBody, StoredKey,
    all_wrapped_by, kek_of, kek_of_canary,
    life::{may_alter, may_move, may_retire},
    now,
};

/// How long a call waits for another process (a backup) to let go of the database.
const BUSY: Duration = Duration::from_secs(5);

/// How many connections for reading are kept with what they have read of the file; more are made when they are needed.
const IDLE_READERS: usize = 8;

/// One SQLite file.
pub struct SqliteStore {
    file: PathBuf,
    writer: Writer,
    /// Connections that are not in use.
    readers: Mutex<Vec<Connection>>,
}

impl SqliteStore {
    /// Makes a new database file, which must not exist: whole or not at all.
    ///
    /// # Errors
    /// [`StoreError::Setup`] when the file exists or its directory does not, [`StoreError::Database`].
    pub fn create(file: &Path, origin: &Origin) -> Result<Self, StoreError> {
        let kek = kek_of_canary(&origin.canary).map_err(|reason| setup(file, reason))?;
        copy::publish(file, |draft| {
            let make = || {
                let mut connection = raw_connection(draft)?;
                let in_database = |source| failed(file, source);
                let transaction = connection.transaction().map_err(in_database)?;
                let (node, canary, policy) = (origin.node.as_bytes(), &origin.canary, &origin.policy_canary);
                schema::create(&transaction)
                    .and_then(|()| transaction.execute(statements::INSERT_ORIGIN, params![node, canary, policy]))
                    .and_then(|_| transaction.execute(statements::INSERT_KEK, params![kek, canary, bounded(now())]))
                    .and_then(|_| transaction.commit())
                    .map_err(in_database)
            };
            make()
        })?;
        Self::open(file)
    }

    /// Opens a database file that [`SqliteStore::create`] made. One of an older schema is migrated, in one transaction,
    /// after a copy of it was put beside it.
    ///
    /// # Errors
    /// [`StoreError::Setup`] when there is no such file, or it is not such a database or of a newer schema version;
    /// [`StoreError::Database`].
    pub fn open(file: &Path) -> Result<Self, StoreError> {
        schema::migrate(file, &mut existing(file)?)?;
        let writer = Writer::new(connection(file)?);
        Ok(Self { file: file.to_owned(), writer, readers: Mutex::default() })
    }

    /// Opens a database file for a look: one of an older schema is left as it is. Only [`ShareStore::origin`] and
    /// [`ShareStore::ping`] are sure to work then.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn open_as_it_is(file: &Path) -> Result<Self, StoreError> {
        let connection = existing(file)?;
        schema::version(&connection).map_err(|reason| setup(file, reason))?;
        Ok(Self { file: file.to_owned(), writer: Writer::new(connection), readers: Mutex::default() })
    }

    /// The schema version of the file.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn schema(&self) -> Result<u32, StoreError> {
        self.reading(|reader| reader.pragma_query_value(None, "user_version", |row| row.get(0)))
    }

    fn reading<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => connection(&self.file)?,
        };
        let result = read(&reader).map_err(|source| failed(&self.file, source))?;
        let mut idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_READERS {
            idle.push(reader);
        }
        Ok(result)
    }

    /// Runs `write` in a transaction, which is durable when this returns.
    fn writing<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.write(write).map_err(|source| failed_shared(&self.file, source))
    }

    fn change(&self, keys: &[KeyId], by: &RegistrantDigest, to: KeyState, at: u64) -> Result<Vec<Changed>, StoreError> {
        let (keys, by) = (keys.to_vec(), *by);
        self.writing(move |transaction| {
            let mut current = transaction.prepare_cached(statements::STATE_AND_REGISTRANT)?;
            let mut set = transaction.prepare_cached(statements::SET_STATE)?;
            let mut move_one = |key: &KeyId| {
                let found = current
                    .query_row([key.as_bytes()], |row| Ok((state(row, 0)?, row.get::<_, [u8; 32]>(1)?)))
                    .optional()?;
                if let Err(answer) = may_move(found, &by, to) {
                    return Ok(answer);
                }
                match to {
                    KeyState::Tombstone => bury(transaction, key, at)?,
                    _ => drop(set.execute(params![key.as_bytes(), code(to), bounded(at)])?),
                }
                Ok(Changed::Done(to))
            };
            keys.iter().map(&mut move_one).collect()
        })
    }

    /// Alters keys that are still as the caller saw them. `same` selects the state, and whether that is so.
    fn alter<T: Send + 'static>(
        &self,
        changes: Vec<T>,
        same: &'static str,
        seen: impl Fn(&T) -> (KeyId, Vec<&[u8]>) + Send + 'static,
        alter: impl Fn(&Connection, &T) -> rusqlite::Result<()> + Send + 'static,
        to: Option<KeyState>,
    ) -> Result<Vec<Changed>, StoreError> {
        self.writing(move |transaction| alter_all(transaction, &changes, same, seen, alter, to))
    }
}

fn alter_all<T>(
    transaction: &Connection,
    changes: &[T],
    same: &str,
    seen: impl Fn(&T) -> (KeyId, Vec<&[u8]>),
    alter: impl Fn(&Connection, &T) -> rusqlite::Result<()>,
    to: Option<KeyState>,
) -> rusqlite::Result<Vec<Changed>> {
    let mut current = transaction.prepare_cached(same)?;
    let mut alter_one = |change: &T| {
        let (key, seen) = seen(change);
        let parameters = std::iter::once(key.as_bytes().as_slice()).chain(seen);
        let found = current
            .query_row(rusqlite::params_from_iter(parameters), |row| {
                // What was wiped equals nothing that was seen.
                Ok((state(row, 0)?, row.get(1)?))
            })
            .optional()?;
        match may_alter(found.map(|(state, _)| state), found.is_some_and(|(_, same)| same)) {
            Err(answer) => Ok(answer),
            Ok(state) => alter(transaction, change).map(|()| Changed::Done(to.unwrap_or(state))),
        }
    };
    changes.iter().map(&mut alter_one).collect()
}

fn active_kek(transaction: &Connection) -> rusqlite::Result<Option<KekId>> {
    transaction.prepare_cached(statements::ACTIVE_KEK)?.query_row([], |row| row.get(0)).optional()
}

fn kek_state(transaction: &Connection, kek: &KekId) -> rusqlite::Result<Option<KekState>> {
    transaction.prepare_cached(statements::KEK_STATE)?.query_row([kek], |row| coded_kek_state(row, 0)).optional()
}

fn coded_kek_state(row: &Row<'_>, column: usize) -> rusqlite::Result<KekState> {
    let code = row.get(column)?;
    KekState::of_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, code))
}

fn count_wrapped_by(connection: &Connection, kek: &KekId) -> rusqlite::Result<u64> {
    connection.query_row(statements::COUNT_WRAPPED_BY, [kek], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

impl ShareStore for SqliteStore {
    fn origin(&self) -> Result<Origin, StoreError> {
        self.reading(read_origin)
    }

    fn register(&self, registration: &Registration, keys: &[NewKey]) -> Result<Registered, StoreError> {
        let (registration, keys) = (registration.clone(), keys.to_vec());
        self.writing(move |transaction| {
            let before = transaction
                .prepare_cached(statements::REGISTRATION)?
                .query_row(params![registration.registrant, registration.id], |row| row.get::<_, [u8; 32]>(0))
                .optional()?;
            let mut current = transaction.prepare_cached(statements::STATE)?;
            match before {
                Some(content) if content != registration.content => return Ok(Registered::IdTaken),
                Some(_) => {
                    let states = keys.iter().map(|new| current.query_row([new.key.as_bytes()], |row| state(row, 0)));
                    return Ok(Registered::Before(states.collect::<Result<_, _>>()?));
                }
                None => {}
            }
            for new in &keys {
                match current.query_row([new.key.as_bytes()], |row| state(row, 0)).optional()? {
                    Some(KeyState::Tombstone) => return Ok(Registered::KeyDeleted(new.key)),
                    Some(_) => return Ok(Registered::KeyExists(new.key)),
                    None => {}
                }
            }
            let used = registration.counter.map(|counter| devices::key_of(transaction, &counter));
            if let Some(key) = used.transpose()?.flatten() {
                return Ok(Registered::CounterUsed(key));
            }
            if let Some(key) = names::taken(transaction, &keys)? {
                return Ok(Registered::NameTaken(key));
            }
            if !all_wrapped_by(active_kek(transaction)?, keys.iter().map(|new| new.record.as_slice())) {
                return Ok(Registered::OtherKek);
            }
            insert(transaction, &registration, &keys)?;
            if let Some((counter, new)) = registration.counter.zip(keys.first()) {
                devices::use_up(transaction, &counter, new.key)?;
            }
            Ok(Registered::Stored)
        })
    }

    fn read(&self, keys: &[KeyId]) -> Result<Vec<Option<StoredKey>>, StoreError> {
        self.reading(|reader| {
            // One snapshot for the whole batch; one statement is one by itself.
            let snapshot = if keys.len() > 1 { Some(reader.unchecked_transaction()?) } else { None };
            let mut select = snapshot.as_deref().unwrap_or(reader).prepare_cached(statements::KEY)?;
            keys.iter().map(|key| select.query_row([key.as_bytes()], |row| stored(*key, row)).optional()).collect()
        })
    }

    fn confirm(&self, keys: &[KeyId], by: &RegistrantDigest, at: u64) -> Result<Vec<Changed>, StoreError> {
        self.change(keys, by, KeyState::Active, at)
    }

    fn withdraw(&self, keys: &[KeyId], by: &RegistrantDigest, at: u64) -> Result<Vec<Changed>, StoreError> {
        self.change(keys, by, KeyState::Tombstone, at)
    }

    fn page(&self, after: Option<KeyId>, most: usize) -> Result<Vec<Listed>, StoreError> {
        // Every id is longer than the empty string, and so comes after it.
        let after: &[u8] = after.as_ref().map_or(&[], |key| key.as_bytes());
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.reading(|reader| {
            let mut select = reader.prepare_cached(statements::PAGE)?;
            let listed = select.query_map(params![after, most], |row| {
                Ok(Listed {
                    key: KeyId::from_bytes(row.get(0)?),
                    state: state(row, 1)?,
                    registrant: row.get(2)?,
                    access: row
                        .get::<_, Option<Vec<u8>>>(3)?
                        .zip(row.get::<_, Option<Vec<u8>>>(4)?)
                        .map(|(list, mac)| StoredAccess { list, mac }),
                })
            })?;
            listed.collect()
        })
    }

    fn delete(&self, keys: &[(KeyId, StoredAccess)], at: u64) -> Result<Vec<Changed>, StoreError> {
        self.alter(
            keys.to_vec(),
            statements::STATE_AND_ACCESS,
            |(key, seen)| (*key, vec![&seen.list, &seen.mac]),
            move |transaction, (key, _)| bury(transaction, key, at),
            Some(KeyState::Tombstone),
        )
    }

    fn change_access(&self, changes: &[AccessChange], at: u64) -> Result<Vec<Changed>, StoreError> {
        self.alter(
            changes.to_vec(),
            statements::STATE_AND_ACCESS,
            |change| (change.key, vec![&change.seen.list, &change.seen.mac]),
            move |transaction, AccessChange { key, new, .. }| {
                let mut set = transaction.prepare_cached(statements::SET_ACCESS)?;
                set.execute(params![key.as_bytes(), new.list, new.mac, bounded(at)]).map(drop)
            },
            None,
        )
    }

    fn replace(&self, replacements: &[Replacement], at: u64) -> Result<Vec<Changed>, StoreError> {
        let replacements = replacements.to_vec();
        self.writing(move |transaction| {
            if !all_wrapped_by(active_kek(transaction)?, replacements.iter().map(|new| new.record.as_slice())) {
                return Ok(vec![Changed::OtherKek; replacements.len()]);
            }
            alter_all(
                transaction,
                &replacements,
                statements::STATE_AND_RECORD,
                |new| (new.key, vec![&new.seen]),
                |transaction, Replacement { key, epoch, manifest, manifest_digest, record, .. }| {
                    let mut set = transaction.prepare_cached(statements::SET_RECORD)?;
                    let values = params![key.as_bytes(), epoch.value(), manifest, manifest_digest, record, bounded(at)];
                    set.execute(values).map(drop)
                },
                None,
            )
        })
    }

    fn wrapped_by(&self, kek: &KekId, after: Option<&Place>, limit: usize) -> Result<Vec<Place>, StoreError> {
        // Empty blobs come before every other.
        let (data_key, key) = after.map_or((&[][..], &[][..]), |after| (&after.data_key, after.key.as_bytes()));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.reading(|reader| {
            let mut select = reader.prepare_cached(statements::WRAPPED_BY)?;
            let place = |row: &Row<'_>| Ok(Place { data_key: row.get(0)?, key: KeyId::from_bytes(row.get(1)?) });
            select.query_map(params![kek, data_key, key, limit], place)?.collect()
        })
    }

    fn count_wrapped_by(&self, kek: &KekId) -> Result<u64, StoreError> {
        self.reading(|reader| count_wrapped_by(reader, kek))
    }

    fn keks(&self) -> Result<Vec<Kek>, StoreError> {
        self.reading(read_keks)
    }

    fn begin_kek(&self, canary: &[u8], at: u64) -> Result<KekChanged, StoreError> {
        let (canary, Some(id)) = (canary.to_vec(), kek_of(canary)) else { return Ok(KekChanged::Missing) };
        self.writing(move |transaction| {
            if let Some(state) = kek_state(transaction, &id)? {
                return Ok(KekChanged::Refused(state));
            }
            transaction.execute(statements::END_KEK, [bounded(at)])?;
            transaction.execute(statements::INSERT_KEK, params![id, canary, bounded(at)])?;
            transaction.execute(statements::SET_CANARY, [canary])?;
            Ok(KekChanged::Done)
        })
    }

    fn retire_kek(&self, kek: &KekId, at: u64) -> Result<KekChanged, StoreError> {
        let kek = *kek;
        self.writing(move |transaction| {
            let Some(state) = kek_state(transaction, &kek)? else { return Ok(KekChanged::Missing) };
            if let Some(answer) = may_retire(state, || count_wrapped_by(transaction, &kek))? {
                return Ok(answer);
            }
            transaction.execute(statements::RETIRE_KEK, params![kek, bounded(at)])?;
            Ok(KekChanged::Done)
        })
    }

    fn reserve_uses(&self, kek: &KekId, uses: u64, most: u64) -> Result<Option<u64>, StoreError> {
        let (kek, uses, most) = (*kek, bounded(uses), bounded(most));
        self.writing(move |transaction| {
            let mut reserve = transaction.prepare_cached(statements::RESERVE_USES)?;
            reserve.query_row(params![kek, uses, most], |row| row.get::<_, i64>(0)).optional()
        })
        .map(|then| then.map(i64::unsigned_abs))
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        self.reading(|reader| {
            let mut select = reader.prepare_cached(statements::COUNTS)?;
            let counted = select.query_map([], |row| Ok((state(row, 0)?, row.get(1)?)))?;
            Ok(Counts::of(counted.collect::<rusqlite::Result<Vec<_>>>()?))
        })
    }

    fn ping(&self) -> Result<(), StoreError> {
        self.reading(|reader| reader.query_row(statements::PING, [], |_| Ok(())))
    }
}

pub(super) fn read_origin(reader: &Connection) -> rusqlite::Result<Origin> {
    reader.query_row(statements::ORIGIN, [], |row| {
        Ok(Origin { node: NodeId::from_bytes(row.get(0)?), canary: row.get(1)?, policy_canary: row.get(2)? })
    })
}

/// Every KEK, in the order in which they were made.
pub(super) fn read_keks(reader: &Connection) -> rusqlite::Result<Vec<Kek>> {
    let kek = |row: &Row<'_>| {
        Ok(Kek {
            id: row.get(0)?,
            state: coded_kek_state(row, 1)?,
            uses: row.get::<_, i64>(2)?.unsigned_abs(),
            canary: row.get(3)?,
            since: row.get::<_, i64>(4)?.unsigned_abs(),
        })
    };
    reader.prepare_cached(statements::KEKS)?.query_map([], kek)?.collect()
}

fn insert(transaction: &Connection, registration: &Registration, keys: &[NewKey]) -> rusqlite::Result<()> {
    let Registration { registrant, id, content, at, counter: _ } = registration;
    let mut insert = transaction.prepare_cached(statements::INSERT_REGISTRATION)?;
    let number = insert.insert(params![registrant, id, content, bounded(*at)])?;
    let mut insert = transaction.prepare_cached(statements::INSERT_KEY)?;
    for new in keys {
        insert.execute(named_params! {
            ":id": new.key.as_bytes(),
            ":state": code(KeyState::Pending),
            ":registration": number,
            ":registrant": registrant,
            ":manifest_digest": new.manifest_digest,
            ":epoch": new.epoch.value(),
            ":manifest": new.manifest,
            ":record": new.record,
            ":access": new.access.list,
            ":access_mac": new.access.mac,
            ":changed": bounded(*at),
        })?;
    }
    names::give(transaction, keys)
}

/// Turns a key into a tombstone.
fn bury(transaction: &Connection, key: &KeyId, at: u64) -> rusqlite::Result<()> {
    names::free(transaction, key)?;
    transaction
        .prepare_cached(statements::BURY)?
        .execute(params![key.as_bytes(), code(KeyState::Tombstone), bounded(at)])
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

/// A count or a time as the database has it.
fn bounded(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn connection(file: &Path) -> Result<Connection, StoreError> {
    let connection = raw_connection(file)?;
    let configure = || {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        connection.pragma_update(None, "secure_delete", "ON")?;
        // Room for the inner pages of some ten millions of keys, so that a look-up reads its leaves and nothing else.
        connection.pragma_update(None, "cache_size", -16 * 1024)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(())
    };
    configure().map_err(|source| failed(file, source))?;
    Ok(connection)
}

/// A connection that changes nothing by being made.
pub(super) fn raw_connection(file: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connect = || {
        let connection = Connection::open_with_flags(file, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "trusted_schema", "OFF")?;
        Ok(connection)
    };
    connect().map_err(|source| failed(file, source))
}

/// A connection to a file that exists.
pub(super) fn existing(file: &Path) -> Result<Connection, StoreError> {
    if !file.exists() {
        return Err(setup(file, "does not exist; `eds-keystored init` makes it".into()));
    }
    raw_connection(file)
}

pub(super) fn failed(file: &Path, source: rusqlite::Error) -> StoreError {
    failed_shared(file, Arc::new(source))
}

fn failed_shared(file: &Path, source: Arc<rusqlite::Error>) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    let may_pass = matches!(source.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked));
    StoreError::Database { database: file.display().to_string(), may_pass, source }
}

pub(super) fn setup(file: &Path, reason: String) -> StoreError {
    StoreError::Setup { database: file.display().to_string(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_statement_reads_a_table_from_end_to_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("keys.db");
        let origin = Origin { node: NodeId::from_bytes([1; 16]), canary: vec![1; 40], policy_canary: vec![2] };
        drop(SqliteStore::create(&file, &origin).expect("made"));
        let connection = connection(&file).expect("opens");
        let plan = |sql: &str| -> Vec<String> {
            let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect(sql);
            let unknown = vec![rusqlite::types::Null; explain.parameter_count()];
            let lines = explain.query_map(rusqlite::params_from_iter(unknown), |row| row.get("detail")).expect(sql);
            lines.collect::<Result<_, _>>().expect(sql)
        };
        let reads_all = |line: &String| line.contains("SCAN") || line.contains("TEMP B-TREE");
        for sql in statements::ALL {
            // The table `origin` has one row.
            let read = plan(sql).into_iter().filter(|line| reads_all(line) && !line.contains("SCAN origin"));
            assert_eq!(read.collect::<Vec<_>>(), Vec::<String>::new(), "{sql}");
        }
        assert!(plan("SELECT id FROM keys WHERE changed = 1").iter().any(reads_all), "the test looks for other words");
    }
}
