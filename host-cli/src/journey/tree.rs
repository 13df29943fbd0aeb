//! What was registered, as folders and files, for programs that know nothing else.
//!
//! | path | holds |
//! |---|---|
//! | `/files/ID` | every file of the catalog by its id |
//! | `/images/PATIENT/STUDY/SERIES/ID.dcm` | the images of the metadata database |
//!
//! Names are those that the metadata database and the de-identified images have: a token for the patient, new UIDs for study and
//! series. They tell nobody who the patient is, whoever looks; who may search for a patient finds the token with `eds search`.
//! Everything that the caller's catalog and metadata database hold is listed; whether it can be opened is decided by the key
//! servers. What a database says that cannot be a file name is left out.

use std::collections::BTreeSet;

use dicom_core::Tag;
use eds_core::ids::FileId;

use super::{
    Session,
    open::{About, about},
};
use crate::{
    Error,
    error::Kind,
    metadata::{
        policy::Level,
        query::{Condition, Found, Matching, Query},
    },
};

/// What stands at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Node {
    /// A folder.
    Folder,
    /// A file.
    File(About),
}

/// A name in a folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Name {
    /// Its text.
    pub text: String,
    /// Whether it is a folder.
    pub folder: bool,
}

/// What stands at this path; nothing when nothing does.
///
/// # Errors
/// Database errors.
pub fn look(session: &Session, path: &[&str]) -> Result<Option<Node>, Error> {
    let folder = |there: bool| Ok(there.then_some(Node::Folder));
    match *path {
        [] | [FILES] | [IMAGES] => folder(true),
        [FILES, id] => file(session, id),
        [IMAGES, ref names @ .., file_name] if names.len() == 3 => {
            let Some(id) = file_name.strip_suffix(SUFFIX) else { return Ok(None) };
            let there = images(session, names)?.iter().any(|found| found.image.to_string() == id);
            if there { file(session, id) } else { Ok(None) }
        }
        [IMAGES, ref names @ ..] if names.len() <= 3 => folder(!images(session, names)?.is_empty()),
        _ => Ok(None),
    }
}

/// The names in a folder; nothing when there is no such folder.
///
/// # Errors
/// Database errors.
pub fn list(session: &Session, path: &[&str]) -> Result<Option<Vec<Name>>, Error> {
    let folder = |text: &str| Name { text: text.into(), folder: true };
    Ok(match *path {
        [] => Some(vec![folder(FILES), folder(IMAGES)]),
        [FILES] => {
            let entries = session.catalog.complete_ones()?;
            Some(entries.iter().map(|entry| Name { text: entry.file.to_string(), folder: false }).collect())
        }
        [IMAGES, ref names @ ..] if names.len() <= 3 => {
            let found = images(session, names)?;
            if found.is_empty() && !names.is_empty() {
                return Ok(None);
            }
            let name = |found: &Found| match found.names.get(names.len()) {
                Some(name) if names.len() < 3 => Name { text: name.clone(), folder: true },
                _ => Name { text: format!("{}{SUFFIX}", found.image), folder: false },
            };
            // One for many images.
            Some(found.iter().map(name).collect::<BTreeSet<_>>().into_iter().collect())
        }
        _ => None,
    })
}

/// The images below a patient, a study, a series, whose names can be names of files.
fn images(session: &Session, names: &[&str]) -> Result<Vec<Found>, Error> {
    let condition = |(level, name): (&Level, &&str)| Condition {
        level: *level,
        tag: Tag(0, 0),
        matching: Matching::Names(vec![(*name).to_owned()]),
    };
    let conditions = Level::ALL.iter().zip(names).map(condition).collect();
    let mut found = session.metadata.search(&Query { conditions, limit: None })?;
    found.retain(|found| found.names.iter().take(3).all(|name| is_plain(name)));
    Ok(found)
}

/// A file of the catalog; one that another catalog has is none of ours.
fn file(session: &Session, id: &str) -> Result<Option<Node>, Error> {
    // One id has one text.
    let Some(id) = id.parse::<FileId>().ok().filter(|file| file.to_string() == id) else { return Ok(None) };
    match about(session, id) {
        Ok(about) => Ok(Some(Node::File(about))),
        Err(Error::Interrupted { .. }) => Ok(None),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !name.is_empty() && name.len() <= MAX_NAME && !name.starts_with('.') && name.bytes().all(plain)
}

const FILES: &str = "files";
const IMAGES: &str = "images";
const SUFFIX: &str = ".dcm";
/// The longest name of a file on Linux.
const MAX_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn names_of_files_lead_nowhere_else() {
        for name in ["1.2.840.10008", "0a1b-c_d"] {
            assert!(is_plain(name), "{name}");
        }
        for name in ["", ".", "..", ".hidden", "a/b", "a\0b", "a b", "ä", &"1".repeat(256)] {
            assert!(!is_plain(name), "{name:?}");
        }
    }
}
