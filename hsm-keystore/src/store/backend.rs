//! The store that a configuration names: SQLite or PostgreSQL.

use std::{fs, sync::Arc};

use crate::{
    config::StoreConfig,
    store::{Origin, SCHEMA, ShareStore, StoreError, postgres::PostgresStore, sqlite::SqliteStore},
};

/// Makes the store of a new node.
///
/// # Errors
/// [`StoreError`], also when there is one.
pub fn create(config: &StoreConfig, origin: &Origin) -> Result<(), StoreError> {
    match config {
        StoreConfig::Sqlite(file) => SqliteStore::create(file, origin).map(drop),
        StoreConfig::Postgres(postgres) => PostgresStore::create(postgres, origin).map(drop),
    }
}

/// Whether there is a store.
///
/// # Errors
/// [`StoreError`] when that cannot be known.
pub fn exists(config: &StoreConfig) -> Result<bool, StoreError> {
    match config {
        StoreConfig::Sqlite(file) => Ok(file.symlink_metadata().is_ok()),
        StoreConfig::Postgres(postgres) => PostgresStore::exists(postgres),
    }
}

/// Takes back a store that was just made, because the rest of the node could not be. Best effort.
pub fn discard(config: &StoreConfig) {
    match config {
        StoreConfig::Sqlite(file) => drop(fs::remove_file(file)),
        StoreConfig::Postgres(postgres) => drop(PostgresStore::remove(postgres)),
    }
}

/// Opens the store of a node, and says what it is. One of an older schema is migrated; `only_look` leaves it as it is.
///
/// # Errors
/// [`StoreError`].
pub fn open(config: &StoreConfig, only_look: bool) -> Result<(Arc<dyn ShareStore>, String), StoreError> {
    let (store, schema): (Arc<dyn ShareStore>, u32) = match config {
        StoreConfig::Sqlite(file) => {
            let store = if only_look { SqliteStore::open_as_it_is(file)? } else { SqliteStore::open(file)? };
            let schema = store.schema()?;
            (Arc::new(store), schema)
        }
        StoreConfig::Postgres(postgres) => {
            let open = if only_look { PostgresStore::open_as_it_is } else { PostgresStore::open };
            let store = open(postgres)?;
            let schema = store.schema()?;
            (Arc::new(store), schema)
        }
    };
    let later = if schema < SCHEMA { format!("; `serve` migrates it to {SCHEMA}") } else { String::new() };
    Ok((store, format!("{config}, schema {schema}{later}")))
}
