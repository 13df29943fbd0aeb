//! Files that are there whole or not at all, whenever the machine stops.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Writes a new file with these permission bits, and never over another.
///
/// # Errors
/// Also when the file exists.
pub(crate) fn create(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let draft = draft(file, bytes, mode)?;
    // A link does not replace what is there, as a rename would.
    let linked = fs::hard_link(&draft, file);
    fs::remove_file(&draft)?;
    linked?;
    sync_folder(file)
}

/// Writes the file in the place of the one that is there.
///
/// # Errors
/// The file is as it was then.
pub(crate) fn replace(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    fs::rename(draft(file, bytes, mode)?, file)?;
    sync_folder(file)
}

fn draft(file: &Path, bytes: &[u8], mode: u32) -> io::Result<std::path::PathBuf> {
    let draft = file.with_extension("new");
    let _ = fs::remove_file(&draft);
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    opened.write_all(bytes)?;
    opened.sync_all()?;
    Ok(draft)
}

fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_created_once_and_replaced_whole() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("keys.json");
        create(&file, b"first", 0o600).expect("written");
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        create(&file, b"second", 0o600).expect_err("there is one");
        assert_eq!(fs::read(&file).expect("read"), b"first");
        replace(&file, b"third", 0o600).expect("replaced");
        assert_eq!(fs::read(&file).expect("read"), b"third");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1, "a draft was left");
    }
}
