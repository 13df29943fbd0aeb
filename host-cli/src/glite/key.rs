//! `glite-eds-key-register` and `glite-eds-key-unregister`.

use std::process::ExitCode;

use clap::Parser;
use eds_core::ids::KeyId;

use super::{Common, Id, Runs, failed, remembered, surroundings::Surroundings};
use crate::{
    Error,
    journey::Nodes,
    keystore::{NewKey, NodeError, Quorum, Terms},
};

/// Generate a key and register it with every key server
#[derive(Parser, Debug)]
#[command(version)]
pub struct Register {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    cipher: Cipher,
    /// The id of the key, or its name, such as /myvo/home/secret
    #[arg(value_name = "ID")]
    id: String,
}

/// What the original lets its users choose. Files are encrypted with AES-256-GCM, always.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Cipher {
    /// Taken and not used: files are encrypted with AES-256-GCM
    #[arg(short, value_name = "CIPHER")]
    cipher: Option<String>,
    /// The size of the key, up to 256 bits; it has 256 bits
    #[arg(short, value_name = "BITS", value_parser = clap::value_parser!(u16).range(1..=256))]
    key_bits: Option<u16>,
    /// Taken and not used
    #[arg(short)]
    test: bool,
}

impl Cipher {
    pub(super) fn tell(&self, common: Common) {
        if self.cipher.is_some() || self.key_bits.is_some() || self.test {
            common.note("options -c, -k and -t change nothing: the key has 256 bits, and the cipher is AES-256-GCM");
        }
    }
}

/// Delete a key on every key server, for ever
#[derive(Parser, Debug)]
#[command(version)]
pub struct Unregister {
    #[command(flatten)]
    common: Common,
    /// The id of the key, or its name
    #[arg(value_name = "ID")]
    id: String,
}

impl Runs for Register {
    fn run(self) -> ExitCode {
        self.cipher.tell(self.common);
        let done = Surroundings::open(None).and_then(|around| register(&around, &self.id));
        match done {
            Ok(key) => {
                self.common.say(&format!("A key has been generated and registered for ID '{}'", self.id));
                self.common.note(&format!("the key is {key}"));
                ExitCode::SUCCESS
            }
            Err(error) => failed("glite_eds_register", &error),
        }
    }
}

/// Registers a new key with every key server, under an id or a name.
pub(super) fn register(around: &Surroundings, id: &str) -> Result<KeyId, Error> {
    let mut key = NewKey::random();
    let terms = Terms { quorum: Quorum::All, ..around.config.terms };
    let name = match Id::new(id)? {
        Id::Key(wanted) => {
            key.id = wanted;
            None
        }
        Id::Name(name) => Some(name),
    };
    let registered = around.nodes.register_named(&key, name.as_ref(), terms)?;
    for node in &registered.unconfirmed {
        eprintln!("warning: {node}");
    }
    if let Some(name) = name {
        remembered::add(&around.config.state, &name)?;
    }
    Ok(key.id)
}

impl Runs for Unregister {
    fn run(self) -> ExitCode {
        let done = Surroundings::open(None).and_then(|around| unregister(&around, &self.id));
        match done {
            Ok(()) => {
                self.common.say(&format!("The key has been unregistered for ID '{}'", self.id));
                ExitCode::SUCCESS
            }
            Err(error) => failed("glite_eds_unregister", &error),
        }
    }
}

/// Deletes a key on every key server.
pub(super) fn unregister(around: &Surroundings, id: &str) -> Result<(), Error> {
    let id = Id::new(id)?;
    let key = id.find(&around.nodes)?.key;
    delete(&around.nodes, key)?;
    if let Id::Name(name) = id {
        remembered::remove(&around.config.state, &name)?;
    }
    Ok(())
}

fn delete(nodes: &Nodes, key: KeyId) -> Result<(), Error> {
    let all = nodes.directory().nodes.len();
    let mut failed = nodes.unregister(&[key]);
    // Deleted before, perhaps by a call that did not reach all nodes: that is what was asked for.
    failed.retain(|error| !error.fault.is("key-deleted"));
    let (without, failed): (Vec<_>, Vec<_>) = failed.into_iter().partition(|error| error.fault.is("key-not-found"));
    if without.len() == all {
        return Err(Error::NoSuchKey { key });
    }
    if failed.is_empty() {
        return Ok(());
    }
    let nodes: Vec<NodeError> = failed;
    Err(Error::NotDeletedEverywhere { key, nodes })
}
