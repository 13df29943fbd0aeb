//! The metadata database as a SQLite file: the embedded default.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior, params_from_iter, types::ValueRef};

use super::{
    Error,
    store::{Database, Mode, Statements, Value, WHAT, Work},
};
use crate::database::Layout;

/// The database.
pub(super) struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        Self::of(LAYOUT.open(path)?)
    }

    pub(super) fn in_memory() -> Result<Self, Error> {
        Self::of(LAYOUT.in_memory()?)
    }

    fn of(connection: Connection) -> Result<Self, Error> {
        connection.set_prepared_statement_cache_capacity(64);
        // As it is in DICOM, and in PostgreSQL.
        connection.pragma_update(None, "case_sensitive_like", true).map_err(LAYOUT.failed())?;
        Ok(Self { connection })
    }
}

impl Database for Sqlite {
    fn transaction(&mut self, mode: Mode, work: Work<'_>) -> Result<(), Error> {
        let behavior = match mode {
            Mode::Read => TransactionBehavior::Deferred,
            // Waits for other writers here, where it can.
            Mode::Write => TransactionBehavior::Immediate,
        };
        let transaction = self.connection.transaction_with_behavior(behavior).map_err(LAYOUT.failed())?;
        work(&mut Open(&transaction))?;
        transaction.commit().map_err(LAYOUT.failed())
    }
}

struct Open<'a>(&'a Connection);

impl Statements for Open<'_> {
    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, Error> {
        let mut statement = self.0.prepare_cached(sql).map_err(LAYOUT.failed())?;
        let rows = statement.execute(params_from_iter(values)).map_err(LAYOUT.failed())?;
        Ok(u64::try_from(rows).unwrap_or(u64::MAX))
    }

    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Vec<Value>>, Error> {
        let mut statement = self.0.prepare_cached(sql).map_err(LAYOUT.failed())?;
        let columns = statement.column_count();
        let mut rows = statement.query(params_from_iter(values)).map_err(LAYOUT.failed())?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(LAYOUT.failed())? {
            let value = |column| {
                Ok(match row.get_ref(column).map_err(LAYOUT.failed())? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(number) => Value::Number(number),
                    ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
                    ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
                    ValueRef::Real(_) => return Err(super::store::damaged("number")),
                })
            };
            found.push((0..columns).map(value).collect::<Result<Vec<_>, Error>>()?);
        }
        Ok(found)
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(rusqlite::types::ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Number(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

const LAYOUT: Layout = Layout {
    what: WHAT,
    application: 0x4544_534d, // "EDSM"
    version: 2,
    schema: "CREATE TABLE patient (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        attributes TEXT NOT NULL
    ) STRICT;
    CREATE TABLE study (
        id INTEGER PRIMARY KEY,
        patient INTEGER NOT NULL REFERENCES patient (id),
        name TEXT NOT NULL UNIQUE,
        attributes TEXT NOT NULL
    ) STRICT;
    CREATE INDEX study_by_patient ON study (patient);
    CREATE TABLE series (
        id INTEGER PRIMARY KEY,
        study INTEGER NOT NULL REFERENCES study (id),
        name TEXT NOT NULL UNIQUE,
        attributes TEXT NOT NULL
    ) STRICT;
    CREATE INDEX series_by_study ON series (study);
    CREATE TABLE image (
        id INTEGER PRIMARY KEY,
        file BLOB NOT NULL UNIQUE CHECK (length(file) = 16),
        content INTEGER NOT NULL CHECK (content IN (1, 2)),
        series INTEGER REFERENCES series (id),
        name TEXT,
        number INTEGER,
        identity BLOB NOT NULL UNIQUE CHECK (length(identity) = 32),
        digest BLOB NOT NULL CHECK (length(digest) = 32),
        attributes TEXT NOT NULL,
        frames BLOB,
        private_file BLOB UNIQUE CHECK (length(private_file) = 16),
        private_key BLOB CHECK (length(private_key) = 16),
        salt BLOB CHECK (length(salt) = 24),
        commitment BLOB CHECK (length(commitment) = 32),
        manifest BLOB,
        container BLOB,
        CHECK ((content = 1) = (series IS NOT NULL) AND (content = 1) = (container IS NOT NULL))
    ) STRICT;
    CREATE INDEX image_by_series ON image (series, number);
    CREATE INDEX image_by_name ON image (name);
    CREATE TABLE plain (
        level INTEGER NOT NULL,
        owner INTEGER NOT NULL,
        tag INTEGER NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (level, owner, tag, value)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX plain_by_value ON plain (level, tag, value, owner);
    CREATE TABLE blind (
        level INTEGER NOT NULL,
        owner INTEGER NOT NULL,
        tag INTEGER NOT NULL,
        token BLOB NOT NULL CHECK (length(token) = 16),
        PRIMARY KEY (level, owner, tag, token)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX blind_by_token ON blind (level, tag, token, owner);
    CREATE TABLE group_key (
        scope INTEGER NOT NULL CHECK (scope IN (1, 2)),
        name TEXT NOT NULL,
        image_key BLOB NOT NULL UNIQUE CHECK (length(image_key) = 16),
        image_manifest BLOB NOT NULL,
        private_key BLOB NOT NULL UNIQUE CHECK (length(private_key) = 16),
        private_manifest BLOB NOT NULL,
        PRIMARY KEY (scope, name)
    ) STRICT;
    CREATE TABLE project (
        role TEXT PRIMARY KEY CHECK (role IN ('uid', 'search')),
        key BLOB NOT NULL CHECK (length(key) = 16),
        manifest BLOB NOT NULL
    ) STRICT;",
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Location, Metadata, conformance};

    #[test]
    fn conforms() {
        let mut number = 0;
        let directory = tempfile::tempdir().expect("a directory");
        conformance::run(|| {
            number += 1;
            Location::File(directory.path().join(format!("{number}.sqlite")))
        });
    }

    #[test]
    fn another_layout_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("metadata.sqlite");
        drop(Metadata::open_file(&path).expect("opens"));
        Connection::open(&path).expect("opens").pragma_update(None, "user_version", 9).expect("updates");
        assert!(matches!(Metadata::open_file(&path), Err(Error::Layout { found: 9, known: 2, .. })));
    }
}
