//! From the configuration of a node to its [`Authenticator`].

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{
    Authenticator,
    authenticator::Accepted,
    certificate::{Certificate, GeneralName},
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
        host_names: host_names(config),
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

/// The configured names of this host, else those of its certificate: a target of VOMS attributes means the host that
/// proves that name.
fn host_names(config: &Config) -> Vec<String> {
    if !config.authn.host_names.is_empty() {
        return config.authn.host_names.clone();
    }
    // A certificate that cannot be used is told where the server's side of TLS is made.
    let leaf = CertificateDer::from_pem_file(&config.tls.certificate).ok();
    let certificate = leaf.and_then(|der| Certificate::from_der(&der).ok());
    let names = certificate.and_then(|certificate| certificate.extensions().subject_alt_names.clone());
    let host = |name| match name {
        GeneralName::Host(host) => Some(host),
        _ => None,
    };
    names.unwrap_or_default().into_iter().filter_map(host).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_this_host_are_those_of_its_certificate_unless_configured() {
        let folder = tempfile::tempdir().expect("a directory");
        let key =
            rcgen::generate_simple_self_signed(["eds1.example".to_owned(), "127.0.0.1".to_owned()]).expect("made");
        std::fs::write(folder.path().join("node.pem"), key.cert.pem()).expect("written");
        let read = |authn: &str| {
            let text = format!(
                "listen = \"127.0.0.1:0\"\n{authn}[cluster]\ndirectory = \"d\"\nfingerprint = \"{}\"\n\
                 [tls]\ncertificate = \"node.pem\"\nkey = \"k\"\nclient_ca = \"c\"\n[hsm]\nmodule = \"m\"\n\
                 token = \"t\"\npin_file = \"p\"\n[store]\npath = \"s\"\n[node]\nidentity = \"i\"\n",
                "00".repeat(32)
            );
            Config::parse(&folder.path().join("node.toml"), &text).expect("good")
        };
        assert_eq!(host_names(&read("")), ["eds1.example"]);
        assert_eq!(host_names(&read("authn.host_names = [\"eds.example\"]\n")), ["eds.example"]);
        std::fs::remove_file(folder.path().join("node.pem")).expect("removed");
        assert_eq!(host_names(&read("")), [""; 0]);
    }
}
