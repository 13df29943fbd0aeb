//! The issuers that are accepted, and their keys, fetched by discovery and kept.
//!
//! Keys are fetched again every ten minutes, and at once (but at most every thirty seconds) when a token names a key that
//! is not known: that is how issuers rotate. While an issuer cannot be reached, its last keys count for a day at most.
//! Fetches of one issuer never run at the same time, and a caller waits for one only if there is nothing to answer with.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, RwLock,
        atomic::{AtomicI64, Ordering},
    },
};

use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use super::{Issuer, KeySet, Proven, Refusal, Token, strict_json, verify};

/// The future of a fetch.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, FetchError>> + Send + 'a>>;

/// Where documents of issuers come from: https in a server, a map in tests.
pub trait Fetch: Send + Sync {
    /// Fetches the document at this https URL.
    fn fetch<'a>(&'a self, url: &'a str) -> Fetching<'a>;
}

impl Fetch for Box<dyn Fetch> {
    fn fetch<'a>(&'a self, url: &'a str) -> Fetching<'a> {
        self.as_ref().fetch(url)
    }
}

/// A document that cannot be fetched.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{url}: {reason}")]
pub struct FetchError {
    /// The URL.
    pub url: String,
    /// Why.
    pub reason: String,
}

/// A list of issuers that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IssuerError {
    /// Not an https URL without query and fragment.
    #[error("issuer {0}: not an https URL\nhint: give the `iss` exactly as its tokens have it")]
    Url(String),
    /// Listed twice.
    #[error("issuer {0}: listed twice")]
    Twice(String),
    /// No audience.
    #[error(
        "issuer {0}: no audience, so that a token for any other service would do here\nhint: give the name under which this service is registered there"
    )]
    NoAudience(String),
    /// No algorithm.
    #[error("issuer {0}: no algorithm")]
    NoAlgorithm(String),
    /// The group prefix is not a group path.
    #[error("issuer {0}: the group prefix is not a path such as /myvo")]
    Prefix(String),
}

/// The issuers that are accepted.
pub struct Issuers<F> {
    fetch: F,
    entries: Vec<Entry>,
}

struct Entry {
    issuer: Issuer,
    kept: RwLock<Option<Kept>>,
    last_attempt: AtomicI64,
    fetching: Mutex<()>,
}

#[derive(Clone)]
struct Kept {
    keys: Arc<KeySet>,
    fetched: i64,
}

impl<F: Fetch> Issuers<F> {
    /// Accepts these issuers.
    ///
    /// # Errors
    /// [`IssuerError`] when the configuration would accept too much or nothing.
    pub fn new(issuers: Vec<Issuer>, fetch: F) -> Result<Self, IssuerError> {
        let mut entries: Vec<Entry> = Vec::new();
        for issuer in issuers {
            let url = || issuer.url.clone();
            if !is_https(&issuer.url) || issuer.url.contains(['?', '#']) {
                return Err(IssuerError::Url(url()));
            }
            if entries.iter().any(|entry| entry.issuer.url == issuer.url) {
                return Err(IssuerError::Twice(url()));
            }
            if issuer.audiences.is_empty() {
                return Err(IssuerError::NoAudience(url()));
            }
            if issuer.algorithms.is_empty() {
                return Err(IssuerError::NoAlgorithm(url()));
            }
            let prefix_fits = |prefix: &str| crate::authn::voms::fqan::normalise(prefix).as_deref() == Some(prefix);
            if issuer.groups.as_ref().is_some_and(|rule| !prefix_fits(&rule.prefix) || rule.prefix.contains('=')) {
                return Err(IssuerError::Prefix(url()));
            }
            entries.push(Entry {
                issuer,
                kept: RwLock::new(None),
                last_attempt: AtomicI64::new(i64::MIN),
                fetching: Mutex::new(()),
            });
        }
        Ok(Self { fetch, entries })
    }

    /// The URLs of the issuers, for the message of what is accepted.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.issuer.url.as_str())
    }

    /// Verifies a token in its compact form.
    ///
    /// # Errors
    /// [`Refusal`]; [`Refusal::Unavailable`] when the issuer's keys cannot be had.
    pub async fn authenticate(&self, token: &str, now: i64) -> Result<Proven, Refusal> {
        let token = Token::parse(token)?;
        let named = |entry: &&Entry| token.issuer() == Some(entry.issuer.url.as_str());
        let entry = self.entries.iter().find(named).ok_or(Refusal::UnknownIssuer)?;
        let kept = self.keys(entry, now).await?;
        match verify(&token, &entry.issuer, &kept.keys, now) {
            Err(Refusal::UnknownKey) => {}
            verdict => return verdict,
        }
        // Perhaps the issuer has new keys.
        let turn = entry.fetching.lock().await;
        let newer =
            self.refresh(entry, &turn, now, kept.fetched, UNKNOWN_KEY_PAUSE).await.ok_or(Refusal::UnknownKey)?;
        verify(&token, &entry.issuer, &newer.keys, now)
    }

    async fn keys(&self, entry: &Entry, now: i64) -> Result<Kept, Refusal> {
        let kept = entry.kept();
        match kept {
            Some(kept) if now.saturating_sub(kept.fetched) < REFRESH_AFTER => Ok(kept),
            Some(kept) => {
                let newer = match entry.fetching.try_lock() {
                    Ok(turn) => self.refresh(entry, &turn, now, kept.fetched, FAILURE_PAUSE).await,
                    Err(_) => None,
                };
                match newer {
                    Some(newer) => Ok(newer),
                    None if now.saturating_sub(kept.fetched) < KEEP_FOR => Ok(kept),
                    None => Err(Refusal::Unavailable),
                }
            }
            None => {
                let turn = entry.fetching.lock().await;
                self.refresh(entry, &turn, now, i64::MIN, FAILURE_PAUSE).await.ok_or(Refusal::Unavailable)
            }
        }
    }

    /// Fetches keys newer than those of `older`, unless that was tried less than `pause` seconds ago.
    async fn refresh(
        &self,
        entry: &Entry,
        _turn: &MutexGuard<'_, ()>,
        now: i64,
        older: i64,
        pause: i64,
    ) -> Option<Kept> {
        if let Some(kept) = entry.kept()
            && kept.fetched > older
        {
            return Some(kept);
        }
        if now.saturating_sub(entry.last_attempt.load(Ordering::Relaxed)) < pause {
            return None;
        }
        entry.last_attempt.store(now, Ordering::Relaxed);
        match self.discover(&entry.issuer.url).await {
            Ok(keys) => {
                let kept = Kept { keys: Arc::new(keys), fetched: now };
                *entry.kept.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(kept.clone());
                Some(kept)
            }
            Err(error) => {
                tracing::warn!(%error, "the keys of a token issuer cannot be fetched");
                None
            }
        }
    }

    async fn discover(&self, issuer: &str) -> Result<KeySet, FetchError> {
        let url = format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
        let wrong = |url: &str, reason: &str| FetchError { url: url.to_owned(), reason: reason.to_owned() };
        let document =
            strict_json::object(&self.fetch.fetch(&url).await?).ok_or_else(|| wrong(&url, "not a JSON object"))?;
        if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
            return Err(wrong(&url, "its issuer is another one than configured"));
        }
        let keys = document.get("jwks_uri").and_then(Value::as_str).filter(|keys| is_https(keys));
        let keys = keys.ok_or_else(|| wrong(&url, "no https jwks_uri"))?;
        KeySet::parse(&self.fetch.fetch(keys).await?).map_err(|error| wrong(keys, &error.to_string()))
    }
}

impl Entry {
    fn kept(&self) -> Option<Kept> {
        self.kept.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

fn is_https(url: &str) -> bool {
    url.parse::<hyper::Uri>()
        .is_ok_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty()))
}

/// After how many seconds keys are fetched again.
pub const REFRESH_AFTER: i64 = 600;
/// For how many seconds keys count while their issuer cannot be reached.
pub const KEEP_FOR: i64 = 86_400;
/// How many seconds lie between two fetches because of unknown keys.
pub const UNKNOWN_KEY_PAUSE: i64 = 30;
/// How many seconds lie between two fetches when the first failed.
pub const FAILURE_PAUSE: i64 = 10;
