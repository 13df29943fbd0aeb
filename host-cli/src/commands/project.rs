//! `eds project`: the keys that make pseudonyms, UIDs and shifted days, and what is searched by; a project shares them with
//! other sites, so that the same patient is the same there.

use clap::{Args, Subcommand};
use eds_core::ids::KeyId;

use super::{Options, key::Setacl, warn};
use crate::{
    Error,
    journey::{Nodes, project},
    metadata::{Metadata, Role},
    output,
};

/// Share the keys of a project with another site, or take part in the project of another site.
#[derive(Subcommand, Debug)]
pub enum Project {
    /// Show the ids of the project's keys
    Show(Show),
    /// Let somebody use the project's keys, so that their images get the same pseudonyms and UIDs
    Share(Share),
    /// Take part in a project: its keys make the pseudonyms and UIDs of this metadata database from now on
    Join(Join),
}

/// The arguments of `eds project show`.
#[derive(Args, Debug)]
pub struct Show {}

/// The arguments of `eds project share`.
#[derive(Args, Debug)]
pub struct Share {
    /// Who: a name or a group, as `eds key setacl` takes them; may be several
    #[arg(value_name = "PRINCIPAL", required = true)]
    principals: Vec<String>,
}

/// The arguments of `eds project join`.
#[derive(Args, Debug)]
pub struct Join {
    /// The key that replaces UIDs, as `eds project show` shows it at the other site
    #[arg(long, value_name = "KEY")]
    uids: String,
    /// The key that images are searched by
    #[arg(long, value_name = "KEY")]
    search: String,
}

impl Project {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        match self {
            Self::Show(_) => show(options),
            Self::Share(command) => command.run(options),
            Self::Join(command) => command.run(options),
        }
    }
}

fn show(options: &Options) -> Result<(), Error> {
    let metadata = Metadata::open(&options.load()?.metadata)?;
    let mut text = String::new();
    for role in Role::ALL {
        let project = metadata.project_key(role)?.ok_or(Error::NoProject)?;
        text += &format!("{}\t{}\n", role.word(), project.key);
    }
    Ok(output::print(&text)?)
}

impl Share {
    fn run(self, options: &Options) -> Result<(), Error> {
        let entries = self.principals.iter().map(|principal| format!("{principal}:lg")).collect();
        Setacl::adding(entries, Role::ALL.map(|role| role.word().into()).into()).run(options)?;
        let metadata = Metadata::open(&options.load()?.metadata)?;
        let key = |role| Ok::<_, Error>(metadata.project_key(role)?.ok_or(Error::NoProject)?.key);
        eprintln!("they take part with: eds project join --uids {} --search {}", key(Role::Uid)?, key(Role::Search)?);
        Ok(())
    }
}

impl Join {
    fn run(self, options: &Options) -> Result<(), Error> {
        let key = |text: &str| text.parse::<KeyId>().map_err(|_| Error::NotAnId(text.into()));
        let keys = [(Role::Uid, key(&self.uids)?), (Role::Search, key(&self.search)?)];
        let config = options.load()?;
        let (nodes, metadata) = (Nodes::open(&config)?, Metadata::open(&config.metadata)?);
        warn(&project::join(&nodes, &metadata, &keys)?);
        eprintln!("this metadata database takes part in the project: the same patients and UIDs get the same names");
        Ok(())
    }
}
