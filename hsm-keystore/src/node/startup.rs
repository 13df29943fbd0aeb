//! From a configuration to a node, by way of every check that must hold before it serves.
//!
//! `serve` refuses to start when one fails; `check` prints them all.

use std::{fs, path::Path, sync::Arc};

use eds_core::directory::{self, Directory};

use crate::{
    audit::{Log, OpenError, checkpoint::Verifier, log::Options},
    config::Config,
    hex,
    hsm::{
        Hsm, HsmError, TokenKeyId,
        pkcs11::Pkcs11Hsm,
        self_test::{Check, belongs, described, opens_older, operations},
    },
    identity::Identity,
    node::{Clock, Node, SystemClock},
    store,
};

/// What was found, and the node if nothing is wrong.
pub struct Startup {
    /// Every check, in the order in which it was made.
    pub checks: Vec<Check>,
    /// The node, when every check holds.
    pub node: Option<Node>,
    /// The token refused the PIN: another start would use up another try.
    pub pin_refused: bool,
}

/// Opens token, store, audit log and directory of a node, and checks that they work and belong together.
pub fn start(config: &Config) -> Startup {
    let mut checks = Vec::new();
    let mut pin_refused = false;
    let node = assemble(config, &mut checks, &mut pin_refused, false);
    let holds = checks.iter().all(|check| check.outcome.is_ok());
    Startup { checks, node: node.filter(|_| holds), pin_refused }
}

/// The checks of a start, also while a server has the audit log of the node open. Nothing is changed.
pub fn check(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    drop(assemble(config, &mut checks, &mut false, true));
    checks
}

fn assemble(config: &Config, checks: &mut Vec<Check>, pin_refused: &mut bool, beside_server: bool) -> Option<Node> {
    let identity =
        taken(checks, "identity", Identity::load(&config.identity), |identity| format!("node {}", identity.node));
    let directory = directory(config, checks);
    // The database knows which of several KEKs is the active one.
    let store = store::open(&config.store, beside_server);
    let kek = store.as_ref().ok().and_then(|(store, _)| store::active_kek(store.as_ref()));
    let hsm = Pkcs11Hsm::open_with_kek(&config.hsm, kek.map(TokenKeyId::from_bytes));
    *pin_refused = matches!(hsm, Err(HsmError::Pin { .. }));
    let hsm = taken(checks, "token", hsm, |hsm| format!("{:?}: {}", config.hsm.token, hsm.description()));
    if let Some(hsm) = &hsm {
        checks.extend(operations(hsm));
    }
    let store = taken(checks, "database", store, |(_, found)| found.clone());
    let (identity, hsm, (store, _)) = (identity?, hsm?, store?);
    checks.push(Check::of(
        "transport key of the identity file",
        hsm.transport_key() == identity.transport_key,
        hex::encode(&directory::key_fingerprint(&identity.transport_key)),
        "is not the one in the token: identity file and token belong to different nodes",
    ));
    checks.push(Check::of(
        "audit key of the identity file",
        hsm.audit_key() == identity.audit_key,
        hex::encode(&directory::key_fingerprint(&identity.audit_key)),
        "is not the one in the token: identity file and token belong to different nodes",
    ));
    if let Some(node) = hsm.wrapped_for() {
        checks.push(Check::of(
            "node of the wrapped keys",
            node == identity.node,
            node.to_string(),
            format!("they are of node {node}: hsm.weaker_wrapped_keys and identity file belong to different nodes"),
        ));
    }
    let audit = audit(config, &identity, checks, beside_server);
    if let Some(origin) = taken(checks, "node of the database", store.origin(), |origin| origin.node.to_string()) {
        checks.push(Check::of(
            "database and identity file",
            origin.node == identity.node,
            "belong to the same node",
            "belong to different nodes",
        ));
        checks.extend(belongs(&hsm, origin.node, origin.canary, &origin.policy_canary));
        // A database of an older schema knows one KEK, whose canary this was.
        checks.extend(store.keks().ok().map(|keks| opens_older(&hsm, origin.node, &keks)));
    }
    let directory = directory?;
    let number = entry(&directory, &identity, checks)?;
    let (hsm, store, clock) = (Arc::new(hsm), store, Arc::new(SystemClock));
    let node = Node::new(identity.node, number, directory, hsm, store, clock, Arc::new(audit?));
    Some(node.with_policy(config.policy.clone()))
}

/// Where a node stands in its cluster, for officers' commands that need no token for it.
///
/// # Errors
/// The check that failed.
pub(crate) fn number(config: &Config, identity: &Identity) -> Result<eds_core::ids::ShareIndex, String> {
    let mut checks = Vec::new();
    let number = directory(config, &mut checks).and_then(|directory| entry(&directory, identity, &mut checks));
    let failed = checks.into_iter().find_map(|check| Some(format!("{}: {}", check.what, check.outcome.err()?)));
    match (number, failed) {
        (Some(number), None) => Ok(number),
        (_, failed) => Err(failed.unwrap_or_default()),
    }
}

/// Opens and checks the audit log.
fn audit(config: &Config, identity: &Identity, checks: &mut Vec<Check>, beside_server: bool) -> Option<Log> {
    let mut options = Options::new(&config.audit.path, config.audit.origin(&identity.node));
    options.verifier = Verifier::new(&options.origin, &identity.audit_key);
    let opened = Log::open(&options, SystemClock.now_milliseconds());
    let outcome = match &opened {
        Ok((_, opened)) => Ok(format!(
            "{} entries, {} of them under a signed checkpoint{}{}",
            opened.entries,
            opened.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size),
            match opened.read_from {
                0 => String::new(),
                from => format!("; read from entry {from} on, `eds-keystored audit verify` reads all"),
            },
            if opened.recovered.is_some() { "; an unfinished write was set aside" } else { "" }
        )),
        Err(OpenError::InUse(_)) if beside_server => {
            Ok("open in the running server; `eds-keystored audit verify` checks it meanwhile".to_owned())
        }
        Err(error) => Err(described(error)),
    };
    checks.push(Check { what: "audit log", outcome });
    opened.ok().map(|(log, _)| log)
}

/// Reads and verifies a cluster directory.
///
/// # Errors
/// What is wrong with which file.
pub(crate) fn read_directory(file: &Path, fingerprint: &[u8; 32]) -> Result<Directory, String> {
    let name = file.display();
    let bytes = read_bounded(file, directory::MAX_BYTES)
        .map_err(|error| format!("{name}: cannot be read ({error}); copy it from `eds cluster sign`"))?;
    Directory::verify(&bytes, fingerprint).map_err(|error| match error {
        eds_core::Error::Mismatch => format!("{name}: is of another cluster than cluster.fingerprint says"),
        error => format!("{name}: {error}"),
    })
}

/// Reads and verifies the cluster directory.
fn directory(config: &Config, checks: &mut Vec<Check>) -> Option<Directory> {
    let outcome = read_directory(&config.cluster.directory, &config.cluster.fingerprint);
    let found = |directory: &Directory| {
        format!("{:?}, version {}, {} nodes", directory.name, directory.version, directory.nodes.len())
    };
    checks.push(Check { what: "cluster directory", outcome: outcome.as_ref().map(found).map_err(Clone::clone) });
    outcome.ok()
}

/// Finds this node in the directory.
pub(crate) fn entry(
    directory: &Directory,
    identity: &Identity,
    checks: &mut Vec<Check>,
) -> Option<eds_core::ids::ShareIndex> {
    let what = "entry in the cluster directory";
    let Some(entry) = directory.nodes.iter().find(|node| node.id == identity.node) else {
        let reason =
            "this node is not in it; officers add its identity file with `eds cluster add` and sign".to_owned();
        checks.push(Check { what, outcome: Err(reason) });
        return None;
    };
    checks.push(Check::of(
        what,
        entry.transport_key == identity.transport_key,
        format!("number {}, {}", entry.number, entry.url),
        "has another transport key: the node was initialised again since it was added",
    ));
    checks.push(Check::of(
        "audit key in the cluster directory",
        entry.audit_key.is_none_or(|key| key == identity.audit_key),
        if entry.audit_key.is_some() { "is this node's" } else { "none; checkpoints are checked by the identity file" },
        "is another one: the node was initialised again since it was added",
    ));
    Some(entry.number)
}

fn taken<T, E: std::error::Error>(
    checks: &mut Vec<Check>,
    what: &'static str,
    result: Result<T, E>,
    found: impl FnOnce(&T) -> String,
) -> Option<T> {
    let outcome = result.as_ref().map(found).map_err(|error| described(error));
    checks.push(Check { what, outcome });
    result.ok()
}

fn read_bounded(file: &Path, most: usize) -> std::io::Result<Vec<u8>> {
    let length = fs::metadata(file)?.len();
    if length > most as u64 {
        return Err(std::io::Error::other("it is too long"));
    }
    fs::read(file)
}
