//! What each node holds of a key, whether each node can be used, and whom it takes the caller for: for `eds key status`,
//! `eds doctor` and `eds whoami`.

use std::{sync::Arc, time::Duration};

use eds_core::{
    api::{KeyInfo, NodeInfo, whoami::WhoAmI},
    directory::Node,
    ids::KeyId,
};
use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::{Keystore, NodeFault, Transport, transport::Call};

/// What each node holds of a key, in the order of the directory.
pub type KeyStatus = Vec<NodeView<KeyInfo>>;

/// Whether each node can be used, in the order of the directory.
pub type NodeStatus = Vec<NodeView<NodeInfo>>;

/// One node and what it said.
#[derive(Debug)]
pub struct NodeView<A> {
    /// The node, as the directory describes it.
    pub node: Node,
    /// Its answer, or what happened instead.
    pub answer: Result<A, NodeFault>,
}

impl<T: Transport> Keystore<T> {
    /// Asks every node what it holds of a key.
    pub async fn key_status(&self, key: KeyId) -> KeyStatus {
        self.ask_everyone(&format!("/v1/keys/{key}"), None, Duration::MAX, parse).await
    }

    /// Asks every node whom it takes the caller for.
    pub async fn whoami(&self) -> Vec<NodeView<WhoAmI>> {
        self.ask_everyone("/v1/whoami", None, Duration::MAX, parse).await
    }

    /// Asks every node who it is and whether it is ready, and compares the answer with the directory.
    pub async fn node_status(&self) -> NodeStatus {
        let mut views = self.ask_everyone::<NodeInfo>("/v1/node", None, Duration::MAX, parse).await;
        let ready = self.ask_everyone("/readyz", None, Duration::MAX, |_| Ok(())).await;
        for (view, ready) in views.iter_mut().zip(ready) {
            if let (Ok(_), Err(fault)) = (&view.answer, ready.answer) {
                view.answer = Err(fault);
            }
            if let Ok(info) = &view.answer {
                let agrees = info.cluster == self.directory().cluster
                    && info.node == view.node.id
                    && info.number == view.node.number
                    && info.transport_key.0 == view.node.transport_key.0;
                if !agrees {
                    let what = "it is not the node that the cluster directory describes";
                    view.answer = Err(NodeFault::BadAnswer(what.into()));
                }
            }
        }
        views
    }

    /// Asks every node at once; one that takes longer than `patience` (or than any call may) has not answered.
    pub(super) async fn ask_everyone<A: Send + 'static>(
        &self,
        path: &str,
        body: Option<Bytes>,
        patience: Duration,
        read: fn(&Bytes) -> Result<A, NodeFault>,
    ) -> Vec<NodeView<A>> {
        let mut running = JoinSet::new();
        for node in self.directory().nodes.iter().cloned() {
            let transport = Arc::clone(&self.transport);
            let call = Call { path: path.into(), body: body.clone() };
            running.spawn(async move {
                let answered = tokio::time::timeout(patience, transport.call(&node, call)).await;
                let answer = answered.unwrap_or(Err(NodeFault::Timeout)).and_then(|body| read(&body));
                NodeView { node, answer }
            });
        }
        let mut views = running.join_all().await;
        views.sort_by_key(|view| view.node.number);
        views
    }
}

pub(super) fn parse<A: DeserializeOwned>(body: &Bytes) -> Result<A, NodeFault> {
    serde_json::from_slice(body).map_err(|error| NodeFault::BadAnswer(error.to_string()))
}
