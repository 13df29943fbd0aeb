//! The late share of a key that an imaging device made.
//!
//! A courier may not read access lists, and brings none: the late node gives the key the list of the device's enrolment, which
//! may be older than a change that the owner made since. That is why a courier's quorum is to be more than n − m: then the late
//! nodes alone are too few for anybody. What was deleted is not brought back: couriers are told of tombstones.

use eds_core::{directory::Node, ids::ShareIndex};

use super::{Away, Fate, Keystore, Message, NodeFault, Obstacle, Transport, addressee, node_error};

impl<T: Transport> Keystore<T> {
    pub(super) async fn deliver_of_device(&self, message: &Message, away: &mut Away) -> Result<Fate, Obstacle> {
        let node = addressee(self.directory(), &self.registrant, message)?;
        let (keys, confirm) = (message.keys(), message.confirms_at());
        let is_other = |other: &&Node| {
            let holds = |manifest: &eds_core::manifest::Manifest| manifest.share_digest(other.number).is_some();
            other.number != node.number && message.manifests().iter().any(holds)
        };
        let others: Vec<Node> = self.directory().nodes.iter().filter(is_other).cloned().collect();
        // Whom the confirmation did not reach before, it reaches now; who deleted the key says so.
        let said = self.tell_each(&others, confirm, &keys).await;
        let says = |word| said.iter().filter(move |error| error.fault.is(word));
        let deleted: Vec<ShareIndex> = says("key-deleted").map(|error| error.node).collect();
        if let (false, Some(key)) = (deleted.is_empty(), keys.first()) {
            let gone = deleted.len() + says("key-not-found").count();
            return if gone == others.len() {
                Ok(Fate::Deleted)
            } else {
                Err(Obstacle::HalfDeleted { key: *key, nodes: deleted })
            };
        }
        let failed = |fault| Obstacle::Node(node_error(node, fault));
        if let Some(fault) = away.get(&node.number) {
            return Err(failed(fault.clone()));
        }
        if let Err(fault) = self.tell_one(node, message.call(Vec::new()), &keys).await {
            if matches!(fault, NodeFault::Unreachable(_) | NodeFault::Timeout | NodeFault::Tls(_)) {
                away.insert(node.number, fault.clone());
            }
            return Err(failed(fault));
        }
        self.tell_one(node, super::keys_call(confirm, &keys), &keys).await.map_err(failed)?;
        Ok(Fate::Delivered(Vec::new()))
    }
}
