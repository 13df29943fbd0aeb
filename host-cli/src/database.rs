//! What the embedded databases of the client have in common: how one is opened, and what can go wrong.
//!
//! Each database file says what it is (SQLite `application_id`) and which layout it has (`user_version`); a foreign file
//! or an unknown layout is refused, never adapted silently. Write-ahead log, `synchronous=FULL`: what was reported as
//! done survives a power cut. The files are for their owner alone.

pub(crate) mod connection;

use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use eds_core::ids::FileId;
use rusqlite::{Connection, TransactionBehavior};

use crate::{error::Kind, output};

/// The layout of one kind of database.
pub(crate) struct Layout {
    /// What it is called in errors.
    pub(crate) what: &'static str,
    /// SQLite `application_id`.
    pub(crate) application: i32,
    /// SQLite `user_version`.
    pub(crate) version: i32,
    /// The statements that make version `version` from nothing.
    pub(crate) schema: &'static str,
}

/// A failure of the catalog or the metadata database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// SQLite refused.
    #[error("the {what} database failed")]
    Sqlite {
        /// Which database.
        what: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// PostgreSQL refused, or could not be reached.
    #[error("the {what} database failed")]
    Postgres {
        /// Which database.
        what: &'static str,
        /// What it said.
        source: Box<postgres::Error>,
    },
    /// A connection that cannot be made like that.
    #[error("{what}.postgres: {reason}")]
    Location {
        /// Which database.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// Tables of another release.
    #[error("the {what} database has layout {found}, this release knows {known}")]
    Version {
        /// Which database.
        what: &'static str,
        /// Their layout.
        found: i64,
        /// The layout of this release.
        known: i64,
    },
    /// A file of something else.
    #[error("{} is not a {what} database", path.display())]
    Foreign {
        /// Which database was expected.
        what: &'static str,
        /// The file.
        path: std::path::PathBuf,
    },
    /// A layout of another release.
    #[error("the {what} database {} has layout {found}, this release knows {known}", path.display())]
    Layout {
        /// Which database.
        what: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// Its layout.
        found: i32,
        /// The layout of this release.
        known: i32,
    },
    /// A file that is listed already.
    #[error("file {file} is in the {what} already")]
    Duplicate {
        /// Which database.
        what: &'static str,
        /// The file.
        file: FileId,
    },
    /// A file that is not listed.
    #[error("file {file} is not in the {what}")]
    NotFound {
        /// Which database.
        what: &'static str,
        /// The file.
        file: FileId,
    },
    /// A project key when there is another.
    #[error("the metadata database has such a project key already")]
    OtherProjectKey,
    /// A row with a value that cannot be.
    #[error("the {what} entry of a file has a wrong {field}")]
    Damaged {
        /// Which database.
        what: &'static str,
        /// The column.
        field: &'static str,
    },
    /// The file or its directory could not be made.
    #[error(transparent)]
    Place(#[from] output::Error),
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Sqlite { source, .. } => match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => Kind::Damaged,
                _ => Kind::LocalIo,
            },
            Self::Postgres { .. } => Kind::Unavailable,
            Self::Location { .. } => Kind::Usage,
            Self::Foreign { .. } | Self::Layout { .. } | Self::Version { .. } => Kind::Unsupported,
            Self::Duplicate { .. } | Self::OtherProjectKey => Kind::Conflict,
            Self::NotFound { .. } => Kind::NotFound,
            Self::Damaged { .. } => Kind::Damaged,
            Self::Place(error) => error.kind(),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Foreign { .. } => Some("check the paths of catalog and metadata in the configuration".into()),
            Self::Layout { found, known, .. } if found > known => Some("use a newer release of eds".into()),
            Self::Version { found, known, .. } if found > known => Some("use a newer release of eds".into()),
            Self::Layout { .. } | Self::Version { .. } => Some(
                "it is of a development build before this release: get back with that build what you need (eds retrieve --restore), \
                 then name a new database in the configuration and register again; nothing was changed"
                    .into(),
            ),
            Self::Postgres { .. } => Some(
                "check metadata.postgres in the configuration, that the server runs and, over the network, that the authority in \
                 sslrootcert vouches for its certificate and name"
                    .into(),
            ),
            Self::Sqlite { source, .. } if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
                Some("another eds is writing; try again".into())
            }
            Self::Place(error) => error.hint(),
            _ => None,
        }
    }
}

impl Layout {
    /// Opens a database file, made with the current layout if it is new.
    pub(crate) fn open(&self, path: &Path) -> Result<Connection, Error> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            output::make_private_directory(parent)?;
        }
        // SQLite would make the file readable for all; its log and index files take the mode of this one.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(output::Error::writing(path)(error).into());
            }
            _ => {}
        }
        self.prepare(Connection::open(path).map_err(self.failed())?, path)
    }

    /// Opens a database that is gone when it is closed.
    pub(crate) fn in_memory(&self) -> Result<Connection, Error> {
        self.prepare(Connection::open_in_memory().map_err(self.failed())?, Path::new(":memory:"))
    }

    /// For `map_err` after an operation of this database.
    pub(crate) fn failed(&self) -> impl Fn(rusqlite::Error) -> Error + use<> {
        let what = self.what;
        move |source| Error::Sqlite { what, source }
    }

    fn prepare(&self, mut connection: Connection, path: &Path) -> Result<Connection, Error> {
        let failed = self.failed();
        connection.busy_timeout(BUSY).map_err(&failed)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(&failed)?;
        connection.pragma_update(None, "secure_delete", true).map_err(&failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(&failed)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        let number = |pragma| transaction.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0)).map_err(&failed);
        let (application, version) = (number("application_id")?, number("user_version")?);
        let tables: i64 =
            transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(&failed)?;
        match (application, version, tables) {
            (0, 0, 0) => {
                transaction.execute_batch(self.schema).map_err(&failed)?;
                transaction.pragma_update(None, "application_id", self.application).map_err(&failed)?;
                transaction.pragma_update(None, "user_version", self.version).map_err(&failed)?;
            }
            (application, ..) if application != self.application => {
                return Err(Error::Foreign { what: self.what, path: path.into() });
            }
            (_, found, _) if found != self.version => {
                return Err(Error::Layout { what: self.what, path: path.into(), found, known: self.version });
            }
            _ => {}
        }
        transaction.commit().map_err(&failed)?;
        // Outside of a transaction, and only for a database that is ours.
        connection.pragma_update(None, "journal_mode", "WAL").map_err(&failed)?;
        Ok(connection)
    }
}

/// Fixed-length bytes of a column.
pub(crate) fn array<const N: usize>(what: &'static str, field: &'static str, bytes: &[u8]) -> Result<[u8; N], Error> {
    bytes.try_into().map_err(|_| Error::Damaged { what, field })
}

/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Layout =
        Layout { what: "toy", application: 7, version: 2, schema: "CREATE TABLE toy (id INTEGER) STRICT;" };

    #[test]
    fn another_layout_is_refused_unchanged_and_it_is_told_what_to_do() {
        let directory = tempfile::tempdir().expect("a directory");
        for (made, hint) in [(1, "register again"), (3, "newer release")] {
            let path = directory.path().join(format!("{made}.sqlite"));
            drop(Layout { version: made, ..NOW }.open(&path).expect("makes it"));
            let before = std::fs::read(&path).expect("reads");
            let error = NOW.open(&path).expect_err("is refused");
            assert!(matches!(&error, Error::Layout { found, known: 2, .. } if *found == made), "{error}");
            assert!(error.hint().is_some_and(|told| told.contains(hint)), "{error}");
            assert_eq!(std::fs::read(&path).expect("reads"), before);
        }
        drop(NOW.open(&directory.path().join("new.sqlite")).expect("makes it"));
        drop(NOW.open(&directory.path().join("new.sqlite")).expect("opens it"));
        let other = Layout { application: 8, ..NOW }.open(&directory.path().join("new.sqlite"));
        assert!(matches!(other, Err(Error::Foreign { .. })));
    }
}
