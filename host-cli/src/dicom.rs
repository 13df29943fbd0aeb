//! Taking a DICOM file apart into what may be seen and what is the patient's, and putting it together again.
//!
//! [`deidentify()`] reads a file once, forward, and keeps three byte ranges: everything before the pixel data, the pixel data
//! element, everything after it. The de-identified file is a new header followed by the pixel data element as it was, bit
//! for bit unless rectangles of it are blanked. The private part ([`private_part`]) holds the other two ranges as they
//! were received, and what was blanked, so that [`restore()`] gives back the original byte for byte; parsing and writing
//! again could not do that. Memory is bounded by the size of the header, whatever the size of the pixel data.
//!
//! | part | does |
//! |---|---|
//! | `split`, `dataset` | read: byte ranges, elements |
//! | [`table`] | PS3.15 Annex E as data |
//! | [`profile`] | the options and exceptions of a project |
//! | `rules`, `values`, `clean` | decide for each element, make new values, write |
//! | [`pixels`] | which pictures are suspect; blanking |
//! | [`secret`] | keyed UIDs, pseudonyms, days |
//! | [`report`] | what was done |
//!
//! ```no_run
//! use eds::dicom::{How, Profile, ProjectSecret, deidentify};
//!
//! let (profile, secret) = (Profile::default(), ProjectSecret::new([0; 32]));
//! let mut input = std::fs::File::open("scan.dcm")?;
//! let image = deidentify(&mut input, &How { report: true, ..How::new(&profile, &secret) })?;
//! let mut stream = image.deidentified(&mut input)?;
//! std::io::copy(&mut stream, &mut std::io::stdout())?;
//! let finished = stream.finish()?; // for `image.into_private_part`
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::io;

use crate::error::Kind;

mod clean;
mod dataset;
pub mod deidentify;
pub mod frames;
#[cfg(feature = "gateway")]
pub mod head;
pub mod header;
mod native;
pub mod pixels;
pub mod private_part;
pub mod profile;
pub mod report;
pub mod restore;
pub(crate) mod rle;
mod rules;
pub mod secret;
mod split;
pub mod table;
mod values;

#[cfg(any(feature = "view", feature = "gateway"))]
pub(crate) use dataset::Encoding;
#[cfg(any(feature = "gateway", all(test, feature = "view")))]
pub(crate) use dataset::write as write_element;
#[cfg(feature = "gateway")]
pub(crate) use dataset::{Value, parse, write_item};
pub use deidentify::{Deidentified, Digests, Finished, How, ImageBinding, Separated, deidentify};
#[cfg(feature = "gateway")]
pub(crate) use deidentify::{IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION};
pub use frames::{FrameTable, Frames};
pub use header::Header;
pub use pixels::{Region, Suspicion};
pub use private_part::PrivatePart;
pub use profile::Profile;
pub use report::Report;
pub use restore::{Restorer, restore};
pub use secret::ProjectSecret;

/// A file that cannot be taken apart or put together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No DICOM file: the prefix is missing.
    #[error("not a DICOM file: there is no DICM prefix at byte 128")]
    NotDicom,
    /// The file meta information does not name the transfer syntax.
    #[error("the file meta information names no transfer syntax")]
    NoTransferSyntax,
    /// A transfer syntax that is not supported.
    #[error("transfer syntax {0:?} is not supported")]
    TransferSyntax(String),
    /// A directory of a medium: it lists images, with their patients, and is none.
    #[error("a DICOMDIR is not an image")]
    Directory,
    /// The file is not built as DICOM PS3.5 says.
    #[error("malformed DICOM at byte {at}: {reason}")]
    Malformed {
        /// Offset in the data set as it was read.
        at: u64,
        /// What is wrong there.
        reason: &'static str,
    },
    /// The file ends within an element.
    #[error("truncated DICOM: the element at byte {at} is longer than the file")]
    Truncated {
        /// Offset in the data set as it was read.
        at: u64,
    },
    /// More data outside of the pixel data than is held in memory.
    #[error("the {what} is larger than {} MiB", MAX_HELD >> 20)]
    TooLarge {
        /// Which part.
        what: &'static str,
    },
    /// An image that may show who the patient is.
    #[error("the image may show who the patient is{}", list(.suspicions))]
    Suspect {
        /// Why.
        suspicions: Vec<Suspicion>,
    },
    /// An image that may show who the patient is, and that the profile wants to be looked at.
    #[error("the image may show who the patient is, and must be looked at first{}", list(.suspicions))]
    Quarantine {
        /// Why.
        suspicions: Vec<Suspicion>,
    },
    /// Rectangles that cannot be blanked in this image.
    #[error("nothing can be blanked in this image: {reason}")]
    Mask {
        /// Why.
        reason: &'static str,
    },
    /// The input could not be read.
    #[error("cannot read the image")]
    Read(#[source] io::Error),
    /// The input changed between the first and the second reading.
    #[error("the image changed while it was read")]
    Changed,
    /// The restored file could not be written.
    #[error("cannot write the restored image")]
    Write(#[source] io::Error),
    /// A private part that is not in its documented format.
    #[error("the private part is damaged")]
    PrivatePart(#[source] eds_core::Error),
    /// A private part of another image.
    #[error("the private part belongs to another image")]
    OtherImage,
    /// What was put together is not the original.
    #[error("the restored image is not the original")]
    NotTheOriginal,
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read(source) | Self::Write(source) => Kind::of_io(source),
            Self::PrivatePart(eds_core::Error::UnknownVersion(_)) => Kind::Unsupported,
            Self::PrivatePart(_) | Self::OtherImage | Self::NotTheOriginal => Kind::Damaged,
            Self::Changed => Kind::Conflict,
            Self::Suspect { .. } | Self::Quarantine { .. } => Kind::Suspect,
            Self::Mask { .. } => Kind::Usage,
            _ => Kind::Unsupported,
        }
    }

    /// Whether the input cannot be processed as DICOM at all; it may be registered as an opaque file instead.
    pub fn is_unreadable(&self) -> bool {
        self.kind() == Kind::Unsupported && !matches!(self, Self::PrivatePart(_))
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::PrivatePart(eds_core::Error::UnknownVersion(_)) => Some("use a newer release of eds".into()),
            Self::Suspect { .. } | Self::Quarantine { .. } => Some(
                "look at the picture; --mask x,y,width,height blanks rectangles of it, --pass-suspect registers it as it is, \
                 and the report says so"
                    .into(),
            ),
            Self::Mask { .. } => Some(
                "rectangles are blanked in pictures that are not compressed, or by RLE, and whose pixels are whole bytes; \
                 decompress the image first, for example with dcmdjpeg"
                    .into(),
            ),
            _ => None,
        }
    }
}

fn list(suspicions: &[Suspicion]) -> String {
    suspicions.iter().fold(String::new(), |text, suspicion| format!("{text}\n  {suspicion}"))
}

/// The most that is held in memory of a header, of what follows the pixel data, or of a deflated file, in bytes.
pub const MAX_HELD: u64 = 64 << 20;
