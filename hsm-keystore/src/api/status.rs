//! Who the node is, whether it lives and whether it can work.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, extract::State, http::header, response::IntoResponse};
use eds_core::api::{Binary, NodeInfo};
use tokio::sync::Mutex;

use crate::{
    api::{ApiError, Call, Shared, Word},
    node::{Node, kek::WrapError},
};

/// `GET /v1/node`.
pub(super) async fn node(call: Call) -> Json<NodeInfo> {
    let node = &call.shared.node;
    let suites = node.directory.node(node.number).map(|entry| entry.suites.to_vec()).unwrap_or_default();
    Json(NodeInfo {
        cluster: node.directory.cluster,
        node: node.id,
        number: node.number,
        directory_version: node.directory.version,
        transport_key: Binary(node.hsm.transport_key().0.to_vec()),
        suites,
        weaker: node.hsm.facts().custody.weaker().map(str::to_owned),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        caller: call.caller.subject.display.clone(),
    })
}

/// `GET /healthz`: the process answers.
pub(super) async fn healthy() -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], "ok\n")
}

/// For how long a token that worked is taken to work.
const FRESH: Duration = Duration::from_secs(1);

/// When the node was last found able to work. Whoever holds the lock is the only one to try.
pub(super) type Readiness = Arc<Mutex<Option<Instant>>>;

/// `GET /readyz`: the token encrypts and decrypts, and the database answers.
///
/// Anybody may ask, so the token is tried once a second at most and by one request at a time.
pub(super) async fn ready(State(shared): State<Shared>) -> Result<impl IntoResponse, ApiError> {
    let mut last = shared.readiness.lock().await;
    if last.is_none_or(|found| found.elapsed() >= FRESH) {
        *last = None;
        shared.work(try_everything).await?;
        *last = Some(Instant::now());
    }
    Ok(([(header::CACHE_CONTROL, "no-store")], "ready\n"))
}

fn try_everything(node: &Node) -> Result<(), ApiError> {
    node.hsm.canary()?;
    match node.wrapping.count(1) {
        // What is stored is still given.
        Ok(()) | Err(WrapError::UsedUp { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    node.store.ping().map_err(|error| match ApiError::from(error) {
        passing if passing.word() == Word::Busy => passing,
        _ => ApiError::new(Word::Busy, "the database does not answer"),
    })
}
