//! What surrounds every request: its id, who sent it, its time limit, its entries in the audit log, its line in the log,
//! and problem documents with the id.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    api::{
        ApiError, Peer, PeerAddress, Shared, Word,
        known::{self, Decided},
        trail::{Trail, operation, unwritable},
    },
    hex,
};

/// How long a request may take, its body included.
const TIME_LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn around(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let bytes = request_id();
    let id = hex::encode(&bytes);
    let method = request.method().clone();
    // The pattern, not the path: it holds no id that would be a label of its own.
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let (authenticator, now) = (&shared.authenticator, shared.node.clock.now());
    let shows_token = known::shows_token(request.headers());
    let decision = known::caller(authenticator, request.headers(), request.extensions().get::<Peer>(), now).await;
    let caller = match &decision {
        Ok(principal) => hex::encode(principal.registrant().get(..8).unwrap_or_default()),
        Err(_) => "none".to_owned(),
    };
    let address = request.extensions().get::<PeerAddress>().map(|address| address.0);
    let trail = Arc::new(Trail::new(bytes, shared.node.clock.now_milliseconds(), operation(path.as_deref()), address));
    if let Ok(principal) = &decision {
        trail.caller(principal);
    }
    request.extensions_mut().insert(Arc::clone(&trail));
    request.extensions_mut().insert(Decided(decision));
    let span = tracing::info_span!("request", id, caller);
    let run = tracing::Instrument::instrument(next.run(request), span.clone());
    let mut response = match tokio::time::timeout(TIME_LIMIT, run).await {
        Ok(response) => response,
        Err(_) => ApiError::new(Word::Timeout, "try again, or use other nodes").into_response(),
    };
    let mut refused = response.extensions_mut().remove::<ApiError>();
    if !is_probe(path.as_deref())
        && let Err(error) = record(&shared, &trail, refused.as_ref()).await
    {
        refused = Some(error);
    }
    if let Some(error) = &refused {
        response = error.response(Some(&id));
    }
    let status = response.status().as_u16();
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let problem = refused.map(|error| tracing::field::debug(error.word()));
    span.in_scope(|| tracing::info!(%method, path, status, problem, milliseconds, "answered"));
    if response.status() == StatusCode::UNAUTHORIZED && authenticator.accepts_tokens() {
        let challenge =
            if shows_token { "Bearer realm=\"eds\", error=\"invalid_token\"" } else { "Bearer realm=\"eds\"" };
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

/// Probes of a supervisor ask for nothing, decide nothing and come every second.
fn is_probe(path: Option<&str>) -> bool {
    matches!(path, Some("/healthz" | "/readyz"))
}

/// Writes what the request left; durable when this returns. Nothing leaves the node without it.
async fn record(shared: &Shared, trail: &Trail, refused: Option<&ApiError>) -> Result<(), ApiError> {
    if trail.of_stranger() && !shared.strangers.turn().await {
        return Err(ApiError::new(Word::Busy, "too many callers without an identity"));
    }
    let decisions = trail.finish(refused.map(ApiError::word));
    if decisions.is_empty() {
        return Ok(());
    }
    match tokio::time::timeout(TIME_LIMIT, shared.node.audit.append(decisions)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(unwritable(&error)),
        Err(_) => Err(ApiError::new(Word::AuditUnavailable, "the disk of the audit log does not answer")),
    }
}

fn request_id() -> [u8; 16] {
    let mut bytes = [0; 16];
    // Without random bytes the id is not unique; the request can still be answered.
    let _ = getrandom::fill(&mut bytes);
    bytes
}
