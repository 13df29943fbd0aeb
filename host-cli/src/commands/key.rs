//! `eds key`: what the key servers hold of keys, and who may do what with them.

pub(crate) mod access;
mod register;
mod remove;
mod status;
mod sync;
mod why;

use clap::{Args, Subcommand};
use eds_core::{
    api::name::KeyName,
    ids::{FileId, KeyId},
};

pub(super) use self::access::Setacl;
use super::Options;
use crate::{
    Error,
    catalog::{self, Catalog},
    config::Config,
    journey::Nodes,
    metadata::{Metadata, Role},
};

/// Look at keys on the key servers, and say who may use them.
#[derive(Subcommand, Debug)]
pub enum Key {
    /// Make a key with a name, for files that are encrypted under it later
    Register(register::Register),
    /// Show what each key server holds of a key
    Status(status::Status),
    /// Tell every key server again that all of them hold a key, after a registration that could not tell all
    Confirm(status::Confirm),
    /// List the keys that you may list
    Ls(access::Ls),
    /// Show who may do what with keys
    Acl(access::Acl),
    /// Change the permissions of user (owner), group and others
    Chmod(access::Chmod),
    /// Change the entries of access lists
    Setacl(access::Setacl),
    /// Give keys to another owner or group
    Chown(access::Chown),
    /// Say which rule of which key server allows or refuses what
    Why(why::Why),
    /// Show how the key servers differ about who may use a key, and bring those up to date that missed a change
    Sync(sync::Sync),
    /// Delete a key on every key server, for ever
    Rm(remove::Rm),
}

impl Key {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        match self {
            Self::Register(command) => command.run(options),
            Self::Status(command) => command.run(options),
            Self::Confirm(command) => command.run(options),
            Self::Ls(command) => command.run(options),
            Self::Acl(command) => command.run(options),
            Self::Chmod(command) => command.run(options),
            Self::Setacl(command) => command.run(options),
            Self::Chown(command) => command.run(options),
            Self::Why(command) => command.run(options),
            Self::Sync(command) => command.run(options),
            Self::Rm(command) => command.run(options),
        }
    }
}

/// Which of the keys of an image is meant.
#[derive(Args, Debug, Clone, Copy)]
struct Part {
    /// Of an image of the catalog, the key of the patient's data instead of that of the image
    #[arg(long)]
    private: bool,
}

impl Part {
    /// The key that a name or an id stands for: of a catalog entry, or the id itself.
    fn resolve(self, id: &str, config: &Config) -> Result<KeyId, Error> {
        if self.private {
            let image: FileId = id.parse().map_err(|_| Error::NotAnId(id.into()))?;
            return Ok(Metadata::open(&config.metadata)?.private_part(image)?.key);
        }
        if let Some(role) = Role::ALL.into_iter().find(|role| role.word() == id) {
            let project = Metadata::open(&config.metadata)?.project_key(role)?;
            return project.map(|project| project.key).ok_or(Error::NoProject);
        }
        resolve(id, config)
    }
}

/// The key that a name or an id stands for: of a catalog entry, or the id itself.
fn resolve(id: &str, config: &Config) -> Result<KeyId, Error> {
    if let Ok(name) = KeyName::new(id) {
        return Ok(Nodes::open(config)?.resolve(&name)?.key);
    }
    let file: FileId = id.parse().map_err(|_| Error::NotAnId(id.into()))?;
    match Catalog::open(&config.catalog).and_then(|catalog| catalog.entry(file)) {
        Ok(entry) => Ok(entry.key),
        Err(catalog::Error::NotFound { .. }) => Ok(KeyId::from_bytes(*file.as_bytes())),
        Err(error) => Err(error.into()),
    }
}
