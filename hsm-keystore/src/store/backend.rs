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

/// Opens the store of a node for officers who change it while the node may serve: it is not migrated.
///
/// # Errors
/// [`StoreError`], also when it is of an older schema.
pub fn open_current(config: &StoreConfig) -> Result<Arc<dyn ShareStore>, StoreError> {
    let older = |schema: u32| {
        let reason = format!("has schema version {schema}; start the node with this release once, which migrates it");
        StoreError::Setup { database: config.to_string(), reason }
    };
    match config {
        StoreConfig::Sqlite(file) => match SqliteStore::open_as_it_is(file)?.schema()? {
            SCHEMA => Ok(Arc::new(SqliteStore::open(file)?)),
            schema => Err(older(schema)),
        },
        StoreConfig::Postgres(postgres) => {
            let store = PostgresStore::open_as_it_is(postgres)?;
            match store.schema()? {
                SCHEMA => Ok(Arc::new(store)),
                schema => Err(older(schema)),
            }
        }
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
