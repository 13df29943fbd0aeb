//! A node at work: its identity, the cluster directory, its token and its store, shared by all requests.

pub mod access;
pub mod startup;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use eds_core::{
    directory::Directory,
    ids::{NodeId, ShareIndex},
};

use crate::{
    hsm::{Hsm, RecordContext, record::Purpose},
    node::access::AccessGuard,
    store::{ShareStore, StoredBody, StoredKey},
};

/// Where a node reads the time, in seconds since 1970.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> u64;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

/// What all requests share.
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its number in the directory, which is the index of its shares.
    pub number: ShareIndex,
    /// The cluster directory, verified.
    pub directory: Directory,
    /// The token.
    pub hsm: Arc<dyn Hsm>,
    /// The store.
    pub store: Arc<dyn ShareStore>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Checks access lists as they are read.
    pub access: AccessGuard,
}

impl Node {
    /// A node of these parts. [`startup`] makes it from a configuration, after its checks.
    pub fn new(
        id: NodeId,
        number: ShareIndex,
        directory: Directory,
        hsm: Arc<dyn Hsm>,
        store: Arc<dyn ShareStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let access = AccessGuard::new(id, Arc::clone(&hsm));
        Self { id, number, directory, hsm, store, clock, access }
    }

    /// What the record of a stored share is bound to.
    pub fn record_context(&self, stored: &StoredKey, body: &StoredBody) -> RecordContext {
        RecordContext {
            purpose: Purpose::Share,
            key: stored.key,
            node: self.id,
            epoch: body.epoch,
            index: self.number,
            manifest: stored.manifest_digest,
        }
    }
}
