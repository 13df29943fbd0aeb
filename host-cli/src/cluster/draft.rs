//! The officers' side: the draft of a cluster directory as a TOML file, and the cluster key that signs it.
//!
//! The draft is for people: they read and review it before the key is taken out of its safe. Numbers are given once and
//! stay with their node for ever, also when it is retired, because a number is the index of a share. The version rises
//! with each signature and is written back before the signed file exists, so that no two files carry the same one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use base64ct::{Base64, Encoding as _};
use eds_core::{
    directory::{self, Directory, Node, SUITE_P256_AES256GCM},
    ids::{ClusterId, MAX_NODES, MAX_THRESHOLD, NodeId, ShareIndex},
    manifest::Point,
};
use p256::{
    ecdsa::SigningKey,
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding},
};
use serde::{Deserialize, Serialize};

use crate::{
    cluster::Fingerprint,
    config,
    error::Kind,
    output::{self, Existing, OutputFile},
};

/// A directory as officers write it, not yet signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// A name for people.
    pub name: String,
    /// The id of the cluster.
    pub cluster: String,
    /// The compressed cluster key, base64.
    pub cluster_key: String,
    /// The version that was signed last; 0 before the first signature.
    pub version: u64,
    /// The smallest m that a client of this cluster may use.
    pub floor: u8,
    /// The nodes.
    #[serde(default, rename = "node", skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<DraftNode>,
}

/// A node of a draft.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftNode {
    /// Its number, which is the index of its shares.
    pub number: u16,
    /// Its id.
    pub id: String,
    /// Where it answers.
    pub url: String,
    /// The compressed public key that shares are sealed to, base64.
    pub transport_key: String,
    /// The compressed public key that signs its audit checkpoints, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_key: Option<String>,
    /// The sealing suites it can open.
    pub suites: Vec<u16>,
    /// False once the node takes no new shares.
    pub active: bool,
}

/// What `eds-keystored init` writes about a new node.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct NodeCard {
    /// Its id.
    pub node: String,
    /// The compressed public key that shares are sealed to, base64.
    pub transport_key: String,
    /// The compressed public key that signs its audit checkpoints, base64.
    #[serde(default)]
    pub audit_key: Option<String>,
    /// The sealing suites it can open.
    pub suites: Vec<u16>,
}

/// A draft, a node's card or a cluster key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A draft that is not in the expected form.
    #[error("{} is not a draft of a cluster directory", path.display())]
    NotADraft {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A node's card that is not in the expected form.
    #[error("{} does not describe a node", path.display())]
    NotACard {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A field with a value that the directory cannot carry.
    #[error("{field} {value:?} is not valid: {expected} is expected")]
    Field {
        /// Its name.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be.
        expected: &'static str,
    },
    /// A number that was given before.
    #[error("number {number} belongs to node {holder}{}", if *active { "" } else { ", which is retired" })]
    NumberTaken {
        /// The number.
        number: u16,
        /// Whose it is.
        holder: String,
        /// Whether that node is active.
        active: bool,
    },
    /// A node that is listed already.
    #[error("node {id} is listed already, with number {number}")]
    NodeListed {
        /// The node.
        id: String,
        /// Its number.
        number: u16,
    },
    /// A transport key that another node has.
    #[error("node {id} would have the same transport key as node number {number}")]
    SharedKey {
        /// The new node.
        id: String,
        /// The node that has the key.
        number: u16,
    },
    /// No node has this number.
    #[error("no node has number {0}")]
    NoSuchNode(u16),
    /// A node that is retired already.
    #[error("node number {0} is retired already")]
    RetiredAlready(u16),
    /// A directory under which no key could be registered.
    #[error("the floor is {floor}, but only {active} nodes are active")]
    TooFewNodes {
        /// The floor.
        floor: u8,
        /// How many nodes are active.
        active: usize,
    },
    /// A directory that breaks an invariant of its format.
    #[error("the draft cannot be signed")]
    Unsignable(#[source] eds_core::Error),
    /// A key file without a P-256 key.
    #[error("{} holds no P-256 private key in PKCS #8 PEM", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// A key that is not that of the draft.
    #[error("{} holds another key than that of this cluster", path.display())]
    OtherKey {
        /// The file.
        path: PathBuf,
    },
    /// The key file.
    #[error(transparent)]
    KeyFile(config::Error),
    /// A file that cannot be written.
    #[error(transparent)]
    Write(#[from] output::Error),
    /// The random source of the operating system.
    #[error("the operating system's random source failed")]
    Random(#[from] getrandom::Error),
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } => Kind::of_io(source),
            Self::KeyFile(error) => error.kind(),
            Self::Write(error) => error.kind(),
            Self::NoSuchNode(_) => Kind::NotFound,
            Self::NumberTaken { .. } | Self::NodeListed { .. } | Self::SharedKey { .. } | Self::RetiredAlready(_) => {
                Kind::Conflict
            }
            Self::Random(_) => Kind::Other,
            _ => Kind::Usage,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NumberTaken { .. } => Some("numbers are never given twice; take the next free one".into()),
            Self::SharedKey { .. } => Some("every node needs a token key of its own; see eds-keystored init".into()),
            Self::TooFewNodes { .. } => Some("add nodes with eds cluster add, or lower the floor in the draft".into()),
            Self::KeyFile(error) => error.hint(),
            Self::Write(error) => error.hint(),
            _ => None,
        }
    }
}

impl Draft {
    /// Starts a cluster: makes its key in `key_file`, which must not exist, and a draft without nodes in `draft_file`.
    ///
    /// # Errors
    /// [`Error::Field`] for a name or floor out of range, [`Error::Write`] when one of the files exists.
    pub fn start(name: &str, floor: u8, key_file: &Path, draft_file: &Path) -> Result<(Self, Fingerprint), Error> {
        check_name(name)?;
        check_floor(floor)?;
        // Both are opened before either gets its name, so that a typing error leaves no key without a draft.
        let key_output = OutputFile::create(key_file, Existing::Keep)?;
        let draft_output = OutputFile::create(draft_file, Existing::Keep)?;
        let key = new_key()?;
        let public = directory::compressed(key.verifying_key());
        let mut id = [0u8; 16];
        getrandom::fill(&mut id)?;
        let draft = Self {
            name: name.into(),
            cluster: ClusterId::from_bytes(id).to_string(),
            cluster_key: Base64::encode_string(&public.0),
            version: 0,
            floor,
            nodes: Vec::new(),
        };
        let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|_| Error::NotAKey { path: key_file.into() })?;
        write_all(&key_output, pem.as_bytes())?;
        write_all(&draft_output, draft.text().as_bytes())?;
        key_output.finish()?;
        draft_output.finish()?;
        Ok((draft, Fingerprint(directory::key_fingerprint(&public))))
    }

    /// Reads a draft.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::NotADraft`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
        toml::from_str(&text).map_err(|source| Error::NotADraft { path: path.into(), source: Box::new(source) })
    }

    /// Replaces the draft file with this draft.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn store(&self, path: &Path) -> Result<(), Error> {
        let output = OutputFile::create(path, Existing::Replace)?;
        write_all(&output, self.text().as_bytes())?;
        Ok(output.finish()?)
    }

    /// Adds a node.
    ///
    /// # Errors
    /// [`Error::NumberTaken`], [`Error::NodeListed`], [`Error::SharedKey`], [`Error::Field`] for a value that a
    /// directory cannot carry.
    pub fn add(&mut self, number: u16, url: &str, card: NodeCard) -> Result<(), Error> {
        let node = DraftNode {
            number,
            id: card.node,
            url: url.trim_end_matches('/').into(),
            transport_key: card.transport_key,
            audit_key: card.audit_key,
            suites: card.suites,
            active: true,
        };
        let new = node.checked()?;
        for other in &self.nodes {
            let held = other.checked()?;
            if held.number == new.number {
                return Err(Error::NumberTaken { number, holder: other.id.clone(), active: other.active });
            }
            if held.id == new.id {
                return Err(Error::NodeListed { id: other.id.clone(), number: other.number });
            }
            if held.transport_key == new.transport_key {
                return Err(Error::SharedKey { id: node.id, number: other.number });
            }
        }
        if self.nodes.len() == MAX_NODES {
            return Err(field("number of nodes", MAX_NODES + 1, "at most 32, retired ones included,"));
        }
        self.nodes.push(node);
        self.nodes.sort_by_key(|node| node.number);
        Ok(())
    }

    /// Marks a node as one that takes no new shares. It stays listed, and its number with it.
    ///
    /// # Errors
    /// [`Error::NoSuchNode`], [`Error::RetiredAlready`].
    pub fn retire(&mut self, number: u16) -> Result<(), Error> {
        let node = self.nodes.iter_mut().find(|node| node.number == number).ok_or(Error::NoSuchNode(number))?;
        if !node.active {
            return Err(Error::RetiredAlready(number));
        }
        node.active = false;
        Ok(())
    }

    /// Signs the next version: stores it in the draft file and gives the directory file's bytes.
    ///
    /// # Errors
    /// [`Error::KeyFile`], [`Error::NotAKey`], [`Error::OtherKey`], [`Error::TooFewNodes`], [`Error::Field`],
    /// [`Error::Unsignable`], [`Error::Write`].
    pub fn sign(&mut self, draft_file: &Path, key_file: &Path) -> Result<Vec<u8>, Error> {
        let key = read_key(key_file)?;
        self.version += 1;
        let directory = self.directory()?;
        let active = directory.active().count();
        if active < usize::from(self.floor) {
            return Err(Error::TooFewNodes { floor: self.floor, active });
        }
        let mut buffer = vec![0; directory::MAX_BYTES];
        let signed = directory.sign(&key, &mut buffer).map_err(|source| match source {
            eds_core::Error::Mismatch => Error::OtherKey { path: key_file.into() },
            source => Error::Unsignable(source),
        })?;
        self.store(draft_file)?;
        Ok(signed.to_vec())
    }

    /// The directory that this draft describes, every value checked.
    ///
    /// # Errors
    /// [`Error::Field`].
    pub fn directory(&self) -> Result<Directory, Error> {
        check_floor(self.floor)?;
        let mut nodes = heapless::Vec::new();
        for node in &self.nodes {
            nodes.push(node.checked()?).map_err(|_| field("number of nodes", self.nodes.len(), "at most 32"))?;
        }
        nodes.sort_unstable_by_key(|node| node.number);
        Ok(Directory {
            cluster: self.cluster.parse().map_err(|_| field("cluster", &self.cluster, "a UUID"))?,
            name: check_name(&self.name)?,
            cluster_key: point("cluster_key", &self.cluster_key)?,
            version: self.version,
            floor: self.floor,
            nodes,
        })
    }

    fn text(&self) -> String {
        // A draft is strings, numbers and a list of tables: it always has a TOML form.
        let body = toml::to_string(self).unwrap_or_default();
        format!("{DRAFT_HEADER}{body}")
    }
}

impl DraftNode {
    fn checked(&self) -> Result<Node, Error> {
        let known = self.suites.contains(&SUITE_P256_AES256GCM);
        let suites = heapless::Vec::from_slice(&self.suites).ok().filter(|_| known);
        Ok(Node {
            number: ShareIndex::new(self.number).map_err(|_| field("number", self.number, "1 to 65535"))?,
            id: self.id.parse::<NodeId>().map_err(|_| field("id", &self.id, "a UUID"))?,
            url: check_url(&self.url)?,
            transport_key: point("transport_key", &self.transport_key)?,
            audit_key: self.audit_key.as_deref().map(|key| point("audit_key", key)).transpose()?,
            suites: suites
                .ok_or_else(|| field("suites", format!("{:?}", self.suites), "a list with suite 1, at most 8 long,"))?,
            active: self.active,
        })
    }
}

impl NodeCard {
    /// Reads what `eds-keystored init` wrote.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::NotACard`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
        serde_json::from_slice(&text).map_err(|source| Error::NotACard { path: path.into(), source })
    }
}

fn check_name(name: &str) -> Result<heapless::String<64>, Error> {
    let fine = !name.is_empty() && !name.chars().any(char::is_control);
    heapless::String::try_from(name)
        .ok()
        .filter(|_| fine)
        .ok_or_else(|| field("name", name, "1 to 64 bytes without control characters"))
}

fn check_floor(floor: u8) -> Result<(), Error> {
    let fine = (1..=MAX_THRESHOLD).contains(&usize::from(floor));
    if fine { Ok(()) } else { Err(field("floor", floor, "1 to 16")) }
}

/// `https://host` or `https://host:port`: the API's paths are ours to append, and credentials do not belong here.
fn check_url(url: &str) -> Result<heapless::String<200>, Error> {
    let uri: Option<hyper::Uri> = url.parse().ok();
    let fine = uri.is_some_and(|uri| {
        uri.scheme_str() == Some("https")
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && uri.path_and_query().is_none_or(|rest| rest.as_str() == "/")
    });
    heapless::String::try_from(url)
        .ok()
        .filter(|_| fine)
        .ok_or_else(|| field("url", url, "https://host:port of at most 200 bytes"))
}

fn point(name: &'static str, text: &str) -> Result<Point, Error> {
    let wrong = || field(name, text, "the base64 of a compressed P-256 point");
    let bytes: [u8; 33] = Base64::decode_vec(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(wrong)?;
    p256::PublicKey::from_sec1_bytes(&bytes).map_err(|_| wrong())?;
    Ok(Point(bytes))
}

fn field(field: &'static str, value: impl ToString, expected: &'static str) -> Error {
    Error::Field { field, value: value.to_string(), expected }
}

fn new_key() -> Result<SigningKey, Error> {
    loop {
        let mut scalar = zeroize::Zeroizing::new([0u8; 32]);
        getrandom::fill(scalar.as_mut_slice())?;
        // Refused for 0 and for values above the group order: once in 2³² tries.
        if let Ok(key) = SigningKey::from_slice(scalar.as_slice()) {
            return Ok(key);
        }
    }
}

fn read_key(path: &Path) -> Result<SigningKey, Error> {
    let pem = config::read_private(path).map_err(Error::KeyFile)?;
    let wrong = || Error::NotAKey { path: path.into() };
    let text = std::str::from_utf8(&pem).map_err(|_| wrong())?;
    SigningKey::from_pkcs8_pem(text).map_err(|_| wrong())
}

fn write_all(output: &OutputFile, bytes: &[u8]) -> Result<(), output::Error> {
    use io::Write as _;
    output.file().write_all(bytes).map_err(output::Error::writing(output.path()))
}

const DRAFT_HEADER: &str = "\
# Draft of a cluster directory. Change it with `eds cluster add` and `eds cluster retire`, review it, then sign it with
# `eds cluster sign`. Clients believe the signed file, never this one.
";

#[cfg(test)]
pub(crate) mod tests;
