//! The queue: registrations that wait on this computer for key servers that were away.
//!
//! A message is in it, on the disk, before its registration is acknowledged to anybody, and leaves it when the node has
//! confirmed, when its keys are deleted, or when the user drops it. What is in it is sealed to the node that it is for, and
//! nobody but the registrant can deliver it: neither share nor secret can be had from the file. It does tell which keys were
//! registered when, and by whom; it is for its owner alone.
//!
//! A registration that is cut off between keeping its messages and its acknowledgement leaves messages that are not
//! acknowledged: the next delivery takes such a registration back, unless a node has it confirmed. So that this is never
//! done to one that still runs, who registers holds a lock, and who takes back holds it alone.
//!
//! Every row has a digest: a damaged one is named, and hinders no other.

mod entry;
mod error;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use eds_core::ids::KeyId;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use self::entry::{SELECT, digest};
pub use self::{
    entry::{Contents, Entry, moment},
    error::Error,
};
use crate::{database::Layout, keystore::Message, output};

/// The queue of one user, in the state directory.
pub struct Queue {
    connection: Connection,
    path: PathBuf,
}

impl Queue {
    /// Opens the queue in this state directory, which is made where there is none.
    ///
    /// # Errors
    /// [`Error::Unusable`].
    pub fn open(state: &Path) -> Result<Self, Error> {
        let path = place(state);
        let unusable = |source| Error::Unusable { path: path.clone(), source };
        let fresh = !path.exists();
        let connection = LAYOUT.open(&path).map_err(unusable)?;
        if fresh {
            let put_on_disk = || output::sync_directory(&File::open(state)?);
            put_on_disk().map_err(|source| Error::Lock { path: path.clone(), source })?;
        }
        Ok(Self { connection, path })
    }

    /// Opens the queue in this state directory, if there is one.
    ///
    /// # Errors
    /// As [`Queue::open`].
    pub fn open_if_there(state: &Path) -> Result<Option<Self>, Error> {
        if place(state).exists() { Self::open(state).map(Some) } else { Ok(None) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Held by who registers, until its registration is acknowledged.
    ///
    /// # Errors
    /// [`Error::Lock`].
    pub fn registering(&self) -> Result<Lock, Error> {
        self.locked(File::lock_shared).map(Lock)
    }

    /// Held by who takes interrupted registrations back, when nobody registers; nothing otherwise.
    ///
    /// # Errors
    /// [`Error::Lock`].
    pub fn alone(&self) -> Result<Option<Lock>, Error> {
        let mut free = true;
        let file = self.locked(|file| match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => {
                free = false;
                Ok(())
            }
            Err(fs::TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        })?;
        Ok(free.then_some(Lock(file)))
    }

    fn locked(&self, take: impl FnOnce(&File) -> io::Result<()>) -> Result<File, Error> {
        let path = self.path.with_extension("lock");
        let locked = || {
            let file = output::lock_file(&path)?;
            take(&file).map(|()| file)
        };
        locked().map_err(|source| Error::Lock { path: path.clone(), source })
    }

    /// Keeps messages of one registration, all or none: they are on the disk when this returns. Returns their numbers.
    ///
    /// # Errors
    /// [`Error::Unusable`].
    pub fn keep(&mut self, messages: &[Message], registrant: &str) -> Result<Vec<i64>, Error> {
        let since = now();
        self.change(|connection| {
            let mut insert = connection.prepare(
                "INSERT INTO message (node, node_id, transport_key, registrant, registrant_name, request, since, digest) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            let mut insert_key = connection.prepare("INSERT INTO message_key (message, key) VALUES (?1, ?2)")?;
            let mut numbers = Vec::with_capacity(messages.len());
            for message in messages {
                // A plain structure of lists and strings: writing it cannot fail.
                let request = serde_json::to_vec(&message.request).unwrap_or_default();
                let number = insert.insert(params![
                    message.node.value(),
                    message.node_id.as_bytes(),
                    message.transport_key.0,
                    message.registrant,
                    registrant,
                    request,
                    seconds(since),
                    digest(message, registrant, since, &request),
                ])?;
                for key in message.keys() {
                    insert_key.execute(params![number, key.as_bytes()])?;
                }
                numbers.push(number);
            }
            Ok(numbers)
        })
    }

    /// Notes that the registration of these messages is acknowledged.
    ///
    /// # Errors
    /// [`Error::Unusable`].
    pub fn acknowledge(&mut self, numbers: &[i64]) -> Result<(), Error> {
        self.each(numbers, "UPDATE message SET acknowledged = 1 WHERE number = ?1")
    }

    /// Notes why a message could not be delivered.
    ///
    /// # Errors
    /// [`Error::Unusable`].
    pub fn hindered(&mut self, number: i64, why: &str) -> Result<(), Error> {
        let at = seconds(now());
        self.change(|connection| {
            let sql = "UPDATE message SET tries = tries + 1, tried = ?2, hindrance = ?3 WHERE number = ?1";
            connection.execute(sql, params![number, at, why]).map(drop)
        })
    }

    /// Removes messages. Those that are gone already are no error.
    ///
    /// # Errors
    /// [`Error::Unusable`].
    pub fn remove(&mut self, numbers: &[i64]) -> Result<(), Error> {
        self.each(numbers, "DELETE FROM message WHERE number = ?1")
    }

    /// All messages.
    ///
    /// # Errors
    /// [`Error::Unusable`].
    pub fn contents(&self) -> Result<Contents, Error> {
        self.select("ORDER BY number", [])
    }

    /// The messages that hold a share of this key.
    ///
    /// # Errors
    /// [`Error::Unusable`].
    pub fn of_key(&self, key: KeyId) -> Result<Contents, Error> {
        let condition = "WHERE number IN (SELECT message FROM message_key WHERE key = ?1) ORDER BY number";
        self.select(condition, [key.as_bytes()])
    }

    /// One message.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Damaged`], [`Error::Unusable`].
    pub fn entry(&self, number: i64) -> Result<Entry, Error> {
        let mut found = self.select("WHERE number = ?1", [number])?;
        if !found.damaged.is_empty() {
            return Err(Error::Damaged { path: self.path.clone(), numbers: found.damaged });
        }
        found.entries.pop().ok_or(Error::Unknown { number })
    }

    /// Whether there is such a message, be it damaged.
    ///
    /// # Errors
    /// [`Error::Unusable`].
    pub fn holds(&self, number: i64) -> Result<bool, Error> {
        let found = self.connection.query_row("SELECT 1 FROM message WHERE number = ?1", [number], |_| Ok(()));
        Ok(found.optional().map_err(self.failed())?.is_some())
    }

    /// Has SQLite look at the whole file.
    ///
    /// # Errors
    /// [`Error::Unusable`] when it is damaged.
    pub fn check(&self) -> Result<(), Error> {
        let found = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        match found.map_err(self.failed())?.as_str() {
            "ok" => Ok(()),
            _ => Err(self.failed()(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
                None,
            ))),
        }
    }

    /// The error when any of the contents are damaged.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn whole(&self, contents: &Contents) -> Result<(), Error> {
        match contents.damaged.as_slice() {
            [] => Ok(()),
            numbers => Err(Error::Damaged { path: self.path.clone(), numbers: numbers.to_vec() }),
        }
    }

    fn select(&self, condition: &str, parameters: impl rusqlite::Params) -> Result<Contents, Error> {
        let mut contents = Contents::default();
        let read = || {
            let mut statement = self.connection.prepare(&format!("{SELECT} {condition}"))?;
            let mut rows = statement.query(parameters)?;
            while let Some(row) = rows.next()? {
                let number = row.get(0)?;
                match Entry::of(number, row) {
                    Some(entry) => contents.entries.push(entry),
                    None => contents.damaged.push(number),
                }
            }
            Ok(())
        };
        read().map_err(self.failed())?;
        Ok(contents)
    }

    fn each(&mut self, numbers: &[i64], sql: &str) -> Result<(), Error> {
        self.change(|connection| {
            let mut statement = connection.prepare(sql)?;
            numbers.iter().try_for_each(|number| statement.execute([number]).map(drop))
        })
    }

    fn change<A>(&mut self, change: impl FnOnce(&Connection) -> rusqlite::Result<A>) -> Result<A, Error> {
        let failed = self.failed();
        let changed = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = change(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        changed().map_err(failed)
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::Unusable { path: path.clone(), source: LAYOUT.failed()(source) }
    }
}

/// A lock on the queue, let go when it is dropped or the process ends.
pub struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

fn place(state: &Path) -> PathBuf {
    state.join("queue.sqlite")
}

fn seconds(moment: u64) -> i64 {
    i64::try_from(moment).unwrap_or(i64::MAX)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

const LAYOUT: Layout = Layout {
    what: "queue",
    application: 0x4544_5351, // "EDSQ"
    version: 1,
    schema: "CREATE TABLE message (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        node INTEGER NOT NULL CHECK (node BETWEEN 1 AND 65535),
        node_id BLOB NOT NULL CHECK (length(node_id) = 16),
        transport_key BLOB NOT NULL CHECK (length(transport_key) = 33),
        registrant BLOB NOT NULL CHECK (length(registrant) = 32),
        registrant_name TEXT NOT NULL,
        request BLOB NOT NULL,
        since INTEGER NOT NULL CHECK (since >= 0),
        digest BLOB NOT NULL CHECK (length(digest) = 32),
        acknowledged INTEGER NOT NULL DEFAULT 0 CHECK (acknowledged IN (0, 1)),
        tries INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0),
        tried INTEGER,
        hindrance TEXT
    ) STRICT;
    CREATE TABLE message_key (
        key BLOB NOT NULL CHECK (length(key) = 16),
        message INTEGER NOT NULL REFERENCES message ON DELETE CASCADE,
        PRIMARY KEY (key, message)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX message_key_by_message ON message_key (message);",
};

#[cfg(test)]
mod tests;
