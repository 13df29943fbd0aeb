//! `eds key rm`: a key is deleted on every key server, for ever.

use std::io::{IsTerminal as _, stdin};

use clap::Args;
use eds_core::ids::KeyId;

use super::{Options, Part};
use crate::{Error, catalog::Catalog, config::Config, journey::Nodes};

/// The arguments of `eds key rm`.
#[derive(Args, Debug)]
pub struct Rm {
    /// A key, or an image or file of the catalog
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    part: Part,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Rm {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let key = self.part.resolve(&self.id, &config)?;
        let nodes = Nodes::open(&config)?;
        eprintln!("{}", warning(key, nodes.directory().nodes.len(), &config)?);
        if !self.yes && !confirmed(key) {
            return Err(Error::NotConfirmed { key });
        }
        let all = nodes.directory().nodes.len();
        let mut failed = nodes.unregister(&[key]);
        // Deleted before, perhaps by a call of this command that did not reach all nodes: that is what was asked for.
        failed.retain(|error| !error.fault.is("key-deleted"));
        let (without, failed): (Vec<_>, Vec<_>) = failed.into_iter().partition(|error| error.fault.is("key-not-found"));
        if failed.is_empty() && without.len() < all {
            match without.len() {
                0 => eprintln!("key {key} is deleted on all {all} nodes"),
                count => eprintln!("key {key} is deleted on {} of {all} nodes, and {count} never had it", all - count),
            }
            return Ok(());
        }
        let mut failed: Vec<_> = failed.into_iter().chain(without).collect();
        failed.sort_by_key(|error| error.node);
        Err(Error::NotDeletedEverywhere { key, nodes: failed })
    }
}

/// What the command does, in words.
fn warning(key: KeyId, nodes: usize, config: &Config) -> Result<String, Error> {
    let files = Catalog::open(&config.catalog)?.under_key(key)?;
    let mut text = format!(
        "This deletes key {key} on all {nodes} key servers, for ever. Nobody, you included, can decrypt what is encrypted \
         under it. Who fetched the key before may have kept it. The ciphertext stays where it is."
    );
    match files.len() {
        0 => text += "\nYour catalog has no file under this key; others may.",
        count => {
            text += &format!("\nYour catalog has {count} file(s) under this key:");
            files.iter().take(10).for_each(|entry| text += &format!("\n  {}", entry.file));
            if count > 10 {
                text += "\n  …";
            }
        }
    }
    Ok(text)
}

/// Whether the user types the id of the key.
fn confirmed(key: KeyId) -> bool {
    if stdin().is_terminal() {
        eprint!("type the id of the key to go on: ");
    }
    let mut line = String::new();
    stdin().read_line(&mut line).is_ok() && line.trim() == key.to_string()
}
