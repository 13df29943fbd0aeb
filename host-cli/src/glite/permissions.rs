//! `glite-eds-getacl`, `-setacl` and `-chmod`.
//!
//! A change counts when every key server made it, and one that would change nothing is not sent. What is printed of an
//! access list can be fed back.

use std::{cell::OnceCell, path::PathBuf, process::ExitCode};

use clap::Parser;
use eds_core::api::access::{AccessList, typed::apply_mode};

use super::{Common, Id, Runs, ended, plain, surroundings::Surroundings};
use crate::{
    Error, Kind,
    commands::key::access::{Names, differing, entries_of, lines, replacing, verbose},
    keystore::access::{
        AccessError, Changed,
        agree::agree,
        text::{Entries, describe},
    },
    output,
};

/// What the tools for permissions take.
#[derive(clap::Args, Clone, Debug)]
struct Tool {
    #[command(flatten)]
    common: Common,
    /// The URL or the name of one of the services [default: the first of GLITE_SD_SERVICES_XML]
    #[arg(short, value_name = "SERVICE")]
    service: Option<String>,
    /// How many keys go into one call
    #[arg(short, value_name = "NUM", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: u16,
}

/// Show who may do what with keys
#[derive(Parser, Debug)]
#[command(version)]
pub struct Getacl {
    #[command(flatten)]
    tool: Tool,
    /// Keys, or their names
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// Change who may do what with keys
#[derive(Parser, Debug)]
#[command(version, group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct Setacl {
    #[command(flatten)]
    tool: Tool,
    /// Add an entry, or change that of the same principal; may be given several times
    #[arg(short, value_name = "ACL", group = "change", action = clap::ArgAction::Append)]
    modify: Vec<String>,
    /// Delete the entry of a principal; may be given several times
    #[arg(short, value_name = "PRINCIPAL", group = "change", action = clap::ArgAction::Append)]
    delete: Vec<String>,
    /// Replace all entries; NONE for no entry; may be given several times
    #[arg(short = 'x', value_name = "ACL", group = "change", conflicts_with_all = ["modify", "delete"])]
    replace: Vec<String>,
    /// As -m, one entry a line of a file; - is standard input
    #[arg(short = 'M', value_name = "FILE", group = "change", conflicts_with_all = ["modify", "delete", "replace"])]
    modify_from: Option<PathBuf>,
    /// As -d, one principal or entry a line of a file
    #[arg(short = 'D', value_name = "FILE", group = "change", conflicts_with_all = ["modify", "delete", "replace", "modify_from"])]
    delete_from: Option<PathBuf>,
    /// As -x, one entry a line of a file
    #[arg(short = 'X', value_name = "FILE", group = "change", conflicts_with_all = ["modify", "delete", "replace", "modify_from", "delete_from"])]
    replace_from: Option<PathBuf>,
    /// Keys, or their names
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// Change the permissions of user (owner), group and others
#[derive(Parser, Debug)]
#[command(version)]
pub struct Chmod {
    #[command(flatten)]
    tool: Tool,
    /// Who, how and what: such as g+g,o-rw,u=pdrwl-gs, for u (user), g (group), o (others), a (all)
    #[arg(value_name = "MODE", allow_hyphen_values = true)]
    mode: String,
    /// Keys, or their names
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

impl Tool {
    /// Finds the servers, and says which they are where more is to be said.
    fn open(&self) -> Result<Surroundings, Error> {
        let around = Surroundings::open(self.service.as_deref())?;
        if self.common.verbose {
            let mut text = String::new();
            for view in around.nodes.node_status() {
                text += &format!("# Using endpoint {}\n", view.node.url);
                match view.answer {
                    Ok(info) => {
                        text += &format!("# - service version: {}\n# - interface version: 1\n", info.version);
                    }
                    Err(fault) => text += &format!("# - HTTP error: {fault}\n"),
                }
            }
            output::print(&text)?;
        }
        Ok(around)
    }

    /// Does something for each key, whose names are asked for in batches; the first failure decides how it ends.
    fn each(
        &self,
        ids: &[String],
        one: impl Fn(&Surroundings, &str, eds_core::ids::KeyId) -> Result<(), Error>,
    ) -> ExitCode {
        let around = match self.open() {
            Ok(around) => around,
            Err(error) => {
                eprintln!("ERROR {}", plain(&error));
                return ExitCode::from(error.kind().exit_code());
            }
        };
        let mut first = None;
        for batch in ids.chunks(usize::from(self.batch)) {
            let parsed: Vec<Result<Id, Error>> = batch.iter().map(|id| Id::new(id)).collect();
            let names = parsed.iter().filter_map(|id| match id {
                Ok(Id::Name(name)) => Some(name.clone()),
                _ => None,
            });
            let names: Vec<_> = names.collect();
            let mut named = around.nodes.resolve_all(&names).into_iter();
            for (id, parsed) in batch.iter().zip(parsed) {
                let key = match parsed {
                    Ok(Id::Key(key)) => Ok(key),
                    Ok(Id::Name(_)) => named.next().unwrap_or(Err(Error::NothingFetched)).map(|named| named.key),
                    Err(error) => Err(error),
                };
                if let Err(error) = key.and_then(|key| one(&around, id, key)) {
                    tell(id, &error);
                    first.get_or_insert(error.kind());
                }
            }
        }
        ended(first)
    }
}

/// Says in the words of the original what failed, and in ours why.
fn tell(id: &str, error: &Error) {
    let what = match (error, error.kind()) {
        (Error::Corrupted { .. }, _) => "Corrupted permissions for",
        (Error::Access(AccessError::NoAgreement { .. } | AccessError::Contradiction { .. }), Kind::Damaged) => {
            "Corrupted permissions for"
        }
        (_, Kind::Denied | Kind::NotFound) => "Missing permission for",
        (Error::Access(AccessError::NoAgreement { .. }), _) => "HTTP error for",
        _ => "Change failed on",
    };
    eprintln!("ERROR {what} {id}\n{}", plain(error));
}

impl Runs for Getacl {
    fn run(self) -> ExitCode {
        let verbosely = self.tool.common.verbose;
        self.tool.each(&self.ids, |around, id, key| {
            let views = around.nodes.access(key);
            let agreed = agree(around.nodes.directory(), key, &views)?;
            if verbosely {
                return Ok(output::print(&verbose(id, &views))?);
            }
            let differ = views.iter().any(|view| view.answer.as_ref().is_ok_and(|seen| seen.digest != agreed.digest));
            if differ {
                return Err(Error::Corrupted { key, nodes: differing(&views, &agreed.digest) });
            }
            Ok(output::print(&describe(id, &agreed.list))?)
        })
    }
}

impl Setacl {
    fn entries(&self, around: &Surroundings) -> Result<Entries, Error> {
        let namespace = Names::default().namespace(&around.config)?;
        let of_file = |file: &Option<PathBuf>| file.as_deref().map(lines).transpose();
        if let Some(entries) = of_file(&self.modify_from)? {
            return entries_of(&namespace, &entries, &[], &[]);
        }
        if let Some(entries) = of_file(&self.delete_from)? {
            let principals: Vec<String> = entries.iter().map(|line| principal(line).to_owned()).collect();
            return entries_of(&namespace, &[], &principals, &[]);
        }
        if let Some(entries) = of_file(&self.replace_from)? {
            return replacing(&namespace, &entries);
        }
        entries_of(&namespace, &self.modify, &self.delete, &self.replace)
    }
}

/// The principal of a line that may be a whole entry.
fn principal(line: &str) -> &str {
    match line.rsplit_once(':') {
        Some((who, may)) if !may.is_empty() && may.chars().all(|letter| "pdrwlxgs-".contains(letter)) => who,
        _ => line,
    }
}

impl Runs for Setacl {
    fn run(self) -> ExitCode {
        let common = self.tool.common;
        // Standard input is read once.
        let read = OnceCell::new();
        self.tool.each(&self.ids, |around, id, key| {
            let entries = match read.get() {
                Some(entries) => Entries::clone(entries),
                None => {
                    let entries = self.entries(around)?;
                    read.get_or_init(|| entries).clone()
                }
            };
            change(around, common, id, key, "ACLs", |list| Ok(entries.apply(list)?))
        })
    }
}

impl Runs for Chmod {
    fn run(self) -> ExitCode {
        let common = self.tool.common;
        self.tool.each(&self.ids, |around, id, key| {
            change(around, common, id, key, "permissions", |list| Ok(apply_mode(&self.mode, list)?))
        })
    }
}

/// Changes an access list on every server that holds the key; one that did not make the change is a failure.
fn change(
    around: &Surroundings,
    common: Common,
    id: &str,
    key: eds_core::ids::KeyId,
    what: &str,
    edit: impl FnOnce(AccessList) -> Result<AccessList, Error>,
) -> Result<(), Error> {
    match around.nodes.change_access(key, edit)? {
        Changed::Unchanged => common.note(&format!("Nothing to change on {id}")),
        Changed::Done { missing, .. } if !missing.is_empty() => {
            return Err(Error::NotChangedEverywhere { key, nodes: missing });
        }
        Changed::Done { .. } if common.verbose => println!("Changed {what} on {id}"),
        Changed::Done { .. } => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_entries_gives_its_principal() {
        assert_eq!(principal("/C=CH/CN=a:pd----g-"), "/C=CH/CN=a");
        assert_eq!(principal("/myvo/radiology"), "/myvo/radiology");
        assert_eq!(principal("https://id.example#7"), "https://id.example#7");
    }
}
