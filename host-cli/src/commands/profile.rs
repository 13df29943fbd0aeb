//! `eds profile`: the de-identification profiles of projects.

use std::path::PathBuf;

use clap::Subcommand;

use crate::{Error, dicom, output};

/// The commands of `eds profile`.
#[derive(Subcommand, Debug)]
pub enum Profile {
    /// Print the profile that is used when there is no other, to start from
    Show,
    /// Check a profile; prints its name, version and SHA-256, or everything that is wrong with it
    Check {
        /// The profile
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

impl Profile {
    pub(super) fn run(self) -> Result<(), Error> {
        match self {
            Self::Show => Ok(output::print(dicom::profile::DEFAULT)?),
            Self::Check { file } => {
                let profile = dicom::Profile::load(&file)?;
                Ok(output::print(&format!("{}\t{}\t{}\n", profile.name, profile.version, profile.digest_text()))?)
            }
        }
    }
}
