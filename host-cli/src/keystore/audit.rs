//! Signed heads of the nodes' audit logs, and proofs between them.

use std::future::Future;

use eds_core::{api::Binary, directory::Node};
use serde::Deserialize;

use super::{Keystore, NodeFault, Transport, status::parse, transport::Call};

#[derive(Deserialize)]
struct Proof {
    hashes: Vec<Binary>,
}

impl<T: Transport> Keystore<T> {
    /// The last signed head of a node's audit log, as a signed note. Nothing in it is checked.
    pub fn audit_checkpoint(&self, node: &Node) -> impl Future<Output = Result<String, NodeFault>> {
        let call = Call { path: "/v1/audit/checkpoint".into(), body: None };
        async move {
            let note = self.transport.call(node, call).await?;
            String::from_utf8(note.to_vec()).map_err(|_| NodeFault::BadAnswer("its checkpoint is not text".into()))
        }
    }

    /// The hashes with which a node proves that its first `new` entries continue its first `old`. Not checked.
    pub async fn audit_consistency(&self, node: &Node, old: u64, new: u64) -> Result<Vec<[u8; 32]>, NodeFault> {
        let call = Call { path: format!("/v1/audit/proof/consistency/{old}/{new}"), body: None };
        let proof: Proof = parse(&self.transport.call(node, call).await?)?;
        let hashes = proof.hashes.into_iter().map(|hash| <[u8; 32]>::try_from(hash.0));
        hashes
            .collect::<Result<_, _>>()
            .map_err(|_| NodeFault::BadAnswer("its proof has a hash of another length".into()))
    }
}
