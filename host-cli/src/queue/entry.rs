//! What is in the queue: messages as they are read from its rows. A row that is not what was written is no message.

use std::collections::BTreeMap;

use eds_core::{
    api::RegisterRequest,
    ids::{NodeId, ShareIndex},
    manifest::Point,
};
use rusqlite::Row;
use sha2::{Digest, Sha256};
use x509_parser::time::ASN1Time;

use crate::keystore::Message;

/// What is in the queue.
#[derive(Debug, Default)]
pub struct Contents {
    /// The messages, oldest first.
    pub entries: Vec<Entry>,
    /// The numbers of those that are damaged.
    pub damaged: Vec<i64>,
}

/// A message that waits.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Its number in this queue, never used again.
    pub number: i64,
    /// What the node is to be sent.
    pub message: Message,
    /// Who registered, for display.
    pub registrant: String,
    /// Whether the registration was acknowledged.
    pub acknowledged: bool,
    /// Seconds since 1970 at which it was queued.
    pub since: u64,
    /// How often its delivery was tried in vain.
    pub tries: u64,
    /// What hindered it the last time, and when.
    pub hindrance: Option<(u64, String)>,
}

impl Contents {
    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.damaged.is_empty()
    }

    /// How many messages wait for each node.
    pub fn by_node(&self) -> BTreeMap<ShareIndex, usize> {
        self.entries.iter().fold(BTreeMap::new(), |mut nodes, entry| {
            *nodes.entry(entry.message.node).or_default() += 1;
            nodes
        })
    }

    /// How many shares wait.
    pub fn shares(&self) -> usize {
        self.entries.iter().map(|entry| entry.message.manifests().len()).sum()
    }

    /// Since when the oldest waits.
    pub fn since(&self) -> Option<u64> {
        self.entries.iter().map(|entry| entry.since).min()
    }
}

impl Entry {
    /// A row that is what was written.
    pub(super) fn of(number: i64, row: &Row<'_>) -> Option<Self> {
        let blob = |column| row.get_ref(column).ok()?.as_blob().ok();
        let message = Message::new(
            ShareIndex::new(row.get(1).ok()?).ok()?,
            NodeId::from_bytes(blob(2)?.try_into().ok()?),
            Point(blob(3)?.try_into().ok()?),
            blob(4)?.try_into().ok()?,
            serde_json::from_slice::<RegisterRequest>(blob(6)?).ok()?,
        );
        let message = message.ok()?;
        let registrant: String = row.get(5).ok()?;
        let since = row.get::<_, i64>(7).ok()?.unsigned_abs();
        if digest(&message, &registrant, since, blob(6)?) != blob(8)? {
            return None;
        }
        let tried: Option<i64> = row.get(11).ok()?;
        let hindrance: Option<String> = row.get(12).ok()?;
        Some(Self {
            number,
            message,
            registrant,
            acknowledged: row.get(9).ok()?,
            since,
            tries: row.get::<_, i64>(10).ok()?.unsigned_abs(),
            hindrance: tried.map(i64::unsigned_abs).zip(hindrance),
        })
    }
}

/// A moment for people.
pub fn moment(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| ASN1Time::from_timestamp(seconds).ok())
        .map_or_else(|| format!("{seconds} s after 1970"), |time| time.to_string())
}

/// What must not change of a message on the disk.
pub(super) fn digest(message: &Message, registrant: &str, since: u64, request: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"eds/v1/queued");
    let (node, since) = (message.node.value().to_le_bytes(), since.to_le_bytes());
    let fields: [&[u8]; 7] = [
        &node,
        message.node_id.as_bytes(),
        &message.transport_key.0,
        &message.registrant,
        registrant.as_bytes(),
        &since,
        request,
    ];
    for field in fields {
        hash.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(field);
    }
    hash.finalize().into()
}

/// The columns of a message, in the order that [`Entry::of`] reads.
pub(super) const SELECT: &str = "SELECT number, node, node_id, transport_key, registrant, registrant_name, request, since, digest, \
                      acknowledged, tries, tried, hindrance FROM message";
