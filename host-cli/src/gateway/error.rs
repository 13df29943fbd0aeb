//! What ends an association, or keeps the gateway from starting.

use std::{io, net::SocketAddr, path::PathBuf};

use crate::error::Kind;

/// A failure of the gateway.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The settings are not valid.
    #[error("{} is not valid", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A setting that cannot be.
    #[error("{}: {reason}", path.display())]
    Setting {
        /// The file.
        path: PathBuf,
        /// Which and why.
        reason: String,
    },
    /// Certificates or a key that cannot be used.
    #[error("{}: {reason}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to the peer failed")]
    Connection(#[source] io::Error),
    /// The peer ended the association.
    #[error("the peer aborted the association")]
    Aborted,
    /// The peer does not speak the protocol.
    #[error("the peer broke the DICOM protocol: {0}")]
    Protocol(&'static str),
    /// The peer refused an association or all that was proposed.
    #[error("the peer refused: {0}")]
    Refused(String),
    /// An object that cannot be sent on.
    #[error(transparent)]
    Client(#[from] Box<crate::Error>),
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } => Kind::of_io(source),
            Self::Invalid { .. } | Self::Setting { .. } | Self::Tls { .. } => Kind::Usage,
            Self::Listen { .. } => Kind::LocalIo,
            Self::Client(error) => error.kind(),
            _ => Kind::Unavailable,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { .. } => Some("another program may use that port; see `listen` in the settings".into()),
            Self::Read { .. } => Some("docs/gateway.md has an example".into()),
            Self::Client(error) => error.hint(),
            _ => None,
        }
    }
}

impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        Self::Client(Box::new(error))
    }
}
