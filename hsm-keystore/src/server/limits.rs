//! How much of a node one client, and all of them together, may take: bytes, time, connections.
//!
//! Every wait of a connection has an end: for its handshake, for the head of a request, for its body, for the work, for
//! the answer to be taken, and for the next request. What a client makes the node keep in memory meanwhile is bounded for
//! each connection, and for all bodies together.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limits of a node; section `[limits]` of its configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// How many connections are held at once; more wait in the system's queue.
    pub connections: usize,
    /// How many of them one address may have (of IPv6, one network of 64 bits); more are closed at once.
    pub connections_per_address: usize,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long the head of a request may take, from its first byte; the first one from the handshake.
    pub head: Duration,
    /// How many bytes a head may have.
    pub head_bytes: usize,
    /// How many fields a head may have.
    pub head_fields: usize,
    /// How long the body of a request may take.
    pub body: Duration,
    /// How many bytes a body may have. 1,000 keys among 32 nodes with a threshold of 16 are 2.4 MB.
    pub body_bytes: usize,
    /// How many bytes of bodies are in memory at once; callers wait for room until their body's time is over.
    pub bodies_bytes: usize,
    /// How long a request may take, its body included.
    pub request: Duration,
    /// How long a client may take to read an answer.
    pub answer: Duration,
    /// How long a connection without a request is kept.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connections: 16_384,
            // A sixteenth: one address cannot keep the others out, and a large site behind one address is served.
            connections_per_address: 1_024,
            handshake: seconds(10),
            head: seconds(10),
            head_bytes: 16 * 1024,
            head_fields: 100,
            body: seconds(20),
            body_bytes: 3 * 1024 * 1024,
            bodies_bytes: 256 * 1024 * 1024,
            request: seconds(30),
            answer: seconds(60),
            idle: seconds(60),
        }
    }
}

impl Limits {
    /// The limits with no more connections than this process may have files, less a reserve for what else it opens: the
    /// database, the audit log, the token. Raises the soft limit of the process to the hard one first.
    #[must_use]
    pub fn within_files(self) -> Self {
        let Some(most) = raise_files().map(|files| usize::try_from(files).unwrap_or(usize::MAX)) else { return self };
        let room = most.saturating_sub(RESERVE).max(1);
        if self.connections > room {
            let wanted = self.connections;
            tracing::warn!(
                wanted,
                held = room,
                "limits.connections is more than this process may have files (LimitNOFILE of the unit): fewer are held"
            );
        }
        Self { connections: self.connections.min(room), ..self }
    }
}

/// Raises how many files this process may have, and says how many; nothing when there is no limit.
pub fn raise_files() -> Option<u64> {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    if now.current != now.maximum
        && let Err(error) = setrlimit(Resource::Nofile, wanted)
    {
        tracing::warn!(%error, "the limit of open files could not be raised");
        return now.current;
    }
    now.maximum
}

/// Files that are no connections.
const RESERVE: usize = 256;
