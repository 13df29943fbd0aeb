//! `eds decrypt`: a container back into what it was.

use std::path::PathBuf;

use clap::Args;

use super::{Options, warn};
use crate::{
    Error,
    journey::{Nodes, files},
    output::{Existing, Output},
    payload::Source,
};

/// The arguments of `eds decrypt`.
#[derive(Args, Debug)]
pub struct Decrypt {
    /// The container to decrypt; - is standard input
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// Where to write the content; - is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace an existing file
    #[arg(short, long)]
    force: bool,
}

impl Decrypt {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let mut input = files::open_input(&self.input)?;
        let output = Output::open(&self.output, if self.force { Existing::Replace } else { Existing::Keep })?;
        let nodes = Nodes::open(&config)?;
        let source = Source::of_file(&mut input).map_err(Error::reading(&self.input))?;
        let (_, culprits) = files::decrypt(&nodes, source, output).map_err(Error::of_file(&self.input))?;
        warn(&culprits);
        Ok(())
    }
}
