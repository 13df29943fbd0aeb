//! What waits in the queue goes to the key servers that were away.
//!
//! In rounds, so that what was delivered has left the queue when a later round is cut off. A registration that was
//! interrupted before it was acknowledged is looked at only while nobody registers: it may be one that still runs.

use std::time::Duration;

use eds_core::ids::{KeyId, ShareIndex};

use super::{Nodes, Session};
use crate::{
    Error,
    keystore::{Away, Fate, Kept, NodeError, ROUND},
    queue::{self, Entry, Queue},
};

/// How long a command that registers may take for what waits from before.
const IN_PASSING: Duration = Duration::from_secs(3);

impl Nodes {
    /// Delivers what waits in the queue, and tells what became of each message. What stays is in the queue with the reason.
    ///
    /// # Errors
    /// [`queue::Error`]; what `told` failed with.
    pub fn deliver(
        &self,
        queue: &mut Queue,
        mut told: impl FnMut(&Entry, &Fate) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut away = Away::new();
        if let Some(_lock) = queue.alone()? {
            let interrupted = queue.contents()?.entries.into_iter().filter(|entry| !entry.acknowledged);
            self.rounds(queue, &interrupted.collect::<Vec<_>>(), &mut away, &mut told)?;
        }
        let counted = queue.contents()?.entries.into_iter().filter(|entry| entry.acknowledged);
        self.rounds(queue, &counted.collect::<Vec<_>>(), &mut away, &mut told)
    }

    /// Delivers some of what waits for nodes that were not found away just now, within a bounded time.
    ///
    /// # Errors
    /// [`queue::Error`].
    pub fn deliver_in_passing(&self, late: &[NodeError]) -> Result<(), Error> {
        let Some(mut queue) = Queue::open_if_there(&self.state)? else { return Ok(()) };
        let mut entries = queue.contents()?.entries;
        entries.retain(|entry| entry.acknowledged && late.iter().all(|error| error.node != entry.message.node));
        entries.truncate(ROUND);
        if entries.is_empty() {
            return Ok(());
        }
        let (kept, mut away) = (kept(&entries), Away::new());
        let delivered = async { tokio::time::timeout(IN_PASSING, self.keystore.deliver(&kept, &mut away)).await };
        // What was under way when the time was over is delivered again, which does no harm.
        let Ok(fates) = self.runtime.block_on(delivered) else { return Ok(()) };
        entries.iter().zip(&fates).try_for_each(|(entry, fate)| Ok(note(&mut queue, entry, fate)?))
    }

    fn rounds(
        &self,
        queue: &mut Queue,
        entries: &[Entry],
        away: &mut Away,
        told: &mut impl FnMut(&Entry, &Fate) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for round in entries.chunks(ROUND) {
            let fates = self.runtime.block_on(self.keystore.deliver(&kept(round), away));
            for (entry, fate) in round.iter().zip(&fates) {
                note(queue, entry, fate)?;
                told(entry, fate)?;
            }
        }
        Ok(())
    }

    /// Drops what waits of these keys and of no others; returns the nodes that a share of them waits for.
    pub(super) fn forget(&self, keys: &[KeyId]) -> Result<Vec<ShareIndex>, Error> {
        let Some(mut queue) = Queue::open_if_there(&self.state)? else { return Ok(Vec::new()) };
        let (mut nodes, mut dropped) = (Vec::new(), Vec::new());
        for key in keys {
            for entry in queue.of_key(*key)?.entries {
                nodes.push(entry.message.node);
                if entry.message.keys().iter().all(|key| keys.contains(key)) {
                    dropped.push(entry.number);
                }
            }
        }
        queue.remove(&dropped)?;
        Ok(nodes)
    }
}

impl Session {
    /// As [`Nodes::deliver_in_passing`].
    ///
    /// # Errors
    /// [`queue::Error`].
    pub fn deliver_in_passing(&self, late: &[NodeError]) -> Result<(), Error> {
        self.nodes.deliver_in_passing(late)
    }
}

fn kept(entries: &[Entry]) -> Vec<Kept<'_>> {
    entries.iter().map(|entry| Kept { message: &entry.message, acknowledged: entry.acknowledged }).collect()
}

fn note(queue: &mut Queue, entry: &Entry, fate: &Fate) -> Result<(), queue::Error> {
    match fate {
        Fate::Delivered(_) | Fate::Deleted | Fate::TakenBack => queue.remove(&[entry.number]),
        Fate::Stays(obstacle) => queue.hindered(entry.number, &obstacle.to_string()),
    }
}
