//! How fast each node usually answers: which nodes to ask first and when to stop waiting for one.
//!
//! Kept between runs as a small JSON file in the client's state directory. It only steers speed: a lost, stale or forged
//! file changes who is asked first, never what is believed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use eds_core::ids::ShareIndex;
use serde::{Deserialize, Serialize};

/// How long a node is given before it has a history.
const FIRST_PATIENCE: Duration = Duration::from_millis(50);
/// The least patience: below it, a second question costs more than it saves.
const LEAST_PATIENCE: Duration = Duration::from_millis(1);
/// Samples kept for each node.
const SAMPLES: usize = 32;
/// A node that was slow or failed is asked last for this long, then tried again.
const DEMOTION_SECONDS: u64 = 60;

/// Answer times of the nodes.
#[derive(Debug, Default)]
pub struct Latencies {
    file: Option<PathBuf>,
    nodes: BTreeMap<u16, History>,
    changed: bool,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct History {
    /// Microseconds from question to answer, oldest first.
    micros: Vec<u32>,
    /// Seconds since 1970 until which the node is asked last.
    #[serde(default)]
    demoted_until: u64,
}

impl Latencies {
    /// Reads the history in this state directory; an unreadable one counts as none.
    pub fn load(state: &Path) -> Self {
        let file = state.join("latency.json");
        let nodes = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { file: Some(file), nodes, changed: false }
    }

    /// Writes the history back where it came from, when it changed.
    pub fn save(&mut self) {
        let Some(file) = self.file.as_ref().filter(|_| self.changed) else { return };
        self.changed = false;
        let Ok(bytes) = serde_json::to_vec(&self.nodes) else { return };
        let Some(directory) = file.parent() else { return };
        let Ok(mut temporary) = tempfile::NamedTempFile::new_in(directory) else { return };
        if std::io::Write::write_all(&mut temporary, &bytes).is_ok() {
            let _ = temporary.persist(file);
        }
    }

    /// How long to wait for this node before another is asked: its usual p95.
    pub fn patience(&self, node: ShareIndex) -> Duration {
        match self.nodes.get(&node.value()).filter(|history| !history.micros.is_empty()) {
            None => FIRST_PATIENCE,
            Some(history) => history.percentile_95().max(LEAST_PATIENCE),
        }
    }

    /// Notes an answer after this time.
    pub fn answered(&mut self, node: ShareIndex, after: Duration) {
        self.note(node, after, 0);
    }

    /// Notes that the node failed, or had not answered after this time when it was no longer needed.
    pub fn let_down(&mut self, node: ShareIndex) {
        let until = now() + DEMOTION_SECONDS;
        self.nodes.entry(node.value()).or_default().demoted_until = until;
        self.changed = true;
    }

    /// These nodes in the order in which to ask them: those that let nobody down, quickest first.
    pub fn order(&self, nodes: impl IntoIterator<Item = ShareIndex>) -> Vec<ShareIndex> {
        let now = now();
        let mut order: Vec<ShareIndex> = nodes.into_iter().collect();
        order.sort_by_key(|node| match self.nodes.get(&node.value()) {
            None => (false, Duration::ZERO),
            Some(history) => (history.demoted_until > now, history.percentile_95()),
        });
        order
    }

    fn note(&mut self, node: ShareIndex, after: Duration, demoted_until: u64) {
        let history = self.nodes.entry(node.value()).or_default();
        if history.micros.len() >= SAMPLES {
            history.micros.remove(0);
        }
        history.micros.push(u32::try_from(after.as_micros()).unwrap_or(u32::MAX));
        history.demoted_until = demoted_until;
        self.changed = true;
    }
}

impl History {
    fn percentile_95(&self) -> Duration {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let position = (sorted.len() * 95).div_ceil(100).saturating_sub(1);
        Duration::from_micros(sorted.get(position).copied().unwrap_or(0).into())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_secs()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u16) -> ShareIndex {
        ShareIndex::new(number).expect("not zero")
    }

    #[test]
    fn a_slow_node_is_asked_last_and_its_usual_time_is_kept() {
        let state = tempfile::tempdir().expect("a temporary directory");
        let mut latencies = Latencies::load(state.path());
        assert_eq!(latencies.patience(node(1)), FIRST_PATIENCE);
        for _ in 0..100 {
            latencies.answered(node(1), Duration::from_millis(9));
            latencies.answered(node(2), Duration::from_millis(4));
        }
        latencies.let_down(node(3));
        latencies.save();
        let again = Latencies::load(state.path());
        assert_eq!(again.patience(node(1)), Duration::from_millis(9));
        assert_eq!(again.order([1, 3, 2].map(node)), [2, 1, 3].map(node));
        assert_eq!(again.nodes[&1].micros.len(), SAMPLES);
    }

    #[test]
    fn a_broken_history_counts_as_none() {
        let state = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(state.path().join("latency.json"), b"{").expect("writes");
        assert_eq!(Latencies::load(state.path()).patience(node(1)), FIRST_PATIENCE);
    }
}
