//! What handlers take from a request: who calls, what the call leaves in the audit log, and its body and path.
//!
//! Whatever is wrong with one of them is an [`ApiError`]; nothing here leaves the words of an error to a library. The
//! caller is looked at first: nobody's body is read before it is known who sends it.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, header, request::Parts},
};
use eds_core::{
    api::{MAX_BATCH, object::Object},
    ids::KeyId,
};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    api::{ApiError, Shared, Word, known::Decided, trail::Trail},
    authn::Principal,
    node::Node,
};

/// A call of a caller who is known. Everybody else is refused.
pub(super) struct Call {
    pub(super) shared: Shared,
    pub(super) caller: Arc<Principal>,
    pub(super) trail: Arc<Trail>,
}

impl FromRequestParts<Shared> for Call {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        let caller = Decided::of(parts)?;
        let trail = parts.extensions.get::<Arc<Trail>>().cloned().ok_or_else(ApiError::internal)?;
        Ok(Self { shared: shared.clone(), caller, trail })
    }
}

impl Call {
    /// Does the work of the call, which blocks, on a thread that may, and answers with it.
    pub(super) async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce(&Node, &Principal, &Trail) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<Json<T>, ApiError> {
        let Self { shared, caller, trail } = self;
        shared.work(move |node| work(node, &caller, &trail)).await.map(Json)
    }
}

/// The bytes of a JSON body, as they came.
pub(super) struct Raw(pub(super) Bytes);

impl FromRequest<Shared> for Raw {
    type Rejection = ApiError;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, ApiError> {
        let right = check_type(request.headers());
        let (limits, crowded) = (&shared.limits, AtomicBool::new(false));
        let most = if right.is_ok() { limits.body_bytes } else { 0 };
        let read = read(request.into_body(), most, &shared.bodies, &crowded);
        match tokio::time::timeout(limits.body, read).await {
            Ok(body) => right.and(body).map(Self),
            Err(_) if crowded.load(Ordering::Relaxed) => {
                Err(ApiError::new(Word::Busy, "this node has no room for more bodies at once; try again"))
            }
            Err(_) => {
                let detail = format!("a body must be here within {} s", limits.body.as_secs_f32());
                Err(ApiError::new(Word::RequestTimeout, detail))
            }
        }
    }
}

/// Reads a body. Each part of it takes its room among all bodies as it comes, and gives it back with the whole.
///
/// `crowded` tells whether it waits for room now, and not for its client.
async fn read(mut body: Body, most: usize, room: &Arc<Semaphore>, crowded: &AtomicBool) -> Result<Bytes, ApiError> {
    let too_large = || {
        let detail = format!("a body has at most {most} bytes; send fewer keys in one call");
        ApiError::new(Word::BodyTooLarge, detail)
    };
    let mut read = Accounted { bytes: Vec::new(), room: None };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::new(Word::BadRequest, "the body did not arrive whole"))?;
        let Ok(data) = frame.into_data() else { continue };
        if read.bytes.len() + data.len() > most {
            drop(read);
            skip(body).await;
            return Err(too_large());
        }
        let wanted = u32::try_from(data.len()).map_err(|_| too_large())?;
        crowded.store(true, Ordering::Relaxed);
        let taken = Arc::clone(room).acquire_many_owned(wanted).await.map_err(|_| ApiError::internal())?;
        crowded.store(false, Ordering::Relaxed);
        match &mut read.room {
            Some(room) => room.merge(taken),
            none => *none = Some(taken),
        }
        read.bytes.extend_from_slice(&data);
    }
    Ok(Bytes::from_owner(read))
}

/// Reads what is left of a body that is refused, and forgets it, while it comes: a client that still writes would not see
/// the answer. The time of a body bounds it.
async fn skip(mut body: Body) {
    while let Ok(Some(Ok(_))) = tokio::time::timeout(PAUSE, body.frame()).await {}
}

/// A client that has sent nothing for so long waits for the answer.
const PAUSE: Duration = Duration::from_millis(500);

/// A body with the room that it takes.
struct Accounted {
    bytes: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Accounted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Whether a body says that it is JSON, as it is.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let refused = |detail: &str| Err(ApiError::new(Word::UnsupportedMediaType, detail));
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else {
        return refused("the request needs one header Content-Type: application/json");
    };
    let essence = only.to_str().ok().and_then(|text| text.split(';').next()).map(str::trim);
    if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return refused("the body must be JSON: send it with Content-Type: application/json");
    }
    let plain = |value: &header::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
        return refused("the body must not be compressed: send it without Content-Encoding");
    }
    Ok(())
}

/// Reads a JSON body.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // The message tells the place and the field; what the caller sent stays out of it but for unknown field names.
    match serde_json::from_slice(body) {
        Ok(Object(request)) => Ok(request),
        Err(error) => Err(ApiError::new(Word::BadRequest, format!("JSON: {error}"))),
    }
}

/// Refuses batches that are empty or too large.
pub(super) fn check_batch(count: usize) -> Result<(), ApiError> {
    match count {
        0 => Err(ApiError::new(Word::BadRequest, "the list of keys is empty; name at least one")),
        1..=MAX_BATCH => Ok(()),
        _ => Err(ApiError::new(Word::BatchTooLarge, format!("{count} keys; one call takes up to {MAX_BATCH}"))),
    }
}

/// Refuses keys that are named twice: each costs what is stored of it.
pub(super) fn check_distinct<'a>(keys: impl IntoIterator<Item = &'a KeyId>) -> Result<(), ApiError> {
    let mut seen = HashSet::new();
    if keys.into_iter().all(|key| seen.insert(key)) {
        return Ok(());
    }
    Err(ApiError::new(Word::InvalidValue, "a key is named twice; name each once"))
}

/// The variable segments of a path.
pub(super) struct Segments<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for Segments<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, shared).await {
            Ok(Path(segments)) => Ok(Self(segments)),
            Err(_) => Err(ApiError::new(Word::BadRequest, "the path is not UTF-8 after its percent signs are read")),
        }
    }
}
