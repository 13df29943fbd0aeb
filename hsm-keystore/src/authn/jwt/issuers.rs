//! The issuers that are accepted, and their keys, fetched by discovery and kept.
//!
//! Keys are fetched again every ten minutes, and at once (but at most every thirty seconds) when a token names a key that
//! is not known: that is how issuers rotate. While an issuer cannot be reached, its last keys count for a day at most.
//! Fetches of one issuer never run at the same time, each in a task of its own. Callers wait for one for [`PATIENCE`] and
//! no longer, and only [`WAITING`] of them: an issuer that hangs takes neither time nor memory from others.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

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
    fetch: Arc<F>,
    entries: Vec<Arc<Entry>>,
    patience: Duration,
}

struct Entry {
    issuer: Issuer,
    kept: RwLock<Option<Kept>>,
    fetching: Mutex<Fetches>,
    /// Places for callers who wait for a fetch.
    waiting: Semaphore,
}

/// The fetches of one issuer.
struct Fetches {
    /// When the last one was begun.
    last: i64,
    /// Closed when it is over.
    under_way: Option<watch::Receiver<()>>,
}

#[derive(Clone)]
struct Kept {
    keys: Arc<KeySet>,
    fetched: i64,
}

impl<F: Fetch + 'static> Issuers<F> {
    /// Accepts these issuers.
    ///
    /// # Errors
    /// [`IssuerError`] when the configuration would accept too much or nothing.
    pub fn new(issuers: Vec<Issuer>, fetch: F) -> Result<Self, IssuerError> {
        let mut entries: Vec<Arc<Entry>> = Vec::new();
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
            entries.push(Arc::new(Entry {
                issuer,
                kept: RwLock::new(None),
                fetching: Mutex::new(Fetches { last: i64::MIN, under_way: None }),
                waiting: Semaphore::new(WAITING),
            }));
        }
        Ok(Self { fetch: Arc::new(fetch), entries, patience: PATIENCE })
    }

    /// Lets callers wait so long for a fetch.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
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
        let named = |entry: &&Arc<Entry>| token.issuer() == Some(entry.issuer.url.as_str());
        let entry = self.entries.iter().find(named).ok_or(Refusal::UnknownIssuer)?;
        let kept = self.keys(entry, now).await?;
        match verify(&token, &entry.issuer, &kept.keys, now) {
            Err(Refusal::UnknownKey) => {}
            verdict => return verdict,
        }
        // Perhaps the issuer has new keys.
        let newer = self.refresh(entry, now, kept.fetched, UNKNOWN_KEY_PAUSE, true).await;
        let newer = newer.ok_or(Refusal::UnknownKey)?;
        verify(&token, &entry.issuer, &newer.keys, now)
    }

    async fn keys(&self, entry: &Arc<Entry>, now: i64) -> Result<Kept, Refusal> {
        let kept = entry.kept();
        if let Some(kept) = kept.as_ref().filter(|kept| now.saturating_sub(kept.fetched) < REFRESH_AFTER) {
            return Ok(kept.clone());
        }
        let older = kept.as_ref().map_or(i64::MIN, |kept| kept.fetched);
        let kept = kept.filter(|kept| now.saturating_sub(kept.fetched) < KEEP_FOR);
        let newer = self.refresh(entry, now, older, FAILURE_PAUSE, kept.is_none()).await;
        newer.or(kept).ok_or(Refusal::Unavailable)
    }

    /// Keys newer than those of `older`. They are fetched unless that was tried less than `pause` seconds ago; who does
    /// not `join` waits for no fetch that somebody else began.
    async fn refresh(&self, entry: &Arc<Entry>, now: i64, older: i64, pause: i64, join: bool) -> Option<Kept> {
        let newer = || entry.kept().filter(|kept| kept.fetched > older);
        if let Some(kept) = newer() {
            return Some(kept);
        }
        if let (Some(mut over), Ok(_place)) = (self.fetching(entry, now, pause, join), entry.waiting.try_acquire()) {
            // Nothing is ever sent: it ends with the fetch, and says nothing of what came of it.
            let _ = timeout(self.patience, over.changed()).await;
        }
        newer()
    }

    /// The fetch that is under way, if that is to be joined, or one that is begun; none when the last one was begun less
    /// than `pause` seconds ago.
    fn fetching(&self, entry: &Arc<Entry>, now: i64, pause: i64, join: bool) -> Option<watch::Receiver<()>> {
        let mut fetches = entry.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(over) = fetches.under_way.as_ref().filter(|over| over.has_changed().is_ok()) {
            return join.then(|| over.clone());
        }
        if now.saturating_sub(fetches.last) < pause {
            return None;
        }
        fetches.last = now;
        let (under_way, over) = watch::channel(());
        fetches.under_way = Some(over.clone());
        let (fetch, entry) = (Arc::clone(&self.fetch), Arc::clone(entry));
        tokio::spawn(async move {
            let _under_way = under_way;
            match entry.discover(fetch.as_ref()).await {
                Ok(keys) => {
                    let kept = Kept { keys: Arc::new(keys), fetched: now };
                    *entry.kept.write().unwrap_or_else(PoisonError::into_inner) = Some(kept);
                }
                Err(error) => tracing::warn!(%error, "the keys of a token issuer cannot be fetched"),
            }
        });
        Some(over)
    }
}

impl Entry {
    async fn discover(&self, fetch: &impl Fetch) -> Result<KeySet, FetchError> {
        let issuer = self.issuer.url.as_str();
        let url = format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
        let wrong = |url: &str, reason: &str| FetchError { url: url.to_owned(), reason: reason.to_owned() };
        let document =
            strict_json::object(&fetch.fetch(&url).await?).ok_or_else(|| wrong(&url, "not a JSON object"))?;
        if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
            return Err(wrong(&url, "its issuer is another one than configured"));
        }
        let keys = document.get("jwks_uri").and_then(Value::as_str).filter(|keys| is_https(keys));
        let keys = keys.ok_or_else(|| wrong(&url, "no https jwks_uri"))?;
        KeySet::parse(&fetch.fetch(keys).await?).map_err(|error| wrong(keys, &error.to_string()))
    }

    fn kept(&self) -> Option<Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).clone()
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
/// How long a caller waits for a fetch; it goes on without them.
pub const PATIENCE: Duration = Duration::from_secs(4);
/// How many callers wait for the fetch of one issuer; more are answered at once with what there is.
pub const WAITING: usize = 256;
