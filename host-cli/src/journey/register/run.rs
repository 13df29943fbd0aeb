//! A run that registers, and how others see that it is alive.
//!
//! It holds a lock on a file that has its number as name, in a folder beside the catalog, for as long as it lives; the
//! kernel lets go of the lock when it is killed. Pending entries of the catalog name their run: those of a run that
//! nobody holds a lock for are left behind.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{Error, catalog::RunId, output};

/// A run that is alive.
pub(super) struct Run {
    id: RunId,
    path: PathBuf,
    // Held, not read.
    _lock: File,
}

impl Run {
    /// Begins a run. `runs` is the folder of the locks, which is made when it is not there.
    pub(super) fn begin(runs: &Path) -> Result<Self, Error> {
        output::make_private_directory(runs)?;
        let mut id = RunId::default();
        getrandom::fill(&mut id)?;
        let path = path(runs, &id);
        let lock = locked(&path).map_err(output::Error::writing(&path))?;
        Ok(Self { id, path, _lock: lock })
    }

    pub(super) fn id(&self) -> RunId {
        self.id
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A file that stays is no harm: nobody holds its lock.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a run is alive.
pub(super) fn is_alive(runs: &Path, id: &RunId) -> Result<bool, Error> {
    let path = path(runs, id);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::reading(&path)(error)),
    };
    match file.try_lock() {
        Ok(()) => {
            let _ = fs::remove_file(&path);
            Ok(false)
        }
        Err(fs::TryLockError::WouldBlock) => Ok(true),
        Err(fs::TryLockError::Error(error)) => Err(Error::reading(&path)(error)),
    }
}

/// Held by the one process that clears up.
pub(super) fn clearing(runs: &Path) -> Result<File, Error> {
    output::make_private_directory(runs)?;
    let path = runs.join("clearing");
    locked(&path).map_err(|error| output::Error::writing(&path)(error).into())
}

fn locked(path: &Path) -> io::Result<File> {
    let file = output::lock_file(path)?;
    file.lock()?;
    Ok(file)
}

fn path(runs: &Path, id: &RunId) -> PathBuf {
    runs.join(id.iter().fold(String::new(), |name, byte| name + &format!("{byte:02x}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_alive_until_it_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let runs = directory.path().join("runs");
        let run = Run::begin(&runs).expect("begins");
        let id = run.id();
        assert!(is_alive(&runs, &id).expect("looks"));
        assert!(!is_alive(&runs, &[7; 16]).expect("looks"));
        drop(run);
        assert!(!is_alive(&runs, &id).expect("looks"));
    }

    #[test]
    fn a_file_without_its_lock_is_a_dead_run() {
        let directory = tempfile::tempdir().expect("a directory");
        File::create(path(directory.path(), &[7; 16])).expect("creates");
        assert!(!is_alive(directory.path(), &[7; 16]).expect("looks"));
    }
}
