//! Looking at files as an attacker or a careful user would.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Outcome, give_up, trouble::During as _};

/// Every file below a folder, in order of name.
///
/// # Errors
/// When a folder cannot be read.
pub fn below(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).during(folder.display())? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// The names of everything in a folder, hidden files too, in order.
///
/// # Errors
/// When the folder cannot be read.
pub fn names(folder: &Path) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).during(folder.display())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The only file below a folder.
///
/// # Errors
/// When there is none, or more than one.
pub fn only(folder: &Path) -> Outcome<PathBuf> {
    match below(folder)?.as_slice() {
        [file] => Ok(file.clone()),
        files => give_up!("not one file below {}: {files:?}", folder.display()),
    }
}

/// The files below a folder that hold one of these texts, with the text.
///
/// # Errors
/// When a file cannot be read.
pub fn holding<'a>(folder: &Path, texts: &[&'a str]) -> Outcome<Vec<(PathBuf, &'a str)>> {
    let mut found = Vec::new();
    for path in below(folder)? {
        let bytes = fs::read(&path).during(path.display())?;
        for text in texts {
            if contains(&bytes, text.as_bytes()) {
                found.push((path.clone(), *text));
            }
        }
    }
    Ok(found)
}

/// True when `bytes` holds `part` somewhere.
pub fn contains(bytes: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && bytes.windows(part.len()).any(|window| window == part)
}
