//! `eds retrieve`: an image comes back.

use std::path::PathBuf;

use clap::Args;
use eds_core::ids::FileId;

use super::{Options, warn};
use crate::{
    Error,
    journey::{
        Session,
        retrieve::{Maker, retrieve},
    },
    output::{Existing, Output},
};

/// The arguments of `eds retrieve`.
#[derive(Args, Debug)]
pub struct Retrieve {
    /// The id that `eds register` printed, or `eds courier` of an image that a device made
    #[arg(value_name = "ID")]
    id: String,
    /// Where to write the image; - is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Put the patient's data back: the original, byte for byte
    #[arg(long)]
    restore: bool,
    /// Replace an existing file
    #[arg(short, long)]
    force: bool,
}

impl Retrieve {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let file: FileId = self.id.parse().map_err(|_| Error::NotAnId(self.id))?;
        let output = Output::open(&self.output, if self.force { Existing::Replace } else { Existing::Keep })?;
        let retrieved = retrieve(&Session::open(&config)?, file, output, self.restore)?;
        warn(&retrieved.culprits);
        if let Some(Maker { device, counter, nodes }) = retrieved.made_by {
            eprintln!(
                "eds: note: {file} is not in this catalog; {nodes} key servers say that device {device} made it, counter {counter}"
            );
        }
        Ok(())
    }
}
