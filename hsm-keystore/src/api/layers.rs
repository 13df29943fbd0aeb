//! What surrounds every request: its id, who sent it, its time limit, its entries in the audit log, its line in the log,
//! and problem documents with the id.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    api::{
        ApiError, Peer, PeerAddress, Shared, Word,
        known::{self, Decided},
        routes::Route,
        trail::{Trail, unwritable},
    },
    audit::Operation,
    authn::Principal,
    hex,
    server::Limits,
};

/// How long the audit log may take for what a request left.
const LOG_LIMIT: Duration = Duration::from_secs(30);

/// A client that goes away does not end its request: what the request does and what the audit log says of it stay
/// together. So that nobody can leave behind more and more of them, they are counted, in all and for each address; who comes
/// when there are too many is turned away, without a decision. Who is not known changes nothing: their request ends with
/// their connection, and takes nobody's place.
pub(super) async fn around(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let (peer, now) = (request.extensions().get::<Peer>(), shared.node.clock.now());
    let decision = known::caller(&shared.authenticator, request.headers(), peer, now).await;
    if decision.is_err() {
        return answer(shared, request, next, decision, begun).await;
    }
    let share = request.extensions().get::<PeerAddress>().map(|address| shared.callers.place(address.0));
    let (Ok(place), None | Some(Some(_))) = (Arc::clone(&shared.requests).try_acquire_owned(), &share) else {
        let id = hex::encode(&request_id());
        let busy = ApiError::new(Word::Busy, "this node has too many requests at once; try again");
        return identified(busy.response(Some(&id)), &id);
    };
    let answering = tokio::spawn(async move {
        let _held = (place, share);
        answer(shared, request, next, decision, begun).await
    });
    answering.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request was not finished");
        ApiError::internal().response(None)
    })
}

async fn answer(
    shared: Shared,
    mut request: Request,
    next: Next,
    decision: Result<Arc<Principal>, ApiError>,
    begun: Instant,
) -> Response {
    let bytes = request_id();
    let id = hex::encode(&bytes);
    let method = request.method().clone();
    // The pattern, not the path: it holds no id that would be a label of its own.
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let authenticator = &shared.authenticator;
    let shows_token = known::shows_token(request.headers());
    let caller = match &decision {
        Ok(principal) => hex::encode(principal.registrant().get(..8).unwrap_or_default()),
        Err(_) => "none".to_owned(),
    };
    let address = request.extensions().get::<PeerAddress>().map(|address| address.0);
    let route = path.as_deref().and_then(Route::of);
    let operation = route.map_or(Some(Operation::UNKNOWN), |route| route.operation.clone());
    let named = operation.clone().unwrap_or(Operation::UNKNOWN);
    let trail = Arc::new(Trail::new(bytes, shared.node.clock.now_milliseconds(), named, address));
    if let Ok(principal) = &decision {
        trail.caller(principal);
    }
    request.extensions_mut().insert(Arc::clone(&trail));
    request.extensions_mut().insert(Decided(decision));
    let span = tracing::info_span!("request", id, caller);
    let mut response = match check_head(&request, &shared.limits) {
        Err(error) => error.into_response(),
        Ok(()) => {
            let run = tracing::Instrument::instrument(next.run(request), span.clone());
            match tokio::time::timeout(shared.limits.request, run).await {
                Ok(response) => response,
                Err(_) => ApiError::new(Word::Timeout, "the node took too long; try again, or use other nodes")
                    .into_response(),
            }
        }
    };
    let mut refused = response.extensions_mut().remove::<ApiError>();
    if operation.is_some()
        && let Err(error) =
            tracing::Instrument::instrument(record(&shared, &trail, refused.as_ref()), span.clone()).await
    {
        refused = Some(error);
    }
    if let Some(error) = refused.take() {
        let allowed = response.headers_mut().remove(header::ALLOW);
        let error = error.or_detail(|| use_one_of(allowed.as_ref()));
        response = error.response(Some(&id));
        if let Some(allowed) = allowed {
            response.headers_mut().insert(header::ALLOW, allowed);
        }
        refused = Some(error);
    }
    let status = response.status().as_u16();
    let result = refused.as_ref().map_or("ok", |error| error.word().as_str());
    let counted = operation.as_ref().map_or("probe", Operation::as_str);
    shared.node.metrics.answered(counted, result, begun.elapsed());
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let problem = refused.map(|error| error.word().as_str());
    span.in_scope(|| tracing::info!(%method, path, status, problem, milliseconds, "answered"));
    if response.status() == StatusCode::UNAUTHORIZED {
        challenge(response.headers_mut(), authenticator.accepts_tokens(), shows_token);
    }
    identified(response, &id)
}

/// An answer that says which request it is to.
fn identified(mut response: Response, id: &str) -> Response {
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

/// Refuses heads that are too long. HTTP/1.1 does it before; of HTTP/2 a little more than allowed comes until here.
fn check_head(request: &Request, limits: &Limits) -> Result<(), ApiError> {
    let fields = request.headers();
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let bytes: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if path + bytes <= limits.head_bytes && fields.len() <= limits.head_fields {
        return Ok(());
    }
    let (bytes, fields) = (limits.head_bytes, limits.head_fields);
    Err(ApiError::new(
        Word::HeadTooLarge,
        format!("the head of a request has at most {bytes} bytes and {fields} fields"),
    ))
}

/// The id and the problem document for what was never read as a request.
pub(crate) fn unread(word: Word) -> (String, Vec<u8>) {
    let id = hex::encode(&request_id());
    let detail = match word {
        Word::HeadTooLarge => "the head of the request has more bytes or fields than this node reads (`[limits]`)",
        Word::PathTooLong => "the path of the request is longer than any of this API",
        Word::RequestTimeout => "the head of the request did not arrive in time; send it at once",
        _ => "this is not HTTP/1.1: the request line or a header field cannot be read",
    };
    let problem = ApiError::new(word, detail).problem(Some(&id));
    (id, serde_json::to_vec(&problem).unwrap_or_default())
}

fn use_one_of(allowed: Option<&HeaderValue>) -> String {
    let methods = allowed.and_then(|allowed| allowed.to_str().ok()).unwrap_or("another");
    format!("this path does not know the method of the request; use {methods}")
}

/// Says how a caller may prove who it is (RFC 9110, section 11.6.1). There is no registered word for certificates.
fn challenge(headers: &mut HeaderMap, tokens: bool, shown: bool) {
    if tokens {
        let bearer = if shown { "Bearer realm=\"eds\", error=\"invalid_token\"" } else { "Bearer realm=\"eds\"" };
        headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(bearer));
    }
    headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("ClientCertificate realm=\"eds\""));
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
    match tokio::time::timeout(LOG_LIMIT, shared.node.audit.append(decisions)).await {
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
