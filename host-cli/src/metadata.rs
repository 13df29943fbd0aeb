//! The metadata database: public attributes of each image, and its private part, sealed.
//!
//! Nothing here tells who the patient is: the private part is an encrypted container of its own under a key of its own,
//! and the attributes in clear are those of [`PublicAttributes`] alone. One project key per database, itself held by the
//! key servers, makes the replaced UIDs the same in every run.

use std::path::Path;

use eds_core::ids::{FileId, KeyId};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::database::{Layout, array};

pub use crate::database::Error;

/// The metadata database.
#[derive(Debug)]
pub struct Metadata {
    connection: Connection,
}

/// What the database holds of one image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The image.
    pub image: FileId,
    /// Its sealed private part.
    pub private: SealedPrivatePart,
    /// What may be known of it.
    pub attributes: PublicAttributes,
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

/// Attributes that identify nobody and are kept in clear.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PublicAttributes {
    /// (0008,0060), for example `CT`.
    pub modality: Option<String>,
    /// (0008,0016).
    pub sop_class: Option<String>,
    /// (0002,0010).
    pub transfer_syntax: Option<String>,
    /// (0018,0015), for example `CHEST`.
    pub body_part: Option<String>,
    /// (0028,0010).
    pub rows: Option<u32>,
    /// (0028,0011).
    pub columns: Option<u32>,
    /// (0028,0008).
    pub frames: Option<u32>,
}

/// The project key of a metadata database: which key, and its manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProjectKey {
    /// The key.
    pub key: KeyId,
    /// Its manifest as it was registered.
    pub manifest: Vec<u8>,
}

impl Metadata {
    /// Opens the database, which is made when it is not there.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::Layout`], [`Error::Sqlite`], [`Error::Place`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { connection: LAYOUT.open(path)? })
    }

    /// A database that is gone when it is dropped.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn in_memory() -> Result<Self, Error> {
        Ok(Self { connection: LAYOUT.in_memory()? })
    }

    /// Stores what is known of an image.
    ///
    /// # Errors
    /// [`Error::Duplicate`], [`Error::Sqlite`].
    pub fn insert(&self, record: &Record) -> Result<(), Error> {
        let Record { image, private, attributes } = record;
        let rows = self.connection.execute(
            "INSERT INTO image (image, private_file, private_key, salt, commitment, manifest, container, modality, \
             sop_class, transfer_syntax, body_part, rows, columns, frames) \
             VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14) ON CONFLICT DO NOTHING",
            params![
                image.as_bytes(),
                private.file.as_bytes(),
                private.key.as_bytes(),
                private.salt,
                private.commitment,
                private.manifest,
                private.container,
                attributes.modality,
                attributes.sop_class,
                attributes.transfer_syntax,
                attributes.body_part,
                attributes.rows,
                attributes.columns,
                attributes.frames,
            ],
        );
        match rows.map_err(LAYOUT.failed())? {
            0 => Err(Error::Duplicate { what: LAYOUT.what, file: *image }),
            _ => Ok(()),
        }
    }

    /// What is known of an image.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], [`Error::Sqlite`].
    pub fn record(&self, image: FileId) -> Result<Record, Error> {
        self.connection
            .query_row(
                "SELECT image, private_file, private_key, salt, commitment, manifest, container, modality, sop_class, \
                 transfer_syntax, body_part, rows, columns, frames FROM image WHERE image = ?1",
                params![image.as_bytes()],
                |row| Ok(Record::of(row)),
            )
            .optional()
            .map_err(LAYOUT.failed())?
            .ok_or(Error::NotFound { what: LAYOUT.what, file: image })?
    }

    /// Removes what is known of an image.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Sqlite`].
    pub fn remove(&self, image: FileId) -> Result<(), Error> {
        let rows = self.connection.execute("DELETE FROM image WHERE image = ?1", params![image.as_bytes()]);
        match rows.map_err(LAYOUT.failed())? {
            0 => Err(Error::NotFound { what: LAYOUT.what, file: image }),
            _ => Ok(()),
        }
    }

    /// The project key, once there is one.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Sqlite`].
    pub fn project_key(&self) -> Result<Option<ProjectKey>, Error> {
        let row: Option<(Vec<u8>, Vec<u8>)> = self
            .connection
            .query_row("SELECT key, manifest FROM project", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(LAYOUT.failed())?;
        row.map(|(key, manifest)| {
            Ok(ProjectKey { key: KeyId::from_bytes(array(LAYOUT.what, "project key", &key)?), manifest })
        })
        .transpose()
    }

    /// Sets the project key, for ever. Setting the same one again changes nothing.
    ///
    /// # Errors
    /// [`Error::OtherProjectKey`] when there is another one, perhaps set by another process just now; [`Error::Sqlite`].
    pub fn set_project_key(&self, project: &ProjectKey) -> Result<(), Error> {
        self.connection
            .execute(
                "INSERT INTO project (one, key, manifest) VALUES (1, ?1, ?2) ON CONFLICT DO NOTHING",
                params![project.key.as_bytes(), project.manifest],
            )
            .map_err(LAYOUT.failed())?;
        if self.project_key()?.as_ref() == Some(project) { Ok(()) } else { Err(Error::OtherProjectKey) }
    }
}

impl Record {
    fn of(row: &Row<'_>) -> Result<Self, Error> {
        let bytes = |index| row.get_ref(index).and_then(|value| Ok(value.as_blob()?)).map_err(LAYOUT.failed());
        let text = |index| row.get::<_, Option<String>>(index).map_err(LAYOUT.failed());
        let number = |index| row.get::<_, Option<u32>>(index).map_err(LAYOUT.failed());
        Ok(Self {
            image: FileId::from_bytes(array(LAYOUT.what, "image", bytes(0)?)?),
            private: SealedPrivatePart {
                file: FileId::from_bytes(array(LAYOUT.what, "private_file", bytes(1)?)?),
                key: KeyId::from_bytes(array(LAYOUT.what, "private_key", bytes(2)?)?),
                salt: array(LAYOUT.what, "salt", bytes(3)?)?,
                commitment: array(LAYOUT.what, "commitment", bytes(4)?)?,
                manifest: bytes(5)?.to_vec(),
                container: bytes(6)?.to_vec(),
            },
            attributes: PublicAttributes {
                modality: text(7)?,
                sop_class: text(8)?,
                transfer_syntax: text(9)?,
                body_part: text(10)?,
                rows: number(11)?,
                columns: number(12)?,
                frames: number(13)?,
            },
        })
    }
}

impl std::fmt::Debug for SealedPrivatePart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedPrivatePart({}, key {}, {} bytes)", self.file, self.key, self.container.len())
    }
}

const LAYOUT: Layout = Layout {
    what: "metadata",
    application: 0x4544_534d, // "EDSM"
    version: 1,
    schema: "CREATE TABLE image (
        image BLOB PRIMARY KEY CHECK (length(image) = 16),
        private_file BLOB NOT NULL UNIQUE CHECK (length(private_file) = 16),
        private_key BLOB NOT NULL CHECK (length(private_key) = 16),
        salt BLOB NOT NULL CHECK (length(salt) = 24),
        commitment BLOB NOT NULL CHECK (length(commitment) = 32),
        manifest BLOB NOT NULL,
        container BLOB NOT NULL,
        modality TEXT,
        sop_class TEXT,
        transfer_syntax TEXT,
        body_part TEXT,
        rows INTEGER,
        columns INTEGER,
        frames INTEGER
    ) STRICT;
    CREATE TABLE project (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        key BLOB NOT NULL CHECK (length(key) = 16),
        manifest BLOB NOT NULL
    ) STRICT;",
};

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u8) -> Record {
        Record {
            image: FileId::from_bytes([number; 16]),
            private: SealedPrivatePart {
                file: FileId::from_bytes([0x80 | number; 16]),
                key: KeyId::from_bytes([0xc0; 16]),
                salt: [1; 24],
                commitment: [2; 32],
                manifest: vec![3; 4],
                container: vec![5; 100],
            },
            attributes: PublicAttributes { modality: Some("CT".into()), rows: Some(512), ..Default::default() },
        }
    }

    fn project(number: u8) -> ProjectKey {
        ProjectKey { key: KeyId::from_bytes([number; 16]), manifest: vec![number; 9] }
    }

    #[test]
    fn records_survive_reopening() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("metadata.sqlite");
        let metadata = Metadata::open(&path).expect("opens");
        metadata.insert(&record(1)).expect("inserts");
        metadata.set_project_key(&project(7)).expect("sets");
        drop(metadata);
        let again = Metadata::open(&path).expect("reopens");
        assert_eq!(again.record(record(1).image).expect("is there"), record(1));
        assert_eq!(again.project_key().expect("reads"), Some(project(7)));
        again.remove(record(1).image).expect("removes");
        assert!(matches!(again.record(record(1).image), Err(Error::NotFound { .. })));
        assert!(matches!(again.remove(record(1).image), Err(Error::NotFound { .. })));
    }

    #[test]
    fn an_image_and_a_private_part_are_stored_once() {
        let metadata = Metadata::in_memory().expect("opens");
        metadata.insert(&record(1)).expect("inserts");
        assert!(matches!(metadata.insert(&record(1)), Err(Error::Duplicate { .. })));
        let same_part = Record { private: record(1).private, ..record(2) };
        assert!(matches!(metadata.insert(&same_part), Err(Error::Duplicate { .. })));
    }

    #[test]
    fn there_is_one_project_key() {
        let metadata = Metadata::in_memory().expect("opens");
        assert_eq!(metadata.project_key().expect("reads"), None);
        metadata.set_project_key(&project(1)).expect("sets");
        metadata.set_project_key(&project(1)).expect("the same again is fine");
        assert!(matches!(metadata.set_project_key(&project(2)), Err(Error::OtherProjectKey)));
        assert_eq!(metadata.project_key().expect("reads"), Some(project(1)));
    }

    #[test]
    fn another_layout_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("metadata.sqlite");
        drop(Metadata::open(&path).expect("opens"));
        Connection::open(&path).expect("opens").pragma_update(None, "user_version", 9).expect("updates");
        assert!(matches!(Metadata::open(&path), Err(Error::Layout { found: 9, known: 1, .. })));
    }
}
