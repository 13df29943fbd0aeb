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
    Ok(told(Arc::clone(&call.shared.node)).await)
}

/// The routes of the listener for metrics alone, which asks nobody who they are.
pub fn metrics_router(node: Arc<Node>) -> Router {
    let only = || async {
        ApiError::new(Word::NotFound, "here is GET /metrics and nothing else; the API has another address")
    };
    Router::new()
        .route("/metrics", get(move || told(Arc::clone(&node))))
        .fallback(only)
        .method_not_allowed_fallback(|| async { ApiError::new(Word::MethodNotAllowed, "use GET /metrics") })
}

async fn told(node: Arc<Node>) -> Response {
    let text = tokio::task::spawn_blocking(move || node.metrics.text(&node)).await;
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be read");
            ApiError::new(Word::Internal, "this node could not read its metrics; its log says why").into_response()
        }
    }
}
