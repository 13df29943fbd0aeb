//! Backup and restore of a node's database, by its officers.
//!
//! A backup needs neither the token nor a stopped server. A restore makes a database where there is none, from a backup
//! that is this node's: its identity file and the canaries of its token must fit. What changed since the backup is lost
//! with the old database, revocations and deletions too: whoever restores must compare with the other nodes.

use std::{path::Path, sync::Arc};

use crate::{
    audit::{
        Operation,
        console::{Console, ConsoleError},
    },
    config::Config,
    hex,
    hsm::{
        HsmError, TokenKeyId,
        pkcs11::Pkcs11Hsm,
        self_test::{belongs, opens_older},
    },
    identity::{Identity, IdentityError},
    store::{
        self, StoreError,
        backup::{self, Contents},
        kek_of,
    },
};

/// A backup that was not made or not restored; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// There is a database already.
    #[error(
        "the database {database} exists already, and nothing was changed\nhint: a restore replaces nothing; when this \
         database is lost, move it away first"
    )]
    Exists {
        /// The database.
        database: String,
    },
    /// The backup is of another node.
    #[error(
        "the backup {backup} is of node {found}, and {identity} says that this is node {expected}\nhint: restore the \
         backup of this node"
    )]
    OtherNode {
        /// The backup.
        backup: String,
        /// The node of the backup.
        found: String,
        /// The identity file.
        identity: String,
        /// The node of the identity file.
        expected: String,
    },
    /// The backup was written with another token.
    #[error("the backup {backup} does not fit the token: {check}: {reason}")]
    OtherToken {
        /// The backup.
        backup: String,
        /// What was checked.
        check: &'static str,
        /// What was found.
        reason: String,
    },
    /// The backup or the database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The identity file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The token.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// The audit log does not tell of it.
    #[error(transparent)]
    Unlogged(#[from] ConsoleError),
}

/// Writes a backup of the node's database to a new file, while the node may serve.
///
/// # Errors
/// [`RecoveryError`]; there is no new file then, unless only the audit log does not know of it.
pub fn back_up(config: &Config, to: &Path) -> Result<Contents, RecoveryError> {
    let console = Console::new(&config.audit, &Identity::load(&config.identity)?, None);
    let act = console.begin(Operation::STORE_BACKUP, format_args!("to {}", to.display()))?;
    act.ends(backup::back_up(&config.store, to).map_err(RecoveryError::from), |_| false, told)
}

/// What the audit log says of a backup.
fn told(contents: &Contents) -> String {
    let Contents { keys, registrations, digest, .. } = contents;
    format!("{keys} keys in {registrations} registrations, SHA-256 {}", hex::encode(digest))
}

/// Makes the node's database from a backup.
///
/// # Errors
/// [`RecoveryError`]; nothing was changed then.
pub fn restore(config: &Config, from: &Path) -> Result<Contents, RecoveryError> {
    if store::exists(&config.store)? {
        return Err(RecoveryError::Exists { database: config.store.to_string() });
    }
    let contents = backup::look(from)?;
    let identity = Identity::load(&config.identity)?;
    if contents.origin.node != identity.node {
        return Err(RecoveryError::OtherNode {
            backup: from.display().to_string(),
            found: contents.origin.node.to_string(),
            identity: config.identity.display().to_string(),
            expected: identity.node.to_string(),
        });
    }
    let kek = kek_of(&contents.origin.canary).map(TokenKeyId::from_bytes);
    let hsm = Pkcs11Hsm::open_with_kek(&config.hsm, kek)?;
    let origin = contents.origin.clone();
    let mut checks = belongs(&hsm, origin.node, origin.canary, &origin.policy_canary);
    checks.push(opens_older(&hsm, origin.node, &contents.keks));
    for check in checks {
        if let Err(reason) = check.outcome {
            return Err(RecoveryError::OtherToken { backup: from.display().to_string(), check: check.what, reason });
        }
    }
    let console = Console::new(&config.audit, &identity, Some(Arc::new(hsm)));
    let digest = hex::encode(&contents.digest);
    let act = console.begin(Operation::STORE_RESTORE, format_args!("from {}, SHA-256 {digest}", from.display()))?;
    let restored = backup::restore(from, &config.store).map(|()| contents).map_err(RecoveryError::from);
    act.ends(restored, |_| false, told)
}
