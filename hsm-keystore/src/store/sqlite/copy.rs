//! A consistent copy of a database in a file of its own, while others go on reading and writing.
//!
//! The copy appears under its name when it is whole, checked and on the disk, and never in the place of another file.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use crate::store::{
    StoreError, now,
    sqlite::{failed, raw_connection, setup},
};

/// Copies the database to `to`, which must not exist.
pub(in crate::store) fn copy(source: &Path, to: &Path) -> Result<(), StoreError> {
    copy_and(source, to, |_| Ok(()))
}

/// Copies the database to `to`, which must not exist, and lets `change` alter the copy first.
pub(in crate::store) fn copy_and(
    source: &Path,
    to: &Path,
    change: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Result<(), StoreError> {
    publish(to, |draft| {
        let connection = raw_connection(source)?;
        // One read transaction: the copy is the database of one moment.
        let into = draft.to_str().ok_or_else(|| setup(to, "has a name that is not UTF-8".into()))?;
        connection.execute("VACUUM INTO ?1", [into]).map_err(|error| failed(source, error))?;
        drop(connection);
        change(&raw_connection(draft)?).map_err(|error| failed(to, error))
    })
}

/// Copies the database to a new file beside it, whose name says why and when.
pub(super) fn beside(file: &Path, why: &str) -> Result<PathBuf, StoreError> {
    let now = now();
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let names = std::iter::once(format!("{name}.{why}.{now}"))
        .chain((2..100).map(|number| format!("{name}.{why}.{now}-{number}")));
    let to = names.map(|name| file.with_file_name(name)).find(|to| to.symlink_metadata().is_err());
    let to = to.ok_or_else(|| setup(file, "has too many copies beside it; move them away".into()))?;
    copy(file, &to)?;
    Ok(to)
}

/// Has `write` fill a draft, an empty database file of mode 0600, and gives it the name `to` when it is sound.
pub(in crate::store) fn publish<T>(
    to: &Path,
    write: impl FnOnce(&Path) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let refused = |reason: String| setup(to, format!("{reason}; nothing was changed"));
    if to.symlink_metadata().is_ok() {
        return Err(refused("exists already".into()));
    }
    let mut name = OsString::from(".");
    name.push(to.file_name().unwrap_or_default());
    name.push(".partial");
    let draft = to.with_file_name(name);
    let unmade = |error: io::Error| refused(format!("cannot be made ({error})"));
    let held = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&draft).map_err(unmade)?;
    if held.try_lock().is_err() {
        return Err(refused("is being written by another process".into()));
    }
    // What a killed process left is not kept.
    held.set_len(0).map_err(unmade)?;
    let done = write(&draft).and_then(|done| {
        sound(&raw_connection(&draft)?, &draft)?;
        held.sync_all().map_err(unmade)?;
        // A link does not replace what is there, as a rename would.
        fs::hard_link(&draft, to).map_err(unmade)?;
        Ok(done)
    });
    let removed = fs::remove_file(&draft);
    let done = done?;
    removed.and_then(|()| sync_folder(to)).map_err(unmade)?;
    Ok(done)
}

/// Whether a database is whole.
pub(in crate::store) fn sound(connection: &Connection, file: &Path) -> Result<(), StoreError> {
    let damaged = |what: &dyn std::fmt::Display| Err(setup(file, format!("is damaged ({what})")));
    match connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0)) {
        Ok(said) if said == "ok" => Ok(()),
        Ok(said) => damaged(&said),
        Err(error) => damaged(&error),
    }
}

/// Makes the entry of a file in its folder durable.
pub(in crate::store) fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
