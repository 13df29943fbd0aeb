//! `eds man`, for packagers: the manual pages of this program, its commands and its other names.

use std::{fs, path::PathBuf};

use clap::{Args, CommandFactory as _};

use super::Cli;
use crate::{Error, glite::ORIGINALS, output};

/// The arguments of `eds man`.
#[derive(Args, Debug)]
pub struct Man {
    /// Where to write the pages, one file for each command
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Man {
    pub(super) fn run(self) -> Result<(), Error> {
        let failed = || output::Error::writing(&self.directory);
        fs::create_dir_all(&self.directory).map_err(failed())?;
        let originals = ORIGINALS.iter().map(|original| (original.command)().name(original.name));
        for command in std::iter::once(Cli::command()).chain(originals) {
            clap_mangen::generate_to(command, &self.directory).map_err(failed())?;
        }
        Ok(())
    }
}
