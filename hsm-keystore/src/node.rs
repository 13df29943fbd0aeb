//! A node at work: its identity, the cluster directory, its token and its store, shared by all requests.

pub mod access;
pub mod devices;
pub mod kek;
pub mod names;
pub mod startup;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use eds_core::{
    directory::Directory,
    ids::{NodeId, ShareIndex},
};

use crate::{
    audit::{AppendError, Decision, Log, Operation, Who, signer},
    hsm::{Health, Hsm, measured::Measured, self_test::described},
    logging::Trouble,
    metrics::Metrics,
    node::{access::AccessGuard, devices::DeviceGuard, kek::Wrapping, names::NameGuard},
    policy::node::NodePolicy,
    shares::{ShareContext, ToOpen},
    store::{ShareStore, StoredBody, StoredKey},
};

/// Where a node reads the time, in seconds since 1970.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> u64;

    /// The time now, in milliseconds, as far as the clock tells them.
    fn now_milliseconds(&self) -> u64 {
        self.now().saturating_mul(1_000)
    }
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        self.now_milliseconds() / 1_000
    }

    fn now_milliseconds(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
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
    /// Wraps new shares.
    pub wrapping: Wrapping,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Checks access lists as they are read.
    pub access: AccessGuard,
    /// Checks enrolments of imaging devices as they are read.
    pub devices: DeviceGuard,
    /// Checks names of keys as they are read.
    pub names: NameGuard,
    /// The log of every decision.
    pub audit: Arc<Log>,
    /// Who administers the node, and who may register keys.
    pub policy: NodePolicy,
    /// What Prometheus reads.
    pub metrics: Arc<Metrics>,
}

impl Node {
    /// A node of these parts, with the policy of a node whose configuration names none. [`startup`] makes it from a
    /// configuration, after its checks.
    pub fn new(
        id: NodeId,
        number: ShareIndex,
        directory: Directory,
        hsm: Arc<dyn Hsm>,
        store: Arc<dyn ShareStore>,
        clock: Arc<dyn Clock>,
        audit: Arc<Log>,
    ) -> Self {
        let metrics = Arc::new(Metrics::default());
        let hsm: Arc<dyn Hsm> = Arc::new(Measured::new(hsm, Arc::clone(&metrics)));
        let access = AccessGuard::new(id, Arc::clone(&hsm));
        let devices = DeviceGuard::new(id, Arc::clone(&hsm));
        let names = NameGuard::new(id, Arc::clone(&hsm));
        let wrapping = Wrapping::new(Arc::clone(&hsm), Arc::clone(&store));
        let policy = NodePolicy::default();
        Self { id, number, directory, hsm, store, wrapping, clock, access, devices, names, audit, policy, metrics }
    }

    /// The node with this policy.
    #[must_use]
    pub fn with_policy(self, policy: NodePolicy) -> Self {
        Self { policy, ..self }
    }

    /// Writes into the audit log that the server started or stopped.
    ///
    /// # Errors
    /// [`AppendError`]: do not serve then.
    pub async fn log_life(&self, operation: Operation) -> Result<(), AppendError> {
        let decision = Decision::plain(self.clock.now_milliseconds(), operation, Who::node());
        self.audit.append(vec![decision]).await.map(drop)
    }

    /// Signs the head of the audit log if it grew. What fails is told, and tried again at the next turn.
    pub async fn sign_checkpoint(&self) {
        let (audit, hsm, now) = (Arc::clone(&self.audit), Arc::clone(&self.hsm), self.clock.now());
        match tokio::task::spawn_blocking(move || signer::sign(&audit, &hsm, now)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if *self.hsm.health().borrow() != Health::Working || !UNSIGNED.calls() => {
                tracing::warn!(error = described(&error), "the audit log has no new checkpoint");
            }
            Ok(Err(error)) => tracing::error!(error = described(&error), "the audit log has no new checkpoint"),
            Err(error) => tracing::error!(%error, "the audit log has no new checkpoint"),
        }
    }

    /// Signs the head of the audit log at once, and then from time to time, for ever.
    pub async fn sign_checkpoints(self: Arc<Self>, every: Duration) {
        let mut turns = tokio::time::interval(every);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            self.sign_checkpoint().await;
        }
    }

    /// Takes the KEK that the database calls active, from time to time, for ever: a KEK that was rotated may leave the
    /// token some time later.
    pub async fn follow_kek(self: Arc<Self>) {
        let mut turns = tokio::time::interval(FOLLOW);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            let node = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || node.wrapping.follow()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(error = described(&error), "the active KEK is not known"),
                Err(error) => tracing::warn!(%error, "the active KEK is not known"),
            }
        }
    }

    /// The record of a stored share, with what it must be bound to.
    pub fn to_open<'a>(&self, stored: &StoredKey, body: &'a StoredBody) -> ToOpen<'a> {
        to_open(self.number, stored, body)
    }
}

/// Checkpoints that cannot be signed although the token works.
static UNSIGNED: Trouble = Trouble::new();

/// How often a process asks which KEK is active, beside when it is told that its own is not.
const FOLLOW: Duration = Duration::from_secs(30);

/// The record of a share that the node of this number stores, with what it must be bound to.
pub fn to_open<'a>(number: ShareIndex, stored: &StoredKey, body: &'a StoredBody) -> ToOpen<'a> {
    let (key, manifest) = (stored.key, stored.manifest_digest);
    ToOpen { context: ShareContext { key, epoch: body.epoch, index: number, manifest }, record: &body.record }
}
