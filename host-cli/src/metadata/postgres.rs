//! The metadata database in PostgreSQL, for a department that registers and searches from several workstations.
//!
//! The statements are those of [`super::store`]; here are the connection, its settings and the tables. Everything is in the
//! schema `eds_metadata`. A commit is on the server's disk before it is answered; a transaction that lost a race for
//! locks is run again.

use std::collections::HashMap;

use postgres::{
    Client, Statement, Transaction,
    error::SqlState,
    types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked},
};

use super::{
    Error, PostgresLocation,
    store::{Database, Mode, Statements, Value, WHAT, Work, damaged},
};
use crate::database::connection;

/// The database.
pub(super) struct Postgres {
    client: Client,
    prepared: HashMap<String, Statement>,
}

impl Postgres {
    pub(super) fn open(location: &PostgresLocation) -> Result<Self, Error> {
        let mut client = connection::connect(WHAT, &location.connection, location.password_file.as_deref())?;
        client.batch_execute(SESSION).map_err(failed)?;
        let mut database = Self { client, prepared: HashMap::new() };
        database.make_tables()?;
        Ok(database)
    }

    fn make_tables(&mut self) -> Result<(), Error> {
        let mut transaction = self.client.transaction().map_err(failed)?;
        // One process makes them, others wait for it.
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).map_err(failed)?;
        let there: bool = transaction
            .query_one("SELECT to_regclass('eds_metadata.layout') IS NOT NULL", &[])
            .and_then(|row| row.try_get(0))
            .map_err(failed)?;
        if !there {
            transaction.batch_execute(SCHEMA).map_err(failed)?;
        }
        let found: i64 =
            transaction.query_one("SELECT version FROM layout", &[]).and_then(|row| row.try_get(0)).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        if found == VERSION { Ok(()) } else { Err(Error::Version { what: WHAT, found, known: VERSION }) }
    }
}

impl Database for Postgres {
    fn transaction(&mut self, _: Mode, work: Work<'_>) -> Result<(), Error> {
        for _ in 1..TRIES {
            match self.once(work) {
                Err(Error::Postgres { source, .. }) if lost_a_race(&source) => {}
                done => return done,
            }
        }
        self.once(work)
    }
}

impl Postgres {
    fn once(&mut self, work: Work<'_>) -> Result<(), Error> {
        let transaction = self.client.transaction().map_err(failed)?;
        let mut open = Open { transaction, prepared: &mut self.prepared };
        work(&mut open)?;
        open.transaction.commit().map_err(failed)
    }
}

struct Open<'a> {
    transaction: Transaction<'a>,
    prepared: &'a mut HashMap<String, Statement>,
}

impl Open<'_> {
    fn prepared(&mut self, sql: &str) -> Result<Statement, Error> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.transaction.prepare(sql).map_err(failed)?;
        if self.prepared.len() < MAX_PREPARED {
            self.prepared.insert(sql.into(), statement.clone());
        }
        Ok(statement)
    }
}

impl Statements for Open<'_> {
    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, Error> {
        let statement = self.prepared(sql)?;
        self.transaction.execute(&statement, &parameters(values)).map_err(failed)
    }

    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Vec<Value>>, Error> {
        let statement = self.prepared(sql)?;
        let rows = self.transaction.query(&statement, &parameters(values)).map_err(failed)?;
        let value = |row: &postgres::Row, index: usize| {
            let kind = row.columns().get(index).map(postgres::Column::type_);
            let value = match kind {
                Some(&Type::INT8) => row.try_get::<_, Option<i64>>(index).map(|value| value.map(Value::Number)),
                Some(&Type::INT4) => {
                    row.try_get::<_, Option<i32>>(index).map(|value| value.map(|value| Value::Number(value.into())))
                }
                Some(&Type::TEXT) => row.try_get::<_, Option<String>>(index).map(|value| value.map(Value::Text)),
                Some(&Type::BYTEA) => row.try_get::<_, Option<Vec<u8>>>(index).map(|value| value.map(Value::Bytes)),
                _ => return Err(damaged("column")),
            };
            Ok(value.map_err(failed)?.unwrap_or(Value::Null))
        };
        rows.iter().map(|row| (0..row.len()).map(|index| value(row, index)).collect()).collect()
    }
}

fn parameters(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

impl ToSql for Value {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Number(number) => number.to_sql_checked(kind, out),
            Self::Text(text) => text.to_sql_checked(kind, out),
            Self::Bytes(bytes) => bytes.to_sql_checked(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        // Each value checks for itself.
        true
    }

    to_sql_checked!();
}

fn failed(source: postgres::Error) -> Error {
    Error::Postgres { what: WHAT, source: Box::new(source) }
}

fn lost_a_race(error: &postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE))
}

/// How often a transaction that lost a race is run.
const TRIES: usize = 4;
/// Statements of searches differ in their numbers of values: more of them than this are not kept.
const MAX_PREPARED: usize = 128;
/// Of the advisory lock under which tables are made: "EDSM".
const LOCK: i64 = 0x4544_534d;
const VERSION: i64 = 2;

const SESSION: &str = "
SELECT set_config('synchronous_commit',
    CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false);
SET search_path = eds_metadata; SET default_transaction_isolation = 'read committed'; SET jit = off;
SET statement_timeout = '30s'; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s';
";

/// The tables of `sqlite`, in the types of PostgreSQL. Texts are compared byte by byte, as SQLite does.
const SCHEMA: &str = r#"
CREATE SCHEMA IF NOT EXISTS eds_metadata;
CREATE TABLE layout (one BIGINT PRIMARY KEY CHECK (one = 1), version BIGINT NOT NULL);
INSERT INTO layout VALUES (1, 2);
CREATE TABLE patient (
    id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    attributes TEXT NOT NULL
);
CREATE TABLE study (
    id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    patient BIGINT NOT NULL REFERENCES patient (id),
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    attributes TEXT NOT NULL
);
CREATE INDEX study_by_patient ON study (patient);
CREATE TABLE series (
    id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    study BIGINT NOT NULL REFERENCES study (id),
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    attributes TEXT NOT NULL
);
CREATE INDEX series_by_study ON series (study);
CREATE TABLE image (
    id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    file BYTEA NOT NULL UNIQUE CHECK (length(file) = 16),
    content BIGINT NOT NULL CHECK (content IN (1, 2)),
    series BIGINT REFERENCES series (id),
    name TEXT COLLATE "C",
    number BIGINT,
    identity BYTEA NOT NULL UNIQUE CHECK (length(identity) = 32),
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    attributes TEXT NOT NULL,
    frames BYTEA,
    private_file BYTEA UNIQUE CHECK (length(private_file) = 16),
    private_key BYTEA CHECK (length(private_key) = 16),
    salt BYTEA CHECK (length(salt) = 24),
    commitment BYTEA CHECK (length(commitment) = 32),
    manifest BYTEA,
    container BYTEA,
    CHECK ((content = 1) = (series IS NOT NULL) AND (content = 1) = (container IS NOT NULL))
);
CREATE INDEX image_by_series ON image (series, number);
CREATE INDEX image_by_name ON image (name);
CREATE TABLE plain (
    level BIGINT NOT NULL,
    owner BIGINT NOT NULL,
    tag BIGINT NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (level, owner, tag, value)
);
CREATE INDEX plain_by_value ON plain (level, tag, value, owner);
CREATE TABLE blind (
    level BIGINT NOT NULL,
    owner BIGINT NOT NULL,
    tag BIGINT NOT NULL,
    token BYTEA NOT NULL CHECK (length(token) = 16),
    PRIMARY KEY (level, owner, tag, token)
);
CREATE INDEX blind_by_token ON blind (level, tag, token, owner);
CREATE TABLE group_key (
    scope BIGINT NOT NULL CHECK (scope IN (1, 2)),
    name TEXT COLLATE "C" NOT NULL,
    image_key BYTEA NOT NULL UNIQUE CHECK (length(image_key) = 16),
    image_manifest BYTEA NOT NULL,
    private_key BYTEA NOT NULL UNIQUE CHECK (length(private_key) = 16),
    private_manifest BYTEA NOT NULL,
    PRIMARY KEY (scope, name)
);
CREATE TABLE project (
    role TEXT PRIMARY KEY CHECK (role IN ('uid', 'search')),
    key BYTEA NOT NULL CHECK (length(key) = 16),
    manifest BYTEA NOT NULL
);
"#;

#[cfg(test)]
mod tests;
