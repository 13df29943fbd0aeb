//! What proves to the key servers who the caller is, and which of several proofs is sent.
//!
//! A proof is a certificate, an RFC 3820 proxy or a bearer token. One is sent, never two: the one that `--proof` or `use`
//! in the configuration asks for, else the first that there is, in the order of `places`. Files with secrets must be
//! their owner's alone. What is read of proofs here is for display and for finding faults early; the nodes decide.
//!
//! | part | purpose |
//! |---|---|
//! | `places` | where proofs are looked for |
//! | `chain` | certificates and proxies with their key |
//! | `attributes` | the groups that a VOMS server put into a proxy, unverified |
//! | `token` | bearer tokens, and renewing them while a command runs |
//! | `secret` | texts that are wiped |

mod attributes;
mod chain;
mod places;
mod secret;
mod token;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

pub use self::{
    attributes::Attested,
    chain::Chain,
    places::{Environment, Place, Places},
    secret::Secret,
    token::{Claims, Token, TokenSource},
};
use crate::{
    config::{self, Config},
    error::Kind,
    login,
};

/// A kind of proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ProofKind {
    /// The certificate of the configuration.
    Certificate,
    /// An RFC 3820 proxy, as voms-proxy-init makes it
    Proxy,
    /// A bearer token, as `eds login` gets it
    Token,
}

impl fmt::Display for ProofKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Proxy => "proxy",
            Self::Token => "token",
        })
    }
}

/// A proof that was loaded.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
pub enum Credential {
    /// A certificate or a proxy, shown in the TLS handshake.
    Chain(Chain),
    /// A token, sent with each request.
    Token(TokenSource),
}

/// A proof that cannot be used, or none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that cannot be read, or that others may read.
    #[error(transparent)]
    File(#[from] config::Error),
    /// A file of something else.
    #[error("{}: {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Certificate and key are not a pair.
    #[error("{}: the private key is not the one of the certificate", path.display())]
    OtherKey {
        /// The file of the key.
        path: PathBuf,
    },
    /// A token that is none.
    #[error("what {place} gives is not a token: {problem}")]
    NotAToken {
        /// Where it was found.
        place: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A proof whose time is over.
    #[error("the {kind} of {subject} from {place} expired on {when}")]
    Expired {
        /// Which kind.
        kind: ProofKind,
        /// Whose.
        subject: String,
        /// Where it was found.
        place: String,
        /// When.
        when: String,
    },
    /// A token whose renewal is somebody else's.
    #[error("the token from {place} is now one of {found}, and was one of {expected}")]
    OtherSubject {
        /// Where it was found.
        place: String,
        /// Who it is now.
        found: String,
        /// Who it was.
        expected: String,
    },
    /// The login that gave a token.
    #[error(transparent)]
    Login(#[from] login::Error),
    /// There is no proof.
    #[error("there is nothing that proves who you are{}", wanted.map(|kind| format!(": no {kind}")).unwrap_or_default())]
    Nothing {
        /// The kind that was asked for.
        wanted: Option<ProofKind>,
    },
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            Self::Login(error) => error.kind(),
            Self::Unusable { .. } | Self::OtherKey { .. } | Self::NotAToken { .. } => Kind::Usage,
            Self::Expired { .. } | Self::OtherSubject { .. } | Self::Nothing { .. } => Kind::Denied,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::File(error) => return error.hint(),
            Self::Login(error) => return error.hint(),
            Self::Unusable { .. } => "check the paths under [identity] and [trust] in the configuration",
            Self::OtherKey { .. } => "name the key that belongs to the certificate",
            Self::NotAToken { .. } => "a token is a JWT of the issuer that the key servers accept, and nothing else",
            Self::Expired { kind: ProofKind::Certificate, .. } => "ask the authority that issued it for a new one",
            Self::Expired { kind: ProofKind::Proxy, .. } => {
                "make a new one: voms-proxy-init -rfc -voms VO; or send another proof: --proof certificate or token"
            }
            Self::Expired { kind: ProofKind::Token, .. } => "get a new one where this one came from, or with eds login",
            Self::OtherSubject { .. } => "one command acts for one person; run it again",
            Self::Nothing { wanted: None } => {
                "name a certificate and its key under [identity] in the configuration, make a proxy with \
                 voms-proxy-init -rfc, or get a token with eds login"
            }
            Self::Nothing { wanted: Some(ProofKind::Certificate) } => {
                "name it under [identity] in the configuration: certificate and key"
            }
            Self::Nothing { wanted: Some(ProofKind::Proxy) } => {
                "make one: voms-proxy-init -rfc -voms VO; it is looked for in X509_USER_PROXY, identity.proxy and \
                 /tmp/x509up_u<uid>"
            }
            Self::Nothing { wanted: Some(ProofKind::Token) } => {
                "get one with eds login; it is also looked for in BEARER_TOKEN, BEARER_TOKEN_FILE, identity.token_file, \
                 $XDG_RUNTIME_DIR/bt_u<uid> and /tmp/bt_u<uid>"
            }
        };
        Some(text.into())
    }
}

impl Credential {
    /// Loads the proof that is to be sent.
    ///
    /// # Errors
    /// [`Error`]: none is there, it cannot be used, or its time is over.
    pub fn load(config: &Config) -> Result<Self, Error> {
        let wanted = config.identity.wanted;
        let places = Places::of_process(config).find(wanted);
        let place = places.into_iter().next().ok_or(Error::Nothing { wanted })?;
        Self::from(place)
    }

    /// Loads the proof of this place.
    ///
    /// # Errors
    /// [`Error`].
    pub fn from(place: Place) -> Result<Self, Error> {
        let loaded = match place {
            Place::Certificate(files) => Self::Chain(Chain::of_certificate(&files)?),
            Place::Proxy { file, .. } => Self::Chain(Chain::of_proxy(&file)?),
            place @ (Place::TokenVariable | Place::TokenFile { .. } | Place::Login { .. }) => {
                Self::Token(TokenSource::open(place)?)
            }
        };
        Ok(loaded)
    }

    /// Renews what ends, so that what is wrong with it is told once and not for every node.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn freshen(&self) -> Result<(), Error> {
        match self {
            Self::Chain(_) => Ok(()),
            Self::Token(source) => source.header().await.map(drop),
        }
    }

    /// What kind of proof this is.
    pub fn kind(&self) -> ProofKind {
        match self {
            Self::Chain(chain) => chain.kind(),
            Self::Token(_) => ProofKind::Token,
        }
    }
}

/// The time, in seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A time in words.
pub(crate) fn in_words(seconds: i64) -> String {
    x509_parser::time::ASN1Time::from_timestamp(seconds)
        .map_or_else(|_| "a time that no calendar has".into(), |time| time.to_string())
}

/// A file that holds something else than it should.
fn unusable(path: &Path, problem: impl Into<String>) -> Error {
    Error::Unusable { path: path.into(), problem: problem.into() }
}

#[cfg(test)]
mod tests;
