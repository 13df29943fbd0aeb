//! What can go wrong with a courier, and what is wrong with what came.

use std::{io, path::PathBuf};

use eds_core::ids::{DeviceId, FileId, KeyId};

use crate::error::Kind;

/// A courier that cannot work, or what was brought and cannot be carried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another courier works in this state directory.
    #[error("another eds courier is at work in {}", path.display())]
    InUse {
        /// The spool.
        path: PathBuf,
    },
    /// The spool cannot be used.
    #[error("the spool of the courier cannot be used: {}", path.display())]
    Spool {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The line cannot be opened.
    #[error("{place}: the line cannot be opened")]
    Line {
        /// Where.
        place: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The part that carries ended.
    #[error("the courier ended before its time")]
    Ended,
    /// Images that did not come whole.
    #[error("{images} image(s) did not come whole, and are lost to this workstation")]
    Incomplete {
        /// How many.
        images: usize,
    },
    /// Images that could not be delivered yet.
    #[error("{images} image(s) wait on this workstation for storage or key servers")]
    Waiting {
        /// How many.
        images: usize,
        /// The kind of what hinders the first.
        kind: Kind,
    },
    /// Images that can never be delivered.
    #[error("some images can never be delivered, and were set aside in {}", place.display())]
    SetAside {
        /// Where.
        place: PathBuf,
        /// The kind of the first reason.
        kind: Kind,
    },
    /// A recording that was whole and is not any more.
    #[error("the recording of key {key} is damaged on this workstation's disk")]
    Damaged {
        /// The key.
        key: KeyId,
    },
    /// A bundle that is none.
    #[error(
        "device {device}, key {key}: its bundle is not in the format ({source}): device and courier are of different releases, or the line changed it on purpose"
    )]
    Bundle {
        /// The device.
        device: DeviceId,
        /// The key.
        key: KeyId,
        /// What is wrong.
        source: eds_core::Error,
    },
    /// A container that is none, or has no right end.
    #[error("device {device}, file {file}: its container is not in the format ({source})")]
    Container {
        /// The device.
        device: DeviceId,
        /// The file.
        file: FileId,
        /// What is wrong.
        source: eds_core::Error,
    },
    /// Parts of different images.
    #[error(
        "device {device}, key {key}: announcement, bundle and container are not of one image: a part was exchanged on the line or in the device"
    )]
    Exchanged {
        /// The device.
        device: DeviceId,
        /// The key.
        key: KeyId,
    },
    /// Another container has the name.
    #[error("file {file}: the storage has another container under this id")]
    OtherContainer {
        /// The file.
        file: FileId,
    },
    /// The catalog has another file of this id.
    #[error("file {file}: the catalog has another file under this id")]
    OtherEntry {
        /// The file.
        file: FileId,
    },
}

impl Error {
    /// Whether trying again can never help.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::Bundle { .. }
                | Self::Container { .. }
                | Self::Exchanged { .. }
                | Self::OtherContainer { .. }
                | Self::OtherEntry { .. }
        )
    }

    /// For the exit code.
    pub fn kind(&self) -> Kind {
        match self {
            Self::InUse { .. } => Kind::Conflict,
            Self::Spool { source, .. } | Self::Line { source, .. } => Kind::of_io(source),
            Self::Ended => Kind::Other,
            Self::Waiting { kind, .. } | Self::SetAside { kind, .. } => *kind,
            Self::Incomplete { .. } | Self::Damaged { .. } | Self::Bundle { .. } => Kind::Damaged,
            Self::Container { .. } | Self::Exchanged { .. } => Kind::Damaged,
            Self::OtherContainer { .. } | Self::OtherEntry { .. } => Kind::Conflict,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::InUse { .. } => "end it first, or give this one a configuration with a state directory of its own",
            Self::Incomplete { .. } => "take the images again; look at cable and power of the device",
            Self::Waiting { .. } => "start eds courier again when the cause is removed: nothing is lost meanwhile",
            Self::SetAside { .. } => {
                "the reasons are above; nobody can open these images, keep them for whoever looks into it"
            }
            Self::Line { .. } => {
                "check the name, and that this user may open it (for a serial port, the group dialout)"
            }
            Self::Damaged { .. } => "check the disk",
            _ => return None,
        };
        Some(text.into())
    }
}
