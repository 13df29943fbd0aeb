//! Where the time of a registration goes, and how far it is: counted by all threads, read by whoever shows progress.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Counters of a run.
#[derive(Debug, Default)]
pub struct Clock {
    bytes: AtomicU64,
    parse: AtomicU64,
    encrypt: AtomicU64,
    keys: AtomicU64,
    network: AtomicU64,
    record: AtomicU64,
}

/// What time is spent on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Reading headers and de-identifying them.
    Parse,
    /// Reading pixel data, encrypting and writing.
    Encrypt,
    /// Making and splitting keys.
    Keys,
    /// Waiting for the key servers.
    Network,
    /// Naming containers, and the databases.
    Record,
}

/// Where the time went, added up over all threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shares {
    /// Reading headers and de-identifying them.
    pub parse: Duration,
    /// Reading pixel data, encrypting and writing.
    pub encrypt: Duration,
    /// Making and splitting keys.
    pub keys: Duration,
    /// Waiting for the key servers.
    pub network: Duration,
    /// Naming containers, and the databases.
    pub record: Duration,
}

impl Clock {
    /// Bytes of originals that are done with.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn done_with(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn time<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let made = work();
        let spent = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.of(stage).fetch_add(spent, Ordering::Relaxed);
        made
    }

    /// Where the time went so far.
    pub fn shares(&self) -> Shares {
        let spent = |stage| Duration::from_nanos(self.of(stage).load(Ordering::Relaxed));
        Shares {
            parse: spent(Stage::Parse),
            encrypt: spent(Stage::Encrypt),
            keys: spent(Stage::Keys),
            network: spent(Stage::Network),
            record: spent(Stage::Record),
        }
    }

    fn of(&self, stage: Stage) -> &AtomicU64 {
        match stage {
            Stage::Parse => &self.parse,
            Stage::Encrypt => &self.encrypt,
            Stage::Keys => &self.keys,
            Stage::Network => &self.network,
            Stage::Record => &self.record,
        }
    }
}
