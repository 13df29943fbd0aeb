//! The HTTP API of a node, version 1: JSON bodies of `eds_core::api`, errors as RFC 9457 problem documents.
//!
//! Every request gets an id, which is in its answer, in the log and in the audit log. A request is authenticated before its body is read,
//! has a bounded body and a bounded time, and its work, which blocks on token and database, is done by a bounded number
//! of threads.

mod access;
mod audit;
mod call;
mod device;
mod fetch;
mod gathering;
mod keys;
mod known;
mod layers;
mod metrics;
mod openapi;
mod problem;
mod register;
mod release;
mod resolve;
mod routes;
mod status;
mod strangers;
mod trail;
mod whoami;

use std::{ops::Deref, sync::Arc};

use axum::{Router, middleware};
use tokio::{sync::Semaphore, task};

use self::call::{Call, Raw, Segments, check_batch, check_distinct, parse};
pub(crate) use self::layers::unread;
pub use self::{
    audit::AuditProof,
    known::Peer,
    metrics::metrics_router,
    problem::{ApiError, Word},
    routes::{ROUTES, Route},
    trail::PeerAddress,
};
use crate::{
    authn::Authenticator,
    node::Node,
    server::{Limits, addresses::Addresses},
};

/// How many requests work at once; others wait for one to finish.
const WORKERS: usize = 64;

/// What all handlers share.
#[derive(Clone)]
struct Shared(Arc<Parts>);

struct Parts {
    node: Arc<Node>,
    authenticator: Arc<Authenticator>,
    limits: Limits,
    workers: Arc<Semaphore>,
    /// Places for requests that are under way, those too whose clients went away.
    requests: Arc<Semaphore>,
    /// The share that each address has of them.
    callers: Arc<Addresses>,
    fetches: fetch::Fetches,
    /// Room for bodies, in bytes.
    bodies: Arc<Semaphore>,
    readiness: status::Readiness,
    strangers: Arc<strangers::Strangers>,
}

/// The requests that are under way, those too whose clients went away.
#[derive(Debug)]
pub struct Unfinished {
    places: Arc<Semaphore>,
    most: usize,
}

impl Unfinished {
    /// Done when there is none. No further one should come: it would be turned away from then on.
    pub async fn over(self) {
        let most = u32::try_from(self.most).unwrap_or(u32::MAX);
        // It is never closed.
        let _ = self.places.acquire_many(most).await;
    }
}

/// The routes of a node, and what is under way behind them.
pub fn router(node: Arc<Node>, authenticator: Arc<Authenticator>, limits: &Limits) -> (Router, Unfinished) {
    let most = limits.connections.min(Semaphore::MAX_PERMITS);
    let shared = Parts {
        node,
        authenticator,
        limits: limits.clone(),
        bodies: Arc::new(Semaphore::new(limits.bodies_bytes.min(Semaphore::MAX_PERMITS))),
        workers: Arc::new(Semaphore::new(WORKERS)),
        requests: Arc::new(Semaphore::new(most)),
        callers: Addresses::new(limits.connections_per_address),
        fetches: fetch::fetches(),
        readiness: status::Readiness::default(),
        strangers: Arc::default(),
    };
    let unfinished = Unfinished { places: Arc::clone(&shared.requests), most };
    let shared = Shared(Arc::new(shared));
    let router = routes::served()
        .fallback(|| async { ApiError::new(Word::NotFound, "the paths of this API are listed in docs/keystore.md") })
        .method_not_allowed_fallback(|| async { ApiError::new(Word::MethodNotAllowed, "") })
        .layer(middleware::from_fn_with_state(shared.clone(), layers::around))
        .with_state(shared);
    (router, unfinished)
}

impl Deref for Shared {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Shared {
    /// Does work that blocks, on a thread that may.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Node) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let internal = ApiError::internal;
        let permit = Arc::clone(&self.workers).acquire_owned().await.map_err(|_| internal())?;
        let node = Arc::clone(&self.node);
        // What is logged on the thread is of this request.
        let request = tracing::Span::current();
        let done = task::spawn_blocking(move || {
            let _permit = permit;
            request.in_scope(|| work(&node))
        });
        done.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request was not finished");
            Err(internal())
        })
    }
}

#[cfg(test)]
mod tests;
