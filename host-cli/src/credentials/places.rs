//! Where proofs are looked for, in the order in which they are taken: what a variable of the environment names, what the
//! configuration names, what lies at a usual place; of each, a certificate before a proxy before a token.
//!
//! | kind | places |
//! |---|---|
//! | certificate | `identity.certificate` and `identity.key` of the configuration |
//! | proxy | `X509_USER_PROXY`; `identity.proxy`; `/tmp/x509up_u<uid>` |
//! | token | those of WLCG Bearer Token Discovery: `BEARER_TOKEN`, `BEARER_TOKEN_FILE`, `$XDG_RUNTIME_DIR/bt_u<uid>`, `/tmp/bt_u<uid>`; `identity.token_file` comes after the variables, what `eds login` keeps comes last |
//!
//! What a variable or the configuration names is taken even if it is not there, and is an error then: somebody meant it.

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use super::ProofKind;
use crate::{
    config::{Config, Login, Pair},
    login,
};

/// Reads a variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A place where a proof is, or should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// Certificate and key of the configuration.
    Certificate(Pair),
    /// A file with a proxy.
    Proxy {
        /// The file.
        file: PathBuf,
        /// What names it.
        named_by: &'static str,
    },
    /// The variable `BEARER_TOKEN`.
    TokenVariable,
    /// A file with a token.
    TokenFile {
        /// The file.
        file: PathBuf,
        /// What names it.
        named_by: &'static str,
    },
    /// What `eds login` keeps.
    Login {
        /// The file.
        file: PathBuf,
        /// Where it is from.
        login: Login,
    },
}

impl Place {
    /// What kind of proof is there.
    pub fn kind(&self) -> ProofKind {
        match self {
            Self::Certificate(_) => ProofKind::Certificate,
            Self::Proxy { .. } => ProofKind::Proxy,
            Self::TokenVariable | Self::TokenFile { .. } | Self::Login { .. } => ProofKind::Token,
        }
    }

    fn source(&self) -> Source {
        match self {
            Self::TokenVariable => Source::Variable,
            Self::Proxy { named_by, .. } | Self::TokenFile { named_by, .. } => match *named_by {
                X509_USER_PROXY | BEARER_TOKEN_FILE => Source::Variable,
                IDENTITY_PROXY | IDENTITY_TOKEN => Source::Configuration,
                _ => Source::Usual,
            },
            Self::Certificate(_) => Source::Configuration,
            Self::Login { .. } => Source::Usual,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(files) => write!(f, "{}", files.certificate.display()),
            Self::Proxy { file, named_by } | Self::TokenFile { file, named_by } => {
                write!(f, "{} ({named_by})", file.display())
            }
            Self::Login { login, .. } => write!(f, "eds login at {}", login.issuer),
            Self::TokenVariable => f.write_str("the variable BEARER_TOKEN"),
        }
    }
}

/// Everything that decides where to look.
pub struct Places<'a> {
    /// The settings.
    pub config: &'a Config,
    /// The variables.
    pub environment: Environment<'a>,
    /// The user.
    pub user: u32,
    /// The directory of temporary files, which everybody can write into.
    pub temporary: &'a Path,
}

impl<'a> Places<'a> {
    /// The places of this process.
    pub fn of_process(config: &'a Config) -> Self {
        let user = rustix::process::geteuid().as_raw();
        Self { config, environment: &|name| std::env::var_os(name), user, temporary: Path::new("/tmp") }
    }

    /// Where a proof is, in the order in which they are taken; of one kind, if one is wanted.
    pub fn find(&self, wanted: Option<ProofKind>) -> Vec<Place> {
        let mut places: Vec<Place> = self.config.identity.pair.clone().map(Place::Certificate).into_iter().collect();
        places.extend(self.proxies());
        places.extend(self.tokens());
        places.sort_by_key(Place::source);
        places.retain(|place| wanted.is_none_or(|kind| place.kind() == kind));
        places
    }

    fn proxies(&self) -> impl Iterator<Item = Place> {
        let place = |file, named_by| Place::Proxy { file, named_by };
        let named = [
            self.variable(X509_USER_PROXY).map(|file| place(file.into(), X509_USER_PROXY)),
            self.config.identity.proxy.clone().map(|file| place(file, IDENTITY_PROXY)),
        ];
        let usual = self.usual(self.temporary, "x509up_u").map(|file| place(file, "the usual place"));
        named.into_iter().flatten().chain(usual)
    }

    fn tokens(&self) -> impl Iterator<Item = Place> {
        let place = |file, named_by| Place::TokenFile { file, named_by };
        let named = [
            self.variable(BEARER_TOKEN).map(|_| Place::TokenVariable),
            self.variable(BEARER_TOKEN_FILE).map(|file| place(file.into(), BEARER_TOKEN_FILE)),
            self.config.identity.token_file.clone().map(|file| place(file, IDENTITY_TOKEN)),
        ];
        let runtime = self.variable("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        let usual = [runtime.as_deref(), Some(self.temporary)];
        let usual = usual.map(|directory| Some(place(self.usual(directory?, "bt_u")?, "the usual place")));
        let kept = self
            .config
            .login
            .clone()
            .map(|login| Place::Login { file: login::place(self.config, &login, self.environment, self.user), login });
        let kept = kept.filter(|place| matches!(place, Place::Login { file, .. } if file.exists()));
        named.into_iter().chain(usual).flatten().chain(kept)
    }

    /// The user's file in a directory, if there is one.
    fn usual(&self, directory: &Path, prefix: &str) -> Option<PathBuf> {
        let file = directory.join(format!("{prefix}{}", self.user));
        file.symlink_metadata().is_ok().then_some(file)
    }

    /// A variable that is set, and not to nothing.
    fn variable(&self, name: &str) -> Option<OsString> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }
}

const X509_USER_PROXY: &str = "X509_USER_PROXY";
pub(super) const BEARER_TOKEN: &str = "BEARER_TOKEN";
const BEARER_TOKEN_FILE: &str = "BEARER_TOKEN_FILE";
const IDENTITY_PROXY: &str = "identity.proxy";
const IDENTITY_TOKEN: &str = "identity.token_file";

/// What names a place, the nearest to the command first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Variable,
    Configuration,
    Usual,
}
