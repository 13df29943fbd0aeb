//! The commands of gLite's EDS as names of this program: `glite-eds-encrypt` and nine others.
//!
//! Options, messages and environment are those that users and scripts know (`docs/glite.md`, where the differences are);
//! what they do is what `eds` does. Which command is meant is told by the name under which the program was started.
//!
//! | part | purpose |
//! |---|---|
//! | `surroundings` | servers and credentials, from the variables of the grid |
//! | `services` | `services.xml` |
//! | `key`, `files`, `permissions` | the commands |
//! | `remembered` | the names that this user registered on this computer |

pub mod files;
pub mod key;
pub mod permissions;
mod remembered;
mod services;
mod surroundings;

pub use services::ServicesError;

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::{Args, CommandFactory, FromArgMatches};
use eds_core::{api::name::KeyName, ids::KeyId};

use crate::{
    Error, Kind,
    journey::Nodes,
    keystore::{Evidence, Want},
};

/// A command of the original.
pub struct Original {
    /// The name under which it is started.
    pub name: &'static str,
    /// Its command line.
    pub command: fn() -> clap::Command,
    run: fn(&clap::ArgMatches) -> ExitCode,
}

/// A command line that does something.
trait Runs: CommandFactory + FromArgMatches {
    /// Does it, and reports itself what fails.
    fn run(self) -> ExitCode;
}

fn run<C: Runs>(matches: &clap::ArgMatches) -> ExitCode {
    match C::from_arg_matches(matches) {
        Ok(command) => command.run(),
        Err(error) => error.exit(),
    }
}

macro_rules! originals {
    ($($name:literal => $command:ty;)*) => {
        /// All commands of the original.
        pub const ORIGINALS: &[Original] =
            &[$(Original { name: $name, command: <$command as CommandFactory>::command, run: run::<$command> }),*];
    };
}

originals! {
    "glite-eds-key-register" => key::Register;
    "glite-eds-key-unregister" => key::Unregister;
    "glite-eds-encrypt" => files::Encrypt;
    "glite-eds-decrypt" => files::Decrypt;
    "glite-eds-put" => files::Put;
    "glite-eds-get" => files::Get;
    "glite-eds-rm" => files::Rm;
    "glite-eds-getacl" => permissions::Getacl;
    "glite-eds-setacl" => permissions::Setacl;
    "glite-eds-chmod" => permissions::Chmod;
}

/// The command of the original under whose name the program was started, if it was one.
pub fn started_as(program: &OsString) -> Option<&'static Original> {
    let name = Path::new(program).file_name()?;
    ORIGINALS.iter().find(|original| name == original.name)
}

impl Original {
    /// Reads the command line and runs the command.
    pub fn run(&self, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
        let matches = (self.command)().name(self.name).bin_name(self.name).get_matches_from(arguments);
        (self.run)(&matches)
    }
}

/// What every one of these commands takes.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Common {
    /// Say nothing but errors
    #[arg(short, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more
    #[arg(short)]
    verbose: bool,
}

impl Common {
    /// What the original says on success.
    fn say(self, text: &str) {
        if !self.quiet {
            println!("{text}");
        }
    }

    fn note(self, text: &str) {
        if self.verbose {
            eprintln!("{text}");
        }
    }
}

/// What names a key for the original: an id, or a name.
#[derive(Clone, Debug)]
pub enum Id {
    /// The id of a key.
    Key(KeyId),
    /// A name.
    Name(KeyName),
}

impl Id {
    /// Reads what the user typed. The prefix `lfn:` of a logical name is left out, and slashes too many with it.
    ///
    /// # Errors
    /// [`Error::NotAName`].
    pub fn new(text: &str) -> Result<Self, Error> {
        if let Ok(key) = text.parse() {
            return Ok(Self::Key(key));
        }
        let name = logical(text);
        KeyName::new(&name).map(Self::Name).map_err(|source| Error::NotAName { text: text.into(), source })
    }

    /// What is known of the key, and how its manifest is proven.
    ///
    /// # Errors
    /// [`Error::Name`].
    fn find(&self, nodes: &Nodes) -> Result<Want, Error> {
        match self {
            Self::Key(key) => Ok(Want { key: *key, evidence: Evidence::Agreement }),
            Self::Name(name) => {
                let named = nodes.resolve(name)?;
                Ok(Want { key: named.key, evidence: Evidence::Recorded(Box::new(named.manifest)) })
            }
        }
    }
}

/// The path of a logical name: `lfn:/a`, `lfn://a` and `/a` are one name.
fn logical(text: &str) -> String {
    match text.strip_prefix("lfn:") {
        Some(rest) => format!("/{}", rest.trim_start_matches('/')),
        None => text.to_owned(),
    }
}

/// Reports an error in the words of the original: `Error during STEP: …`.
fn failed(step: &str, error: &Error) -> ExitCode {
    eprintln!("Error during {step}: {}", plain(error));
    ExitCode::from(error.kind().exit_code())
}

/// The report of an error without the name of this program.
fn plain(error: &Error) -> String {
    let report = error.report();
    report.strip_prefix("eds: error: ").unwrap_or(&report).to_owned()
}

fn ended(failed: Option<Kind>) -> ExitCode {
    failed.map_or(ExitCode::SUCCESS, |kind| ExitCode::from(kind.exit_code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_lines_are_consistent_and_say_how_they_are_called() {
        assert_eq!(ORIGINALS.len(), 10);
        for original in ORIGINALS {
            (original.command)().debug_assert();
            assert!(original.name.starts_with("glite-eds-"));
            let found = started_as(&OsString::from(format!("/usr/bin/{}", original.name))).expect("found");
            assert_eq!(found.name, original.name);
        }
        assert!(started_as(&OsString::from("eds")).is_none());
    }

    #[test]
    fn a_logical_name_is_the_path_of_its_url() {
        for text in ["/myvo/home/secret", "lfn:/myvo/home/secret", "lfn://myvo/home/secret", "lfn:///myvo/home/secret"]
        {
            let Ok(Id::Name(name)) = Id::new(text) else { panic!("{text}") };
            assert_eq!(name.as_str(), "/myvo/home/secret");
        }
        assert!(matches!(Id::new("00112233-4455-6677-8899-aabbccddeeff"), Ok(Id::Key(_))));
        assert!(Id::new("/myvo/../x").is_err());
    }
}
