//! `eds encrypt`: any file or pipe, under a new key or one that has a name.

use std::path::PathBuf;

use clap::Args;
use eds_core::api::name::KeyName;

use super::{
    Options,
    queue::{AtQuorum, in_passing, tell_late},
    warn,
};
use crate::{
    Error,
    config::Config,
    journey::{Nodes, files},
    keystore::{Evidence, Terms, Want},
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
    /// Encrypt under this key, by its name or id, instead of a new one
    #[arg(long, value_name = "KEY", conflicts_with_all = ["threshold", "quorum"])]
    key: Option<String>,
    /// Whose the name of the key is, when that is somebody else, as /C=CH/O=Ward/CN=Dr Jones; may be given several times
    #[arg(long, value_name = "SUBJECT", requires = "key")]
    owner: Vec<String>,
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
        if let Some(key) = &self.key {
            let want = self.registered(key, &nodes, &config)?;
            let done = files::encrypt_under(&nodes, &want, &mut input, output)?;
            warn(&done.culprits);
            eprintln!("encrypted under key {}, {} key servers open it", done.key, done.threshold);
            return Ok(());
        }
        let terms = Terms { needed: self.threshold.or(config.terms.needed), quorum: self.quorum.or(config.terms) };
        let done = files::encrypt(&nodes, &mut input, output, terms)?;
        warn(&done.unconfirmed);
        eprintln!("encrypted under key {}, {} key servers open it", done.key, done.threshold);
        tell_late(done.threshold, &done.late);
        in_passing(nodes.deliver_in_passing(&done.late));
        Ok(())
    }

    /// The key that the user named.
    fn registered(&self, key: &str, nodes: &Nodes, config: &Config) -> Result<Want, Error> {
        if let Ok(key) = key.parse() {
            return Ok(Want { key, evidence: Evidence::Agreement });
        }
        let name = KeyName::new(key).map_err(|source| Error::NotAName { text: key.into(), source })?;
        let owners: Vec<&str> = config.trusted_owners.iter().chain(&self.owner).map(String::as_str).collect();
        nodes.resolve_to_encrypt(&name, &owners)
    }
}
