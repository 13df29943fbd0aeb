//! What surrounds every request: its id, its time limit, its line in the log, and problem documents with the id.

use std::time::{Duration, Instant};

use axum::{
    extract::{MatchedPath, Request},
    http::HeaderValue,
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    api::{ApiError, Peer, Word},
    hex,
};

/// How long a request may take, its body included.
const TIME_LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn around(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = request_id();
    let method = request.method().clone();
    // The pattern, not the path: it holds no id that would be a label of its own.
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let caller = match request.extensions().get::<Peer>() {
        Some(Peer(Some(principal))) => hex::encode(principal.registrant().get(..8).unwrap_or_default()),
        _ => "none".to_owned(),
    };
    let span = tracing::info_span!("request", id, caller);
    let run = tracing::Instrument::instrument(next.run(request), span.clone());
    let mut response = match tokio::time::timeout(TIME_LIMIT, run).await {
        Ok(response) => response,
        Err(_) => ApiError::new(Word::Timeout, "try again, or use other nodes").into_response(),
    };
    let refused = response.extensions_mut().remove::<ApiError>();
    if let Some(error) = &refused {
        response = error.response(Some(&id));
    }
    let status = response.status().as_u16();
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let problem = refused.map(|error| tracing::field::debug(error.word()));
    span.in_scope(|| tracing::info!(%method, path, status, problem, milliseconds, "answered"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

fn request_id() -> String {
    let mut bytes = [0; 16];
    // Without random bytes the id is not unique; the request can still be answered.
    let _ = getrandom::fill(&mut bytes);
    hex::encode(&bytes)
}
