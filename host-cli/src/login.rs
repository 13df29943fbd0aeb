//! `eds login`: a token from the hospital's identity provider, by the device authorization grant (RFC 8628).
//!
//! The user opens a page of the issuer on any device and types a code; meanwhile this client asks the issuer until it has
//! the token. What came is kept in a file of the user's alone ([`Session`]) and renewed with its refresh token when it
//! ends. The issuer is the one of the configuration and no other: its discovery document must name it, its servers are
//! believed only over TLS that the configured authorities vouch for, and a token of another issuer is refused.
//!
//! | part | purpose |
//! |---|---|
//! | `provider` | the issuer's endpoints: discovery, device code, tokens, revocation |
//! | `session` | what is kept between commands |
//! | `https` | requests to the issuer |

mod https;
mod provider;
mod session;

use std::{path::PathBuf, time::Duration};

use zeroize::Zeroize as _;

pub use self::session::{Session, place};
use self::{
    https::Https,
    provider::{Asked, Granted, Provider},
};
use crate::{
    config::{self, Login},
    credentials::{Token, now},
    error::Kind,
    output,
};

/// A login that failed, or that has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no `[login]` section.
    #[error("the configuration names no token issuer")]
    NotConfigured,
    /// The authorities of the issuer's servers.
    #[error("{}: {problem}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The issuer does not answer, or not as one.
    #[error("{url}: {problem}")]
    Issuer {
        /// What was asked for.
        url: String,
        /// What happened.
        problem: String,
    },
    /// The discovery document is that of another issuer.
    #[error("{url}: the document is that of the issuer {found:?}, not of {expected:?}")]
    OtherIssuer {
        /// The document.
        url: String,
        /// Whom it names.
        found: String,
        /// Whom the configuration names.
        expected: String,
    },
    /// The issuer has no device authorization grant.
    #[error("the issuer {0} offers no login on another device (no device_authorization_endpoint)")]
    NoDeviceGrant(String),
    /// The user, or the issuer for them, said no.
    #[error("the login was denied at the issuer")]
    Denied,
    /// Nobody entered the code in time.
    #[error("the code was not entered in time")]
    TooLate,
    /// Another error of RFC 6749.
    #[error("the issuer refuses: {0}")]
    Refused(String),
    /// The token cannot be used.
    #[error("the token of the issuer cannot be used: {0}")]
    Token(String),
    /// The login is over.
    #[error("the login at {0} has ended")]
    Ended(String),
    /// The file of the login.
    #[error(transparent)]
    File(#[from] config::Error),
    /// The file holds something else.
    #[error("{}: not a login that this release wrote", .0.display())]
    Malformed(PathBuf),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] output::Error),
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotConfigured | Self::Authorities { .. } | Self::NoDeviceGrant(_) => Kind::Usage,
            Self::Issuer { .. } => Kind::Unavailable,
            Self::OtherIssuer { .. } | Self::Token(_) | Self::Malformed(_) => Kind::Damaged,
            Self::Denied | Self::TooLate | Self::Refused(_) | Self::Ended(_) => Kind::Denied,
            Self::File(error) => error.kind(),
            Self::Write(error) => error.kind(),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NotConfigured => {
                "add to the configuration:\n\n[login]\nissuer = \"https://login.hospital.example/realms/eds\"\n\
                 client_id = \"eds\"\nca = \"issuer-ca.pem\"   # optional: the authorities of the issuer's server"
            }
            Self::Authorities { .. } => "name the PEM file of the authorities of the issuer's server: ca under [login]",
            Self::Issuer { .. } => "check issuer and ca under [login] in the configuration, and the network",
            Self::OtherIssuer { .. } => "issuer under [login] must be written exactly as the issuer writes itself",
            Self::NoDeviceGrant(_) => "ask those who run the issuer to allow it for this client",
            Self::Denied | Self::Refused(_) => "ask those who run the issuer whether you, and this client, may log in",
            Self::TooLate | Self::Ended(_) | Self::Malformed(_) => "log in again: eds login",
            Self::Token(_) => "ask those who run the issuer: the key servers need a JWT as access token",
            Self::File(error) => return error.hint(),
            Self::Write(error) => return error.hint(),
        };
        Some(text.into())
    }
}

/// A code that the user has to enter at the issuer.
#[derive(Debug)]
pub struct Code {
    /// The page to open.
    pub page: String,
    /// The code to enter there.
    pub code: String,
    /// The page with the code filled in, if the issuer has one.
    pub page_with_code: Option<String>,
    /// How long the code may be used.
    pub lifetime: Duration,
}

/// Logs in: `show` tells the user what to do, then the issuer is asked until it decided.
///
/// # Errors
/// [`Error`].
pub async fn log_in(login: &Login, show: impl FnOnce(&Code)) -> Result<Session, Error> {
    let provider = Provider::discover(login, Https::new(login.ca.as_deref())?).await?;
    let (code, mut device) = provider.begin().await?;
    show(&code);
    let end = tokio::time::Instant::now() + code.lifetime;
    let granted = loop {
        if tokio::time::Instant::now() + device.interval >= end {
            return Err(Error::TooLate);
        }
        tokio::time::sleep(device.interval).await;
        match provider.ask(&device).await? {
            Asked::Granted(granted) => break granted,
            Asked::Pending => {}
            Asked::SlowDown => device.interval += SLOW_DOWN,
        }
    };
    device.code.zeroize();
    accept(login, granted)
}

/// A good token of a session, renewed and kept if it has ended or is about to. Another process that renews it meanwhile is
/// waited for.
///
/// # Errors
/// [`Error`]; [`Error::Ended`] when only the user can help.
pub async fn renew(login: &Login, file: &std::path::Path, early: i64) -> Result<Token, Error> {
    let ended = || Error::Ended(login.issuer.clone());
    let _lock = session::lock(file)?;
    let old = Session::load(login, file)?.ok_or_else(ended)?;
    if old.token.claims().expires > now().saturating_add(early) {
        return Ok(old.token);
    }
    let refresh = old.refresh.as_ref().ok_or_else(ended)?;
    let provider = Provider::discover(login, Https::new(login.ca.as_deref())?).await?;
    let granted = provider.refresh(refresh).await?.ok_or_else(ended)?;
    let mut new = accept(login, granted)?;
    if new.token.claims().subject != old.token.claims().subject {
        return Err(Error::Token("it is of another subject than the one before".into()));
    }
    if new.refresh.is_none() {
        new.refresh = old.refresh;
    }
    new.keep(file)?;
    Ok(new.token)
}

/// Logs out: forgets the session, and has the issuer forget it, if it can. Returns whether there was one, and what the
/// issuer could not be told.
///
/// # Errors
/// [`Error`] when the file cannot be removed.
pub async fn log_out(login: &Login, file: &std::path::Path) -> Result<(bool, Option<Error>), Error> {
    let _lock = session::lock(file)?;
    let session = Session::load(login, file);
    let was = session::forget(file)?;
    let Ok(Some(Session { refresh: Some(refresh), .. })) = session else { return Ok((was, None)) };
    let told = async {
        let provider = Provider::discover(login, Https::new(login.ca.as_deref())?).await?;
        provider.revoke(&refresh).await
    };
    Ok((was, told.await.err()))
}

fn accept(login: &Login, granted: Granted) -> Result<Session, Error> {
    let token = Token::parse(granted.access_token.reveal()).map_err(|problem| Error::Token(problem.into()))?;
    let claims = token.claims();
    if claims.issuer != login.issuer {
        return Err(Error::Token(format!("it is by {:?}", claims.issuer)));
    }
    if claims.expires <= now() {
        return Err(Error::Token("it has ended already; compare the clocks".into()));
    }
    Ok(Session { token, refresh: granted.refresh_token, issuer: login.issuer.clone(), client: login.client_id.clone() })
}

/// What RFC 8628, section 3.5 adds to the interval.
const SLOW_DOWN: Duration = Duration::from_secs(5);
