//! The section `[store]`: a SQLite file, or a PostgreSQL database.

use std::{fmt, path::PathBuf};

use super::reader::{Role, Section};
use crate::store::postgres;

/// How many connections to PostgreSQL a process has at most, when the file does not say.
pub(super) const DEFAULT_CONNECTIONS: u32 = 8;

/// Where shares and access lists are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreConfig {
    /// One SQLite file, for one process.
    Sqlite(PathBuf),
    /// The schema `eds` of a PostgreSQL database, for one process or several.
    Postgres(PostgresConfig),
}

/// A PostgreSQL database.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresConfig {
    /// The connection string, without a password.
    pub connection: String,
    /// The file with the password.
    pub password_file: Option<PathBuf>,
    /// PEM: the authorities of the server's certificate.
    pub tls_ca: Option<PathBuf>,
    /// How many connections one process has at most.
    pub connections: u32,
}

impl fmt::Display for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => file.display().fmt(f),
            Self::Postgres(postgres) => postgres.fmt(f),
        }
    }
}

impl fmt::Display for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match postgres::wrong_connection(&self.connection) {
            None => write!(f, "PostgreSQL ({})", self.connection),
            // It may hold what nobody should read.
            Some(_) => f.write_str("PostgreSQL"),
        }
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What names a database, for hints.
const ONE: &str =
    "give path = \"keys.db\" for a SQLite file, or postgres = \"host=/run/postgresql dbname=eds user=eds\"";

/// Reads the section.
pub(super) fn read(section: &Section<'_>) -> Option<StoreConfig> {
    let path = section.path("path", Role::Database);
    let connection = section.text("postgres");
    let password_file = section.path("password_file", Role::Secret);
    let tls_ca = section.path("tls_ca", Role::Authorities);
    let usual = "8 is usual; the server's max_connections is shared";
    let connections = section.number("connections", u64::from(DEFAULT_CONNECTIONS), 1..=256, usual);
    match (path, connection) {
        (Some(_), Some(connection)) => {
            section.fault(connection.span, "store: names both a SQLite file and PostgreSQL".into(), ONE);
            None
        }
        (Some(path), None) => {
            for key in ["password_file", "tls_ca", "connections"].into_iter().filter(|key| section.has(key)) {
                section.fault(
                    section.span(),
                    format!("store.{key}: is for PostgreSQL, and path names a SQLite file"),
                    ONE,
                );
            }
            Some(StoreConfig::Sqlite(path))
        }
        (None, Some(connection)) => {
            if let Some((reason, hint)) = postgres::wrong_connection(connection.value) {
                section.fault(connection.span, format!("store.postgres: {reason}"), hint);
                return None;
            }
            Some(StoreConfig::Postgres(PostgresConfig {
                connection: connection.value.to_owned(),
                password_file,
                tls_ca,
                connections: u32::try_from(connections).unwrap_or(DEFAULT_CONNECTIONS),
            }))
        }
        (None, None) => {
            // What is there and wrong is noted already.
            if section.is_there() && !section.has("path") && !section.has("postgres") {
                section.missing("path", ONE);
            }
            None
        }
    }
}
