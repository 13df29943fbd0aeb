//! Keeps one connection more than a fetch needs, in a process that fetches again and again: to the node that is asked
//! next when one is slow.
//!
//! A handshake costs more than an answer, and would be added exactly to those fetches that are late already. A process
//! that fetches once, as most commands do, opens nothing beforehand. What is kept here steers speed alone.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use eds_core::ids::ShareIndex;

/// How long a connection counts as open after it was used. A node closes idle ones after 60 seconds.
const OPEN: Duration = Duration::from_secs(45);

/// Which nodes have an open connection, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Spares {
    fetched: Option<Instant>,
    open_since: BTreeMap<ShareIndex, Instant>,
}

impl Spares {
    /// Notes that a fetch begins, and tells whether there was another one not long ago.
    pub(super) fn fetches_again(&mut self, now: Instant) -> bool {
        let before = self.fetched.replace(now);
        before.is_some_and(|before| now.saturating_duration_since(before) < OPEN)
    }

    /// Notes that the node answered.
    pub(super) fn used(&mut self, node: ShareIndex, now: Instant) {
        self.open_since.insert(node, now);
    }

    /// Notes that the connection to the node is gone: the call failed, or was given up.
    pub(super) fn lost(&mut self, node: ShareIndex) {
        self.open_since.remove(&node);
    }

    /// Whether a connection to this node is to be opened. Counts it as open from then on, so that one is enough.
    pub(super) fn is_missing(&mut self, node: ShareIndex, now: Instant) -> bool {
        let open = self.open_since.get(&node).is_some_and(|since| now.saturating_duration_since(*since) < OPEN);
        if !open {
            self.used(node, now);
        }
        !open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_opened_once_and_again_when_it_is_lost_or_old() {
        let node = ShareIndex::new(3).expect("not zero");
        let (mut spares, start) = (Spares::default(), Instant::now());
        assert!(!spares.fetches_again(start), "the first fetch of a process");
        assert!(spares.fetches_again(start + Duration::from_secs(1)));
        assert!(!spares.fetches_again(start + Duration::from_secs(1) + OPEN), "after a long pause");
        assert!(spares.is_missing(node, start));
        assert!(!spares.is_missing(node, start));
        spares.lost(node);
        assert!(spares.is_missing(node, start));
        assert!(!spares.is_missing(node, start + OPEN - Duration::from_secs(1)));
        spares.used(node, start + Duration::from_secs(2));
        assert!(!spares.is_missing(node, start + OPEN));
        assert!(spares.is_missing(node, start + OPEN + Duration::from_secs(2)));
    }
}
