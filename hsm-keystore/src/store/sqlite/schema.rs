//! The tables, and whether a file has them in the version that this release knows.

use rusqlite::{Connection, Transaction};

/// The schema version this release reads and writes.
const VERSION: i64 = 1;
/// "EDSK": marks a file as the database of a key server.
const APPLICATION: i64 = 0x4544_534b;

/// Keys keep their registrant in their own row: it is asked with every change.
const TABLES: &str = "
CREATE TABLE origin (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    node BLOB NOT NULL,
    canary BLOB NOT NULL,
    policy_canary BLOB NOT NULL
) STRICT;
CREATE TABLE registrations (
    number INTEGER PRIMARY KEY,
    registrant BLOB NOT NULL,
    id BLOB NOT NULL,
    content BLOB NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (registrant, id)
) STRICT;
CREATE TABLE keys (
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    state INTEGER NOT NULL CHECK (state IN (0, 1, 2)),
    registration INTEGER NOT NULL REFERENCES registrations (number),
    registrant BLOB NOT NULL,
    manifest_digest BLOB NOT NULL,
    epoch INTEGER,
    manifest BLOB,
    record BLOB,
    access BLOB,
    access_mac BLOB,
    changed INTEGER NOT NULL,
    CHECK (state = 2 OR (epoch IS NOT NULL AND manifest IS NOT NULL AND record IS NOT NULL
                         AND access IS NOT NULL AND access_mac IS NOT NULL))
) STRICT;
";

pub(super) fn create(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)
}

/// Whether this is a database of this release; else why not.
pub(super) fn check(connection: &Connection) -> Result<(), String> {
    let read = |pragma| {
        connection
            .pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
            .map_err(|error| format!("is not readable as a SQLite database ({error})"))
    };
    if read("application_id")? != APPLICATION {
        return Err("is not the database of a key server".into());
    }
    match read("user_version")? {
        VERSION => Ok(()),
        newer if newer > VERSION => Err(format!(
            "has schema version {newer}; this release knows up to {VERSION}: use the release that wrote it"
        )),
        other => Err(format!("has schema version {other}, which this release does not know")),
    }
}
