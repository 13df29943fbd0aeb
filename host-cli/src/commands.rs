//! The command line of `eds`: one file per command below `commands/`, each with its arguments and what it does.
//!
//! Data goes to standard output, everything else to standard error; the exit code tells what sort of failure it was.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum as _};

use crate::{Error, Kind, config::Config, credentials::ProofKind, keystore::NodeError};

pub mod audit;
pub mod cat;
pub mod cluster;
pub mod courier;
pub mod decrypt;
pub mod doctor;
pub mod encrypt;
#[cfg(feature = "gateway")]
pub mod gateway;
pub mod key;
pub mod login;
pub mod man;
#[cfg(feature = "mount")]
pub mod mount;
pub mod names;
pub mod profile;
pub mod project;
pub mod quarantine;
pub mod queue;
pub mod register;
pub mod retrieve;
pub mod search;
#[cfg(feature = "view")]
pub mod view;
pub mod whoami;

/// Encrypted storage for medical images: register an image and get it back.
#[derive(Parser, Debug)]
#[command(name = "eds", version, after_help = exit_codes(), max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {
    /// Configuration file [default: $XDG_CONFIG_HOME/eds/config.toml]
    #[arg(long, value_name = "FILE", global = true, env = "EDS_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Which proof of who you are to send [default: the first that there is; `eds whoami` shows it]
    #[arg(long, value_name = "KIND", global = true, env = "EDS_PROOF", hide_env_values = true)]
    pub proof: Option<ProofKind>,
}

impl Options {
    /// What the environment says, for programs that have no command line of ours: `EDS_CONFIG` and `EDS_PROOF`.
    ///
    /// # Errors
    /// [`Error::UnknownProof`].
    pub fn of_environment() -> Result<Self, Error> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let proof = set("EDS_PROOF").map(|proof| {
            let proof = proof.to_string_lossy().into_owned();
            ProofKind::from_str(&proof, true).map_err(|_| Error::UnknownProof(proof))
        });
        Ok(Self { config: set("EDS_CONFIG").map(PathBuf::from), proof: proof.transpose()? })
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(&self) -> Result<Config, Error> {
        let mut config = Config::load(self.config.as_deref())?;
        config.identity.wanted = self.proof.or(config.identity.wanted);
        Ok(config)
    }

    /// The state directory, for commands that need no identity.
    ///
    /// # Errors
    /// As [`Config::state_directory`].
    pub fn state_directory(&self) -> Result<PathBuf, Error> {
        Ok(Config::state_directory(self.config.as_deref())?)
    }
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Register images: take the patient's data off, encrypt, store, split the keys over the key servers
    Register(register::Register),
    /// Get images back, de-identified or, with --restore, as they were
    Retrieve(retrieve::Retrieve),
    /// Find images by what may be known of them
    Search(search::Search),
    /// Write an image, or one frame of it, to standard output
    Cat(cat::Cat),
    /// Look at an image, without the patient's data, in the terminal or as a PNG file
    #[cfg(feature = "view")]
    View(view::View),
    /// Make registered files look like any others, in a folder, until it is unmounted
    #[cfg(feature = "mount")]
    Mount(mount::Mount),
    /// Encrypt any file or pipe under a new key
    Encrypt(encrypt::Encrypt),
    /// Decrypt a file or pipe that `eds encrypt` made, or any other EDS container
    Decrypt(decrypt::Decrypt),
    /// Look at images that were kept for review, and decide about them
    #[command(subcommand)]
    Quarantine(quarantine::Quarantine),
    /// Share the keys that make pseudonyms with another site, or take part in its project
    #[command(subcommand)]
    Project(project::Project),
    /// Look at and check de-identification profiles
    #[command(subcommand)]
    Profile(profile::Profile),
    /// Look at keys on the key servers
    #[command(subcommand)]
    Key(key::Key),
    /// Get a token from the identity provider of the configuration, which a browser on any device approves
    Login(login::Login),
    /// Forget the token that `eds login` got
    Logout(login::Logout),
    /// Show which proof of who you are is sent, and whom each key server takes it for
    Whoami(whoami::Whoami),
    /// Deliver, look at or give up shares that wait on this computer for key servers that were away
    #[command(subcommand)]
    Queue(queue::Queue),
    /// Carry what an imaging device made to the storage and the key servers, on a workstation that may not read it
    Courier(courier::Courier),
    /// Let DICOM devices, archives and viewers of a department store images and get them back
    #[cfg(feature = "gateway")]
    Gateway(gateway::Gateway),
    /// Check that every key server can be reached and used, and that the configuration is in order
    Doctor(doctor::Doctor),
    /// Look at the audit logs of the key servers
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Make links under which this program is the commands of gLite: glite-eds-encrypt and others
    InstallNames(names::InstallNames),
    /// Write the manual pages of all commands
    #[command(hide = true)]
    Man(man::Man),
    /// Make, sign, import, update and show the directory of the key servers
    #[command(subcommand)]
    Cluster(cluster::Cluster),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever the command failed with; [`Error::kind`] gives the exit code.
    pub fn run(self) -> Result<(), Error> {
        let options = &self.options;
        let done = match self.command {
            Command::Register(command) => command.run(options),
            Command::Retrieve(command) => command.run(options),
            Command::Cat(command) => command.run(options),
            #[cfg(feature = "view")]
            Command::View(command) => command.run(options),
            Command::Search(command) => command.run(options),
            #[cfg(feature = "mount")]
            Command::Mount(command) => command.run(options),
            Command::Encrypt(command) => command.run(options),
            Command::Decrypt(command) => command.run(options),
            Command::Quarantine(command) => command.run(options),
            Command::Project(command) => command.run(options),
            Command::Key(command) => command.run(options),
            Command::Courier(command) => command.run(options),
            // These say themselves what waits, or have nothing to do with it.
            Command::Profile(command) => return command.run(),
            Command::Login(command) => return command.run(options),
            Command::Logout(command) => return command.run(options),
            Command::Whoami(command) => return command.run(options),
            #[cfg(feature = "gateway")]
            Command::Gateway(command) => return command.run(),
            Command::Queue(command) => return command.run(options),
            Command::Doctor(command) => return command.run(options),
            Command::Audit(command) => return command.run(options),
            Command::InstallNames(command) => return command.run(),
            Command::Man(command) => return command.run(),
            Command::Cluster(command) => return command.run(options),
        };
        queue::remind(options);
        done
    }
}

/// Says which nodes did not do as they should, although the command succeeded without them.
fn warn(nodes: &[NodeError]) {
    for node in nodes {
        eprintln!("eds: warning: {node}");
    }
}

fn exit_codes() -> String {
    Kind::ALL.into_iter().fold(
        String::from("Exit codes:\n  0  success; also when shares wait in the queue, which is said on standard error"),
        |text, kind| format!("{text}\n  {}  {}", kind.exit_code(), kind.meaning()),
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_documents_every_exit_code() {
        let help = Cli::command().render_long_help().to_string();
        for kind in Kind::ALL {
            assert!(help.contains(&format!("  {}  {}", kind.exit_code(), kind.meaning())), "{kind:?} in {help}");
        }
    }
}
