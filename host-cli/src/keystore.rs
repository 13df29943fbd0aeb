//! The quorum client: registers keys with every node of the cluster and fetches them from any m.
//!
//! Nodes are found in the signed cluster directory and nowhere else. Nothing that a node says is believed alone: shares
//! are checked against the digests of a manifest, and a manifest only counts when it fits the key anchor of a container,
//! is the one the catalog recorded, or is returned by enough nodes (`docs/formats.md`, "Manifest"). A node that answers
//! wrongly is named.
//!
//! | part | purpose |
//! |---|---|
//! | `identity` | the caller's proof, and the TLS configuration made of it |
//! | `transport` | one call to one node |
//! | `alarm` | when to stop waiting for a node |
//! | `spare` | the connection to the node that would be asked next |
//! | `latency` | how fast each node usually answers, kept between runs |
//! | `gather` | which answers make a key, who contradicts: no I/O |
//! | `fetch`, `register`, `status` | the calls to many nodes |
//! | `device` | what an imaging device made, brought by a courier |
//! | `late` | what is delivered to a node that was away at a registration |
//! | `name` | the keys of names |
//! | `audit` | signed heads of audit logs and proofs between them |
//! | `access` | access lists: who may do what with a key |

pub mod access;
mod alarm;
mod audit;
mod device;
mod error;
mod fetch;
mod gather;
mod identity;
mod late;
mod latency;
mod name;
mod register;
mod spare;
mod status;
mod transport;

pub use device::{DeliverError, Unbundled};
pub use error::{Culprit, Enough, FetchError, KeystoreError, NodeError, NodeFault, RegisterError, kind_of};
pub use fetch::Fetched;
pub use gather::{Evidence, Want};
pub use identity::Identity;
pub use late::{Away, Fate, Kept, Message, Obstacle, ROUND};
pub use latency::Latencies;
pub use name::{NameError, Named};
pub use register::{NewKey, Prepared, Quorum, Registered, Terms};
pub use status::{KeyStatus, NodeStatus, NodeView};
pub use transport::{Call, HttpTransport, Transport};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eds_core::directory::{Directory, Node};

use self::spare::Spares;

/// A client of the key servers of one cluster.
pub struct Keystore<T = HttpTransport> {
    directory: Directory,
    registrant: [u8; 32],
    transport: Arc<T>,
    latencies: Mutex<Latencies>,
    spares: Arc<Mutex<Spares>>,
}

impl Keystore<HttpTransport> {
    /// A client that calls the nodes of `directory` as `identity`.
    pub fn connect(directory: Directory, identity: &Identity, latencies: Latencies) -> Self {
        Self::new(directory, identity.registrant(), HttpTransport::new(identity), latencies)
    }
}

impl<T: Transport> Keystore<T> {
    /// A client over this transport; `registrant` is the digest of the caller's name (`eds_core::registrant`).
    pub fn new(directory: Directory, registrant: [u8; 32], transport: T, latencies: Latencies) -> Self {
        let (transport, latencies) = (Arc::new(transport), Mutex::new(latencies));
        Self { directory, registrant, transport, latencies, spares: Arc::default() }
    }

    /// The signed directory in use.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The digest of the caller's name.
    pub fn registrant(&self) -> &[u8; 32] {
        &self.registrant
    }

    /// Keeps what was learned about the speed of the nodes for the next run. Best effort: a client without a writable
    /// state directory is only slower.
    pub fn keep_latencies(&self) {
        self.latencies().save();
    }

    fn latencies(&self) -> MutexGuard<'_, Latencies> {
        lock(&self.latencies)
    }

    fn spares(&self) -> MutexGuard<'_, Spares> {
        lock(&self.spares)
    }

    fn active_nodes(&self) -> Vec<Node> {
        self.directory.active().cloned().collect()
    }
}

/// What steers speed alone is used as it is left by whoever panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
