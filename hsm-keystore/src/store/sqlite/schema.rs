//! The tables, version by version, and how a file of an older version becomes one of this release.
//!
//! A file says which version it has. A newer one is refused; an older one is migrated in one transaction, after a copy of
//! it was put beside it. A step that was released is never changed: whoever needs other tables adds a step.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::store::{
    StoreError,
    sqlite::{copy, failed, setup},
};

/// The schema version this release reads and writes.
pub(in crate::store) const VERSION: u32 = STEPS.len() as u32;
/// "EDSK": marks a file as the database of a key server.
const APPLICATION: i64 = 0x4544_534b;

/// What leads to each version from the one before.
const STEPS: [&str; 8] = [
    // 1. Keys keep their registrant in their own row: it is asked with every change.
    "
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
",
    // 2. Which records a KEK wraps is asked when it is rotated; its id has the same place in every record.
    "CREATE INDEX keys_by_kek ON keys (substr(record, 4, 16), id) WHERE record IS NOT NULL;",
    // 3. A node has one KEK after the other; each is used so often and no more. Of the first one's uses before this
    // version, those for stored shares are known, and 2^24 are taken for the others.
    "
CREATE TABLE keks (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    state INTEGER NOT NULL CHECK (state IN (0, 1, 2)),
    uses INTEGER NOT NULL,
    canary BLOB NOT NULL,
    since INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_active_kek ON keks (state) WHERE state = 0;
INSERT INTO keks (id, state, uses, canary, since)
    SELECT substr(canary, 4, 16), 0, (SELECT count(*) FROM keys) + 16777216, canary, unixepoch()
    FROM origin WHERE length(canary) > 19;
",
    // 4. Records that one data key sealed stand together: what tells wrapped data keys apart has one place, too.
    "
DROP INDEX keys_by_kek;
CREATE INDEX keys_by_kek ON keys (substr(record, 4, 16), substr(record, 20, 12), id) WHERE record IS NOT NULL;
",
    // 5. Imaging devices, and the counters that they used. An enrolment is never removed: a revoked one tells so.
    "
CREATE TABLE devices (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    enrolment BLOB NOT NULL,
    mac BLOB NOT NULL,
    changed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE device_counters (
    device BLOB NOT NULL CHECK (length(device) = 16),
    counter BLOB NOT NULL CHECK (length(counter) = 8),
    key BLOB NOT NULL CHECK (length(key) = 16),
    PRIMARY KEY (device, counter)
) STRICT, WITHOUT ROWID;
",
    // 6. How many keys there are is kept, since counting them costs more the more there are. Rows are never removed.
    "
CREATE TABLE counts (state INTEGER PRIMARY KEY, keys INTEGER NOT NULL) STRICT;
INSERT INTO counts (state, keys) SELECT column1, (SELECT count(*) FROM keys WHERE keys.state = column1)
    FROM (VALUES (0), (1), (2));
CREATE TRIGGER count_new AFTER INSERT ON keys BEGIN
    UPDATE counts SET keys = keys + 1 WHERE state = new.state;
END;
CREATE TRIGGER count_moved AFTER UPDATE OF state ON keys WHEN new.state <> old.state BEGIN
    UPDATE counts SET keys = keys - 1 WHERE state = old.state;
    UPDATE counts SET keys = keys + 1 WHERE state = new.state;
END;
",
    // 7. Behind the HMAC of a list may stand a voucher; a release that knows none would call the list altered.
    "",
    // 8. Keys have names. A row goes with its key: what is deleted leaves no name behind.
    "
CREATE TABLE names (
    name BLOB PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 250),
    key BLOB NOT NULL UNIQUE CHECK (length(key) = 16),
    mac BLOB NOT NULL
) STRICT, WITHOUT ROWID;
",
];

pub(in crate::store) fn create(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    advance(transaction, 0)
}

fn advance(transaction: &Transaction<'_>, from: u32) -> rusqlite::Result<()> {
    STEPS.iter().skip(from as usize).try_for_each(|step| transaction.execute_batch(step))?;
    transaction.pragma_update(None, "user_version", VERSION)
}

/// The schema version of a database, which this release knows; else why not.
pub(in crate::store) fn version(connection: &Connection) -> Result<u32, String> {
    let read = |pragma| {
        connection
            .pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
            .map_err(|error| format!("is not readable as a SQLite database ({error})"))
    };
    if read("application_id")? != APPLICATION {
        return Err("is not the database of a key server".into());
    }
    known_version(read("user_version")?)
}

/// Whether this release knows a schema version; else why not.
pub(in crate::store) fn known_version(found: i64) -> Result<u32, String> {
    match u32::try_from(found) {
        Ok(version) if (1..=VERSION).contains(&version) => Ok(version),
        Ok(newer) if newer > VERSION => Err(format!(
            "has schema version {newer}; this release knows up to {VERSION}: use the release that wrote it, or restore \
             a backup of before it"
        )),
        _ => Err(format!("has schema version {found}, which no release has written")),
    }
}

/// Brings a database to the version of this release, if it is older; a copy of the old one stays beside it.
pub(super) fn migrate(file: &Path, connection: &mut Connection) -> Result<(), StoreError> {
    if version(connection).map_err(|reason| setup(file, reason))? == VERSION {
        return Ok(());
    }
    let in_database = |source| failed(file, source);
    // The lock keeps writers away, so that the copy is what is migrated; and of two processes, one finds nothing to do.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(in_database)?;
    let from = version(&transaction).map_err(|reason| setup(file, reason))?;
    if from == VERSION {
        return Ok(());
    }
    let kept = copy::beside(file, &format!("schema-{from}"))?;
    tracing::info!(database = %file.display(), from, to = VERSION, copy = %kept.display(), "migrating the database");
    advance(&transaction, from).and_then(|()| transaction.commit()).map_err(in_database)
}
