//! Who the node is, whether it lives and whether it can work.

use axum::{Json, extract::State, http::header, response::IntoResponse};
use eds_core::api::{Binary, NodeInfo};

use crate::api::{ApiError, Known, Shared, Word};

/// `GET /v1/node`.
pub(super) async fn node(State(shared): State<Shared>, Known(caller): Known) -> Json<NodeInfo> {
    let node = &shared.node;
    let suites = node.directory.node(node.number).map(|entry| entry.suites.to_vec()).unwrap_or_default();
    Json(NodeInfo {
        cluster: node.directory.cluster,
        node: node.id,
        number: node.number,
        directory_version: node.directory.version,
        transport_key: Binary(node.hsm.transport_key().0.to_vec()),
        suites,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        caller: caller.subject.display.clone(),
    })
}

/// `GET /healthz`: the process answers.
pub(super) async fn healthy() -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], "ok\n")
}

/// `GET /readyz`: the token encrypts and decrypts, and the database answers.
pub(super) async fn ready(State(shared): State<Shared>) -> Result<impl IntoResponse, ApiError> {
    shared
        .work(|node| {
            node.hsm.canary()?;
            node.store.ping().map_err(|error| match ApiError::from(error) {
                passing if passing.word() == Word::Busy => passing,
                _ => ApiError::new(Word::Busy, "the database does not answer"),
            })
        })
        .await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], "ready\n"))
}
