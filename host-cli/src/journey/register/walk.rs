//! What there is to register: the files that were named, and all below the folders that were.
//!
//! Folders are read in order of name, so that a run that is started again meets the same order. Links to folders are not
//! followed: they could lead in circles or out of what was meant.

use std::{
    fs::{self, DirEntry, FileType},
    path::{Path, PathBuf},
};

use crate::Error;

/// A file to register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// Whether the user named it, rather than a folder above it.
    pub named: bool,
    /// Its size in bytes when it was found.
    pub size: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Walk {
    /// The files, in order.
    pub sources: Vec<Source>,
    /// What is neither a file nor a folder that is looked into, with the reason.
    pub left_out: Vec<(PathBuf, String)>,
    /// What could not be looked at.
    pub failed: Vec<(PathBuf, Error)>,
}

impl Walk {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.size).sum()
    }
}

/// Finds the files that these arguments stand for.
pub fn walk(arguments: &[PathBuf]) -> Walk {
    let mut found = Walk::default();
    for path in arguments {
        match path.metadata() {
            Ok(about) if about.is_dir() => folder(path, &mut found),
            // Whatever else it is, opening it says what is wrong with it.
            about => found.sources.push(Source {
                path: path.clone(),
                named: true,
                size: about.map_or(0, |about| about.len()),
            }),
        }
    }
    found
}

fn folder(path: &Path, found: &mut Walk) {
    let mut entries = match fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<DirEntry>, _>>) {
        Ok(entries) => entries,
        Err(error) => return found.failed.push((path.into(), Error::reading(path)(error))),
    };
    entries.sort_by_key(DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => folder(&path, found),
            Ok(kind) => file(path, kind, found),
            Err(error) => found.failed.push((path.clone(), Error::reading(&path)(error))),
        }
    }
}

fn file(path: PathBuf, kind: FileType, found: &mut Walk) {
    match path.metadata() {
        Ok(about) if about.is_file() => found.sources.push(Source { path, named: false, size: about.len() }),
        Ok(about) if about.is_dir() => found.left_out.push((path, "a link to a folder is not followed".into())),
        Ok(_) => found.left_out.push((path, "neither a file nor a folder".into())),
        Err(_) if kind.is_symlink() => found.left_out.push((path, "a link that leads nowhere".into())),
        Err(error) => found.failed.push((path.clone(), Error::reading(&path)(error))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn all_files_below_a_folder_are_found_in_order_and_nothing_is_swallowed() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("b/c")).expect("makes");
        for name in ["b/c/2.dcm", "a.dcm", "b/1.dcm"] {
            fs::write(at(name), name).expect("writes");
        }
        symlink(directory.path(), at("b/circle")).expect("links");
        symlink(at("nowhere"), at("b/dangling")).expect("links");
        symlink(at("a.dcm"), at("link.dcm")).expect("links");
        let found = walk(&[directory.path().into(), at("missing.dcm")]);
        let paths: Vec<_> = found.sources.iter().map(|source| (source.path.clone(), source.named)).collect();
        let expected = ["a.dcm", "b/1.dcm", "b/c/2.dcm", "link.dcm"].map(|name| (at(name), false));
        assert_eq!(paths.split_last(), Some((&(at("missing.dcm"), true), expected.as_slice())));
        let left: Vec<_> = found.left_out.iter().map(|(path, _)| path.clone()).collect();
        assert_eq!(left, [at("b/circle"), at("b/dangling")]);
        assert_eq!(found.bytes(), 5 + 7 + 9 + 5);
    }
}
