//! Making a node: its keys in the token, its database, its audit log and its identity file; all of it or nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use eds_core::{directory, ids::NodeId};

use crate::{
    audit::{
        Operation,
        console::{Console, ConsoleError},
        log::{Log, Options},
    },
    config::Config,
    hex,
    hsm::{
        Hsm, HsmError, command,
        memory::random,
        pkcs11::{self, Ceremony, Pkcs11Hsm},
        self_test::{make_canary, make_policy_canary},
        wrapped::WrappedError,
    },
    identity::{Identity, IdentityError},
    node::{Clock, SystemClock},
    store::{self, Origin, StoreError},
};

/// A node that was made.
#[derive(Clone, Debug)]
pub struct NewNode {
    /// Its identity, as the identity file has it.
    pub identity: Identity,
    /// What was made in the token.
    pub keys: Ceremony,
    /// The file with the record of the ceremony.
    pub record: PathBuf,
}

/// A node that could not be made; nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CeremonyError {
    /// There is a node here already.
    #[error(
        "{what} exists already, and nothing was changed\nhint: a node is made once; move its files away to make another"
    )]
    Exists {
        /// What exists: a file, or the tables in a database.
        what: String,
    },
    /// There is an audit log already.
    #[error("the audit log in {} exists already, and nothing was changed", directory.display())]
    LogExists {
        /// Its directory.
        directory: PathBuf,
    },
    /// A further process without a name would write a log that looks forked.
    #[error(
        "audit.process: missing\nhint: `init` made the log of the first process; give this one a name of its own, such as \
         process = \"b\""
    )]
    NoProcess,
    /// The token.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log.
    #[error("the audit log in {} cannot be made", directory.display())]
    Audit {
        /// Its directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The record of the ceremony.
    #[error("the ceremony record {} cannot be written", file.display())]
    Record {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The identity file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The file of wrapped key pairs.
    #[error(transparent)]
    Wrapped(#[from] WrappedError),
    /// The audit log does not tell of it.
    #[error(transparent)]
    Unlogged(#[from] ConsoleError),
}

/// Makes the keys, the database, the audit log and the identity file of a node.
///
/// # Errors
/// [`CeremonyError`]; keys and files that were made before the error are taken back.
pub fn make_node(config: &Config) -> Result<NewNode, CeremonyError> {
    let record = config.identity.with_extension("ceremony.json");
    let files = [&config.identity, &config.audit.path, &record];
    for file in files.into_iter().chain(&config.hsm.weaker_wrapped_keys) {
        if file.exists() {
            return Err(CeremonyError::Exists { what: file.display().to_string() });
        }
    }
    if store::exists(&config.store)? {
        return Err(CeremonyError::Exists { what: config.store.to_string() });
    }
    let node = NodeId::from_bytes(*random()?);
    let keys = pkcs11::create_keys(&config.hsm, node)?;
    match complete(config, node, &keys, &record) {
        Ok(identity) => Ok(NewNode { identity, keys, record }),
        Err(error) => {
            keys.take_back(&config.hsm);
            Err(error)
        }
    }
}

/// Makes the audit log of a further process of a node that exists, and returns its origin.
///
/// # Errors
/// [`CeremonyError`], also when there is no such node, or there is a log already.
pub fn make_log(config: &Config) -> Result<String, CeremonyError> {
    if config.audit.process.is_none() {
        return Err(CeremonyError::NoProcess);
    }
    let identity = Identity::load(&config.identity)?;
    store::open(&config.store, true)?;
    if config.audit.path.exists() {
        return Err(CeremonyError::LogExists { directory: config.audit.path.clone() });
    }
    create_log(config, &identity.node)?;
    let origin = config.audit.origin(&identity.node);
    Console::new(&config.audit, &identity, None).tell(Operation::AUDIT_CREATE, format_args!("log {origin}"))?;
    Ok(origin)
}

fn create_log(config: &Config, node: &NodeId) -> Result<(), CeremonyError> {
    Log::create(&Options::new(&config.audit.path, config.audit.origin(node)))
        .map_err(|source| CeremonyError::Audit { directory: config.audit.path.clone(), source })
}

fn complete(config: &Config, node: NodeId, keys: &Ceremony, record: &Path) -> Result<Identity, CeremonyError> {
    keys.keep_wrapped(&config.hsm)?;
    let hsm = Arc::new(Pkcs11Hsm::open(&config.hsm)?);
    let identity = Identity::new(node, keys.transport, keys.audit);
    let origin = Origin {
        node: identity.node,
        canary: make_canary(hsm.as_ref(), identity.node)?,
        policy_canary: make_policy_canary(hsm.as_ref(), identity.node)?.to_vec(),
    };
    store::create(&config.store, &origin)?;
    // The identity file comes last: where it is, there is a whole node.
    let rest = create_log(config, &identity.node)
        .and_then(|()| {
            let fingerprint = |key| hex::encode(&directory::key_fingerprint(key));
            let (transport, audit) = (fingerprint(&identity.transport_key), fingerprint(&identity.audit_key));
            let made = format!("made KEK {}, transport key {transport}, audit key {audit}", hsm.kek());
            let console = Console::new(&config.audit, &identity, Some(Arc::<Pkcs11Hsm>::clone(&hsm)));
            Ok(console.tell(Operation::TOKEN_CHANGE, made)?)
        })
        .and_then(|()| {
            let now = SystemClock.now_milliseconds();
            command::write_record(record, &config.hsm, keys, &identity, now)
                .map_err(|source| CeremonyError::Record { file: record.to_owned(), source })
        })
        .and_then(|()| Ok(identity.create(&config.identity)?));
    if let Err(error) = rest {
        store::discard(&config.store);
        let _ = fs::remove_dir_all(&config.audit.path);
        let _ = fs::remove_file(record);
        return Err(error);
    }
    Ok(identity)
}
