//! The configuration of a node: one TOML file, every key of which is known.
//!
//! What is wrong is told with file, line and a hint. Relative paths are relative to the directory of the file, so that a
//! node's directory can be moved as a whole. No secret stands in the file: the PIN of the token is in a file of its own
//! (see [`crate::hsm::pin`]).

mod authn;
mod policy;
mod token;

use std::{
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use toml::Spanned;

pub use self::authn::AuthnConfig;
use self::{authn::RawAuthn, policy::RawPolicy, token::RawHsm};
use crate::{
    hex,
    hsm::{Suite, pin::PinSource},
    policy::node::NodePolicy,
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
    pub store: PathBuf,
    /// The file with the node's identity, which `eds-keystored init` writes.
    pub identity: PathBuf,
    /// The audit log.
    pub audit: AuditConfig,
    /// What is accepted as proof of who a caller is, beside client certificates of [`TlsConfig::client_ca`].
    pub authn: AuthnConfig,
    /// Who administers the node, and who may register keys.
    pub policy: NodePolicy,
}

/// The audit log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditConfig {
    /// Its directory.
    pub path: PathBuf,
    /// How often its head is signed, while there is something new.
    pub checkpoint: Duration,
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
    #[error("configuration {file}, line {line}: {message}\nhint: {hint}")]
    Invalid {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: &'static str,
    },
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`], with the line at fault and a hint.
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
        let invalid = |span: Option<Range<usize>>, message: String, hint| ConfigError::Invalid {
            file: file.to_owned(),
            line: line_of(text, span),
            message,
            hint,
        };
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let message = error.message().to_owned();
            invalid(error.span(), message, "docs/keystore.md lists every section and key, with an example")
        })?;
        let at = |path: PathBuf| match file.parent() {
            Some(parent) => parent.join(path),
            None => path,
        };
        let listen = raw.listen.get_ref().parse().map_err(|_| {
            let message = format!("listen: {:?} is not an address and a port", raw.listen.get_ref());
            invalid(Some(raw.listen.span()), message, "write it as listen = \"127.0.0.1:7443\" or \"[::1]:7443\"")
        })?;
        let fingerprint = hex::decode_array(raw.cluster.fingerprint.get_ref()).ok_or_else(|| {
            let message = "cluster.fingerprint: not 64 hexadecimal digits".to_owned();
            invalid(Some(raw.cluster.fingerprint.span()), message, "`eds cluster show` prints the fingerprint")
        })?;
        let checkpoint = number(raw.audit.checkpoint_s, DEFAULT_CHECKPOINT.as_secs(), 1..=86_400).map_err(|span| {
            let message = "audit.checkpoint_s: not between 1 and 86400".to_owned();
            invalid(span, message, "give seconds; 60 is usual")
        })?;
        let hsm = token::read(raw.hsm, at).map_err(|(span, message, hint)| invalid(span, message, hint))?;
        let authn = raw.authn.read(at).map_err(|(span, message, hint)| invalid(span, message, hint))?;
        if raw.tls.get_ref().client_ca.is_none() && authn.ca_directory.is_none() {
            let message = "tls.client_ca: missing, and there is no authn.ca_directory either".to_owned();
            let hint = "name the PEM file of the authorities whose client certificates are accepted";
            return Err(invalid(Some(raw.tls.span()), message, hint));
        }
        let tls = raw.tls.into_inner();
        let policy = raw.policy.read().map_err(|(span, message, hint)| invalid(Some(span), message, hint))?;
        Ok(Self {
            file: file.to_owned(),
            listen,
            cluster: ClusterConfig { directory: at(raw.cluster.directory), fingerprint },
            tls: TlsConfig { certificate: at(tls.certificate), key: at(tls.key), client_ca: tls.client_ca.map(&at) },
            hsm,
            store: at(raw.store.path),
            identity: at(raw.node.identity),
            audit: AuditConfig { path: at(raw.audit.path), checkpoint: Duration::from_secs(checkpoint) },
            authn,
            policy,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    listen: Spanned<String>,
    cluster: RawCluster,
    tls: Spanned<RawTls>,
    hsm: Spanned<RawHsm>,
    store: RawStore,
    node: RawNode,
    #[serde(default)]
    audit: RawAudit,
    #[serde(default)]
    authn: RawAuthn,
    #[serde(default)]
    policy: RawPolicy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCluster {
    directory: PathBuf,
    fingerprint: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStore {
    path: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    identity: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAudit {
    path: PathBuf,
    checkpoint_s: Option<Spanned<u64>>,
}

impl Default for RawAudit {
    fn default() -> Self {
        Self { path: "audit".into(), checkpoint_s: None }
    }
}

fn number(
    given: Option<Spanned<u64>>,
    default: u64,
    allowed: std::ops::RangeInclusive<u64>,
) -> Result<u64, Option<Range<usize>>> {
    match given {
        None => Ok(default),
        Some(value) if allowed.contains(value.get_ref()) => Ok(value.into_inner()),
        Some(value) => Err(Some(value.span())),
    }
}

fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let end = span.map_or(0, |span| span.start).min(text.len());
    1 + text.bytes().take(end).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::node::{Administrator, Create};

    const GOOD: &str = r#"listen = "127.0.0.1:7443"

[cluster]
directory = "cluster.edd"
fingerprint = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

[tls]
certificate = "tls/node.pem"
key = "tls/node.key"
client_ca = "/etc/eds/client-ca.pem"

[hsm]
module = "/usr/lib/softhsm/libsofthsm2.so"
token = "eds-node-1"
pin_file = "pin"

[store]
path = "keys.db"

[node]
identity = "node.json"
"#;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("/srv/eds/node.toml"), text)
    }

    #[test]
    fn paths_are_relative_to_the_file_and_limits_have_defaults() {
        let config = parse(GOOD).expect("a good file");
        assert_eq!(config.store, Path::new("/srv/eds/keys.db"));
        assert_eq!(config.tls.key, Path::new("/srv/eds/tls/node.key"));
        assert_eq!(config.tls.client_ca.as_deref(), Some(Path::new("/etc/eds/client-ca.pem")));
        assert_eq!(config.cluster.fingerprint[..4], [0x00, 0x11, 0x22, 0x33]);
        assert_eq!((config.hsm.threads, config.hsm.deadline), (2, Duration::from_secs(5)));
    }

    #[test]
    fn a_token_may_be_named_by_a_uri() {
        let uri = "uri = \"pkcs11:token=eds%2D1;serial=2f?pin-source=credential:hsm-pin\"";
        let text = GOOD.replace("token = \"eds-node-1\"", uri).replace("pin_file = \"pin\"\n", "");
        let hsm = parse(&text).expect("a good file").hsm;
        assert_eq!((hsm.token.as_str(), hsm.serial.as_deref()), ("eds-1", Some("2f")));
        assert_eq!(hsm.pin, PinSource::Credential("hsm-pin".into()));
        assert_eq!(hsm.module, Path::new("/usr/lib/softhsm/libsofthsm2.so"));
    }

    #[test]
    fn every_error_names_its_line_and_has_a_hint() {
        for (from, to, line) in [
            ("127.0.0.1:7443", "localhost", 1),
            ("[cluster]", "[clutser]", 3),
            ("fingerprint = \"0011", "fingerprint = \"11", 5),
            ("client_ca", "client_cas", 10),
            ("client_ca = \"/etc/eds/client-ca.pem\"\n", "", 7),
            ("[node]", "[authn]\nclock_skew_s = -1\n\n[node]", 21),
            ("token = \"eds-node-1\"", "token = \"\"", 14),
            ("token = \"eds-node-1\"", "", 12),
            ("token = \"eds-node-1\"", "uri = \"pkcs11:token=a?pin-value=1\"", 14),
            ("token = \"eds-node-1\"", "uri = \"pkcs11:token=a?pin-source=file:/pin\"", 14),
            ("pin_file = \"pin\"", "pin_file = \"pin\"\nthreads = 0", 16),
            ("pin_file = \"pin\"", "pin_file = \"pin\"\ndeadline_ms = 9", 16),
            ("pin_file = \"pin\"", "pin_file = \"pin\"\ngive_up_ms = 1", 16),
            ("pin_file = \"pin\"", "pin_file = \"pin\"\nsuite = \"aes-ecb\"", 16),
            ("pin_file = \"pin\"", "pin = \"1234\"", 15),
        ] {
            assert!(GOOD.contains(from), "{from} is not in the sample");
            let error = parse(&GOOD.replace(from, to)).expect_err(to);
            let ConfigError::Invalid { line: told, hint, .. } = &error else { panic!("{error}") };
            assert_eq!(*told, line, "{error}");
            assert!(!hint.is_empty());
            assert!(error.to_string().starts_with("configuration /srv/eds/node.toml, line "), "{error}");
        }
    }

    #[test]
    fn officers_are_named_with_their_authority_or_as_a_group() {
        let policy = parse(GOOD).expect("a good file").policy;
        assert_eq!(policy, NodePolicy::default(), "without a section, everybody may register and nobody administers");
        let section = r#"
[policy]
admins = [
  "/acme/Role=security/Capability=NULL",
  { issuer = "/O=Ward/CN=CA", subject = "/O=Ward/CN=Officer" },
  { issuer = "https://id.example", subject = "42" },
]
create = ["/acme"]
"#;
        let policy = parse(&format!("{GOOD}{section}")).expect("a good file").policy;
        let text = |text: &str| text.to_owned();
        let expected = [
            Administrator::Group(text("/acme/Role=security")),
            Administrator::Certificate { issuer: text("/O=Ward/CN=CA"), subject: text("/O=Ward/CN=Officer") },
            Administrator::Token { issuer: text("https://id.example"), subject: text("42") },
        ];
        assert_eq!((policy.administrators, policy.create), (expected.to_vec(), Create::Groups(vec![text("/acme")])));
        for (create, expected) in [("[\"any\"]", Create::Anybody), ("[]", Create::Groups(Vec::new()))] {
            let policy = parse(&format!("{GOOD}\n[policy]\ncreate = {create}\n")).expect("a good file").policy;
            assert_eq!(policy.create, expected);
        }
        for wrong in [
            r#"admins = ["/O=Ward/CN=Officer"]"#,
            r#"admins = [{ subject = "/O=Ward/CN=Officer" }]"#,
            r#"admins = [{ issuer = "/O=Ward/CN=CA", subject = "/O=a\\x2Fb" }]"#,
            r#"admins = [{ issuer = "CA", subject = "/O=Ward/CN=Officer" }]"#,
            r#"admins = [{ issuer = "https://id.example", subject = "" }]"#,
            r#"create = ["/CN=anyone"]"#,
            r#"creators = []"#,
        ] {
            let error = parse(&format!("{GOOD}\n[policy]\n{wrong}\n")).expect_err(wrong).to_string();
            assert!(error.contains("line 24") && error.contains("hint: "), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load(Path::new("/nonexistent/node.toml")).expect_err("there is none");
        assert!(error.to_string().contains("/nonexistent/node.toml"), "{error}");
    }
}
