//! `eds install-names`: links under which this program is the commands of the original.

use std::{fs, io::ErrorKind, os::unix::fs::symlink, path::PathBuf};

use clap::Args;

use crate::{Error, glite::ORIGINALS, output};

/// The arguments of `eds install-names`.
#[derive(Args, Debug)]
pub struct InstallNames {
    /// The directory for the links, such as /usr/local/bin; it must exist
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl InstallNames {
    pub(super) fn run(self) -> Result<(), Error> {
        let program = std::env::current_exe().map_err(Error::reading(std::path::Path::new("/proc/self/exe")))?;
        // Beside the program, a link by its name alone stays right when both are moved.
        let beside =
            program.parent().is_some_and(|parent| self.directory.canonicalize().is_ok_and(|dir| dir == parent));
        let target = match program.file_name() {
            Some(name) if beside => PathBuf::from(name),
            _ => program.clone(),
        };
        for original in ORIGINALS {
            let link = self.directory.join(original.name);
            match symlink(&target, &link) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if fs::read_link(&link).ok().as_ref() != Some(&target) {
                        return Err(output::Error::Exists { path: link }.into());
                    }
                }
                Err(error) => return Err(output::Error::writing(&link)(error).into()),
            }
        }
        eprintln!("{} names lead to {}", ORIGINALS.len(), program.display());
        Ok(())
    }
}
