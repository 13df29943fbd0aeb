//! Names of keys in the SQLite file.

use eds_core::{api::name::KeyName, ids::KeyId};
use rusqlite::{Connection, OptionalExtension, params};

use super::{SqliteStore, statements};
use crate::store::{NameStore, NewKey, StoreError, StoredName};

impl NameStore for SqliteStore {
    fn named(&self, names: &[KeyName]) -> Result<Vec<Option<StoredName>>, StoreError> {
        self.reading(|reader| names.iter().map(|name| key_of(reader, name)).collect())
    }
}

fn key_of(connection: &Connection, name: &KeyName) -> rusqlite::Result<Option<StoredName>> {
    let mut select = connection.prepare_cached(statements::NAME)?;
    let stored = |row: &rusqlite::Row<'_>| Ok(StoredName { key: KeyId::from_bytes(row.get(0)?), mac: row.get(1)? });
    select.query_row([name.as_str().as_bytes()], stored).optional()
}

/// The first of these keys whose name is another's.
pub(super) fn taken(transaction: &Connection, keys: &[NewKey]) -> rusqlite::Result<Option<KeyId>> {
    for new in keys {
        if let Some(name) = &new.name
            && key_of(transaction, &name.name)?.is_some()
        {
            return Ok(Some(new.key));
        }
    }
    Ok(None)
}

/// Stores the names of new keys.
pub(super) fn give(transaction: &Connection, keys: &[NewKey]) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(statements::INSERT_NAME)?;
    for new in keys {
        if let Some(name) = &new.name {
            insert.execute(params![name.name.as_str().as_bytes(), new.key.as_bytes(), name.mac])?;
        }
    }
    Ok(())
}

/// Wipes the name of a key that is deleted.
pub(super) fn free(transaction: &Connection, key: &KeyId) -> rusqlite::Result<()> {
    transaction.prepare_cached(statements::FREE_NAME)?.execute([key.as_bytes()]).map(drop)
}
