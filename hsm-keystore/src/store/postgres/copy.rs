//! Backups of a store on PostgreSQL: the same file as of one on SQLite, so that a node can change from one to the other.

use std::path::Path;

use postgres::{
    IsolationLevel, Row,
    binary_copy::BinaryCopyInWriter,
    fallible_iterator::FallibleIterator,
    types::{ToSql, Type},
};
use r2d2::ManageConnection;
use rusqlite::{Connection, OpenFlags, params_from_iter, types::Value};

use crate::{
    config::PostgresConfig,
    store::{
        SCHEMA, StoreError, USES_AFTER_BACKUP,
        postgres::{failed, manager, schema, setup, statements},
        sqlite::{self, copy::publish},
    },
};

/// A table, and its columns with their types on PostgreSQL.
type Table = (&'static str, &'static [(&'static str, Type)]);

/// What a backup holds, beside the origin. A test compares it with the schema.
pub(super) const TABLES: [Table; 6] = [
    ("devices", &[("id", Type::BYTEA), ("enrolment", Type::BYTEA), ("mac", Type::BYTEA), ("changed", Type::INT8)]),
    ("device_counters", &[("device", Type::BYTEA), ("counter", Type::BYTEA), ("key", Type::BYTEA)]),
    (
        "keks",
        &[
            ("number", Type::INT8),
            ("id", Type::BYTEA),
            ("state", Type::INT8),
            ("uses", Type::INT8),
            ("canary", Type::BYTEA),
            ("since", Type::INT8),
        ],
    ),
    (
        "registrations",
        &[
            ("number", Type::INT8),
            ("registrant", Type::BYTEA),
            ("id", Type::BYTEA),
            ("content", Type::BYTEA),
            ("at", Type::INT8),
        ],
    ),
    (
        "keys",
        &[
            ("id", Type::BYTEA),
            ("state", Type::INT8),
            ("registration", Type::INT8),
            ("registrant", Type::BYTEA),
            ("manifest_digest", Type::BYTEA),
            ("epoch", Type::INT8),
            ("manifest", Type::BYTEA),
            ("record", Type::BYTEA),
            ("access", Type::BYTEA),
            ("access_mac", Type::BYTEA),
            ("changed", Type::INT8),
        ],
    ),
    ("names", &[("name", Type::BYTEA), ("key", Type::BYTEA), ("mac", Type::BYTEA)]),
];

/// Writes the database of one moment to a new file, while others use it.
pub(in crate::store) fn back_up(config: &PostgresConfig, to: &Path) -> Result<(), StoreError> {
    let (name, manager) = manager(config)?;
    let in_database = |error| failed(&name, error);
    let in_file = |error| sqlite::failed(to, error);
    let mut session = manager.connect().map_err(in_database)?;
    let snapshot = session.client.build_transaction().read_only(true).isolation_level(IsolationLevel::RepeatableRead);
    let mut snapshot = snapshot.start().map_err(in_database)?;
    snapshot.batch_execute("SET LOCAL statement_timeout = 0").map_err(in_database)?;
    let version = schema::version(&mut snapshot).map_err(in_database)?.map_err(|reason| setup(&name, reason))?;
    if version != SCHEMA {
        return Err(setup(&name, format!("has schema version {version}; `serve` migrates it, or use pg_dump")));
    }
    let origin = snapshot.query_one(statements::ORIGIN, &[]).map_err(in_database)?;
    publish(to, |draft| {
        let mut file = sqlite::raw_connection(draft)?;
        let file = file.transaction().map_err(in_file)?;
        sqlite::schema::create(&file).map_err(in_file)?;
        let origin = values(&origin).map_err(in_database)?;
        file.execute(sqlite::statements::INSERT_ORIGIN, params_from_iter(origin)).map_err(in_file)?;
        for (table, columns) in TABLES {
            let names = names(columns);
            let marks = vec!["?"; columns.len()].join(", ");
            let mut insert =
                file.prepare(&format!("INSERT INTO {table} ({names}) VALUES ({marks})")).map_err(in_file)?;
            let select = format!("SELECT {names} FROM {table}");
            let mut rows = snapshot.query_raw(&select, std::iter::empty::<i64>()).map_err(in_database)?;
            while let Some(row) = rows.next().map_err(in_database)? {
                insert.execute(params_from_iter(values(&row).map_err(in_database)?)).map_err(in_file)?;
            }
        }
        file.commit().map_err(in_file)
    })
}

/// Makes the tables of a node, in a database that has none, from a backup.
pub(in crate::store) fn restore(from: &Path, config: &PostgresConfig) -> Result<(), StoreError> {
    let (name, manager) = manager(config)?;
    let in_database = |error| failed(&name, error);
    let in_file = |error| sqlite::failed(from, error);
    let file = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(in_file)?;
    let version = sqlite::schema::version(&file).map_err(|reason| sqlite::setup(from, reason))?;
    if version != SCHEMA {
        let advice = "restore it into a new SQLite database, start that once, and back it up again";
        return Err(sqlite::setup(from, format!("has schema version {version}; {advice}")));
    }
    let mut session = manager.connect().map_err(in_database)?;
    let mut transaction = session.client.transaction().map_err(in_database)?;
    transaction.batch_execute("SET LOCAL statement_timeout = 0").map_err(in_database)?;
    if !schema::create(&mut transaction).map_err(in_database)? {
        return Err(setup(&name, "has the tables of a node already; nothing was changed".into()));
    }
    let origin = sqlite::read_origin(&file).map_err(in_file)?;
    let (node, canary, policy) = (origin.node.as_bytes().as_slice(), &origin.canary, &origin.policy_canary);
    transaction.execute(statements::INSERT_ORIGIN, &[&node, canary, policy]).map_err(in_database)?;
    for (table, columns) in TABLES {
        let (names, types): (_, Vec<Type>) = (names(columns), columns.iter().map(|(_, kind)| kind.clone()).collect());
        let into = transaction.copy_in(&format!("COPY {table} ({names}) FROM STDIN BINARY")).map_err(in_database)?;
        let mut writer = BinaryCopyInWriter::new(into, &types);
        let mut select = file.prepare(&format!("SELECT {names} FROM {table}")).map_err(in_file)?;
        let mut rows = select.query([]).map_err(in_file)?;
        while let Some(row) = rows.next().map_err(in_file)? {
            let cells = types.iter().enumerate().map(|(column, kind)| cell(row, column, kind));
            let cells = cells.collect::<Result<Vec<_>, _>>().map_err(in_file)?;
            let cells: Vec<&(dyn ToSql + Sync)> = cells.iter().map(|cell| &**cell).collect();
            writer.write(&cells).map_err(in_database)?;
        }
        writer.finish().map_err(in_database)?;
    }
    for table in ["registrations", "keks"] {
        let next = format!(
            "SELECT setval(pg_get_serial_sequence('{table}', 'number'), \
             (SELECT coalesce(max(number), 0) + 1 FROM {table}), false)"
        );
        transaction.query(&next, &[]).map_err(in_database)?;
    }
    transaction.execute(statements::MORE_USES, &[&USES_AFTER_BACKUP]).map_err(in_database)?;
    transaction.commit().map_err(in_database)
}

fn names(columns: &[(&str, Type)]) -> String {
    columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// The cells of a row, for SQLite.
fn values(row: &Row) -> Result<Vec<Value>, postgres::Error> {
    let value = |(column, kind): (usize, &Type)| {
        Ok(match *kind {
            Type::INT8 => row.try_get::<_, Option<i64>>(column)?.map_or(Value::Null, Value::Integer),
            _ => row.try_get::<_, Option<Vec<u8>>>(column)?.map_or(Value::Null, Value::Blob),
        })
    };
    row.columns().iter().map(postgres::Column::type_).enumerate().map(value).collect()
}

/// A cell, for PostgreSQL.
fn cell(row: &rusqlite::Row<'_>, column: usize, kind: &Type) -> rusqlite::Result<Box<dyn ToSql + Sync>> {
    Ok(match *kind {
        Type::INT8 => Box::new(row.get::<_, Option<i64>>(column)?),
        _ => Box::new(row.get::<_, Option<Vec<u8>>>(column)?),
    })
}
