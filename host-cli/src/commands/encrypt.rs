//! `eds encrypt`: any file or pipe, under a new key.

use std::path::PathBuf;

use clap::Args;

use super::{
    Options,
    queue::{AtQuorum, in_passing, tell_late},
    warn,
};
use crate::{
    Error,
    journey::{Nodes, files},
    keystore::Terms,
    output::{Existing, Output},
};

/// The arguments of `eds encrypt`.
#[derive(Args, Debug)]
pub struct Encrypt {
    /// The file to encrypt; - is standard input
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// Where to write the container; - is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How many key servers are needed to open it [default: of the configuration, else more than half]
    #[arg(short = 'm', long, value_name = "M")]
    threshold: Option<u8>,
    #[command(flatten)]
    quorum: AtQuorum,
    /// Replace an existing file
    #[arg(short, long)]
    force: bool,
}

impl Encrypt {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let mut input = files::open_input(&self.input)?;
        let output = Output::open(&self.output, if self.force { Existing::Replace } else { Existing::Keep })?;
        let nodes = Nodes::open(&config)?;
        let terms = Terms { needed: self.threshold.or(config.terms.needed), quorum: self.quorum.or(config.terms) };
        let done = files::encrypt(&nodes, &mut input, output, terms)?;
        warn(&done.unconfirmed);
        eprintln!("encrypted under key {}, {} key servers open it", done.key, done.threshold);
        tell_late(done.threshold, &done.late);
        in_passing(nodes.deliver_in_passing(&done.late));
        Ok(())
    }
}
