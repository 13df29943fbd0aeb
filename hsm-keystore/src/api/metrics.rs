//! `GET /metrics`: what Prometheus reads; for administrators of the node, or for whoever reaches its own listener.

use std::sync::Arc;

use axum::{
    Router,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{
    api::{ApiError, Call, Word},
    metrics::CONTENT_TYPE,
    node::Node,
};

/// `GET /metrics` of the API.
pub(super) async fn handler(call: Call) -> Result<Response, ApiError> {
    let policy = &call.shared.node.policy;
    if !policy.caller(&call.caller.subject, &call.caller.groups).administrator {
        let detail = "only an administrator of this node may read its metrics; docs/keystore.md tells of [metrics]";
        return Err(ApiError::new(Word::NotPermitted, detail));
    }
    Ok(told(&call.shared.node))
}

/// The routes of the listener for metrics alone, which asks nobody who they are.
pub fn metrics_router(node: Arc<Node>) -> Router {
    let only = || async {
        ApiError::new(Word::NotFound, "here is GET /metrics and nothing else; the API has another address")
    };
    Router::new()
        .route("/metrics", get(move || async move { told(&node) }))
        .fallback(only)
        .method_not_allowed_fallback(|| async { ApiError::new(Word::MethodNotAllowed, "use GET /metrics") })
}

fn told(node: &Node) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")], node.metrics.text(node))
        .into_response()
}
