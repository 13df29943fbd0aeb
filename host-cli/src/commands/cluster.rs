//! `eds cluster …`: officers make, change and sign the directory of the key servers; users import and update it.

use std::{io::Write as _, path::PathBuf};

use clap::{Args, Subcommand};
use eds_core::directory::Directory;

use crate::{
    Error,
    cluster::{
        Fingerprint, Trust,
        draft::{Draft, NodeCard},
    },
    commands::Options,
    output::{self, Existing, OutputFile},
};

/// The sub-commands of `eds cluster`.
#[derive(Subcommand, Debug)]
pub enum Cluster {
    /// Start a cluster: make its key and an empty draft of its directory
    New(New),
    /// Add a key server to the draft
    Add(Add),
    /// Mark a key server of the draft as one that takes no new shares
    Retire(Retire),
    /// Sign the draft as the next version of the directory
    Sign(Sign),
    /// Pin a cluster and take its directory
    Import(Import),
    /// Take a newer directory of the pinned cluster
    Update(Update),
    /// Show the directory in use, or that in a file of the pinned cluster
    Show(Show),
}

/// Arguments of `eds cluster new`.
#[derive(Args, Debug)]
pub struct New {
    /// Name of the cluster, for people
    #[arg(long)]
    name: String,
    /// The smallest number of shares that a key of this cluster may need
    #[arg(long, default_value_t = 2, value_name = "M")]
    floor: u8,
    /// File for the new cluster key (PKCS #8 PEM, mode 0600); keep it offline
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// File for the draft
    #[arg(value_name = "DRAFT.toml")]
    draft: PathBuf,
}

/// Arguments of `eds cluster add`.
#[derive(Args, Debug)]
pub struct Add {
    /// The draft
    #[arg(value_name = "DRAFT.toml")]
    draft: PathBuf,
    /// What `eds-keystored init` wrote about the node
    #[arg(value_name = "NODE.json")]
    node: PathBuf,
    /// Number of the node, never given to another one
    #[arg(long, value_name = "N")]
    number: u16,
    /// Where the node answers, https://host:port
    #[arg(long)]
    url: String,
}

/// Arguments of `eds cluster retire`.
#[derive(Args, Debug)]
pub struct Retire {
    /// The draft
    #[arg(value_name = "DRAFT.toml")]
    draft: PathBuf,
    /// Number of the node
    number: u16,
}

/// Arguments of `eds cluster sign`.
#[derive(Args, Debug)]
pub struct Sign {
    /// The draft; its version is raised
    #[arg(value_name = "DRAFT.toml")]
    draft: PathBuf,
    /// The cluster key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// File for the signed directory
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

/// Arguments of `eds cluster import`.
#[derive(Args, Debug)]
pub struct Import {
    /// The signed directory
    file: PathBuf,
    /// Fingerprint of the cluster key, as told by an officer of the cluster
    #[arg(long, value_name = "HEX")]
    fingerprint: String,
}

/// Arguments of `eds cluster update`.
#[derive(Args, Debug)]
pub struct Update {
    /// The signed directory
    file: PathBuf,
}

/// Arguments of `eds cluster show`.
#[derive(Args, Debug)]
pub struct Show {
    /// A signed directory to check and show instead
    file: Option<PathBuf>,
}

impl Cluster {
    /// Runs the sub-command.
    ///
    /// # Errors
    /// As documented at [`Draft`] and [`Trust`].
    pub fn run(self, options: &Options) -> Result<(), Error> {
        match self {
            Self::New(new) => new.run(),
            Self::Add(add) => add.run(),
            Self::Retire(retire) => retire.run(),
            Self::Sign(sign) => sign.run(),
            Self::Import(import) => import.run(options),
            Self::Update(update) => update.run(options),
            Self::Show(show) => show.run(options),
        }
    }
}

impl New {
    fn run(self) -> Result<(), Error> {
        let (_, fingerprint) = Draft::start(&self.name, self.floor, &self.key, &self.draft).map_err(of_draft)?;
        eprintln!("made the cluster key {} and the draft {}", self.key.display(), self.draft.display());
        eprintln!("the fingerprint of the cluster key, for everybody who will use the cluster:");
        Ok(output::print(&format!("{fingerprint}\n"))?)
    }
}

impl Add {
    fn run(self) -> Result<(), Error> {
        let mut draft = Draft::load(&self.draft).map_err(of_draft)?;
        let card = NodeCard::load(&self.node).map_err(of_draft)?;
        draft.add(self.number, &self.url, card).map_err(of_draft)?;
        draft.store(&self.draft).map_err(of_draft)?;
        eprintln!("added node {} at {}", self.number, self.url);
        Ok(())
    }
}

impl Retire {
    fn run(self) -> Result<(), Error> {
        let mut draft = Draft::load(&self.draft).map_err(of_draft)?;
        draft.retire(self.number).map_err(of_draft)?;
        draft.store(&self.draft).map_err(of_draft)?;
        eprintln!("retired node {}; its number stays with it", self.number);
        Ok(())
    }
}

impl Sign {
    fn run(self) -> Result<(), Error> {
        let existing = if self.force { Existing::Replace } else { Existing::Keep };
        let output = OutputFile::create(&self.output, existing)?.readable_by_all();
        let mut draft = Draft::load(&self.draft).map_err(of_draft)?;
        let signed = draft.sign(&self.draft, &self.key).map_err(of_draft)?;
        output.file().write_all(&signed).map_err(output::Error::writing(&self.output))?;
        output.finish()?;
        eprintln!(
            "signed version {} of the directory of {:?} into {}",
            draft.version,
            draft.name,
            self.output.display()
        );
        Ok(())
    }
}

impl Import {
    fn run(self, options: &Options) -> Result<(), Error> {
        let fingerprint: Fingerprint = self.fingerprint.parse()?;
        let trust = Trust::import(&options.state_directory()?, &self.file, fingerprint)?;
        eprintln!("pinned cluster {:?}, directory version {}", trust.directory.name, trust.directory.version);
        Ok(())
    }
}

impl Update {
    fn run(self, options: &Options) -> Result<(), Error> {
        let trust = Trust::update(&options.state_directory()?, &self.file)?;
        eprintln!("cluster {:?} is at directory version {}", trust.directory.name, trust.directory.version);
        Ok(())
    }
}

impl Show {
    fn run(self, options: &Options) -> Result<(), Error> {
        let held = Trust::load(&options.state_directory()?)?;
        let shown = match &self.file {
            None => held,
            Some(path) => {
                let bytes = std::fs::read(path).map_err(Error::reading(path))?;
                Trust::read(path, &bytes, held.fingerprint)?
            }
        };
        Ok(output::print(&describe(&shown.directory, shown.fingerprint))?)
    }
}

fn describe(directory: &Directory, fingerprint: Fingerprint) -> String {
    let mut text = format!(
        "cluster      {}\nname         {}\nfingerprint  {fingerprint}\nversion      {}\nfloor        {}\n",
        directory.cluster, directory.name, directory.version, directory.floor,
    );
    for node in &directory.nodes {
        let state = if node.active { "active " } else { "retired" };
        text += &format!("node {:<5}   {state}  {}  {}\n", node.number.value(), node.id, node.url);
    }
    text
}

fn of_draft(error: crate::cluster::draft::Error) -> Error {
    Error::Cluster(error.into())
}
