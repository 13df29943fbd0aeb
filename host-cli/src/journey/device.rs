//! What an imaging device made goes to the key servers; the parts of those that are away wait in the queue.

use eds_core::link::Bundle;

use super::Nodes;
use crate::{
    Error,
    keystore::{Message, Quorum, Registered},
    queue::Queue,
};

impl Nodes {
    /// Delivers a bundle to as many nodes as the quorum asks for. The parts of the others wait in the queue, which is on the
    /// disk before this returns. Doing it again does no harm, and queues nothing twice.
    ///
    /// # Errors
    /// [`crate::keystore::DeliverError`], [`crate::queue::Error`]: bring the bundle again.
    pub fn deliver_bundle(&self, bundle: &Bundle<'_>, quorum: Quorum) -> Result<Registered, Error> {
        let unbundled = self.keystore.unbundle(bundle, quorum)?;
        let key = bundle.manifest().key;
        self.runtime.block_on(self.keystore.deliver_bundle(&unbundled, |messages: &[Message]| {
            let mut queue = Queue::open(&self.state)?;
            let before = queue.of_key(key)?.entries;
            let is_new = |message: &&Message| before.iter().all(|entry| entry.message.node != message.node);
            let new: Vec<Message> = messages.iter().filter(is_new).cloned().collect();
            let numbers = queue.keep(&new, &self.registrant)?;
            // It counts from now on: enough nodes hold it, and nobody takes back what a device made.
            Ok::<_, Error>(queue.acknowledge(&numbers)?)
        }))
    }
}
