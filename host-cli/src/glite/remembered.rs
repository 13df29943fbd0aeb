//! The names that this user registered on this computer: for the forms of commands that leave the key out.
//!
//! One name a line, in the user's state directory, readable by nobody else. It is a help for the memory and nothing that is
//! believed: which key a name leads to is asked of the key servers each time.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use eds_core::api::name::KeyName;

use crate::{Error, output};

fn file(state: &Path) -> PathBuf {
    state.join("registered-names")
}

/// Notes a name.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn add(state: &Path, name: &KeyName) -> Result<(), Error> {
    if names(state)?.contains(name) {
        return Ok(());
    }
    output::make_private_directory(state)?;
    let path = file(state);
    let write = || {
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        file.write_all(format!("{}\n", name.as_str()).as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| output::Error::writing(&path)(error).into())
}

/// Forgets a name.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn remove(state: &Path, name: &KeyName) -> Result<(), Error> {
    let known = names(state)?;
    if !known.contains(name) {
        return Ok(());
    }
    let kept = known.iter().filter(|other| *other != name);
    let text = kept.fold(String::new(), |text, name| text + name.as_str() + "\n");
    let file = output::OutputFile::create(&file(state), output::Existing::Replace)?;
    file.file().write_all(text.as_bytes()).map_err(output::Error::writing(file.path()))?;
    Ok(file.finish()?)
}

/// The names whose last part is this one, each once.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn ending_in(state: &Path, last: &str) -> Result<Vec<KeyName>, Error> {
    let mut found = names(state)?;
    found.retain(|name| name.last_part() == last);
    Ok(found)
}

fn names(state: &Path) -> Result<Vec<KeyName>, Error> {
    let path = file(state);
    match fs::read_to_string(&path) {
        // What is no name is not ours, or half a line of a disk that was full.
        Ok(text) => Ok(text.lines().filter_map(|line| KeyName::new(line).ok()).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::reading(&path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_remembered_once_and_forgotten_one_by_one() {
        let folder = tempfile::tempdir().expect("a directory");
        let [a, b, other] =
            ["/vo/a/secret", "/vo/b/secret", "/vo/secretx"].map(|text| KeyName::new(text).expect("a name"));
        for name in [&a, &b, &a, &other] {
            add(folder.path(), name).expect("written");
        }
        assert_eq!(ending_in(folder.path(), "secret").expect("read"), [a.clone(), b.clone()]);
        remove(folder.path(), &a).expect("written");
        assert_eq!(ending_in(folder.path(), "secret").expect("read"), [b]);
        assert_eq!(ending_in(folder.path(), "secretx").expect("read"), [other]);
    }
}
