//! `eds key ls`, `acl`, `chmod`, `setacl` and `chown`: who may do what with keys.
//!
//! A change is sent to every node. What only some nodes confirmed is told; a revocation that too few confirmed is an error.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
};

use clap::Args;
use eds_core::{
    api::{
        KeyState,
        access::{
            AccessList, Entry, Grantee, Subject,
            typed::{Namespace, TypedError, apply_mode, subject_of_certificate},
        },
    },
    names,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Options, Part};
use crate::{
    Error,
    commands::warn,
    config::Config,
    journey::Nodes,
    keystore::{
        Identity, NodeError, NodeView,
        access::{
            Changed,
            agree::{Seen, agree},
            text::{Entries, describe},
        },
    },
    output,
};

/// The arguments of `eds key ls`.
#[derive(Args, Debug)]
pub struct Ls {
    /// Also show owner, group and permissions
    #[arg(short, long)]
    long: bool,
}

/// The arguments of `eds key acl`.
#[derive(Args, Debug)]
pub struct Acl {
    /// Keys, or images or files of the catalog
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    part: Part,
    /// Show what each key server says
    #[arg(short, long)]
    verbose: bool,
}

/// The arguments of `eds key chmod`.
#[derive(Args, Debug)]
pub struct Chmod {
    /// Who, how and what: such as g+g,o-rw,u=pdrwl-gs, for u (owner), g (group), o (others), a (all)
    #[arg(value_name = "MODE", allow_hyphen_values = true)]
    mode: String,
    /// Keys, or images or files of the catalog
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    part: Part,
}

/// The arguments of `eds key setacl`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct Setacl {
    /// Add an entry or change that of the same principal; may be given several times
    #[arg(short, long, value_name = "PRINCIPAL:perms", group = "change")]
    modify: Vec<String>,
    /// Delete the entry of a principal; may be given several times
    #[arg(short, long, value_name = "PRINCIPAL", group = "change")]
    delete: Vec<String>,
    /// Replace all entries; NONE for no entry; may be given several times
    #[arg(short = 'x', long, value_name = "PRINCIPAL:perms", group = "change", conflicts_with_all = ["modify", "delete"])]
    replace: Vec<String>,
    /// Replace all entries by those in a file, one a line, as `eds key acl` prints them; - is standard input
    #[arg(short = 'X', long, value_name = "FILE", group = "change", conflicts_with_all = ["modify", "delete", "replace"])]
    replace_from: Option<PathBuf>,
    /// Keys, or images or files of the catalog
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    part: Part,
    #[command(flatten)]
    names: Names,
}

/// The arguments of `eds key chown`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("whom").required(true).multiple(true))]
pub struct Chown {
    /// The new owner; only the owner and administrators may name one
    #[arg(long, value_name = "SUBJECT", group = "whom")]
    owner: Option<String>,
    /// The new group; NONE for no group
    #[arg(long, value_name = "GROUP", group = "whom")]
    group: Option<String>,
    /// Keys, or images or files of the catalog
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    part: Part,
    #[command(flatten)]
    names: Names,
}

/// Whose names are typed.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct Names {
    /// The certificate of the authority that vouches for the names typed [default: the one that vouches for you]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Names {
    /// What names are looked for in.
    pub(crate) fn namespace(&self, config: &Config) -> Result<Namespace, Error> {
        let authority = match &self.ca {
            Some(file) => Some(certificate(file, |certificate| certificate.subject().as_raw().to_vec())?),
            None => Identity::load(config)?.authority(),
        };
        Ok(Namespace { authority })
    }
}

/// The principal that a text names; `@FILE` is the subject of that certificate, exactly.
pub(super) fn grantee(namespace: &Namespace, text: &str) -> Result<Grantee, Error> {
    match text.strip_prefix('@') {
        Some(file) => Ok(Grantee::Subject(of_certificate(Path::new(file))?)),
        None => Ok(namespace.grantee(text)?),
    }
}

fn entry(namespace: &Namespace, text: &str) -> Result<Entry, Error> {
    match text.strip_prefix('@') {
        Some(rest) => {
            let wrong = || TypedError::Entry(text.into());
            let (file, may) = rest.rsplit_once(':').ok_or_else(wrong)?;
            // Any principal: only the letters are read here.
            let may = namespace.entry(&format!("/any:{may}")).map_err(|_| wrong())?.may;
            Ok(Entry { who: Grantee::Subject(of_certificate(Path::new(file))?), may })
        }
        None => Ok(namespace.entry(text)?),
    }
}

fn of_certificate(file: &Path) -> Result<Subject, Error> {
    certificate(file, |found| subject_of_certificate(found.issuer().as_raw(), found.subject().as_raw()))
}

fn certificate<T>(file: &Path, read: impl FnOnce(&X509Certificate<'_>) -> T) -> Result<T, Error> {
    let wrong = || Error::PrincipalFile { path: file.into() };
    let bytes = fs::read(file).map_err(Error::reading(file))?;
    let der = CertificateDer::from_pem_slice(&bytes).map_err(|_| wrong())?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| wrong())?;
    Ok(read(&certificate))
}

/// Says of whom typed names are, once.
fn tell_authority<'a>(grantees: impl Iterator<Item = &'a Grantee>) {
    let mut told: Vec<String> = Vec::new();
    for grantee in grantees {
        if let Grantee::Subject(subject) = grantee {
            let line = format!("{} is a name of {}", subject.shown(), subject.authority());
            if !told.contains(&line) {
                eprintln!("{line}");
                told.push(line);
            }
        }
    }
}

impl Ls {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let nodes = Nodes::open(&options.load()?)?;
        let (keys, failed) = nodes.list_keys();
        let all = nodes.directory().nodes.len();
        if failed.len() == all {
            return Err(failed.into_iter().next().map_or(Error::NothingFetched, Error::Node));
        }
        warn(&failed);
        let mut text = String::new();
        for found in keys {
            text += &found.key.key.0.to_string();
            if self.long {
                let state = if found.key.state == KeyState::Pending { "pending" } else { "active" };
                let group = found.key.group.as_deref().unwrap_or("no group").escape_debug().to_string();
                let owner = found.key.owner.escape_debug().to_string();
                text += &format!("\t{state}\t{owner}\t{group}\t{}", found.key.permissions.escape_debug());
            }
            if found.nodes < all - failed.len() {
                text += &format!("\tonly on {} of {all} nodes", found.nodes);
            }
            text.push('\n');
        }
        Ok(output::print(&text)?)
    }
}

impl Acl {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let nodes = Nodes::open(&config)?;
        each(&self.ids, |id| {
            let key = self.part.resolve(id, &config)?;
            let views = nodes.access(key);
            if self.verbose {
                output::print(&verbose(id, &views))?;
            }
            let agreed = agree(nodes.directory(), key, &views)?;
            warn(&differing(&views, &agreed.digest));
            if !self.verbose {
                output::print(&describe(id, &agreed.list))?;
            }
            Ok(())
        })
    }
}

pub(crate) fn verbose(id: &str, views: &[NodeView<Seen>]) -> String {
    views.iter().fold(String::new(), |text, view| {
        let said = match &view.answer {
            Ok(seen) => describe(id, &seen.list),
            Err(fault) => format!("# {fault}\n"),
        };
        format!("{text}# ENDPOINT: {} (node {})\n{said}", view.node.url, view.node.number)
    })
}

/// The nodes that do not show the list that counts.
pub(crate) fn differing(views: &[NodeView<Seen>], digest: &[u8; 32]) -> Vec<NodeError> {
    let of = |view: &NodeView<Seen>| {
        let fault = match &view.answer {
            Ok(seen) if seen.digest == *digest => return None,
            Ok(seen) => crate::keystore::NodeFault::BadAnswer(format!(
                "it shows another access list, version {}; see `eds key sync --dry-run`",
                seen.list.version
            )),
            Err(fault) => fault.clone(),
        };
        Some(NodeError { node: view.node.number, url: view.node.url.as_str().into(), fault })
    };
    views.iter().filter_map(of).collect()
}

impl Chmod {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let nodes = Nodes::open(&config)?;
        each(&self.ids, |id| {
            let key = self.part.resolve(id, &config)?;
            tell(id, nodes.change_access(key, |list| Ok(apply_mode(&self.mode, list)?))?)
        })
    }
}

impl Setacl {
    /// Adds entries to the lists of these keys.
    pub(in crate::commands) fn adding(modify: Vec<String>, ids: Vec<String>) -> Self {
        Self {
            modify,
            delete: Vec::new(),
            replace: Vec::new(),
            replace_from: None,
            ids,
            part: Part { private: false },
            names: Names { ca: None },
        }
    }

    pub(in crate::commands) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let entries = self.entries(&self.names.namespace(&config)?)?;
        match &entries {
            Entries::Edit { modify, delete } => {
                tell_authority(modify.iter().map(|entry| &entry.who).chain(delete));
            }
            Entries::Replace(entries) => tell_authority(entries.iter().map(|entry| &entry.who)),
        }
        let nodes = Nodes::open(&config)?;
        each(&self.ids, |id| {
            let key = self.part.resolve(id, &config)?;
            tell(id, nodes.change_access(key, |list| Ok(entries.clone().apply(list)?))?)
        })
    }

    fn entries(&self, namespace: &Namespace) -> Result<Entries, Error> {
        match &self.replace_from {
            Some(file) => replacing(namespace, &lines(file)?),
            None => entries_of(namespace, &self.modify, &self.delete, &self.replace),
        }
    }
}

/// What is to become of entries that were typed; `NONE` in the place of all is no entry.
pub(crate) fn entries_of(
    namespace: &Namespace,
    modify: &[String],
    delete: &[String],
    replace: &[String],
) -> Result<Entries, Error> {
    if replace == ["NONE"] {
        return Ok(Entries::Replace(Vec::new()));
    }
    if !replace.is_empty() {
        return replacing(namespace, replace);
    }
    let delete = delete.iter().map(|text| grantee(namespace, text)).collect::<Result<_, Error>>()?;
    Ok(Entries::Edit { modify: parsed(namespace, modify)?, delete })
}

/// These entries in the place of all.
pub(crate) fn replacing(namespace: &Namespace, entries: &[String]) -> Result<Entries, Error> {
    parsed(namespace, entries).map(Entries::Replace)
}

fn parsed(namespace: &Namespace, texts: &[String]) -> Result<Vec<Entry>, Error> {
    texts.iter().map(|text| entry(namespace, text)).collect()
}

/// The entries in a file: `#` starts a comment, and an empty line ends it.
pub(crate) fn lines(file: &Path) -> Result<Vec<String>, Error> {
    let input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(fs::File::open(file).map_err(Error::reading(file))?)
    };
    let mut found = Vec::new();
    for line in BufReader::new(input).lines() {
        let line = line.map_err(Error::reading(file))?;
        match line.trim() {
            "" => break,
            comment if comment.starts_with('#') => {}
            entry => found.push(entry.to_owned()),
        }
    }
    Ok(found)
}

impl Chown {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let namespace = self.names.namespace(&config)?;
        let owner = self.owner.as_deref().map(|text| match grantee(&namespace, text)? {
            Grantee::Subject(subject) => Ok(subject),
            Grantee::Group(_) => Err(Error::from(TypedError::Principal(text.into()))),
        });
        let owner = owner.transpose()?;
        let group = match self.group.as_deref() {
            None => None,
            Some("NONE") => Some(None),
            Some(text) => Some(Some(names::group(text).ok_or_else(|| TypedError::Principal(text.into()))?)),
        };
        tell_authority(owner.clone().map(Grantee::Subject).iter());
        let nodes = Nodes::open(&config)?;
        each(&self.ids, |id| {
            let key = self.part.resolve(id, &config)?;
            let edit = |mut list: AccessList| {
                if let Some(owner) = &owner {
                    list.owner = owner.clone();
                }
                if let Some(group) = &group {
                    list.group = group.clone();
                }
                Ok(list)
            };
            tell(id, nodes.change_access(key, edit)?)
        })
    }
}

/// Says what became of a change.
fn tell(id: &str, changed: Changed) -> Result<(), Error> {
    match changed {
        Changed::Unchanged => eprintln!("{id}: nothing to change"),
        Changed::Done { list, confirmed, revoked, missing } => {
            warn(&missing);
            eprintln!("{id}: version {} is on {} of {} nodes", list.version, confirmed.nodes, confirmed.of);
            if !missing.is_empty() {
                eprintln!("when the others are back: eds key sync {id}");
            }
            if revoked {
                eprintln!("{NOT_TAKEN_BACK}");
            }
        }
    }
    Ok(())
}

/// Does something for each id; the first error decides the exit code, after all were tried.
fn each(ids: &[String], mut one: impl FnMut(&str) -> Result<(), Error>) -> Result<(), Error> {
    let mut failed = None;
    let mut seen: BTreeMap<&str, ()> = BTreeMap::new();
    for id in ids {
        if seen.insert(id, ()).is_some() {
            continue;
        }
        match one(id) {
            Ok(()) => {}
            Err(error) if ids.len() == 1 => return Err(error),
            Err(error) => {
                eprintln!("{}", error.report());
                failed.get_or_insert(error.kind());
            }
        }
    }
    failed.map_or(Ok(()), |kind| Err(Error::SomeFailed { kind }))
}

/// What a revocation is not.
pub(super) const NOT_TAKEN_BACK: &str = "This takes nothing back that was fetched before: who had the key may have kept it. \
    After a leak, refresh the shares, or encrypt again under a new key.";
