//! `[storage]`: where ciphertext goes.
//!
//! ```toml
//! [storage]
//! path = "objects"                     # a directory of this machine, named "local"
//!
//! [[storage.site]]
//! name = "grid"
//! url = "davs://se.example.org:1094/myvo/eds"
//! ```
//!
//! New objects go to the first: `path` if it is set, else the first site.

use std::path::PathBuf;

use serde::Deserialize;

use super::{Identity, Pair};
use crate::storage::{
    self,
    site::{Access, Proof, Site, Sites},
};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenStorage {
    path: Option<PathBuf>,
    #[serde(default)]
    site: Vec<WrittenSite>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSite {
    name: String,
    url: String,
    endpoint: Option<String>,
    region: Option<String>,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    proxy: Option<PathBuf>,
    token_file: Option<PathBuf>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
    /// Whether the caller's own certificate or proxy is shown where none is named here.
    #[serde(default = "yes")]
    identify: bool,
}

fn yes() -> bool {
    true
}

/// What of the environment and the usual places proves who the caller is, in the order in which it is taken.
pub(super) struct Usual<'a> {
    /// `X509_USER_PROXY`.
    pub(super) proxy: Option<PathBuf>,
    /// `X509_CERT_DIR`.
    pub(super) authorities: Option<PathBuf>,
    /// `/tmp/x509up_u<uid>`, if it is there.
    pub(super) made: Option<PathBuf>,
    pub(super) identity: &'a Identity,
}

impl<'a> Usual<'a> {
    pub(super) fn new(environment: super::Environment<'_>, identity: &'a Identity) -> Self {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let made = PathBuf::from(format!("/tmp/x509up_u{}", rustix::process::geteuid().as_raw()));
        Self {
            proxy: variable("X509_USER_PROXY"),
            authorities: variable("X509_CERT_DIR"),
            made: made.symlink_metadata().is_ok().then_some(made),
            identity,
        }
    }

    /// A grid storage wants the groups in a proxy, so proxies come before certificates.
    fn proofs(&self) -> Vec<Proof> {
        let proxies = [&self.proxy, &self.identity.proxy, &self.made];
        let mut proofs: Vec<Proof> = proxies.into_iter().flatten().cloned().map(Proof::Proxy).collect();
        proofs.extend(self.identity.pair.clone().map(Proof::Certificate));
        proofs
    }
}

impl WrittenStorage {
    /// The sites; `default` is the directory for who sets nothing.
    pub(super) fn sites(
        self,
        at: &dyn Fn(PathBuf) -> PathBuf,
        usual: &Usual<'_>,
        default: impl FnOnce() -> Result<PathBuf, super::Error>,
    ) -> Result<Sites, super::Error> {
        let mut sites: Vec<Site> = self.path.map(|path| Site::local(at(path))).into_iter().collect();
        if sites.is_empty() && self.site.is_empty() {
            sites.push(Site::local(default()?));
        }
        for site in self.site {
            sites.push(site.resolve(at, usual)?);
        }
        Ok(Sites::new(sites)?)
    }
}

impl WrittenSite {
    fn resolve(self, at: &dyn Fn(PathBuf) -> PathBuf, usual: &Usual<'_>) -> Result<Site, storage::Error> {
        let wrong = |problem: &str| storage::Error::Setting { site: self.name.clone(), problem: problem.into() };
        let pair = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some(Pair { certificate: at(certificate), key: at(key) }),
            (None, None) => None,
            _ => return Err(wrong("certificate and key are named together or not at all")),
        };
        if self.password_file.is_some() && self.user.is_none() {
            return Err(wrong("password_file needs a user"));
        }
        let own = self.proxy.map(|proxy| Proof::Proxy(at(proxy))).or(pair.map(Proof::Certificate));
        let proofs = match own {
            Some(proof) => vec![proof],
            None if self.identify => usual.proofs(),
            None => Vec::new(),
        };
        let access = Access {
            proofs,
            token_file: self.token_file.map(at),
            user: self.user,
            password_file: self.password_file.map(at),
            key_file: self.key_file.map(at),
            known_hosts: self.known_hosts.map(at),
            // The grid's authorities vouch for the grid's servers; the system's for all others.
            ca: self.ca.map(at).or_else(|| usual.authorities.clone().filter(|_| self.url.starts_with("davs:"))),
            endpoint: self.endpoint,
            region: self.region,
        };
        Site::new(&self.name, self.url.parse()?, access)
    }
}
