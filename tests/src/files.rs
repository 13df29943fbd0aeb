//! Looking at files as an attacker or a careful user would.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, types::ValueRef};

use crate::{Outcome, give_up, trouble::During as _};

/// Writes a file that only its owner may read.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> Outcome {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(bytes)?)
}

/// Every file below a folder, in order of name; sockets are none.
///
/// # Errors
/// When a folder cannot be read.
pub fn below(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).during(folder.display())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                found.push(path);
            }
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
/// In a database, values of different columns stand side by side without anything between them, so that a short text can
/// be made up of the end of one and the start of the next. A text of fewer than `LONG` bytes is therefore looked for in
/// each value of a database; longer ones in all of its bytes, those of free pages and of its journal too.
///
/// # Errors
/// When a file cannot be read.
pub fn holding<'a>(folder: &Path, texts: &[&'a str]) -> Outcome<Vec<(PathBuf, &'a str)>> {
    let mut found = Vec::new();
    for path in below(folder)? {
        let bytes = fs::read(&path).during(path.display())?;
        let values = if bytes.starts_with(DATABASE) { values(&path)? } else { Vec::new() };
        let beside = path.file_name().is_some_and(|name| name.to_string_lossy().contains(".sqlite-"));
        for text in texts {
            let holds = |bytes: &[u8]| contains(bytes, text.as_bytes());
            let raw = text.len() >= LONG || !(bytes.starts_with(DATABASE) || beside);
            if (raw && holds(&bytes)) || values.iter().any(|value| holds(value)) {
                found.push((path.clone(), *text));
            }
        }
    }
    Ok(found)
}

/// How an SQLite database starts.
const DATABASE: &[u8] = b"SQLite format 3\0";
/// A text of so many bytes does not come about by chance.
const LONG: usize = 8;

/// Every value of every table of a database, as bytes.
fn values(database: &Path) -> Outcome<Vec<Vec<u8>>> {
    let database = Connection::open(database)?;
    let mut tables = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let tables = tables.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut found = Vec::new();
    for table in tables {
        let mut statement = database.prepare(&format!("SELECT * FROM \"{table}\""))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                found.push(match row.get_ref(column)? {
                    ValueRef::Null => continue,
                    ValueRef::Integer(number) => number.to_string().into_bytes(),
                    ValueRef::Real(number) => number.to_string().into_bytes(),
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
                });
            }
        }
    }
    Ok(found)
}

/// True when `bytes` holds `part` somewhere.
pub fn contains(bytes: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_found_in_a_value_of_a_database_and_not_across_two() -> Outcome {
        let folder = tempfile::tempdir()?;
        let database = Connection::open(folder.path().join("catalog.sqlite"))?;
        database
            .execute_batch("CREATE TABLE t (a BLOB, b TEXT); INSERT INTO t VALUES (x'00ff31', 'CT1.2.840.10008');")?;
        assert_eq!(holding(folder.path(), &["1CT1", "CT1.2.840"])?.len(), 1);
        database.execute_batch("INSERT INTO t VALUES (NULL, 'x1CT1x');")?;
        assert_eq!(holding(folder.path(), &["1CT1"])?.len(), 1);
        Ok(())
    }
}
