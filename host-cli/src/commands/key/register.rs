//! `eds key register`: a new key under a name, for files that are encrypted later.

use clap::Args;
use eds_core::api::name::KeyName;

use super::Options;
use crate::{
    Error,
    commands::warn,
    journey::Nodes,
    keystore::{NewKey, Quorum, Terms},
    output,
};

/// The arguments of `eds key register`.
#[derive(Args, Debug)]
pub struct Register {
    /// The name, such as /myvo/home/secret, which nobody else can register then
    #[arg(value_name = "NAME")]
    name: String,
    /// How many key servers are needed to open it [default: of the configuration, else more than half]
    #[arg(short = 'm', long, value_name = "M")]
    threshold: Option<u8>,
}

impl Register {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let name = KeyName::new(&self.name).map_err(|source| Error::NotAName { text: self.name.clone(), source })?;
        let config = options.load()?;
        let key = NewKey::random();
        let terms = Terms { needed: self.threshold.or(config.terms.needed), quorum: Quorum::All };
        let registered = Nodes::open(&config)?.register_named(&key, Some(&name), terms)?;
        warn(&registered.unconfirmed);
        Ok(output::print(&format!("{}\n", key.id))?)
    }
}
