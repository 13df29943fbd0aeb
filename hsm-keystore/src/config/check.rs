//! `check-config`: everything that can be seen to be wrong with a configuration and with the files that it names, at once,
//! without the token and without changing anything.
//!
//! The files are looked at also where the configuration itself is wrong elsewhere. What `serve` will refuse is an error,
//! and so is a secret that others can read; what will need a person soon, or is not there yet because the node is not made
//! yet, is a warning. Secrets are looked at by their mode and length: nothing of their content is told.

mod certificates;

use std::{
    borrow::Cow,
    fmt,
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Config, ConfigError, Named, Reading, Role};
use crate::{
    authn::setup,
    hsm::{
        pin::denied,
        self_test::{Check, described},
    },
    identity::Identity,
    node::{Clock, startup},
};

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// The node does not start, or a secret is open to others.
    Error,
    /// Somebody must act soon, or the node is not made yet.
    Warning,
}

/// Something wrong, or soon to be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Finding {
    /// The line of the configuration file.
    pub line: usize,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub message: String,
    /// What to do.
    pub hint: Cow<'static, str>,
}

/// Everything that was found, from the first line to the last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Findings {
    file: PathBuf,
    /// What was found.
    pub findings: Vec<Finding>,
    /// How many files were looked at.
    pub files: usize,
}

impl Findings {
    /// How many are of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { line, severity, message, hint } in &self.findings {
            let word = if *severity == Severity::Error { "error" } else { "warning" };
            writeln!(f, "{}:{line}: {word}: {message}\n    hint: {hint}", self.file.display())?;
        }
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        writeln!(f, "{errors} errors, {warnings} warnings; {} named files looked at", self.files)
    }
}

/// Looks at a configuration and at the files that it names.
///
/// # Errors
/// [`ConfigError::Unreadable`]; everything else is a finding.
pub fn check(file: &Path, clock: Arc<dyn Clock>) -> Result<Findings, ConfigError> {
    let text = fs::read_to_string(file).map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
    let reading = Reading::of(file, &text);
    let now = i64::try_from(clock.now()).unwrap_or(i64::MAX);
    let made = reading.named.iter().any(|named| is_made_by_init(named.role) && named.path.exists());
    let mut look = Look { findings: Vec::new(), now, made };
    look.configuration(file, &reading);
    for named in &reading.named {
        look.file(named);
    }
    look.directory(&reading);
    look.certificates(&reading);
    // Files that are wrong by themselves are told already.
    if let Some(config) = reading.config.as_ref().filter(|_| look.findings.iter().all(is_warning)) {
        look.authorities(config, &reading, clock);
    }
    look.findings.sort();
    look.findings.dedup();
    Ok(Findings { file: file.to_owned(), findings: look.findings, files: reading.named.len() })
}

/// What was found so far.
struct Look {
    findings: Vec<Finding>,
    now: i64,
    /// `init` was here: what it makes is missing when it is not there.
    made: bool,
}

impl Look {
    fn error(&mut self, line: usize, message: String, hint: impl Into<Cow<'static, str>>) {
        self.findings.push(Finding { line, severity: Severity::Error, message, hint: hint.into() });
    }

    fn warning(&mut self, line: usize, message: String, hint: impl Into<Cow<'static, str>>) {
        self.findings.push(Finding { line, severity: Severity::Warning, message, hint: hint.into() });
    }

    /// The configuration file itself.
    fn configuration(&mut self, file: &Path, reading: &Reading) {
        for fault in &reading.faults {
            self.error(fault.line, fault.message.clone(), fault.hint.clone());
        }
        if let Ok(metadata) = fs::metadata(file)
            && metadata.mode() & 0o022 != 0
        {
            let message = format!("mode {:04o} lets others change this file", metadata.mode() & 0o7777);
            self.error(1, message, format!("chmod go-w {}", file.display()));
        }
    }

    /// One file, by itself.
    fn file(&mut self, named: &Named) {
        let Some(metadata) = self.found(named) else { return };
        let is_directory = matches!(named.role, Role::AuthorityDirectory | Role::VomsDirectory | Role::AuditLog);
        if metadata.is_dir() != is_directory {
            let wanted = if is_directory { "no directory" } else { "a directory, not a file" };
            return self.error(named.line, told(named, wanted), "name the right one");
        }
        let readable =
            if is_directory { fs::read_dir(&named.path).map(drop) } else { File::open(&named.path).map(drop) };
        if let Err(error) = readable {
            return self.error(named.line, told(named, &error), MAY_READ);
        }
        match named.role {
            Role::Secret => self.private(named, &metadata, denied(&named.path)),
            Role::Database | Role::WrappedKeys | Role::AuditLog => self.private(named, &metadata, 0o077),
            Role::PrivateKey => self.private(named, &metadata, 0o027),
            _ => {}
        }
        match named.role {
            Role::Secret if metadata.len() == 0 => self.error(named.line, told(named, "empty"), "put the secret in it"),
            Role::Module => self.begins(
                named,
                b"\x7fELF",
                "no module: not a shared library",
                "name the .so file of the token's maker",
            ),
            Role::Database => {
                self.begins(
                    named,
                    b"SQLite format 3\0",
                    "no database of a node",
                    "see \"Backup and restore\" in docs/keystore.md",
                );
            }
            Role::Identity => {
                if let Err(error) = Identity::load(&named.path) {
                    self.refused(named, &error);
                }
            }
            _ => {}
        }
    }

    /// The metadata of a file; missing ones are told by what makes them.
    fn found(&mut self, named: &Named) -> Option<Metadata> {
        let error = match fs::metadata(&named.path) {
            Ok(metadata) => return Some(metadata),
            Err(error) => error,
        };
        let missing = error.kind() == io::ErrorKind::NotFound;
        match named.role {
            _ if !missing => self.error(named.line, told(named, &error), MAY_READ),
            role if is_made_by_init(role) && !self.made => {
                self.warning(named.line, told(named, "not there yet"), "`eds-keystored init` makes it");
            }
            Role::ClusterDirectory if !self.made => {
                let hint = "`eds cluster sign` makes it, after `eds-keystored init` and `eds cluster add`";
                self.warning(named.line, told(named, "not there yet"), hint);
            }
            role => self.error(named.line, told(named, "there is no such file"), where_from(role)),
        }
        None
    }

    /// A file that others must not read.
    fn private(&mut self, named: &Named, metadata: &Metadata, denied: u32) {
        let mode = metadata.mode() & 0o7777;
        let file = named.path.display();
        if mode & denied != 0 {
            let (what, hint) = if mode & 0o055 & denied != 0 {
                ("read", format!("chmod {} {file}", if metadata.is_dir() { "700" } else { "600" }))
            } else {
                ("change", format!("chmod go-w {file}"))
            };
            self.error(named.line, told(named, format_args!("mode {mode:04o} lets others {what} it")), hint);
        }
        let user = rustix::process::geteuid().as_raw();
        if user != 0 && metadata.uid() != user && metadata.uid() != 0 {
            let message = format_args!("belongs to user {}, not to user {user} who asks", metadata.uid()).to_string();
            self.error(
                named.line,
                told(named, message),
                "run this as the server's user, and let the file belong to it",
            );
        }
    }

    fn begins(&mut self, named: &Named, magic: &[u8], wrong: &str, hint: &'static str) {
        let mut bytes = vec![0; magic.len()];
        let read = File::open(&named.path).and_then(|mut file| file.read_exact(&mut bytes));
        if read.is_err() || bytes != magic {
            self.error(named.line, told(named, wrong), hint);
        }
    }

    /// The signed directory, and this node in it.
    fn directory(&mut self, reading: &Reading) {
        let Some(named) = one(reading, Role::ClusterDirectory).filter(|named| named.path.is_file()) else { return };
        let Some(fingerprint) = reading.fingerprint else { return };
        let directory = match startup::read_directory(&named.path, &fingerprint) {
            Ok(directory) => directory,
            Err(reason) => {
                let hint = "compare cluster.fingerprint with what `eds cluster show` prints of the officers' file";
                return self.error(named.line, format!("{}: {reason}", named.key), hint);
            }
        };
        let identity = one(reading, Role::Identity).and_then(|named| Identity::load(&named.path).ok());
        let Some(identity) = identity else { return };
        let mut checks = Vec::new();
        startup::entry(&directory, &identity, &mut checks);
        for Check { what, outcome } in checks {
            if let Err(reason) = outcome {
                let hint = "`eds cluster add` takes the identity file of this node; then sign, and copy the new directory here";
                self.error(named.line, format!("{}: {what}: {reason}", named.key), hint);
            }
        }
        self.url(reading, &directory, &identity);
    }

    /// Authorities, revocation lists and `vomsdir`, loaded as `serve` loads them.
    fn authorities(&mut self, config: &Config, reading: &Reading, clock: Arc<dyn Clock>) {
        let Err(error) = setup::authenticator(config, clock) else { return };
        let line = [Role::AuthorityDirectory, Role::Authorities, Role::VomsDirectory]
            .into_iter()
            .find_map(|role| one(reading, role))
            .map_or(1, |named| named.line);
        let (message, hint) = parted(&described(&error));
        self.error(line, message, hint);
    }

    /// A file that the program's own reader does not accept.
    fn refused(&mut self, named: &Named, error: &dyn std::error::Error) {
        let (message, hint) = parted(&described(error));
        self.error(named.line, told(named, message), hint);
    }
}

/// An error and its hint.
fn parted(text: &str) -> (String, String) {
    let (message, hint) = text.split_once("\nhint: ").unwrap_or((text, "see docs/keystore.md"));
    (message.to_owned(), hint.to_owned())
}

fn told(named: &Named, what: impl fmt::Display) -> String {
    format!("{}: {}: {what}", named.key, named.path.display())
}

fn one(reading: &Reading, role: Role) -> Option<&Named> {
    reading.named.iter().find(|named| named.role == role)
}

fn is_made_by_init(role: Role) -> bool {
    matches!(role, Role::Database | Role::Identity | Role::WrappedKeys | Role::AuditLog)
}

fn is_warning(finding: &Finding) -> bool {
    finding.severity == Severity::Warning
}

fn where_from(role: Role) -> &'static str {
    match role {
        Role::Secret => "make it with mode 0600 before the secret is written into it: install -m 600 /dev/null FILE",
        Role::Certificate | Role::PrivateKey => "have a certificate issued for this node's host name",
        Role::Module => "install the PKCS#11 module of the token's maker, and name its .so file",
        Role::ClusterDirectory => "copy it from `eds cluster sign`",
        Role::Identity | Role::Database | Role::WrappedKeys | Role::AuditLog => {
            "it was made by `eds-keystored init` together with files that are here: restore it, never make it anew"
        }
        Role::Authorities | Role::AuthorityDirectory | Role::VomsDirectory => "name a file or directory that is there",
    }
}

const MAY_READ: &str = "let the server's user read it, and run this as that user";
