//! The de-identification profile of a project: which options of PS3.15, what is otherwise, and which images are suspect.
//!
//! A TOML file (docs/deidentification.md) that has a name, a version and, by the SHA-256 of its bytes, an identity; all
//! three are written into every image that it was applied to. Everything that is wrong with it is told at once, with
//! line and hint, and nothing of a profile with a fault is used.

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use dicom_core::Tag;

use super::{
    pixels::Region,
    table::{Choice, Codes, Column},
};
use crate::error::Kind;

mod parse;
mod reader;

/// A de-identification profile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Its version, as the project counts.
    pub version: String,
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    /// The options of PS3.15 that it takes.
    pub options: BTreeSet<Column>,
    /// What is put in the place of the patient.
    pub patient: Patient,
    /// Words that cleaned texts may keep, in capital letters.
    pub words: BTreeSet<String>,
    /// Private elements that stay.
    pub safe_private: Vec<SafePrivate>,
    /// Which images are suspect, and what becomes of them.
    pub suspects: Suspects,
    /// What is blanked in the images of known devices.
    pub masks: Vec<DeviceMask>,
    overrides: Vec<Override>,
}

/// What is put in the place of the patient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patient {
    /// Of the name.
    pub name: Stand,
    /// Of the id.
    pub id: Stand,
    /// By how many days dates are shifted at most.
    pub most_days: u32,
}

/// What stands for a value that identifies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stand {
    /// A word that is the same for the same patient.
    Pseudonym,
    /// What Table E.1-1 says: nothing, or a dummy.
    Table,
}

/// What a project wants otherwise than the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Leave it as it is; sequences are still looked into.
    Keep,
    /// Take it out.
    Remove,
    /// Leave it without a value.
    Empty,
    /// Put a dummy value in its place.
    Dummy,
    /// Keep of a text the words of the vocabulary, of a date the day counted from another one.
    Clean,
    /// Replace its UIDs.
    Uid,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 6] = [Self::Keep, Self::Remove, Self::Empty, Self::Dummy, Self::Clean, Self::Uid];

    /// Its name in a profile.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Remove => "remove",
            Self::Empty => "empty",
            Self::Dummy => "dummy",
            Self::Clean => "clean",
            Self::Uid => "uid",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Override {
    mask: u32,
    value: u32,
    action: Action,
}

/// Private elements that do not identify (PS3.15, section E.3.10).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SafePrivate {
    /// The odd group.
    pub group: u16,
    /// The private creator, exactly.
    pub creator: String,
    /// The last two digits of the element numbers.
    pub elements: BTreeSet<u8>,
}

/// What becomes of an image of which something is suspect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnSuspect {
    /// It is not registered.
    Refuse,
    /// It is encrypted whole, as it is, for somebody to look at.
    Quarantine,
    /// It is registered, and said.
    Pass,
}

impl OnSuspect {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Refuse, Self::Quarantine, Self::Pass];

    /// Its name in a profile.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Quarantine => "quarantine",
            Self::Pass => "pass",
        }
    }
}

/// Which images are suspect, and what becomes of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suspects {
    /// Of writing in the picture.
    pub burned_in: OnSuspect,
    /// Of a recognisable person in a photograph.
    pub faces: OnSuspect,
    /// Of a head in a volume, from which a face can be computed.
    pub heads: OnSuspect,
    /// Of a document inside the file.
    pub documents: OnSuspect,
    /// Of data beside the picture within the pixel data.
    pub hidden: OnSuspect,
    /// Modalities whose pictures often have writing.
    pub modalities: Vec<String>,
    /// SOP classes whose pictures often have writing; a dot at the end stands for all below.
    pub sop_classes: Vec<String>,
    /// Words in the image type of screen shots.
    pub image_types: Vec<String>,
    /// Body parts with a face.
    pub head_parts: Vec<String>,
}

/// What is blanked in the images of a device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceMask {
    /// The modality; any when `None`.
    pub modality: Option<String>,
    /// The manufacturer; any when `None`.
    pub manufacturer: Option<String>,
    /// The manufacturer's model name; any when `None`.
    pub model: Option<String>,
    /// Rows of the image.
    pub rows: u32,
    /// Columns of the image.
    pub columns: u32,
    /// What is blanked.
    pub regions: Vec<Region>,
}

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that cannot be read.
    #[error("cannot read the profile {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file that is not a valid profile.
    #[error("{} is not a valid profile{}", path.display(), list(.faults))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong.
        faults: Vec<Fault>,
    },
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } => Kind::of_io(source),
            Self::Invalid { .. } => Kind::Usage,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => None,
            Self::Invalid { .. } => Some("`eds profile show` prints a valid one to start from".into()),
        }
    }
}

/// Something wrong in a profile.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fault {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

fn list(faults: &[Fault]) -> String {
    faults.iter().fold(String::new(), |text, fault| format!("{text}\n  {fault}"))
}

/// The text of the profile that is used when there is no other.
pub const DEFAULT: &str = include_str!("profile/default.toml");
/// The words that every profile has.
const WORDS: &str = include_str!("profile/words.txt");
/// The largest file that is taken for a profile, in bytes.
const MAX_BYTES: usize = 1 << 20;

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// [`Error`], with everything that is wrong.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Self::parse(&bytes).map_err(|faults| Error::Invalid { path: path.into(), faults })
    }

    /// The profile with these bytes.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<Fault>> {
        let whole = |message: &str| vec![Fault { line: 1, message: message.into() }];
        if bytes.len() > MAX_BYTES {
            return Err(whole("larger than 1 MiB"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| whole("not UTF-8 text"))?;
        let mut read = parse::profile(text)?;
        read.digest.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Ok(read)
    }

    /// The action that the project wants for an attribute whatever the table says; an exact tag goes before a pattern.
    pub fn overridden(&self, tag: Tag) -> Option<Action> {
        let number = u32::from(tag.group()) << 16 | u32::from(tag.element());
        let fits = |one: &&Override| number & one.mask == one.value;
        self.overrides.iter().filter(fits).max_by_key(|one| one.mask.count_ones()).map(|one| one.action)
    }

    /// What the options of this profile say of a row, if anything.
    pub fn choice(&self, codes: &Codes) -> Option<(Column, Choice)> {
        let of = |wanted| {
            let says = |column: &&Column| codes.option(**column) == Some(wanted);
            self.options.iter().find(says).map(|column| (*column, wanted))
        };
        // What is to be kept need not be cleaned.
        of(Choice::Keep).or_else(|| of(Choice::Clean))
    }

    /// Whether it takes this option.
    pub fn takes(&self, option: Column) -> bool {
        self.options.contains(&option)
    }

    /// Whether a private element is safe.
    pub fn is_safe_private(&self, tag: Tag, creator: &str) -> bool {
        let [_, last] = tag.element().to_be_bytes();
        self.takes(Column::RetainSafePrivate)
            && self
                .safe_private
                .iter()
                .any(|safe| safe.group == tag.group() && safe.creator == creator && safe.elements.contains(&last))
    }

    /// The SHA-256 of the file in hexadecimal digits.
    pub fn digest_text(&self) -> String {
        self.digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The texts of (0012,0063): the program, the profile, and its digest, each at most 64 characters.
    pub fn method(&self) -> [String; 3] {
        let program = format!("EDS {}, PS3.15 {}", env!("CARGO_PKG_VERSION"), super::table::EDITION);
        [program, format!("{} {}", self.name, self.version), self.digest_text()]
    }
}

impl Default for Profile {
    fn default() -> Self {
        #[expect(clippy::unwrap_used, reason = "a test parses it")]
        Self::parse(DEFAULT.as_bytes()).unwrap()
    }
}

#[cfg(test)]
mod tests;
