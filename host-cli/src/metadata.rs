//! The metadata database: patients, studies, series and images, what may be known of each, and the sealed private parts.
//!
//! Nothing here tells who the patient is. The [`policy`] says of each attribute whether it is kept in clear (as the
//! de-identified image has it), as a keyed token that finds whole values and shows none ([`blind`]), or not at all. Patients,
//! studies, series and images are known by the names that the de-identified image has. The private part is an encrypted
//! container of its own. An image is there once: its `identity` is a keyed token of the original SOP Instance UID.
//!
//! | part | purpose |
//! |---|---|
//! | `policy` | what becomes of each attribute |
//! | `blind` | the tokens that equality is searched by |
//! | `attributes` | what an image brings along |
//! | `query` | what is asked for, in the terms of DICOM |
//! | `store` | the statements, the same for every database |
//! | `sqlite`, `postgres` | the databases |

pub mod attributes;
pub mod blind;
pub mod policy;
mod postgres;
pub mod query;
mod sqlite;
mod store;

#[cfg(test)]
mod conformance;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use eds_core::ids::{FileId, KeyId};

use self::{
    attributes::Place,
    query::{Found, Query},
    store::Database,
};
use crate::catalog::Content;

pub use crate::database::Error;

/// Where the metadata database is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Location {
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL database.
    Postgres(PostgresLocation),
}

/// A PostgreSQL database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PostgresLocation {
    /// Host, name of the database and of the user, without a password.
    pub connection: String,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Postgres(location) => write!(f, "PostgreSQL, {}", location.connection),
        }
    }
}

/// The metadata database.
pub struct Metadata {
    database: Mutex<Box<dyn Database>>,
}

/// What the database holds of one image or file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its id.
    pub image: FileId,
    /// What it is.
    pub content: Content,
    /// Keyed token of the original SOP Instance UID, or of the content of a file that is no image.
    pub identity: [u8; 32],
    /// Keyed token of the original's digest.
    pub digest: [u8; 32],
    /// Its sealed private part, if it has one.
    pub private: Option<SealedPrivatePart>,
    /// Where it stands among patients, studies and series; nothing for a file that is no image.
    pub place: Option<Place>,
    /// Where its frames are, with a tag under its key.
    pub frames: Option<Vec<u8>>,
}

/// A private part as the database holds it: a whole container, and what it must look like.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedPrivatePart {
    /// The id in the container's header.
    pub file: FileId,
    /// Its key.
    pub key: KeyId,
    /// The salt of the container.
    pub salt: [u8; 24],
    /// The key commitment of the container.
    pub commitment: [u8; 32],
    /// The manifest of the key as it was registered.
    pub manifest: Vec<u8>,
    /// The container.
    pub container: Vec<u8>,
}

/// What the database knows already of an image that is to be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// Its id.
    pub image: FileId,
    /// What it is.
    pub content: Content,
    /// Keyed token of the original's digest.
    pub digest: [u8; 32],
}

/// What became of a record that was to be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// It is stored.
    Done,
    /// There is one of this identity.
    Known(Known),
}

/// What a project has keys for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Replacing UIDs, and telling images apart.
    Uid,
    /// Searching by attributes that are not in clear.
    Search,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Uid, Self::Search];

    /// The word for it on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Uid => "uids",
            Self::Search => "search",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Uid => "uid",
            Self::Search => "search",
        }
    }
}

/// A key of a project: which, and its manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProjectKey {
    /// The key.
    pub key: KeyId,
    /// Its manifest as it was registered.
    pub manifest: Vec<u8>,
}

/// How many images share a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum KeyScope {
    /// None.
    #[default]
    Image,
    /// Those of a series.
    Series,
    /// Those of a study.
    Study,
}

impl KeyScope {
    const fn code(self) -> i64 {
        match self {
            Self::Image => 0,
            Self::Series => 1,
            Self::Study => 2,
        }
    }
}

/// The keys that the images of a series or a study share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupKeys {
    /// Of a series or of a study.
    pub scope: KeyScope,
    /// Its name in the database.
    pub name: String,
    /// The key of the images.
    pub image: ProjectKey,
    /// The key of the private parts.
    pub private: ProjectKey,
}

impl Metadata {
    /// Opens the database; a SQLite file and the tables are made when they are not there.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::Layout`], [`Error::Sqlite`], [`Error::Postgres`], [`Error::Place`].
    pub fn open(location: &Location) -> Result<Self, Error> {
        let database: Box<dyn Database> = match location {
            Location::File(path) => Box::new(sqlite::Sqlite::open(path)?),
            Location::Postgres(location) => Box::new(postgres::Postgres::open(location)?),
        };
        Ok(Self { database: Mutex::new(database) })
    }

    /// Opens a SQLite file.
    ///
    /// # Errors
    /// As [`Metadata::open`].
    pub fn open_file(path: &Path) -> Result<Self, Error> {
        Self::open(&Location::File(path.into()))
    }

    /// A database that is gone when it is dropped.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn in_memory() -> Result<Self, Error> {
        Ok(Self { database: Mutex::new(Box::new(sqlite::Sqlite::in_memory()?)) })
    }

    /// Stores records and the keys that their groups share, all in one transaction. A record whose identity is known
    /// already is left out and told; a key that another process was first to set stays as it is.
    ///
    /// # Errors
    /// [`Error::Duplicate`] for an id that is there; database errors. Then nothing is stored.
    pub fn insert(&self, records: &[Record], groups: &[GroupKeys]) -> Result<Vec<Inserted>, Error> {
        store::insert(&mut **self.lock(), records, groups)
    }

    /// The sealed private part of an image.
    ///
    /// # Errors
    /// [`Error::NotFound`] also when the file has none, [`Error::Damaged`], database errors.
    pub fn private_part(&self, image: FileId) -> Result<SealedPrivatePart, Error> {
        store::private_part(&mut **self.lock(), image)
    }

    /// The frame table of an image with its tag, if it has one.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], database errors.
    pub fn frames(&self, image: FileId) -> Result<Option<Vec<u8>>, Error> {
        store::frames(&mut **self.lock(), image)
    }

    /// Whether there is a record of this id.
    ///
    /// # Errors
    /// Database errors.
    pub fn contains(&self, image: FileId) -> Result<bool, Error> {
        store::contains(&mut **self.lock(), image)
    }

    /// What is known under this identity.
    ///
    /// # Errors
    /// [`Error::Damaged`], database errors.
    pub fn known(&self, identity: &[u8; 32]) -> Result<Option<Known>, Error> {
        store::known(&mut **self.lock(), identity)
    }

    /// Removes what is known of an image; series, study and patient go with their last image.
    ///
    /// # Errors
    /// [`Error::NotFound`], database errors.
    pub fn remove(&self, image: FileId) -> Result<(), Error> {
        store::remove(&mut **self.lock(), image)
    }

    /// The images that fit a query, ordered by patient, study, series and image.
    ///
    /// # Errors
    /// [`Error::Damaged`], database errors.
    pub fn search(&self, query: &Query) -> Result<Vec<Found>, Error> {
        store::search(&mut **self.lock(), query)
    }

    /// The keys that the images of a series or study share, once there are any.
    ///
    /// # Errors
    /// [`Error::Damaged`], database errors.
    pub fn group_keys(&self, scope: KeyScope, name: &str) -> Result<Option<GroupKeys>, Error> {
        store::group_keys(&mut **self.lock(), scope, name)
    }

    /// Whether images of any series or study share this key.
    ///
    /// # Errors
    /// Database errors.
    pub fn is_group_key(&self, key: KeyId) -> Result<bool, Error> {
        store::is_group_key(&mut **self.lock(), key)
    }

    /// A key of the project, once there is one.
    ///
    /// # Errors
    /// [`Error::Damaged`], database errors.
    pub fn project_key(&self, role: Role) -> Result<Option<ProjectKey>, Error> {
        store::project_key(&mut **self.lock(), role)
    }

    /// Sets a key of the project, for ever. Setting the same one again changes nothing.
    ///
    /// # Errors
    /// [`Error::OtherProjectKey`] when there is another one, perhaps set by another process just now; database errors.
    pub fn set_project_key(&self, role: Role, project: &ProjectKey) -> Result<(), Error> {
        store::set_project_key(&mut **self.lock(), role, project)
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Database>> {
        // Every change is a transaction: whoever panicked left none half done.
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metadata")
    }
}

impl std::fmt::Debug for SealedPrivatePart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedPrivatePart({}, key {}, {} bytes)", self.file, self.key, self.container.len())
    }
}
