//! What the department set: where the gateway listens, and who may speak to it, as whom.
//!
//! A TOML file beside the configurations of the principals. A peer's `config` is a client configuration like everybody's:
//! its certificate, proxy or token is what the key servers see, so that they decide what the peer may have. Unknown
//! settings are refused.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::Error;
use crate::metadata::KeyScope;

/// The settings, all paths resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The AE title that peers call.
    pub ae_title: String,
    /// Where objects that are large are held, encrypted, while they arrive.
    pub spool: PathBuf,
    /// Associations at a time.
    pub associations: usize,
    /// How many images share a key.
    pub scope: KeyScope,
    /// TLS; without it, connections are not encrypted and peers are known by title and address alone.
    pub tls: Option<Tls>,
    /// Who may speak to it.
    pub peers: Vec<Peer>,
}

/// TLS as the acceptor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// PEM file with the certificate of the gateway and its chain.
    pub certificate: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
    /// PEM file of the authorities whose certificates peers may have.
    pub peers_ca: PathBuf,
}

/// A peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its AE title.
    pub ae_title: String,
    /// The addresses it may call from.
    pub addresses: Vec<IpAddr>,
    /// The common name that its certificate must have, with TLS.
    pub certificate_name: Option<String>,
    /// What it may ask for.
    pub may: Vec<Right>,
    /// The client configuration of the principal that it acts as.
    pub config: PathBuf,
    /// Where it listens, as a destination of C-MOVE.
    pub destination: Option<String>,
}

/// What a peer may ask for. What it gets is the key servers' decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// C-STORE.
    Store,
    /// C-FIND.
    Find,
    /// C-GET and C-MOVE.
    Retrieve,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: SocketAddr,
    ae_title: String,
    spool: Option<PathBuf>,
    associations: Option<usize>,
    #[serde(default)]
    key_for: KeyFor,
    tls: Option<TlsFile>,
    #[serde(default)]
    peer: Vec<PeerFile>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeyFor {
    #[default]
    Image,
    Series,
    Study,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsFile {
    certificate: PathBuf,
    key: PathBuf,
    peers_ca: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerFile {
    ae_title: String,
    addresses: Vec<IpAddr>,
    certificate_name: Option<String>,
    may: Vec<Right>,
    config: PathBuf,
    destination: Option<String>,
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Invalid`], [`Error::Setting`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let file: File =
            toml::from_str(text).map_err(|source| Error::Invalid { path: path.into(), source: Box::new(source) })?;
        let wrong = |reason: String| Error::Setting { path: path.into(), reason };
        let beside = path.parent().unwrap_or(Path::new("."));
        let title = |title: String| match is_ae_title(&title) {
            true => Ok(title),
            false => Err(wrong(format!("ae_title {title:?}: 1 to 16 printable ASCII characters, no \\"))),
        };
        let mut peers = Vec::with_capacity(file.peer.len());
        for peer in file.peer {
            let of = |what: &str| format!("peer {:?}: {what}", peer.ae_title);
            if peer.addresses.is_empty() {
                return Err(wrong(of("addresses names none; a peer is known by its address")));
            }
            if file.tls.is_some() && peer.certificate_name.is_none() {
                return Err(wrong(of("with tls, certificate_name says which certificate it has")));
            }
            if file.tls.is_none() && peer.certificate_name.is_some() {
                return Err(wrong(of("certificate_name has no meaning without tls")));
            }
            if peer.destination.as_deref().is_some_and(|place| !place.contains(':')) {
                return Err(wrong(of("destination is host:port")));
            }
            peers.push(Peer {
                ae_title: title(peer.ae_title)?,
                addresses: peer.addresses,
                certificate_name: peer.certificate_name,
                may: peer.may,
                config: beside.join(peer.config),
                destination: peer.destination,
            });
        }
        if peers.is_empty() {
            return Err(wrong("there is no [[peer]], so that nobody could speak to the gateway".into()));
        }
        let associations = file.associations.unwrap_or(DEFAULT_ASSOCIATIONS);
        if associations == 0 {
            return Err(wrong("associations must be at least 1".into()));
        }
        Ok(Self {
            listen: file.listen,
            ae_title: title(file.ae_title)?,
            spool: file.spool.map_or_else(std::env::temp_dir, |spool| beside.join(spool)),
            associations,
            scope: match file.key_for {
                KeyFor::Image => KeyScope::Image,
                KeyFor::Series => KeyScope::Series,
                KeyFor::Study => KeyScope::Study,
            },
            tls: file.tls.map(|tls| Tls {
                certificate: beside.join(tls.certificate),
                key: beside.join(tls.key),
                peers_ca: beside.join(tls.peers_ca),
            }),
            peers,
        })
    }
}

impl Peer {
    /// Whether it may ask for this.
    pub fn may(&self, right: Right) -> bool {
        self.may.contains(&right)
    }
}

/// PS3.5, section 6.2: AE.
fn is_ae_title(title: &str) -> bool {
    let fits = (1..=16).contains(&title.len()) && title.trim() == title;
    fits && title.bytes().all(|byte| (0x20..0x7F).contains(&byte) && byte != b'\\')
}

/// More would wait for the disk, and for each other.
const DEFAULT_ASSOCIATIONS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
listen = "127.0.0.1:11112"
ae_title = "EDS"

[[peer]]
ae_title = "CT1"
addresses = ["127.0.0.1"]
may = ["store"]
config = "ct1.toml"
"#;

    #[test]
    fn paths_are_relative_to_the_file() {
        let settings = Settings::parse(Path::new("/etc/eds/gateway.toml"), GOOD).expect("parses");
        assert_eq!(settings.peers[0].config, Path::new("/etc/eds/ct1.toml"));
        assert!(settings.peers[0].may(Right::Store) && !settings.peers[0].may(Right::Find));
    }

    #[test]
    fn settings_that_would_let_nobody_or_anybody_in_are_refused() {
        for (from, to, named) in [
            ("[\"127.0.0.1\"]", "[]", "addresses names none"),
            ("ae_title = \"CT1\"", "ae_title = \"\"", "ae_title"),
            ("ae_title = \"CT1\"", "ae_title = \"SEVENTEEN LETTERS\"", "ae_title"),
            ("[\"store\"]", "[\"sotre\"]", "not valid"),
            ("config =", "certificate_name = \"ct1\"\nconfig =", "without tls"),
            ("config =", "destination = \"ct1\"\nconfig =", "host:port"),
            ("config =", "adresses = []\nconfig =", "not valid"),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD, "{from}");
            let error = Settings::parse(Path::new("gateway.toml"), &text).expect_err("refuses");
            assert!(error.to_string().contains(named), "{error} names {named}");
        }
        let nobody = GOOD.split("[[peer]]").next().expect("a part");
        assert!(Settings::parse(Path::new("gateway.toml"), nobody).is_err());
    }
}
