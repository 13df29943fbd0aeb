//! The HTTP API of a node, version 1: JSON bodies of `eds_core::api`, errors as RFC 9457 problem documents.
//!
//! Every request gets an id, which is in its answer, in the log and in the audit log. A request is authenticated before its body is read,
//! has a bounded body and a bounded time, and its work, which blocks on token and database, is done by a bounded number
//! of threads.

mod access;
mod audit;
mod fetch;
mod keys;
mod known;
mod layers;
mod problem;
mod register;
mod status;
mod strangers;
mod trail;
mod whoami;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{FromRequest, Request},
    middleware,
    routing::{get, post},
};
use eds_core::api::MAX_BATCH;
use serde::de::DeserializeOwned;
use tokio::{sync::Semaphore, task};

use self::known::Known;
pub use self::{
    audit::AuditProof,
    known::Peer,
    problem::{ApiError, Word},
    trail::PeerAddress,
};
use crate::{authn::Authenticator, node::Node};

/// The longest body, in bytes. 1,000 keys among 32 nodes with a threshold of 16 are 2.4 MB.
pub const MAX_BODY: usize = 3 * 1024 * 1024;
/// How many requests work at once; others wait for one to finish.
const WORKERS: usize = 64;

/// What all handlers share.
#[derive(Clone)]
struct Shared {
    node: Arc<Node>,
    authenticator: Arc<Authenticator>,
    workers: Arc<Semaphore>,
    readiness: status::Readiness,
    strangers: Arc<strangers::Strangers>,
}

/// The routes of a node.
pub fn router(node: Arc<Node>, authenticator: Arc<Authenticator>) -> Router {
    let shared = Shared {
        node,
        authenticator,
        workers: Arc::new(Semaphore::new(WORKERS)),
        readiness: status::Readiness::default(),
        strangers: Arc::default(),
    };
    Router::new()
        .route("/v1/register", post(register::handler))
        .route("/v1/confirm", post(keys::confirm))
        .route("/v1/withdraw", post(keys::withdraw))
        .route("/v1/unregister", post(keys::unregister))
        .route("/v1/fetch", post(fetch::handler))
        .route("/v1/keys/{id}", get(keys::information))
        .route("/v1/access/read", post(access::read))
        .route("/v1/access/change", post(access::change))
        .route("/v1/list", post(access::list))
        .route("/v1/why", post(access::why))
        .route("/v1/whoami", get(whoami::handler))
        .route("/v1/node", get(status::node))
        .route("/v1/audit/checkpoint", get(audit::checkpoint))
        .route("/v1/audit/proof/inclusion/{index}/{size}", get(audit::inclusion))
        .route("/v1/audit/proof/consistency/{old}/{new}", get(audit::consistency))
        .route("/healthz", get(status::healthy))
        .route("/readyz", get(status::ready))
        .fallback(|| async { ApiError::new(Word::NotFound, "the paths of this API are in its description") })
        .method_not_allowed_fallback(|| async { ApiError::new(Word::MethodNotAllowed, "") })
        .layer(middleware::from_fn_with_state(shared.clone(), layers::around))
        .with_state(shared)
}

impl Shared {
    /// Does work that blocks, on a thread that may.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Node) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let internal = || ApiError::new(Word::Internal, "this node's officers must look at its log");
        let permit = Arc::clone(&self.workers).acquire_owned().await.map_err(|_| internal())?;
        let node = Arc::clone(&self.node);
        let done = task::spawn_blocking(move || {
            let _permit = permit;
            work(&node)
        });
        done.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request was not finished");
            Err(internal())
        })
    }
}

/// The bytes of a body, as they came.
struct Raw(Bytes);

impl FromRequest<Shared> for Raw {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, ApiError> {
        let body: Body = request.into_body();
        match http_body_util::BodyExt::collect(http_body_util::Limited::new(body, MAX_BODY)).await {
            Ok(collected) => Ok(Self(collected.to_bytes())),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Err(ApiError::new(Word::BodyTooLarge, format!("a body has at most {MAX_BODY} bytes")))
            }
            Err(_) => Err(ApiError::new(Word::BadRequest, "the body did not arrive whole")),
        }
    }
}

/// Reads a JSON body.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // The message tells the place and the field; what the caller sent stays out of it but for unknown field names.
    serde_json::from_slice(body).map_err(|error| ApiError::new(Word::BadRequest, format!("JSON: {error}")))
}

/// Refuses batches that are empty or too large.
fn check_batch(count: usize) -> Result<(), ApiError> {
    match count {
        0 => Err(ApiError::new(Word::BadRequest, "the list of keys is empty")),
        1..=MAX_BATCH => Ok(()),
        _ => Err(ApiError::new(Word::BatchTooLarge, format!("{count} keys; one call takes up to {MAX_BATCH}"))),
    }
}

#[cfg(test)]
mod tests;
