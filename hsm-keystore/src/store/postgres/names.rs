//! Names of keys on PostgreSQL.

use std::collections::{BTreeSet, HashMap};

use eds_core::{api::name::KeyName, ids::KeyId};

use super::{
    PostgresStore,
    call::{Call, End},
    ids,
    rows::Bytes,
    statements,
};
use crate::store::{NameStore, NewKey, StoreError, StoredName};

impl NameStore for PostgresStore {
    fn named(&self, names: &[KeyName]) -> Result<Vec<Option<StoredName>>, StoreError> {
        self.call(|call| {
            let found = call.named(names.iter())?;
            Ok(End::Undo(names.iter().map(|name| found.get(name.as_str().as_bytes()).cloned()).collect()))
        })
    }
}

impl Call<'_> {
    fn named<'n>(
        &mut self,
        names: impl Iterator<Item = &'n KeyName>,
    ) -> Result<HashMap<Vec<u8>, StoredName>, postgres::Error> {
        let names: Vec<&[u8]> = names.map(|name| name.as_str().as_bytes()).collect();
        let rows = self.query(statements::NAMES, &[&names])?;
        let stored = |row: &postgres::Row| {
            let key = KeyId::from_bytes(row.try_get::<_, Bytes<16>>(1)?.0);
            Ok((row.try_get(0)?, StoredName { key, mac: row.try_get(2)? }))
        };
        rows.iter().map(stored).collect()
    }

    /// Stores the names of new keys; the first key whose name is another's, if there is one.
    pub(super) fn give_names(&mut self, keys: &[NewKey]) -> Result<Option<KeyId>, postgres::Error> {
        let mut named: Vec<_> = keys.iter().filter_map(|new| Some((new.name.as_ref()?, new.key))).collect();
        if named.is_empty() {
            return Ok(None);
        }
        // In one order, so that two of these wait for each other in one order.
        named.sort_unstable_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        let names: Vec<&[u8]> = named.iter().map(|(new, _)| new.name.as_str().as_bytes()).collect();
        let of: Vec<&[u8]> = named.iter().map(|(_, key)| key.as_bytes().as_slice()).collect();
        let macs: Vec<&[u8]> = named.iter().map(|(new, _)| new.mac.as_slice()).collect();
        if self.execute(statements::INSERT_NAMES, &[&names, &of, &macs])? == named.len() as u64 {
            return Ok(None);
        }
        let found = self.named(named.iter().map(|(new, _)| &new.name))?;
        let others =
            |key: &KeyId, name: &KeyName| found.get(name.as_str().as_bytes()).is_some_and(|stored| stored.key != *key);
        let taken = named.iter().find(|(new, key)| others(key, &new.name));
        // A name that was freed meanwhile was another's when it was to be stored.
        Ok(taken.or(named.first()).map(|(_, key)| *key))
    }

    /// Wipes the names of keys that are deleted.
    pub(super) fn free_names(&mut self, keys: &BTreeSet<KeyId>) -> Result<(), postgres::Error> {
        self.execute(statements::FREE_NAMES, &[&ids(keys)]).map(drop)
    }
}
