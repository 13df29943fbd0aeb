//! The configuration of a node: one TOML file, every key of which is known.
//!
//! Everything that is wrong is told at once, each with file, line and a hint. Relative paths are relative to the directory of the file, so that a
//! node's directory can be moved as a whole. No secret stands in the file: the PIN of the token is in a file of its own
//! (see [`crate::hsm::pin`]).

mod authn;
pub mod check;
mod limits;
mod policy;
mod reader;
mod store;
mod token;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use eds_core::ids::NodeId;

use self::reader::{Reader, Section};
pub use self::{
    authn::AuthnConfig,
    reader::{Fault, Named, Role},
    store::{PostgresConfig, StoreConfig},
};
use crate::{
    audit::checkpoint,
    hex,
    hsm::{Suite, pin::PinSource},
    policy::node::NodePolicy,
    server::Limits,
};

/// How many session threads serve the token when the file does not say.
pub const DEFAULT_THREADS: usize = 2;
/// How long one call to the token may take when the file does not say.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);
/// How long an outage of the token may last before the server ends, when the file does not say.
pub const DEFAULT_GIVE_UP: Duration = Duration::from_secs(120);

/// The configuration of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// The address to listen on; port 0 lets the system choose one.
    pub listen: SocketAddr,
    /// The cluster that the node belongs to.
    pub cluster: ClusterConfig,
    /// The node's certificate, and whose certificates it accepts.
    pub tls: TlsConfig,
    /// The token.
    pub hsm: HsmConfig,
    /// The database.
    pub store: StoreConfig,
    /// The file with the node's identity, which `eds-keystored init` writes.
    pub identity: PathBuf,
    /// The audit log.
    pub audit: AuditConfig,
    /// What is accepted as proof of who a caller is, beside client certificates of [`TlsConfig::client_ca`].
    pub authn: AuthnConfig,
    /// Who administers the node, and who may register keys.
    pub policy: NodePolicy,
    /// What clients may take of the node.
    pub limits: Limits,
    /// The loopback address where metrics are read without a certificate, if there is one.
    pub metrics: Option<SocketAddr>,
}

/// The audit log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditConfig {
    /// Its directory.
    pub path: PathBuf,
    /// How often its head is signed, while there is something new.
    pub checkpoint: Duration,
    /// The name of this process in the origin of its log, where several processes serve one node.
    pub process: Option<String>,
}

impl AuditConfig {
    /// The origin of the log that this process writes.
    pub fn origin(&self, node: &NodeId) -> String {
        checkpoint::origin_of_process(node, self.process.as_deref())
    }
}

/// How often the head of the audit log is signed when the file does not say.
pub const DEFAULT_CHECKPOINT: Duration = Duration::from_secs(60);

/// The cluster that a node belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterConfig {
    /// The signed directory file.
    pub directory: PathBuf,
    /// SHA-256 of the compressed public cluster key.
    pub fingerprint: [u8; 32],
}

/// PEM files of the TLS side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsConfig {
    /// The node's certificate, followed by its chain.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The authorities whose client certificates are accepted; may be left out where `[authn]` names a directory.
    pub client_ca: Option<PathBuf>,
}

/// The token and how it is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HsmConfig {
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// The label of the token. Slot numbers change; labels do not.
    pub token: String,
    /// The serial number of the token, if the configuration names it.
    pub serial: Option<String>,
    /// Where the user PIN comes from.
    pub pin: PinSource,
    /// The only suite for new records, if the file names one; else the best that the token can do.
    pub suite: Option<Suite>,
    /// Permits key pairs that the token cannot hold to be wrapped by it and kept in memory while serving, which is weaker;
    /// and the file that they are wrapped in.
    pub weaker_wrapped_keys: Option<PathBuf>,
    /// How many threads hold a session each.
    pub threads: usize,
    /// How long one call may take before the caller gets an error.
    pub deadline: Duration,
    /// How long an outage may last before the server ends, for its supervisor to start it anew.
    pub give_up: Duration,
}

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "configuration {file}: cannot be read\nhint: name the file with --config and see that this user may read it"
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file says something that is not understood.
    #[error("{}", told(file, faults))]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Everything that is wrong, from the first line to the last.
        faults: Vec<Fault>,
    },
}

fn told(file: &Path, faults: &[Fault]) -> String {
    let told: Vec<_> = faults.iter().map(|fault| format!("configuration {}, {fault}", file.display())).collect();
    told.join("\n")
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}\nhint: {}", self.line, self.message, self.hint)
    }
}

/// What was found in a configuration file.
#[derive(Debug)]
pub struct Reading {
    /// The configuration, if nothing is wrong.
    pub config: Option<Config>,
    /// Everything that is wrong, from the first line to the last.
    pub faults: Vec<Fault>,
    /// The files that it names.
    pub named: Vec<Named>,
    /// The fingerprint of the cluster key, if that can be read.
    pub fingerprint: Option<[u8; 32]>,
}

impl Reading {
    /// Reads text as if it stood in `file`, to the end whatever is wrong.
    pub fn of(file: &Path, text: &str) -> Self {
        let reader = Reader::new(file, text);
        let (config, fingerprint) = reader.read(|section| whole(file, section));
        let (faults, named) = reader.finish();
        Self { config: config.filter(|_| faults.is_empty()), faults, named, fingerprint }
    }
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`], with every line at fault and a hint for each.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
        Self::parse(file, &text)
    }

    /// Reads a configuration from text, as if it stood in `file`.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let Reading { config, faults, .. } = Reading::of(file, text);
        config.ok_or_else(|| ConfigError::Invalid { file: file.to_owned(), faults })
    }
}

/// Reads everything; the configuration is whole only when nothing was noted as wrong.
fn whole(file: &Path, top: &Section<'_>) -> (Option<Config>, Option<[u8; 32]>) {
    top.need(&["listen", "cluster", "tls", "hsm", "store", "node"]);
    let listen = top.text("listen").and_then(|text| {
        let address = text.value.parse().ok();
        if address.is_none() {
            let message = format!("listen: {:?} is not an address and a port", text.value);
            top.fault(text.span, message, "write it as listen = \"127.0.0.1:7443\" or \"[::1]:7443\"");
        }
        address
    });
    let (directory, fingerprint) = top.section("cluster", cluster);
    let authn = top.section("authn", authn::read);
    let tls = top.section("tls", |section| tls(section, authn.ca_directory.is_some()));
    let hsm = top.section("hsm", |section| token::read(section));
    let store = top.section("store", store::read);
    let identity = top.section("node", |section| {
        needed(section, &["identity"]);
        section.path("identity", Role::Identity)
    });
    let audit = top.section("audit", |section| audit(file, section));
    let policy = top.section("policy", policy::read);
    let limits = top.section("limits", limits::read);
    let metrics = top.section("metrics", metrics);
    let config = || {
        Some(Config {
            file: file.to_owned(),
            listen: listen?,
            cluster: ClusterConfig { directory: directory?, fingerprint: fingerprint? },
            tls: tls?,
            hsm: hsm?,
            store: store?,
            identity: identity?,
            audit,
            authn,
            policy,
            limits,
            metrics,
        })
    };
    (config(), fingerprint)
}

fn cluster(section: &Section<'_>) -> (Option<PathBuf>, Option<[u8; 32]>) {
    needed(section, &["directory", "fingerprint"]);
    let fingerprint = section.text("fingerprint").and_then(|text| {
        let fingerprint = hex::decode_array(text.value);
        if fingerprint.is_none() {
            let message = "cluster.fingerprint: not 64 hexadecimal digits".to_owned();
            section.fault(text.span, message, "`eds cluster show` prints the fingerprint");
        }
        fingerprint
    });
    (section.path("directory", Role::ClusterDirectory), fingerprint)
}

fn tls(section: &Section<'_>, has_ca_directory: bool) -> Option<TlsConfig> {
    needed(section, &["certificate", "key"]);
    let client_ca = section.path("client_ca", Role::Authorities);
    if section.is_there() && !section.has("client_ca") && !has_ca_directory {
        let hint = "name the PEM file of the authorities whose client certificates are accepted, or authn.ca_directory";
        section.missing("client_ca", hint);
    }
    let (certificate, key) = (section.path("certificate", Role::Certificate), section.path("key", Role::PrivateKey));
    Some(TlsConfig { certificate: certificate?, key: key?, client_ca })
}

fn audit(file: &Path, section: &Section<'_>) -> AuditConfig {
    let beside = || file.parent().map_or_else(|| "audit".into(), |folder| folder.join("audit"));
    let path = section.path("path", Role::AuditLog).unwrap_or_else(beside);
    let seconds = section.number("checkpoint_s", DEFAULT_CHECKPOINT.as_secs(), 1..=86_400, "give seconds; 60 is usual");
    let process = section.text("process").and_then(|name| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=32).contains(&name.value.len()) && name.value.bytes().all(allowed) {
            return Some(name.value.to_owned());
        }
        let message = "audit.process: not 1 to 32 lower-case letters, digits and hyphens".to_owned();
        section.fault(name.span, message, "a short name of this process, such as \"b\"; the first process needs none");
        None
    });
    AuditConfig { path, checkpoint: Duration::from_secs(seconds), process }
}

/// Metrics hold no ids and no names, but how much a node does is not for everybody: no address that others reach.
fn metrics(section: &Section<'_>) -> Option<SocketAddr> {
    let text = section.text("listen")?;
    let address = text.value.parse::<SocketAddr>().ok().filter(|address| address.ip().is_loopback());
    if address.is_none() {
        let hint =
            "write it as \"127.0.0.1:9464\"; administrators read GET /metrics at the node's own address from anywhere";
        section.fault(text.span, format!("metrics.listen: {:?} is no loopback address and port", text.value), hint);
    }
    address
}

/// Notes missing keys, unless the whole section is missing, which is noted already.
fn needed(section: &Section<'_>, keys: &[&'static str]) {
    if section.is_there() {
        section.need(keys);
    }
}

#[cfg(test)]
mod tests;
