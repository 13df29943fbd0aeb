//! What the user set: a TOML file with the proofs of who they are, the trusted CA and the places of data.
//!
//! Found by `--config FILE`, else the variable `EDS_CONFIG`, else `$XDG_CONFIG_HOME/eds/config.toml`. Relative paths are
//! relative to the directory of the file. Unknown settings are refused, so a misspelt one cannot be ignored silently.
//! Secrets are never in the file: it names the key file, which nobody but its owner may read.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    credentials::ProofKind,
    error::Kind,
    keystore::{Quorum, Terms},
    metadata::{Location, PostgresLocation},
    storage::{self, site::Sites},
};

use self::sites::{Usual, WrittenStorage};

mod sites;

/// The settings of a user, all paths resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Where the settings come from.
    pub file: PathBuf,
    /// What proves who the caller is.
    pub identity: Identity,
    /// Where `eds login` gets a token.
    pub login: Option<Login>,
    /// PEM file of the CA that issues the certificates of the key servers, or a directory of them, hashed as grids have it.
    pub tls_ca: PathBuf,
    /// Directory of what the client itself keeps: pinned cluster, latencies.
    pub state: PathBuf,
    /// Where ciphertext goes: the first is for new objects.
    pub storage: Sites,
    /// The catalog database.
    pub catalog: PathBuf,
    /// The metadata database.
    pub metadata: Location,
    /// A file that says what becomes of attributes in the metadata database; the usual when `None`.
    pub policy: Option<PathBuf>,
    /// The de-identification profile; that of the program when `None`.
    pub profile: Option<PathBuf>,
    /// Under whose names of keys, beside the user's own, files are encrypted.
    pub trusted_owners: Vec<String>,
    /// How new keys are shared; without settings, the majority of the active nodes opens them, and all must hold them.
    pub terms: Terms,
}

/// What proves who the caller is, beside what lies in the usual places.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// The kind of proof to send; absent: the first that there is.
    pub wanted: Option<ProofKind>,
    /// A certificate and its key.
    pub pair: Option<Pair>,
    /// A file with an RFC 3820 proxy.
    pub proxy: Option<PathBuf>,
    /// A file with a bearer token.
    pub token_file: Option<PathBuf>,
}

/// A certificate and its private key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    /// PEM file with the certificate and its chain.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// The issuer of tokens for `eds login`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// Its identifier, the `iss` of its tokens, an https URL.
    pub issuer: String,
    /// The name by which it knows this client.
    pub client_id: String,
    /// PEM file of the authorities of its server; absent: those that the system believes.
    pub ca: Option<PathBuf>,
    /// What to ask for, separated by spaces.
    pub scope: String,
    /// For which service to ask for a token, where the issuer wants to be told.
    pub audience: Option<String>,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no file.
    #[error("there is no configuration file {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file that is not valid.
    #[error("{} is not a valid configuration", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A secret that others may read.
    #[error("the file {} holds a secret and may be read by others (mode {mode:04o})", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A secret that somebody else put there.
    #[error("the file {} should hold a secret of yours, and belongs to the user with the number {owner}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// A certificate without its key, or a key without its certificate.
    #[error("{}: identity.certificate and identity.key are named together or not at all", path.display())]
    HalfPair {
        /// The configuration file.
        path: PathBuf,
    },
    /// Two places for one database.
    #[error("{}: metadata.path and metadata.postgres name two databases", path.display())]
    TwoMetadata {
        /// The configuration file.
        path: PathBuf,
    },
    /// A storage that cannot be used as it is written.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// An issuer without https.
    #[error("{}: login.issuer must begin with https://", path.display())]
    PlainIssuer {
        /// The configuration file.
        path: PathBuf,
    },
    /// Neither HOME nor the XDG variable is set.
    #[error("neither {0} nor HOME is set, so there is no place for the {1}")]
    NoHome(&'static str, &'static str),
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } => Kind::of_io(source),
            Self::Storage(error) => error.kind(),
            _ => Kind::Usage,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some(format!("write one, for example:\n\n{EXAMPLE}")),
            Self::Exposed { path, .. } => Some(format!("chmod 600 {}", path.display())),
            Self::Foreign { .. } => Some("take a file that is yours alone".into()),
            Self::NoHome(variable, _) => Some(format!("set {variable}, or name the file with --config")),
            Self::Read { .. } | Self::Invalid { .. } | Self::HalfPair { .. } => None,
            Self::TwoMetadata { .. } => Some("leave out one of them".into()),
            Self::PlainIssuer { .. } => None,
            Self::Storage(error) => error.hint(),
        }
    }
}

impl Config {
    /// Reads the configuration named by the user, or the default one.
    ///
    /// # Errors
    /// A missing, unreadable or invalid file; see [`Error`].
    pub fn load(named: Option<&Path>) -> Result<Self, Error> {
        Self::load_with(named, &|variable| std::env::var_os(variable))
    }

    /// The state directory alone, for commands that need nothing else: a missing default file means the default place.
    ///
    /// # Errors
    /// As [`Config::load`], except that the default file may be absent.
    pub fn state_directory(named: Option<&Path>) -> Result<PathBuf, Error> {
        let environment = |variable: &str| std::env::var_os(variable);
        match Self::load_with(named, &environment) {
            Err(Error::Missing { .. }) if named.is_none() => Places::new(&environment).state(),
            loaded => loaded.map(|config| config.state),
        }
    }

    fn load_with(named: Option<&Path>, environment: Environment<'_>) -> Result<Self, Error> {
        let places = Places::new(environment);
        let file = named.map_or_else(|| places.config(), |path| Ok(path.to_path_buf()))?;
        let text = std::fs::read_to_string(&file).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing { path: file.clone() },
            _ => Error::Read { path: file.clone(), source },
        })?;
        let written: Written =
            toml::from_str(&text).map_err(|source| Error::Invalid { path: file.clone(), source: Box::new(source) })?;
        Self::of(written, file, &places, environment)
    }

    /// The settings of a user who has no file: the usual places, and these authorities for the key servers.
    ///
    /// # Errors
    /// [`Error::NoHome`].
    pub fn without_file(tls_ca: PathBuf) -> Result<Self, Error> {
        let environment = |variable: &str| std::env::var_os(variable);
        let places = Places::new(&environment);
        let written = Written { trust: WrittenTrust { tls_ca }, ..Written::default() };
        Self::of(written, places.config()?, &places, &environment)
    }

    fn of(written: Written, file: PathBuf, places: &Places<'_>, environment: Environment<'_>) -> Result<Self, Error> {
        let base = file.parent().unwrap_or(Path::new("")).to_path_buf();
        let at = |path: PathBuf| base.join(path);
        let or = |path: Option<Place>, default: &dyn Fn() -> Result<PathBuf, Error>| match path {
            Some(place) => Ok(at(place.path)),
            None => default(),
        };
        let pair = match (written.identity.certificate, written.identity.key) {
            (Some(certificate), Some(key)) => Some(Pair { certificate: at(certificate), key: at(key) }),
            (None, None) => None,
            _ => return Err(Error::HalfPair { path: file }),
        };
        if written.login.as_ref().is_some_and(|login| !login.issuer.starts_with("https://")) {
            return Err(Error::PlainIssuer { path: file });
        }
        let login = written.login.map(|login| Login {
            issuer: login.issuer,
            client_id: login.client_id,
            ca: login.ca.map(at),
            scope: login.scope.unwrap_or_else(|| SCOPE.into()),
            audience: login.audience,
        });
        let identity = Identity {
            wanted: written.identity.wanted,
            pair,
            proxy: written.identity.proxy.map(at),
            token_file: written.identity.token_file.map(at),
        };
        let usual = Usual::new(environment, &identity);
        let storage = written.storage.sites(&at, &usual, || places.data("objects"))?;
        Ok(Self {
            login,
            identity,
            tls_ca: at(written.trust.tls_ca),
            state: written.state.map_or_else(|| places.state(), |path| Ok(at(path)))?,
            storage,
            catalog: or(written.catalog, &|| places.data("catalog.sqlite"))?,
            policy: written.metadata.policy.map(at),
            metadata: match (written.metadata.postgres, written.metadata.path) {
                (Some(_), Some(_)) => return Err(Error::TwoMetadata { path: file }),
                (Some(connection), None) => Location::Postgres(PostgresLocation {
                    connection,
                    password_file: written.metadata.password_file.map(at),
                }),
                (None, Some(path)) => Location::File(at(path)),
                (None, None) => Location::File(places.data("metadata.sqlite")?),
            },
            profile: written.deidentify.profile.map(at),
            trusted_owners: written.keys.trusted_owners,
            terms: Terms {
                needed: written.keys.threshold,
                quorum: written.keys.quorum.map_or(Quorum::All, Quorum::Nodes),
            },
            file,
        })
    }
}

impl Pair {
    /// The PEM text of the certificate and its chain.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn read_certificate(&self) -> Result<Vec<u8>, Error> {
        std::fs::read(&self.certificate).map_err(|source| Error::Read { path: self.certificate.clone(), source })
    }

    /// The PEM text of the private key.
    ///
    /// # Errors
    /// As [`read_private`].
    pub fn read_key(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        read_private(&self.key)
    }
}

/// Reads a file that is this user's and that nobody else may have access to. Links are followed, but not out of a
/// directory that everybody can write into.
///
/// # Errors
/// [`Error::Exposed`], [`Error::Foreign`], [`Error::Read`].
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |source| Error::Read { path: path.to_path_buf(), source };
    let shared =
        path.parent().is_some_and(|parent| parent.metadata().is_ok_and(|directory| directory.mode() & 0o002 != 0));
    let follow = if shared { OFlags::NOFOLLOW } else { OFlags::empty() };
    // Not to wait for the other end of a pipe that somebody put there.
    let flags = i32::try_from((OFlags::NONBLOCK | follow).bits()).unwrap_or_default();
    let mut file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")));
    }
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(Error::Foreign { path: path.to_path_buf(), owner: about.uid() });
    }
    let mode = about.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_path_buf(), mode });
    }
    // Reserved beforehand, so that no copy is left behind by a growing buffer.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0).min(MAX_KEY_FILE)));
    file.by_ref().take(MAX_KEY_FILE as u64).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The usual places of a user's files (XDG base directory specification).
struct Places<'a> {
    environment: Environment<'a>,
}

impl<'a> Places<'a> {
    fn new(environment: Environment<'a>) -> Self {
        Self { environment }
    }

    fn config(&self) -> Result<PathBuf, Error> {
        Ok(self.base("XDG_CONFIG_HOME", ".config", "configuration")?.join("config.toml"))
    }

    fn state(&self) -> Result<PathBuf, Error> {
        self.base("XDG_STATE_HOME", ".local/state", "state")
    }

    fn data(&self, name: &str) -> Result<PathBuf, Error> {
        Ok(self.base("XDG_DATA_HOME", ".local/share", "data")?.join(name))
    }

    fn base(&self, variable: &'static str, below_home: &str, what: &'static str) -> Result<PathBuf, Error> {
        let set = |name: &str| (self.environment)(name).map(PathBuf::from).filter(|path| path.is_absolute());
        set(variable)
            .or_else(|| set("HOME").map(|home| home.join(below_home)))
            .map(|path| path.join("eds"))
            .ok_or(Error::NoHome(variable, what))
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    identity: WrittenIdentity,
    login: Option<WrittenLogin>,
    trust: WrittenTrust,
    state: Option<PathBuf>,
    #[serde(default)]
    storage: WrittenStorage,
    catalog: Option<Place>,
    #[serde(default)]
    metadata: WrittenMetadata,
    #[serde(default)]
    deidentify: WrittenDeidentify,
    #[serde(default)]
    keys: WrittenKeys,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct WrittenIdentity {
    #[serde(rename = "use")]
    wanted: Option<ProofKind>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    proxy: Option<PathBuf>,
    token_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLogin {
    issuer: String,
    client_id: String,
    ca: Option<PathBuf>,
    scope: Option<String>,
    audience: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct WrittenTrust {
    tls_ca: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    path: PathBuf,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct WrittenDeidentify {
    profile: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct WrittenMetadata {
    path: Option<PathBuf>,
    postgres: Option<String>,
    password_file: Option<PathBuf>,
    policy: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct WrittenKeys {
    threshold: Option<u8>,
    quorum: Option<u8>,
    #[serde(default)]
    trusted_owners: Vec<String>,
}

/// What `eds login` asks for, when the configuration does not say.
const SCOPE: &str = "openid";
/// The largest file with a secret that is read, in bytes.
const MAX_KEY_FILE: usize = 64 * 1024;

/// The smallest useful configuration.
pub const EXAMPLE: &str = "\
[identity]
certificate = \"alice.crt\"   # PEM, issued by a CA that the key servers know
key = \"alice.key\"           # PEM, mode 0600

[trust]
tls_ca = \"ca.crt\"           # PEM, the CA of the key servers' certificates
";

#[cfg(test)]
mod tests;
