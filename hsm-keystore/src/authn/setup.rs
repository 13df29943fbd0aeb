//! From the configuration of a node to its [`Authenticator`].

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{
    Authenticator,
    authenticator::Accepted,
    jwt::{
        https::HttpsFetch,
        issuers::{Fetch, FetchError, Fetching, IssuerError},
    },
    trust::directory::{LoadError, Sources},
};
use crate::{config::Config, node::Clock};

/// Authentication that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Authorities or `vomsdir` cannot be loaded.
    #[error("tls.client_ca and [authn] cannot be used")]
    Load(#[from] LoadError),
    /// The issuers of tokens cannot be used.
    #[error("[[authn.issuer]] cannot be used")]
    Issuers(#[from] IssuerError),
    /// The authorities of the issuers' servers cannot be used.
    #[error(
        "authn.token_ca {file}: holds no authority that can be used\nhint: give a PEM file of the authorities of the issuers' https servers"
    )]
    TokenAuthorities {
        /// The file.
        file: PathBuf,
    },
}

/// The authenticator of a node with this configuration. Loads files; fetches nothing yet.
///
/// # Errors
/// [`SetupError`], with the key or file at fault.
pub fn authenticator(config: &Config, clock: Arc<dyn Clock>) -> Result<Authenticator, SetupError> {
    let authn = &config.authn;
    let accepted = Accepted {
        authorities: Sources {
            directories: authn.ca_directory.iter().cloned().collect(),
            bundles: config.tls.client_ca.iter().cloned().collect(),
        },
        settings: authn.settings.clone(),
        vomsdir: authn.voms_directory.clone(),
        host_names: authn.host_names.clone(),
        issuers: authn.issuers.clone(),
    };
    let fetch: Box<dyn Fetch> = match &authn.token_ca {
        None => Box::new(FetchNothing),
        Some(file) => {
            let wrong = || SetupError::TokenAuthorities { file: file.clone() };
            let roots: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).map_err(|_| wrong())?.collect();
            Box::new(HttpsFetch::new(roots.map_err(|_| wrong())?, FETCH_TIMEOUT).map_err(|_| wrong())?)
        }
    };
    Authenticator::new(accepted, fetch, clock)
}

/// For nodes without issuers of tokens, and for tests: every fetch fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct FetchNothing;

impl Fetch for FetchNothing {
    fn fetch<'a>(&'a self, url: &'a str) -> Fetching<'a> {
        Box::pin(async move { Err(FetchError { url: url.to_owned(), reason: "nothing is fetched".to_owned() }) })
    }
}

/// How long a document of an issuer may take. A caller waits for it, so not long.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
