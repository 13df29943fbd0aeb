//! Where ciphertext lives: objects under opaque names.
//!
//! A name is derived from the random file id alone, so whoever runs the storage learns sizes and times, never a patient,
//! a file name or a logical name. An object appears whole or not at all, is on stable storage before that is reported,
//! and is never overwritten. Every implementation passes the conformance suite in `conformance`.
//!
//! | part | purpose |
//! |---|---|
//! | `site` | the storages of the configuration, by name and by URL |
//! | `local`, `memory` | objects as files of this machine, or for tests |
//! | `remote` | what all storages elsewhere have in common, over the `Door` that each protocol is |
//! | `reader`, `attempts` | ranges read ahead, trying again |
//! | `http`, `webdav` | HTTP, WebDAV and XRootD's HTTP |
//! | `s3`, `sftp`, `gfal` | features of that name |
//! | `fault` | what a storage elsewhere did not do, and whether asking again may help |

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek},
    str::FromStr,
};

use eds_core::ids::FileId;

use crate::{credentials, error::Kind, output};

pub use self::{
    fault::Fault,
    site::{Protocol, Site, Sites},
};
use self::{local::LocalStore, remote::RemoteStore};

mod attempts;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod fault;
#[cfg(feature = "gfal")]
mod gfal;
mod http;
pub mod local;
pub mod memory;
mod reader;
mod remote;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "sftp")]
mod sftp;
pub mod site;
mod webdav;

/// A place for objects.
///
/// Implementations keep the promises of the module: whole or not at all, durable, never overwritten.
pub trait ObjectStore: Send + Sync {
    /// Starts an object. It does not exist before [`NewObject::finish`].
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Io`].
    fn create(&self, name: &ObjectName) -> Result<Box<dyn NewObject>, Error>;

    /// Opens an object for reading.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`].
    fn open(&self, name: &ObjectName) -> Result<Box<dyn Object>, Error>;

    /// Deletes an object.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`].
    fn delete(&self, name: &ObjectName) -> Result<(), Error>;

    /// Asks the storage, if it is one elsewhere, whether it answers this caller.
    ///
    /// # Errors
    /// [`Error::Remote`] when it does not.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// An object being written. Dropped unfinished, it leaves nothing.
pub trait NewObject: Send {
    /// A file that becomes the object; any way of writing it will do, also at positions.
    fn file(&self) -> &File;

    /// Puts the object in its place, durably.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Io`].
    fn finish(self: Box<Self>) -> Result<(), Error>;
}

/// An object being read.
pub trait Object: Read + Seek + Send {
    /// Its length in bytes.
    ///
    /// # Errors
    /// What the operating system or the storage said.
    fn size(&self) -> io::Result<u64>;

    /// The object as a local file, where it is one, for reading at positions from several threads.
    fn as_file(&self) -> Option<&File> {
        None
    }
}

/// Opens the storage of a site. One elsewhere is not asked anything yet.
///
/// # Errors
/// As [`Site::open`].
pub fn open(site: &Site) -> Result<Box<dyn ObjectStore>, Error> {
    Ok(open_any(site)?.into_store())
}

/// A store that also knows objects whose names are not ours.
trait Paths: ObjectStore {
    /// Opens what lies at this path below the URL of the site.
    fn open_path(&self, path: &str) -> Result<Box<dyn Object>, Error>;

    /// Deletes what lies there.
    fn delete_path(&self, path: &str) -> Result<(), Error>;

    /// The store alone.
    fn into_store(self: Box<Self>) -> Box<dyn ObjectStore>;
}

fn open_any(site: &Site) -> Result<Box<dyn Paths>, Error> {
    Ok(match site.url().protocol() {
        Protocol::File => Box::new(LocalStore::open(site.url().path().as_ref())?),
        Protocol::Http { tls } => Box::new(RemoteStore::new(site, webdav::WebDav::new(site, tls)?)),
        #[cfg(feature = "s3")]
        Protocol::S3 => Box::new(RemoteStore::new(site, s3::S3::new(site)?)),
        #[cfg(not(feature = "s3"))]
        Protocol::S3 => return Err(not_built(site, "s3")),
        #[cfg(feature = "sftp")]
        Protocol::Sftp => Box::new(RemoteStore::new(site, sftp::SftpDoor::new(site)?)),
        #[cfg(not(feature = "sftp"))]
        Protocol::Sftp => return Err(not_built(site, "sftp")),
        #[cfg(feature = "gfal")]
        Protocol::Gfal => Box::new(RemoteStore::new(site, gfal::GfalDoor::new(site)?)),
        #[cfg(not(feature = "gfal"))]
        Protocol::Gfal => return Err(not_built(site, "gfal")),
    })
}

#[cfg(not(all(feature = "s3", feature = "sftp", feature = "gfal")))]
fn not_built(site: &Site, feature: &'static str) -> Error {
    Error::NotBuilt { url: site.url().to_string(), feature }
}

/// The name of an object: `ab/cd/<file id>`, where ab and cd are the first two bytes of the file id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectName(FileId);

/// A failure of a storage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such object.
    #[error("the storage has no object {name}")]
    NotFound {
        /// Its name.
        name: ObjectName,
    },
    /// There is an object of that name.
    #[error("the storage has an object {name} already")]
    Exists {
        /// Its name.
        name: ObjectName,
    },
    /// The storage could not be used.
    #[error("the storage failed at object {name}")]
    Io {
        /// The object.
        name: ObjectName,
        /// What the operating system said.
        source: io::Error,
    },
    /// A text that is not the name of an object.
    #[error("{0:?} is not the name of an object")]
    NotAName(String),
    /// The directory of a local storage could not be made.
    #[error(transparent)]
    Place(#[from] output::Error),
    /// A storage elsewhere did not do as it was asked.
    #[error("storage {site}: {url}")]
    Remote {
        /// The site.
        site: String,
        /// The object, or the URL of the site.
        url: String,
        /// What it did instead.
        source: Fault,
    },
    /// A URL that is none.
    #[error("{url:?} is not the URL of a storage: {problem}")]
    Url {
        /// The text.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A site that cannot be used as it is written.
    #[error("storage {site}: {problem}")]
    Setting {
        /// The site.
        site: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No site at all.
    #[error("no storage is configured")]
    NoSite,
    /// A site that is not configured.
    #[error("there is no storage {name} in the configuration: there are {}", known.join(", "))]
    UnknownSite {
        /// The name.
        name: String,
        /// Those that are.
        known: Vec<String>,
    },
    /// A URL below none of the configured sites.
    #[error("{url} is not below the URL of a configured storage")]
    OtherPlace {
        /// The URL.
        url: String,
    },
    /// A URL that needs what was left out of this program.
    #[error("{url} needs an eds that was built with the feature {feature}")]
    NotBuilt {
        /// The URL.
        url: String,
        /// The feature of the package `eds`.
        feature: &'static str,
    },
    /// What proves who the caller is to a storage.
    #[error("storage {site}")]
    Proof {
        /// The site.
        site: String,
        /// What is wrong.
        source: Box<credentials::Error>,
    },
}

impl Error {
    /// The storage's own error in one of reading or writing.
    pub fn within(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Exists { .. } => Kind::Conflict,
            Self::Io { .. } => Kind::LocalIo,
            Self::NotAName(_) => Kind::Damaged,
            Self::Place(error) => error.kind(),
            Self::Remote { source, .. } => source.kind(),
            Self::Url { .. } | Self::Setting { .. } | Self::NoSite => Kind::Usage,
            Self::UnknownSite { .. } | Self::OtherPlace { .. } => Kind::Usage,
            Self::NotBuilt { .. } => Kind::Unsupported,
            Self::Proof { source, .. } => source.kind(),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { .. } => Some("check [storage] in the configuration".into()),
            Self::Place(error) => error.hint(),
            Self::Remote { source, .. } => source.hint(),
            Self::Proof { source, .. } => source.hint(),
            Self::OtherPlace { .. } => Some("add it to the configuration: [[storage.site]] with name and url".into()),
            Self::NotBuilt { feature, .. } => Some(format!(
                "build it with cargo build -p eds --features {feature}, or take the package of your distribution"
            )),
            _ => None,
        }
    }
}

impl ObjectName {
    /// The name of the object that holds this file.
    pub const fn of(file: FileId) -> Self {
        Self(file)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, ..] = self.0.as_bytes();
        write!(f, "{first:02x}/{second:02x}/{}", self.0)
    }
}

impl FromStr for ObjectName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::NotAName(text.into());
        let name = text.rsplit('/').next().and_then(|id| id.parse().ok()).map(Self).ok_or_else(wrong)?;
        if name.to_string() == text { Ok(name) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_file_id_and_nothing_else() {
        let file: FileId = "01234567-89ab-cdef-0123-456789abcdef".parse().expect("an id");
        let name = ObjectName::of(file);
        assert_eq!(name.to_string(), "01/23/01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(name.to_string().parse::<ObjectName>().expect("reads"), name);
        for wrong in [
            "",
            "01234567-89ab-cdef-0123-456789abcdef",
            "01/24/01234567-89ab-cdef-0123-456789abcdef",
            "../01/23/01234567-89ab-cdef-0123-456789abcdef",
            "01/23/01234567-89AB-cdef-0123-456789abcdef",
            "01/23/../../etc/passwd",
        ] {
            assert!(wrong.parse::<ObjectName>().is_err(), "{wrong:?}");
        }
    }
}
