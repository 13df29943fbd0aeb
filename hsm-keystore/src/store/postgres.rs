//! A [`ShareStore`] on PostgreSQL, for one server process or several of one node.
//!
//! Every call is one transaction, which is durable when the call returns. Rows that are changed are locked first, in the
//! order of their ids, so that two calls decide one after the other and do not wait for each other in a circle; what
//! PostgreSQL ends all the same (a deadlock) is tried again. PostgreSQL keeps deleted rows until its vacuum, and in its
//! log: what is wiped there is wrapped by the token's KEK all the time.

mod call;
mod connect;
pub(super) mod copy;
mod devices;
mod names;
mod rows;
mod schema;
mod statements;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    thread,
    time::Duration,
};

use eds_core::{
    api::KeyState,
    ids::{KeyId, NodeId},
};
use postgres::{
    error::{DbError, SqlState},
    types::ToSql,
};
use r2d2::{ManageConnection, Pool};

use self::{
    call::{Call, End, Locked, existing, other_kek},
    connect::{Manager, PATIENCE, Session},
    rows::{Bytes, kek, listed, stored},
};
use crate::{
    config::PostgresConfig,
    store::{
        AccessChange, Changed, Counts, Kek, KekChanged, KekId, Listed, NewKey, Origin, Place, Registered,
        RegistrantDigest, Registration, Replacement, ShareStore, StoreError, StoredAccess, StoredKey, all_wrapped_by,
        kek_of, kek_of_canary,
        life::{may_move, may_retire},
        now,
    },
};

/// What is wrong with a connection string, and what to do. Nothing of it is told that may be a password.
pub fn wrong_connection(connection: &str) -> Option<(String, &'static str)> {
    connect::parsed(connection).err()
}

/// How often a transaction is tried that PostgreSQL ended for its own reasons.
const TRIES: u32 = 5;

/// The tables of a node in one PostgreSQL database.
pub struct PostgresStore {
    name: String,
    /// Empty only while it is dropped.
    pool: Option<Pool<Manager>>,
}

impl PostgresStore {
    /// Makes the tables of a new node in a database that has none.
    ///
    /// # Errors
    /// [`StoreError::Setup`] when there are some, or the configuration is wrong; [`StoreError::Database`].
    pub fn create(config: &PostgresConfig, origin: &Origin) -> Result<Self, StoreError> {
        let (name, manager) = manager(config)?;
        let kek = kek_of_canary(&origin.canary).map_err(|reason| setup(&name, reason))?;
        let failed = |error| failed(&name, error);
        let mut session = manager.connect().map_err(failed)?;
        durable(&name, &mut session)?;
        let mut transaction = session.client.transaction().map_err(failed)?;
        if !schema::create(&mut transaction).map_err(failed)? {
            return Err(setup(&name, "has the tables of a node already; nothing was changed".into()));
        }
        let (node, canary, policy) = (origin.node.as_bytes().as_slice(), &origin.canary, &origin.policy_canary);
        transaction.execute(statements::INSERT_ORIGIN, &[&node, canary, policy]).map_err(failed)?;
        let made = bounded(now());
        transaction.execute(statements::INSERT_KEK, &[&kek.as_slice(), canary, &made]).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Self::open(config)
    }

    /// Whether the database has tables of a node.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn exists(config: &PostgresConfig) -> Result<bool, StoreError> {
        let (name, manager) = manager(config)?;
        let mut session = manager.connect().map_err(|error| failed(&name, error))?;
        schema::exists(&mut session.client).map_err(|error| failed(&name, error))
    }

    /// Removes the tables that [`PostgresStore::create`] made, when the rest of a node could not be made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remove(config: &PostgresConfig) -> Result<(), StoreError> {
        let (name, manager) = manager(config)?;
        let mut session = manager.connect().map_err(|error| failed(&name, error))?;
        schema::remove(&mut session.client).map_err(|error| failed(&name, error))
    }

    /// Opens the tables of a node. Those of an older schema are migrated, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Setup`] when there are none, they are of a newer schema, the configuration is wrong, or the server
    /// does not write durably; [`StoreError::Database`].
    pub fn open(config: &PostgresConfig) -> Result<Self, StoreError> {
        Self::connect(config, |name, session| {
            schema::migrate(&mut session.client)
                .map_err(|error| failed(name, error))?
                .map_err(|reason| setup(name, reason))
        })
    }

    /// Opens the tables of a node for a look: those of an older schema are left as they are. Only
    /// [`ShareStore::origin`] and [`ShareStore::ping`] are sure to work then.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub fn open_as_it_is(config: &PostgresConfig) -> Result<Self, StoreError> {
        Self::connect(config, |name, session| {
            let version = schema::version(&mut session.client).map_err(|error| failed(name, error))?;
            version.map(drop).map_err(|reason| setup(name, reason))
        })
    }

    fn connect(
        config: &PostgresConfig,
        check: impl FnOnce(&str, &mut Session) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let (name, manager) = manager(config)?;
        // A first connection of its own: its error says more than the pool's.
        let mut session = manager.connect().map_err(|error| failed(&name, error))?;
        durable(&name, &mut session)?;
        check(&name, &mut session)?;
        let pool = Pool::builder()
            .max_size(config.connections)
            .min_idle(Some(1))
            .test_on_check_out(false)
            .idle_timeout(Some(Duration::from_secs(600)))
            .connection_timeout(PATIENCE)
            .error_handler(Box::new(Quiet))
            .build_unchecked(manager);
        Ok(Self { name, pool: Some(pool) })
    }

    /// The schema version of the tables.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn schema(&self) -> Result<u32, StoreError> {
        let version = self.call(|call| schema::version(&mut call.transaction).map(End::Undo))?;
        version.map_err(|reason| setup(&self.name, reason))
    }

    /// Runs `work` in one transaction, which is durable when this returns. `work` may run more than once; what it did
    /// before was undone then.
    fn call<T>(&self, mut work: impl FnMut(&mut Call<'_>) -> Result<End<T>, postgres::Error>) -> Result<T, StoreError> {
        let pool = self.pool.as_ref().ok_or_else(|| setup(&self.name, "is closed".into()))?;
        let mut tries = 0;
        loop {
            tries += 1;
            let mut session = pool.get().map_err(|error| no_connection(&self.name, error))?;
            let Session { client, statements } = &mut *session;
            let begun = client.transaction();
            // A connection that was cut while it was idle shows it here, where nothing was done on it.
            let never_begun = begun.is_err();
            let ended = begun.and_then(|transaction| {
                let mut call = Call { transaction, statements };
                match work(&mut call)? {
                    End::Keep(result) => call.transaction.commit().map(|()| result),
                    End::Undo(result) => call.transaction.rollback().map(|()| result),
                }
            });
            match ended {
                Ok(result) => return Ok(result),
                // After a restart of the server all idle connections are cut.
                Err(_) if never_begun && tries < TRIES + pool.max_size() => {}
                Err(error) if was_undone(&error) && tries < TRIES => {}
                Err(error) => return Err(failed(&self.name, error)),
            }
        }
    }

    fn change(&self, keys: &[KeyId], by: &RegistrantDigest, to: KeyState, at: u64) -> Result<Vec<Changed>, StoreError> {
        self.call(|call| {
            let mut locked = call.lock(keys.iter().copied())?;
            let mut moved = BTreeSet::new();
            let move_one = |key: &KeyId| {
                let found = locked.get_mut(key);
                if let Err(answer) = may_move(found.as_ref().map(|key| (key.state, key.registrant)), by, to) {
                    return answer;
                }
                if let Some(found) = found {
                    found.state = to;
                    moved.insert(*key);
                }
                Changed::Done(to)
            };
            let changed = keys.iter().map(move_one).collect();
            let statement = if to == KeyState::Tombstone { statements::BURY } else { statements::SET_STATE };
            call.set_state(statement, &moved, to, at)?;
            Ok(End::Keep(changed))
        })
    }

    /// Alters keys that are still as the caller saw them: `as_seen` looks, `alter` does it to the row as it is known
    /// here, `write` writes the last change of each key.
    fn alter<T>(
        &self,
        changes: &[T],
        key: impl Fn(&T) -> KeyId,
        as_seen: impl Fn(&T, &Locked) -> bool,
        alter: impl Fn(&T, &mut Locked),
        write: impl Fn(&mut Call<'_>, &BTreeMap<KeyId, &T>) -> Result<(), postgres::Error>,
    ) -> Result<Vec<Changed>, StoreError> {
        self.call(|call| call.alter(changes, &key, &as_seen, &alter, &write).map(End::Keep))
    }
}

impl ShareStore for PostgresStore {
    fn origin(&self) -> Result<Origin, StoreError> {
        self.call(|call| {
            let rows = call.query(statements::ORIGIN, &[])?;
            let Some(row) = rows.first() else { return Ok(End::Undo(None)) };
            let node = NodeId::from_bytes(row.try_get::<_, Bytes<16>>(0)?.0);
            Ok(End::Undo(Some(Origin { node, canary: row.try_get(1)?, policy_canary: row.try_get(2)? })))
        })?
        .ok_or_else(|| setup(&self.name, "does not say which node it is of".into()))
    }

    fn register(&self, registration: &Registration, keys: &[NewKey]) -> Result<Registered, StoreError> {
        let Registration { registrant, id, content, at, counter } = registration;
        let registered = self.call(|call| {
            let name: [&(dyn ToSql + Sync); 2] = [&registrant.as_slice(), &id.as_slice()];
            let row: [&(dyn ToSql + Sync); 4] = [name[0], name[1], &content.as_slice(), &bounded(*at)];
            let Some(number) = call.query(statements::INSERT_REGISTRATION, &row)?.first().map(|row| row.try_get(0))
            else {
                let before = call.query(statements::REGISTRATION, &name)?;
                if before.first().map(|row| row.try_get::<_, Vec<u8>>(0)).transpose()?.as_deref() != Some(content) {
                    return Ok(End::Undo(Some(Registered::IdTaken)));
                }
                let states = call.states(keys)?;
                let state = |new: &NewKey| states.get(&new.key).map(|(state, _)| *state);
                let states: Option<Vec<_>> = keys.iter().map(state).collect();
                return Ok(End::Undo(states.map(Registered::Before)));
            };
            let number = number?;
            // Before any key is locked: a change of KEKs waits for this transaction, and this one for no key then.
            if !all_wrapped_by(call.held_kek()?, keys.iter().map(|new| new.record.as_slice())) {
                return Ok(End::Undo(Some(other_kek(call, keys)?)));
            }
            if call.insert(number, registration, keys)? == keys.len() as u64 {
                let used = counter.zip(keys.first()).map(|(counter, new)| devices::use_up(call, &counter, new.key));
                if let Some(key) = used.transpose()?.flatten() {
                    return Ok(End::Undo(Some(Registered::CounterUsed(key))));
                }
                return Ok(match call.give_names(keys)? {
                    Some(key) => End::Undo(Some(Registered::NameTaken(key))),
                    None => End::Keep(Some(Registered::Stored)),
                });
            }
            let states = call.states(keys)?;
            Ok(End::Undo(keys.iter().find_map(|new| existing(new, states.get(&new.key), Some(number)))))
        })?;
        registered.ok_or_else(|| setup(&self.name, "was asked for a registration with keys that cannot be".into()))
    }

    fn read(&self, keys: &[KeyId]) -> Result<Vec<Option<StoredKey>>, StoreError> {
        self.call(|call| {
            let rows = call.query(statements::READ, &[&ids(keys)])?;
            let found = rows.iter().map(stored).collect::<Result<HashMap<_, _>, _>>()?;
            Ok(End::Undo(keys.iter().map(|key| found.get(key).cloned()).collect()))
        })
    }

    fn confirm(&self, keys: &[KeyId], by: &RegistrantDigest, at: u64) -> Result<Vec<Changed>, StoreError> {
        self.change(keys, by, KeyState::Active, at)
    }

    fn withdraw(&self, keys: &[KeyId], by: &RegistrantDigest, at: u64) -> Result<Vec<Changed>, StoreError> {
        self.change(keys, by, KeyState::Tombstone, at)
    }

    fn page(&self, after: Option<KeyId>, most: usize) -> Result<Vec<Listed>, StoreError> {
        // The empty string comes before every id.
        let after = after.map(|key| key.as_bytes().to_vec()).unwrap_or_default();
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.call(|call| {
            let rows = call.query(statements::PAGE, &[&after, &most])?;
            rows.iter().map(listed).collect::<Result<_, _>>().map(End::Undo)
        })
    }

    fn delete(&self, keys: &[(KeyId, StoredAccess)], at: u64) -> Result<Vec<Changed>, StoreError> {
        self.alter(
            keys,
            |(key, _)| *key,
            |(_, seen), found| found.access.as_ref() == Some(seen),
            |_, found| found.state = KeyState::Tombstone,
            |call, last| call.set_state(statements::BURY, &last.keys().copied().collect(), KeyState::Tombstone, at),
        )
    }

    fn change_access(&self, changes: &[AccessChange], at: u64) -> Result<Vec<Changed>, StoreError> {
        self.alter(
            changes,
            |change| change.key,
            |change, found| found.access.as_ref() == Some(&change.seen),
            |change, found| found.access = Some(change.new.clone()),
            |call, last| {
                let lists: Vec<&[u8]> = last.values().map(|change| change.new.list.as_slice()).collect();
                let macs: Vec<&[u8]> = last.values().map(|change| change.new.mac.as_slice()).collect();
                call.execute(statements::SET_ACCESS, &[&ids(last.keys()), &lists, &macs, &bounded(at)]).map(drop)
            },
        )
    }

    fn replace(&self, replacements: &[Replacement], at: u64) -> Result<Vec<Changed>, StoreError> {
        let write = |call: &mut Call<'_>, last: &BTreeMap<KeyId, &Replacement>| {
            let column = |of: fn(&Replacement) -> &[u8]| last.values().map(|new| of(new)).collect::<Vec<_>>();
            let epochs: Vec<i64> = last.values().map(|new| i64::from(new.epoch.value())).collect();
            let (manifests, digests) = (column(|new| &new.manifest), column(|new| &new.manifest_digest));
            let records = column(|new| &new.record);
            let values: [&(dyn ToSql + Sync); 6] =
                [&ids(last.keys()), &epochs, &manifests, &digests, &records, &bounded(at)];
            call.execute(statements::SET_RECORD, &values).map(drop)
        };
        self.call(|call| {
            if !all_wrapped_by(call.held_kek()?, replacements.iter().map(|new| new.record.as_slice())) {
                return Ok(End::Undo(vec![Changed::OtherKek; replacements.len()]));
            }
            let as_seen = |new: &Replacement, found: &Locked| found.record.as_ref() == Some(&new.seen);
            let alter = |new: &Replacement, found: &mut Locked| found.record = Some(new.record.clone());
            call.alter(replacements, |new| new.key, as_seen, alter, write).map(End::Keep)
        })
    }

    fn wrapped_by(&self, kek: &KekId, after: Option<&Place>, limit: usize) -> Result<Vec<Place>, StoreError> {
        // Empty strings come before every other.
        let (data_key, key) = after.map_or((&[][..], &[][..]), |after| (&after.data_key, after.key.as_bytes()));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.call(|call| {
            let rows = call.query(statements::WRAPPED_BY, &[&kek.as_slice(), &data_key, &key, &limit])?;
            let place = |row: &postgres::Row| {
                Ok(Place { data_key: row.try_get(0)?, key: KeyId::from_bytes(row.try_get::<_, Bytes<16>>(1)?.0) })
            };
            rows.iter().map(place).collect::<Result<_, _>>().map(End::Undo)
        })
    }

    fn count_wrapped_by(&self, kek: &KekId) -> Result<u64, StoreError> {
        self.call(|call| call.count_wrapped_by(kek).map(End::Undo))
    }

    fn keks(&self) -> Result<Vec<Kek>, StoreError> {
        self.call(|call| call.query(statements::KEKS, &[])?.iter().map(kek).collect::<Result<_, _>>().map(End::Undo))
    }

    fn begin_kek(&self, canary: &[u8], at: u64) -> Result<KekChanged, StoreError> {
        let Some(id) = kek_of(canary) else { return Ok(KekChanged::Missing) };
        self.call(|call| {
            call.query(statements::CHANGE_KEKS, &[])?;
            if let Some(state) = call.kek_state(&id)? {
                return Ok(End::Undo(KekChanged::Refused(state)));
            }
            call.execute(statements::END_KEK, &[&bounded(at)])?;
            call.execute(statements::INSERT_KEK, &[&id.as_slice(), &canary, &bounded(at)])?;
            call.execute(statements::SET_CANARY, &[&canary])?;
            Ok(End::Keep(KekChanged::Done))
        })
    }

    fn retire_kek(&self, kek: &KekId, at: u64) -> Result<KekChanged, StoreError> {
        self.call(|call| {
            call.query(statements::CHANGE_KEKS, &[])?;
            let Some(state) = call.kek_state(kek)? else { return Ok(End::Undo(KekChanged::Missing)) };
            if let Some(answer) = may_retire(state, || call.count_wrapped_by(kek))? {
                return Ok(End::Undo(answer));
            }
            call.execute(statements::RETIRE_KEK, &[&kek.as_slice(), &bounded(at)])?;
            Ok(End::Keep(KekChanged::Done))
        })
    }

    fn reserve_uses(&self, kek: &KekId, uses: u64, most: u64) -> Result<Option<u64>, StoreError> {
        self.call(|call| {
            let values: [&(dyn ToSql + Sync); 3] = [&kek.as_slice(), &bounded(uses), &bounded(most)];
            let rows = call.query(statements::RESERVE_USES, &values)?;
            let then = rows.first().map(|row| row.try_get::<_, i64>(0)).transpose()?;
            Ok(End::Keep(then.map(i64::unsigned_abs)))
        })
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        self.call(|call| {
            let rows = call.query(statements::COUNTS, &[])?;
            let counted = rows.iter().map(|row| Ok((row.try_get::<_, rows::Code>(0)?.0, row.try_get(1)?)));
            Ok(End::Undo(Counts::of(counted.collect::<Result<Vec<_>, postgres::Error>>()?)))
        })
    }

    fn ping(&self) -> Result<(), StoreError> {
        self.call(|call| call.query(statements::ORIGIN, &[]).map(|_| End::Undo(())))
    }
}

impl Drop for PostgresStore {
    /// Connections have runtimes of their own, which must not be dropped by a thread of another runtime.
    fn drop(&mut self) {
        let pool = self.pool.take();
        let _ = thread::spawn(move || drop(pool)).join();
    }
}

/// The pool retries a connection that fails; whoever waits for one gets the last error.
#[derive(Debug)]
struct Quiet;

impl r2d2::HandleError<postgres::Error> for Quiet {
    fn handle_error(&self, error: postgres::Error) {
        tracing::debug!(%error, "no connection to PostgreSQL");
    }
}

fn ids<'a>(keys: impl IntoIterator<Item = &'a KeyId>) -> Vec<&'a [u8]> {
    keys.into_iter().map(|key| key.as_bytes().as_slice()).collect()
}

const fn code(state: KeyState) -> i64 {
    match state {
        KeyState::Pending => 0,
        KeyState::Active => 1,
        KeyState::Tombstone => 2,
    }
}

/// A count or a time as the database has it.
fn bounded(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn manager(config: &PostgresConfig) -> Result<(String, Manager), StoreError> {
    let name = config.to_string();
    let manager = Manager::new(config).map_err(|reason| setup(&name, reason))?;
    Ok((name, manager))
}

/// Refuses a server that may lose what it said is stored.
fn durable(name: &str, session: &mut Session) -> Result<(), StoreError> {
    for setting in ["fsync", "full_page_writes"] {
        let row = session.client.query_one("SELECT current_setting($1)", &[&setting]);
        if row.and_then(|row| row.try_get::<_, String>(0)).map_err(|error| failed(name, error))? != "on" {
            return Err(setup(name, format!("loses data in a power cut: set {setting} = on in postgresql.conf")));
        }
    }
    Ok(())
}

/// Whether PostgreSQL undid a transaction for its own reasons.
fn was_undone(error: &postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE))
}

/// Whether the same call may work later: the server restarts, is full of connections, or a lock was held too long.
fn may_pass(error: &postgres::Error) -> bool {
    let passing = |error: &DbError| {
        let class = error.code().code().get(..2).unwrap_or_default();
        ["08", "40", "53", "57"].contains(&class) || *error.code() == SqlState::LOCK_NOT_AVAILABLE
    };
    error.is_closed() || error.as_db_error().map_or_else(|| is_io(error), passing)
}

fn is_io(error: &postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

fn failed(name: &str, source: postgres::Error) -> StoreError {
    StoreError::Database { database: name.to_owned(), may_pass: may_pass(&source), source: Arc::new(source) }
}

fn no_connection(name: &str, source: r2d2::Error) -> StoreError {
    StoreError::Database { database: name.to_owned(), may_pass: true, source: Arc::new(source) }
}

fn setup(name: &str, reason: String) -> StoreError {
    StoreError::Setup { database: name.to_owned(), reason }
}
