//! Servers and credentials of the original's commands, from the variables of the grid.
//!
//! A configuration of `eds` is used where there is one; without it the usual places are. The variables come first:
//! `X509_USER_PROXY`, else `X509_USER_CERT` with `X509_USER_KEY`, else what the configuration says, else the proxy in its
//! usual place, else `~/.globus`; `X509_CERT_DIR` for the authorities of the servers. The pinned directory of the cluster
//! is where the servers are, always.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::services;
use crate::{
    Error,
    config::{self, Config, Pair},
    credentials::{Places, ProofKind},
    journey::Nodes,
};

/// Where the authorities of a grid are, when nothing says otherwise.
const CERTIFICATES: &str = "/etc/grid-security/certificates";

/// What a command works with.
pub(super) struct Surroundings {
    /// The settings.
    pub(super) config: Config,
    /// The key servers.
    pub(super) nodes: Nodes,
}

impl Surroundings {
    /// Finds servers and credentials; `service` is what `-s` says.
    ///
    /// # Errors
    /// What configuration, credentials, the pinned cluster or `services.xml` fail with.
    pub(super) fn open(service: Option<&str>) -> Result<Self, Error> {
        let environment = |name: &str| std::env::var_os(name);
        let config = settings(&environment)?;
        let nodes = Nodes::open(&config)?;
        services::check(nodes.directory(), &environment, service)?;
        Ok(Self { config, nodes })
    }
}

fn settings(environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Config, Error> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let authorities = set("X509_CERT_DIR");
    let mut config = match Config::load(set("EDS_CONFIG").as_deref()) {
        Err(config::Error::Missing { .. }) if set("EDS_CONFIG").is_none() => {
            Config::without_file(authorities.clone().unwrap_or_else(|| CERTIFICATES.into()))?
        }
        loaded => loaded?,
    };
    if let Some(authorities) = authorities {
        config.tls_ca = authorities;
    }
    if set("X509_USER_PROXY").is_some() {
        config.identity.wanted = Some(ProofKind::Proxy);
    } else if let (Some(certificate), Some(key)) = (set("X509_USER_CERT"), set("X509_USER_KEY")) {
        config.identity.pair = Some(Pair { certificate, key });
        config.identity.wanted = Some(ProofKind::Certificate);
    } else if Places::of_process(&config).find(config.identity.wanted).is_empty() {
        config.identity.pair = set("HOME").and_then(|home| globus(&home));
    }
    Ok(config)
}

/// The certificate in its usual place.
fn globus(home: &Path) -> Option<Pair> {
    let folder = home.join(".globus");
    let (certificate, key) = (folder.join("usercert.pem"), folder.join("userkey.pem"));
    certificate.exists().then_some(Pair { certificate, key })
}
