//! One KEK after the other, by officers, while the node serves.
//!
//! [`rotate`] makes a KEK in the token and then, in one transaction, the active one in the database; from there on no
//! process stores a record of the old one, whatever it was doing. [`rewrap()`] unwraps what older KEKs wrapped and wraps it
//! anew, record by record by compare and swap, and can be cut off anywhere and begun again. [`retire`] refuses as long as
//! a record names the KEK; the key itself leaves the token in a second step, when no process can be using it.

mod command;
mod rewrap;
#[cfg(test)]
mod tests;

use std::{io, path::PathBuf, sync::Arc};

use eds_core::ids::NodeId;

pub use self::{
    command::{active_kek, retire, rotate, status},
    rewrap::{Progress, Rewrapped, rewrap},
};
use crate::{
    audit::console::{Console, ConsoleError},
    config::Config,
    hsm::{
        HsmError, HsmErrorKind, TokenKeyId,
        pkcs11::Pkcs11Hsm,
        self_test::{belongs, opens_older},
        wrapped::WrappedError,
    },
    identity::{Identity, IdentityError},
    node::{Clock, SystemClock, kek::WrapError},
    store::{self, KekState, ShareStore, StoreError},
};

/// A change of KEKs that was not made, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotationError {
    /// Token, database and identity file do not belong together.
    #[error("{what}: {reason}\nhint: `eds-keystored check` shows what belongs together")]
    Apart {
        /// What was checked.
        what: &'static str,
        /// What was found.
        reason: String,
    },
    /// The cluster directory does not say which node this is.
    #[error("{0}\nhint: `eds-keystored check` shows what a start needs")]
    Directory(String),
    /// Not the id of a KEK.
    #[error("{0:?} is not the id of a KEK\nhint: `eds-keystored hsm status` shows the ids, 32 hexadecimal digits each")]
    NoId(String),
    /// Neither database nor token has such a KEK.
    #[error("there is no KEK {kek}\nhint: `eds-keystored hsm status` shows those that there are")]
    Missing {
        /// Its id.
        kek: TokenKeyId,
    },
    /// The active KEK does not retire.
    #[error(
        "KEK {kek} is active: new shares are wrapped under it\nhint: `eds-keystored hsm rotate` makes another one first"
    )]
    Active {
        /// Its id.
        kek: TokenKeyId,
    },
    /// Records name it.
    #[error(
        "KEK {kek} is named by {records} records still, and stays\nhint: `eds-keystored hsm rewrap` wraps them anew under the \
         active KEK"
    )]
    Named {
        /// Its id.
        kek: TokenKeyId,
        /// How many records.
        records: u64,
    },
    /// Key pairs beside the token are wrapped by it.
    #[error(
        "KEK {kek} wraps the key pairs in {file}, and stays\nhint: `eds-keystored hsm rewrap` wraps them anew, too"
    )]
    NamedByKeys {
        /// Its id.
        kek: TokenKeyId,
        /// The file of the wrapped keys.
        file: PathBuf,
    },
    /// Some process may use the key still.
    #[error(
        "KEK {kek} is retired, and its key stays in the token for now\nhint: a server may have it in use; run this again with \
         --destroy in {minutes} minutes"
    )]
    TooEarly {
        /// Its id.
        kek: TokenKeyId,
        /// When it may be tried again.
        minutes: u64,
    },
    /// The record of the ceremony.
    #[error("the ceremony record {} cannot be written, and the KEK stays the one it was", file.display())]
    Record {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database did not take what it must take.
    #[error("the database did not make KEK {kek} the active one")]
    NotBegun {
        /// Its id.
        kek: TokenKeyId,
    },
    /// What changes all the time was not wrapped anew to its end.
    #[error("records changed faster than they were wrapped anew\nhint: run `eds-keystored hsm rewrap` again")]
    Restless,
    /// The token.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing could be wrapped.
    #[error(transparent)]
    Wrap(#[from] WrapError),
    /// The file of wrapped key pairs.
    #[error(transparent)]
    Wrapped(#[from] WrappedError),
    /// The identity file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The audit log does not tell of it.
    #[error(transparent)]
    Unlogged(#[from] ConsoleError),
}

impl RotationError {
    /// Whether nothing was done because nothing may be done, rather than because something failed.
    fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NoId(_)
                | Self::Missing { .. }
                | Self::Active { .. }
                | Self::Named { .. }
                | Self::NamedByKeys { .. }
                | Self::TooEarly { .. }
        )
    }

    /// Whether the same may succeed later without anybody doing anything.
    fn may_pass(&self) -> bool {
        match self {
            Self::Hsm(error) | Self::Wrap(WrapError::Hsm(error)) => error.kind() == HsmErrorKind::Retry,
            Self::Store(error) | Self::Wrap(WrapError::Store(error)) => error.may_pass(),
            _ => false,
        }
    }
}

/// What officers work with, beside a server or without: token, database and identity of a node, which belong together.
pub(crate) struct Office {
    identity: Identity,
    hsm: Arc<Pkcs11Hsm>,
    store: Arc<dyn ShareStore>,
}

impl Office {
    pub(crate) fn open(config: &Config) -> Result<Self, RotationError> {
        let identity = Identity::load(&config.identity)?;
        let store = store::open_current(&config.store)?;
        let keks = store.keks()?;
        let active = keks.iter().find(|kek| kek.state == KekState::Active).ok_or(WrapError::NoKek)?;
        let hsm = Pkcs11Hsm::open_with_kek(&config.hsm, Some(TokenKeyId::from_bytes(active.id)))?;
        let origin = store.origin()?;
        if origin.node != identity.node {
            let reason = format!("the database is of node {}, the identity file of {}", origin.node, identity.node);
            return Err(RotationError::Apart { what: "database and identity file", reason });
        }
        let mut checks = belongs(&hsm, origin.node, origin.canary, &origin.policy_canary);
        checks.push(opens_older(&hsm, origin.node, &keks));
        for check in checks {
            if let Err(reason) = check.outcome {
                return Err(RotationError::Apart { what: check.what, reason });
            }
        }
        Ok(Self { identity, hsm: Arc::new(hsm), store })
    }

    pub(crate) fn node(&self) -> NodeId {
        self.identity.node
    }

    pub(crate) fn hsm(&self) -> &Arc<Pkcs11Hsm> {
        &self.hsm
    }

    pub(crate) fn store(&self) -> &dyn ShareStore {
        self.store.as_ref()
    }

    /// The audit log that tells what is done here.
    pub(crate) fn console(&self, config: &Config) -> Console {
        Console::new(&config.audit, &self.identity, Some(Arc::<Pkcs11Hsm>::clone(&self.hsm)))
    }
}

fn now() -> u64 {
    SystemClock.now()
}
