//! One transaction of the store: rows locked, read and written by prepared statements.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use eds_core::{api::KeyState, ids::KeyId};
use postgres::{Row, Transaction, types::ToSql};

use super::{
    bounded, code, ids,
    rows::{Bytes, Code, KekCode, access},
    statements,
};
use crate::store::{
    Changed, KekId, KekState, NewKey, Registered, RegistrantDigest, Registration, StoredAccess, life::may_alter,
};

/// A transaction of a call.
pub(super) struct Call<'a> {
    pub(super) transaction: Transaction<'a>,
    pub(super) statements: &'a mut HashMap<&'static str, postgres::Statement>,
}

/// What a call did, and whether that is to last.
pub(super) enum End<T> {
    Keep(T),
    Undo(T),
}

/// A row that is locked by this transaction.
pub(super) struct Locked {
    pub(super) state: KeyState,
    pub(super) registrant: RegistrantDigest,
    pub(super) access: Option<StoredAccess>,
    pub(super) record: Option<Vec<u8>>,
}

impl Call<'_> {
    pub(super) fn alter<T>(
        &mut self,
        changes: &[T],
        key: impl Fn(&T) -> KeyId,
        as_seen: impl Fn(&T, &Locked) -> bool,
        alter: impl Fn(&T, &mut Locked),
        write: impl Fn(&mut Call<'_>, &BTreeMap<KeyId, &T>) -> Result<(), postgres::Error>,
    ) -> Result<Vec<Changed>, postgres::Error> {
        let mut locked = self.lock(changes.iter().map(&key))?;
        let mut last = BTreeMap::new();
        let mut answers = Vec::with_capacity(changes.len());
        for change in changes {
            let found = locked.get_mut(&key(change));
            let same = found.as_ref().is_some_and(|found| as_seen(change, found));
            answers.push(match (may_alter(found.as_ref().map(|found| found.state), same), found) {
                (Ok(_), Some(found)) => {
                    alter(change, found);
                    last.insert(key(change), change);
                    Changed::Done(found.state)
                }
                (Err(answer), _) => answer,
                (Ok(_), None) => Changed::Missing,
            });
        }
        if !last.is_empty() {
            write(self, &last)?;
        }
        Ok(answers)
    }

    /// The active KEK, which stays that until this transaction ends.
    pub(super) fn held_kek(&mut self) -> Result<Option<KekId>, postgres::Error> {
        self.query(statements::HOLD_KEKS, &[])?;
        self.query(statements::ACTIVE_KEK, &[])?.first().map(|row| Ok(row.try_get::<_, Bytes<16>>(0)?.0)).transpose()
    }

    pub(super) fn kek_state(&mut self, kek: &KekId) -> Result<Option<KekState>, postgres::Error> {
        let rows = self.query(statements::KEK_STATE, &[&kek.as_slice()])?;
        rows.first().map(|row| Ok(row.try_get::<_, KekCode>(0)?.0)).transpose()
    }

    pub(super) fn count_wrapped_by(&mut self, kek: &KekId) -> Result<u64, postgres::Error> {
        let rows = self.query(statements::COUNT_WRAPPED_BY, &[&kek.as_slice()])?;
        let count = rows.first().map(|row| row.try_get::<_, i64>(0)).transpose()?;
        Ok(count.unwrap_or(0).unsigned_abs())
    }

    fn prepared(&mut self, sql: &'static str) -> Result<postgres::Statement, postgres::Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.transaction.prepare(sql)?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    pub(super) fn query(
        &mut self,
        sql: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, postgres::Error> {
        let statement = self.prepared(sql)?;
        self.transaction.query(&statement, values)
    }

    pub(super) fn execute(
        &mut self,
        sql: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, postgres::Error> {
        let statement = self.prepared(sql)?;
        self.transaction.execute(&statement, values)
    }

    pub(super) fn lock(
        &mut self,
        keys: impl Iterator<Item = KeyId>,
    ) -> Result<HashMap<KeyId, Locked>, postgres::Error> {
        let keys: BTreeSet<KeyId> = keys.collect();
        self.query(statements::LOCK, &[&ids(&keys)])?
            .iter()
            .map(|row| {
                let locked = Locked {
                    state: row.try_get::<_, Code>(1)?.0,
                    registrant: row.try_get::<_, Bytes<32>>(2)?.0,
                    access: access(row, 3)?,
                    record: row.try_get(5)?,
                };
                Ok((KeyId::from_bytes(row.try_get::<_, Bytes<16>>(0)?.0), locked))
            })
            .collect()
    }

    pub(super) fn set_state(
        &mut self,
        statement: &'static str,
        keys: &BTreeSet<KeyId>,
        to: KeyState,
        at: u64,
    ) -> Result<(), postgres::Error> {
        if keys.is_empty() {
            return Ok(());
        }
        if to == KeyState::Tombstone {
            self.free_names(keys)?;
        }
        self.execute(statement, &[&ids(keys), &code(to), &bounded(at)]).map(drop)
    }

    pub(super) fn insert(
        &mut self,
        number: i64,
        registration: &Registration,
        keys: &[NewKey],
    ) -> Result<u64, postgres::Error> {
        let mut keys: Vec<&NewKey> = keys.iter().collect();
        keys.sort_unstable_by_key(|new| new.key);
        let column = |of: fn(&NewKey) -> &[u8]| keys.iter().map(|new| of(new)).collect::<Vec<_>>();
        let epochs: Vec<i64> = keys.iter().map(|new| i64::from(new.epoch.value())).collect();
        self.execute(
            statements::INSERT_KEYS,
            &[
                &code(KeyState::Pending),
                &number,
                &registration.registrant.as_slice(),
                &bounded(registration.at),
                &column(|new| new.key.as_bytes()),
                &column(|new| &new.manifest_digest),
                &epochs,
                &column(|new| &new.manifest),
                &column(|new| &new.record),
                &column(|new| &new.access.list),
                &column(|new| &new.access.mac),
            ],
        )
    }

    /// The states of keys, and the registrations that brought them.
    pub(super) fn states(&mut self, keys: &[NewKey]) -> Result<HashMap<KeyId, (KeyState, i64)>, postgres::Error> {
        let ids: Vec<&[u8]> = keys.iter().map(|new| new.key.as_bytes().as_slice()).collect();
        let rows = self.query(statements::STATES, &[&ids])?;
        let state = |row: &Row| {
            let key = KeyId::from_bytes(row.try_get::<_, Bytes<16>>(0)?.0);
            Ok((key, (row.try_get::<_, Code>(1)?.0, row.try_get(2)?)))
        };
        rows.iter().map(state).collect()
    }
}

/// Why a key cannot be stored that exists, from another registration than this one.
pub(super) fn existing(new: &NewKey, found: Option<&(KeyState, i64)>, own: Option<i64>) -> Option<Registered> {
    match found? {
        (_, registration) if Some(*registration) == own => None,
        (KeyState::Tombstone, _) => Some(Registered::KeyDeleted(new.key)),
        _ => Some(Registered::KeyExists(new.key)),
    }
}

/// The answer to records of another KEK; what cannot be stored under any KEK is told first.
pub(super) fn other_kek(call: &mut Call<'_>, keys: &[NewKey]) -> Result<Registered, postgres::Error> {
    let states = call.states(keys)?;
    let refused = keys.iter().find_map(|new| existing(new, states.get(&new.key), None));
    Ok(refused.unwrap_or(Registered::OtherKek))
}
